//! The plan that carries out a reboot of the fleet: which hosts are emptied onto which was worked
//! out before (`volutus-fleet`); here it becomes steps that the engine runs, and the hosts of the
//! control plane are put behind them, one after another.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use volutus_catalog::{Catalog, DaemonRole};
use volutus_model::fleet::newcomers::MOVE_MIN_S;
use volutus_model::fleet::plan::{Content, HostDrain, RebootPlan, Stay, StayReason, Work};
use volutus_model::fleet::policy::Act;
use volutus_model::fleet::{Duties, HookMoment, NewcomerMoves, RebootPolicy, Turns};
use volutus_model::name::{DaemonKind, HostName, PackageVersion, Series, ServiceName, StageId};
use volutus_model::plan::{Action, Impact, ImpactLevel, InstanceMove, Phase, Plan, PlanKind, Step};
use volutus_model::{Inventory, Observation, Policy, StepId};

use crate::draft::{Draft, NewStage, no_impact, step};
use crate::report::PlanReport;
use crate::rules::roll_api::{self, Replicas};
use crate::rules::{baseline, canary, daemon, drains, hooks, soak};
use crate::state::{Member, State, Unseen, present, read_members, series_of};
use crate::{Error, PlanningInput, by_hand, finish_without_horizon};

/// Everything that the plan of a reboot is made of.
#[derive(Debug, Clone)]
pub struct RebootInput {
    /// What is declared.
    pub inventory: Inventory,
    /// What was seen.
    pub observation: Observation,
    /// Which compute hosts are emptied onto which, and when.
    pub reboot: RebootPlan,
    /// The limits of the run.
    pub policy: Policy,
    /// When the plan is made; it becomes part of the plan.
    pub now: Timestamp,
}

/// Seconds beside what a step is expected to take; a busy machine is no broken one.
pub(crate) const SLACK_S: u32 = 300;
/// A restart that takes so many times what is expected has gone wrong.
const RESTART_FACTOR: u32 = 3;
/// Seconds that stopping an instance may take: twice what nova gives it to go down by itself
/// (`shutdown_timeout`).
const STOP_S: u32 = 120;
/// Seconds that moving newcomers may take at the least: nobody knows yet how large they are.
const NEWCOMERS_S: u32 = 7_200;
/// Instances that are stopped at once, at the least.
const STOPS_AT_ONCE: u32 = 8;
/// The least time that is given to a restart, in seconds.
const RESTART_MIN_S: u32 = 300;

/// Makes the plan.
///
/// # Errors
/// Where what runs was not seen or is of several series, a host is not declared, or it holds what
/// the cloud cannot be without while it restarts.
pub fn plan_reboot(input: &RebootInput, catalog: &Catalog) -> Result<(Plan, PlanReport), Error> {
    let members = read_members(&input.inventory, &input.observation, catalog, Unseen::Refused)?;
    let (series, versions) = running(&members, catalog)?;
    let planning =
        PlanningInput::staying(&input.inventory, &input.observation, series, &input.policy, input.now);
    let services = present(catalog, &members);
    let state = State { from: series, way: vec![series], versions, members, services };
    let work = input.reboot.content.work;
    let kind = PlanKind::Reboot { of: input.reboot.id.clone(), work };
    let mut draft = Draft::new(&planning, catalog, &state, kind);
    match work {
        Work::Reboot => {
            hooks::declared(&input.inventory, &input.reboot.content.policy)?;
            baseline::plan_baseline(&mut draft)?;
            let first = draft.edge("baseline", "ordinary work is watched first").into_iter().collect();
            let emptied = plan_computes(&mut draft, &input.reboot.content, first)?;
            plan_control(&mut draft, input, emptied.as_ref())?;
            soak::plan_soak(&mut draft)?;
        }
        Work::Drain => by_hand::plan_drain(&mut draft, input)?,
        Work::Undrain => by_hand::plan_undrain(&mut draft, input)?,
    }
    finish_without_horizon(draft, &planning, &state)
}

/// The series that everything runs, and the versions of it.
fn running(
    members: &BTreeMap<&DaemonKind, Vec<Member<'_>>>,
    catalog: &Catalog,
) -> Result<(Series, BTreeMap<ServiceName, PackageVersion>), Error> {
    let mut versions: BTreeMap<ServiceName, PackageVersion> = BTreeMap::new();
    let mut seen: BTreeMap<Series, (volutus_model::DaemonId, usize)> = BTreeMap::new();
    for member in members.values().flatten() {
        let (series, runs) = series_of(member, catalog)?;
        seen.entry(series).or_insert_with(|| (member.id.clone(), 0)).1 += 1;
        versions.insert(member.service.name.clone(), runs.clone());
    }
    let to = *seen.keys().next_back().expect("members that were read are not empty");
    if seen.len() == 1 {
        return Ok((to, versions));
    }
    // A restart starts what the links say: in the middle of an upgrade nobody wants that.
    let seen = seen.into_iter().map(|(series, (id, count))| (series, id, count)).collect();
    Err(Error::MixedSeries { to, seen })
}

fn id_of(host: &HostName) -> String {
    format!("reboot/{host}")
}

/// One step for every host that is emptied; a stage for every phase, the first of them behind `last`. The id of
/// the last stage.
pub(crate) fn plan_computes(
    draft: &mut Draft<'_>,
    content: &Content,
    mut last: Vec<(StageId, String)>,
) -> Result<Option<StageId>, Error> {
    let phases: BTreeSet<u32> = content.drains.iter().map(|drain| drain.phase).collect();
    let canary = drains::canary(draft, content);
    let work = if draft.kind.is_upgrade() { "empty, upgrade, restart" } else { "empty, restart" };
    let mut stage = None;
    for phase in &phases {
        let drains: Vec<&HostDrain> = content.drains.iter().filter(|drain| drain.phase == *phase).collect();
        let mut steps = Vec::new();
        for drain in &drains {
            let mut new = compute_step(draft, content, drain)?;
            let mut awaited = awaited(content, drain, &drains);
            // In a later phase it waits for the canary anyhow, as for all that go before.
            awaited.extend(canary.filter(|first| {
                **first != drain.host
                    && drains.iter().any(|other| other.host == **first)
                    && drains::is_upgraded(draft, &drain.host)
            }));
            for before in awaited {
                new.requires.push(StepId::new(id_of(before))?);
            }
            steps.push(new);
        }
        stage = draft.add(NewStage {
            id: if phases.len() == 1 {
                "reboot-computes".to_owned()
            } else {
                format!("reboot-computes-{phase}")
            },
            phase: Phase::Waves,
            title: format!("{work} and give back {} compute hosts", steps.len()),
            parallel_max: at_once(&drains),
            after: std::mem::take(&mut last),
            steps,
        })?;
        let why = "the hosts of one phase are back before the next";
        last = stage.clone().map(|id| (id, why.to_owned())).into_iter().collect();
        let soak_s = content.policy.hosts.canary_soak_s;
        if *phase == 0 && phases.len() > 1 && !content.policy.hosts.canaries.is_empty() && soak_s > 0 {
            stage = draft.add(NewStage {
                id: "watch-canaries".to_owned(),
                phase: Phase::Canary,
                title: "watch the hosts that were restarted first".to_owned(),
                parallel_max: 1,
                after: std::mem::take(&mut last),
                steps: vec![step(
                    "canaries/watch".to_owned(),
                    format!("watch for {soak_s} s"),
                    vec![Action::Watch { seconds: soak_s }],
                    no_impact("nothing is touched"),
                    soak_s,
                    soak_s.saturating_add(baseline::WATCH_SLACK_S),
                )?],
            })?;
            let why = "what went first is watched before others follow";
            last = stage.clone().map(|id| (id, why.to_owned())).into_iter().collect();
        }
    }
    Ok(stage)
}

/// The hosts of the same phase that have to be back before this one is touched: those that the plan
/// names, and those that the plan has back by then, so that capacity is never asked for sooner. Of
/// these it is enough to name the latest, since they in turn waited for the others.
fn awaited<'a>(
    content: &'a Content,
    drain: &'a HostDrain,
    drains: &[&'a HostDrain],
) -> BTreeSet<&'a HostName> {
    let back = || drains.iter().filter(|other| other.back_ms <= drain.disable_ms && other.host != drain.host);
    let latest_begin = back().map(|other| other.disable_ms).max().unwrap_or(0);
    let latest = back().filter(|other| other.back_ms > latest_begin).map(|other| &other.host);
    let onto = content.moves.iter().filter(|moved| moved.to == drain.host && moved.moves_again);
    let here = |host: &&HostName| drains.iter().any(|other| other.host == **host && other.host != drain.host);
    latest.chain(drain.after.iter().filter(here)).chain(onto.map(|moved| &moved.from).filter(here)).collect()
}

/// The most hosts that are out of service at any moment of the plan.
fn at_once(drains: &[&HostDrain]) -> u32 {
    let out = |at: u64| drains.iter().filter(|drain| drain.disable_ms <= at && at < drain.back_ms).count();
    let most = drains.iter().map(|drain| out(drain.disable_ms)).max().unwrap_or(1);
    u32::try_from(most).unwrap_or(u32::MAX).max(1)
}

fn compute_step(draft: &mut Draft<'_>, content: &Content, drain: &HostDrain) -> Result<Step, Error> {
    let policy = &content.policy;
    let host = &drain.host;
    declared(&draft.input.inventory, host)?;
    let upgraded = drains::upgraded(draft, host);
    let (upgrade_s, switch_s) = (
        upgraded.iter().map(|member| member.facts.expected_s).sum::<u32>(),
        upgraded.iter().map(|member| daemon::action_timeout_s(draft, member)).max().unwrap_or(0),
    );
    let (mut actions, moving_s) = emptying(content, drain);
    let enable = Action::EnableCompute { host: host.clone() };
    let (around, undrains) = on_host(draft, host, policy);
    actions.extend(around);
    // They come back to a host that was proved well, and before others can take their room.
    let starts = starting(content, host);
    actions.extend(starts.clone());
    actions.push(enable.clone());
    actions.push(Action::BootCanary { host: host.clone() });
    let expected_ms = drain.back_ms.saturating_sub(drain.disable_ms);
    // What the plan expects of this very host once it is empty, overrides included.
    let own_s =
        u32::try_from(drain.back_ms.saturating_sub(drain.empty_ms).div_ceil(1_000)).unwrap_or(u32::MAX);
    let mut new = step(
        id_of(host),
        if upgraded.is_empty() {
            format!("empty {host}, restart it, and give it back")
        } else {
            format!("empty {host}, upgrade and restart it, and give it back")
        },
        actions,
        Impact {
            level: ImpactLevel::Minor,
            service: ServiceName::new("nova").ok(),
            why: if drain.moves > 0 {
                format!("{} instances are moved off {host}", drain.moves)
            } else {
                format!("nothing runs on {host}")
            },
        },
        u32::try_from(expected_ms.div_ceil(1_000)).unwrap_or(u32::MAX).saturating_add(upgrade_s),
        moving_s
            .max(canary::SETTLE_TIMEOUT_S)
            .max(switch_s)
            .max(restart_s(&policy.act))
            .max(own_s.saturating_mul(RESTART_FACTOR))
            .max(duties_s(content, host))
            .saturating_add(SLACK_S),
    )?;
    new.give_back = undrains;
    new.give_back.extend(starts);
    new.give_back.push(enable);
    Ok(new)
}

/// The instances that are stopped on a host, and started there again.
fn stopped(content: &Content, host: &HostName) -> Vec<String> {
    let here = |stay: &&Stay| stay.host == *host && stay.why == StayReason::Stopped;
    content.stays.iter().filter(here).map(|stay| stay.instance.clone()).collect()
}

/// Starts what was stopped on a host; nothing where nothing was.
pub(crate) fn starting(content: &Content, host: &HostName) -> Option<Action> {
    let instances = stopped(content, host);
    (!instances.is_empty()).then(|| Action::StartInstances { host: host.clone(), instances })
}

/// What empties a host, from its disabling until it is proved empty, and the seconds that its moves
/// and stops may take at the most.
pub(crate) fn emptying(content: &Content, drain: &HostDrain) -> (Vec<Action>, u32) {
    let host = &drain.host;
    let moves: Vec<InstanceMove> = content
        .moves
        .iter()
        .filter(|moved| moved.from == *host)
        .map(|moved| {
            let turns = Turns::of(&moved.then, moved.timeout_s.max(MOVE_MIN_S));
            let seconds = |turn: u64| u32::try_from(turn).unwrap_or(u32::MAX);
            InstanceMove {
                instance: moved.instance.clone(),
                to: moved.to.clone(),
                how: moved.how,
                onto_max: moved.per_destination,
                timeout_s: seconds(turns.end),
                post_copy_after_s: turns.post_copy_after.map(seconds),
                force_after_s: turns.force_after.map(seconds),
            }
        })
        .collect();
    let stays: Vec<String> =
        content.stays.iter().filter(|stay| stay.host == *host).map(|stay| stay.instance.clone()).collect();
    let runs_on = content.stays.iter().any(|stay| stay.host == *host && stay.why == StayReason::RunsOn);
    let per_source = drain.per_source.max(1);
    let moving_s = (moves.iter().map(|moved| moved.timeout_s).fold(0, u32::saturating_add) / per_source)
        .max(moves.iter().map(|moved| moved.timeout_s).max().unwrap_or(0));
    let mut actions = vec![Action::DisableCompute {
        host: host.clone(),
        // A host that a person disabled since the plan was made is theirs.
        unless_others_did: !content.policy.hosts.include_disabled,
    }];
    if !moves.is_empty() {
        let all_max = content.policy.moves_at_once().unwrap_or(0);
        actions.push(Action::MoveInstances { host: host.clone(), moves, parallel_max: per_source, all_max });
    }
    let stopped = stopped(content, host);
    let turns = u32::try_from(stopped.len()).unwrap_or(u32::MAX).div_ceil(STOPS_AT_ONCE);
    let moving_s = moving_s.max(turns.saturating_mul(STOP_S));
    if !stopped.is_empty() {
        actions.push(Action::StopInstances { host: host.clone(), instances: stopped });
    }
    if !runs_on {
        actions.extend(newcomers(content, drain).map(Action::MoveNewcomers));
        actions.push(Action::ProveEmpty { host: host.clone(), stays });
    }
    (actions, moving_s)
}

/// The order to move what came since the plan was made; nothing where the plan lets it go nowhere.
fn newcomers(content: &Content, drain: &HostDrain) -> Option<NewcomerMoves> {
    if drain.newcomers.is_none() {
        return None;
    }
    let policy = &content.policy;
    let moved = content.moves.iter().filter(|one| one.from == drain.host).map(|one| &one.instance);
    let stays = content.stays.iter().filter(|stay| stay.host == drain.host).map(|stay| &stay.instance);
    let mut known: Vec<String> = moved.chain(stays).cloned().collect();
    known.sort();
    Some(NewcomerMoves {
        host: drain.host.clone(),
        known,
        way: drain.newcomers.clone(),
        parallel_max: drain.per_source.max(1),
        all_max: policy.moves_at_once().unwrap_or(0),
        overhead_s: policy.moves.overhead_s,
        live_timeout_s_per_gib: policy.drain.live_timeout_s_per_gib,
        shared_disks: policy.moves.shared_disks,
        movable: policy.drain.movable.clone(),
        limit_s: NEWCOMERS_S,
    })
}

/// A limit of the policy, where one is set.
fn limit(seconds: u32) -> Option<u32> {
    (seconds > 0).then_some(seconds)
}

fn restart_s(act: &Act) -> u32 {
    act.reboot_s
        .saturating_mul(RESTART_FACTOR)
        .max(RESTART_MIN_S)
        .max(act.work_s.saturating_mul(RESTART_FACTOR))
}

/// Seconds that the agents of a network node may take for what they have to do: 2 s for each network or router are
/// neutron's own allowance (`agent_starting_up` in `db/agentschedulers_db.py`), and twice that on a busy host.
pub(crate) fn duties_s(content: &Content, host: &HostName) -> u32 {
    const EACH_S: u32 = 4;
    let many =
        |duties: &Duties| duties.networks.saturating_add(duties.routers).saturating_add(duties.ha_routers);
    content.duties.get(host).map_or(0, |duties| many(duties).saturating_mul(EACH_S))
}

pub(crate) fn declared(inventory: &Inventory, host: &HostName) -> Result<(), Error> {
    if inventory.hosts.iter().any(|declared| declared.name == *host) {
        return Ok(());
    }
    let names = inventory.hosts.iter().map(|declared| &declared.name);
    Err(Error::UndeclaredHost {
        host: host.clone(),
        nearest: crate::error::nearest(host.as_str(), names).cloned(),
    })
}

/// What is done on a host that carries nothing any more: replicas of APIs are drained, commands
/// run, in an upgrade what belongs to instances is switched, the host restarts, every daemon on it proves
/// itself, and the replicas are given back.
fn on_host(draft: &mut Draft<'_>, host: &HostName, policy: &RebootPolicy) -> (Vec<Action>, Vec<Action>) {
    let act = &policy.act;
    let state = draft.state;
    let here: Vec<&Member<'_>> =
        state.members.values().flatten().filter(|member| member.host.name == *host).collect();
    let (mut drains, mut undrains) = (Vec::new(), Vec::new());
    for member in here.iter().filter(|member| member.facts.role == DaemonRole::Api) {
        let kind: &DaemonKind = &member.facts.kind;
        let replicas = Replicas::of(state.members.get(kind).map_or(&[], Vec::as_slice));
        let (drain, undrain) = roll_api::around(draft, member, &replicas);
        drains.extend(drain);
        undrains.extend(undrain);
    }
    undrains.reverse();
    let (lower, restore) = gateways(draft, host);
    let mut actions: Vec<Action> = hooks::calls(policy, host, HookMoment::Before).collect();
    actions.extend(drains);
    actions.extend(lower);
    undrains.extend(restore);
    // Where the host does not go away, and its instances may run on, its agents go on serving.
    if act.reboot {
        let (off, back) = duties(draft, host);
        actions.extend(off);
        undrains.extend(back);
    }
    let command = |what: &str, argv: &[String]| Action::RunCommand {
        host: host.clone(),
        what: what.to_owned(),
        argv: argv.to_vec(),
        unchanged_exit: i32::from(act.nothing_to_do_exit),
        limit_s: limit(act.command_limit_s),
    };
    if !act.before.is_empty() {
        actions.push(command("before", &act.before));
    }
    // Switched before packages and the restart, so that the host comes back with all of it at once.
    let switches = drains::upgraded(draft, host);
    actions.extend(switches.into_iter().map(|member| daemon::switch(draft, member)));
    for (what, argv) in [("packages", &packages(&act.packages)), ("firmware", &act.firmware)] {
        if !argv.is_empty() {
            actions.push(command(what, argv));
        }
    }
    if act.reboot {
        let kernel = (!act.kernel.is_empty()).then(|| act.kernel.clone());
        actions.push(Action::RebootHost { host: host.clone(), kernel, limit_s: limit(act.reboot_limit_s) });
    }
    for member in here {
        actions.push(daemon::prove(draft, member));
    }
    if !act.after.is_empty() {
        actions.push(command("after", &act.after));
    }
    actions.extend(undrains.clone());
    let ends: Vec<Action> = hooks::calls(policy, host, HookMoment::After).collect();
    undrains.extend(ends.iter().filter(|call| hooks::is_always(call)).cloned());
    actions.extend(ends);
    (actions, undrains)
}

/// What moves OVN's gateways off a host, and gives them back; nothing where OVN is not declared.
pub(crate) fn gateways(draft: &Draft<'_>, host: &HostName) -> (Option<Action>, Option<Action>) {
    let declared = draft.input.inventory.ovn.is_some();
    (
        declared.then(|| Action::LowerGateways { host: host.clone() }),
        declared.then(|| Action::RestoreGateways { host: host.clone() }),
    )
}

/// What moves the duties of neutron's own agents off a host, and gives them back; nothing where it has none.
pub(crate) fn duties(draft: &Draft<'_>, host: &HostName) -> (Option<Action>, Option<Action>) {
    let has = draft.input.observation.may_have_network_duties(host);
    (
        has.then(|| Action::MoveNetworkDuties { host: host.clone() }),
        has.then(|| Action::RestoreNetworkDuties { host: host.clone() }),
    )
}

/// Upgrades packages by whichever tool the host has; `*` means all of them.
fn packages(names: &[String]) -> Vec<String> {
    if names.is_empty() {
        return Vec::new();
    }
    let all = names.iter().any(|name| name == "*");
    let script = if all {
        "if command -v apt-get >/dev/null; then apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -y \
         -o Dpkg::Options::=--force-confold dist-upgrade; else dnf -y upgrade; fi"
    } else {
        "if command -v apt-get >/dev/null; then apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -y \
         -o Dpkg::Options::=--force-confold install --only-upgrade \"$@\"; else dnf -y upgrade \"$@\"; fi"
    };
    let mut argv: Vec<String> = ["/bin/sh", "-ec", script, "sh"].map(str::to_owned).to_vec();
    if !all {
        argv.extend(names.iter().cloned());
    }
    argv
}

/// The hosts of the control plane, one after another.
fn plan_control(draft: &mut Draft<'_>, input: &RebootInput, emptied: Option<&StageId>) -> Result<(), Error> {
    let mut steps: Vec<Step> = Vec::new();
    let act = &input.reboot.content.policy.act;
    for host in &input.reboot.content.control {
        declared(&input.inventory, host)?;
        let vital = vital(&input.inventory, host);
        if let Some(what) = vital {
            return Err(Error::VitalHost { host: host.clone(), what });
        }
        let (actions, undrains) = on_host(draft, host, &input.reboot.content.policy);
        let timeout_s = restart_s(act)
            .max(input.policy.drain_timeout_s)
            .max(input.policy.prove_timeout_s)
            .max(duties_s(&input.reboot.content, host))
            .saturating_add(SLACK_S);
        let mut new = step(
            id_of(host),
            format!("drain {host}, restart it, and give it back"),
            actions,
            Impact {
                level: ImpactLevel::Minor,
                service: None,
                why: format!("the replicas on {host} are out; the others serve"),
            },
            act.reboot_s.saturating_add(act.prove_s).saturating_add(act.work_s),
            timeout_s,
        )?;
        new.give_back = undrains;
        new.requires = steps.last().map(|last| last.id.clone()).into_iter().collect();
        steps.push(new);
    }
    let after = match emptied {
        Some(stage) => vec![(stage.clone(), "moving instances needs the whole control plane".to_owned())],
        None => draft.edge("baseline", "ordinary work is watched first").into_iter().collect(),
    };
    draft.add(NewStage {
        id: "reboot-control".to_owned(),
        phase: Phase::Roll,
        title: format!("drain, restart and give back {} hosts of the control plane", steps.len()),
        parallel_max: 1,
        after,
        steps,
    })?;
    Ok(())
}

/// What only this host has, and the cloud cannot be without.
fn vital(inventory: &Inventory, host: &HostName) -> Option<&'static str> {
    let only = |hosts: Vec<&HostName>| hosts.contains(&host) && hosts.iter().all(|other| *other == host);
    let balancers = inventory.load_balancers.iter().map(|balancer| &balancer.host).collect();
    let databases = inventory.databases.iter().map(|database| &database.host).collect();
    if only(balancers) {
        return Some("load balancer");
    }
    only(databases).then_some("database")
}
