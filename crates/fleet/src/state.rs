//! Who holds what where, at one moment of the plan.

use std::collections::{BTreeMap, HashMap};

use volutus_model::fleet::{GroupPolicy, NumaCell};

use crate::index::{Index, NONE, Role};

pub(crate) struct State<'i, 'a> {
    pub index: &'i Index<'a>,
    /// In use or promised, per host and class.
    pub used: Vec<i64>,
    /// Instances per host, as they are now.
    pub on_host: Vec<Vec<u32>>,
    /// Whether a host takes instances.
    pub ready: Vec<bool>,
    /// Per pool: hosts that take instances and have room for the smallest.
    pub open: Vec<Vec<u32>>,
    /// Per pool and class: about how much the open hosts can take.
    pub room: Vec<i64>,
    /// Milliseconds of moves promised to a host and not yet ended.
    pub backlog: Vec<u64>,
    /// Whether an instance has moved already.
    pub moved: Vec<bool>,
    /// Members of a group that a host holds or is promised.
    groups: HashMap<(u32, u32), u32>,
    /// What is left of NUMA cells, of hosts that have them described.
    cells: BTreeMap<u32, Vec<NumaCell>>,
    /// Cells that pinned instances are on.
    pins: HashMap<u32, Vec<u32>>,
    /// Per class: the least that any instance that is to move holds.
    pub smallest: Vec<i64>,
}

impl<'i, 'a> State<'i, 'a> {
    pub(crate) fn new(index: &'i Index<'a>) -> Self {
        let (k, n) = (index.k(), index.hosts.len());
        let mut state = State {
            index,
            used: index.used.clone(),
            on_host: vec![Vec::new(); n],
            ready: vec![false; n],
            open: vec![Vec::new(); index.zones.len().max(1)],
            room: vec![0; index.zones.len().max(1) * k],
            backlog: vec![0; n],
            moved: vec![false; index.instances.len()],
            groups: HashMap::new(),
            cells: BTreeMap::new(),
            pins: HashMap::new(),
            smallest: vec![i64::MAX; k],
        };
        for (at, host) in index.fleet.hosts.iter().enumerate() {
            if !host.cells.is_empty() {
                state.cells.insert(at as u32, host.cells.clone());
            }
        }
        for (at, facts) in index.instances.iter().enumerate() {
            let at = at as u32;
            state.on_host[facts.host as usize].push(at);
            if facts.group != NONE {
                *state.groups.entry((facts.group, facts.host)).or_default() += 1;
            }
            let pins: Vec<u32> = index.fleet.instances[at as usize].pins.iter().map(|pin| pin.cell).collect();
            if !pins.is_empty() {
                state.change_cells(at, facts.host, &pins, false);
                state.pins.insert(at, pins);
            }
            if matches!(facts.outcome, crate::ladder::Outcome::Move(_)) {
                for (class, amount) in index.shape(facts.shape).iter().enumerate() {
                    state.smallest[class] = state.smallest[class].min(*amount);
                }
            }
        }
        for (at, host) in index.hosts.iter().enumerate() {
            if host.role == Role::Ready && !host.closed {
                state.open_host(at as u32);
            }
        }
        state
    }

    /// From now on a host takes instances.
    pub(crate) fn open_host(&mut self, host: u32) {
        self.ready[host as usize] = true;
        let pool = self.index.hosts[host as usize].pool as usize;
        let k = self.index.k();
        for class in 0..k {
            self.room[pool * k + class] += self.free(host, class).max(0);
        }
        self.open[pool].push(host);
    }

    /// What a destination may still take of a class.
    pub(crate) fn free(&self, host: u32, class: usize) -> i64 {
        let at = host as usize * self.index.k() + class;
        self.index.fill[at] - self.used[at]
    }

    /// Whether a host has room for amounts.
    pub(crate) fn has_room(&self, host: u32, amounts: &[i64]) -> bool {
        let from = host as usize * amounts.len();
        let (fill, used) = (&self.index.fill[from..][..amounts.len()], &self.used[from..][..amounts.len()]);
        let max = &self.index.max_unit[from..][..amounts.len()];
        (0..amounts.len()).all(|class| {
            amounts[class] == 0
                || (used[class] + amounts[class] <= fill[class] && amounts[class] <= max[class])
        })
    }

    /// Members of a group that a host holds or is promised.
    pub(crate) fn members(&self, group: u32, host: u32) -> u32 {
        self.groups.get(&(group, host)).copied().unwrap_or(0)
    }

    /// Whether a hard group forbids one more member on a host.
    pub(crate) fn group_forbids(&self, group: u32, host: u32) -> bool {
        if group == NONE {
            return false;
        }
        match self.index.groups[group as usize] {
            GroupPolicy::AntiAffinity { per_host_max } => self.members(group, host) >= per_host_max,
            _ => false,
        }
    }

    /// How much a soft group would rather have another host; 0 where it does not care.
    pub(crate) fn group_dislikes(&self, group: u32, host: u32) -> u32 {
        if group == NONE {
            return 0;
        }
        match self.index.groups[group as usize] {
            GroupPolicy::SoftAntiAffinity => self.members(group, host),
            GroupPolicy::SoftAffinity => u32::from(self.members(group, host) == 0),
            GroupPolicy::Affinity | GroupPolicy::AntiAffinity { .. } => 0,
        }
    }

    /// The cells of a host that an instance would get; empty where they are not known or it has
    /// no pins, `None` where none are free.
    pub(crate) fn cells_for(&self, instance: u32, host: u32) -> Option<Vec<u32>> {
        let pins = &self.index.fleet.instances[instance as usize].pins;
        let Some(cells) = self.cells.get(&host).filter(|_| !pins.is_empty()) else {
            return Some(Vec::new());
        };
        let mut chosen: Vec<u32> = Vec::new();
        // Instances have a handful of cells at most, so trying all ways is cheap.
        fn choose(pins: &[volutus_model::fleet::Pin], cells: &[NumaCell], chosen: &mut Vec<u32>) -> bool {
            let Some(pin) = pins.get(chosen.len()) else { return true };
            for (at, cell) in cells.iter().enumerate() {
                let at = at as u32;
                if cell.pcpus >= pin.pcpus && cell.memory_mb >= pin.memory_mb && !chosen.contains(&at) {
                    chosen.push(at);
                    if choose(pins, cells, chosen) {
                        return true;
                    }
                    chosen.pop();
                }
            }
            false
        }
        choose(pins, cells, &mut chosen).then_some(chosen)
    }

    fn change_cells(&mut self, instance: u32, host: u32, on: &[u32], give_back: bool) {
        let pins = &self.index.fleet.instances[instance as usize].pins;
        let Some(cells) = self.cells.get_mut(&host) else { return };
        for (pin, at) in pins.iter().zip(on) {
            let Some(cell) = cells.get_mut(*at as usize) else { continue };
            if give_back {
                cell.pcpus += pin.pcpus;
                cell.memory_mb += pin.memory_mb;
            } else {
                cell.pcpus = cell.pcpus.saturating_sub(pin.pcpus);
                cell.memory_mb = cell.memory_mb.saturating_sub(pin.memory_mb);
            }
        }
    }

    /// Promises a destination to an instance: from now on it counts there.
    pub(crate) fn promise(&mut self, instance: u32, host: u32, cells: &[u32]) {
        self.change(instance, host, 1);
        self.change_cells(instance, host, cells, false);
        self.backlog[host as usize] += self.index.instances[instance as usize].work_ms;
    }

    /// Takes a promise back.
    pub(crate) fn take_back(&mut self, instance: u32, host: u32, cells: &[u32]) {
        self.change(instance, host, -1);
        self.change_cells(instance, host, cells, true);
        self.backlog[host as usize] -= self.index.instances[instance as usize].work_ms;
    }

    /// A move has ended: the source holds the instance no longer.
    pub(crate) fn arrive(&mut self, instance: u32, from: u32, to: u32, cells: Vec<u32>) {
        self.change(instance, from, -1);
        if let Some(old) = self.pins.remove(&instance) {
            self.change_cells(instance, from, &old, true);
            // Where the cells of the destination are not known there is nothing to count.
            self.pins.insert(instance, cells);
        }
        self.backlog[to as usize] -= self.index.instances[instance as usize].work_ms;
        self.on_host[from as usize].retain(|other| *other != instance);
        self.on_host[to as usize].push(instance);
        self.moved[instance as usize] = true;
    }

    fn change(&mut self, instance: u32, host: u32, sign: i64) {
        let index = self.index;
        let facts = &index.instances[instance as usize];
        let k = index.k();
        let pool = index.hosts[host as usize].pool as usize;
        let ready = self.ready[host as usize];
        for (class, amount) in index.shape(facts.shape).iter().enumerate() {
            self.used[host as usize * k + class] += sign * amount;
            if ready {
                self.room[pool * k + class] -= sign * amount;
            }
        }
        if facts.group != NONE {
            let members = self.groups.entry((facts.group, host)).or_default();
            *members = members.saturating_add_signed(sign as i32);
        }
    }

    /// Forgets hosts that have no room for even the smallest instance.
    pub(crate) fn close_full(&mut self, pool: u32) {
        let mut open = std::mem::take(&mut self.open[pool as usize]);
        open.retain(|host| {
            (0..self.index.k()).all(|class| {
                let smallest = self.smallest[class];
                smallest == 0 || smallest == i64::MAX || self.free(*host, class) >= smallest
            })
        });
        self.open[pool as usize] = open;
    }
}
