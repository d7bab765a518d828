//! The shapes of documents that live endpoints publish: limits, import methods, stores.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Found, Pair};
use crate::document::{OriginKind, Service};

pub(crate) fn compare(pair: &mut Pair<'_>, a: &Service, b: &Service) {
    if pair.kinds != (OriginKind::Live, OriginKind::Live) {
        return;
    }
    for name in a.published.keys().chain(b.published.keys()).collect::<BTreeSet<_>>() {
        match (a.published.get(name), b.published.get(name)) {
            (Some(old), Some(new)) => shapes(pair, name, old, new, ""),
            (Some(_), None) => pair.add(Found::about("published-removed", name)),
            (None, _) => pair.add(Found::about("published-added", name)),
        }
    }
}

/// Compares what [`crate::canonical::shape`] made.
fn shapes(pair: &mut Pair<'_>, name: &str, old: &Value, new: &Value, at: &str) {
    let about = |rule: &str, at: &str| Found::about(rule, name).location(at);
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                let place = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => shapes(pair, name, a, b, &place),
                    (Some(_), None) => pair.add(about("published-removed", &place)),
                    (None, _) => pair.add(about("published-added", &place)),
                }
            }
        }
        // A list that is empty on one side tells nothing of its elements.
        (Value::Array(a), Value::Array(b)) => {
            if let ([a], [b]) = (a.as_slice(), b.as_slice()) {
                shapes(pair, name, a, b, &format!("{at}[]"));
            }
        }
        (Value::String(null), _) | (_, Value::String(null)) if null == "null" => {}
        (old, new) if old != new => pair.add(about("published-changed", at).values(old.clone(), new.clone())),
        _ => {}
    }
}
