//! The control plane's daemons are replaced: one stage per kind, so that services which do not
//! depend on each other roll at the same time.

use volutus_catalog::{Daemon, DaemonRole, Service};
use volutus_model::name::StageId;
use volutus_model::plan::Phase;

use super::{expand, links, roll_api, roll_workers, upgrade_check};
use crate::Error;
use crate::draft::{Draft, NewStage};

/// The id of a kind's stage.
pub(crate) fn stage_of(daemon: &Daemon) -> String {
    format!("roll-{}", daemon.kind)
}

pub(crate) fn plan_roll(draft: &mut Draft<'_>) -> Result<(), Error> {
    links::check_links(draft);
    for service in by_dependency(draft) {
        for (daemon, members) in draft.state.kinds_of(service) {
            if daemon.role == DaemonRole::Compute {
                continue;
            }
            let done = members.iter().filter(|member| !member.pending).count();
            if done > 0 {
                draft.note(
                    &daemon.kind,
                    format!("{done} of {} run the target already and are left out", members.len()),
                );
            }
            let (parallel_max, steps) = match daemon.role {
                DaemonRole::Api => roll_api::steps(draft, members)?,
                DaemonRole::Worker => roll_workers::steps(draft, members)?,
                DaemonRole::Compute => continue,
            };
            let after = edges(draft, service, daemon);
            draft.add(NewStage {
                id: stage_of(daemon),
                phase: Phase::Roll,
                title: format!("replace {} one after another", daemon.kind),
                parallel_max,
                after,
                steps,
            })?;
        }
    }
    Ok(())
}

/// Services such that each comes behind those that it must come after; the stages of the latter
/// then exist when an edge to them is asked for.
fn by_dependency<'a>(draft: &Draft<'a>) -> Vec<&'a Service> {
    let mut rest: Vec<&Service> = draft.state.services.clone();
    let mut ordered: Vec<&Service> = Vec::new();
    while !rest.is_empty() {
        let waits = |service: &Service| rest.iter().any(|other| service.after.contains(&other.name));
        // Services that wait for each other would be a mistake of the catalog; the first one then
        // goes ahead, and the plan checker tells of the order.
        let next = rest.iter().position(|service| !waits(service)).unwrap_or(0);
        ordered.push(rest.remove(next));
    }
    ordered
}

/// What a kind's roll waits for.
pub(crate) fn edges(draft: &Draft<'_>, service: &Service, daemon: &Daemon) -> Vec<(StageId, String)> {
    let mut edges = Vec::new();
    let widened = draft
        .edge(&expand::stage_of(service), "new code needs the widened schema")
        .or_else(|| draft.edge(upgrade_check::STAGE, "the upgrade check has to pass first"));
    edges.extend(widened);
    for kind in &daemon.after {
        edges.extend(
            draft.edge(&format!("roll-{kind}"), format!("{} must not be newer than {kind}", daemon.kind)),
        );
    }
    // Only the kinds that wait for none of their own service carry the edges to other services;
    // the rest inherit them.
    if daemon.after.is_empty() || edges.len() < 2 {
        for name in &service.after {
            let Some(other) = draft.catalog.services.get(name) else {
                continue;
            };
            for kind in &other.daemons {
                if kind.role != DaemonRole::Compute {
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
