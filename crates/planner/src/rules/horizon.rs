//! Until when each service's way back is open.

use std::collections::BTreeSet;

use volutus_catalog::{Daemon, HopFacts, Service};
use volutus_model::name::StageId;
use volutus_model::plan::{Phase, RollbackHorizon, SchemaClass, Stage};

use super::{anchor, expand, roll};
use crate::draft::Draft;

/// The horizons, and the stages from which on the way back is a restore.
pub(crate) fn plan_horizon(draft: &Draft<'_>) -> (Vec<RollbackHorizon>, BTreeSet<StageId>) {
    let mut horizons = Vec::new();
    let mut closing = BTreeSet::new();
    for &service in &draft.state.services {
        let hop = draft.hop(service);
        let (until, why) = horizon_of(draft, service, &hop);
        if hop.class == SchemaClass::Restore {
            closing.extend(until.clone());
        }
        horizons.push(RollbackHorizon { service: service.name.clone(), class: hop.class, until, why });
    }
    let finalize = draft.stages().iter().filter(|stage| stage.phase == Phase::Finalize);
    closing.extend(finalize.map(|stage| stage.id.clone()));
    (horizons, closing)
}

/// The first stage, in the plan's order, from which on the way back is a restore.
pub(crate) fn point_of_no_return(stages: &[Stage], closing: &BTreeSet<StageId>) -> Option<StageId> {
    stages.iter().map(|stage| &stage.id).find(|id| closing.contains(*id)).cloned()
}

fn horizon_of(draft: &Draft<'_>, service: &Service, hop: &HopFacts) -> (Option<StageId>, String) {
    if hop.class == SchemaClass::Restore {
        let why = format!(
            "Expanding takes away something that old code needs, so from then on the way back \
             is restoring the copy that is taken just before. {}",
            hop.why
        );
        return (draft.stage(&expand::stage_of(service)), why);
    }
    let schema = match hop.class {
        SchemaClass::None => "Old code finds the schema that it knows",
        SchemaClass::CodeOnly => "Old code lives with the additions to the schema",
        SchemaClass::Review | SchemaClass::Restore => {
            "Old code should live with the schema, but somebody has to read its changes to be sure"
        }
    };
    if let Some((_, version)) = anchor::needed(draft, service)
        && draft.stage(&anchor::release_stage_of(service)).is_some()
    {
        let why = format!(
            "Its records at version {version}, which are kept until they are released, let old daemons \
             start again"
        );
        return (first_finalize(draft, service), format!("{schema}. {why}. {}", hop.why));
    }
    if let Some((stage, why)) = refused_from(draft, service).or_else(|| capped_from(draft, service)) {
        return (Some(stage), format!("{schema}. {why}. {}", hop.why));
    }
    let first = first_finalize(draft, service);
    (first, format!("{schema}. {}", hop.why))
}

/// The stage that makes the last record of a binary new, for services whose old code then
/// refuses to start.
fn refused_from(draft: &Draft<'_>, service: &Service) -> Option<(StageId, String)> {
    if !service.refuses_newer_records {
        return None;
    }
    let old = service.record_versions.get(&draft.state.from)?;
    let new = service.record_versions.get(&draft.input.target)?;
    if old == new {
        return None;
    }
    let versioned = |daemon: &&Daemon| daemon.record.as_ref().is_some_and(|r| r.versioned);
    let first =
        service.daemons.iter().filter(versioned).find_map(|daemon| draft.stage(&roll::stage_of(daemon)))?;
    let why = format!(
        "But code that writes record version {old} refuses to start once every record of its \
         binary says {new}: when {first} has replaced its last daemon, the way back first lowers \
         the lowest record of each binary. No data is lost by that, and no restore is needed"
    );
    Some((first, why))
}

/// The stage from which daemons record versions that old code does not understand, for services
/// whose code caps what it sends by its peers' records. A series of which nothing is recorded in
/// the catalog is not judged: the class of the hop says how sure one can be.
fn capped_from(draft: &Draft<'_>, service: &Service) -> Option<(StageId, String)> {
    let old = service.recorded_versions.get(&draft.older())?;
    let new = service.recorded_versions.get(&draft.newer())?;
    if old == new {
        return None;
    }
    let first = service.daemons.iter().find_map(|daemon| draft.stage(&roll::stage_of(daemon)))?;
    let changed: Vec<&str> = new
        .iter()
        .filter(|(what, version)| old.get(*what) != Some(version))
        .map(|(w, _)| w.as_str())
        .collect();
    let why = format!(
        "But its daemons then record versions ({}) that old code refuses to speak to: no anchor is \
         known for it",
        changed.join(", ")
    );
    Some((first, why))
}

fn first_finalize(draft: &Draft<'_>, service: &Service) -> Option<StageId> {
    let unpins = service.daemons.iter().map(|daemon| format!("unpin-{}", daemon.kind));
    [anchor::release_stage_of(service)]
        .into_iter()
        .chain(unpins)
        .chain([format!("convert-{}", service.name), format!("contract-{}", service.name)])
        .find_map(|id| draft.stage(&id))
}
