//! Two JSON bodies, walked together.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{Comparator, Raw};
use crate::canonical;

/// Nesting that is followed; answers of OpenStack have at most ten levels.
const DEPTH_MAX: usize = 64;

/// One walk through two bodies.
pub(super) struct Walk<'a> {
    comparator: &'a Comparator,
    found: &'a mut Vec<Raw>,
    /// Where the walk is; made longer and shorter as it goes.
    place: String,
    depth: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(comparator: &'a Comparator, found: &'a mut Vec<Raw>) -> Self {
        Self { comparator, found, place: String::new(), depth: 0 }
    }

    fn note(&mut self, rule: &'static str, old: Value, new: Value) {
        let location = if self.place.is_empty() { "body".to_owned() } else { self.place.clone() };
        self.found.push(Raw { rule, location, old, new });
    }

    /// Compares below `name`, which is a key, or `[]` for the elements of a list.
    fn below(&mut self, name: &str, work: impl FnOnce(&mut Self)) {
        let length = self.place.len();
        if length > 0 && name != "[]" {
            self.place.push('.');
        }
        self.place.push_str(name);
        self.depth += 1;
        work(self);
        self.depth -= 1;
        self.place.truncate(length);
    }

    pub(super) fn value(&mut self, old: &Value, new: &Value) {
        if self.depth > DEPTH_MAX {
            return;
        }
        match (old, new) {
            (Value::Object(old), Value::Object(new)) => self.object(old, new),
            (Value::Array(old), Value::Array(new)) => self.list(old, new),
            (Value::String(a), Value::String(b)) => {
                if a != b && self.comparator.neutral(a) != self.comparator.neutral(b) {
                    self.note("value-changed", old.clone(), new.clone());
                }
            }
            (Value::Null, Value::Null) => {}
            (_, Value::Null) => self.note("became-null", short(old), Value::Null),
            (Value::Null, _) => self.note("was-null", Value::Null, short(new)),
            (Value::Bool(a), Value::Bool(b)) => {
                if a != b {
                    self.note("value-changed", old.clone(), new.clone());
                }
            }
            (Value::Number(a), Value::Number(b)) => {
                if a.is_f64() != b.is_f64() {
                    self.note("type-changed", old.clone(), new.clone());
                } else if a != b {
                    self.note("value-changed", old.clone(), new.clone());
                }
            }
            _ => self.note("type-changed", short(old), short(new)),
        }
    }

    fn object(&mut self, old: &Map<String, Value>, new: &Map<String, Value>) {
        for (key, was) in old {
            match new.get(key) {
                Some(is) => self.below(key, |walk| walk.value(was, is)),
                None => self.below(key, |walk| walk.note("field-removed", short(was), Value::Null)),
            }
        }
        for (key, is) in new {
            if !old.contains_key(key) {
                self.below(key, |walk| walk.note("field-added", Value::Null, short(is)));
            }
        }
    }

    fn list(&mut self, old: &[Value], new: &[Value]) {
        let identity = self
            .comparator
            .identities()
            .iter()
            .find_map(|key| Some((key, self.by_identity(old, key)?, self.by_identity(new, key)?)));
        match identity {
            Some((key, was, is)) if !(old.is_empty() && new.is_empty()) => {
                self.known_elements(key, (old, &was), (new, &is));
            }
            _ if old.iter().chain(new).all(|item| !item.is_object() && !item.is_array()) => {
                self.scalars(old, new);
            }
            _ => self.anonymous(old, new),
        }
    }

    /// Elements that have something to tell them apart.
    fn known_elements(
        &mut self,
        key: &str,
        (old, was): (&[Value], &BTreeMap<String, usize>),
        (new, is): (&[Value], &BTreeMap<String, usize>),
    ) {
        for (id, position) in was {
            match is.get(id) {
                Some(other) => self.below("[]", |walk| walk.value(&old[*position], &new[*other])),
                None => self.below("[]", |walk| {
                    walk.note("element-removed", format!("{key} {id}").into(), Value::Null);
                }),
            }
        }
        for id in is.keys().filter(|id| !was.contains_key(*id)) {
            self.below("[]", |walk| walk.note("element-added", Value::Null, format!("{key} {id}").into()));
        }
        let order =
            |list: &[Value], own: &BTreeMap<String, usize>, other: &BTreeMap<String, usize>| -> Vec<String> {
                let mut common: Vec<(usize, &String)> =
                    own.iter().filter(|(id, _)| other.contains_key(*id)).map(|(id, at)| (*at, id)).collect();
                common.sort_unstable();
                debug_assert!(common.len() <= list.len());
                common.into_iter().map(|(_, id)| id.clone()).collect()
            };
        self.order(order(old, was, is), order(new, is, was));
    }

    fn scalars(&mut self, old: &[Value], new: &[Value]) {
        let texts = |list: &[Value]| -> Vec<String> {
            list.iter()
                .map(|item| match item {
                    Value::String(text) => self.comparator.neutral(text).into_owned(),
                    other => other.to_string(),
                })
                .collect()
        };
        let (was, is) = (texts(old), texts(new));
        if was == is {
            return;
        }
        let (a, b): (BTreeSet<&String>, BTreeSet<&String>) = (was.iter().collect(), is.iter().collect());
        for gone in a.difference(&b) {
            self.below("[]", |walk| walk.note("element-removed", gone.as_str().into(), Value::Null));
        }
        for added in b.difference(&a) {
            self.below("[]", |walk| walk.note("element-added", Value::Null, added.as_str().into()));
        }
        let common = |list: &[String], other: &BTreeSet<&String>| -> Vec<String> {
            list.iter().filter(|item| other.contains(item)).cloned().collect()
        };
        self.order(common(&was, &b), common(&is, &a));
    }

    /// Elements that nothing tells apart but their place.
    fn anonymous(&mut self, old: &[Value], new: &[Value]) {
        let texts = |list: &[Value]| list.iter().map(canonical::text).collect::<Vec<_>>();
        if old.len() == new.len() {
            let (was, is) = (texts(old), texts(new));
            let sorted = |list: &[String]| {
                let mut list = list.to_vec();
                list.sort();
                list
            };
            if was != is && sorted(&was) == sorted(&is) {
                return self.order(was, is);
            }
        }
        for (was, is) in old.iter().zip(new) {
            self.below("[]", |walk| walk.value(was, is));
        }
        for gone in old.iter().skip(new.len()) {
            self.below("[]", |walk| walk.note("place-removed", short(gone), Value::Null));
        }
        for added in new.iter().skip(old.len()) {
            self.below("[]", |walk| walk.note("place-added", Value::Null, short(added)));
        }
    }

    /// Positions by the text of `key`; `None` where an element has none, or two have the same.
    fn by_identity(&self, list: &[Value], key: &str) -> Option<BTreeMap<String, usize>> {
        let mut found = BTreeMap::new();
        for (position, item) in list.iter().enumerate() {
            let text = match item.as_object()?.get(key)? {
                Value::String(text) => self.comparator.neutral(text).into_owned(),
                Value::Number(number) => number.to_string(),
                _ => return None,
            };
            if found.insert(text, position).is_some() {
                return None;
            }
        }
        Some(found)
    }

    fn order(&mut self, old: Vec<String>, new: Vec<String>) {
        if old != new {
            let first = |list: Vec<String>| list.into_iter().take(5).collect::<Vec<_>>();
            self.note("order-changed", first(old).into(), first(new).into());
        }
    }
}

/// A value for a report.
fn short(value: &Value) -> Value {
    const CHARS_MAX: usize = 200;
    match value {
        Value::Object(_) | Value::Array(_) => {
            let text = canonical::text(value);
            if text.chars().count() > CHARS_MAX {
                return Value::String(text.chars().take(CHARS_MAX).chain("…".chars()).collect());
            }
            value.clone()
        }
        other => other.clone(),
    }
}
