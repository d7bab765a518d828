//! The control plane's daemons are replaced: one stage per kind, so that services which do not
//! depend on each other roll at the same time.

use std::collections::BTreeSet;

use volutus_catalog::{Daemon, DaemonRole, Service};
use volutus_model::name::{ServiceName, StageId};
use volutus_model::plan::Phase;

use super::{anchor, expand, links, roll_agents, roll_api, roll_workers, shadow, upgrade_check};
use crate::Error;
use crate::draft::{Draft, NewStage};

/// The id of a kind's stage.
pub(crate) fn stage_of(daemon: &Daemon) -> String {
    format!("roll-{}", daemon.kind)
}

/// The control plane's daemons of one service: in the catalog's order, or, on the way back, in
/// the reverse of it.
pub(crate) fn plan_roll<'a>(draft: &mut Draft<'a>, service: &'a Service) -> Result<(), Error> {
    let mut kinds: Vec<_> = draft.state.kinds_of(service).collect();
    if draft.is_back() {
        kinds.reverse();
    }
    for (daemon, members) in kinds {
        if daemon.role == DaemonRole::Compute {
            continue;
        }
        let done = members.iter().filter(|member| !member.pending).count();
        if done > 0 {
            let why = match (draft.is_patch(), draft.is_back()) {
                (true, _) => "are not exposed".to_owned(),
                (false, true) => format!("run {} already", draft.older()),
                (false, false) => "run the target already".to_owned(),
            };
            draft.note(&daemon.kind, format!("{done} of {} {why} and are left out", members.len()));
        }
        let (parallel_max, steps) = match daemon.role {
            DaemonRole::Api => roll_api::steps(draft, members)?,
            DaemonRole::Worker => roll_workers::steps(draft, members)?,
            DaemonRole::Agent => roll_agents::steps(draft, members)?,
            DaemonRole::Compute => continue,
        };
        let after = edges(draft, service, daemon);
        let stage = draft.add(NewStage {
            id: stage_of(daemon),
            phase: Phase::Roll,
            title: format!("{} {} one after another", draft.verb(), daemon.kind),
            parallel_max,
            after,
            steps,
        })?;
        draft.ends_with(&daemon.kind, stage);
    }
    Ok(())
}

/// Tells of daemons that share a link; see [`links`].
pub(crate) fn check_links(draft: &mut Draft<'_>) {
    links::check_links(draft);
}

/// Services such that each comes behind those that it must come after; the stages of the latter
/// then exist when an edge to them is asked for.
pub(crate) fn by_dependency<'a>(draft: &Draft<'a>) -> Vec<&'a Service> {
    let mut rest: Vec<&Service> = draft.state.services.clone();
    let mut ordered: Vec<&Service> = Vec::new();
    while !rest.is_empty() {
        let waits = |service: &Service| rest.iter().any(|other| service.after.contains(&other.name));
        // Services that wait for each other would be a mistake of the catalog; the first one then
        // goes ahead, and the plan checker tells of the order.
        let next = rest.iter().position(|service| !waits(service)).unwrap_or(0);
        ordered.push(rest.remove(next));
    }
    if draft.is_back() {
        ordered.reverse();
    }
    ordered
}

/// The services whose own expand closes the way back, and those that come after one of them:
/// they are replaced last.
pub(crate) fn late(draft: &Draft<'_>) -> BTreeSet<ServiceName> {
    let mut late = BTreeSet::new();
    for service in by_dependency(draft) {
        if expand::closes_way_back(draft, service) || service.after.iter().any(|name| late.contains(name)) {
            late.insert(service.name.clone());
        }
    }
    late
}

/// What a kind's roll waits for.
pub(crate) fn edges(draft: &Draft<'_>, service: &Service, daemon: &Daemon) -> Vec<(StageId, String)> {
    if draft.is_back() {
        return edges_back(draft, service, daemon);
    }
    let mut edges = Vec::new();
    let widened = draft
        .edge(&expand::stage_of(service), "new code needs the widened schema")
        .or_else(|| draft.edge(upgrade_check::STAGE, "the upgrade check has to pass first"))
        .or_else(|| draft.edge("stage-control", "the new code has to be there"));
    edges.extend(widened);
    if daemon.role == DaemonRole::Agent {
        edges.extend(draft.edge("stage-computes", "the new code has to be on its host"));
    }
    edges.extend(draft.edge(
        &anchor::keep_stage_of(service),
        "old code may only start again while a record at its version is kept",
    ));
    for kind in &daemon.after {
        edges.extend(
            draft.edge(&format!("roll-{kind}"), format!("{} must not be newer than {kind}", daemon.kind)),
        );
    }
    // Only the kinds that wait for none of their own service carry the edges to other services;
    // the rest inherit them.
    let waits_for_own = daemon.after.iter().any(|kind| draft.stage(&format!("roll-{kind}")).is_some());
    if !waits_for_own {
        edges.extend(shadow::edges(draft));
        for name in &service.after {
            let Some(other) = draft.catalog.services.get(name) else {
                continue;
            };
            for kind in &other.daemons {
                if kind.role.is_central() {
                    edges.extend(
                        draft.edge(
                            &stage_of(kind),
                            format!("{} needs {name} in the new version", service.name),
                        ),
                    );
                }
            }
        }
    }
    edges
}

/// What a kind waits for on the way back: whatever must not be newer than it is put back first.
fn edges_back(draft: &Draft<'_>, service: &Service, daemon: &Daemon) -> Vec<(StageId, String)> {
    let mut edges: Vec<(StageId, String)> = Vec::new();
    let is_compute = |daemon: &Daemon| daemon.role == DaemonRole::Compute;
    for other in &service.daemons {
        let newer = other.after.contains(&daemon.kind) || is_compute(other) && !is_compute(daemon);
        if newer {
            let why = format!("{} must not be newer than {}", other.kind, daemon.kind);
            edges.extend(draft.end_of(&other.kind, why));
        }
    }
    // The others inherit these.
    if edges.is_empty() {
        edges.extend(draft.edge(
            &anchor::keep_stage_of(service),
            "old code only starts while a record at its version is kept",
        ));
        for staged in ["stage-control", "stage-computes"] {
            edges.extend(draft.edge(staged, "the old code has to be there"));
        }
    }
    if !is_compute(daemon) {
        for other in draft.state.services.iter().filter(|other| other.after.contains(&service.name)) {
            for kind in &other.daemons {
                let why =
                    format!("{} needs {} in the new version until it is put back", other.name, service.name);
                edges.extend(draft.end_of(&kind.kind, why));
            }
        }
    }
    edges
}
