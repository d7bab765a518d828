//! What comes to a host after the plan was made goes to hosts that are done or exempt by then: it would move
//! twice from any other.

use std::collections::{BTreeMap, BTreeSet};

use volutus_model::Finding;
use volutus_model::fleet::newcomers::DESTINATIONS_MAX;
use volutus_model::fleet::plan::HostDrain;
use volutus_model::fleet::policy::Rung;
use volutus_model::fleet::{Availability, MigrationSettings, NewcomerPlace, RebootPlan};

use super::facts::Facts;
use super::rungs;
use crate::{PLAN_AGAIN, blocking};

pub(super) fn check_newcomers(facts: &Facts<'_>, plan: &RebootPlan, findings: &mut Vec<Finding>) {
    let drained: BTreeMap<&str, &HostDrain> =
        plan.content.drains.iter().map(|drain| (drain.host.as_str(), drain)).collect();
    for drain in &plan.content.drains {
        let mut wrong = |text: String| {
            findings.push(blocking("fleet-newcomer", &drain.host, text, PLAN_AGAIN));
        };
        let way = &drain.newcomers;
        if way.is_none() {
            continue;
        }
        if !facts.policy.drain.newcomers.is_move() || !facts.policy.drain.ladder.contains(&Rung::Live) {
            wrong("what comes to it is to be moved, and the policy does not want that".to_owned());
        }
        let names: BTreeSet<&str> = way.to.iter().map(|place| place.host.as_str()).collect();
        if names.len() != way.to.len() || names.len() > DESTINATIONS_MAX {
            let text = format!("what comes to it has {} destinations, some twice or too many", way.to.len());
            wrong(text);
        }
        for place in &way.to {
            if let Some(why) = refusal(facts, drain, place, &drained) {
                wrong(format!("what comes to it is to go to {}, which {why}", place.host));
            }
        }
        if let Some(rung) = way.then.iter().find(|rung| !is_left(facts, drain, **rung)) {
            wrong(format!(
                "`{}` is left for what comes to it, and the ladder or nova there does not have that behind `live`",
                rung.name()
            ));
        }
    }
}

/// Why a host may not take what comes to another one.
fn refusal(
    facts: &Facts<'_>,
    drain: &HostDrain,
    place: &NewcomerPlace,
    drained: &BTreeMap<&str, &HostDrain>,
) -> Option<String> {
    let here = facts.host(&drain.host).expect("names were looked up before");
    let Some(at) = facts.host(&place.host) else {
        return Some("the fleet does not have".to_owned());
    };
    let (host, from) = (&facts.fleet.hosts[at], &facts.fleet.hosts[here]);
    if at == here {
        return Some("is that very host".to_owned());
    }
    if !facts.is_used(at) || host.availability != Availability::Enabled {
        return Some("is not to be used".to_owned());
    }
    match drained.get(place.host.as_str()) {
        Some(other) if other.back_ms > drain.disable_ms => {
            return Some("is not done by then".to_owned());
        }
        None if facts.is_to_reboot(at) => return Some("is left as it is".to_owned()),
        Some(_) | None => {}
    }
    if host.zone != from.zone && !facts.policy.capacity.cross_zones {
        return Some("is in another zone".to_owned());
    }
    (place.per_destination != facts.own[at].per_destination)
        .then(|| "takes other numbers of moves at once".to_owned())
}

/// Whether a rung is on the ladder behind `live`, and permitted by nova on the host.
fn is_left(facts: &Facts<'_>, drain: &HostDrain, rung: Rung) -> bool {
    let settings = facts.host(&drain.host).and_then(|at| facts.fleet.hosts[at].migrations.as_ref());
    let permitted = match rung {
        Rung::PostCopy => settings.is_some_and(|settings| settings.post_copy),
        Rung::AutoConverge => settings.is_some_and(MigrationSettings::slows_down),
        Rung::ForceComplete => true,
        Rung::LeaveRunning | Rung::Live | Rung::Cold | Rung::Stop | Rung::Skip => false,
    };
    permitted && rungs::comes_after_live(facts, rung)
}
