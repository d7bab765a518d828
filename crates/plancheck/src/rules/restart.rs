//! A host restarts only when nothing is missed there: its compute is disabled and empty, its
//! replicas are drained, and all of it proves itself before it is given back. Instances move onto
//! hosts that are not in work.

use volutus_catalog::DaemonRole;
use volutus_model::Finding;
use volutus_model::fleet::{NewcomerMoves, Work};
use volutus_model::name::HostName;
use volutus_model::plan::{Action, Step};

use crate::context::Context;
use crate::{PLAN_AGAIN, blocking};

pub(crate) fn check_restart(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let restarts = &context.restarts;
    for (at, action) in context.graph.actions() {
        if let Action::RebootHost { host, .. } = action {
            check_host(context, context.graph.steps[at.step].1, at.action, host, findings);
        }
    }
    for at in &context.graph.steps {
        check_started(at.1, findings);
        check_duties(context, at.1, findings);
    }
    for (host, steps) in &context.in_work {
        for step in steps {
            check_enabled(context, context.graph.steps[*step].1, host, findings);
        }
    }
    for (host, steps) in restarts.iter().filter(|(_, steps)| steps.len() > 1) {
        findings.push(blocking(
            "restarted-twice",
            host,
            format!("{} steps restart it", steps.len()),
            PLAN_AGAIN,
        ));
    }
    for (at, action) in context.graph.actions() {
        let step = context.graph.steps[at.step].1;
        if let Action::MoveNewcomers(newcomers) = action {
            check_newcomers(context, at.step, newcomers, findings);
        }
        let Action::MoveInstances { host, moves, .. } = action else {
            continue;
        };
        for moved in moves {
            let works = restarts.get(&moved.to).into_iter().chain(context.in_work.get(&moved.to)).flatten();
            let in_work = works.into_iter().any(|other| {
                !context.graph.step_before(*other, at.step) && !context.graph.step_before(at.step, *other)
            });
            if moved.to == *host || in_work {
                findings.push(blocking(
                    "moved-onto-a-host-in-work",
                    &step.id,
                    format!("instance {} moves to {}, which may restart meanwhile", moved.instance, moved.to),
                    PLAN_AGAIN,
                ));
            }
        }
    }
}

/// What comes to a host moves once: nowhere but onto hosts on which all work is done before.
fn check_newcomers(context: &Context<'_>, at: usize, newcomers: &NewcomerMoves, findings: &mut Vec<Finding>) {
    for place in &newcomers.way.to {
        let works = context.restarts.get(&place.host).into_iter().chain(context.in_work.get(&place.host));
        let done = works.flatten().all(|other| context.graph.step_before(*other, at));
        if place.host == newcomers.host || !done {
            findings.push(blocking(
                "newcomers-onto-a-host-to-do",
                &context.graph.steps[at].1.id,
                format!(
                    "what comes to {} moves to {}, which is not done by then",
                    newcomers.host, place.host
                ),
                PLAN_AGAIN,
            ));
        }
    }
}

fn check_host(
    context: &Context<'_>,
    step: &Step,
    restart: usize,
    host: &HostName,
    findings: &mut Vec<Finding>,
) {
    let (before, after) = (&step.actions[..restart], &step.actions[restart + 1..]);
    let here = || context.members.iter().filter(|(id, _)| id.host == *host);
    if here().any(|(_, member)| member.facts.role == DaemonRole::Compute) {
        let disabled =
            before.iter().position(|a| matches!(a, Action::DisableCompute { host: on, .. } if on == host));
        let empty =
            before.iter().rposition(|a| matches!(a, Action::ProveEmpty { host: on, .. } if on == host));
        // Judged empty before it is disabled, something may still come.
        if disabled.is_none() || empty < disabled {
            findings.push(blocking(
                "restart-of-a-host-in-use",
                &step.id,
                format!("{host} restarts without having been disabled, and after that proved empty"),
                PLAN_AGAIN,
            ));
        }
    }
    let lowers = |a: &Action| matches!(a, Action::LowerGateways { host: on } if on == host);
    let restores = |a: &Action| matches!(a, Action::RestoreGateways { host: on } if on == host);
    if context.inventory.ovn.is_some()
        && !(before.iter().any(lowers) && after.iter().any(restores) && step.give_back.iter().any(restores))
    {
        findings.push(blocking(
            "gateways-not-moved",
            &step.id,
            format!(
                "{host} may be the gateway of a router while it restarts, or is not given its place back"
            ),
            PLAN_AGAIN,
        ));
    }
    for (id, _) in here() {
        let proof =
            after.iter().position(|a| matches!(a, Action::ProveDaemon { daemon, .. } if daemon == id));
        let given_back = after
            .iter()
            .position(|a| matches!(a, Action::EnableCompute { .. } | Action::UndrainBackend { .. }));
        if proof.is_none() || given_back.is_some_and(|given_back| proof > Some(given_back)) {
            findings.push(blocking(
                "restart-unproved",
                &step.id,
                format!("{id} does not prove itself after the restart of {host} and before it is given back"),
                PLAN_AGAIN,
            ));
        }
    }
}

/// Networks and routers that neutron's own agents look after on a host are looked after elsewhere before it
/// restarts, and given back behind it; and whatever is moved is given back when the run is given up in between.
fn check_duties(context: &Context<'_>, step: &Step, findings: &mut Vec<Finding>) {
    for (at, action) in step.actions.iter().enumerate() {
        let (Action::RebootHost { host, .. } | Action::MoveNetworkDuties { host }) = action else {
            continue;
        };
        let moves = |a: &Action| matches!(a, Action::MoveNetworkDuties { host: on } if on == host);
        let restores = |a: &Action| matches!(a, Action::RestoreNetworkDuties { host: on } if on == host);
        let restarts = |a: &Action| matches!(a, Action::RebootHost { host: on, .. } if on == host);
        let given_up = step.give_back.iter().any(restores);
        let fine = if restarts(action) {
            let proved = step.actions.iter().rposition(|a| matches!(a, Action::ProveDaemon { .. }));
            let behind = &step.actions[proved.unwrap_or(at).max(at)..];
            !context.observation.may_have_network_duties(host)
                || (step.actions[..at].iter().any(moves) && behind.iter().any(restores) && given_up)
        } else {
            given_up
        };
        if !fine {
            findings.push(blocking(
                "duties-not-moved",
                &step.id,
                format!(
                    "{host} may be needed by networks or routers while it is away, or its DHCP and L3 agents do \
                     not get back what is moved off them"
                ),
                PLAN_AGAIN,
            ));
        }
    }
}

/// What is stopped is started again: behind the proofs of its host where that restarts, and in any case when
/// the run is given up in between. Where the host is emptied by hand, whoever gives it back starts it.
fn check_started(step: &Step, findings: &mut Vec<Finding>) {
    for (at, action) in step.actions.iter().enumerate() {
        let Action::StopInstances { host, instances } = action else {
            continue;
        };
        let starts = |a: &Action, one: &String| matches!(a, Action::StartInstances { host: on, instances } if on == host && instances.contains(one));
        let restart =
            step.actions.iter().position(|a| matches!(a, Action::RebootHost { host: on, .. } if on == host));
        let proved = step.actions.iter().rposition(|a| matches!(a, Action::ProveDaemon { .. }));
        let behind = &step.actions[restart.max(proved).unwrap_or(at)..];
        for one in instances {
            let forgotten = restart.is_some() && !behind.iter().any(|a| starts(a, one));
            if forgotten || !step.give_back.iter().any(|a| starts(a, one)) {
                findings.push(blocking(
                    "not-started",
                    &step.id,
                    format!(
                        "instance {one} is stopped on {host} and not started again after the restart, or not when \
                         the run is aborted"
                    ),
                    PLAN_AGAIN,
                ));
            }
        }
    }
}

/// A host that is disabled is enabled again at the end, unless emptying it is all that is wanted; and
/// in any case when the run is given up in between.
fn check_enabled(context: &Context<'_>, step: &Step, host: &HostName, findings: &mut Vec<Finding>) {
    let disabled = |a: &Action| matches!(a, Action::DisableCompute { host: on, .. } if on == host);
    let enables = |a: &Action| matches!(a, Action::EnableCompute { host: on } if on == host);
    let mut after = step.actions.iter().skip_while(|a| !disabled(a));
    let stays = context.plan.kind.work() == Some(Work::Drain);
    if (!stays && !after.any(enables)) || !step.give_back.iter().any(enables) {
        findings.push(blocking(
            "not-enabled",
            &step.id,
            format!("{host} is not enabled again after it was disabled, or not when the run is aborted"),
            PLAN_AGAIN,
        ));
    }
}
