//! Proof, before users meet new code, that it answers as the old code does: the policy for it and
//! what came of it.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::name::{DaemonId, ServiceName};

/// What a broken API contract does to a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// The run halts before users meet it.
    Block,
    /// It is told, and the run goes on.
    Warn,
    /// Nothing is compared, or differences of that class are not told.
    #[default]
    Off,
}

/// How API contracts are proved in a run: `[contract]` of the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContractPolicy {
    /// What follows where an answer breaks the contract, or where answers could not be compared.
    #[serde(skip_serializing_if = "is_default")]
    pub gate: Gate,
    /// The same for single services, where it differs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<ServiceName, Gate>,
    /// What follows where the guideline does not settle a difference.
    #[serde(skip_serializing_if = "ReviewGate::is_default")]
    pub review: ReviewGate,
    /// The log of the load balancer, by its absolute path where Volutus runs: what the site's own
    /// clients ask is asked as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic: Option<String>,
    /// Whether writing requests are compared as well, about throw-away objects of the synthetic user's.
    #[serde(skip_serializing_if = "is_true")]
    pub writes: bool,
    /// Differences that somebody has reviewed.
    #[serde(rename = "waiver", skip_serializing_if = "Vec::is_empty")]
    pub waivers: Vec<Waiver>,
}

impl Default for ContractPolicy {
    fn default() -> Self {
        Self {
            gate: Gate::default(),
            services: BTreeMap::new(),
            review: ReviewGate::default(),
            traffic: None,
            writes: true,
            waivers: Vec::new(),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_true(wanted: &bool) -> bool {
    *wanted
}

/// [`Gate`] with another default: what is to be reviewed is told and halts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReviewGate(pub Gate);

impl Default for ReviewGate {
    fn default() -> Self {
        Self(Gate::Warn)
    }
}

impl ReviewGate {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_default(gate: &Gate) -> bool {
    *gate == Gate::default()
}

/// A reviewed difference, which does not count until its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// The difference's id, as the run told it.
    pub difference: String,
    /// Why it does not count; not empty.
    pub reason: String,
    /// The last day on which it is waived.
    pub expires: Date,
}

impl ContractPolicy {
    /// What a broken contract of a service does.
    #[must_use]
    pub fn gate_of(&self, service: &ServiceName) -> Gate {
        self.services.get(service).copied().unwrap_or(self.gate)
    }
}

/// An API daemon of the new code beside an old one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadow {
    /// The old replica.
    pub daemon: DaemonId,
    /// Its service.
    pub service: ServiceName,
    /// Its unit.
    pub unit: String,
    /// The release directory of the old code.
    pub from: String,
    /// The release directory of the new code.
    pub to: String,
    /// Where the old replica itself answers: `http://ADDRESS:PORT`.
    pub old: String,
    /// Where the new code is to answer, on the same host.
    pub new: String,
    /// A path that shows that it serves, asked with the operator's token.
    pub health: String,
}

/// What came of comparing the answers of one service's old and new code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractSeen {
    /// The service.
    pub service: ServiceName,
    /// Operations of which at least one request was compared.
    pub operations_compared: u64,
    /// Requests that old and new code answered both.
    pub requests_compared: u64,
    /// Requests besides of chains that make, change and delete throw-away objects.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub writes_compared: u64,
    /// Differences that stand, by class: breaking, review, correction, additive.
    pub differences: BTreeMap<String, u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl ContractSeen {
    /// Whether a difference breaks what clients rely on.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.differences.get("breaking").is_some_and(|count| *count > 0)
    }
}

/// What came of asking one service again, with new code serving users, what its old code was asked
/// before them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedAgain {
    /// The service.
    pub service: ServiceName,
    /// Operations of which at least one request was compared.
    pub operations_compared: u64,
    /// Requests whose answer now was compared with the old code's.
    pub requests_compared: u64,
    /// Differences that stand and were not seen before users met the new code, by class.
    pub differences: BTreeMap<String, u64>,
    /// Differences that were seen before already, or are waived.
    pub known: u64,
    /// Requests that were not compared, because what they are about is no longer there.
    pub gone: u64,
    /// Why nothing, or not everything, was compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_compared: Option<String>,
}

impl AskedAgain {
    /// Whether a difference breaks what clients rely on.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.differences.get("breaking").is_some_and(|count| *count > 0)
    }
}
