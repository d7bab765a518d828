//! One compute is replaced first and must boot an instance before any other one is touched; each
//! compute is disabled while it is replaced.

use volutus_catalog::DaemonRole;
use volutus_model::Finding;
use volutus_model::plan::Action;

use crate::context::Context;
use crate::graph::At;
use crate::rules::order::all_before;
use crate::{PLAN_AGAIN, blocking};

pub(crate) fn check_canary(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let computes: Vec<(&volutus_model::DaemonId, At)> = context
        .switches
        .iter()
        .filter(|(id, _)| context.members.get(**id).is_some_and(|m| m.facts.role == DaemonRole::Compute))
        .flat_map(|(id, places)| places.iter().map(move |at| (*id, *at)))
        .collect();
    for (id, at) in &computes {
        check_around(context, id, *at, findings);
    }
    if computes.is_empty() {
        return;
    }
    let proved = context.graph.actions().any(|(boot, action)| {
        let Action::BootCanary { host } = action else {
            return false;
        };
        // The boot must be on a compute that is new by then, and all others must wait for it.
        let (own, others): (Vec<_>, Vec<_>) = computes.iter().partition(|(id, _)| id.host == *host);
        let others: Vec<At> = others.into_iter().map(|(_, at)| at).collect();
        !own.is_empty()
            && own.iter().all(|(_, at)| context.graph.before(*at, boot))
            && all_before(context, &[boot], &others)
    });
    if !proved {
        findings.push(blocking(
            "no-canary",
            "nova-compute",
            "no instance is booted on a first replaced compute before the others are touched; a \
             fault that only a boot shows would reach all of them",
            PLAN_AGAIN,
        ));
    }
}

/// Disabled before the switch, and enabled after the proof, in the same step.
fn check_around(context: &Context<'_>, id: &volutus_model::DaemonId, at: At, findings: &mut Vec<Finding>) {
    let step = context.graph.steps[at.step].1;
    let place = |wanted: fn(&Action) -> Option<&volutus_model::HostName>| {
        step.actions.iter().position(|action| wanted(action) == Some(&id.host))
    };
    let disable = place(|action| match action {
        Action::DisableCompute { host, .. } => Some(host),
        _ => None,
    });
    let enable = place(|action| match action {
        Action::EnableCompute { host } => Some(host),
        _ => None,
    });
    let prove = step
        .actions
        .iter()
        .position(|action| matches!(action, Action::ProveDaemon { daemon, .. } if daemon == id));
    if disable.is_none_or(|disable| disable > at.action) {
        findings.push(blocking(
            "compute-not-disabled",
            &step.id,
            format!("{id} is replaced while instances may still be scheduled to it; they would hang"),
            PLAN_AGAIN,
        ));
    }
    let given_back = step
        .give_back
        .iter()
        .any(|action| matches!(action, Action::EnableCompute { host } if *host == id.host));
    let enabled = enable.is_some() && enable > prove;
    if !enabled || !given_back {
        findings.push(blocking(
            "compute-not-given-back",
            &step.id,
            format!(
                "{} is not enabled after its proof in the same step, or not given back when the \
                 run is aborted in the middle of it",
                id.host
            ),
            PLAN_AGAIN,
        ));
    }
}
