//! The first compute is upgraded alone, and must boot an instance with a port before any other
//! one is touched: what no check finds, this does.

use std::collections::BTreeMap;

use volutus_catalog::{Daemon, DaemonRole, Service};
use volutus_model::Severity;
use volutus_model::plan::{Action, Impact, ImpactLevel, Phase, Step};

use super::{daemon, roll};
use crate::Error;
use crate::draft::{Draft, NewStage, step};
use crate::state::Member;

/// Disabling waits until nothing that was scheduled to the host is under way; a boot with a
/// large image takes minutes.
pub(crate) const SETTLE_TIMEOUT_S: u32 = 900;
/// Seconds that booting and deleting the canary instance is expected to take.
const CANARY_EXPECTED_S: u32 = 12;

/// The id of a kind's canary stage.
pub(crate) fn stage_of(daemon: &Daemon) -> String {
    format!("canary-{}", daemon.kind)
}

pub(crate) fn plan_canary<'a>(draft: &mut Draft<'a>, service: &'a Service) -> Result<(), Error> {
    for (daemon, members) in draft.state.kinds_of(service) {
        if daemon.role != DaemonRole::Compute {
            continue;
        }
        let Some(member) = choose(draft, members) else {
            continue;
        };
        draft.note(
            stage_of(daemon),
            format!(
                "{} is the canary: the first in the zone with the most computes, where one that \
                 is out is missed the least",
                member.host.name
            ),
        );
        if members.len() == 1 {
            draft.find(
                Severity::Serious,
                "single-compute",
                &member.id,
                "it is the only compute: while it is replaced no instance can be created",
                "Add a compute host, or choose a time at which nobody creates instances.",
            );
        }
        let mut new = compute_step(draft, member, members.len())?;
        new.id = volutus_model::StepId::new(format!("canary/{}", member.id))?;
        new.actions.push(Action::BootCanary { host: member.host.name.clone() });
        new.expected_s += CANARY_EXPECTED_S;
        let mut after = roll::edges(draft, service, daemon);
        if !draft.is_back() {
            // The whole control plane of the service has to be new, not only what the catalog
            // orders explicitly: a compute must never be newer than what it talks to.
            for other in service.daemons.iter().filter(|d| d.role.is_central()) {
                let edge = draft.edge(&roll::stage_of(other), "the control plane comes first");
                after.extend(edge.filter(|(id, _)| !after.iter().any(|(known, _)| known == id)));
            }
            after.extend(draft.edge("stage-computes", "the new code has to be on the computes"));
        }
        let stage = draft.add(NewStage {
            id: stage_of(daemon),
            phase: Phase::Canary,
            title: format!("{} the first {} and boot an instance there", draft.verb(), daemon.kind),
            parallel_max: 1,
            after,
            steps: vec![new],
        })?;
        draft.ends_with(&daemon.kind, stage);
    }
    Ok(())
}

/// The first one that is pending, in the zone that has the most computes (the first by name
/// among equals). One that somebody disabled is chosen only where there is no other: nothing can
/// be booted on it.
pub(crate) fn choose<'m, 'a>(draft: &Draft<'_>, members: &'m [Member<'a>]) -> Option<&'m Member<'a>> {
    let mut zones: BTreeMap<&Option<String>, usize> = BTreeMap::new();
    for member in members {
        *zones.entry(&member.host.zone).or_default() += 1;
    }
    let mut by_size: Vec<(&Option<String>, usize)> = zones.into_iter().collect();
    by_size.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let first = |skip_disabled: bool| {
        by_size.iter().find_map(|(zone, _)| {
            members.iter().find(|member| {
                in_place(draft, member) && member.host.zone == **zone && !(skip_disabled && member.disabled)
            })
        })
    };
    first(true).or_else(|| first(false))
}

/// Whether a compute is replaced beside its instances, and not while it is empty.
pub(crate) fn in_place(draft: &Draft<'_>, member: &Member<'_>) -> bool {
    member.pending && !draft.is_emptied(&member.host.name)
}

/// One compute: disabled, replaced, proved, enabled.
pub(crate) fn compute_step(
    draft: &mut Draft<'_>,
    member: &Member<'_>,
    computes: usize,
) -> Result<Step, Error> {
    let host = member.host.name.clone();
    let enable = Action::EnableCompute { host: host.clone() };
    let actions = vec![
        Action::DisableCompute { host: host.clone(), unless_others_did: false },
        daemon::switch(draft, member),
        daemon::prove(draft, member),
        // The canary instance comes after this: the scheduler places nothing on a disabled host.
        enable.clone(),
    ];
    let impact = if computes > 1 {
        Impact {
            level: ImpactLevel::Minor,
            service: Some(member.service.name.clone()),
            why: format!("no new instances on {host} meanwhile; running ones are not touched"),
        }
    } else {
        Impact {
            level: ImpactLevel::Major,
            service: Some(member.service.name.clone()),
            why: "no instance can be created meanwhile; running ones are not touched".to_owned(),
        }
    };
    let mut new = step(
        format!("roll/{}", member.id),
        format!("{} {}", draft.verb(), member.id),
        actions,
        impact,
        member.facts.expected_s,
        daemon::action_timeout_s(draft, member).max(SETTLE_TIMEOUT_S),
    )?;
    new.give_back = vec![enable];
    Ok(new)
}
