//! Makes requests out of a contract: every reading operation, at the lowest, the current and the highest
//! microversion of the old release, with named holes for what has to be seen in the cloud first; each
//! value that a query parameter may have; and what all projects own.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Microversion;
use crate::document::{Document, Operation, Service};

/// Which microversion a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pin {
    /// The lowest at which the operation exists.
    Minimum,
    /// What the site's clients use; where nobody said, what a client gets that asks for none.
    Current,
    /// The highest of the old release at which the operation exists.
    Maximum,
    /// What the site's own clients were seen to ask with.
    Used,
}

/// One request with holes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// The project: nova.
    pub service: String,
    /// The operation: `GET /servers/{server_id}`.
    pub operation: String,
    /// Path below the service's root (`/v3` of keystone, `/v2.1` of nova), with its holes in braces.
    pub path: String,
    /// The query without its question mark, which the operation's name has as well. Only
    /// administrators ask with one: what it may be is the same for everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The microversion; none where the service has none, or where none is to be asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub microversion: Option<Microversion>,
    /// For which microversions it stands: several where they are the same.
    pub pins: BTreeSet<Pin>,
    /// What is to be filled in, in the order of the path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holes: Vec<Hole>,
}

impl Prepared {
    /// Whether it is about objects that a client named, which only administrators see for sure.
    #[must_use]
    pub fn is_of_named_objects(&self) -> bool {
        let path = self.operation.split('?').next().unwrap_or_default();
        self.holes.is_empty() && path.contains('{')
    }
}

/// Something in a path that is to be filled from observed objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hole {
    /// A name that tells what it is: `server_id`.
    pub name: String,
    /// How the path has it: `{id}`.
    pub written: String,
    /// The path whose answer lists what may be filled in, itself perhaps with holes: `/servers`.
    pub listed_by: String,
}

/// The requests for every reading operation of a contract. `current` has the microversion that the
/// site's clients use, by service.
#[must_use]
pub fn reading(document: &Document, current: &BTreeMap<String, Microversion>) -> Vec<Prepared> {
    let mut requests = Vec::new();
    for (name, service) in &document.services {
        let mut told = BTreeSet::new();
        for operation in service.operations.values().filter(|operation| operation.method == "GET") {
            if operation.removed {
                continue;
            }
            let Some(path) = below_root(name, &operation.path) else { continue };
            let mut pinned: BTreeMap<Option<Microversion>, BTreeSet<Pin>> = BTreeMap::new();
            for (pin, at) in pins(service, operation, current.get(name).copied()) {
                pinned.entry(at).or_default().insert(pin);
            }
            let highest = pinned.keys().max().copied().flatten();
            let mut ask = |microversion, pins, query: Option<String>| {
                let asked = query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
                requests.push(Prepared {
                    service: name.clone(),
                    operation: format!("GET {}{asked}", operation.path),
                    holes: holes(&path),
                    path: path.clone(),
                    query,
                    microversion,
                    pins,
                });
            };
            for (microversion, pins) in pinned {
                ask(microversion, pins, None);
            }
            for query in queries(name, service, operation, highest, &mut told) {
                ask(highest, [Pin::Maximum].into(), Some(query));
            }
        }
    }
    requests
}

/// Lists that have a parameter for the objects of all projects which no schema tells of.
const OF_ALL_PROJECTS: &[(&str, &str)] = &[
    ("cinder", "/volumes"),
    ("cinder", "/volumes/detail"),
    ("cinder", "/snapshots"),
    ("cinder", "/snapshots/detail"),
    ("cinder", "/attachments"),
    ("cinder", "/backups"),
    ("cinder", "/groups"),
];

/// Queries of an operation at a microversion: what all projects own, because an administrator's own
/// project is often empty, and each value of a parameter that has a list of them. Of what is true and
/// false in many spellings none is asked for, and the values of a schema that several operations have
/// (`told`) of the first only.
fn queries(
    name: &str,
    service: &Service,
    operation: &Operation,
    at: Option<Microversion>,
    told: &mut BTreeSet<String>,
) -> BTreeSet<String> {
    let mut queries = BTreeSet::new();
    if OF_ALL_PROJECTS.contains(&(name, operation.path.as_str())) {
        queries.insert("all_tenants=1".to_owned());
    }
    let valid = operation.query.iter().filter(|schemed| schemed.span.holds(at));
    for schemed in valid {
        let Some(schema) = service.schemas.get(&schemed.schema) else { continue };
        let first = told.insert(schemed.schema.clone());
        let properties = schema.get("properties").and_then(Value::as_object);
        for (parameter, described) in properties.into_iter().flatten() {
            if matches!(parameter.as_str(), "all_tenants" | "all_projects") {
                queries.insert(format!("{parameter}=1"));
            }
            let values = values(described).map_or(&[][..], Vec::as_slice);
            if first && values.iter().all(Value::is_string) {
                let texts = values.iter().filter_map(Value::as_str).filter(|text| !text.is_empty());
                queries.extend(texts.map(|text| format!("{parameter}={}", escaped(text))));
            }
        }
    }
    queries
}

/// The list of values that a schema allows, where it has one.
fn values(schema: &Value) -> Option<&Vec<Value>> {
    let any = ["anyOf", "oneOf"].iter().filter_map(|key| schema.get(key)?.as_array()).flatten();
    schema
        .get("enum")
        .and_then(Value::as_array)
        .or_else(|| schema.get("items").and_then(values))
        .or_else(|| any.into_iter().find_map(values))
}

/// Whether a schema has a list of values for a parameter, and a word among them.
pub(crate) fn is_enumerated(schema: &Value, parameter: &str, word: &str) -> bool {
    let described = schema.get("properties").and_then(|properties| properties.get(parameter));
    described.and_then(values).is_some_and(|values| values.iter().any(|value| value.as_str() == Some(word)))
}

/// The microversions to ask an operation for.
fn pins(
    service: &Service,
    operation: &Operation,
    current: Option<Microversion>,
) -> Vec<(Pin, Option<Microversion>)> {
    let Some(range) = service.microversions else {
        return [Pin::Minimum, Pin::Current, Pin::Maximum].map(|pin| (pin, None)).into();
    };
    let existing: Vec<Microversion> = range.all().filter(|at| operation.exists(Some(*at))).collect();
    let (Some(first), Some(last)) = (existing.first(), existing.last()) else { return Vec::new() };
    let mut pins = vec![(Pin::Minimum, Some(*first)), (Pin::Maximum, Some(*last))];
    match current {
        Some(at) if operation.exists(Some(at)) && range.min <= at && at <= range.max => {
            pins.push((Pin::Current, Some(at)));
        }
        Some(_) => {}
        // Without a header a service answers as at its lowest.
        None if *first == range.min => pins.push((Pin::Current, None)),
        None => {}
    }
    pins
}

/// The path below the root that clients find in the catalog; `None` for paths that are not below it:
/// version documents, which `fetch` compares.
pub(crate) fn below_root(service: &str, path: &str) -> Option<String> {
    let path = match service {
        "keystone" => path.strip_prefix("/v3")?,
        _ => path,
    };
    let trimmed = path.trim_end_matches('/');
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

pub(crate) fn holes(path: &str) -> Vec<Hole> {
    let mut holes = Vec::new();
    let mut before = String::new();
    let mut collection = "";
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if let Some(name) = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            let own = matches!(name, "id" | "uuid");
            let name = if own { format!("{}_{name}", singular(collection)) } else { name.to_owned() };
            holes.push(Hole { name, written: part.to_owned(), listed_by: before.clone() });
        } else {
            collection = part;
        }
        before.push('/');
        before.push_str(part);
    }
    holes
}

/// `os-keypairs` → `keypair`, `policies` → `policy`.
fn singular(collection: &str) -> String {
    let name = collection.strip_prefix("os-").unwrap_or(collection).replace('-', "_");
    if let Some(stem) = name.strip_suffix("ies") {
        return format!("{stem}y");
    }
    match name.strip_suffix("sses").or_else(|| name.strip_suffix("xes")) {
        Some(_) => name[..name.len() - 2].to_owned(),
        None => name.strip_suffix('s').map_or(name.clone(), str::to_owned),
    }
}

/// Objects that were seen in a cloud, by the path that listed them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objects(BTreeMap<(String, String), Vec<Seen>>);

/// One object.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    id: Option<String>,
    name: Option<String>,
}

/// Objects of one list that requests are made for; more of the same kind prove little more.
const OBJECTS_MAX: usize = 3;

impl Objects {
    /// Takes the objects out of an answer to `path` (without its query): the first list of objects in
    /// it. nova wraps each keypair in an object of its own, which is taken off.
    pub fn observe(&mut self, service: &str, path: &str, body: &Value) {
        let list = match body {
            Value::Array(list) => Some(list),
            Value::Object(map) => {
                map.values().find_map(|value| value.as_array().filter(|list| !list.is_empty()))
            }
            _ => None,
        };
        let text = |item: &Value, keys: &[&str]| {
            keys.iter().find_map(|key| match item.get(key)? {
                Value::String(text) if !text.is_empty() => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                _ => None,
            })
        };
        let seen: Vec<Seen> = list
            .into_iter()
            .flatten()
            .map(|item| {
                if let Some(name) = item.as_str() {
                    return Seen { id: None, name: Some(name.to_owned()) };
                }
                let item = match item.as_object() {
                    Some(map) if map.len() == 1 => {
                        map.values().next().filter(|v| v.is_object()).unwrap_or(item)
                    }
                    _ => item,
                };
                Seen {
                    id: text(item, &["id", "uuid", "alias"]),
                    name: text(item, &["name", "zoneName", "hypervisor_hostname"]),
                }
            })
            .take(OBJECTS_MAX)
            .collect();
        let known = self.0.entry((service.to_owned(), path.to_owned())).or_default();
        // A list of all projects' objects has some where the asker's own project has none.
        if !seen.is_empty() {
            *known = seen;
        }
    }

    /// The paths of a request with its holes filled and its query, one for each object; empty where something that
    /// is needed was not seen.
    #[must_use]
    pub fn fill(&self, request: &Prepared) -> Vec<String> {
        let mut paths = vec![String::new()];
        for part in request.path.split('/').filter(|part| !part.is_empty()) {
            let mut longer = Vec::new();
            for path in &paths {
                if !part.starts_with('{') {
                    longer.push(format!("{path}/{part}"));
                    continue;
                }
                // A path so far is the very path that listed the objects.
                let known = self.0.get(&(request.service.clone(), path.clone()));
                for seen in known.into_iter().flatten() {
                    let by_name = part.contains("name");
                    let value = if by_name {
                        seen.name.as_ref().or(seen.id.as_ref())
                    } else {
                        seen.id.as_ref().or(seen.name.as_ref())
                    };
                    longer.extend(value.map(|value| format!("{path}/{}", escaped(value))));
                }
            }
            longer.truncate(OBJECTS_MAX);
            paths = longer;
        }
        if let Some(query) = &request.query {
            paths.iter_mut().for_each(|path| *path = format!("{path}?{query}"));
        }
        paths
    }
}

/// Whether an answer lists an object that a part of a path means: under what tells objects apart, or as
/// a text of a list.
#[must_use]
pub fn is_listed(body: &Value, part: &str) -> bool {
    let means = |value: &Value| match value {
        Value::String(text) => escaped(text) == part,
        Value::Number(number) => number.to_string() == part,
        _ => false,
    };
    match body {
        Value::Array(list) => list.iter().any(|item| {
            if item.is_object() || item.is_array() { is_listed(item, part) } else { means(item) }
        }),
        Value::Object(map) => map.iter().any(|(key, value)| {
            let tells =
                matches!(key.as_str(), "id" | "uuid" | "alias" | "name" | "zoneName" | "hypervisor_hostname");
            tells && means(value) || is_listed(value, part)
        }),
        _ => false,
    }
}

/// The objects that a path that was asked is about: each as a part of the path, behind the path that
/// lists such objects. `operation` has braces where the path has objects; it may have a version in front
/// that the path has not, and a query behind.
#[must_use]
pub fn objects_in(operation: &str, path: &str) -> Vec<(String, String)> {
    let parts = |text: &str| -> Vec<String> {
        let text = text.split('?').next().unwrap_or_default();
        text.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let (written, asked) =
        (parts(operation.split_once(' ').map_or(operation, |(_, path)| path)), parts(path));
    let extra = written.len().saturating_sub(asked.len());
    let holes = written.iter().skip(extra).enumerate().filter(|(_, part)| part.starts_with('{'));
    holes
        .filter_map(|(at, _)| Some((format!("/{}", asked.get(..at)?.join("/")), asked.get(at)?.clone())))
        .collect()
}

/// A name as one part of a path.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' => {
                out.push(byte as char);
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::document::{Origin, OriginKind};

    fn document(services: Value) -> Document {
        let origin = Origin {
            kind: OriginKind::Installed,
            of: String::new(),
            at: Timestamp::UNIX_EPOCH,
            python: None,
        };
        let services = services.as_object().unwrap().iter();
        Document::new(
            origin,
            services.map(|(n, s)| (n.clone(), Service::from_program(s.clone()).unwrap())).collect(),
        )
    }

    fn nova(operation: Value) -> Document {
        document(
            json!({"nova": {"microversions": {"min": "2.1", "max": "2.103"}, "operations": {"x": operation}}}),
        )
    }

    fn get(path: &str, versions: Value) -> Value {
        json!({"method": "GET", "path": path, "versions": versions})
    }

    fn at(requests: &[Prepared]) -> Vec<String> {
        requests
            .iter()
            .map(|r| format!("{} {:?}", r.microversion.map_or("none".to_owned(), |m| m.to_string()), r.pins))
            .collect()
    }

    #[test]
    fn each_operation_is_asked_at_three_microversions() {
        let requests = reading(&nova(get("/servers", json!([{}]))), &BTreeMap::new());
        assert_eq!(at(&requests), ["none {Current}", "2.1 {Minimum}", "2.103 {Maximum}"]);
        let used = [("nova".to_owned(), "2.79".parse().unwrap())].into();
        let requests = reading(&nova(get("/servers", json!([{}]))), &used);
        assert_eq!(at(&requests), ["2.1 {Minimum}", "2.79 {Current}", "2.103 {Maximum}"]);
    }

    #[test]
    fn an_operation_is_asked_only_where_it_exists() {
        let operation = get("/servers/{id}/tags", json!([{"min": "2.26", "max": "2.90"}]));
        assert_eq!(
            at(&reading(&nova(operation.clone()), &BTreeMap::new())),
            ["2.26 {Minimum}", "2.90 {Maximum}"]
        );
        let late = [("nova".to_owned(), "2.95".parse().unwrap())].into();
        assert_eq!(reading(&nova(operation), &late).len(), 2);
        let gone = json!({"method": "GET", "path": "/os-cells", "versions": [{}], "removed": true});
        assert_eq!(reading(&nova(gone), &BTreeMap::new()), []);
        let writing = json!({"method": "POST", "path": "/servers", "versions": [{}]});
        assert_eq!(reading(&nova(writing), &BTreeMap::new()), []);
    }

    #[test]
    fn each_value_of_a_query_and_all_projects_are_asked_for_at_the_highest() {
        let texts = |values: Value| json!({"type": "array", "items": {"type": "string", "enum": values}});
        let schema = |key: Value| {
            json!({"properties": {
                "sort_key": texts(key), "all_tenants": {"type": "array"},
                "with": {"enum": ["1", "true", true, false]}}})
        };
        let mut operation = get("/servers", json!([{}]));
        operation["query"] = json!([
            {"max": "2.74", "schema": schema(json!(["gone"]))}, {"min": "2.75", "schema": schema(json!(["id", "a b"]))}]);
        let requests = reading(&nova(operation), &BTreeMap::new());
        let asked: Vec<&str> = requests[3..].iter().map(|request| request.operation.as_str()).collect();
        assert_eq!(
            asked,
            ["GET /servers?all_tenants=1", "GET /servers?sort_key=a%20b", "GET /servers?sort_key=id"]
        );
        assert_eq!(at(&requests[3..4]), ["2.103 {Maximum}"]);
        let mut objects = Objects::default();
        assert_eq!(objects.fill(&requests[3]), ["/servers?all_tenants=1"]);
        objects.observe("nova", "/servers", &json!({"servers": [{"id": "s1"}]}));
        objects.observe("nova", "/servers", &json!({"servers": []}));
        let one = reading(&nova(get("/servers/{id}", json!([{}]))), &BTreeMap::new()).remove(0);
        assert_eq!(objects.fill(&one), ["/servers/s1"]);
    }

    #[test]
    fn services_without_microversions_are_asked_once() {
        let keystone = document(json!({"keystone": {"operations": {
            "a": get("/v3/users/{user_id}", json!([{}])), "b": get("/", json!([{}])), "c": get("/v3", json!([{}]))}}}));
        let requests = reading(&keystone, &BTreeMap::new());
        assert_eq!(at(&requests), ["none {Minimum, Current, Maximum}"]);
        assert_eq!(requests[0].path, "/users/{user_id}");
    }

    #[test]
    fn holes_have_names_and_say_what_fills_them() {
        let told: Vec<(String, String)> = holes("/servers/{server_id}/os-interface/{id}")
            .into_iter()
            .map(|hole| (hole.name, hole.listed_by))
            .collect();
        assert_eq!(told[0], ("server_id".to_owned(), "/servers".to_owned()));
        assert_eq!(told[1], ("interface_id".to_owned(), "/servers/{server_id}/os-interface".to_owned()));
        for (collection, one) in [
            ("os-keypairs", "keypair"),
            ("policies", "policy"),
            ("security-groups", "security_group"),
            ("resource_classes", "resource_class"),
        ] {
            assert_eq!(singular(collection), one);
        }
    }

    #[test]
    fn holes_are_filled_from_what_was_seen() {
        let mut objects = Objects::default();
        let body =
            json!({"servers": [{"id": "s1", "name": "one"}, {"id": "s2", "name": "two"}], "links": []});
        objects.observe("nova", "/servers", &body);
        objects.observe("nova", "/servers/s2/tags", &json!({"tags": ["a/b", "ü"]}));
        objects.observe("nova", "/os-keypairs", &json!({"keypairs": [{"keypair": {"name": "mine"}}]}));
        let extensions = json!({"extensions": [{"alias": "dns-integration", "name": "DNS Integration"}]});
        objects.observe("nova", "/extensions", &extensions);
        let fill = |path: &str| {
            let request = reading(&nova(get(path, json!([{}]))), &BTreeMap::new()).remove(0);
            objects.fill(&request)
        };
        assert_eq!(fill("/servers"), ["/servers"]);
        assert_eq!(fill("/servers/{id}"), ["/servers/s1", "/servers/s2"]);
        assert_eq!(fill("/servers/{id}/tags/{tag}"), ["/servers/s2/tags/a%2Fb", "/servers/s2/tags/%C3%BC"]);
        assert_eq!(fill("/os-keypairs/{id}"), ["/os-keypairs/mine"]);
        assert_eq!(fill("/extensions/{id}"), ["/extensions/dns-integration"]);
        assert_eq!(fill("/flavors/{id}"), Vec::<String>::new());
    }

    #[test]
    fn objects_of_a_path_are_told_from_what_is_always_there() {
        let told = objects_in("GET /v3/users/{user_id}/projects", "/users/u1/projects");
        assert_eq!(told, [("/users".to_owned(), "u1".to_owned())]);
        let told = objects_in("GET /servers/{id}/tags/{tag}?a=b", "/servers/s2/tags/a%2Fb?a=b");
        assert_eq!(told[1], ("/servers/s2/tags".to_owned(), "a%2Fb".to_owned()));
        assert_eq!(objects_in("GET /servers", "/servers"), []);
        let body = json!({"servers": [{"id": "s1", "image": {"id": "i"}}], "tags": ["a/b"], "next": "s3",
            "services": [{"id": 7}]});
        for (part, listed) in [("s1", true), ("a%2Fb", true), ("7", true), ("s3", false), ("s2", false)] {
            assert_eq!(is_listed(&body, part), listed, "{part}");
        }
    }
}
