//! Client gates of the policy run, each at its moment, and nothing that they guard goes ahead of them.

use volutus_model::Finding;
use volutus_model::gate::{ClientGate, Moment};
use volutus_model::plan::{Action, Phase, SchemaPhase};

use crate::context::Context;
use crate::graph::At;
use crate::rules::order::all_before;
use crate::{PLAN_AGAIN, blocking};

pub(crate) fn check_gates(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let policy = &context.plan.policy;
    let mut found: Vec<(At, &ClientGate)> = Vec::new();
    for (at, action) in context.graph.actions() {
        let Action::RunGate(gate) = action else { continue };
        let step = context.graph.steps[at.step].1;
        if !policy.gates.contains(gate) || step.action_timeout_s != gate.timeout_s {
            findings.push(blocking(
                "gate-unknown",
                &step.id,
                format!(
                    "its command, its moment or its limit is not that of a gate of the policy ({})",
                    gate.name
                ),
                PLAN_AGAIN,
            ));
        }
        found.push((at, gate));
    }
    // A rollback and a reboot have no such moments.
    if !context.plan.kind.is_upgrade() {
        return;
    }
    for gate in &policy.gates {
        let places: Vec<At> = found.iter().filter(|(_, there)| *there == gate).map(|(at, _)| *at).collect();
        let [at] = places.as_slice() else {
            findings.push(blocking(
                "gate-missing",
                &gate.name,
                format!(
                    "the policy wants it once at the moment `{}`, and the plan runs it {} times",
                    gate.when,
                    places.len()
                ),
                PLAN_AGAIN,
            ));
            continue;
        };
        check_moment(context, gate, *at, findings);
    }
}

fn check_moment(context: &Context<'_>, gate: &ClientGate, at: At, findings: &mut Vec<Finding>) {
    let places = |wanted: &dyn Fn(At, &Action) -> bool| -> Vec<At> {
        context.graph.actions().filter(|(at, action)| wanted(*at, action)).map(|(at, _)| at).collect()
    };
    let held = |at: At| context.graph.stage_of(at.step).held;
    let switches = places(&|_, action| matches!(action, Action::SwitchDaemon { .. }));
    // Widening that closes a way back comes behind the replacement of all that does not need it.
    let early_expands = places(&|at, action| {
        matches!(action, Action::MigrateSchema { phase: SchemaPhase::Expand, .. })
            && !switches.iter().any(|switch| context.graph.before(*switch, at))
    });
    let works = |action: &Action| !matches!(action, Action::Watch { .. } | Action::RunGate(_));
    let soaks = places(&|at, _| context.graph.stage_of(at.step).phase == Phase::Soak);
    let finalizing = places(&|at, action| held(at) && works(action));
    let (ahead, behind) = match gate.when {
        Moment::Before => (Vec::new(), places(&|_, action| works(action))),
        Moment::AfterExpand => (early_expands, switches),
        Moment::AfterRoll => (switches, soaks.into_iter().chain(finalizing).collect()),
        Moment::BeforeFinalize => (switches.into_iter().chain(soaks).collect(), finalizing),
        Moment::After => (places(&|_, action| works(action)), Vec::new()),
    };
    if !all_before(context, &[at], &behind) {
        findings.push(blocking(
            "gate-late",
            &gate.name,
            format!("something that it guards at the moment `{}` may go ahead of it", gate.when),
            PLAN_AGAIN,
        ));
    }
    if !all_before(context, &ahead, &[at]) || (gate.when == Moment::After) != held(at) {
        findings.push(blocking(
            "gate-early",
            &gate.name,
            format!("it may run before the moment `{}` has come, and would judge something else", gate.when),
            PLAN_AGAIN,
        ));
    }
}
