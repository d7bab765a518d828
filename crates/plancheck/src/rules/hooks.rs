//! What a hook begins for a host ends: every `before` has its `after`, around everything that is done to the
//! host, and where it is to end in any case, also when the run is given up. A hook runs where nothing
//! restarts meanwhile.

use volutus_model::Finding;
use volutus_model::fleet::hook::{HookCall, HookMoment, HookPlace};
use volutus_model::plan::{Action, Step};

use crate::context::Context;
use crate::{PLAN_AGAIN, blocking};

pub(crate) fn check_hooks(context: &Context<'_>, findings: &mut Vec<Finding>) {
    for (at, (_, step)) in context.graph.steps.iter().enumerate() {
        for (place, call) in calls(&step.actions) {
            if call.moment == HookMoment::Before {
                check_ends(step, place, call, findings);
            } else {
                check_begun(step, place, call, findings);
            }
            let HookPlace::Host(on) = &call.on else { continue };
            let restarts = context.restarts.get(on).into_iter().flatten();
            let meanwhile = restarts.copied().any(|other| {
                other != at && !context.graph.step_before(other, at) && !context.graph.step_before(at, other)
            });
            if meanwhile {
                findings.push(blocking(
                    "hook-on-a-host-in-work",
                    &step.id,
                    format!("the hook {} runs on {on}, which may restart meanwhile", call.hook),
                    "Have the hook run on a host that is not rebooted at the same time, or with on = \"volutus\".",
                ));
            }
        }
        for (_, call) in calls(&step.give_back) {
            if call.moment == HookMoment::Before || !call.always {
                findings.push(blocking(
                    "hook-not-wanted",
                    &step.id,
                    format!("the hook {} runs `{}` when the run is given up", call.hook, call.moment),
                    PLAN_AGAIN,
                ));
            }
        }
    }
}

/// The commands of hooks in a list of actions, with their places.
fn calls(actions: &[Action]) -> impl Iterator<Item = (usize, &HookCall)> {
    actions.iter().enumerate().filter_map(|(at, action)| match action {
        Action::RunHook(call) => Some((at, call)),
        _ => None,
    })
}

/// Whether something is done to the host of a hook.
fn works(action: &Action, call: &HookCall) -> bool {
    let acts = matches!(
        action,
        Action::RunCommand { .. }
            | Action::SwitchDaemon { .. }
            | Action::RebootHost { .. }
            | Action::ProveDaemon { .. }
    );
    acts && action.host() == Some(&call.host)
}

fn check_ends(step: &Step, place: usize, before: &HookCall, findings: &mut Vec<Finding>) {
    let ends = || calls(&step.actions).filter(|(_, call)| before.begins(call));
    let last_work = step.actions.iter().rposition(|action| works(action, before));
    let ended = ends().count() == 1 && ends().all(|(at, _)| at > place && Some(at) > last_work);
    if !ended {
        findings.push(blocking(
            "hook-without-end",
            &step.id,
            format!(
                "the hook {} begins something for {} that is not ended once, behind the proofs of the host",
                before.hook, before.host
            ),
            PLAN_AGAIN,
        ));
    }
    if step.actions[..place].iter().any(|action| works(action, before)) {
        findings.push(blocking(
            "hook-late",
            &step.id,
            format!("something is done to {} before the hook {} has begun", before.host, before.hook),
            PLAN_AGAIN,
        ));
    }
    let given_back = calls(&step.give_back).any(|(_, call)| before.begins(call));
    if before.always && !given_back {
        findings.push(blocking(
            "hook-without-end",
            &step.id,
            format!(
                "the hook {} has always = true, and does not end for {} when the run is given up",
                before.hook, before.host
            ),
            PLAN_AGAIN,
        ));
    }
}

/// An `after` has its `before` ahead of it, unless the hook has none.
fn check_begun(step: &Step, place: usize, after: &HookCall, findings: &mut Vec<Finding>) {
    let begins = || calls(&step.actions).filter(|(_, call)| call.begins(after));
    if begins().any(|(at, _)| at > place) || begins().count() > 1 {
        findings.push(blocking(
            "hook-out-of-order",
            &step.id,
            format!("the hook {} ends for {} before it has begun, or begins twice", after.hook, after.host),
            PLAN_AGAIN,
        ));
    }
}
