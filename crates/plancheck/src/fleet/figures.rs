//! What the plan says of itself is what it does.

use std::collections::{HashMap, HashSet};

use volutus_model::Finding;
use volutus_model::fleet::{GroupPolicy, RebootPlan};

use super::facts::Facts;
use super::replay::Seen;
use crate::{PLAN_AGAIN, blocking};

pub(super) fn check_figures(facts: &Facts<'_>, plan: &RebootPlan, seen: &Seen, findings: &mut Vec<Finding>) {
    let content = &plan.content;
    let figures = &content.figures;
    let mut times: HashMap<&str, u32> = HashMap::new();
    for one in &content.moves {
        *times.entry(&one.instance).or_default() += 1;
    }
    let makespan = content.drains.iter().map(|drain| drain.back_ms).max().unwrap_or(0);
    let waves = waves(plan);
    for (name, said, is) in [
        ("hosts", u64::from(figures.hosts), content.drains.len() as u64),
        ("moves", u64::from(figures.moves), content.moves.len() as u64),
        ("instances that move", u64::from(figures.instances_moved), times.len() as u64),
        (
            "second moves",
            u64::from(figures.second_moves),
            times.values().filter(|times| **times > 1).count() as u64,
        ),
        ("milliseconds", figures.makespan_ms, makespan),
        ("waves", u64::from(figures.waves), u64::from(waves.values().copied().max().unwrap_or(0))),
        ("soft groups that are worse", u64::from(figures.soft_groups_worse), soft_worse(facts, seen)),
    ] {
        if said != is {
            findings.push(blocking(
                "fleet-figures",
                &plan.id,
                format!("it says {said} {name}, and has {is}"),
                PLAN_AGAIN,
            ));
        }
    }
    for drain in &content.drains {
        let wave = waves.get(drain.host.as_str()).copied().unwrap_or(0);
        if wave != drain.wave {
            findings.push(blocking(
                "fleet-figures",
                &drain.host,
                format!("it is in wave {wave}, not {}", drain.wave),
                PLAN_AGAIN,
            ));
        }
    }
    if figures.bounds.greatest_ms() > makespan {
        let text = format!(
            "it ends at {makespan} ms, before its own lower bound of {} ms",
            figures.bounds.greatest_ms()
        );
        findings.push(blocking("fleet-figures", &plan.id, text, PLAN_AGAIN));
    }
    check_headroom(plan, seen, findings);
}

fn check_headroom(plan: &RebootPlan, seen: &Seen, findings: &mut Vec<Finding>) {
    for headroom in &plan.content.figures.headroom {
        let key = (headroom.zone.clone(), headroom.class.clone());
        let least = seen.least_free.get(&key).copied().unwrap_or(0).max(0);
        if least != i128::from(headroom.least) {
            let text = format!(
                "it says that {} of {} are free in zone {} at the least, and it is {least}",
                headroom.least, headroom.class, headroom.zone
            );
            findings.push(blocking("fleet-figures", &plan.id, text, PLAN_AGAIN));
        }
    }
}

/// One more than the latest host that a host is emptied onto.
fn waves(plan: &RebootPlan) -> HashMap<&str, u32> {
    let mut onto: HashMap<&str, HashSet<&str>> = HashMap::new();
    for one in plan.content.moves.iter().filter(|one| !one.moves_again) {
        onto.entry(one.from.as_str()).or_default().insert(one.to.as_str());
    }
    let mut waves: HashMap<&str, u32> = HashMap::new();
    // Drains are in the order in which they begin, so a destination comes before its sources.
    let mut drains: Vec<_> = plan.content.drains.iter().collect();
    drains.sort_by_key(|drain| drain.disable_ms);
    for drain in drains {
        let destinations = onto.get(drain.host.as_str()).into_iter().flatten();
        let latest = destinations.filter_map(|host| waves.get(host).copied()).max().unwrap_or(0);
        waves.insert(drain.host.as_str(), latest + 1);
    }
    waves
}

fn soft_worse(facts: &Facts<'_>, seen: &Seen) -> u64 {
    let mut worse = 0;
    for (group, members) in &facts.members {
        let before: HashSet<&str> =
            members.iter().map(|at| facts.fleet.instances[*at].host.as_str()).collect();
        let after: HashSet<usize> = members.iter().map(|at| seen.at_end[*at]).collect();
        worse += u64::from(match facts.groups.get(group) {
            Some(GroupPolicy::SoftAffinity) => after.len() > before.len(),
            Some(GroupPolicy::SoftAntiAffinity) => after.len() < before.len(),
            _ => false,
        });
    }
    worse
}
