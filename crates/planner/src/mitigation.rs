//! The way to a vulnerability is closed by a command of the operator's on every host that runs vulnerable
//! code, and by what has to restart for it. No version changes: what there is where no release has the fix.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use volutus_catalog::{Catalog, DaemonRole, Service};
use volutus_model::mitigation::command;
use volutus_model::name::{DaemonId, DaemonKind, PackageVersion, ServiceName};
use volutus_model::plan::{Action, Impact, ImpactLevel, Phase, Plan, PlanKind, Refresh, Step};
use volutus_model::{
    ExposedPackage, HostDeclaration, Inventory, Mitigation, MitigationMethod, Observation, Policy,
};

use crate::draft::{Draft, NewStage, step};
use crate::patch::{refuse_unseen, series_touched};
use crate::report::PlanReport;
use crate::rules::roll_api::{self, Replicas};
use crate::rules::{baseline, canary, daemon, roll, soak, waves};
use crate::state::{Member, State, Unseen, present, read_members, series_of};
use crate::{Error, PlanningInput, finish_without_horizon};

/// Seconds that a command is expected to take, and its check as well: they write and read files.
const COMMAND_EXPECTED_S: u32 = 2;
/// Seconds that booting and deleting the canary instance is expected to take.
const CANARY_EXPECTED_S: u32 = 12;

/// Everything that the plan of a mitigation is made of.
#[derive(Debug, Clone)]
pub struct MitigationInput {
    /// What is declared.
    pub inventory: Inventory,
    /// What was seen.
    pub observation: Observation,
    /// The vulnerability.
    pub vulnerability: String,
    /// The versions whose daemons are concerned.
    pub exposed: Vec<ExposedPackage>,
    /// What is done.
    pub mitigation: Mitigation,
    /// Whether it is taken back.
    pub undo: bool,
    /// The limits to keep: those of a patch, see [`Policy::for_patch`]. The mitigation is one of its.
    pub policy: Policy,
    /// When the plan is made; it becomes part of the plan.
    pub now: Timestamp,
}

/// Makes the plan of a mitigation: on one host after another that has an exposed daemon, the command once,
/// around it what its method asks for, and last its check. Hosts of computes come behind those of the
/// control plane, and behind a first one.
///
/// # Errors
/// [`Error::NothingToPatch`] where no daemon runs such a version; [`Error::PatchOfSeveralSeries`] where
/// the cloud is in the middle of an upgrade; [`Error::NoUndo`] where nothing takes the mitigation back; and
/// where what a daemon of a service concerned runs was not seen.
pub fn plan_mitigation(input: &MitigationInput, catalog: &Catalog) -> Result<(Plan, PlanReport), Error> {
    if input.undo && input.mitigation.undo.is_empty() {
        return Err(Error::NoUndo { mitigation: input.mitigation.name.clone() });
    }
    let exposed = |id: &DaemonId, service: &Service| is_exposed(input, catalog, id, service);
    let series = series_touched(&input.observation, catalog, &input.vulnerability, exposed)?;
    let planning =
        PlanningInput::staying(&input.inventory, &input.observation, series, &input.policy, input.now);
    let mut members = read_members(&planning.inventory, &planning.observation, catalog, Unseen::LeftOut)?;
    for member in members.values_mut().flatten() {
        member.pending = exposed(&member.id, member.service);
    }
    let seen: BTreeSet<&DaemonId> = members.values().flatten().map(|member| &member.id).collect();
    let left_out: Vec<DaemonId> =
        planning.inventory.daemons().map(|(id, ..)| id).filter(|id| !seen.contains(id)).collect();
    let concerned: BTreeSet<&ServiceName> =
        members.values().flatten().filter(|m| m.pending).map(|m| &m.service.name).collect();
    refuse_unseen(&input.observation, catalog, &left_out, &concerned)?;
    let versions = even_versions(&members, &concerned, catalog)?;
    members.retain(|_, members: &mut Vec<Member<'_>>| members.iter().any(|member| member.pending));
    let services = present(catalog, &members);
    let state = State { from: series, way: vec![series], versions, members, services };
    let kind = PlanKind::Mitigation {
        vulnerability: input.vulnerability.clone(),
        exposed: input.exposed.clone(),
        mitigation: input.mitigation.clone(),
        undo: input.undo,
    };
    let mut draft = Draft::new(&planning, catalog, &state, kind);
    baseline::plan_baseline(&mut draft)?;
    let hosts = by_host(&draft);
    let (computes, control): (Vec<_>, Vec<_>) = hosts.into_iter().partition(OnHost::has_compute);
    plan_control(&mut draft, input, &control)?;
    plan_computes(&mut draft, input, &computes)?;
    soak::plan_soak(&mut draft)?;
    for daemon in left_out {
        draft
            .note(&daemon, "what it runs was not seen; it is left out, and the proof at the end will say so");
    }
    draft.note(
        "versions",
        "they stay: what runs is as vulnerable as before, and only the way to it is closed",
    );
    finish_without_horizon(draft, &planning, &state)
}

/// Whether a daemon was seen to run one of the versions that are concerned.
fn is_exposed(input: &MitigationInput, catalog: &Catalog, daemon: &DaemonId, service: &Service) -> bool {
    let possible = |package: &&ExposedPackage| catalog.may_load(service, &package.distribution);
    input.exposed.iter().filter(possible).any(|package| {
        let runs = input.observation.running_package(daemon, &service.distribution, &package.distribution);
        runs.is_some_and(|runs| package.versions.contains(runs))
    })
}

/// The versions of the services concerned, of which all daemons run one; those of others differ from daemon
/// to daemon, and are proved daemon by daemon only.
fn even_versions(
    members: &BTreeMap<&DaemonKind, Vec<Member<'_>>>,
    concerned: &BTreeSet<&ServiceName>,
    catalog: &Catalog,
) -> Result<BTreeMap<ServiceName, PackageVersion>, Error> {
    let mut seen: BTreeMap<&ServiceName, BTreeSet<&PackageVersion>> = BTreeMap::new();
    for member in members.values().flatten().filter(|member| concerned.contains(&member.service.name)) {
        let (_, runs) = series_of(member, catalog)?;
        seen.entry(&member.service.name).or_default().insert(runs);
    }
    let one = seen.into_iter().filter(|(_, versions)| versions.len() == 1);
    Ok(one
        .flat_map(|(service, versions)| versions.into_iter().map(move |v| (service.clone(), v.clone())))
        .collect())
}

/// The exposed daemons of one host, in the order in which they restart.
struct OnHost<'a> {
    host: &'a HostDeclaration,
    members: Vec<Member<'a>>,
}

impl OnHost<'_> {
    fn has_compute(&self) -> bool {
        self.members.iter().any(|member| member.facts.role == DaemonRole::Compute)
    }
}

/// The hosts with exposed daemons, in the order of the description; on each of them services behind those
/// that they must come after, and of a service the kinds in the catalog's order.
fn by_host<'a>(draft: &Draft<'a>) -> Vec<OnHost<'a>> {
    let mut found: BTreeMap<&str, Vec<Member<'a>>> = BTreeMap::new();
    for service in roll::by_dependency(draft) {
        for (_, members) in draft.state.kinds_of(service) {
            for member in members.iter().filter(|member| member.pending) {
                found.entry(member.host.name.as_str()).or_default().push(member.clone());
            }
        }
    }
    let hosts = draft.input.inventory.hosts.iter();
    hosts.filter_map(|host| Some(OnHost { host, members: found.remove(host.name.as_str())? })).collect()
}

/// The hosts without a compute, one after another: no service has ever two of its daemons out.
fn plan_control(draft: &mut Draft<'_>, input: &MitigationInput, hosts: &[OnHost<'_>]) -> Result<(), Error> {
    let mut steps: Vec<Step> = Vec::new();
    for here in hosts {
        let mut new = on_host(draft, input, here)?;
        new.requires = steps.last().map(|before| before.id.clone()).into_iter().collect();
        steps.push(new);
    }
    let after = draft.edge("baseline", "ordinary work is watched first");
    let verb = verb(input);
    draft.add(NewStage {
        id: verb.to_owned(),
        phase: Phase::Roll,
        title: format!("{verb} on one host after another: {}", input.mitigation.name),
        parallel_max: 1,
        after: after.into_iter().collect(),
        steps,
    })?;
    Ok(())
}

/// The hosts with a compute: the first alone, and zone by zone the others.
fn plan_computes(draft: &mut Draft<'_>, input: &MitigationInput, hosts: &[OnHost<'_>]) -> Result<(), Error> {
    let all: Vec<Member<'_>> = draft
        .state
        .members
        .values()
        .flatten()
        .filter(|member| member.facts.role == DaemonRole::Compute)
        .cloned()
        .collect();
    let Some(first) = canary::choose(draft, &all).map(|member| member.host) else { return Ok(()) };
    let verb = verb(input);
    let mut previous = draft
        .edge(verb, "the control plane comes first")
        .or_else(|| draft.edge("baseline", "ordinary work is watched first"));
    let (canary, others): (Vec<&OnHost<'_>>, Vec<_>) =
        hosts.iter().partition(|here| here.host.name == first.name);
    let mut zones: Vec<(&Option<String>, Vec<&OnHost<'_>>)> = Vec::new();
    for here in others {
        match zones.iter_mut().find(|(zone, _)| *zone == &here.host.zone) {
            Some((_, hosts)) => hosts.push(here),
            None => zones.push((&here.host.zone, vec![here])),
        }
    }
    // The first one's zone goes on first: it has been touched already.
    zones.sort_by_key(|(zone, _)| (**zone != first.zone, *zone));
    for here in canary {
        let mut new = on_host(draft, input, here)?;
        if input.mitigation.method.restarts() {
            new.actions.push(Action::BootCanary { host: first.name.clone() });
            new.expected_s += CANARY_EXPECTED_S;
        }
        let stage = draft.add(NewStage {
            id: format!("{verb}-canary"),
            phase: Phase::Canary,
            title: format!("{verb} on the first compute host, {}", first.name),
            parallel_max: 1,
            after: previous.take().into_iter().collect(),
            steps: vec![new],
        })?;
        previous = stage.map(|id| (id, "the first compute has to serve".to_owned()));
    }
    for (zone, hosts) in zones {
        let name = zone.as_deref().unwrap_or("no-zone");
        let in_zone = all.iter().filter(|member| member.host.zone == *zone).count();
        let width = width(draft, &hosts, in_zone);
        let steps: Vec<Step> =
            hosts.into_iter().map(|here| on_host(draft, input, here)).collect::<Result<_, _>>()?;
        let stage = draft.add(NewStage {
            id: format!("{verb}-computes-{name}"),
            phase: Phase::Waves,
            title: format!("{verb} on the other compute hosts of zone {name}, {width} at a time"),
            parallel_max: width,
            after: previous.take().into_iter().collect(),
            steps,
        })?;
        previous = stage.map(|id| (id, "one zone after another".to_owned()));
    }
    Ok(())
}

/// Hosts of one zone at a time: the policy's wave, and one where something else than computes is out as well,
/// for which the wave is not meant.
fn width(draft: &Draft<'_>, hosts: &[&OnHost<'_>], in_zone: usize) -> u32 {
    let mut members = hosts.iter().flat_map(|here| &here.members);
    match members.all(|member| member.facts.role == DaemonRole::Compute) {
        true => waves::wave_width(draft.policy().compute_wave, in_zone),
        false => 1,
    }
}

/// What is done, for names.
fn verb(input: &MitigationInput) -> &'static str {
    if input.undo { command::UNDO } else { command::MITIGATE }
}

/// One host: what its method takes out, the command, the restarts, their proofs, what is given back, the
/// check.
fn on_host(draft: &mut Draft<'_>, input: &MitigationInput, here: &OnHost<'_>) -> Result<Step, Error> {
    let (mitigation, host) = (&input.mitigation, &here.host.name);
    let run = |what: &str, argv: &[String], unchanged_exit| Action::RunCommand {
        host: host.clone(),
        what: what.to_owned(),
        argv: argv.to_vec(),
        unchanged_exit,
        limit_s: Some(mitigation.limit_s),
    };
    let mut impact =
        Impact { level: ImpactLevel::Minor, service: None, why: "no daemon restarts".to_owned() };
    let (mut takes, mut gives) = (Vec::new(), Vec::new());
    if mitigation.method.restarts() {
        impact.why = format!("the exposed daemons of {host} restart; those of other hosts go on");
        if here.has_compute() {
            takes.push(Action::DisableCompute { host: host.clone(), unless_others_did: false });
            gives.push(Action::EnableCompute { host: host.clone() });
        }
    }
    let state = draft.state;
    for member in here.members.iter().filter(|member| member.facts.role == DaemonRole::Api) {
        match mitigation.method {
            MitigationMethod::None => {}
            MitigationMethod::RestartWithoutDrain => {
                impact.level = ImpactLevel::Major;
                impact.why = format!("requests that the APIs of {host} are sent while they restart fail");
            }
            MitigationMethod::Restart => {
                let replicas = Replicas::of(state.members.get(&member.facts.kind).map_or(&[], Vec::as_slice));
                let (drain, undrain) = roll_api::around(draft, member, &replicas);
                takes.extend(drain);
                gives.extend(undrain);
                let own = roll_api::impact(member, &replicas, draft.policy().serving_replicas_min);
                if own.level > impact.level {
                    impact = own;
                }
            }
        }
    }
    gives.reverse();
    let mut actions = takes;
    actions.push(match input.undo {
        true => run(command::UNDO, &mitigation.undo, mitigation.unchanged_exit),
        false => run(command::MITIGATE, &mitigation.argv, mitigation.unchanged_exit),
    });
    if mitigation.method.restarts() {
        actions.extend(here.members.iter().map(|member| Action::RefreshDaemon {
            daemon: member.id.clone(),
            service: member.service.name.clone(),
            unit: member.declaration.unit.clone(),
            how: Refresh::Restart,
        }));
    }
    let (mut expected_s, mut timeout_s) = (2 * COMMAND_EXPECTED_S, mitigation.limit_s);
    for member in &here.members {
        // It runs afterwards what it ran before, whatever others of its service run.
        let (_, runs) = series_of(member, draft.catalog)?;
        actions.push(daemon::prove_version(draft, member, runs.clone()));
        expected_s += member.facts.expected_s;
        timeout_s = timeout_s.max(daemon::action_timeout_s(draft, member));
    }
    if here.has_compute() {
        timeout_s = timeout_s.max(canary::SETTLE_TIMEOUT_S);
    }
    actions.extend(gives.clone());
    if !input.undo {
        actions.push(run(command::CHECK, &mitigation.check, 0));
    }
    let verb = verb(input);
    let mut new =
        step(format!("{verb}/{host}"), format!("{verb} on {host}"), actions, impact, expected_s, timeout_s)?;
    new.give_back = gives;
    Ok(new)
}
