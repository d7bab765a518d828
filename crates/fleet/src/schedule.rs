//! When everything happens: a list scheduler over events, without barriers. As soon as a host is
//! back, it takes instances; as soon as a host may be taken out of service and all of its
//! instances have destinations, it is.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use volutus_model::fleet::OwnerChoice;
use volutus_model::fleet::plan::{How, Left};
use volutus_model::fleet::policy::Order;

use crate::again;
use crate::assign::{self, Onto, Placed};
use crate::budgets::ALL;
use crate::causes;
use crate::index::{Index, Role};
use crate::ladder::Outcome;
use crate::state::State;

/// Hosts of one pool that are tried in vain before the pool waits for more room. Hosts are tried
/// from the one that needs least, so those behind have less of a chance still.
const TRIED_IN_VAIN_MAX: usize = 8;

/// What a plan does, in numbers.
pub(crate) struct Schedule {
    pub drains: Vec<Drain>,
    pub moves: Vec<Moved>,
    pub left: Vec<Left>,
    /// Per host: whether it is left.
    pub is_left: Vec<bool>,
    pub notified: usize,
    /// In use once all is done, per host and class.
    pub used_at_end: Vec<i64>,
    /// Per class: the least that any instance that is to move holds; `i64::MAX` where none moves.
    pub smallest: Vec<i64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Drain {
    pub host: u32,
    pub disable_ms: u64,
    pub empty_ms: u64,
    pub back_ms: u64,
    pub wave: u32,
    pub moves: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct Moved {
    pub instance: u32,
    pub from: u32,
    pub to: u32,
    pub start_ms: u64,
    pub end_ms: u64,
    pub how: How,
    pub moves_again: bool,
    pub cells: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stand {
    Waiting,
    /// Disabled, or being emptied.
    Draining,
    /// Empty, being rebooted.
    Acting,
    Ready,
    /// Not used at all.
    Aside,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Ended(u32),
    Settled(u32),
    Back(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// Whose owners asked for it come behind all others of their phase.
    later: bool,
    order: u64,
    host: u32,
}

pub(crate) struct Scheduler<'i, 'a> {
    pub state: State<'i, 'a>,
    pub stand: Vec<Stand>,
    now: u64,
    phase: u32,
    coming: BinaryHeap<Reverse<(u64, Happening)>>,
    /// Per pool: hosts of the present phase that wait.
    waiting: Vec<BTreeSet<Key>>,
    key_of: Vec<Key>,
    /// Per pool: how often it got more room; a host that did not fit is not tried before that.
    room_version: Vec<u32>,
    tried: Vec<u32>,
    domain_use: Vec<u32>,
    out: Vec<u32>,
    into: Vec<u32>,
    all_moves: u32,
    /// Moves of a host that have not begun.
    pending: Vec<Vec<u32>>,
    unfinished: Vec<u32>,
    /// Sources that wait for a place at a destination.
    queued_at: Vec<Vec<u32>>,
    queued_overall: Vec<u32>,
    settled: Vec<bool>,
    /// Moves that are on their way to a host that is yet to be rebooted.
    pub arriving: Vec<u32>,
    wave: Vec<u32>,
    drain_of: Vec<u32>,
    done: Schedule,
}

/// Makes the schedule.
pub(crate) fn schedule(index: &Index<'_>) -> Schedule {
    let mut scheduler = Scheduler::new(index);
    for (host, left) in causes::before_the_start(&scheduler.state) {
        scheduler.stand[host as usize] = Stand::Aside;
        scheduler.leave(host, left);
    }
    for phase in 0..index.phases {
        scheduler.run_phase(phase);
    }
    scheduler.done.left.sort();
    scheduler.done.used_at_end = std::mem::take(&mut scheduler.state.used);
    scheduler.done.smallest = std::mem::take(&mut scheduler.state.smallest);
    let is_left = &scheduler.done.is_left;
    scheduler.done.notified = index
        .instances
        .iter()
        .zip(&index.fleet.instances)
        .filter(|(facts, instance)| {
            let host = facts.host as usize;
            instance.choice == Some(OwnerChoice::Notify)
                && index.hosts[host].role == Role::Reboot
                && !is_left[host]
        })
        .count();
    scheduler.done
}

impl<'i, 'a> Scheduler<'i, 'a> {
    fn new(index: &'i Index<'a>) -> Self {
        let n = index.hosts.len();
        let stand = index.hosts.iter().map(|host| match host.role {
            Role::Reboot => Stand::Waiting,
            Role::Ready => Stand::Ready,
            Role::Untouched => Stand::Aside,
        });
        Scheduler {
            state: State::new(index),
            stand: stand.collect(),
            now: 0,
            phase: 0,
            coming: BinaryHeap::new(),
            waiting: vec![BTreeSet::new(); index.zones.len().max(1)],
            key_of: (0..n as u32).map(|host| Key { later: false, order: 0, host }).collect(),
            room_version: vec![1; index.zones.len().max(1)],
            tried: vec![0; n],
            domain_use: vec![0; index.domains.len()],
            out: vec![0; n],
            into: vec![0; n],
            all_moves: 0,
            pending: vec![Vec::new(); n],
            unfinished: vec![0; n],
            queued_at: vec![Vec::new(); n],
            queued_overall: Vec::new(),
            settled: vec![false; n],
            arriving: vec![0; n],
            wave: vec![0; n],
            drain_of: vec![u32::MAX; n],
            done: Schedule {
                drains: Vec::new(),
                moves: Vec::new(),
                left: Vec::new(),
                is_left: vec![false; n],
                notified: 0,
                used_at_end: Vec::new(),
                smallest: Vec::new(),
            },
        }
    }

    fn run_phase(&mut self, phase: u32) {
        self.phase = phase;
        let hosts: Vec<u32> = (0..self.stand.len() as u32)
            .filter(|host| self.stand[*host as usize] == Stand::Waiting)
            .filter(|host| self.state.index.hosts[*host as usize].phase == phase)
            .collect();
        for host in &hosts {
            self.enqueue(*host);
        }
        loop {
            self.offer(TRIED_IN_VAIN_MAX, false);
            if self.next() {
                continue;
            }
            // Nothing is under way any more: what waits now waits for room that will not come.
            if self.offer(usize::MAX, true) || again::empty_one(self) {
                continue;
            }
            break;
        }
        let rest: Vec<u32> = self.waiting.iter().flatten().map(|key| key.host).collect();
        for host in &rest {
            let left = causes::at_the_end(self, *host);
            self.leave(*host, left);
        }
        for host in rest {
            self.stand[host as usize] = Stand::Aside;
        }
        for waiting in &mut self.waiting {
            waiting.clear();
        }
        let canaries = phase == 0 && hosts.iter().any(|host| self.stand[*host as usize] == Stand::Ready);
        if canaries {
            self.now += u64::from(self.state.index.policy.hosts.canary_soak_s) * 1000;
        }
    }

    fn leave(&mut self, host: u32, left: Left) {
        self.done.is_left[host as usize] = true;
        self.done.left.push(left);
    }

    /// Puts a host into the queue of those that wait, by its place in the order.
    pub(crate) fn enqueue(&mut self, host: u32) {
        let index = self.state.index;
        let pool = index.hosts[host as usize].pool as usize;
        self.waiting[pool].remove(&self.key_of[host as usize]);
        let order = match index.policy.hosts.order {
            Order::Fast => (self.weight(host) * 1e9) as u64,
            Order::Name => u64::from(index.by_name[host as usize]),
        };
        let key = Key { later: index.hosts[host as usize].later, order, host };
        self.key_of[host as usize] = key;
        self.waiting[pool].insert(key);
    }

    /// How much of ordinary hosts' capacity a host's instances need, in the class that they need
    /// most of.
    pub(crate) fn weight(&self, host: u32) -> f64 {
        let load = self.load(host);
        load.iter().zip(&self.state.index.scale).map(|(sum, scale)| *sum as f64 * scale).fold(0.0, f64::max)
    }

    pub(crate) fn load(&self, host: u32) -> Vec<i64> {
        let index = self.state.index;
        let mut load = vec![0i64; index.k()];
        for at in assign::movers(&self.state, host) {
            for (sum, amount) in load.iter_mut().zip(index.shape(index.instances[at as usize].shape)) {
                *sum += amount;
            }
        }
        load
    }

    /// The hosts that wait, of any phase, in a pool.
    pub(crate) fn waiting_hosts(&self) -> Vec<u32> {
        self.waiting.iter().flatten().map(|key| key.host).collect()
    }

    /// Whether budgets let a host be taken out of service.
    pub(crate) fn may_begin(&self, host: u32) -> bool {
        let index = self.state.index;
        self.arriving[host as usize] == 0
            && index.hosts[host as usize]
                .domains
                .iter()
                .all(|domain| self.domain_use[*domain as usize] < index.domains[*domain as usize].limit)
    }

    fn all_out(&self) -> bool {
        let index = self.state.index;
        index.domains.first().is_some_and(|all| self.domain_use[ALL as usize] >= all.limit)
    }

    /// Begins as many hosts as may and can be; from the pool with the most still to do.
    fn offer(&mut self, in_vain_max: usize, again: bool) -> bool {
        let mut any = false;
        let mut in_vain = vec![0usize; self.waiting.len()];
        let mut pools: Vec<usize> = (0..self.waiting.len()).collect();
        loop {
            pools.retain(|pool| !self.waiting[*pool].is_empty());
            pools.sort_by_key(|pool| (Reverse(self.waiting[*pool].len()), *pool));
            if pools.is_empty() || self.all_out() {
                return any;
            }
            let mut spent = Vec::new();
            for pool in &pools {
                if self.begin_one(*pool, &mut in_vain[*pool], in_vain_max, again) {
                    any = true;
                } else {
                    spent.push(*pool);
                }
                if self.all_out() {
                    return any;
                }
            }
            pools.retain(|pool| !spent.contains(pool));
        }
    }

    fn begin_one(&mut self, pool: usize, in_vain: &mut usize, in_vain_max: usize, again: bool) -> bool {
        let version = self.room_version[pool];
        let keys: Vec<Key> = self.waiting[pool].iter().copied().collect();
        for key in keys {
            let host = key.host as usize;
            if *in_vain >= in_vain_max {
                return false;
            }
            if !self.may_begin(key.host) || (self.tried[host] == version && !again) {
                continue;
            }
            if !again && !self.could_fit(pool, key.host) {
                self.tried[host] = version;
                *in_vain += 1;
                continue;
            }
            match assign::assign(&mut self.state, key.host, Onto::Ready) {
                Ok(placed) => {
                    self.begin(key.host, placed);
                    return true;
                }
                Err(_) => {
                    self.tried[host] = version;
                    *in_vain += 1;
                }
            }
        }
        false
    }

    /// Whether there is room enough in sum; cheap, and mostly right when there is not.
    fn could_fit(&self, pool: usize, host: u32) -> bool {
        let k = self.state.index.k();
        self.load(host).iter().zip(&self.state.room[pool * k..]).all(|(load, room)| load <= room)
    }

    /// Takes a host out of service, its instances' destinations being promised.
    pub(crate) fn begin(&mut self, host: u32, placed: Vec<Placed>) {
        let index = self.state.index;
        let at = host as usize;
        let pool = index.hosts[at].pool;
        self.waiting[pool as usize].remove(&self.key_of[at]);
        self.stand[at] = Stand::Draining;
        for domain in &index.hosts[at].domains {
            self.domain_use[*domain as usize] += 1;
        }
        self.wave[at] = 1 + placed.iter().map(|one| self.wave[one.to as usize]).max().unwrap_or(0);
        let mut pending: Vec<u32> = Vec::with_capacity(placed.len());
        for one in placed {
            let to = one.to as usize;
            let moves_again = self.stand[to] == Stand::Waiting;
            if moves_again {
                self.arriving[to] += 1;
            }
            let how = match index.instances[one.instance as usize].outcome {
                Outcome::Move(how) => how,
                // Only what is to be moved is ever given a destination.
                Outcome::Stay(_) | Outcome::Blocked(_) => continue,
            };
            pending.push(self.done.moves.len() as u32);
            self.done.moves.push(Moved {
                instance: one.instance,
                from: host,
                to: one.to,
                start_ms: 0,
                end_ms: 0,
                how,
                moves_again,
                cells: one.cells,
            });
        }
        // The longest first, from the back; members of a hard affinity group one after another.
        let work = |at: &u32| index.instances[self.done.moves[*at as usize].instance as usize].work_ms;
        pending.sort_by_key(|at| (work(at), Reverse(*at)));
        self.unfinished[at] = pending.len() as u32;
        self.drain_of[at] = self.done.drains.len() as u32;
        self.done.drains.push(Drain {
            host,
            disable_ms: self.now,
            empty_ms: 0,
            back_ms: 0,
            wave: self.wave[at],
            moves: pending.len() as u32,
        });
        self.pending[at] = pending;
        self.state.close_full(pool);
        let settled = self.now + u64::from(index.policy.hosts.settle_s) * 1000;
        self.coming.push(Reverse((settled, Happening::Settled(host))));
    }

    /// Lets all happen that happens next at one time; `false` where nothing is under way.
    fn next(&mut self) -> bool {
        let Some(Reverse((time, _))) = self.coming.peek().copied() else { return false };
        self.now = time;
        let mut sources: Vec<u32> = Vec::new();
        while let Some(Reverse((at, happening))) = self.coming.peek().copied() {
            if at != time {
                break;
            }
            self.coming.pop();
            match happening {
                Happening::Ended(number) => self.ended(number, &mut sources),
                Happening::Settled(host) => {
                    self.settled[host as usize] = true;
                    if self.unfinished[host as usize] == 0 {
                        self.emptied(host);
                    } else {
                        sources.push(host);
                    }
                }
                Happening::Back(host) => self.back(host),
            }
        }
        for source in sources {
            self.start_moves(source);
        }
        true
    }

    fn ended(&mut self, number: u32, sources: &mut Vec<u32>) {
        let moved = &self.done.moves[number as usize];
        let (instance, from, to) = (moved.instance, moved.from, moved.to);
        let (again, cells) = (moved.moves_again, moved.cells.clone());
        self.state.arrive(instance, from, to, cells);
        self.out[from as usize] -= 1;
        self.into[to as usize] -= 1;
        self.all_moves -= 1;
        if again {
            self.arriving[to as usize] -= 1;
            if self.waiting.iter().any(|waiting| waiting.contains(&self.key_of[to as usize])) {
                self.enqueue(to);
            }
        }
        // Who waits for a place goes first: a source that fills one destination alone would
        // otherwise keep the last instances of others waiting until its own end.
        sources.append(&mut self.queued_overall);
        sources.append(&mut self.queued_at[to as usize]);
        self.unfinished[from as usize] -= 1;
        if self.unfinished[from as usize] == 0 {
            self.emptied(from);
        } else {
            sources.push(from);
        }
    }

    fn emptied(&mut self, host: u32) {
        self.stand[host as usize] = Stand::Acting;
        let back = self.now + self.state.index.hosts[host as usize].act_ms;
        let drain = &mut self.done.drains[self.drain_of[host as usize] as usize];
        drain.empty_ms = self.now;
        drain.back_ms = back;
        self.coming.push(Reverse((back, Happening::Back(host))));
    }

    fn back(&mut self, host: u32) {
        let index = self.state.index;
        let facts = &index.hosts[host as usize];
        self.stand[host as usize] = Stand::Ready;
        for domain in &facts.domains {
            self.domain_use[*domain as usize] -= 1;
        }
        if !facts.closed {
            self.state.open_host(host);
            self.room_version[facts.pool as usize] += 1;
        }
    }

    /// Begins as many moves off a host as limits allow.
    fn start_moves(&mut self, source: u32) {
        let index = self.state.index;
        let at = source as usize;
        if !self.settled[at] {
            return;
        }
        let overall = index.policy.moves_at_once().unwrap_or(u32::MAX);
        let mut pending = std::mem::take(&mut self.pending[at]);
        let mut place = pending.len();
        while place > 0 && self.out[at] < index.hosts[at].per_source {
            place -= 1;
            let number = pending[place];
            let to = self.done.moves[number as usize].to as usize;
            if self.all_moves >= overall {
                if !self.queued_overall.contains(&source) {
                    self.queued_overall.push(source);
                }
                break;
            }
            if self.into[to] >= index.hosts[to].per_destination {
                if !self.queued_at[to].contains(&source) {
                    self.queued_at[to].push(source);
                }
                continue;
            }
            pending.remove(place);
            self.out[at] += 1;
            self.into[to] += 1;
            self.all_moves += 1;
            let moved = &mut self.done.moves[number as usize];
            moved.start_ms = self.now;
            moved.end_ms = self.now + index.instances[moved.instance as usize].work_ms;
            self.coming.push(Reverse((moved.end_ms, Happening::Ended(number))));
        }
        self.pending[at] = pending;
    }
}
