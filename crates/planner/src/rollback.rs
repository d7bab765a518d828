//! The way back of a run: a plan like any other, made of what the run's journal says and of what
//! is seen now. Old code goes onto the schema as it was widened; no schema command runs.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use volutus_catalog::{Catalog, Service};
use volutus_model::name::{DaemonId, DaemonKind, PackageVersion, RunId, Series, ServiceName};
use volutus_model::plan::{Action, Plan, PlanKind, Step};
use volutus_model::run::{RunState, StepStatus};
use volutus_model::{Inventory, Observation, Policy, WayBackClosed};

use crate::draft::Draft;
use crate::report::PlanReport;
use crate::state::{Member, State, Unseen, present, read_members};
use crate::{Error, PlanningInput, finish_without_horizon, rules};

/// Everything that the plan of a way back is made of.
#[derive(Debug, Clone)]
pub struct RollbackInput {
    /// What is declared.
    pub inventory: Inventory,
    /// What was seen, after the run came to rest.
    pub observation: Observation,
    /// The plan that is taken back.
    pub of: Plan,
    /// The run of it.
    pub run: RunId,
    /// Where that run stands: the fold of its journal.
    pub state: RunState,
    /// The limits to keep.
    pub policy: Policy,
    /// When the plan is made; it becomes part of the plan.
    pub now: Timestamp,
}

/// Makes the plan that takes a run back: whatever runs the newer series now is put back to the
/// older one, computes first and what they talk to last.
///
/// # Errors
/// [`Error::WayBackClosed`] once finalize was allowed or an expand took the way back away;
/// [`Error::NothingToTakeBack`]; and where what runs was not seen, or does not fit the plan.
pub fn plan_rollback(input: &RollbackInput, catalog: &Catalog) -> Result<(Plan, PlanReport), Error> {
    if let Some(why) = WayBackClosed::of(&input.of, &input.state) {
        return Err(Error::WayBackClosed { of: input.of.id.clone(), why });
    }
    let (of, policy) = (&input.of, &input.policy);
    let planning = PlanningInput {
        parent: Some(of.id.clone()),
        ..PlanningInput::staying(&input.inventory, &input.observation, of.from, policy, input.now)
    };
    let ailing = replaced_in_vain(input);
    let came_from = came_from(&input.of);
    let state = read_back(&planning, input.of.to, &ailing, &came_from, catalog)?;
    let kind = PlanKind::Rollback { of: input.of.id.clone(), run: input.run.clone() };
    let mut draft = Draft::new(&planning, catalog, &state, kind);
    draft.came_from.clone_from(&came_from);
    rules::stage_release::plan_stage_release(&mut draft)?;
    rules::anchor::plan_keep(&mut draft)?;
    for service in rules::roll::by_dependency(&draft) {
        rules::canary::plan_canary(&mut draft, service)?;
        rules::waves::plan_waves(&mut draft, service)?;
        rules::roll::plan_roll(&mut draft, service)?;
    }
    rules::soak::plan_soak(&mut draft)?;
    rules::anchor::plan_release_all(&mut draft)?;
    draft.note(
        "schemas",
        "they stay as they were widened: old code lives with them, and schema commands of the old \
         release would fail on them. Nothing that was created meanwhile is lost",
    );
    if input.of.drains.is_some() {
        draft.note(
            "hosts",
            "only OpenStack's daemons are put back: kernels, packages and firmware stay as the commands of the \
             reboot left them, and instances stay where they were moved to",
        );
    }
    finish_without_horizon(draft, &planning, &state)
}

/// Where the cloud stands, seen from the way back.
fn read_back<'a>(
    input: &'a PlanningInput,
    newer: Series,
    ailing: &BTreeSet<DaemonId>,
    came_from: &BTreeMap<DaemonId, String>,
    catalog: &'a Catalog,
) -> Result<State<'a>, Error> {
    let older = input.target;
    let mut members = read_members(&input.inventory, &input.observation, catalog, Unseen::ByLink)?;
    let services = present(catalog, &members);
    let mut running: BTreeMap<&ServiceName, BTreeSet<PackageVersion>> = BTreeMap::new();
    let (mut total, mut pending) = (0, 0);
    for member in members.values_mut().flatten() {
        total += 1;
        member.pending = has_to_go_back(input, member, came_from, (older, newer), catalog)?;
        pending += usize::from(member.pending);
        if let Some(version) = member.seen.version.value()
            && catalog.series_of(&member.service.name, version) == Some(older)
        {
            running.entry(&member.service.name).or_default().insert(version.clone());
        }
    }
    // What does not serve goes back first: whatever serves is needed until it has.
    for members in members.values_mut() {
        members.sort_by_key(|member| {
            let seen = member.seen.version.value().is_some() && member.seen.active_state == "active";
            seen && !ailing.contains(&member.id)
        });
    }
    let mut versions = BTreeMap::new();
    for service in &services {
        let running = running.remove(&service.name).unwrap_or_default();
        versions.insert(service.name.clone(), old_version(input, service, running, came_from, &members)?);
    }
    let anchored =
        services.iter().any(|service| input.observation.anchors(service.name.as_str()).next().is_some());
    if pending == 0 && !anchored {
        return Err(Error::NothingToTakeBack { to: older, daemons: total });
    }
    Ok(State { from: newer, way: catalog.between(older, newer), versions, members, services })
}

/// The release directories that the daemons of a plan came from.
fn came_from(of: &Plan) -> BTreeMap<DaemonId, String> {
    let actions = of.steps().flat_map(|(_, step)| &step.actions);
    let switched = actions.filter_map(|action| match action {
        Action::SwitchDaemon { daemon, from, .. } => Some((daemon.clone(), from.clone())),
        _ => None,
    });
    switched.collect()
}

/// Daemons that the run began to replace and that did not prove themselves since.
fn replaced_in_vain(input: &RollbackInput) -> BTreeSet<DaemonId> {
    let in_vain = |step: &Step| {
        matches!(input.state.step(&step.id), StepStatus::Failed { .. } | StepStatus::Running { .. })
    };
    let steps = input.of.steps().map(|(_, step)| step).filter(|step| in_vain(step));
    let switched = steps.flat_map(|step| &step.actions).filter_map(|action| match action {
        Action::SwitchDaemon { daemon, .. } => Some(daemon.clone()),
        _ => None,
    });
    switched.collect()
}

/// Whether a daemon runs, or would run after a restart, anything but the older series; or does
/// not run at all.
fn has_to_go_back(
    input: &PlanningInput,
    member: &Member<'_>,
    came_from: &BTreeMap<DaemonId, String>,
    (older, newer): (Series, Series),
    catalog: &Catalog,
) -> Result<bool, Error> {
    let service = &member.service.name;
    let own = || input.inventory.releases.path_of(older, service);
    let old_path = came_from.get(&member.id).cloned().unwrap_or_else(own);
    let link_is_old = member.seen.link.value().is_none_or(|link| *link == old_path);
    let Some(runs) = member.seen.version.value() else {
        return Ok(true);
    };
    match catalog.series_of(service, runs) {
        Some(series) if series == newer => Ok(true),
        Some(series) if series == older => Ok(!link_is_old || member.seen.active_state != "active"),
        Some(series) => Err(Error::MixedSeries { to: older, seen: vec![(series, member.id.clone(), 1)] }),
        None => Err(Error::UnknownVersion {
            daemon: member.id.clone(),
            service: service.clone(),
            version: runs.clone(),
            known: catalog.series.keys().copied().collect(),
        }),
    }
}

/// The version that the way back leads to: that of the daemons that still run it and of the
/// release directories that the run left in place. It is never guessed.
fn old_version(
    input: &PlanningInput,
    service: &Service,
    running: BTreeSet<PackageVersion>,
    came_from: &BTreeMap<DaemonId, String>,
    members: &BTreeMap<&DaemonKind, Vec<Member<'_>>>,
) -> Result<PackageVersion, Error> {
    let mut seen = running;
    for member in members.values().flatten().filter(|member| member.service.name == service.name) {
        let own = input.inventory.releases.path_of(input.target, &service.name);
        if let Some(path) = came_from.get(&member.id).filter(|path| **path != own) {
            seen.extend(
                input.observation.package_at(&member.host.name, path, &service.distribution).cloned(),
            );
            continue;
        }
        let host = input.observation.hosts.get(&member.host.name).and_then(|fact| fact.value());
        let staged = host.and_then(|host| host.staged.get(&input.target));
        seen.extend(staged.and_then(|versions| versions.get(&service.name)).cloned());
    }
    let mut found = seen.iter();
    match (found.next(), found.next()) {
        (Some(version), None) => Ok(version.clone()),
        _ => Err(Error::OldVersion {
            service: service.name.clone(),
            to: input.target,
            seen: seen.into_iter().collect(),
        }),
    }
}
