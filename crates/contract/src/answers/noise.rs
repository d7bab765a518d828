//! What varies by itself: learnt from two answers of the old code to the same request.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Asked, Comparator, Raw, Recorded};

/// In what way something varies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Way {
    /// The status: the whole operation cannot be compared.
    Status,
    /// A value, its type or its being null; not whether it is there.
    Value,
    /// Whether a field, a header, or an element of a list by its place is there.
    Presence,
    /// Whether an element is there that something tells apart from the others: those that are there
    /// every time do not vary for that.
    Element,
    /// The order of a list.
    Order,
}

/// What was learnt, by service and operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noise {
    learnt: BTreeMap<String, BTreeSet<(Way, String)>>,
}

impl Noise {
    /// Learns from two answers of the old code to the same request. More pairs may be learnt from.
    pub fn learn(&mut self, comparator: &Comparator, asked: &Asked, first: &Recorded, second: &Recorded) {
        let raw = comparator.raw(first, second);
        if !raw.is_empty() {
            let own = self.learnt.entry(key(asked)).or_default();
            own.extend(raw.into_iter().map(|raw| (way(raw.rule), raw.location)));
        }
    }

    /// Places that were learnt to vary.
    #[must_use]
    pub fn places(&self) -> usize {
        self.learnt.values().map(BTreeSet::len).sum()
    }

    /// Whether a difference may be by itself.
    pub(super) fn covers(&self, asked: &Asked, raw: &Raw) -> bool {
        let Some(own) = self.learnt.get(&key(asked)) else { return false };
        own.iter().any(|(kind, place)| match kind {
            Way::Status => true,
            // What is not always there may also be another one when it is.
            Way::Presence => {
                let inside = raw.location.strip_prefix(place.as_str());
                inside.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            }
            same => *same == way(raw.rule) && *place == raw.location,
        })
    }
}

/// Microversions of one operation are learnt together: what varies at one varies at another.
fn key(asked: &Asked) -> String {
    format!("{} {}", asked.service, asked.operation)
}

fn way(rule: &str) -> Way {
    match rule {
        "success-became-error"
        | "error-became-success"
        | "server-error-mended"
        | "server-error"
        | "status-changed"
        | "refusal-changed" => Way::Status,
        "field-removed" | "field-added" | "place-removed" | "place-added" | "header-missing"
        | "header-added" | "body-kind-changed" => Way::Presence,
        "element-removed" | "element-added" => Way::Element,
        "order-changed" => Way::Order,
        _ => Way::Value,
    }
}
