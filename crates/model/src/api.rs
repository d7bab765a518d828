//! What APIs may advertise while old and new replicas of them are there: the policy for it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::ServiceName;

/// How the highest microversion of an API may change in a run. A client that chooses by it and meets an
/// older replica with its next request is refused (406).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Advertising {
    /// Old and new replicas serve side by side, and discovery answers with the one or the other.
    #[default]
    MayFlap,
    /// Old and new replicas never serve at the same time: it changes once, in one exchange.
    OnlyGrows,
}

/// `[api]` of the policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiPolicy {
    /// For every API whose highest microversion differs between the two releases of a run.
    #[serde(skip_serializing_if = "is_default")]
    pub advertised: Advertising,
    /// The same for single services, where it differs; what is named here is kept whether the highest
    /// microversion differs or not.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<ServiceName, Advertising>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_default(advertising: &Advertising) -> bool {
    *advertising == Advertising::default()
}

impl ApiPolicy {
    /// Whether old and new replicas of a service's API must never serve at the same time; `differs` says
    /// whether its highest microversion is another one in the new release.
    #[must_use]
    pub fn only_grows(&self, service: &ServiceName, differs: bool) -> bool {
        match self.services.get(service) {
            Some(named) => *named == Advertising::OnlyGrows,
            None => differs && self.advertised == Advertising::OnlyGrows,
        }
    }
}
