//! What changed between two JSON schemas, as changes that each have a rule.
//!
//! Schemas come in their canonical form ([`crate::canonical`]), so order does not count. Where two
//! schemas say something in ways that cannot be told apart from a change, the change is
//! `restructured`, and somebody has to look.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::canonical;

/// Nesting that is followed; the deepest schema known has 14 levels, and one may contain itself.
const DEPTH_MAX: usize = 40;
/// Patterns longer than this are lists of Unicode's characters, made by the Python that ran.
const PATTERN_CHARS_MAX: usize = 500;

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The name of its rule, without direction: `property-removed`.
    pub kind: &'static str,
    /// Where: `keypairs[].keypair.name`.
    pub location: String,
    /// What was there.
    pub before: Value,
    /// What is there.
    pub after: Value,
}

/// What changed from `old` to `new`. `same_python` says whether the same Python made both; where not,
/// patterns made of its Unicode tables are not compared.
#[must_use]
pub fn changes(old: &Value, new: &Value, same_python: bool) -> Vec<Change> {
    // References make equal text mean different things only where the definitions differ.
    let same_definitions = ["definitions", "$defs"].iter().all(|name| old.get(*name) == new.get(*name));
    let mut comparison = Comparison { roots: (old, new), same_definitions, same_python, found: Vec::new() };
    comparison.node(old, new, "", 0);
    comparison.found
}

/// Keywords that only have an effect on one type.
const KEYWORDS_OF: &[(&str, &[&str])] = &[
    ("array", &["items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"]),
    (
        "object",
        &[
            "properties",
            "patternProperties",
            "additionalProperties",
            "required",
            "minProperties",
            "maxProperties",
        ],
    ),
];
/// Bounds below, and above.
const LOWER: &[&str] = &["minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"];
const UPPER: &[&str] = &["maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"];
/// Keywords that have a comparison of their own; every other one is compared as a whole.
const KNOWN: &[&str] = &[
    "type",
    "enum",
    "const",
    "required",
    "properties",
    "additionalProperties",
    "patternProperties",
    "items",
    "prefixItems",
    "pattern",
    "format",
    "default",
    "anyOf",
    "oneOf",
    "allOf",
    "$ref",
    "definitions",
    "$defs",
    "uniqueItems",
    "$schema",
    "$id",
    "id",
    "name",
    "links",
];

struct Comparison<'a> {
    roots: (&'a Value, &'a Value),
    same_definitions: bool,
    same_python: bool,
    found: Vec<Change>,
}

impl<'a> Comparison<'a> {
    fn add(&mut self, kind: &'static str, location: &str, before: Value, after: Value) {
        let location = if location.is_empty() { "body".to_owned() } else { location.to_owned() };
        self.found.push(Change { kind, location, before, after });
    }

    fn node(&mut self, old: &'a Value, new: &'a Value, at: &str, depth: usize) {
        let (old, new) = (resolve(old, self.roots.0), resolve(new, self.roots.1));
        if depth > DEPTH_MAX || (old == new && self.same_definitions) {
            return;
        }
        let (Some(a), Some(b)) = (old.as_object(), new.as_object()) else {
            if old != new {
                self.add("restructured", at, old.clone(), new.clone());
            }
            return;
        };
        if let Some(keyword) = misplaced(a).into_iter().find(|keyword| !b.contains_key(*keyword)) {
            // What stood there had no effect; where it now is the description itself, that is all.
            let moved = a[keyword] == *new;
            self.add(
                if moved { "misplaced-keyword" } else { "restructured" },
                at,
                keyword.into(),
                Value::Null,
            );
            if moved {
                return;
            }
        }
        if !self.types(a, b, at) {
            return;
        }
        self.values(a, b, at);
        self.names(a, b, at, depth);
        self.elements(a, b, at, depth);
        self.bounds(a, b, at);
        for keyword in ["anyOf", "oneOf", "allOf"] {
            self.alternatives(keyword, a, b, at, depth);
        }
        for keyword in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
            let own = KNOWN.contains(&keyword.as_str())
                || LOWER.contains(&keyword.as_str())
                || UPPER.contains(&keyword.as_str());
            if !own && a.get(keyword) != b.get(keyword) {
                self.add("restructured", at, part(a, keyword), part(b, keyword));
            }
        }
    }

    /// Compares types; false where nothing below can be compared any more.
    fn types(&mut self, a: &Map<String, Value>, b: &Map<String, Value>, at: &str) -> bool {
        let (old, new) = (implied_types(a), implied_types(b));
        // A list of values says more than the types of these values.
        if old == new || allowed(a).is_some() != allowed(b).is_some() {
            return true;
        }
        // Where alternatives tell the types, it is their change that is told.
        let unsaid = !(a.contains_key("type") && b.contains_key("type"));
        if unsaid && ["anyOf", "oneOf", "allOf"].iter().any(|keyword| a.get(*keyword) != b.get(*keyword)) {
            return true;
        }
        let kind = match (&old, &new) {
            (None, _) => "type-narrowed",
            (_, None) => "type-widened",
            (Some(old), Some(new)) if covers(new, old) => "type-widened",
            (Some(old), Some(new)) if covers(old, new) => "type-narrowed",
            _ => "type-changed",
        };
        self.add(kind, at, part(a, "type"), part(b, "type"));
        kind != "type-changed"
    }

    fn values(&mut self, a: &Map<String, Value>, b: &Map<String, Value>, at: &str) {
        match (allowed(a), allowed(b)) {
            (Some(old), Some(new)) => {
                let removed: Vec<Value> = old.iter().filter(|v| !new.contains(v)).cloned().collect();
                let added: Vec<Value> = new.iter().filter(|v| !old.contains(v)).cloned().collect();
                if !removed.is_empty() {
                    self.add("enum-removed", at, Value::Array(removed), Value::Null);
                }
                if !added.is_empty() {
                    self.add("enum-added", at, Value::Null, Value::Array(added));
                }
            }
            (Some(old), None) => self.add("enum-opened", at, Value::Array(old), "any value".into()),
            (None, Some(new)) => self.add("enum-closed", at, "any value".into(), Value::Array(new)),
            (None, None) => {}
        }
        if a.get("default") != b.get("default") {
            self.add("default-changed", at, part(a, "default"), part(b, "default"));
        }
        for keyword in ["pattern", "format"] {
            let (old, new) = (a.get(keyword), b.get(keyword));
            let long = |value: Option<&Value>| {
                value.and_then(Value::as_str).is_some_and(|text| text.chars().count() > PATTERN_CHARS_MAX)
            };
            if old != new && (self.same_python || !(long(old) && long(new))) {
                self.add("pattern-changed", at, part(a, keyword), part(b, keyword));
            }
        }
    }

    fn names(&mut self, a: &'a Map<String, Value>, b: &'a Map<String, Value>, at: &str, depth: usize) {
        let required = |map: &Map<String, Value>| -> BTreeSet<String> {
            let list = map.get("required").and_then(Value::as_array);
            list.into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
        };
        let (old, new) = (required(a), required(b));
        let known = b.get("properties").and_then(Value::as_object);
        for name in new.difference(&old) {
            self.add("required-added", &below(at, name), Value::Null, name.as_str().into());
        }
        for name in old.difference(&new) {
            // That the property itself is gone says more.
            let gone = known.is_some_and(|known| !known.contains_key(name));
            let was = a.get("properties").and_then(|p| p.get(name)).is_some();
            if !(gone && was) {
                self.add("required-removed", &below(at, name), name.as_str().into(), Value::Null);
            }
        }
        for keyword in ["properties", "patternProperties"] {
            let old = a.get(keyword).and_then(Value::as_object);
            let new = b.get(keyword).and_then(Value::as_object);
            if old == new && self.same_definitions {
                continue;
            }
            for name in keys(old, new) {
                let place = below(at, &name);
                match (old.and_then(|m| m.get(&name)), new.and_then(|m| m.get(&name))) {
                    (Some(old), Some(new)) => self.node(old, new, &place, depth + 1),
                    (Some(old), None) => self.add("property-removed", &place, summary(old), Value::Null),
                    (None, Some(new)) => self.add("property-added", &place, Value::Null, summary(new)),
                    (None, None) => {}
                }
            }
        }
        let open = Value::Bool(true);
        let (old, new) =
            (a.get("additionalProperties").unwrap_or(&open), b.get("additionalProperties").unwrap_or(&open));
        match (old, new) {
            (old, new) if old == new && (self.same_definitions || !old.is_object()) => {}
            (Value::Bool(false), _) => self.add("opened", at, Value::Null, Value::Null),
            (_, Value::Bool(false)) => self.add("closed", at, Value::Null, Value::Null),
            (Value::Object(_), Value::Object(_)) => {
                // Both live as long as the schemas: they are no stand-ins.
                if let (Some(old), Some(new)) = (a.get("additionalProperties"), b.get("additionalProperties"))
                {
                    self.node(old, new, &below(at, "*"), depth + 1);
                }
            }
            (Value::Object(_), _) => {
                self.add("type-widened", &below(at, "*"), summary(old), "anything".into());
            }
            (_, _) => self.add("type-narrowed", &below(at, "*"), "anything".into(), summary(new)),
        }
    }

    fn elements(&mut self, a: &'a Map<String, Value>, b: &'a Map<String, Value>, at: &str, depth: usize) {
        for keyword in ["items", "prefixItems"] {
            let place = format!("{at}[]");
            match (a.get(keyword), b.get(keyword)) {
                (None, None) => {}
                (Some(Value::Array(old)), Some(Value::Array(new))) if old.len() == new.len() => {
                    for (old, new) in old.iter().zip(new) {
                        self.node(old, new, &place, depth + 1);
                    }
                }
                (Some(old @ Value::Object(_)), Some(new @ Value::Object(_))) => {
                    self.node(old, new, &place, depth + 1);
                }
                (old, new) if old != new => {
                    self.add("restructured", &place, part(a, keyword), part(b, keyword));
                }
                _ => {}
            }
        }
    }

    fn bounds(&mut self, a: &Map<String, Value>, b: &Map<String, Value>, at: &str) {
        for keyword in LOWER.iter().chain(UPPER) {
            let (old, new) = (a.get(*keyword), b.get(*keyword));
            if old == new || alike(old, new) {
                continue;
            }
            let lower = LOWER.contains(keyword);
            let tightened = match (old.and_then(Value::as_f64), new.and_then(Value::as_f64)) {
                (None, Some(_)) => true,
                (Some(old), Some(new)) => (new > old) == lower,
                _ => false,
            };
            let bound = |value: Option<&Value>| match value {
                None => Value::from(format!("no {keyword}")),
                Some(value) => Value::from(format!("{keyword} {value}")),
            };
            self.add(
                if tightened { "bound-tightened" } else { "bound-loosened" },
                at,
                bound(old),
                bound(new),
            );
        }
        let unique =
            |map: &Map<String, Value>| map.get("uniqueItems").and_then(Value::as_bool).unwrap_or(false);
        if unique(a) != unique(b) {
            let kind = if unique(b) { "bound-tightened" } else { "bound-loosened" };
            let bound = |unique| Value::from(if unique { "unique elements" } else { "repeated elements" });
            self.add(kind, at, bound(unique(a)), bound(unique(b)));
        }
    }

    fn alternatives(
        &mut self,
        keyword: &str,
        a: &'a Map<String, Value>,
        b: &'a Map<String, Value>,
        at: &str,
        depth: usize,
    ) {
        let (old, new) = match (a.get(keyword), b.get(keyword)) {
            (None, None) => return,
            (Some(Value::Array(old)), Some(Value::Array(new))) => (old, new),
            _ => return self.add("restructured", at, part(a, keyword), part(b, keyword)),
        };
        let removed: Vec<&Value> = old.iter().filter(|v| !new.contains(v)).collect();
        let added: Vec<&Value> = new.iter().filter(|v| !old.contains(v)).collect();
        match (removed.as_slice(), added.as_slice()) {
            ([], []) => {}
            ([old], [new]) => self.node(old, new, at, depth + 1),
            _ if keyword == "allOf" => self.add("restructured", at, part(a, keyword), part(b, keyword)),
            (removed, added) => {
                if !removed.is_empty() {
                    let list = removed.iter().map(|v| summary(v)).collect();
                    self.add("alternative-removed", at, Value::Array(list), Value::Null);
                }
                if !added.is_empty() {
                    let list = added.iter().map(|v| summary(v)).collect();
                    self.add("alternative-added", at, Value::Null, Value::Array(list));
                }
            }
        }
    }
}

/// Follows a reference into the schema's own definitions.
fn resolve<'a>(value: &'a Value, root: &'a Value) -> &'a Value {
    let target = value.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'));
    target.and_then(|pointer| root.pointer(pointer)).unwrap_or(value)
}

/// Keywords that have no effect because of the type beside them.
fn misplaced(map: &Map<String, Value>) -> Vec<&'static str> {
    let Some(types) = types(map) else { return Vec::new() };
    let of_others = KEYWORDS_OF.iter().filter(|(kind, _)| !types.contains(*kind));
    of_others.flat_map(|(_, keywords)| keywords.iter().copied()).filter(|k| map.contains_key(*k)).collect()
}

/// Whether two bounds differ in no more than what writing and reading them may change.
fn alike(old: Option<&Value>, new: Option<&Value>) -> bool {
    match (old.and_then(Value::as_f64), new.and_then(Value::as_f64)) {
        (Some(old), Some(new)) => (old - new).abs() <= old.abs().max(new.abs()) * 1e-12,
        _ => false,
    }
}

/// The types that are allowed; `None` where all are.
fn types(map: &Map<String, Value>) -> Option<BTreeSet<String>> {
    match map.get("type")? {
        Value::String(one) => Some([one.clone()].into()),
        Value::Array(list) => Some(list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()),
        _ => None,
    }
}

/// The same where no type is named, but alternatives or values tell them.
fn implied_types(map: &Map<String, Value>) -> Option<BTreeSet<String>> {
    if map.contains_key("type") {
        return types(map);
    }
    for keyword in ["anyOf", "oneOf"] {
        if let Some(Value::Array(list)) = map.get(keyword) {
            let each = list.iter().map(|one| implied_types(one.as_object()?));
            return each.collect::<Option<Vec<_>>>().map(|all| all.into_iter().flatten().collect());
        }
    }
    if let Some(Value::Array(list)) = map.get("allOf") {
        return list.iter().find_map(|one| implied_types(one.as_object()?));
    }
    let name = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    allowed(map).map(|values| values.iter().map(|value| name(value).to_owned()).collect())
}

/// Whether every type of `small` is one of `large`; every integer is a number.
fn covers(large: &BTreeSet<String>, small: &BTreeSet<String>) -> bool {
    small.iter().all(|t| large.contains(t) || (t == "integer" && large.contains("number")))
}

/// The values that are allowed where they are listed.
fn allowed(map: &Map<String, Value>) -> Option<Vec<Value>> {
    match (map.get("enum"), map.get("const")) {
        (Some(Value::Array(list)), _) => Some(list.clone()),
        (_, Some(one)) => Some(vec![one.clone()]),
        _ => None,
    }
}

fn keys(a: Option<&Map<String, Value>>, b: Option<&Map<String, Value>>) -> BTreeSet<String> {
    a.into_iter().chain(b).flat_map(|map| map.keys().cloned()).collect()
}

fn part(map: &Map<String, Value>, keyword: &str) -> Value {
    map.get(keyword).map_or(Value::Null, summary)
}

/// A schema for people: in full where it is short.
fn summary(value: &Value) -> Value {
    const CHARS_MAX: usize = 160;
    let text = canonical::text(value);
    if text.chars().count() <= CHARS_MAX {
        return value.clone();
    }
    let kind = value.get("type").map(canonical::text).unwrap_or_else(|| "schema".to_owned());
    Value::String(format!(
        "{} … ({} characters, {})",
        text.chars().take(80).collect::<String>(),
        text.len(),
        kind
    ))
}

fn below(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kinds(old: &Value, new: &Value) -> Vec<(&'static str, String)> {
        let (old, new) = (canonical::schema(old), canonical::schema(new));
        changes(&old, &new, true).into_iter().map(|change| (change.kind, change.location)).collect()
    }

    fn one(old: &Value, new: &Value) -> (&'static str, String) {
        let mut found = kinds(old, new);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    #[test]
    fn each_kind_of_change_is_told_apart() {
        for (kind, old, new) in [
            ("type-narrowed", json!({"type": ["string", "null"]}), json!({"type": "string"})),
            ("type-widened", json!({"type": "string"}), json!({"type": ["string", "null"]})),
            ("type-widened", json!({"type": "integer"}), json!({"type": "number"})),
            ("type-changed", json!({"type": "string"}), json!({"type": "integer"})),
            ("enum-removed", json!({"enum": ["a", "b"]}), json!({"enum": ["a"]})),
            ("enum-removed", json!({"enum": ["a", "b"]}), json!({"const": "a"})),
            ("enum-added", json!({"enum": ["a"]}), json!({"enum": ["b", "a"]})),
            ("enum-closed", json!({}), json!({"enum": [1, "a"]})),
            ("enum-opened", json!({"enum": [1, "a"]}), json!({})),
            ("bound-tightened", json!({"minLength": 1}), json!({"minLength": 2})),
            ("bound-tightened", json!({}), json!({"maxItems": 2})),
            ("bound-tightened", json!({"maximum": 9}), json!({"maximum": 8})),
            ("bound-loosened", json!({"maximum": 8}), json!({"maximum": 9})),
            ("bound-loosened", json!({"uniqueItems": true}), json!({})),
            ("pattern-changed", json!({"pattern": "a"}), json!({"pattern": "b"})),
            ("pattern-changed", json!({}), json!({"format": "uuid"})),
            ("default-changed", json!({"default": 1}), json!({"default": 2})),
            ("closed", json!({}), json!({"additionalProperties": false})),
            ("opened", json!({"additionalProperties": false}), json!({"additionalProperties": true})),
            ("restructured", json!({"not": {"type": "string"}}), json!({"not": {"type": "null"}})),
            ("restructured", json!({"anyOf": [{"type": "string"}]}), json!({})),
        ] {
            assert_eq!(one(&old, &new), (kind, "body".to_owned()), "{old} {new}");
        }
    }

    #[test]
    fn changes_below_are_placed() {
        let old = json!({"properties": {"a": {"type": "array", "items": {"properties": {"b": {"type": "string"}, "c": {}}}}}});
        let new = json!({"properties": {"a": {"type": "array", "items": {"properties": {"b": {"type": "string"}}}}}});
        assert_eq!(one(&old, &new), ("property-removed", "a[].c".to_owned()));
        assert_eq!(one(&new, &old), ("property-added", "a[].c".to_owned()));
    }

    #[test]
    fn a_removed_property_that_was_required_is_one_change() {
        let old = json!({"properties": {"a": {}, "b": {}}, "required": ["a", "b"]});
        let new = json!({"properties": {"a": {}}, "required": ["a"]});
        assert_eq!(one(&old, &new), ("property-removed", "b".to_owned()));
        let freed = json!({"properties": {"a": {}, "b": {}}, "required": ["a"]});
        assert_eq!(one(&old, &freed), ("required-removed", "b".to_owned()));
        assert_eq!(one(&freed, &old), ("required-added", "b".to_owned()));
    }

    #[test]
    fn order_is_no_change() {
        let old = json!({"enum": ["a", "b"], "required": ["x", "y"], "anyOf": [{"type": "null"}, {"type": "string"}]});
        let new = json!({"anyOf": [{"type": "string"}, {"type": "null"}], "required": ["y", "x"], "enum": ["b", "a"]});
        assert_eq!(kinds(&old, &new), []);
    }

    #[test]
    fn a_description_under_a_keyword_without_effect_may_move() {
        let inner = json!({"type": "object", "properties": {"name": {"type": "string"}}});
        let old = json!({"properties": {"keypair": {"type": "object", "items": inner}}});
        let new = json!({"properties": {"keypair": inner}});
        assert_eq!(one(&old, &new), ("misplaced-keyword", "keypair".to_owned()));
        let other = json!({"properties": {"keypair": {"type": "object", "properties": {"id": {}}}}});
        assert!(kinds(&old, &other).contains(&("restructured", "keypair".to_owned())));
    }

    #[test]
    fn one_changed_alternative_is_looked_into() {
        let old = json!({"oneOf": [{"type": "null"}, {"type": "string", "maxLength": 5}]});
        let new = json!({"oneOf": [{"type": "null"}, {"type": "string", "maxLength": 4}]});
        assert_eq!(one(&old, &new).0, "bound-tightened");
        let more =
            json!({"oneOf": [{"type": "null"}, {"type": "string", "maxLength": 5}, {"type": "integer"}]});
        assert_eq!(one(&old, &more).0, "alternative-added");
        assert_eq!(one(&more, &old).0, "alternative-removed");
    }

    #[test]
    fn types_are_the_same_however_they_are_said() {
        let old = json!({"oneOf": [{"type": "string"}, {"type": "null"}]});
        let new = json!({"type": ["null", "string"]});
        assert_eq!(one(&old, &new).0, "restructured");
        assert_eq!(kinds(&json!({"enum": ["a"]}), &json!({"enum": ["a"], "type": "string"})), []);
    }

    #[test]
    fn references_are_followed_and_end() {
        let old = json!({"properties": {"a": {"$ref": "#/definitions/x"}}, "definitions": {"x": {"type": "string"}}});
        let new = json!({"properties": {"a": {"$ref": "#/definitions/x"}}, "definitions": {"x": {"type": "integer"}}});
        assert_eq!(changes(&old, &new, true)[0].location, "a");
        let round = |kind: &str| json!({"properties": {"a": {"$ref": "#"}, "b": {"type": kind}}, "definitions": {kind: 1}});
        assert!(!changes(&round("string"), &round("integer"), true).is_empty());
    }

    #[test]
    fn unicode_tables_of_another_python_are_no_change() {
        let long = |c: char| json!({"pattern": c.to_string().repeat(600)});
        assert_eq!(changes(&long('a'), &long('b'), true).len(), 1);
        assert_eq!(changes(&long('a'), &long('b'), false), []);
    }
}
