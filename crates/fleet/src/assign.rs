//! Where the instances of one host go: those with the fewest choices first, then the largest;
//! each onto the fullest host that can take it without making the drain longer.
//!
//! All or nothing: a host is not begun before every one of its instances has a destination, so
//! that none is ever left half empty for want of room.

use std::collections::BTreeMap;

use volutus_model::fleet::GroupPolicy;

use crate::index::NONE;
use crate::ladder::Outcome;
use crate::state::State;

/// One instance and its destination.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub instance: u32,
    pub to: u32,
    pub cells: Vec<u32>,
}

/// What has to go to one destination: an instance, or a hard affinity group.
struct Unit {
    members: Vec<u32>,
    amounts: Vec<i64>,
    constrained: bool,
    size: f64,
    choices: u32,
}

/// Where instances may be put.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Onto<'h> {
    /// Hosts that are rebooted already or need not be.
    Ready,
    /// These as well, which are yet to be rebooted; but no instance that has moved before.
    Also(&'h [u32]),
}

/// The instances of a host that have to be moved off.
pub(crate) fn movers(state: &State<'_, '_>, host: u32) -> impl Iterator<Item = u32> {
    let instances = &state.index.instances;
    state.on_host[host as usize]
        .iter()
        .copied()
        .filter(|at| matches!(instances[*at as usize].outcome, Outcome::Move(_)))
}

/// Destinations for all instances of a host, promised to them; or the instance for which there is
/// none, and nothing promised.
pub(crate) fn assign(state: &mut State<'_, '_>, host: u32, onto: Onto<'_>) -> Result<Vec<Placed>, u32> {
    let units = units(state, host);
    let total: u64 = movers(state, host).map(|at| state.index.instances[at as usize].work_ms).sum();
    let mut placed: Vec<Placed> = Vec::new();
    let mut own: BTreeMap<u32, u64> = BTreeMap::new();
    for unit in &units {
        match destination(state, unit, host, onto, total, &own) {
            Some((to, cells)) => {
                for (member, cells) in unit.members.iter().zip(cells) {
                    state.promise(*member, to, &cells);
                    *own.entry(to).or_default() += state.index.instances[*member as usize].work_ms;
                    placed.push(Placed { instance: *member, to, cells });
                }
            }
            None => {
                take_back(state, &placed);
                return Err(unit.members[0]);
            }
        }
    }
    Ok(placed)
}

/// Takes promises back.
pub(crate) fn take_back(state: &mut State<'_, '_>, placed: &[Placed]) {
    for one in placed.iter().rev() {
        state.take_back(one.instance, one.to, &one.cells);
    }
}

fn units(state: &State<'_, '_>, host: u32) -> Vec<Unit> {
    let index = state.index;
    let mut units: Vec<Unit> = Vec::new();
    let mut of_group: Vec<(u32, usize)> = Vec::new();
    for at in movers(state, host) {
        let facts = &index.instances[at as usize];
        let hard = facts.group != NONE && index.groups[facts.group as usize] == GroupPolicy::Affinity;
        if hard && let Some((_, unit)) = of_group.iter().find(|(group, _)| *group == facts.group) {
            let unit = &mut units[*unit];
            unit.members.push(at);
            for (sum, amount) in unit.amounts.iter_mut().zip(index.shape(facts.shape)) {
                *sum += amount;
            }
            unit.choices = unit.choices.min(index.lanes[facts.lane as usize].count);
            continue;
        }
        if hard {
            of_group.push((facts.group, units.len()));
        }
        units.push(Unit {
            members: vec![at],
            amounts: index.shape(facts.shape).to_vec(),
            constrained: facts.group != NONE || !index.fleet.instances[at as usize].pins.is_empty(),
            size: 0.0,
            choices: index.lanes[facts.lane as usize].count,
        });
    }
    for unit in &mut units {
        let shares = unit.amounts.iter().zip(&index.scale).map(|(amount, scale)| *amount as f64 * scale);
        unit.size = shares.fold(0.0, f64::max);
    }
    units.sort_by(|a, b| {
        b.constrained
            .cmp(&a.constrained)
            .then(a.choices.cmp(&b.choices))
            .then(b.size.total_cmp(&a.size))
            .then(a.members.cmp(&b.members))
    });
    units
}

/// How good a destination is; less is better.
#[derive(PartialEq, PartialOrd)]
struct Score {
    not_ready: bool,
    dislike: u32,
    contention: u64,
    scarce: bool,
    rest: f64,
}

fn destination(
    state: &State<'_, '_>,
    unit: &Unit,
    from: u32,
    onto: Onto<'_>,
    total_ms: u64,
    own: &BTreeMap<u32, u64>,
) -> Option<(u32, Vec<Vec<u32>>)> {
    let index = state.index;
    let first = &index.instances[unit.members[0] as usize];
    let out = u64::from(index.hosts[from as usize].per_source);
    let patience = total_ms / out;
    let mut best: Option<(Score, u32)> = None;
    let mut look = |host: u32, not_ready: bool| {
        if host == from || !state.has_room(host, &unit.amounts) {
            return;
        }
        let fits = unit.members.iter().all(|at| {
            let facts = &index.instances[*at as usize];
            index.lanes[facts.lane as usize].has(host)
                && !state.group_forbids(facts.group, host)
                // The lane is that of the host where the instance was first.
                && (!state.moved[*at as usize] || index.reach.goes(from, host))
        });
        let moved_before = |at: &u32| state.moved[*at as usize];
        if !fits || (not_ready && (index.is_ahead_of(from, host) || unit.members.iter().any(moved_before))) {
            return;
        }
        // What others have promised to send there would hold this source up, so the more of it the
        // worse, in quarters of the time that the source needs; then the fullest host that fits.
        let others = state.backlog[host as usize] - own.get(&host).copied().unwrap_or(0);
        let wait = others / u64::from(index.hosts[host as usize].per_destination);
        let contention = 4 * wait / patience.max(1);
        let rest = (0..index.k()).map(|class| state.free(host, class) as f64 * index.scale[class]).sum();
        let scarce = index.reach.is_scarcer(host, &index.lanes[first.lane as usize]);
        let dislike = state.group_dislikes(first.group, host);
        let score = Score { not_ready, dislike, contention, scarce, rest };
        if best.as_ref().is_none_or(|(least, at)| score < *least || (score == *least && host < *at)) {
            // Cells are looked at last, because that is the dearest question.
            if unit.members.iter().all(|at| state.cells_for(*at, host).is_some()) {
                best = Some((score, host));
            }
        }
    };
    let pool = index.hosts[from as usize].pool as usize;
    for host in &state.open[pool] {
        look(*host, false);
    }
    if let Onto::Also(others) = onto {
        for host in others {
            look(*host, true);
        }
    }
    let (_, host) = best?;
    let cells = unit.members.iter().map(|at| state.cells_for(*at, host).unwrap_or_default()).collect();
    Some((host, cells))
}
