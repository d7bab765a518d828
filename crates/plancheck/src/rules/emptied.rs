//! An upgrade that empties hosts: each is upgraded in the step that empties and restarts it, while nothing is on
//! it; and no instance moves from newer code to older.

use volutus_catalog::DaemonRole;
use volutus_model::Finding;
use volutus_model::fleet::{NewcomerMoves, NewcomerPlace};
use volutus_model::name::{DaemonId, HostName};
use volutus_model::plan::{Action, Step};

use crate::context::Context;
use crate::graph::At;
use crate::{PLAN_AGAIN, blocking};

pub(crate) fn check_emptied(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let moves_or_restarts = |action: &Action| {
        matches!(action, Action::MoveInstances { .. } | Action::MoveNewcomers(_) | Action::RebootHost { .. })
    };
    if context.plan.drains.is_none() || !context.plan.kind.is_upgrade() {
        for (at, action) in context.graph.actions().filter(|(_, action)| moves_or_restarts(action)) {
            findings.push(blocking(
                "drain-of-no-plan",
                &context.graph.steps[at.step].1.id,
                format!("{}: the plan names no reboot of hosts that this is a part of", action.summary()),
                PLAN_AGAIN,
            ));
        }
        return;
    }
    for (at, action) in context.graph.actions() {
        let step = context.graph.steps[at.step].1;
        match action {
            Action::RebootHost { host, .. } => check_one_pass(context, at.step, host, findings),
            Action::SwitchDaemon { daemon, .. } if is_compute(context, daemon) => {
                check_empty_first(step, at.action, &daemon.host, findings);
            }
            Action::MoveInstances { host, moves, .. } => {
                let ahead = may_be_new(context, host, at);
                for moved in moves.iter().filter(|moved| ahead && !is_surely_new(context, &moved.to, at)) {
                    findings.push(blocking(
                        "moved-onto-older-code",
                        &step.id,
                        format!(
                            "instance {} moves off {host}, which may be upgraded by then, to {}, which may not be: \
                             a rolling upgrade moves instances from older code to newer only",
                            moved.instance, moved.to
                        ),
                        PLAN_AGAIN,
                    ));
                }
            }
            Action::MoveNewcomers(newcomers) => {
                let ahead = may_be_new(context, &newcomers.host, at);
                let older = |place: &&NewcomerPlace| ahead && !is_surely_new(context, &place.host, at);
                for place in newcomers.way.to.iter().filter(older) {
                    findings.push(blocking(
                        "moved-onto-older-code",
                        &step.id,
                        format!(
                            "what comes to {}, which may be upgraded by then, moves to {}, which may not be",
                            newcomers.host, place.host
                        ),
                        PLAN_AGAIN,
                    ));
                }
            }
            _ => {}
        }
    }
}

fn is_compute(context: &Context<'_>, daemon: &DaemonId) -> bool {
    context.members.get(daemon).is_some_and(|member| member.facts.role == DaemonRole::Compute)
}

/// Whatever belongs to instances on a host that restarts is replaced in that very step: in a pass of its own,
/// the host would be out of service twice.
fn check_one_pass(context: &Context<'_>, step: usize, host: &HostName, findings: &mut Vec<Finding>) {
    for (id, places) in &context.switches {
        if id.host == *host && is_compute(context, id) && places.iter().any(|at| at.step != step) {
            findings.push(blocking(
                "upgraded-apart-from-restart",
                id,
                format!("it is replaced in another step than the one that empties and restarts {host}"),
                PLAN_AGAIN,
            ));
        }
    }
}

/// Where a step empties a host, it is empty before its daemons are replaced, and they are before it restarts.
fn check_empty_first(step: &Step, switch: usize, host: &HostName, findings: &mut Vec<Finding>) {
    let (before, after) = (&step.actions[..switch], &step.actions[switch + 1..]);
    let empties = |a: &Action| {
        matches!(a, Action::MoveInstances { host: on, .. } | Action::StopInstances { host: on, .. }
            | Action::MoveNewcomers(NewcomerMoves { host: on, .. }) | Action::ProveEmpty { host: on, .. }
            if on == host)
    };
    let restarts = |a: &Action| matches!(a, Action::RebootHost { host: on, .. } if on == host);
    if after.iter().any(empties) || before.iter().any(restarts) {
        findings.push(blocking(
            "upgraded-out-of-turn",
            &step.id,
            format!("what is on {host} is replaced before the host is empty, or behind its restart"),
            PLAN_AGAIN,
        ));
    }
}

/// The daemons of a host that belong to instances.
fn computes<'c>(context: &'c Context<'_>, host: &'c HostName) -> impl Iterator<Item = &'c DaemonId> {
    let compute = |member: &&crate::context::Member<'_>| member.facts.role == DaemonRole::Compute;
    context.members.iter().filter(move |(id, member)| id.host == *host && compute(member)).map(|(id, _)| id)
}

fn on_target(context: &Context<'_>, id: &DaemonId) -> bool {
    context.members.get(id).is_some_and(|member| context.on_target(id, &member.service.name))
}

/// Whether a host may run the new release when an action begins.
fn may_be_new(context: &Context<'_>, host: &HostName, at: At) -> bool {
    computes(context, host).any(|id| {
        let switches = context.switches.get(id).map(Vec::as_slice).unwrap_or_default();
        on_target(context, id) || switches.iter().any(|switch| !context.graph.before(at, *switch))
    })
}

/// Whether a host runs the new release when an action begins, in every run.
fn is_surely_new(context: &Context<'_>, host: &HostName, at: At) -> bool {
    // Of a host that is not described nothing is sure.
    computes(context, host).next().is_some()
        && computes(context, host).all(|id| {
            let switches = context.switches.get(id).map(Vec::as_slice).unwrap_or_default();
            on_target(context, id) || switches.iter().any(|switch| context.graph.before(*switch, at))
        })
}
