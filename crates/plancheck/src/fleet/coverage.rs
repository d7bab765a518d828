//! Every host that is to be rebooted is, or is left with a cause; every instance on it has
//! something done with it; and no instance moves more often than it has to.

use std::collections::{HashMap, HashSet};

use volutus_model::Finding;
use volutus_model::fleet::RebootPlan;

use super::facts::Facts;
use crate::{PLAN_AGAIN, blocking};

pub(super) fn check_coverage(facts: &Facts<'_>, plan: &RebootPlan, findings: &mut Vec<Finding>) {
    let content = &plan.content;
    let mut wrong = |subject: &str, text: String| {
        findings.push(blocking("fleet-coverage", subject, text, PLAN_AGAIN));
    };
    let mut drained = HashSet::new();
    for drain in &content.drains {
        if !drained.insert(drain.host.as_str()) {
            wrong(drain.host.as_str(), "it is rebooted twice".to_owned());
        }
        if !facts.host(&drain.host).is_some_and(|at| facts.is_to_reboot(at)) {
            wrong(drain.host.as_str(), "it is rebooted although it is not to be".to_owned());
        }
    }
    let mut left = HashSet::new();
    for one in &content.left {
        left.insert(one.host.as_str());
        if one.cause.is_empty() || one.action.is_empty() {
            wrong(one.host.as_str(), "it is left without a cause and an action".to_owned());
        }
        if drained.contains(one.host.as_str()) {
            wrong(one.host.as_str(), "it is both rebooted and left".to_owned());
        }
    }
    for (at, host) in facts.fleet.hosts.iter().enumerate() {
        let name = host.name.as_str();
        if facts.is_to_reboot(at) && !drained.contains(name) && !left.contains(name) {
            wrong(name, "it is to be rebooted and is neither rebooted nor left".to_owned());
        }
    }
    check_instances(facts, plan, &drained, findings);
}

fn check_instances(
    facts: &Facts<'_>,
    plan: &RebootPlan,
    drained: &HashSet<&str>,
    findings: &mut Vec<Finding>,
) {
    let mut wrong = |code: &str, subject: &str, text: String| {
        findings.push(blocking(code, subject, text, PLAN_AGAIN));
    };
    let mut times: HashMap<&str, Vec<bool>> = HashMap::new();
    for one in &plan.content.moves {
        times.entry(&one.instance).or_default().push(one.moves_again);
        if !drained.contains(one.from.as_str()) {
            wrong(
                "fleet-coverage",
                &one.instance,
                format!("it is moved off {}, which is not rebooted", one.from),
            );
        }
    }
    for (instance, declared) in &times {
        let allowed = match declared.as_slice() {
            [_] => true,
            // The first of the two onto a host that is yet to be rebooted, and said to be so.
            [true, false] => true,
            _ => false,
        };
        if !allowed {
            wrong(
                "fleet-moved-again",
                instance,
                format!("it moves {} times, which is not declared or not necessary", declared.len()),
            );
        }
    }
    let stays: HashSet<&str> = plan.content.stays.iter().map(|stay| stay.instance.as_str()).collect();
    for instance in &facts.fleet.instances {
        let (moves, stays) = (times.contains_key(instance.id.as_str()), stays.contains(instance.id.as_str()));
        let away = drained.contains(instance.host.as_str());
        if away && !moves && !stays {
            wrong("fleet-coverage", &instance.id, format!("its host {} is rebooted under it", instance.host));
        }
        if moves && stays {
            wrong("fleet-coverage", &instance.id, "it both moves and stays".to_owned());
        }
    }
    for stay in &plan.content.stays {
        let on = facts.instance(&stay.instance).map(|at| &facts.fleet.instances[at].host);
        if on != Some(&stay.host) || !drained.contains(stay.host.as_str()) {
            wrong("fleet-coverage", &stay.instance, format!("it is said to stay on {}", stay.host));
        }
    }
}
