//! Nothing is done to an instance that its owner or the policy does not allow.

use volutus_model::Finding;
use volutus_model::fleet::plan::{How, Move, StayReason};
use volutus_model::fleet::policy::{AffinityGroups, Rung};
use volutus_model::fleet::{Instance, InstanceState, OwnerChoice, RebootPlan};

use super::facts::Facts;
use crate::{PLAN_AGAIN, blocking};

pub(super) fn check_consent(facts: &Facts<'_>, plan: &RebootPlan, findings: &mut Vec<Finding>) {
    let mut wrong = |instance: &Instance, text: &str| {
        findings.push(blocking("fleet-consent", &instance.id, text, PLAN_AGAIN));
    };
    for one in &plan.content.moves {
        let (at, _, _) = facts.of_move(one);
        let instance = &facts.fleet.instances[at];
        let allowed = match one.how {
            How::Live => may_be_moved_alive(facts, instance),
            How::Cold => may_be_moved_cold(facts, instance),
        };
        if let Err(why) = allowed {
            wrong(instance, why);
        }
        if !rest_is_allowed(facts, instance, one) {
            wrong(
                instance,
                "what is left for it when its move fails is more than its owner and the policy allow",
            );
        }
    }
    for stay in &plan.content.stays {
        let instance =
            &facts.fleet.instances[facts.instance(&stay.instance).expect("names were looked up before")];
        let allowed = match stay.why {
            StayReason::Off => instance.state == InstanceState::Off,
            StayReason::RunsOn => {
                !facts.policy.act.reboot && facts.policy.drain.ladder.contains(&Rung::LeaveRunning)
            }
            StayReason::Stopped => {
                (instance.stopped && instance.state == InstanceState::Off) || may_be_stopped(facts, instance)
            }
        };
        if !allowed {
            wrong(
                instance,
                "it stays on a host that is rebooted, and neither its state nor its owner nor the policy allows that",
            );
        }
    }
}

fn may_be_moved_alive(facts: &Facts<'_>, instance: &Instance) -> Result<(), &'static str> {
    let drain = &facts.policy.drain;
    if instance.state != InstanceState::Active {
        return Err("it does not run, so it cannot be moved alive");
    }
    if !drain.ladder.contains(&Rung::Live) {
        return Err("the ladder has no live migration");
    }
    if instance.obstacles.iter().any(|obstacle| !drain.movable.contains(obstacle)) {
        return Err("it has what cannot be moved alive");
    }
    if matches!(instance.choice, Some(OwnerChoice::Never | OwnerChoice::Stop | OwnerChoice::Cold)) {
        return Err("its owner chose otherwise");
    }
    if facts.is_bound_to_others(instance) && drain.affinity_groups == AffinityGroups::Stay {
        return Err("it is in a hard affinity group, which nova does not move");
    }
    Ok(())
}

/// Whether the rungs that are left for a move are on the ladder after it, and consented to.
fn rest_is_allowed(facts: &Facts<'_>, instance: &Instance, one: &Move) -> bool {
    let drain = &facts.policy.drain;
    let silent = matches!(instance.choice, None | Some(OwnerChoice::Notify));
    let place = |rung: Rung| drain.ladder.iter().position(|other| *other == rung);
    let mut last = match one.how {
        How::Live => place(Rung::Live),
        How::Cold => place(Rung::Cold),
    };
    one.then.iter().all(|rung| {
        let consent = match rung {
            Rung::Cold => {
                let asked =
                    instance.choice == Some(OwnerChoice::Cold) || (silent && drain.cold_without_consent);
                asked && !facts.is_bound_to_others(instance)
            }
            Rung::Stop => silent && drain.stop_without_consent,
            Rung::PostCopy | Rung::AutoConverge | Rung::ForceComplete => one.how == How::Live,
            Rung::Skip => true,
            Rung::Live | Rung::LeaveRunning => false,
        };
        let here = place(*rung);
        let later = here.is_some() && here > last;
        last = here;
        consent && later
    })
}

fn may_be_moved_cold(facts: &Facts<'_>, instance: &Instance) -> Result<(), &'static str> {
    let drain = &facts.policy.drain;
    if instance.state != InstanceState::Active {
        return Err("it does not run, so there is nothing to move cold");
    }
    if !drain.ladder.contains(&Rung::Cold) {
        return Err("the ladder has no cold migration");
    }
    if facts.is_bound_to_others(instance) {
        return Err("it is in a hard affinity group, which nova does not move");
    }
    match instance.choice {
        Some(OwnerChoice::Cold) => Ok(()),
        None | Some(OwnerChoice::Notify) if drain.cold_without_consent => {
            if may_be_moved_alive(facts, instance).is_ok() {
                return Err("it is moved cold although it can be moved alive");
            }
            Ok(())
        }
        _ => Err("it is moved cold without consent"),
    }
}

fn may_be_stopped(facts: &Facts<'_>, instance: &Instance) -> bool {
    let drain = &facts.policy.drain;
    let asked = match instance.choice {
        Some(OwnerChoice::Stop) => true,
        None | Some(OwnerChoice::Notify) => {
            // A hard affinity group moves whole or not at all, which its other members may prevent.
            let bound = facts.is_bound_to_others(instance);
            drain.stop_without_consent && (bound || may_be_moved_alive(facts, instance).is_err())
        }
        _ => false,
    };
    instance.state == InstanceState::Active && drain.ladder.contains(&Rung::Stop) && asked
}
