//! What a schedule comes to, and its translation back into names.

use std::collections::{BTreeMap, BTreeSet};

use volutus_model::fleet::GroupPolicy;
use volutus_model::fleet::plan::{Figures, Headroom, HostDrain, Move, Owner, Stay, StayReason};
use volutus_model::fleet::policy::Rung;

use crate::bounds;
use crate::index::{Index, NONE, Role};
use crate::ladder::{self, Block, Outcome};
use crate::newcomers;
use crate::schedule::Schedule;
use crate::timing;

/// The hosts, by the time at which they are disabled.
pub(crate) fn drains(index: &Index<'_>, done: &Schedule) -> Vec<HostDrain> {
    let mut after: Vec<BTreeSet<u32>> = vec![BTreeSet::new(); index.hosts.len()];
    for moved in &done.moves {
        if moved.moves_again {
            after[moved.to as usize].insert(moved.from);
        } else if index.hosts[moved.to as usize].role == Role::Reboot {
            after[moved.from as usize].insert(moved.to);
        }
    }
    let name = |host: &u32| index.fleet.hosts[*host as usize].name.clone();
    let mut drains: Vec<HostDrain> = done
        .drains
        .iter()
        .zip(newcomers::ways(index, done))
        .map(|(drain, newcomers)| HostDrain {
            host: index.fleet.hosts[drain.host as usize].name.clone(),
            disable_ms: drain.disable_ms,
            empty_ms: drain.empty_ms,
            back_ms: drain.back_ms,
            wave: drain.wave,
            moves: drain.moves,
            per_source: index.hosts[drain.host as usize].per_source,
            phase: index.hosts[drain.host as usize].phase,
            after: after[drain.host as usize].iter().map(name).collect(),
            newcomers,
        })
        .collect();
    drains.sort_by(|a, b| (a.disable_ms, &a.host).cmp(&(b.disable_ms, &b.host)));
    drains
}

/// The moves, by the time at which they begin.
pub(crate) fn moves(index: &Index<'_>, done: &Schedule) -> Vec<Move> {
    let name = |host: u32| index.fleet.hosts[host as usize].name.clone();
    let mut order: Vec<usize> = (0..done.moves.len()).collect();
    order.sort_by_key(|at| (done.moves[*at].start_ms, *at));
    order
        .into_iter()
        .map(|at| &done.moves[at])
        .map(|moved| Move {
            instance: index.fleet.instances[moved.instance as usize].id.clone(),
            from: name(moved.from),
            to: name(moved.to),
            start_ms: moved.start_ms,
            end_ms: moved.end_ms,
            how: moved.how,
            moves_again: moved.moves_again,
            cells: moved.cells.clone(),
            per_destination: index.hosts[moved.to as usize].per_destination,
            timeout_s: timing::timeout_s(
                &index.fleet.instances[moved.instance as usize],
                index.policy,
                moved.how,
            ),
            then: ladder::rest(
                &index.fleet.instances[moved.instance as usize],
                index.policy,
                moved.how,
                index.fleet.hosts[moved.from as usize].migrations.as_ref(),
                index.is_bound(moved.instance),
            ),
        })
        .collect()
}

/// The instances that stay on hosts that are rebooted.
pub(crate) fn stays(index: &Index<'_>, done: &Schedule) -> Vec<Stay> {
    let mut rebooted = vec![false; index.hosts.len()];
    for drain in &done.drains {
        rebooted[drain.host as usize] = true;
    }
    let mut stays: Vec<Stay> = index
        .instances
        .iter()
        .zip(&index.fleet.instances)
        .filter(|(facts, _)| rebooted[facts.host as usize])
        .filter_map(|(facts, instance)| match facts.outcome {
            Outcome::Stay(why) => {
                Some(Stay { instance: instance.id.clone(), host: instance.host.clone(), why })
            }
            Outcome::Move(_) | Outcome::Blocked(_) => None,
        })
        .collect();
    stays.sort_by(|a, b| (&a.host, &a.instance).cmp(&(&b.host, &b.instance)));
    stays
}

/// The instances on hosts that are left which would not keep them from being emptied if they were stopped.
pub(crate) fn undecided(index: &Index<'_>, done: &Schedule) -> Vec<String> {
    if !index.policy.drain.ladder.contains(&Rung::Stop) {
        return Vec::new();
    }
    let asks = |outcome: Outcome| {
        matches!(outcome, Outcome::Blocked(Block::Obstacle | Block::Affinity | Block::AffinityPart))
    };
    let all = index.instances.iter().zip(&index.fleet.instances);
    all.filter(|(facts, _)| done.is_left[facts.host as usize] && asks(facts.outcome))
        .map(|(_, instance)| instance.id.clone())
        .collect()
}

/// Whose the instances are that move, are stopped or are undecided.
pub(crate) fn owners(index: &Index<'_>, done: &Schedule) -> BTreeMap<String, Owner> {
    let stopped = stays(index, done).into_iter().filter(|stay| stay.why == StayReason::Stopped);
    let stopped: BTreeSet<String> = stopped.map(|stay| stay.instance).chain(undecided(index, done)).collect();
    let moved: BTreeSet<u32> = done.moves.iter().map(|moved| moved.instance).collect();
    let concerned =
        |at: usize, id: &str| u32::try_from(at).is_ok_and(|at| moved.contains(&at)) || stopped.contains(id);
    let instances = index.fleet.instances.iter().enumerate();
    instances
        .filter(|(at, instance)| !instance.project.is_empty() && concerned(*at, &instance.id))
        .map(|(_, one)| (one.id.clone(), Owner { project: one.project.clone(), name: one.name.clone() }))
        .collect()
}

/// The figures.
pub(crate) fn figures(index: &Index<'_>, done: &Schedule) -> Figures {
    let mut times = vec![0u32; index.instances.len()];
    for moved in &done.moves {
        times[moved.instance as usize] += 1;
    }
    let count = |least: u32| times.iter().filter(|times| **times >= least).count() as u32;
    Figures {
        hosts: done.drains.len() as u32,
        instances_moved: count(1),
        moves: done.moves.len() as u32,
        second_moves: count(2),
        waves: done.drains.iter().map(|drain| drain.wave).max().unwrap_or(0),
        makespan_ms: done.drains.iter().map(|drain| drain.back_ms).max().unwrap_or(0),
        bounds: bounds::bounds(index, done),
        headroom: headroom(index, done),
        soft_groups_worse: soft_groups_worse(index, done),
    }
}

/// Replays the schedule and notes the least that is free on hosts in service.
fn headroom(index: &Index<'_>, done: &Schedule) -> Vec<Headroom> {
    let k = index.k();
    // At equal times a host is back, and a move has ended, before anything else begins.
    let mut events: Vec<(u64, u8, u32)> = Vec::new();
    for (at, drain) in done.drains.iter().enumerate() {
        events.push((drain.back_ms, 0, at as u32));
        events.push((drain.disable_ms, 2, at as u32));
    }
    for (at, moved) in done.moves.iter().enumerate() {
        events.push((moved.end_ms, 1, at as u32));
        events.push((moved.start_ms, 3, at as u32));
    }
    events.sort_unstable();
    let mut used = index.used.clone();
    let mut serving: Vec<bool> = index.hosts.iter().map(|host| host.role != Role::Untouched).collect();
    let mut free = vec![0i64; index.zones.len() * k];
    let mut all = vec![0i64; index.zones.len() * k];
    let spot = |host: usize, class: usize| index.hosts[host].zone as usize * k + class;
    let left =
        |used: &[i64], host: usize, class: usize| index.capacity[host * k + class] - used[host * k + class];
    for host in (0..serving.len()).filter(|host| serving[*host]) {
        for class in 0..k {
            free[spot(host, class)] += left(&used, host, class);
            all[spot(host, class)] += index.capacity[host * k + class];
        }
    }
    let mut least: Vec<(i64, u64)> = free.iter().map(|free| (*free, 0)).collect();
    for (time, kind, at) in events {
        let mut change = |host: usize, used: &mut [i64], shape: Option<(u32, i64)>, serves: Option<bool>| {
            for class in 0..k {
                let before = if serving[host] { left(used, host, class) } else { 0 };
                if let Some((shape, sign)) = shape {
                    used[host * k + class] += sign * index.shape(shape)[class];
                }
                let now = serves.unwrap_or(serving[host]);
                let after = if now { left(used, host, class) } else { 0 };
                let spot = spot(host, class);
                free[spot] += after - before;
                if free[spot] < least[spot].0 {
                    least[spot] = (free[spot], time);
                }
            }
            if let Some(serves) = serves {
                serving[host] = serves;
            }
        };
        let moved = |at: u32| &done.moves[at as usize];
        let shape = |at: u32| index.instances[moved(at).instance as usize].shape;
        match kind {
            0 => change(done.drains[at as usize].host as usize, &mut used, None, Some(true)),
            1 => change(moved(at).from as usize, &mut used, Some((shape(at), -1)), None),
            2 => change(done.drains[at as usize].host as usize, &mut used, None, Some(false)),
            _ => change(moved(at).to as usize, &mut used, Some((shape(at), 1)), None),
        }
    }
    let mut headroom = Vec::new();
    for (zone, name) in index.zones.iter().enumerate() {
        for (class, class_name) in index.classes.iter().enumerate() {
            let of = all[zone * k + class];
            if of > 0 {
                let (least, at_ms) = least[zone * k + class];
                headroom.push(Headroom {
                    zone: (*name).to_owned(),
                    class: (*class_name).to_owned(),
                    least: least.max(0) as u64,
                    of: of as u64,
                    at_ms,
                });
            }
        }
    }
    headroom
}

/// Soft groups that are spread less, or gathered less, than before.
fn soft_groups_worse(index: &Index<'_>, done: &Schedule) -> u32 {
    let mut at_end: Vec<u32> = index.instances.iter().map(|facts| facts.host).collect();
    let mut order: Vec<&crate::schedule::Moved> = done.moves.iter().collect();
    order.sort_by_key(|moved| moved.end_ms);
    for moved in order {
        at_end[moved.instance as usize] = moved.to;
    }
    let mut hosts: BTreeMap<u32, (BTreeSet<u32>, BTreeSet<u32>)> = BTreeMap::new();
    for (facts, end) in index.instances.iter().zip(&at_end).filter(|(facts, _)| facts.group != NONE) {
        let (before, after) = hosts.entry(facts.group).or_default();
        before.insert(facts.host);
        after.insert(*end);
    }
    let worse = |group: u32, before: usize, after: usize| match index.groups[group as usize] {
        GroupPolicy::SoftAffinity => after > before,
        GroupPolicy::SoftAntiAffinity => after < before,
        GroupPolicy::Affinity | GroupPolicy::AntiAffinity { .. } => false,
    };
    hosts.iter().filter(|(group, (before, after))| worse(**group, before.len(), after.len())).count() as u32
}
