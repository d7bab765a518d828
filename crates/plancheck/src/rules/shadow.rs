//! Where the policy wants it, new code of an API answers Volutus before any of its daemons is
//! replaced; its shadow is always taken away; and what serves users in the end is asked the same again.

use std::collections::BTreeMap;

use volutus_catalog::Service;
use volutus_model::contract::Gate;
use volutus_model::name::ServiceName;
use volutus_model::plan::Action;
use volutus_model::{Finding, Severity};

use crate::context::Context;
use crate::graph::At;
use crate::rules::order::all_before;
use crate::{PLAN_AGAIN, blocking};

pub(crate) fn check_shadow(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let mut shadows: BTreeMap<&ServiceName, Vec<At>> = BTreeMap::new();
    for (at, action) in context.graph.actions() {
        let Action::ShadowApi { shadow, traffic, .. } = action else { continue };
        shadows.entry(&shadow.service).or_default().push(at);
        let step = context.graph.steps[at.step].1;
        let back = step.give_back.iter().any(
            |back| matches!(back, Action::StopShadow { shadow: stopped } if stopped.daemon == shadow.daemon),
        );
        let right = context.is_old_release(&shadow.daemon, &shadow.service, &shadow.from)
            && context.is_new_release(&shadow.service, &shadow.to)
            && context
                .members
                .get(&shadow.daemon)
                .is_some_and(|member| member.service.name == shadow.service);
        let own_port = context.inventory.daemons().all(|(_, host, declaration)| {
            declaration.port.is_none_or(|port| {
                host.name != shadow.daemon.host || !shadow.new.ends_with(&format!(":{port}"))
            })
        });
        if !back {
            findings.push(blocking(
                "shadow-not-stopped",
                &step.id,
                "its shadow stays where the run is aborted in the middle of it",
                PLAN_AGAIN,
            ));
        }
        if *traffic != context.plan.policy.contract.traffic {
            findings.push(blocking(
                "shadow-other-traffic",
                &step.id,
                "it would ask what another log has than the policy names",
                PLAN_AGAIN,
            ));
        }
        if !right || !own_port {
            findings.push(blocking(
                "shadow-wrong",
                &step.id,
                "its shadow is not of the releases that the plan leads from and to, or on a port of another \
                 daemon",
                PLAN_AGAIN,
            ));
        }
    }
    check_again(context, &shadows, findings);
    if !context.plan.kind.is_upgrade() && !context.is_patch() {
        return;
    }
    let services: BTreeMap<&ServiceName, &Service> =
        context.members.values().map(|member| (&member.service.name, member.service)).collect();
    for service in services.into_values() {
        check_service(context, service, shadows.get(&service.name).map_or(&[], Vec::as_slice), findings);
    }
}

fn check_service(context: &Context<'_>, service: &Service, shadows: &[At], findings: &mut Vec<Finding>) {
    let switches: Vec<At> = service.daemons.iter().flat_map(|d| context.switches_of(&d.kind)).collect();
    if !all_before(context, shadows, &switches) {
        findings.push(blocking(
            "shadow-late",
            &service.name,
            "a daemon of it is replaced before the answers of its old and new code were compared",
            PLAN_AGAIN,
        ));
    }
    let api = service.daemons.iter().find(|d| d.health.as_ref().is_some_and(|h| h.authenticated));
    let Some(api) = api else { return };
    let replicas = context.members.iter().filter(|(id, _)| id.kind == api.kind);
    let (mut total, mut with_port) = (0, 0);
    for (_, member) in replicas {
        total += 1;
        with_port += usize::from(member.declaration.port.is_some());
    }
    // Where some replica is new already, users have met it.
    let all_old = total > 0 && context.switches_of(&api.kind).len() == total;
    let wanted = context.plan.policy.contract.gate_of(&service.name) != Gate::Off;
    if shadows.is_empty() && wanted && all_old && with_port > 0 {
        findings.push(Finding::new(
            Severity::Blocking,
            "contract-unproved",
            service.name.to_string(),
            "its users would meet its new code without its answers having been compared with the old code's",
            "Make the plan anew, or set its gate in [contract.services] of the policy to \"off\".",
        ));
    }
}

/// Whatever was asked before users met new code is asked again with everything replaced and before
/// anything takes the way back; and nothing is asked again that was not asked before.
fn check_again(
    context: &Context<'_>,
    shadows: &BTreeMap<&ServiceName, Vec<At>>,
    findings: &mut Vec<Finding>,
) {
    let held = |at: At| context.graph.stage_of(at.step).held;
    let mut again: BTreeMap<&ServiceName, Vec<At>> = BTreeMap::new();
    for (at, action) in context.graph.actions() {
        let Action::AskAgain { shadow, gate, .. } = action else { continue };
        again.entry(&shadow.service).or_default().push(at);
        let step = &context.graph.steps[at.step].1.id;
        let mut ahead = shadows.get(&shadow.service).cloned().unwrap_or_default();
        if ahead.is_empty() {
            findings.push(blocking(
                "again-without-before",
                step,
                "its old code is not asked before users meet the new one, so that there is nothing to \
                 compare with",
                PLAN_AGAIN,
            ));
        }
        ahead.extend(context.switches.values().flatten().copied());
        let closing = context.graph.actions().filter(|(at, action)| held(*at) && closes(action));
        let closing: Vec<At> = closing.map(|(at, _)| at).collect();
        let (late, early) = if held(at) {
            (false, !all_before(context, &closing, &[at]))
        } else {
            (!all_before(context, &[at], &closing), false)
        };
        if early || late || !all_before(context, &ahead, &[at]) {
            findings.push(blocking(
                "again-misplaced",
                step,
                "it may ask while old code still serves somebody, or before or after the part of the run that \
                 it is to judge",
                PLAN_AGAIN,
            ));
        }
        if held(at) && *gate == Gate::Block {
            findings.push(blocking(
                "again-halts-finalized",
                step,
                "it would halt a run that has no way back and nothing left to do",
                PLAN_AGAIN,
            ));
        }
    }
    for service in shadows.keys() {
        let asked = again.get(*service).is_some_and(|places| places.iter().any(|at| !held(*at)));
        if !asked {
            findings.push(blocking(
                "contract-not-asked-again",
                service,
                "what serves users in the end is not asked what its old code was asked",
                PLAN_AGAIN,
            ));
        }
    }
}

/// Whether an action takes the way back, or does what only a finalized cloud bears.
fn closes(action: &Action) -> bool {
    matches!(action, Action::MigrateSchema { .. } | Action::RefreshDaemon { .. } | Action::ReleaseAnchor(_))
}
