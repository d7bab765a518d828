//! Policy defaults, by whom they allow.

use std::collections::BTreeSet;

use super::audience::allowed;
use super::{Audience, Found, Pair};
use crate::document::{Policy, Service};
use crate::rules::Class;

pub(crate) fn compare(pair: &mut Pair<'_>, a: &Service, b: &Service) {
    if !pair.installed() || !pair.knows("policies") {
        return;
    }
    for name in a.policies.keys().chain(b.policies.keys()).collect::<BTreeSet<_>>() {
        let operators = |rule: &str| Found::about(rule, name).audience([Audience::Operator]);
        match (a.policies.get(name), b.policies.get(name)) {
            (Some(old), Some(new)) => one(pair, name, old, new),
            (Some(_), None) => pair.add(operators("policy-removed")),
            (None, _) => pair.add(operators("policy-added")),
        }
    }
}

fn one(pair: &mut Pair<'_>, name: &str, old: &Policy, new: &Policy) {
    if old.allowed.is_none() || new.allowed.is_none() {
        if old.check != new.check {
            pair.add(Found::about("policy-unclear", name).values(old.check.as_str(), new.check.as_str()));
        }
        return;
    }
    let (before, after) = (allowed(old), allowed(new));
    let lost: BTreeSet<Audience> = before.difference(&after).copied().collect();
    let won: BTreeSet<Audience> = after.difference(&before).copied().collect();
    let about = |rule: &str, audience: BTreeSet<Audience>| {
        let found = Found::about(rule, name).location(new.operations.join("; "));
        let found = found.values(old.check.as_str(), new.check.as_str()).audience(audience);
        // A rule that guards no operation is a part of others, which are compared themselves.
        if old.operations.is_empty() { found.at_most(Class::Review) } else { found }
    };
    if !lost.is_empty() {
        pair.add(about("policy-tightened", lost.clone()));
    }
    if !won.is_empty() {
        pair.add(about("policy-loosened", won.clone()));
    }
    if lost.is_empty() && won.is_empty() && old.check != new.check {
        pair.add(about("policy-reworded", before));
    }
    if old.scopes != new.scopes {
        // No scopes is every scope.
        let gone: Vec<String> = if new.scopes.is_empty() {
            Vec::new()
        } else if old.scopes.is_empty() {
            ["domain", "project", "system"]
                .map(str::to_owned)
                .into_iter()
                .filter(|s| !new.scopes.contains(s))
                .collect()
        } else {
            old.scopes.iter().filter(|scope| !new.scopes.contains(scope)).cloned().collect()
        };
        let rule = if gone.is_empty() { "policy-scope-loosened" } else { "policy-scope-tightened" };
        pair.add(Found::about(rule, name).values(gone, new.scopes.clone()));
    }
}
