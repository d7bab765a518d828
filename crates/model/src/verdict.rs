//! The measured verdict of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::gate::GateSeen;
use crate::name::{DaemonId, HostName, PackageVersion, PlanId, RunId, Series, ServiceName, StepId};
use crate::run::RunStatus;

/// The level that a run reached, in the words of OpenStack's former governance tags
/// (`assert:supports-…-upgrade`); a later level includes all earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// The upgrade did not end with everything on the target.
    None,
    /// Everything runs the target; resources are there as before.
    Upgrade,
    /// And controlled resources stayed reachable throughout.
    Accessible,
    /// And old and new ran side by side, replaced piece by piece.
    Rolling,
    /// And no request failed that otherwise would not, not even intermittently.
    ZeroDowntime,
    /// And no statistically significant latency outliers against the run's own baseline.
    ZeroImpact,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Upgrade => "upgrade",
            Self::Accessible => "accessible",
            Self::Rolling => "rolling",
            Self::ZeroDowntime => "zero-downtime",
            Self::ZeroImpact => "zero-impact",
        })
    }
}

/// The verdict of one run; `verdict.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Format version of this document; 1.
    pub format: u32,
    /// The run.
    pub run: RunId,
    /// Its plan.
    pub plan: PlanId,
    /// How the run ended, or where it stands.
    pub status: RunStatus,
    /// The series that the cloud came from.
    pub from: Series,
    /// The series that it went to.
    pub to: Series,
    /// Whether the cloud was put back: the verdict is then of the run that went forward and of
    /// the one that took it back, as one.
    #[serde(default)]
    pub rolled_back: bool,
    /// The level of the whole: the lowest of all services and of the instances.
    pub level: Level,
    /// Why the level is not a higher one, a sentence per cause; empty at the highest.
    pub reasons: Vec<String>,
    /// When the first step began.
    pub started_at: Timestamp,
    /// Seconds from the first step that changes anything to the end of the last step of the
    /// roll (baseline and soak excluded).
    pub duration_s: f64,
    /// Per service: what the synthetic user saw.
    pub requests: BTreeMap<ServiceName, ServiceRequests>,
    /// Requests in all.
    pub requests_total: u64,
    /// Failed requests in all.
    pub requests_failed: u64,
    /// Per target of the data plane, such as `ping web`: how reachable it was.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reach: BTreeMap<String, Reached>,
    /// Per daemon: the version that its process ran at the end; `None` where it was not seen.
    pub versions_observed: BTreeMap<DaemonId, Option<PackageVersion>>,
    /// Per service with microversions: the highest that it advertised through the load balancer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub advertised: BTreeMap<ServiceName, Advertised>,
    /// Whether new code was seen to answer as old code does, before users met it.
    #[serde(default)]
    pub api_contract: ApiContract,
    /// What the last attempt at each client gate saw, in the order of the attempts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<GateSeen>,
    /// Of a patch: whether the vulnerability is closed, by what was seen to run before and after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure: Option<ExposureProof>,
    /// The statistical test behind zero-impact, in a sentence.
    pub test: String,
}

/// Whether a vulnerability was closed, by what was seen to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExposureProof {
    /// The vulnerability.
    pub vulnerability: String,
    /// What was exposed to it when the run began.
    pub before: Vec<ExposedVersion>,
    /// What is exposed to it now.
    pub after: Vec<ExposedVersion>,
    /// What could not be seen or judged now, one line each.
    pub unproved: Vec<String>,
    /// What closes the way to it, where the versions stayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mitigated: Option<MitigatedBy>,
    /// What follows of that.
    pub result: ExposureResult,
}

/// A mitigation that was seen to be in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MitigatedBy {
    /// Its name in the policy.
    pub name: String,
    /// The hosts on which its check said so, after the daemons there had restarted where they had to.
    pub checked: BTreeSet<HostName>,
}

/// One version that is exposed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExposedVersion {
    /// The distribution.
    pub distribution: String,
    /// The version.
    pub version: PackageVersion,
    /// The daemons that were seen to run it.
    pub daemons: BTreeSet<DaemonId>,
}

/// What an exposure that was computed again says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExposureResult {
    /// Nothing that runs is exposed, and everything was seen and judged.
    Closed,
    /// Exposed versions run, all of them on hosts on which a mitigation was seen to be in force.
    Mitigated,
    /// Something is exposed.
    Remains,
    /// Nothing is known to be exposed, and something was not seen or could not be judged.
    NotProved,
}

impl fmt::Display for ExposureResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Closed => "closed",
            Self::Mitigated => "mitigated",
            Self::Remains => "remains",
            Self::NotProved => "not proved",
        })
    }
}

impl ExposureProof {
    /// Draws the conclusion.
    #[must_use]
    pub fn new(
        vulnerability: String,
        before: Vec<ExposedVersion>,
        after: Vec<ExposedVersion>,
        unproved: Vec<String>,
    ) -> Self {
        let result = if !after.is_empty() {
            ExposureResult::Remains
        } else if !unproved.is_empty() {
            ExposureResult::NotProved
        } else {
            ExposureResult::Closed
        };
        Self { vulnerability, before, after, unproved, mitigated: None, result }
    }

    /// Takes into account on which hosts a mitigation was seen to be in force. The versions are as vulnerable
    /// as before, so that it never makes anything closed.
    #[must_use]
    pub fn mitigated(mut self, by: MitigatedBy) -> Self {
        self.mitigated = Some(by);
        if self.result == ExposureResult::Remains && self.open().next().is_none() {
            self.result = match self.unproved.is_empty() {
                true => ExposureResult::Mitigated,
                false => ExposureResult::NotProved,
            };
        }
        self
    }

    /// The daemons that are exposed now, and not on a host on which a mitigation was seen to be in force.
    pub fn open(&self) -> impl Iterator<Item = &DaemonId> {
        let is_checked =
            |host: &HostName| self.mitigated.as_ref().is_some_and(|by| by.checked.contains(host));
        self.after.iter().flat_map(|exposed| &exposed.daemons).filter(move |daemon| !is_checked(&daemon.host))
    }
}

impl Verdict {
    /// Takes the proof of a patch into the verdict: one that does not close what it was for has failed,
    /// however smoothly it went.
    #[must_use]
    pub fn with_exposure(mut self, proof: ExposureProof) -> Self {
        let name = &proof.vulnerability;
        let why = match proof.result {
            ExposureResult::Closed | ExposureResult::Mitigated => None,
            ExposureResult::Remains => {
                let daemons = proof.open().collect::<BTreeSet<_>>().len();
                Some(format!("{name} is not closed: {daemons} daemons are exposed to it"))
            }
            ExposureResult::NotProved => Some(format!(
                "that {name} is closed is not proved: {} things were not seen or not judged",
                proof.unproved.len()
            )),
        };
        if let Some(why) = why {
            self.level = Level::None;
            self.reasons.insert(0, why);
        }
        self.exposure = Some(proof);
        self
    }
}

/// How reachable something of the data plane was while the run worked, seen from Volutus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// Attempts.
    pub sent: u64,
    /// Of them without an answer.
    pub lost: u64,
    /// The longest time between two answers, in milliseconds; without any loss it is about the
    /// time between two attempts.
    pub longest_gap_ms: f64,
    /// The steps that ran in that time.
    pub gap_steps: Vec<StepId>,
}

/// What a service advertised as its highest microversion while the run worked. A client that chooses
/// by it and meets an older replica with its next request is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advertised {
    /// At the beginning.
    pub first: String,
    /// At the end.
    pub last: String,
    /// How often it was asked.
    pub asked: u64,
    /// How often the answer was lower than the one before.
    pub fell: u64,
    /// The steps that ran then.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub fell_during: BTreeSet<StepId>,
}

/// What was seen of the API contracts of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiContract {
    /// Whether they held.
    pub result: ContractResult,
    /// Operations of which at least one request was compared.
    pub operations_compared: u64,
    /// Requests that old and new code answered both.
    pub requests_compared: u64,
    /// Requests besides of chains that made, changed and deleted throw-away objects; 0 in verdicts of
    /// versions that had none.
    #[serde(default)]
    pub writes_compared: u64,
    /// Differences, by class.
    pub differences: BTreeMap<String, u64>,
    /// Services of the run whose answers were not compared.
    pub not_measured: Vec<ServiceName>,
    /// The same asked again of what serves users at the end; `None` in verdicts of versions that did
    /// not do so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<ContractAfter>,
}

/// What came of asking again, with new code serving users, what the old code was asked before them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractAfter {
    /// Operations of which at least one request was compared.
    pub operations_compared: u64,
    /// Requests whose answer now was compared with the old code's.
    pub requests_compared: u64,
    /// Differences that were not seen before users met the new code, by class.
    pub differences: BTreeMap<String, u64>,
    /// Differences that were seen before already, or are waived.
    pub known: u64,
    /// Requests that were not compared, because what they are about is no longer there.
    pub gone: u64,
    /// Services that were not asked again, or not everything, with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub not_measured: BTreeMap<ServiceName, String>,
}

/// Whether API contracts held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContractResult {
    /// Every service's answers were compared, and no difference broke what clients rely on.
    Held,
    /// A difference did.
    Broken,
    /// The answers of some service were not compared, and those of the others held.
    #[default]
    NotMeasured,
}

impl fmt::Display for ContractResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Held => "held",
            Self::Broken => "broken",
            Self::NotMeasured => "not measured",
        })
    }
}

/// What the synthetic user saw of one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceRequests {
    /// The service's own level.
    pub level: Level,
    /// Requests while the run worked, its soak included.
    pub total: u64,
    /// Of them failed.
    pub failed: u64,
    /// Median latency in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile in milliseconds.
    pub p99_ms: f64,
    /// 99th percentile of the baseline in milliseconds; `None` without a baseline.
    pub baseline_p99_ms: Option<f64>,
    /// Requests of the baseline.
    pub baseline_total: u64,
    /// The longest time between two successful answers, in milliseconds.
    pub max_gap_ms: f64,
    /// The test's p-value for "latencies are as in the baseline"; `None` where not computed.
    pub p_value: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exposed() -> Vec<ExposedVersion> {
        vec![ExposedVersion {
            distribution: "keystone".to_owned(),
            version: PackageVersion::new("28.0.1"),
            daemons: BTreeSet::from(["keystone-api@ctl1".parse().expect("a daemon")]),
        }]
    }

    #[test]
    fn closed_is_what_was_seen_to_be_closed() {
        let result =
            |after, unproved| ExposureProof::new("CVE-1".to_owned(), exposed(), after, unproved).result;
        assert_eq!(result(Vec::new(), Vec::new()), ExposureResult::Closed);
        assert_eq!(result(Vec::new(), vec!["ctl2 does not answer".to_owned()]), ExposureResult::NotProved);
        assert_eq!(result(exposed(), Vec::new()), ExposureResult::Remains);
    }

    #[test]
    fn mitigated_is_where_the_check_said_so_and_nowhere_else() {
        let proof = |after, unproved: &[&str], hosts: &[&str]| {
            let unproved = unproved.iter().map(ToString::to_string).collect();
            let checked = hosts.iter().map(|host| host.parse().expect("a host")).collect();
            let proof = ExposureProof::new("CVE-1".to_owned(), exposed(), after, unproved);
            proof.mitigated(MitigatedBy { name: "closed".to_owned(), checked })
        };
        assert_eq!(proof(exposed(), &[], &["ctl1", "ctl2"]).result, ExposureResult::Mitigated);
        let elsewhere = proof(exposed(), &[], &["ctl2"]);
        assert_eq!((elsewhere.result, elsewhere.open().count()), (ExposureResult::Remains, 1));
        assert_eq!(proof(exposed(), &["ctl2 is silent"], &["ctl1"]).result, ExposureResult::NotProved);
        // What a mitigation was not needed for is not its doing.
        assert_eq!(proof(Vec::new(), &[], &["ctl1"]).result, ExposureResult::Closed);
    }

    #[test]
    fn a_patch_that_closes_nothing_has_failed() {
        let verdict: Verdict = serde_json::from_value(serde_json::json!({
            "format": 1, "run": "run-1", "plan": "plan-1", "status": "succeeded", "from": "2025.2",
            "to": "2025.2", "level": "zero-impact", "reasons": [], "started_at": "2026-11-24T01:02:03Z",
            "duration_s": 30.0, "requests": {}, "requests_total": 100, "requests_failed": 0,
            "versions_observed": {}, "test": ""
        }))
        .expect("a verdict from before there were proofs can be read");
        let proof = |after| ExposureProof::new("CVE-1".to_owned(), exposed(), after, Vec::new());
        let closed = verdict.clone().with_exposure(proof(Vec::new()));
        assert_eq!((closed.level, closed.reasons.len()), (Level::ZeroImpact, 0));
        let before = verdict.clone();
        let remains = verdict.with_exposure(proof(exposed()));
        assert_eq!((remains.level, remains.reasons.len()), (Level::None, 1));
        let by = MitigatedBy {
            name: "closed".to_owned(),
            checked: BTreeSet::from(["ctl1".parse().expect("a host")]),
        };
        let mitigated = before.with_exposure(proof(exposed()).mitigated(by));
        assert_eq!((mitigated.level, mitigated.reasons.len()), (Level::ZeroImpact, 0));
        let text = serde_json::to_string(&remains).expect("a verdict has only text keys");
        assert!(text.contains(r#""result":"remains""#), "{text}");
    }
}
