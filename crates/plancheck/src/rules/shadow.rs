//! Where the policy wants it, new code of an API answers Volutus before any of its daemons is
//! replaced; and its shadow is always taken away.

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
        let Action::ShadowApi { shadow, .. } = action else { continue };
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
