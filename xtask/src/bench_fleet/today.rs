//! How fleets are rebooted today: hosts in a given order, so many at once; every host is disabled,
//! its instances are live-migrated to wherever the scheduler puts them, and it is rebooted. The
//! scheduler is nova's with its usual filters and the weigher of free memory alone, which is the
//! one that counts among alike hosts: the host with the most free memory, rebooted or not.
//!
//! A host whose instances find no destination is given up, as tools do. Times are those of the
//! planner's policy; destinations are not limited, because nova limits only sources.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

use volutus_model::fleet::{Fleet, GroupPolicy, RebootPolicy};

/// What came of it.
pub struct Result {
    pub moves: usize,
    /// Instances of the fleet; all of them have to leave their hosts.
    pub instances: usize,
    pub makespan_ms: u64,
    /// Hosts that could not be emptied.
    pub given_up: usize,
}

impl Result {
    pub fn moves_per_instance(&self) -> f64 {
        self.moves as f64 / self.instances.max(1) as f64
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Moved { instance: usize, from: usize },
    Back(usize),
}

pub struct Today<'a> {
    fleet: &'a Fleet,
    policy: &'a RebootPolicy,
    /// Free MiB and processors.
    free: Vec<[i64; 2]>,
    needs: Vec<[i64; 2]>,
    on_host: Vec<Vec<usize>>,
    running: Vec<u32>,
    given_up: Vec<bool>,
    /// Per zone: enabled hosts by free memory.
    enabled: HashMap<&'a str, BTreeSet<(i64, Reverse<usize>)>>,
    is_enabled: Vec<bool>,
    group_on: HashMap<(&'a str, usize), u32>,
    groups: HashMap<&'a str, GroupPolicy>,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    now: u64,
    moves: usize,
}

impl<'a> Today<'a> {
    pub fn new(fleet: &'a Fleet, policy: &'a RebootPolicy) -> Self {
        let place: HashMap<&str, usize> =
            fleet.hosts.iter().enumerate().map(|(at, host)| (host.name.as_str(), at)).collect();
        let classes = ["MEMORY_MB", "VCPU"];
        let free = |host: &volutus_model::fleet::FleetHost| {
            classes.map(|class| host.inventories.get(class).map_or(0, |record| record.usable() as i64))
        };
        let n = fleet.hosts.len();
        let mut today = Today {
            fleet,
            policy,
            free: fleet.hosts.iter().map(free).collect(),
            needs: Vec::new(),
            on_host: vec![Vec::new(); n],
            running: vec![0; n],
            given_up: vec![false; n],
            enabled: HashMap::new(),
            is_enabled: vec![false; n],
            group_on: HashMap::new(),
            groups: fleet.groups.iter().map(|group| (group.id.as_str(), group.policy)).collect(),
            events: BinaryHeap::new(),
            now: 0,
            moves: 0,
        };
        for (at, instance) in fleet.instances.iter().enumerate() {
            let needs = classes.map(|class| instance.resources.get(class).copied().unwrap_or(0) as i64);
            today.needs.push(needs);
            let host = place[instance.host.as_str()];
            today.on_host[host].push(at);
            today.change(at, host, -1);
        }
        for host in 0..n {
            today.enable(host);
        }
        today
    }

    fn zone(&self, host: usize) -> &'a str {
        self.fleet.hosts[host].zone.as_deref().unwrap_or("")
    }

    fn enable(&mut self, host: usize) {
        self.is_enabled[host] = true;
        let key = (self.free[host][0], Reverse(host));
        self.enabled.entry(self.zone(host)).or_default().insert(key);
    }

    fn disable(&mut self, host: usize) {
        self.is_enabled[host] = false;
        let key = (self.free[host][0], Reverse(host));
        self.enabled.entry(self.zone(host)).or_default().remove(&key);
    }

    /// A host begins (-1) or ceases (1) to hold an instance.
    fn change(&mut self, instance: usize, host: usize, sign: i64) {
        let enabled = self.is_enabled[host];
        if enabled {
            self.disable(host);
        }
        for class in 0..2 {
            self.free[host][class] += sign * self.needs[instance][class];
        }
        if enabled {
            self.enable(host);
        }
        if let Some(group) = &self.fleet.instances[instance].group {
            let members = self.group_on.entry((group, host)).or_default();
            *members = members.saturating_add_signed(-sign as i32);
        }
    }

    /// Where the scheduler puts an instance that is to leave a host.
    fn destination(&self, instance: usize, from: usize) -> Option<usize> {
        let one = &self.fleet.instances[instance];
        let hosts = self.enabled.get(self.zone(from))?;
        let fits = |host: &usize| {
            let to = &self.fleet.hosts[*host];
            let room = (0..2).all(|class| self.free[*host][class] >= self.needs[instance][class]);
            let inside = one.aggregates_required.iter().all(|any| !any.is_disjoint(&to.aggregates));
            let group = one.group.as_deref().is_none_or(|group| match self.groups.get(group) {
                Some(GroupPolicy::AntiAffinity { per_host_max }) => {
                    self.group_on.get(&(group, *host)).copied().unwrap_or(0) < *per_host_max
                }
                _ => true,
            });
            room && inside && group
        };
        hosts.iter().rev().map(|(_, Reverse(host))| *host).find(fits)
    }

    pub fn run(mut self, order: &[usize], at_once: usize) -> Result {
        let mut next = order.iter().copied();
        let mut out = 0;
        let mut last = 0;
        loop {
            while out < at_once {
                let Some(host) = next.next() else { break };
                out += 1;
                self.disable(host);
                self.go_on(host);
            }
            let Some(Reverse((time, event))) = self.events.pop() else { break };
            self.now = time;
            match event {
                Event::Moved { instance, from } => {
                    self.change(instance, from, 1);
                    self.running[from] -= 1;
                    self.go_on(from);
                }
                Event::Back(host) => {
                    self.enable(host);
                    out -= 1;
                    last = time;
                }
            }
        }
        Result {
            moves: self.moves,
            instances: self.fleet.instances.len(),
            makespan_ms: last,
            given_up: self.given_up.iter().filter(|up| **up).count(),
        }
    }

    /// Begins what moves off a host can begin; reboots it when it is empty, or gives it up.
    fn go_on(&mut self, host: usize) {
        while !self.given_up[host] && self.running[host] < self.policy.moves.per_source {
            let Some(instance) = self.on_host[host].pop() else { break };
            let Some(to) = self.destination(instance, host) else {
                self.on_host[host].push(instance);
                self.given_up[host] = true;
                break;
            };
            self.change(instance, to, -1);
            self.on_host[to].push(instance);
            self.running[host] += 1;
            self.moves += 1;
            let moves = &self.policy.moves;
            let bytes = self.needs[instance][0] as u64 * 1024 * 1024 / 100 * u64::from(moves.memory_percent);
            let time = u64::from(moves.overhead_s) * 1000 + bytes.div_ceil(u64::from(moves.rate_mbit) * 125);
            self.events.push(Reverse((self.now + time, Event::Moved { instance, from: host })));
        }
        if self.running[host] > 0 {
            return;
        }
        let settle = u64::from(self.policy.hosts.settle_s) * 1000;
        if self.given_up[host] {
            self.events.push(Reverse((self.now, Event::Back(host))));
        } else if self.on_host[host].is_empty() {
            let act = u64::from(self.policy.act.reboot_s + self.policy.act.prove_s) * 1000;
            self.events.push(Reverse((self.now + settle + act, Event::Back(host))));
        }
    }
}
