//! A service whose old code refuses to start once all its records are new keeps records at the
//! old version until finalize, or until it has been put back.

use volutus_catalog::{AnchorFacts, Service};
use volutus_model::Severity;
use volutus_model::name::{Series, StageId};
use volutus_model::plan::{Action, Anchor, Phase};

use crate::Error;
use crate::draft::{Draft, NewStage, no_impact, step};

/// Loading a service's code and asking its databases takes seconds; minutes mean that a database
/// does not answer.
const ANCHOR_TIMEOUT_S: u32 = 300;
const ANCHOR_EXPECTED_S: u32 = 6;

/// The id of the stage that sets a service's anchor.
pub(crate) fn keep_stage_of(service: &Service) -> String {
    format!("anchor-{}", service.name)
}

/// The id of the stage that releases it.
pub(crate) fn release_stage_of(service: &Service) -> String {
    format!("release-{}", service.name)
}

/// Sets the anchors. In an upgrade they come before the first daemon of the service is replaced.
/// A rollback sees to it that they are there before it touches anything: where one was lost while
/// old records remain it is set again, and where none can be set nothing has happened yet.
pub(crate) fn plan_keep(draft: &mut Draft<'_>) -> Result<(), Error> {
    for service in draft.state.services.clone() {
        let Some((facts, version)) = needed(draft, service) else {
            continue;
        };
        let touched = draft.state.kinds_of(service).any(|(_, members)| members.iter().any(|m| m.pending));
        if !touched {
            continue;
        }
        if !is_possible(draft, service, facts, version) {
            if draft.is_back() {
                return Err(Error::NoAnchor { service: service.name.clone(), version });
            }
            draft.find(
                Severity::Serious,
                "no-anchor",
                &service.name,
                format!(
                    "every record of one of its binaries is newer than version {version} already, so \
                     that no anchor can be set any more: its daemons of {} would refuse to start again",
                    draft.older()
                ),
                "Accept that this service has no way back without lowering a record by hand.",
            );
            continue;
        }
        // A record carries the version of the code that writes it: an anchor is old code's.
        let action = Action::KeepAnchor(anchor(draft, service, facts, version, draft.older())?);
        let Some(host) = action.host().cloned() else { continue };
        let after = if draft.is_back() {
            draft.edge("stage-control", "the record is written by the old code")
        } else {
            draft.edge(super::upgrade_check::STAGE, "nothing is recorded before the checks have passed")
        };
        draft.add(NewStage {
            id: keep_stage_of(service),
            phase: Phase::Anchor,
            title: format!("let {} keep records at version {version}", service.name),
            parallel_max: 1,
            after: after.into_iter().collect(),
            steps: vec![step(
                format!("anchor/{}", service.name),
                format!("keep records of {} at version {version}, by its own code on {host}", service.name),
                vec![action],
                no_impact("disabled records that belong to no daemon; nothing is scheduled to them"),
                ANCHOR_EXPECTED_S,
                ANCHOR_TIMEOUT_S,
            )?],
        })?;
        draft.note(
            keep_stage_of(service),
            format!(
                "old daemons of {} refuse to start once every record of their binary is new; with \
                 one disabled record per binary kept at version {version} they may start until it \
                 is released",
                service.name
            ),
        );
    }
    Ok(())
}

/// Releases the anchor of one service: in an upgrade first of all that finalize does, so that
/// what its daemons then ask anew is the new lowest version; in a rollback last of all.
pub(crate) fn plan_release(
    draft: &mut Draft<'_>,
    service: &Service,
    after: Vec<(StageId, String)>,
) -> Result<Option<StageId>, Error> {
    let Some((facts, version)) = needed(draft, service) else {
        return Ok(None);
    };
    let kept = draft.stage(&keep_stage_of(service)).is_some();
    let there = draft.input.observation.anchors(service.name.as_str()).next().is_some();
    if !kept && !there {
        return Ok(None);
    }
    // Any code can take records away; what a plan leads to is certain to be on the host.
    let action = Action::ReleaseAnchor(anchor(draft, service, facts, version, draft.input.target)?);
    let phase = if draft.is_back() { Phase::Anchor } else { Phase::Finalize };
    draft.add(NewStage {
        id: release_stage_of(service),
        phase,
        title: format!("release {}'s records at version {version}", service.name),
        parallel_max: 1,
        after,
        steps: vec![step(
            format!("release/{}", service.name),
            format!("release {}'s records at version {version}", service.name),
            vec![action],
            no_impact("records that belong to no daemon"),
            ANCHOR_EXPECTED_S,
            ANCHOR_TIMEOUT_S,
        )?],
    })
}

/// At the end of a rollback, all anchors go.
pub(crate) fn plan_release_all(draft: &mut Draft<'_>) -> Result<(), Error> {
    let after: Vec<_> = draft
        .leaves()
        .into_iter()
        .map(|stage| (stage, "the anchor is what lets old daemons start until the last one has".to_owned()))
        .collect();
    for service in draft.state.services.clone() {
        plan_release(draft, service, after.clone())?;
    }
    Ok(())
}

/// What is known of the service's anchor and the version it is kept at, where this hop needs one.
pub(crate) fn needed<'a>(draft: &Draft<'a>, service: &'a Service) -> Option<(&'a AnchorFacts, u32)> {
    let facts = service.anchor.as_ref()?;
    let old = service.record_versions.get(&draft.older())?;
    let new = service.record_versions.get(&draft.newer())?;
    (old < new).then_some((facts, *old))
}

/// Whether every binary still has a record that old code accepts beside its own. What was not
/// seen is taken for possible: the service's own guard has the last word.
fn is_possible(draft: &Draft<'_>, service: &Service, facts: &AnchorFacts, version: u32) -> bool {
    let Some(records) = draft.input.observation.records.get(&service.name).and_then(|fact| fact.value())
    else {
        return true;
    };
    facts.binaries.iter().all(|binary| {
        let versions: Vec<u32> = records
            .iter()
            .filter(|record| record.binary == *binary && !record.forced_down)
            .filter_map(|record| record.version.parse().ok())
            .collect();
        versions.is_empty() || versions.iter().any(|seen| *seen <= version)
    })
}

fn anchor(
    draft: &Draft<'_>,
    service: &Service,
    facts: &AnchorFacts,
    version: u32,
    series: Series,
) -> Result<Anchor, Error> {
    let first = draft
        .state
        .first_of(service)
        .ok_or_else(|| Error::NoDaemons { cloud: draft.input.inventory.name.to_string() })?;
    let declared = draft.input.inventory.services.get(&service.name);
    let declared = declared.map(|declaration| &declaration.config_files).filter(|files| !files.is_empty());
    Ok(Anchor {
        service: service.name.clone(),
        host: first.host.name.clone(),
        python: format!(
            "{}/bin/python3",
            if series == draft.state.from { draft.old_release(first) } else { draft.new_release(first) }
        ),
        config_files: declared.unwrap_or(&service.config_files).clone(),
        object: facts.object.clone(),
        binaries: facts.binaries.clone(),
        version,
    })
}
