//! The other computes follow in waves, zone by zone: a failure domain is never touched in two
//! places at once, and no zone ever has all its computes disabled.

use std::collections::BTreeMap;

use volutus_catalog::{DaemonRole, Service};
use volutus_model::Severity;
use volutus_model::plan::Phase;

use super::canary;
use crate::Error;
use crate::draft::{Draft, NewStage};
use crate::state::Member;

pub(crate) fn plan_waves<'a>(draft: &mut Draft<'a>, service: &'a Service) -> Result<(), Error> {
    for (daemon, members) in draft.state.kinds_of(service) {
        if daemon.role != DaemonRole::Compute {
            continue;
        }
        let Some(first) = canary::choose(draft, members) else {
            continue;
        };
        let mut zones: BTreeMap<&Option<String>, Vec<&Member<'_>>> = BTreeMap::new();
        for member in members {
            zones.entry(&member.host.zone).or_default().push(member);
        }
        let mut order: Vec<_> = zones.into_iter().collect();
        // The canary's zone goes on first: it has been touched already.
        order.sort_by_key(|(zone, _)| **zone != first.host.zone);
        let several = order.len() > 1;
        let mut previous =
            draft.edge(&canary::stage_of(daemon), "the first compute has to prove the release");
        for (zone, all) in order {
            let name = zone.as_deref().unwrap_or("no-zone");
            let width = wave_width(draft.policy().compute_wave, all.len());
            if all.len() == 1 && several {
                tell_of_single(draft, all[0], name);
            }
            let mut steps = Vec::new();
            for member in all {
                if member.id == first.id || !canary::in_place(draft, member) {
                    continue;
                }
                steps.push(canary::compute_step(draft, member, members.len())?);
            }
            let id = if several {
                format!("waves-{}-{name}", daemon.kind)
            } else {
                format!("waves-{}", daemon.kind)
            };
            let verb = draft.verb();
            let title = if several {
                format!("{verb} {} in zone {name}, {width} at a time", daemon.kind)
            } else {
                format!("{verb} the other {}, {width} at a time", daemon.kind)
            };
            let added = draft.add(NewStage {
                id,
                phase: Phase::Waves,
                title,
                parallel_max: width,
                after: previous.clone().into_iter().collect(),
                steps,
            })?;
            if let Some(stage) = added {
                draft.ends_with(&daemon.kind, Some(stage.clone()));
                previous = Some((stage, "one zone after another".to_owned()));
            }
        }
    }
    Ok(())
}

/// Computes that may be out at once: the policy's wave, but one of the zone always goes on.
pub(crate) fn wave_width(wave: u32, computes: usize) -> u32 {
    let others = u32::try_from(computes.saturating_sub(1)).unwrap_or(u32::MAX);
    wave.min(others).max(1)
}

fn tell_of_single(draft: &mut Draft<'_>, member: &Member<'_>, zone: &str) {
    draft.find(
        Severity::Warning,
        "single-compute-in-zone",
        &member.id,
        format!(
            "it is the only compute of zone {zone}: while it is replaced no instance can be \
             created there"
        ),
        "Add a compute host to the zone, or accept that boots in this zone wait or fail meanwhile.",
    );
}
