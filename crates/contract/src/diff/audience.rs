//! Which users may do an operation, by the policies that name it.

use std::collections::{BTreeMap, BTreeSet};

use super::Audience;
use crate::document::{Operation, Policy, Service};

/// Audiences by operation, in the form of [`key`].
pub(crate) struct Audiences(BTreeMap<String, BTreeSet<Audience>>);

impl Audiences {
    pub(crate) fn of(service: &Service) -> Self {
        let mut by_operation: BTreeMap<String, BTreeSet<Audience>> = BTreeMap::new();
        for policy in service.policies.values() {
            for operation in &policy.operations {
                if let Some((method, path)) = operation.split_once(' ') {
                    by_operation.entry(documented(method, path)).or_default().extend(allowed(policy));
                }
            }
        }
        Self(by_operation)
    }

    /// Who may do it; everybody where no policy names it.
    pub(crate) fn may(&self, operation: &Operation) -> BTreeSet<Audience> {
        let known = self.0.get(&key(operation)).filter(|audience| !audience.is_empty());
        known.cloned().unwrap_or_else(|| Audience::USERS.into())
    }
}

/// Whom a policy allows; everybody where that is not known.
pub(crate) fn allowed(policy: &Policy) -> BTreeSet<Audience> {
    let Some(names) = &policy.allowed else { return Audience::USERS.into() };
    Audience::USERS.into_iter().filter(|audience| names.iter().any(|name| name == audience.name())).collect()
}

/// An operation's name without the names of its parameters, which no client sees.
pub(crate) fn key(operation: &Operation) -> String {
    let action = operation.action.as_ref().map(|action| format!(" ({action})")).unwrap_or_default();
    format!("{} {}{action}", operation.method, bare(&operation.path))
}

/// The same of an operation in a policy's documentation: `/v3/users/{user_id}`,
/// `/servers/{server_id}/action (os-start)`, `/servers?all_tenants`.
fn documented(method: &str, path: &str) -> String {
    let (path, action) = match path.split_once(" (") {
        Some((path, action)) => (path, format!(" ({}", action.trim())),
        None => (path, String::new()),
    };
    let path = path.split(['?', ' ']).next().unwrap_or(path);
    format!("{method} {}{action}", bare(path))
}

/// A path without versions and without names of parameters.
fn bare(path: &str) -> String {
    let mut out = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let version = out.is_empty()
            && part
                .strip_prefix('v')
                .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit() || c == '.'));
        if !version {
            out.push('/');
            out.push_str(if part.starts_with('{') { "{}" } else { part });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_and_routes_meet() {
        let operation = |method: &str, path: &str, action: Option<&str>| Operation {
            method: method.to_owned(),
            path: path.to_owned(),
            action: action.map(str::to_owned),
            ..Operation::default()
        };
        assert_eq!(documented("GET", "/v3/users/{user_id}"), key(&operation("GET", "/v3/users/{id}", None)));
        assert_eq!(
            documented("GET", "/v2/images/{image_id}"),
            key(&operation("GET", "/images/{image_id}", None))
        );
        assert_eq!(
            documented("POST", "/servers/{server_id}/action (os-start)"),
            key(&operation("POST", "/servers/{id}/action", Some("os-start")))
        );
        assert_eq!(documented("GET", "/servers?all_tenants=1"), key(&operation("GET", "/servers", None)));
    }
}
