//! A vulnerability is closed within the series: only the daemons that run a vulnerable version are
//! switched, to a patched release beside the one that they run from. No schema is touched: within a
//! series upstream's stable branches take no migrations (OpenStack's stable policy).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use volutus_catalog::{Catalog, Service};
use volutus_model::name::{DaemonId, DaemonKind, PackageVersion, Series, ServiceName};
use volutus_model::plan::{Plan, PlanKind};
use volutus_model::{Inventory, Observation, PatchName, Policy, VersionChange};

use crate::draft::Draft;
use crate::report::PlanReport;
use crate::state::{Member, State, Unseen, present, read_members, series_of};
use crate::{Error, PlanningInput, finish_without_horizon, replace, rules};

/// Everything that the plan of a patch is made of.
#[derive(Debug, Clone)]
pub struct PatchInput {
    /// What is declared.
    pub inventory: Inventory,
    /// What was seen.
    pub observation: Observation,
    /// The vulnerability.
    pub vulnerability: String,
    /// What the patched release is called.
    pub release: PatchName,
    /// The packages that are replaced.
    pub changes: Vec<VersionChange>,
    /// The limits to keep: those of a patch, see [`Policy::for_patch`].
    pub policy: Policy,
    /// When the plan is made; it becomes part of the plan.
    pub now: Timestamp,
}

/// Makes the plan of a patch: the daemons that run one of the versions that are to go, and no others, in
/// the same order and with the same drains and proofs as in an upgrade.
///
/// # Errors
/// [`Error::NothingToPatch`] where no daemon runs such a version; [`Error::PatchOfSeveralSeries`],
/// [`Error::PatchUneven`] and [`Error::ReleaseInUse`] where one patched release cannot be what all of them
/// run; and where what a daemon of a service concerned runs was not seen.
pub fn plan_patch(input: &PatchInput, catalog: &Catalog) -> Result<(Plan, PlanReport), Error> {
    let exposed = |id: &DaemonId, service: &Service| is_exposed(input, catalog, id, service);
    let series = series_touched(&input.observation, catalog, &input.vulnerability, exposed)?;
    let planning =
        PlanningInput::staying(&input.inventory, &input.observation, series, &input.policy, input.now);
    let (state, left_out) = read_exposed(&planning, input, catalog)?;
    let kind = PlanKind::Patch {
        vulnerability: input.vulnerability.clone(),
        release: input.release.clone(),
        changes: input.changes.clone(),
    };
    let mut draft = Draft::new(&planning, catalog, &state, kind);
    rules::baseline::plan_baseline(&mut draft)?;
    rules::stage_release::plan_stage_release(&mut draft)?;
    rules::roll::check_links(&mut draft);
    let services = rules::roll::by_dependency(&draft);
    rules::shadow::plan_shadows(&mut draft, &services)?;
    replace(&mut draft, &services)?;
    rules::again::plan_again(&mut draft)?;
    rules::soak::plan_soak(&mut draft)?;
    for daemon in left_out {
        draft
            .note(&daemon, "what it runs was not seen; it is left out, and the proof at the end will say so");
    }
    draft.note("schemas", "they are not touched: a stable branch takes no migrations");
    finish_without_horizon(draft, &planning, &state)
}

/// Whether a daemon was seen to run one of the versions that are to go.
fn is_exposed(input: &PatchInput, catalog: &Catalog, daemon: &DaemonId, service: &Service) -> bool {
    let possible = |change: &&VersionChange| catalog.may_load(service, &change.distribution);
    input.changes.iter().filter(possible).any(|change| {
        let runs = input.observation.running_package(daemon, &service.distribution, &change.distribution);
        runs.is_some_and(|runs| change.from.contains(runs))
    })
}

/// The series of the daemons that are exposed.
pub(crate) fn series_touched(
    observation: &Observation,
    catalog: &Catalog,
    vulnerability: &str,
    is_exposed: impl Fn(&DaemonId, &Service) -> bool,
) -> Result<Series, Error> {
    let known = catalog.daemons();
    let mut found: BTreeMap<Series, DaemonId> = BTreeMap::new();
    for daemon in observation.daemons.keys() {
        let Some((service, _)) = known.get(&daemon.kind).filter(|(s, _)| is_exposed(daemon, s)) else {
            continue;
        };
        let runs = observation.running_version(daemon);
        if let Some(series) = runs.and_then(|runs| catalog.series_of(&service.name, runs)) {
            found.entry(series).or_insert_with(|| daemon.clone());
        }
    }
    let mut series = found.keys();
    match (series.next(), series.next()) {
        (Some(series), None) => Ok(*series),
        (Some(_), Some(_)) => Err(Error::PatchOfSeveralSeries { seen: found.into_iter().collect() }),
        (None, _) => Err(Error::NothingToPatch { vulnerability: vulnerability.to_owned() }),
    }
}

/// Where the cloud stands, restricted to the kinds of daemons that are exposed; and the daemons that were
/// not seen.
fn read_exposed<'a>(
    planning: &'a PlanningInput,
    input: &PatchInput,
    catalog: &'a Catalog,
) -> Result<(State<'a>, Vec<DaemonId>), Error> {
    let mut members = read_members(&planning.inventory, &planning.observation, catalog, Unseen::LeftOut)?;
    let mut versions = BTreeMap::new();
    for service in present(catalog, &members) {
        let mut all: Vec<&mut Member<'_>> =
            members.values_mut().flatten().filter(|member| member.service.name == service.name).collect();
        for member in &mut all {
            member.pending = is_exposed(input, catalog, &member.id, service);
        }
        let all: Vec<&Member<'_>> = all.into_iter().map(|member| &*member).collect();
        if all.iter().any(|member| member.pending) {
            versions.insert(service.name.clone(), version_of(input, service, &all, catalog)?);
        }
    }
    refuse_own_release(planning, input, &members)?;
    let seen: BTreeSet<&DaemonId> = members.values().flatten().map(|member| &member.id).collect();
    let left_out: Vec<DaemonId> =
        planning.inventory.daemons().map(|(id, ..)| id).filter(|id| !seen.contains(id)).collect();
    let concerned = versions.keys().collect();
    refuse_unseen(&input.observation, catalog, &left_out, &concerned)?;
    members.retain(|_, members: &mut Vec<Member<'_>>| members.iter().any(|member| member.pending));
    let services = present(catalog, &members);
    let series = planning.target;
    Ok((State { from: series, way: vec![series], versions, members, services }, left_out))
}

/// The one version that a service has after the patch.
fn version_of(
    input: &PatchInput,
    service: &Service,
    members: &[&Member<'_>],
    catalog: &Catalog,
) -> Result<PackageVersion, Error> {
    let change = input.changes.iter().find(|change| change.distribution == service.distribution);
    let mut after = BTreeSet::new();
    for member in members {
        let (_, runs) = series_of(member, catalog)?;
        let replaced = change.filter(|change| member.pending && change.from.contains(runs));
        after.insert(replaced.map_or(runs, |change| &change.to).clone());
    }
    let mut found = after.iter();
    match (found.next(), found.next()) {
        (Some(version), None) => Ok(version.clone()),
        _ => Err(Error::PatchUneven { service: service.name.clone(), versions: after.into_iter().collect() }),
    }
}

/// A release that something runs from is never changed in place: what its processes run could then not
/// be told any more.
fn refuse_own_release(
    planning: &PlanningInput,
    input: &PatchInput,
    members: &BTreeMap<&DaemonKind, Vec<Member<'_>>>,
) -> Result<(), Error> {
    let releases = &planning.inventory.releases;
    for member in members.values().flatten().filter(|member| member.pending) {
        let path = releases.patched_path_of(planning.target, &input.release, &member.service.name);
        let here = [&member.seen.release_path, &member.seen.link];
        if here.into_iter().any(|fact| fact.value() == Some(&path)) {
            return Err(Error::ReleaseInUse { daemon: member.id.clone(), path });
        }
    }
    Ok(())
}

/// A daemon of a service that is patched has to be seen; any other may be down.
pub(crate) fn refuse_unseen(
    observation: &Observation,
    catalog: &Catalog,
    left_out: &[DaemonId],
    services: &BTreeSet<&ServiceName>,
) -> Result<(), Error> {
    let known = catalog.daemons();
    let concerned = |daemon: &&DaemonId| {
        known.get(&daemon.kind).is_some_and(|(service, _)| services.contains(&service.name))
    };
    let why = |daemon: &DaemonId| {
        let fact = observation.daemons.get(daemon);
        let unseen = fact.and_then(|fact| match fact.value() {
            None => fact.why(),
            Some(seen) => seen.version.why(),
        });
        (daemon.clone(), unseen.unwrap_or("it was not looked at").to_owned())
    };
    let unseen: Vec<(DaemonId, String)> = left_out.iter().filter(concerned).map(why).collect();
    if unseen.is_empty() { Ok(()) } else { Err(Error::Unseen { unseen }) }
}
