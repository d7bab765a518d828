//! The outline of an answer: its status, the headers that clients act upon, and what its body is made
//! of, without any value. Answers that lie minutes or days apart, about a cloud that its users went on
//! changing, are compared by it; and it can be kept, because nothing of anybody is in it.
//!
//! A field counts as gone where every object of its place had it and none has it any more. What depends
//! on what users did is no difference: values, what a list or a map of theirs has in it, whether
//! something is null that may be.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Asked, Body, Comparator, Compared, Noise, Raw, Recorded, UNANSWERED, place_matches, status_rule,
};
use crate::forms::is_id;

/// Nesting that is followed; answers of OpenStack have at most ten levels.
const DEPTH_MAX: usize = 64;

/// What an answer is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// The status.
    pub status: u16,
    /// The headers that matter, their names in small letters; with their value where it is none of an
    /// object's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, Option<String>>,
    body: Form,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Form {
    #[default]
    Empty,
    Text,
    Json(Shape),
}

impl Form {
    fn kind(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Text => "text",
            Self::Json(_) => "JSON",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Null,
    Boolean,
    Number,
    String,
    Object,
    List,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Number => "number",
            Self::String => "string",
            Self::Object => "object",
            Self::List => "list",
        }
    }
}

/// What stands in one place of an answer, of all elements of a list together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Shape {
    #[serde(rename = "k")]
    kinds: BTreeSet<Kind>,
    /// Of objects: their fields.
    #[serde(rename = "f", default, skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<String, Field>,
    /// Of lists, and of maps whose keys are data: what is in them; absent where nothing is.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    elements: Option<Box<Shape>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Field {
    #[serde(flatten)]
    shape: Shape,
    /// Only some of the objects in its place have it.
    #[serde(rename = "s", default, skip_serializing_if = "std::ops::Not::not")]
    sometimes: bool,
}

impl Shape {
    /// `key` is the name of the field that holds the value, where one does.
    fn of(value: &Value, key: Option<&str>, data_keys: &[String], depth: usize) -> Self {
        let mut shape = Self::default();
        if depth > DEPTH_MAX {
            return shape;
        }
        let kind = match value {
            Value::Null => Kind::Null,
            Value::Bool(_) => Kind::Boolean,
            Value::Number(_) => Kind::Number,
            // nova's image of an instance without one, for example.
            Value::String(text) if text.is_empty() => Kind::Null,
            Value::String(_) => Kind::String,
            Value::Object(map) => {
                let data = key.is_some_and(|key| data_keys.iter().any(|data| data == key))
                    || map.keys().any(|key| is_id(key));
                for (key, value) in map {
                    if data {
                        // What a key of data names is no field.
                        shape.absorb(Self::of(value, None, data_keys, depth + 1));
                    } else {
                        let inner = Self::of(value, Some(key), data_keys, depth + 1);
                        shape.fields.insert(key.clone(), Field { shape: inner, sometimes: false });
                    }
                }
                Kind::Object
            }
            Value::Array(list) => {
                for value in list {
                    shape.absorb(Self::of(value, key, data_keys, depth + 1));
                }
                Kind::List
            }
        };
        shape.kinds.insert(kind);
        shape
    }

    /// Takes one more element in.
    fn absorb(&mut self, element: Self) {
        match &mut self.elements {
            None => self.elements = Some(Box::new(element)),
            Some(known) => known.merge(element),
        }
    }

    /// Makes it stand for the other as well.
    fn merge(&mut self, other: Self) {
        // What is no object says nothing of the fields of objects.
        let both = self.kinds.contains(&Kind::Object) && other.kinds.contains(&Kind::Object);
        if both {
            for (name, field) in &mut self.fields {
                field.sometimes |= !other.fields.contains_key(name);
            }
        }
        for (name, mut field) in other.fields {
            match self.fields.get_mut(&name) {
                Some(known) => {
                    known.sometimes |= field.sometimes;
                    known.shape.merge(field.shape);
                }
                None => {
                    field.sometimes |= both;
                    self.fields.insert(name, field);
                }
            }
        }
        if let Some(elements) = other.elements {
            self.absorb(*elements);
        }
        self.kinds.extend(other.kinds);
    }

    fn told(&self) -> Value {
        let kinds: Vec<&str> = self.kinds.iter().map(|kind| kind.name()).collect();
        kinds.join(" or ").into()
    }
}

impl Comparator {
    /// The outline of an answer.
    #[must_use]
    pub fn outline(&self, answer: &Recorded) -> Outline {
        let headers = self.headers.iter().filter_map(|name| {
            let value = answer.headers.get(*name)?;
            let plain = self.rules.headers_plain.iter().any(|plain| plain == name);
            let parts = plain.then(|| self.header(name, value).into_iter().collect::<Vec<_>>().join(", "));
            Some(((*name).to_owned(), parts))
        });
        Outline {
            status: answer.status,
            headers: headers.collect(),
            body: match &answer.body {
                Body::Empty => Form::Empty,
                Body::Text(_) => Form::Text,
                Body::Json(value) => Form::Json(Shape::of(value, None, &self.rules.data_keys, 0)),
            },
        }
    }

    /// Compares the outline of what old code answered with that of what is answered now. `noise` was
    /// learnt from answers of the old code.
    #[must_use]
    pub fn compare_outlines(&self, asked: &Asked, old: &Outline, new: &Outline, noise: &Noise) -> Compared {
        let mut found = Vec::new();
        differ(old, new, &mut found);
        // What is there or not there by what users did.
        found.retain(|raw| {
            let depends = matches!(raw.rule, "field-removed" | "field-added")
                && (is_of_pages(&raw.location)
                    || self.rules.comes_and_goes.iter().any(|pattern| place_matches(pattern, &raw.location)));
            !depends
        });
        self.judge(asked, old.status, found, noise)
    }
}

/// Where a list goes on: there only where it does.
fn is_of_pages(place: &str) -> bool {
    let name = place.rsplit('.').next().unwrap_or_default();
    name == "next" || name.ends_with("_links")
}

fn differ(old: &Outline, new: &Outline, found: &mut Vec<Raw>) {
    if old.status != new.status {
        found.extend(status_now(old.status, new.status).map(|rule| Raw {
            rule,
            location: "status".to_owned(),
            old: old.status.into(),
            new: new.status.into(),
        }));
        return;
    }
    let names: BTreeSet<&String> = old.headers.keys().chain(new.headers.keys()).collect();
    for name in names {
        let (rule, was, is) = match (old.headers.get(name), new.headers.get(name)) {
            (Some(was), None) => ("header-missing", was.clone(), None),
            (None, Some(is)) => ("header-added", None, is.clone()),
            (Some(was), Some(is)) if was != is => ("header-changed", was.clone(), is.clone()),
            _ => continue,
        };
        let value = |value: Option<String>| value.map_or(Value::Null, Value::String);
        found.push(Raw { rule, location: format!("header {name}"), old: value(was), new: value(is) });
    }
    match (&old.body, &new.body) {
        (Form::Json(old), Form::Json(new)) => Walk { found, place: String::new() }.shape(old, new),
        (old, new) if old.kind() != new.kind() => found.push(Raw {
            rule: "body-kind-changed",
            location: "body".to_owned(),
            old: old.kind().into(),
            new: new.kind().into(),
        }),
        _ => {}
    }
}

/// The rule for two statuses that lie apart in time; `None` where what users did explains it.
fn status_now(old: u16, new: u16) -> Option<&'static str> {
    // Not found, and in the way of something that the object is doing.
    let of_object = |status: u16| matches!(status, 404 | 409);
    // What failed by itself still does; a load balancer answers where a daemon hangs up.
    let failed = |status: u16| status == UNANSWERED || status >= 500;
    match (old, new) {
        (old, new) if failed(old) && failed(new) => None,
        (old, 1..400) if of_object(old) => None,
        (old, new) if of_object(old) && of_object(new) => None,
        (1..400, 409) => Some("conflict-now"),
        (old, new) => status_rule(old, new),
    }
}

struct Walk<'a> {
    found: &'a mut Vec<Raw>,
    place: String,
}

impl Walk<'_> {
    fn note(&mut self, rule: &'static str, old: Value, new: Value) {
        let location = if self.place.is_empty() { "body".to_owned() } else { self.place.clone() };
        self.found.push(Raw { rule, location, old, new });
    }

    fn below(&mut self, name: &str, work: impl FnOnce(&mut Self)) {
        let length = self.place.len();
        if length > 0 && !matches!(name, "[]" | "{}") {
            self.place.push('.');
        }
        self.place.push_str(name);
        work(self);
        self.place.truncate(length);
    }

    fn shape(&mut self, old: &Shape, new: &Shape) {
        let says = |shape: &Shape| -> BTreeSet<Kind> {
            shape.kinds.iter().copied().filter(|kind| *kind != Kind::Null).collect()
        };
        let (was, is) = (says(old), says(new));
        if !was.is_empty() && !is.is_empty() && was.is_disjoint(&is) {
            return self.note("type-changed", old.told(), new.told());
        }
        if is.is_empty() && !new.kinds.is_empty() && !old.kinds.contains(&Kind::Null) && !was.is_empty() {
            return self.note("null-now", old.told(), new.told());
        }
        let objects = was.contains(&Kind::Object) && is.contains(&Kind::Object);
        if objects {
            self.fields(old, new);
        }
        if let (Some(was), Some(is)) = (&old.elements, &new.elements) {
            self.below(if objects { "{}" } else { "[]" }, |walk| walk.shape(was, is));
        }
    }

    fn fields(&mut self, old: &Shape, new: &Shape) {
        for (name, was) in &old.fields {
            match new.fields.get(name) {
                Some(is) => self.below(name, |walk| walk.shape(&was.shape, &is.shape)),
                None if was.sometimes => {}
                None => {
                    let told = was.shape.told();
                    self.below(name, |walk| walk.note("field-removed", told, Value::Null));
                }
            }
        }
        // An empty object may be a map of whose keys nothing is known.
        if old.fields.is_empty() {
            return;
        }
        for (name, is) in &new.fields {
            if !old.fields.contains_key(name) && !is.sometimes {
                let told = is.shape.told();
                self.below(name, |walk| walk.note("field-added", Value::Null, told));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::diff::Audience;
    use crate::rules::Class;

    fn asked() -> Asked {
        Asked {
            service: "nova".to_owned(),
            operation: "GET /servers/detail".to_owned(),
            path: "/servers/detail".to_owned(),
            microversion: Some("2.1".parse().unwrap()),
            audience: Audience::Member,
        }
    }

    fn answer(status: u16, body: Value) -> Recorded {
        let headers = [("content-type", "application/json"), ("x-subject-token", "a secret")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Recorded { status, headers, body: Body::Json(body) }
    }

    fn compared(old: &Recorded, new: &Recorded, noise: &Noise) -> Vec<(String, Class, String)> {
        let comparator = Comparator::new(Vec::new()).unwrap();
        // As it is kept.
        let kept = serde_json::to_string(&comparator.outline(old)).unwrap();
        let kept: Outline = serde_json::from_str(&kept).unwrap();
        let compared = comparator.compare_outlines(&asked(), &kept, &comparator.outline(new), noise);
        compared.differences.into_iter().map(|d| (d.rule, d.class, d.location)).collect()
    }

    fn bodies(old: Value, new: Value) -> Vec<(String, Class, String)> {
        compared(&answer(200, old), &answer(200, new), &Noise::default())
    }

    fn expect(rule: &str, class: Class, location: &str) -> Vec<(String, Class, String)> {
        vec![(rule.to_owned(), class, location.to_owned())]
    }

    #[test]
    fn what_users_change_is_no_difference() {
        let server = |id: &str, more: Value| {
            let mut server = json!({"id": id, "name": id, "task_state": null, "metadata": {"a": id},
                "addresses": {"net": [{"addr": "198.51.100.1", "version": 4}]}, "progress": 1});
            server.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            server
        };
        let old = json!({"servers": [server("a", json!({})), server("b", json!({"fault": {"code": 500}}))],
            "allocations": {"6c8b3ce2-7d2c-4b3c-9d0e-9d7ad5b3c7f1": {"resources": {"VCPU": 1}}}});
        let new = json!({"servers": [
            server("c", json!({"metadata": {}, "addresses": {}, "task_state": "deleting", "progress": 2})),
            server("d", json!({"metadata": {"other": "key"}})), server("e", json!({}))],
            "allocations": {"ee8b3ce2-7d2c-4b3c-9d0e-9d7ad5b3c7f1": {"resources": {"DISK_GB": 1}}}});
        assert_eq!(bodies(old.clone(), new), []);
        assert_eq!(bodies(old.clone(), json!({"servers": [], "allocations": {}})), []);
        assert_eq!(bodies(json!({"servers": [], "allocations": {}}), old), []);
    }

    #[test]
    fn what_is_made_otherwise_is_a_difference() {
        let list = |server: Value| json!({"servers": [server.clone(), server]});
        let whole = json!({"id": "a", "size": 1, "flavor": {"vcpus": 1}, "tags": ["a"]});
        let spoilt = |spoil: fn(&mut Value)| {
            let mut other = whole.clone();
            spoil(&mut other);
            bodies(list(whole.clone()), list(other))
        };
        let removed = expect("field-removed", Class::Breaking, "servers[].flavor.vcpus");
        assert_eq!(spoilt(|server| server["flavor"] = json!({"ram": 1}))[..1], removed);
        let added = expect("field-added", Class::Review, "servers[].more");
        assert_eq!(spoilt(|server| server["more"] = json!(true)), added);
        let changed = |place: &str| expect("type-changed", Class::Breaking, place);
        assert_eq!(spoilt(|server| server["size"] = json!("1")), changed("servers[].size"));
        assert_eq!(spoilt(|server| server["tags"] = json!([{"tag": "a"}])), changed("servers[].tags[]"));
        let null = expect("null-now", Class::Review, "servers[].flavor");
        assert_eq!(spoilt(|server| server["flavor"] = Value::Null), null);
        let gone = expect("field-removed", Class::Breaking, "servers");
        assert_eq!(bodies(json!({"servers": []}), json!({"instances": []}))[..1], gone);
    }

    #[test]
    fn only_what_every_object_had_is_missed() {
        let both = json!({"images": [{"id": "a", "own": "x"}, {"id": "b"}]});
        let none = json!({"images": [{"id": "a"}, {"id": "b"}]});
        assert_eq!(bodies(both.clone(), none.clone()), []);
        assert_eq!(bodies(none, both), []);
    }

    #[test]
    fn what_comes_and_goes_with_users_is_not_missed() {
        let old = json!({"servers": [{"id": "a", "fault": {"code": 1}, "image": {"id": "i"}}], "next": "/a",
            "servers_links": [{"rel": "next"}]});
        assert_eq!(bodies(old.clone(), json!({"servers": [{"id": "a", "image": {"id": "i"}}]})), []);
        // Neither is an image that no instance has any more; it is only to be looked at.
        let none = json!({"servers": [{"id": "a", "image": ""}]});
        assert_eq!(bodies(old, none.clone()), expect("null-now", Class::Review, "servers[].image"));
        assert_eq!(bodies(none, json!({"servers": [{"id": "a", "image": {"id": "i"}}]})), []);
        let hypervisors = |more: Value| json!({"hypervisors": [more]});
        assert_eq!(bodies(hypervisors(json!({"id": 1, "servers": [{}]})), hypervisors(json!({"id": 1}))), []);
    }

    #[test]
    fn statuses_and_headers_count_and_secrets_are_not_kept() {
        let rules = |old: u16, new: u16| {
            let found = compared(&answer(old, json!({})), &answer(new, json!({})), &Noise::default());
            found.into_iter().map(|(rule, ..)| rule).collect::<Vec<_>>()
        };
        assert_eq!(rules(200, 404), ["success-became-error"]);
        assert_eq!(rules(200, 500), ["server-error"]);
        assert_eq!(rules(403, 200), ["error-became-success"]);
        assert_eq!(rules(200, 409), ["conflict-now"]);
        assert_eq!(rules(404, 500), ["server-error"]);
        assert!(rules(UNANSWERED, 502).is_empty() && rules(500, UNANSWERED).is_empty());
        assert_eq!(rules(404, UNANSWERED), ["server-error"]);
        assert_eq!(rules(200, UNANSWERED), ["server-error"]);
        // The object has come, or has become free.
        assert!(rules(404, 200).is_empty() && rules(409, 200).is_empty());
        let mut other = answer(200, json!({}));
        other.headers.insert("x-subject-token".to_owned(), "another".to_owned());
        let old = answer(200, json!({"user": {"password": "hidden"}}));
        assert_eq!(compared(&answer(200, json!({})), &other, &Noise::default()), []);
        other.headers.remove("x-subject-token");
        let found = compared(&answer(200, json!({})), &other, &Noise::default());
        assert_eq!(found, expect("header-missing", Class::Breaking, "header x-subject-token"));
        let kept = serde_json::to_string(&Comparator::new(Vec::new()).unwrap().outline(&old)).unwrap();
        assert!(!kept.contains("secret") && !kept.contains("hidden"), "{kept}");
    }

    #[test]
    fn noise_of_the_old_code_is_left_out() {
        let comparator = Comparator::new(Vec::new()).unwrap();
        let (with, without) = (answer(200, json!({"a": {"b": 1}})), answer(200, json!({"a": {}})));
        let mut noise = Noise::default();
        noise.learn(&comparator, &asked(), &with, &without);
        let kept: Noise = serde_json::from_str(&serde_json::to_string(&noise).unwrap()).unwrap();
        assert_eq!(compared(&with, &without, &kept), []);
        assert_eq!(compared(&with, &without, &Noise::default()).len(), 1);
    }
}
