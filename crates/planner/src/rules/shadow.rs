//! New code of each API answers Volutus beside the old code before any daemon is replaced, and what
//! it answers is compared.

use volutus_catalog::Service;
use volutus_model::Severity;
use volutus_model::contract::Gate;
use volutus_model::contract::Shadow;
use volutus_model::name::StageId;
use volutus_model::plan::{Action, Impact, ImpactLevel, Phase};

use super::{anchor, daemon, expand, upgrade_check};
use crate::Error;
use crate::draft::{Draft, NewStage, step};
use crate::state::Member;

/// So far from the replica's own port is the shadow's.
const PORT_STEP: u16 = 20_000;
/// Reading the contract, starting, and some hundred requests.
const EXPECTED_S: u32 = 45;
/// Some thousand requests to a slow cloud that makes them wait now and then.
pub(crate) const TIMEOUT_S: u32 = 1_800;

/// The id of a service's stage.
pub(crate) fn stage_of(service: &Service) -> String {
    format!("shadow-{}", service.name)
}

/// Compares the old and new code of these services.
pub(crate) fn plan_shadows<'a>(draft: &mut Draft<'a>, services: &[&'a Service]) -> Result<(), Error> {
    for &service in services {
        let policy = &draft.policy().contract;
        let gate = policy.gate_of(&service.name);
        if gate == Gate::Off {
            continue;
        }
        let (review, waivers, traffic) = (policy.review.0, policy.waivers.clone(), policy.traffic.clone());
        let writes = policy.writes;
        let Some((member, shadow)) = replica(draft, service) else { continue };
        let id = member.id.clone();
        let mut new = step(
            format!("shadow/{}", service.name),
            format!("compare the answers of {}'s old and new code on {}", service.name, id.host),
            vec![Action::ShadowApi { shadow: shadow.clone(), gate, review, waivers, traffic, writes }],
            Impact {
                level: ImpactLevel::Minor,
                service: Some(service.name.clone()),
                why: "one replica answers Volutus's requests as well, one at a time".to_owned(),
            },
            EXPECTED_S,
            TIMEOUT_S,
        )?;
        new.give_back = vec![Action::StopShadow { shadow }];
        let widened = draft
            .edge(&expand::stage_of(service), "new code needs the widened schema")
            .or_else(|| draft.edge(upgrade_check::STAGE, "the upgrade check has to pass first"))
            .or_else(|| draft.edge("stage-control", "the new code has to be there"));
        let kept = draft.edge(
            &anchor::keep_stage_of(service),
            "a record of the new code may only be written beside one that is kept",
        );
        draft.add(NewStage {
            id: stage_of(service),
            phase: Phase::Shadow,
            title: format!("see that {}'s new code answers as the old one does", service.name),
            parallel_max: 1,
            after: widened.into_iter().chain(kept).collect(),
            steps: vec![new],
        })?;
    }
    Ok(())
}

/// Edges to the shadows that there are so far: nothing is replaced before all of them held.
pub(crate) fn edges(draft: &Draft<'_>) -> Vec<(StageId, String)> {
    let shadows = draft.stages().iter().filter(|stage| stage.phase == Phase::Shadow);
    shadows
        .map(|stage| {
            (stage.id.clone(), "nothing is replaced before the API contract was seen to hold".to_owned())
        })
        .collect()
}

/// The replica that is shadowed: the first old one of the service's API.
fn replica<'a>(draft: &mut Draft<'a>, service: &'a Service) -> Option<(Member<'a>, Shadow)> {
    let state = draft.state;
    let (facts, members) = state
        .kinds_of(service)
        .find(|(facts, _)| facts.health.as_ref().is_some_and(|health| health.authenticated))?;
    let health = facts.health.as_ref()?;
    if members.iter().any(|member| !member.pending) {
        draft.note(stage_of(service), "users meet its new code already, so that nothing is compared");
        return None;
    }
    let Some((member, port)) = members.iter().find_map(|member| Some((member, member.declaration.port?)))
    else {
        draft.find(
            Severity::Serious,
            "contract-unproved",
            &facts.kind,
            "the cloud description gives no port for it, so that its old and new code cannot be asked and \
             compared before users meet the new one",
            "Give `port` in the daemon's declaration.",
        );
        return None;
    };
    let spare = port.checked_add(PORT_STEP).unwrap_or_else(|| port - PORT_STEP);
    let host = daemon::host_part(member.host.address);
    let shadow = Shadow {
        daemon: member.id.clone(),
        service: service.name.clone(),
        unit: member.declaration.unit.clone(),
        from: draft.old_release(member),
        to: draft.new_release(member),
        old: format!("http://{host}:{port}"),
        new: format!("http://{host}:{spare}"),
        health: health.path.clone(),
    };
    Some((member.clone(), shadow))
}
