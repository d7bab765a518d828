//! What the operator wants kept while Volutus works.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::api::ApiPolicy;
use crate::contract::{ContractPolicy, Gate};
use crate::gate::ClientGate;
use crate::mitigation::Mitigation;
use crate::plan::Phase;

/// The limits of a run. Defaults suit a cloud of a few controllers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Replicas of every API that serve at any moment, at the least. A backend with no more
    /// replicas than this cannot be rolled without downtime.
    pub serving_replicas_min: u32,
    /// Whether an API without enough replicas may be upgraded all the same, with downtime.
    pub accept_downtime: bool,
    /// Steps that run at the same time, at the most, over the whole plan.
    pub parallel_steps_max: u32,
    /// Hosts that are staged at the same time.
    pub stage_parallel_max: u32,
    /// Compute daemons that are replaced at the same time, after the canary.
    pub compute_wave: u32,
    /// Seconds of ordinary work that the prober watches before anything is touched: the
    /// baseline that latencies are compared with.
    pub baseline_s: u32,
    /// Seconds that the cloud is watched after the last step of the roll.
    pub soak_s: u32,
    /// Seconds that a server may take to finish its sessions once it is drained.
    pub drain_timeout_s: u32,
    /// Seconds that a daemon may take to prove itself after its start.
    pub prove_timeout_s: u32,
    /// Failed requests of the prober, all services together, from which on the run halts.
    /// 0 means that the first one does.
    pub failed_requests_max: u32,
    /// How often an action that failed transiently is tried in all.
    pub attempts_max: u32,
    /// What follows when a step fails for good, or when the synthetic user sees more failures
    /// than `failed_requests_max`.
    #[serde(skip_serializing_if = "is_default")]
    pub on_failure: OnFailure,
    /// The same for single phases, where it differs: `[on_failure_in] canary = "roll-back"`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub on_failure_in: BTreeMap<Phase, OnFailure>,
    /// How much slower than in the baseline the cloud may answer, in percent of the baseline's
    /// latencies, before online data migrations wait between two batches. 0: they never wait.
    #[serde(skip_serializing_if = "is_usual_hold")]
    pub migrations_hold_pct: u32,
    /// Seconds for which the rolled cloud is watched, without a breach, before it is finalized
    /// without asking. Absent: only an operator finalizes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finalize_after_s: Option<u32>,
    /// The table `[reboot]` of the same file, which [`crate::fleet::RebootPolicy`] reads.
    #[serde(skip_serializing)]
    pub reboot: ReadElsewhere,
    /// How many snapshots of the cloud's databases are kept, the newest ones. That of the run under
    /// way stays in any case, and the newest verified copy of every service.
    #[serde(skip_serializing_if = "is_usual_number_of_snapshots")]
    pub snapshots_keep: u32,
    /// How it is proved that new code answers as old code does.
    #[serde(skip_serializing_if = "is_usual_contract")]
    pub contract: ContractPolicy,
    /// What APIs may advertise while old and new replicas of them are there.
    #[serde(skip_serializing_if = "is_usual_api")]
    pub api: ApiPolicy,
    /// What differs while a vulnerability is closed; see [`Policy::for_patch`].
    #[serde(skip_serializing_if = "is_usual_patch")]
    pub patch: PatchPolicy,
    /// The longest time between two answers of an address under `[[reach]]` of the cloud
    /// description, in milliseconds, with which the cloud still counts as accessible.
    #[serde(skip_serializing_if = "is_usual_gap")]
    pub reach_gap_max_ms: u32,
    /// Commands that judge the cloud at certain moments of an upgrade, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<ClientGate>,
}

/// What differs from the rest of the policy while a vulnerability is closed: every minute of it is one in
/// which the cloud is exposed, and only daemons of one kind of code are touched, within their series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PatchPolicy {
    /// In the place of [`Policy::baseline_s`].
    pub baseline_s: u32,
    /// In the place of [`Policy::soak_s`].
    pub soak_s: u32,
    /// In the place of [`Policy::drain_timeout_s`]; that one where absent.
    pub drain_timeout_s: Option<u32>,
    /// Whether a patch may run outside of all maintenance windows, and in freezes.
    pub outside_windows: bool,
    /// What closes the way to vulnerabilities without a fixed release.
    #[serde(rename = "mitigation", skip_serializing_if = "Vec::is_empty")]
    pub mitigations: Vec<Mitigation>,
}

impl Default for PatchPolicy {
    fn default() -> Self {
        // Ten seconds have some two dozen requests per service in them: enough to see that all of them
        // succeed, too few for a judgement on latencies, which is what is given up for the time.
        Self {
            baseline_s: 10,
            soak_s: 10,
            drain_timeout_s: None,
            outside_windows: false,
            mitigations: Vec::new(),
        }
    }
}

fn is_usual_patch(patch: &PatchPolicy) -> bool {
    *patch == PatchPolicy::default()
}

/// Longer than a live migration should cost an instance, shorter than most clients' patience.
const REACH_GAP_MAX_MS: u32 = 5_000;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_usual_gap(gap_ms: &u32) -> bool {
    *gap_ms == REACH_GAP_MAX_MS
}

/// The last upgrade's, and those of two before it, so that a damage that went unnoticed for a month
/// or two can be looked into.
const SNAPSHOTS_KEEP: u32 = 3;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_usual_number_of_snapshots(keep: &u32) -> bool {
    *keep == SNAPSHOTS_KEEP
}

/// What follows when a run cannot go on as planned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// No further step starts; a person decides.
    #[default]
    Halt,
    /// The step that failed is tried once more from its last switch on; then as `halt`. A breach
    /// has nothing to be tried again and halts.
    RetryThenHalt,
    /// The run is given up, and everything that it replaced is put back. In a run that is itself
    /// a rollback, and once finalize was allowed, it is as `halt`.
    RollBack,
}

/// Three times as slow is more than noise, and far from what makes clients give up.
const MIGRATIONS_HOLD_PCT: u32 = 300;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_usual_hold(percent: &u32) -> bool {
    *percent == MIGRATIONS_HOLD_PCT
}

fn is_usual_contract(contract: &ContractPolicy) -> bool {
    *contract == ContractPolicy::default()
}

fn is_usual_api(api: &ApiPolicy) -> bool {
    *api == ApiPolicy::default()
}

fn is_default(on_failure: &OnFailure) -> bool {
    *on_failure == OnFailure::default()
}

/// A table of the policy file that another type reads: it may be there, whatever is in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadElsewhere;

impl<'de> Deserialize<'de> for ReadElsewhere {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(input).map(|_| Self)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            serving_replicas_min: 1,
            accept_downtime: false,
            parallel_steps_max: 3,
            stage_parallel_max: 20,
            compute_wave: 3,
            baseline_s: 30,
            soak_s: 20,
            // HAProxy's own time-outs for clients and servers are commonly 60 to 120 s; a
            // request that is still open after this is evidence of a client that does not end.
            drain_timeout_s: 180,
            prove_timeout_s: 180,
            failed_requests_max: 3,
            attempts_max: 3,
            on_failure: OnFailure::Halt,
            on_failure_in: BTreeMap::new(),
            migrations_hold_pct: MIGRATIONS_HOLD_PCT,
            finalize_after_s: None,
            reboot: ReadElsewhere,
            snapshots_keep: SNAPSHOTS_KEEP,
            contract: ContractPolicy::default(),
            api: ApiPolicy::default(),
            patch: PatchPolicy::default(),
            reach_gap_max_ms: REACH_GAP_MAX_MS,
            gates: Vec::new(),
        }
    }
}

impl Policy {
    /// The policy of an operator who wrote none. [`Policy::default`] is what absent keys of plans and journals
    /// mean, some of which were written before there were such keys; here the API contract is a gate.
    #[must_use]
    pub fn of_no_file() -> Self {
        Self {
            contract: ContractPolicy { gate: Gate::Block, ..ContractPolicy::default() },
            ..Self::default()
        }
    }

    /// What follows a failure in a phase.
    #[must_use]
    pub fn on_failure_in(&self, phase: Phase) -> OnFailure {
        self.on_failure_in.get(&phase).copied().unwrap_or(self.on_failure)
    }

    /// The limits of a patch: the same, with what `[patch]` changes. Nothing is finalized by a patch.
    #[must_use]
    pub fn for_patch(&self) -> Self {
        Self {
            baseline_s: self.patch.baseline_s,
            soak_s: self.patch.soak_s,
            drain_timeout_s: self.patch.drain_timeout_s.unwrap_or(self.drain_timeout_s),
            finalize_after_s: None,
            ..self.clone()
        }
    }

    /// Reads a policy file; absent keys are as in [`Policy::of_no_file`].
    ///
    /// # Errors
    /// A message with line and column where the text is not TOML of this shape, or a sentence
    /// where a limit makes no sense.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut policy: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if !says_gate(text) {
            policy.contract.gate = Self::of_no_file().contract.gate;
        }
        if policy.serving_replicas_min == 0 && !policy.accept_downtime {
            return Err("serving_replicas_min = 0 means downtime; set accept_downtime = true as well \
                        if that is meant"
                .to_owned());
        }
        for (name, value) in [
            ("parallel_steps_max", policy.parallel_steps_max),
            ("stage_parallel_max", policy.stage_parallel_max),
            ("compute_wave", policy.compute_wave),
            ("drain_timeout_s", policy.drain_timeout_s),
            ("patch.drain_timeout_s", policy.patch.drain_timeout_s.unwrap_or(1)),
            ("prove_timeout_s", policy.prove_timeout_s),
            ("attempts_max", policy.attempts_max),
            ("snapshots_keep", policy.snapshots_keep),
            ("reach_gap_max_ms", policy.reach_gap_max_ms),
        ] {
            if value == 0 {
                return Err(format!("{name} = 0 would leave nothing; it must be at least 1"));
            }
        }
        if policy.on_failure_in.get(&Phase::Finalize) == Some(&OnFailure::RollBack) {
            return Err("on_failure_in.finalize = \"roll-back\" cannot be kept: finalize takes the way \
                        back"
                .to_owned());
        }
        if let Some(waiver) = policy.contract.waivers.iter().find(|w| w.reason.trim().is_empty()) {
            return Err(format!("the waiver of {} has no reason", waiver.difference));
        }
        if let Some(path) = policy.contract.traffic.as_ref().filter(|path| !path.starts_with('/')) {
            return Err(format!("contract.traffic = \"{path}\" is no absolute path"));
        }
        if let Some(mistake) = policy.gates.iter().find_map(ClientGate::mistake) {
            return Err(mistake);
        }
        if let Some(mistake) = policy.patch.mitigations.iter().find_map(Mitigation::mistake) {
            return Err(mistake);
        }
        let mut named = BTreeSet::new();
        if let Some(twice) =
            policy.patch.mitigations.iter().find(|one| !named.insert((&one.vulnerability, &one.name)))
        {
            return Err(format!("two mitigations of {} are called {}", twice.vulnerability, twice.name));
        }
        let mut places = BTreeSet::new();
        if let Some(gate) = policy.gates.iter().find(|gate| !places.insert(gate.step_id())) {
            return Err(format!("two gates `{}` would run at the moment `{}`", gate.name, gate.when));
        }
        if policy.finalize_after_s == Some(0) {
            return Err("finalize_after_s = 0 would take the way back without a look; leave it out, or \
                        give the time for which the cloud is to be watched"
                .to_owned());
        }
        Ok(policy)
    }
}

/// Whether a policy file has the key `gate` in `[contract]`.
fn says_gate(text: &str) -> bool {
    text.parse::<toml::Table>()
        .is_ok_and(|all| all.get("contract").is_some_and(|own| own.get("gate").is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_is_a_gate_unless_the_file_says_otherwise() {
        assert_eq!(Policy::parse("").unwrap(), Policy::of_no_file());
        for (text, gate) in [
            ("[contract]\nwrites = false", Gate::Block),
            ("[contract]\ngate = \"warn\"", Gate::Warn),
            ("contract = { gate = \"off\" }", Gate::Off),
            ("contract.review = \"block\"", Gate::Block),
        ] {
            assert_eq!(Policy::parse(text).unwrap().contract.gate, gate, "{text}");
        }
        // What a plan of before leaves out was not asked for.
        assert_eq!(serde_json::from_str::<Policy>("{}").unwrap().contract.gate, Gate::Off);
    }

    #[test]
    fn what_follows_a_failure_can_differ_by_phase() {
        let policy = Policy::parse("finalize_after_s = 60\n[on_failure_in]\ncanary = \"roll-back\"").unwrap();
        assert_eq!(policy.on_failure_in(Phase::Canary), OnFailure::RollBack);
        assert_eq!(policy.on_failure_in(Phase::Roll), OnFailure::Halt);
        let policy = Policy::parse("on_failure = \"retry-then-halt\"").unwrap();
        assert_eq!(policy.on_failure_in(Phase::Roll), OnFailure::RetryThenHalt);
    }

    #[test]
    fn a_patch_has_limits_of_its_own() {
        let policy = Policy::parse("soak_s = 600\nserving_replicas_min = 2\n[patch]\nsoak_s = 5").unwrap();
        let patch = policy.for_patch();
        assert_eq!((patch.baseline_s, patch.soak_s, patch.serving_replicas_min), (10, 5, 2));
        assert_eq!((patch.drain_timeout_s, patch.for_patch()), (policy.drain_timeout_s, patch));
    }

    const MITIGATION: &str = r#"
        [[patch.mitigation]]
        vulnerability = "CVE-2026-42999"
        name = "closed"
        method = "restart"
        argv = ["/usr/local/sbin/mitigate", "on"]
        check = ["/usr/local/sbin/mitigate", "is-on"]
    "#;

    #[test]
    fn mitigations_are_read() {
        let policy = Policy::parse(MITIGATION).unwrap();
        let [one] = policy.patch.mitigations.as_slice() else { panic!("{policy:?}") };
        assert_eq!((one.limit_s, one.unchanged_exit, one.undo.len()), (120, 0, 0));
        assert!(one.method.restarts());
        // The stored form can be read again, and so can the example that is shown to those who have none.
        let text = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), policy);
        let shown = crate::mitigation::EXAMPLE.replace("{vulnerability}", "CVE-2026-42999");
        assert_eq!(Policy::parse(&shown).unwrap().patch.mitigations.len(), 1);
    }

    #[test]
    fn mitigations_that_cannot_be_run_are_refused() {
        let refused = |from: &str, to: &str| {
            let text = MITIGATION.replace(from, to);
            assert_ne!(text, MITIGATION);
            Policy::parse(&text).unwrap_err()
        };
        let reboot = refused("\"restart\"", "\"reboot\"");
        assert!(reboot.contains("volutus plan --reboot") && reboot.contains("[reboot.act]"), "{reboot}");
        assert!(refused("\"restart\"", "\"kick\"").contains("restart-without-drain"));
        assert!(refused("[\"/usr/local/sbin/mitigate\", \"on\"]", "[\"mitigate\"]").contains("full path"));
        assert!(refused("[\"/usr/local/sbin/mitigate\", \"is-on\"]", "[]").contains("`check`"));
        assert!(refused("\"on\"", "\"--password=abc\"").contains("secret"));
        assert!(refused("\"closed\"", "\" \"").contains("name"));
        assert!(refused("name =", "limit_s = 0\nname =").contains("limit_s"));
        let twice = Policy::parse(&format!("{MITIGATION}{MITIGATION}")).unwrap_err();
        assert!(twice.contains("two mitigations"), "{twice}");
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        for text in [
            "finalize_after_s = 0",
            "snapshots_keep = 0",
            "[patch]\ndrain_timeout_s = 0",
            "[patch]\nwindows = false",
            "[on_failure_in]\nfinalize = \"roll-back\"",
            "on_failure = \"pray\"",
            "[contract]\ngate = \"perhaps\"",
            "[api]\nadvertised = \"falls\"",
            "[[gates]]\nname = \"g\"\nargv = []\nwhen = \"before\"",
            "[[gates]]\nname = \"g\"\nargv = [\"true\"]\nwhen = \"some-day\"",
            "[[contract.waiver]]\ndifference = \"a\"\nreason = \" \"\nexpires = \"2027-01-31\"",
        ] {
            assert!(Policy::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_service_that_is_named_is_kept_whatever_its_microversions() {
        let policy = Policy::parse(
            "[api]\nadvertised = \"only-grows\"\n[api.services]\nglance = \"only-grows\"\nnova = \"may-flap\"",
        )
        .unwrap();
        let only_grows = |service: &str, differs| policy.api.only_grows(&service.parse().unwrap(), differs);
        assert!(only_grows("glance", false) && !only_grows("nova", true));
        assert!(only_grows("cinder", true) && !only_grows("cinder", false));
        assert!(!Policy::default().api.only_grows(&"nova".parse().unwrap(), true));
    }

    #[test]
    fn writing_is_compared_unless_it_is_forbidden() {
        assert!(Policy::parse("[contract]\ngate = \"block\"").unwrap().contract.writes);
        let off = Policy::parse("[contract]\nwrites = false").unwrap();
        assert!(!off.contract.writes);
        let stored = serde_json::to_string(&off).unwrap();
        assert!(stored.contains("\"writes\":false"), "{stored}");
    }

    #[test]
    fn gates_are_read_and_told_apart() {
        let one = "[[gates]]\nname = \"site\"\nargv = [\"/usr/bin/true\"]\nwhen = \"after-roll\"\n";
        let gates = Policy::parse(one).unwrap().gates;
        assert_eq!(gates[0].step_id(), "gate/after-roll/site");
        assert!(Policy::parse(&format!("{one}{one}")).unwrap_err().contains("two gates"));
        let other = one.replace("after-roll", "before");
        assert_eq!(Policy::parse(&format!("{one}{other}")).unwrap().gates.len(), 2);
    }

    /// The stored form of a policy that says nothing of failures is what it always was, and with it
    /// the ids of plans that were approved.
    #[test]
    fn defaults_add_nothing_to_the_stored_form() {
        let text = serde_json::to_string(&Policy::default()).unwrap();
        for absent in [
            "on_failure",
            "finalize_after_s",
            "snapshots_keep",
            "reach_gap_max_ms",
            "contract",
            "gates",
            "patch",
            "\"api\"",
        ] {
            assert!(!text.contains(absent), "{text}");
        }
        assert!(
            serde_json::to_string(&Policy::parse("snapshots_keep = 5").unwrap()).unwrap().contains("_keep")
        );
    }
}
