//! What is left for a live migration that does not converge is what nova on its source host permits.

use volutus_model::Finding;
use volutus_model::fleet::plan::{How, Move};
use volutus_model::fleet::policy::Rung;
use volutus_model::fleet::{FleetHost, Instance, RebootPlan};

use super::facts::Facts;
use crate::{PLAN_AGAIN, blocking};

/// `as_it_was`: the fleet is the one that the plan was made for.
pub(super) fn check_rungs(
    facts: &Facts<'_>,
    plan: &RebootPlan,
    as_it_was: bool,
    findings: &mut Vec<Finding>,
) {
    for one in &plan.content.moves {
        let (instance, from, _) = facts.of_move(one);
        let (instance, from) = (&facts.fleet.instances[instance], &facts.fleet.hosts[from]);
        let mut wrong = |text: String| findings.push(blocking("fleet-rung", &instance.id, text, PLAN_AGAIN));
        for rung in [Rung::PostCopy, Rung::AutoConverge] {
            let permitted = one.how == How::Live && is_permitted(rung, instance, from);
            let planned = one.then.contains(&rung);
            if planned && !permitted {
                wrong(format!(
                    "`{}` is left for its move off {}, and nova there was not seen to permit that for it",
                    rung.name(),
                    from.name
                ));
            }
            // A host that permits more than it did when the plan was made does not make the plan wrong.
            if permitted && !planned && as_it_was && comes_after_live(facts, rung) {
                wrong(format!(
                    "`{}` is passed over for its move off {}, although it is on the ladder and nova there permits it",
                    rung.name(),
                    from.name
                ));
            }
        }
        check_time(one, &mut wrong);
    }
}

/// A live migration without time would be broken off, or its instance paused, at once.
fn check_time(one: &Move, wrong: &mut impl FnMut(String)) {
    let forced = one.then.iter().any(|rung| matches!(rung, Rung::PostCopy | Rung::ForceComplete));
    if one.how == How::Live && forced && one.timeout_s == 0 {
        wrong(format!("its move off {} has no time to converge before it is completed by force", one.from));
    }
}

fn is_permitted(rung: Rung, instance: &Instance, from: &FleetHost) -> bool {
    let Some(settings) = &from.migrations else { return false };
    match rung {
        Rung::PostCopy => settings.post_copy && !instance.has_persistent_memory(),
        Rung::AutoConverge => settings.auto_converge && !settings.post_copy,
        _ => true,
    }
}

pub(super) fn comes_after_live(facts: &Facts<'_>, rung: Rung) -> bool {
    let mut behind = facts.policy.drain.ladder.iter().skip_while(|other| **other != Rung::Live);
    behind.any(|other| *other == rung)
}
