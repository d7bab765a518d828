//! Every destination is one on which the instance may be: zone, traits, aggregates, processor and
//! hypervisor.

use std::collections::BTreeSet;

use volutus_model::Finding;
use volutus_model::fleet::{Availability, FleetHost, Instance, RebootPlan};

use super::facts::Facts;
use crate::{PLAN_AGAIN, blocking};

pub(super) fn check_places(facts: &Facts<'_>, plan: &RebootPlan, findings: &mut Vec<Finding>) {
    for one in &plan.content.moves {
        let (instance, from, to) = facts.of_move(one);
        let instance = &facts.fleet.instances[instance];
        let first = facts.host(&instance.host).expect("a fleet that was checked");
        let hosts = &facts.fleet.hosts;
        let why = if from == to {
            Some("it is moved to where it is".to_owned())
        } else if !facts.is_used(to) || hosts[to].availability != Availability::Enabled {
            Some(format!("{} is not to be used", one.to))
        } else {
            let older = (one.moves_again && is_ahead_of(&hosts[from], &hosts[to])).then(|| {
                format!(
                    "{} is upgraded after the move, and runs older code than {} until then",
                    one.to, one.from
                )
            });
            older.or_else(|| refusal(facts, instance, [&hosts[first], &hosts[from]], &hosts[to]))
        };
        if let Some(why) = why {
            findings.push(blocking("fleet-place", &instance.id, why, PLAN_AGAIN));
        }
    }
}

/// Whether a host runs newer code than another.
fn is_ahead_of(host: &FleetHost, other: &FleetHost) -> bool {
    matches!((host.release, other.release), (Some(here), Some(there)) if here > there)
}

fn refusal(facts: &Facts<'_>, instance: &Instance, from: [&FleetHost; 2], to: &FleetHost) -> Option<String> {
    let capacity = &facts.policy.capacity;
    let zone = match &instance.zone {
        Some(zone) => Some(Some(zone)),
        None if capacity.cross_zones => None,
        None => Some(from[0].zone.as_ref()),
    };
    if zone.is_some_and(|zone| to.zone.as_ref() != zone) {
        return Some(format!("{} is in another zone than the instance has to be in", to.name));
    }
    if let Some(name) = instance.traits_required.iter().find(|name| !to.traits.contains(*name)) {
        return Some(format!("{} lacks trait {name}", to.name));
    }
    if let Some(name) = instance.traits_forbidden.iter().find(|name| to.traits.contains(*name)) {
        return Some(format!("{} has trait {name}", to.name));
    }
    if instance.aggregates_required.iter().any(|any| any.intersection(&to.aggregates).next().is_none()) {
        return Some(format!("{} is in none of the aggregates that are asked for", to.name));
    }
    if instance.aggregates_forbidden.intersection(&to.aggregates).next().is_some() {
        return Some(format!("{} is in an aggregate that is forbidden", to.name));
    }
    for from in from {
        if let (Some(here), Some(there)) = (&from.hypervisor, &to.hypervisor)
            && (here.kind != there.kind || here.version > there.version)
        {
            return Some(format!(
                "the hypervisor of {} is another, or older than that of {}",
                to.name, from.name
            ));
        }
        let processor = |host: &'_ FleetHost| -> BTreeSet<String> {
            host.traits.iter().filter(|name| name.starts_with("HW_CPU_")).cloned().collect()
        };
        if capacity.cpu_check && from.traits != to.traits {
            let there = processor(to);
            if let Some(name) = processor(from).iter().find(|name| !there.contains(*name)) {
                return Some(format!("the processor of {} lacks {name}, which {} has", to.name, from.name));
            }
        }
    }
    None
}
