//! Mutations of contracts.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Caught;
use crate::canonical::{DATA, MAPS};
use crate::diff;
use crate::document::{Coded, Document, Origin, OriginKind, Resource, Service};
use crate::error::Error;
use crate::microversion::Span;
use crate::rules::Class;

/// Changes one service; false where it does not apply.
type Mutation = fn(&mut Service) -> bool;

const MUTATIONS: &[(&str, Mutation)] = &[
    ("an operation dropped", |service| {
        let key =
            service.operations.iter().find(|(_, operation)| !operation.removed).map(|(key, _)| key.clone());
        key.is_some_and(|key| service.operations.remove(&key).is_some())
    }),
    ("an operation answers 410", |service| {
        let operation = service.operations.values_mut().find(|operation| !operation.removed);
        operation
            .is_some_and(|operation| std::mem::replace(&mut operation.removed, true) != operation.removed)
    }),
    ("an operation ends at an earlier microversion", |service| {
        let Some(range) = service.microversions.filter(|range| range.min < range.max) else { return false };
        let operation = service
            .operations
            .values_mut()
            .find(|o| !o.removed && o.exists(Some(range.max)) && o.exists(Some(range.min)));
        operation.is_some_and(|operation| {
            operation.versions = vec![Span { min: None, max: Some(range.min) }];
            true
        })
    }),
    ("the minimum microversion raised", |service| {
        service.microversions.as_mut().is_some_and(|range| {
            range.min = range.min.next();
            true
        })
    }),
    ("the maximum microversion lowered", |service| {
        service.microversions.as_mut().filter(|range| range.max > range.min).is_some_and(|range| {
            range.max.minor -= 1;
            true
        })
    }),
    ("microversions dropped", |service| service.microversions.take().is_some()),
    ("an extension dropped", |service| service.extensions.pop_first().is_some()),
    ("an API version dropped", |service| {
        service.api_versions.len() > 1 && service.api_versions.pop().is_some()
    }),
    ("another status of success", |service| {
        let operation = service
            .operations
            .values_mut()
            .find(|operation| !operation.removed && operation.success.is_empty());
        operation.is_some_and(|operation| {
            operation.success.push(Coded { span: Span::default(), codes: vec![299] });
            true
        })
    }),
    ("another status of error", |service| {
        let mut operations = service.operations.values_mut().filter(|operation| !operation.removed);
        let codes = operations.find_map(|operation| operation.errors.first_mut());
        codes.is_some_and(|coded| {
            coded.codes.push(418);
            true
        })
    }),
    ("an enum value removed from a request", |service| {
        request(service, &mut |map| {
            map.get_mut("enum")
                .and_then(Value::as_array_mut)
                .is_some_and(|list| list.len() > 1 && list.pop().is_some())
        })
    }),
    ("a field needed in a request", |service| {
        request(service, &mut |map| {
            let Some(name) =
                map.get("properties").and_then(Value::as_object).and_then(|p| p.keys().next().cloned())
            else {
                return false;
            };
            let required = map.entry("required").or_insert(json!([]));
            let Some(list) = required.as_array_mut().filter(|list| !list.contains(&json!(name))) else {
                return false;
            };
            list.push(json!(name));
            true
        })
    }),
    ("a field removed from a request", |service| request(service, &mut drop_property)),
    ("a type narrowed in a request", |service| {
        request(service, &mut |map| {
            let Some(list) = map.get("type").and_then(Value::as_array).filter(|list| list.len() > 1) else {
                return false;
            };
            let one = list[0].clone();
            map.insert("type".to_owned(), one);
            true
        })
    }),
    ("a bound tightened in a request", |service| {
        request(service, &mut |map| {
            let Some(most) = map.get("maxLength").and_then(Value::as_u64).filter(|most| *most > 1) else {
                return false;
            };
            map.insert("maxLength".to_owned(), json!(most - 1));
            true
        })
    }),
    ("unknown names refused in a request", |service| {
        request(service, &mut |map| {
            let open = map.get("additionalProperties").is_none_or(|value| *value == json!(true));
            open && map.contains_key("properties")
                && map.insert("additionalProperties".to_owned(), json!(false)) != Some(json!(false))
        })
    }),
    ("a pattern changed in a request", |service| {
        request(service, &mut |map| {
            map.get("pattern").is_some() && map.insert("pattern".to_owned(), json!("^never$")).is_some()
        })
    }),
    ("a field removed from an answer", |service| response(service, &mut drop_property)),
    ("a field of an answer of another type", |service| {
        response(service, &mut |map| {
            map.get("type") == Some(&json!("string"))
                && map.insert("type".to_owned(), json!("integer")).is_some()
        })
    }),
    ("an enum value removed from an answer", |service| {
        response(service, &mut |map| {
            map.get_mut("enum")
                .and_then(Value::as_array_mut)
                .is_some_and(|list| list.len() > 1 && list.pop().is_some())
        })
    }),
    ("a field of an answer no longer promised", |service| {
        response(service, &mut |map| {
            map.get_mut("required").and_then(Value::as_array_mut).is_some_and(|list| list.pop().is_some())
        })
    }),
    ("a policy tightened for members", |service| {
        let mut policies = service.policies.values_mut();
        let member =
            policies.find_map(|p| p.allowed.as_mut().filter(|allowed| allowed.iter().any(|a| a == "member")));
        member.is_some_and(|allowed| {
            allowed.retain(|audience| audience == "admin");
            true
        })
    }),
    ("an attribute dropped", |service| attributes(service, &mut |map| map.pop_first().is_some())),
    ("an attribute no longer settable", |service| {
        attribute(service, "allow_post", &json!(true), json!(false))
    }),
    ("an attribute no longer shown", |service| attribute(service, "is_visible", &json!(true), json!(false))),
    ("a resource dropped", |service| {
        let key = service
            .resources
            .iter()
            .find(|(_, r)| !matches!(r, Resource::Internal { .. }))
            .map(|(k, _)| k.clone());
        key.is_some_and(|key| service.resources.remove(&key).is_some())
    }),
    ("a configuration option dropped", |service| service.options.pop_first().is_some()),
    ("the default of an option changed", |service| {
        service.options.values_mut().next().is_some_and(|option| {
            option.default = Some("volutus".to_owned());
            true
        })
    }),
    ("a console script dropped", |service| service.scripts.pop().is_some()),
];

const HARMLESS: &[(&str, Mutation)] = &[
    ("enums and required lists in another order", |service| {
        schemas(service, &mut |map| {
            let mut changed = false;
            for key in ["enum", "required", "anyOf", "oneOf"] {
                if let Some(list) =
                    map.get_mut(key).and_then(Value::as_array_mut).filter(|list| list.len() > 1)
                {
                    list.reverse();
                    changed = true;
                }
            }
            changed
        })
    }),
    ("other descriptions", |service| {
        schemas(service, &mut |map| {
            map.insert("description".to_owned(), json!("another description"));
            true
        })
    }),
    ("other names of parameters", |service| {
        for operation in service.operations.values_mut() {
            operation.path = operation.path.replace("{id}", "{volutus_id}");
        }
        true
    }),
    ("a higher maximum", |service| {
        service.microversions.as_mut().is_some_and(|range| {
            range.max = range.max.next();
            true
        })
    }),
    ("an extension more", |service| {
        service.extensions.insert("volutus-more".to_owned(), json!({})).is_none()
    }),
];

/// Applies every mutation to every service that it applies to.
///
/// # Errors
/// Where the built-in rules do not load.
pub fn mutated_documents(document: &Document) -> Result<Vec<Caught>, Error> {
    let mut all = Vec::new();
    for (name, mutation) in MUTATIONS {
        let mut caught = Caught { name, tried: 0, caught: 0, breaking: 0 };
        for changed in apply(document, *mutation) {
            caught.tried += 1;
            let comparison = diff::compare(document, &changed)?;
            caught.caught += usize::from(comparison.differences.iter().any(|d| d.class <= Class::Review));
            caught.breaking += usize::from(comparison.standing().next().is_some());
        }
        all.push(caught);
    }
    Ok(all)
}

/// Applies harmless changes; tells for each how often it was tried, and how many alarms there were.
///
/// # Errors
/// Where the built-in rules do not load.
pub fn harmless_documents(document: &Document) -> Result<Vec<(&'static str, usize, usize)>, Error> {
    let mut all = Vec::new();
    for (name, change) in HARMLESS {
        let (mut tried, mut alarms) = (0, 0);
        for changed in apply(document, *change) {
            tried += 1;
            let comparison = diff::compare(document, &changed)?;
            alarms += usize::from(comparison.differences.iter().any(|d| d.class <= Class::Review));
        }
        all.push((*name, tried, alarms));
    }
    Ok(all)
}

/// The document with one service changed, for each service that can be.
fn apply(document: &Document, mutation: Mutation) -> Vec<Document> {
    let mut all = Vec::new();
    for name in document.services.keys() {
        let mut services = document.services.clone();
        if services.get_mut(name).is_some_and(mutation) {
            all.push(Document::new(document.origin.clone(), services));
        }
    }
    all
}

type Change<'a> = &'a mut dyn FnMut(&mut serde_json::Map<String, Value>) -> bool;

fn request(service: &mut Service, change: Change<'_>) -> bool {
    one_schema(service, change, true)
}

fn response(service: &mut Service, change: Change<'_>) -> bool {
    one_schema(service, change, false)
}

/// Changes the first schema of an operation that lets itself be changed.
fn one_schema(service: &mut Service, change: Change<'_>, of_request: bool) -> bool {
    let Some((name, position, schema)) = service.operations.iter().find_map(|(name, operation)| {
        let list = if of_request { &operation.request } else { &operation.response };
        // nova has schemas of its legacy version 2.0 as well, which has no microversion.
        let holds = |span: &Span| {
            service
                .microversions
                .is_none_or(|range| range.all().any(|at| span.holds(Some(at)) && operation.exists(Some(at))))
        };
        let mut live = list.iter().enumerate().filter(|(_, entry)| !operation.removed && holds(&entry.span));
        live.find_map(|(position, entry)| {
            let mut schema = service.schemas.get(&entry.schema)?.clone();
            innermost(&mut schema, change).then_some((name.clone(), position, schema))
        })
    }) else {
        return false;
    };
    let hash = service.keep(&schema);
    service.operations.get_mut(&name).is_some_and(|operation| {
        let list = if of_request { &mut operation.request } else { &mut operation.response };
        list.get_mut(position).is_some_and(|entry| {
            entry.schema = hash;
            true
        })
    })
}

/// Changes all schemas, in every place that takes the change.
fn schemas(service: &mut Service, change: Change<'_>) -> bool {
    let mut renamed = std::collections::BTreeMap::new();
    for (hash, schema) in service.schemas.clone() {
        let mut schema = schema;
        everywhere(&mut schema, change);
        renamed.insert(hash, service.keep(&schema));
    }
    for operation in service.operations.values_mut() {
        for list in [&mut operation.request, &mut operation.query, &mut operation.response] {
            for entry in list {
                if let Some(hash) = renamed.get(&entry.schema) {
                    entry.schema.clone_from(hash);
                }
            }
        }
    }
    !renamed.is_empty()
}

fn everywhere(value: &mut Value, change: Change<'_>) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(|item| everywhere(item, change)),
        Value::Object(map) => {
            for (key, item) in map.iter_mut() {
                match item {
                    // Names of the data, which are no keywords, whatever they are called.
                    Value::Object(named) if MAPS.contains(&key.as_str()) => {
                        named.values_mut().for_each(|schema| everywhere(schema, change));
                    }
                    _ if DATA.contains(&key.as_str()) => {}
                    other => everywhere(other, change),
                }
            }
            change(map);
        }
        _ => {}
    }
}

fn innermost(value: &mut Value, change: Change<'_>) -> bool {
    match value {
        Value::Array(list) => list.iter_mut().any(|item| innermost(item, change)),
        Value::Object(map) => map.values_mut().any(|item| innermost(item, change)) || change(map),
        _ => false,
    }
}

fn drop_property(map: &mut serde_json::Map<String, Value>) -> bool {
    let Some(properties) = map.get_mut("properties").and_then(Value::as_object_mut) else { return false };
    let Some(name) = properties.keys().next().cloned() else { return false };
    properties.remove(&name);
    if let Some(required) = map.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|item| *item != json!(name));
    }
    true
}

fn attributes(
    service: &mut Service,
    change: &mut dyn FnMut(&mut std::collections::BTreeMap<String, Value>) -> bool,
) -> bool {
    service.resources.values_mut().any(|resource| match resource {
        Resource::Attributes { attributes } => change(attributes),
        _ => false,
    })
}

fn attribute(service: &mut Service, key: &str, from: &Value, to: Value) -> bool {
    attributes(service, &mut |map| {
        let found = map.values_mut().find(|attribute| attribute.get(key) == Some(from));
        found.is_some_and(|attribute| {
            attribute[key] = to.clone();
            true
        })
    })
}

/// A small contract with everything in it that a mutation needs, where no release is at hand.
///
/// # Errors
/// [`Error::Malformed`] where it does not load, which a test excludes.
pub fn example() -> Result<Document, Error> {
    let raw = json!({
        "version": "1.0.0",
        "microversions": {"min": "2.1", "max": "2.9"},
        "api_versions": ["v2.0", "v2.1"],
        "extensions": {"dns": {}, "qos": {}},
        "operations": {
            "GET /things/{id}": {
                "method": "GET", "path": "/things/{id}", "versions": [{}], "errors": [{"codes": [403, 404]}],
                "response": [{"schema": {"type": "object", "required": ["id", "state"], "properties": {
                    "id": {"type": "string"}, "state": {"type": "string", "enum": ["ACTIVE", "ERROR"]},
                    "parts": {"type": "array", "items": {"type": "object", "properties": {"size": {"type": "integer"}}}}}}}],
            },
            "POST /things": {
                "method": "POST", "path": "/things", "versions": [{}], "success": [{"codes": [202]}],
                "request": [{"schema": {"type": "object", "properties": {
                    "name": {"type": ["string", "null"], "maxLength": 255, "pattern": "^[a-z]+$"},
                    "kind": {"type": "string", "enum": ["large", "small"]}}}}],
            },
        },
        "resources": {"ports": {"use": "attributes", "attributes": {
            "name": {"allow_post": true, "allow_put": true, "is_visible": true, "default": ""}}}},
        "policies": {"things:show": {"check": "role:reader", "allowed": ["reader", "member", "admin"],
            "operations": ["GET /things/{id}"]}},
        "options": {"DEFAULT/workers": {"type": "Integer", "default": "1"}},
        "scripts": ["things-api"],
    });
    let malformed = |why: String| Error::Malformed { what: "the example".to_owned(), why };
    let service = Service::from_program(raw).map_err(malformed)?;
    let origin = Origin {
        kind: OriginKind::Installed,
        of: "example".to_owned(),
        at: Timestamp::UNIX_EPOCH,
        python: None,
    };
    Ok(Document::new(origin, [("things".to_owned(), service)].into()))
}
