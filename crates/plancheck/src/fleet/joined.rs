//! Whether the plan of an upgrade does with hosts what the plan of the reboot says that is a part of it: that one
//! is proved by a replay over the fleet, and the proof is of the upgrade as far as both say the same.

use std::collections::{BTreeMap, BTreeSet};

use volutus_model::Finding;
use volutus_model::fleet::RebootPlan;
use volutus_model::fleet::plan::{HostDrain, Move, StayReason};
use volutus_model::plan::{Action, InstanceMove, Plan, Step};

use crate::graph::Graph;
use crate::{PLAN_AGAIN, blocking};

/// Judges an upgrade by the plan of the reboot that is a part of it. An empty answer means that every host of the
/// one is emptied by the other as it says, in its order, and that no other host is.
#[must_use]
pub fn check_joined(plan: &Plan, reboot: &RebootPlan) -> Vec<Finding> {
    let mut findings = Vec::new();
    let named = plan.drains.as_ref().is_some_and(|drains| drains.of == reboot.id);
    if !named || reboot.content.upgrade != Some(plan.to) || !reboot.content.control.is_empty() {
        findings.push(blocking(
            "drain-of-no-plan",
            &plan.id,
            format!("{} is not the plan of the reboot that is a part of it", reboot.id),
            PLAN_AGAIN,
        ));
        return findings;
    }
    let graph = Graph::new(plan);
    let mut steps: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, (_, step)) in graph.steps.iter().enumerate() {
        if let Some(host) = step.empties() {
            steps.entry(host.as_str()).or_default().push(at);
        }
    }
    let mut moves: BTreeMap<&str, Vec<&Move>> = BTreeMap::new();
    for moved in &reboot.content.moves {
        moves.entry(moved.from.as_str()).or_default().push(moved);
    }
    let mut wrong = |host: &str, what: &str| {
        findings.push(blocking("drain-otherwise", host, what, PLAN_AGAIN));
    };
    let drained: BTreeMap<&str, &HostDrain> =
        reboot.content.drains.iter().map(|drain| (drain.host.as_str(), drain)).collect();
    for host in steps.keys().filter(|host| !drained.contains_key(*host)) {
        wrong(host, "it is emptied, and the plan of the reboot leaves it as it is");
    }
    for (host, drain) in &drained {
        let [at] = *steps.get(host).map(Vec::as_slice).unwrap_or_default() else {
            wrong(host, "it is to be emptied in one step, and in none or several it is");
            continue;
        };
        let step = graph.steps[at].1;
        if !moves_alike(step, moves.get(host).map(Vec::as_slice).unwrap_or_default()) {
            wrong(host, "other instances are moved off it, or to other hosts, than was proved");
        }
        if !stays_alike(step, reboot, host) {
            wrong(host, "other instances stay on it, or are stopped, than was proved");
        }
        let ways = step.actions.iter().filter_map(|action| match action {
            Action::MoveNewcomers(newcomers) => Some(&newcomers.way),
            _ => None,
        });
        let proved = (!drain.newcomers.is_none()).then_some(&drain.newcomers);
        let empties = step.actions.iter().any(|a| matches!(a, Action::ProveEmpty { .. }));
        if ways.collect::<Vec<_>>() != proved.filter(|_| empties).into_iter().collect::<Vec<_>>() {
            wrong(host, "what comes to it goes to other hosts than was proved");
        }
        let restarts = step.actions.iter().any(|a| matches!(a, Action::RebootHost { .. }));
        if restarts != reboot.content.policy.act.reboot {
            wrong(host, "it is restarted against the policy, or is not restarted although it should be");
        }
        for other in drain.after.iter().filter_map(|other| steps.get(other.as_str())).flatten() {
            if !graph.step_before(*other, at) {
                wrong(host, "it may begin before a host is done that it waits for");
            }
        }
    }
    findings
}

fn moves_alike(step: &Step, wanted: &[&Move]) -> bool {
    let moved: Vec<&InstanceMove> = step
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::MoveInstances { moves, .. } => Some(moves),
            _ => None,
        })
        .flatten()
        .collect();
    let made: BTreeSet<_> = moved.iter().map(|one| (&one.instance, &one.to, one.how)).collect();
    let planned: BTreeSet<_> = wanted.iter().map(|one| (&one.instance, &one.to, one.how)).collect();
    made == planned && moved.len() == wanted.len()
}

fn stays_alike(step: &Step, reboot: &RebootPlan, host: &str) -> bool {
    let here = || reboot.content.stays.iter().filter(|stay| stay.host.as_str() == host);
    let stopped = here().filter(|stay| stay.why == StayReason::Stopped).map(|stay| &stay.instance);
    let stops = step.actions.iter().filter_map(|action| match action {
        Action::StopInstances { instances, .. } => Some(instances),
        _ => None,
    });
    let all: BTreeSet<&String> = here().map(|stay| &stay.instance).collect();
    let proofs = step.actions.iter().filter_map(|action| match action {
        Action::ProveEmpty { stays, .. } => Some(stays),
        _ => None,
    });
    stops.flatten().collect::<BTreeSet<_>>() == stopped.collect()
        && proofs.into_iter().all(|stays| stays.iter().collect::<BTreeSet<_>>() == all)
}
