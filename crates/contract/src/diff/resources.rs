//! Named schemas and attribute maps.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Found, Pair};
use crate::document::{Resource, Service};
use crate::rules::Class;
use crate::schema;

pub(crate) fn compare(pair: &mut Pair<'_>, a: &Service, b: &Service) {
    if !pair.knows("resources") {
        return;
    }
    let in_operations: BTreeSet<&String> = a
        .operations
        .values()
        .flat_map(|o| o.request.iter().chain(&o.query).chain(&o.response))
        .map(|entry| &entry.schema)
        .collect();
    for name in a.resources.keys().chain(b.resources.keys()).collect::<BTreeSet<_>>() {
        match (a.resources.get(name), b.resources.get(name)) {
            (Some(Resource::Published { schema: old }), Some(Resource::Published { schema: new })) => {
                // Custom properties of a cloud are in its live schemas, and in no package.
                let most = (!pair.alike()).then_some(Class::Review);
                schemas(pair, (a, old), (b, new), name, "response", most);
            }
            (Some(Resource::Internal { schema: old }), Some(Resource::Internal { schema: new }))
                // What an operation names was compared there. Of the rest nobody knows which
                // requests it is for.
                if !in_operations.contains(old) => {
                    schemas(pair, (a, old), (b, new), name, "request", Some(Class::Review));
                }
            (
                Some(Resource::Attributes { attributes: old }),
                Some(Resource::Attributes { attributes: new }),
            ) => {
                attributes(pair, name, old, new);
            }
            (Some(Resource::Internal { schema }), None)
                // A constant of the code that went or has another name is no promise that went.
                if pair.installed() && !in_operations.contains(schema) => {
                    pair.add(Found::about("resource-removed", name).at_most(Class::Review));
                }
            (Some(Resource::Internal { .. }), None | Some(Resource::Internal { .. }))
            | (None, Some(Resource::Internal { .. })) => {}
            (Some(_), None) if pair.alike() => pair.add(Found::about("resource-removed", name)),
            (None, Some(_)) if pair.alike() => pair.add(Found::about("resource-added", name)),
            (Some(_), Some(_)) => pair.add(Found::about("restructured.response", name)),
            _ => {}
        }
    }
}

fn schemas(
    pair: &mut Pair<'_>,
    (a, old): (&Service, &str),
    (b, new): (&Service, &str),
    name: &str,
    direction: &str,
    most: Option<Class>,
) {
    let (Some(old), Some(new)) = (a.schemas.get(old), b.schemas.get(new)) else { return };
    for change in schema::changes(old, new, pair.same_python) {
        let found = Found::about(format!("{}.{direction}", change.kind), name).location(change.location);
        let found = found.values(change.before, change.after);
        pair.add(match most {
            Some(most) => found.at_most(most),
            None => found,
        });
    }
}

/// Attributes of a resource of neutron. Source: neutron-lib, "API attributes".
fn attributes(pair: &mut Pair<'_>, name: &str, old: &BTreeMap<String, Value>, new: &BTreeMap<String, Value>) {
    for attribute in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let about = |rule: &str| Found::about(rule, name).location(attribute.as_str());
        let (a, b) = match (old.get(attribute), new.get(attribute)) {
            (Some(a), Some(b)) => (a, b),
            (Some(_), None) => {
                pair.add(about("attribute-removed"));
                continue;
            }
            _ => {
                pair.add(about("attribute-added"));
                continue;
            }
        };
        let flag = |value: &Value, key: &str| value.get(key).and_then(Value::as_bool).unwrap_or(false);
        for (key, less, more) in [
            ("allow_post", "attribute-not-settable", "attribute-settable"),
            ("allow_put", "attribute-not-settable", "attribute-settable"),
            ("is_visible", "attribute-hidden", "attribute-shown"),
            ("is_filter", "attribute-filter-removed", "attribute-filter-added"),
            ("is_sort_key", "attribute-filter-removed", "attribute-filter-added"),
        ] {
            let (was, is) = (flag(a, key), flag(b, key));
            if was != is {
                let rule = if was { less } else { more };
                pair.add(about(rule).values(format!("{key} {was}"), format!("{key} {is}")));
            }
        }
        // An attribute that can be posted and has no default is needed.
        let needed = |value: &Value| flag(value, "allow_post") && value.get("default").is_none();
        if needed(a) != needed(b) && flag(a, "allow_post") && flag(b, "allow_post") {
            pair.add(about(if needed(b) { "attribute-needed" } else { "attribute-optional" }));
        } else if a.get("default") != b.get("default") && flag(a, "allow_post") && flag(b, "allow_post") {
            let value = |value: &Value| value.get("default").cloned().unwrap_or(Value::Null);
            pair.add(about("attribute-changed").values(value(a), value(b)));
        }
        validation(pair, about, a.get("validate"), b.get("validate"));
    }
}

fn validation(pair: &mut Pair<'_>, about: impl Fn(&str) -> Found, old: Option<&Value>, new: Option<&Value>) {
    if old == new {
        return;
    }
    let list = |value: Option<&Value>| {
        Some(value?.get("type:values")?.as_array()?.iter().map(|v| v.to_string()).collect::<BTreeSet<_>>())
    };
    match (list(old), list(new)) {
        (Some(a), Some(b)) => {
            let difference = |one: &BTreeSet<String>, other: &BTreeSet<String>| {
                one.difference(other).cloned().collect::<Vec<_>>()
            };
            let (removed, added) = (difference(&a, &b), difference(&b, &a));
            if !removed.is_empty() {
                pair.add(about("attribute-values-removed").values(removed, Value::Null));
            }
            if !added.is_empty() {
                pair.add(about("attribute-values-added").values(Value::Null, added));
            }
        }
        _ => {
            let value = |value: Option<&Value>| value.cloned().unwrap_or(Value::Null);
            pair.add(about("attribute-changed").values(value(old), value(new)));
        }
    }
}
