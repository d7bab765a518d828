//! What would lower the risk, by what a rehearsal came to. Each finding names the figure that it
//! rests on, so that the next rehearsal can show whether the change helped.

use std::collections::BTreeMap;

use volutus_model::plan::Phase;
use volutus_model::{Finding, OnFailure, Severity};

use crate::prepared::Prepared;
use crate::rehearse::{Outcome, Rehearsal};

/// Causes that fewer than this share of the runs meet are told as figures alone.
const SHARE_WORTH_TELLING: f64 = 0.01;
/// A stage that takes this share of the roll is worth making wider.
const SHARE_OF_TIME: u64 = 40;

pub(crate) fn advise(prepared: &Prepared, rehearsal: &Rehearsal, outcomes: &[Outcome]) -> Vec<Finding> {
    let mut findings = Vec::new();
    advise_replicas(prepared, outcomes, &mut findings);
    advise_failures(prepared, rehearsal, &mut findings);
    advise_time(prepared, rehearsal, &mut findings);
    findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.subject.cmp(&b.subject)));
    findings
}

fn advise_replicas(prepared: &Prepared, outcomes: &[Outcome], findings: &mut Vec<Finding>) {
    let min = prepared.plan.policy.serving_replicas_min as usize;
    let mut below: BTreeMap<usize, usize> = BTreeMap::new();
    for headroom in outcomes.iter().filter_map(|outcome| outcome.headroom) {
        if headroom.spare < 0 {
            *below.entry(headroom.backend).or_default() += 1;
        }
    }
    let tight: Vec<&str> = prepared
        .topology
        .backends
        .iter()
        .filter(|backend| backend.servers.len() <= min + 1)
        .map(|backend| backend.name.as_str())
        .collect();
    if !tight.is_empty() {
        findings.push(Finding::new(
            Severity::Warning,
            "no-spare-replica",
            tight.join(", "),
            format!(
                "while one replica is replaced just the {min} that must serve are left: if another one \
                 fails in that time, requests fail"
            ),
            "Add a replica behind each of these backends before the upgrade.",
        ));
    }
    for (backend, runs) in below {
        findings.push(Finding::new(
            Severity::Warning,
            "too-few-served",
            &prepared.topology.backends[backend].name,
            format!("in {runs} of {} runs fewer than {min} replicas served at some moment", outcomes.len()),
            "Add a replica, or see to what makes replicas fail (the faults of the rehearsal are listed).",
        ));
    }
}

fn advise_failures(prepared: &Prepared, rehearsal: &Rehearsal, findings: &mut Vec<Finding>) {
    let policy = &prepared.plan.policy;
    let mut by_why: BTreeMap<&str, u32> = BTreeMap::new();
    for failed in &rehearsal.failed {
        *by_why.entry(&failed.why).or_default() += failed.times;
    }
    for (why, times) in by_why {
        if f64::from(times) < f64::from(rehearsal.runs) * SHARE_WORTH_TELLING {
            continue;
        }
        let action = match why {
            "connection refused" | "no route to host" => format!(
                "Raise attempts_max (now {}), so that a short outage is outlasted.",
                policy.attempts_max
            ),
            "it does not serve within its time" => format!(
                "Raise prove_timeout_s (now {}), if the daemons of this cloud start slowly.",
                policy.prove_timeout_s
            ),
            "sessions are still open; it was given back" => format!(
                "Raise drain_timeout_s (now {}), or bound how long clients keep sessions.",
                policy.drain_timeout_s
            ),
            "it is out, and not by Volutus" => {
                "Agree that nobody takes servers out while the run is under way.".to_owned()
            }
            "too few other servers are up" => "Add a replica, so that one may be down meanwhile.".to_owned(),
            _ if policy.on_failure == OnFailure::Halt => {
                "Have somebody at hand while the run is under way, or set on_failure = \"retry-then-halt\" \
                 or \"roll-back\" in the policy."
                    .to_owned()
            }
            _ => "Have somebody at hand while the run is under way.".to_owned(),
        };
        findings.push(Finding::new(
            Severity::Warning,
            "steps-fail",
            why,
            format!("it made steps fail {times} times in {} runs", rehearsal.runs),
            action,
        ));
    }
}

fn advise_time(prepared: &Prepared, rehearsal: &Rehearsal, findings: &mut Vec<Finding>) {
    let policy = &prepared.plan.policy;
    let roll = rehearsal.roll_s.p50.max(1);
    let mut waves = 0;
    for (stage, time) in prepared.plan.stages.iter().zip(&rehearsal.stages) {
        if stage.phase == Phase::Waves {
            waves += time.seconds.p50;
        }
    }
    if waves * 100 >= roll * SHARE_OF_TIME && prepared.topology.computes.len() > 10 {
        let width = policy.compute_wave.min(policy.parallel_steps_max);
        findings.push(Finding::new(
            Severity::Info,
            "waves-take-long",
            "compute waves",
            format!(
                "they take {waves} s of the {roll} s of the roll, {width} computes at a time; the longer a \
                 run, the more befalls it"
            ),
            format!(
                "Raise compute_wave (now {}) and parallel_steps_max (now {}) together.",
                policy.compute_wave, policy.parallel_steps_max
            ),
        ));
    }
}
