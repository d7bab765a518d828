//! The plan event by event: what every host holds at every instant, and what is out of service.
//!
//! Where several things happen at one time, what ends comes before what begins: a host that is
//! back takes instances at once, and a slot that is free is used at once.

use std::collections::{BTreeMap, HashMap, HashSet};

use volutus_model::Finding;
use volutus_model::fleet::{GroupPolicy, NumaCell, RebootPlan};

use super::facts::Facts;
use crate::{PLAN_AGAIN, blocking};

/// What was seen on the way.
pub(super) struct Seen {
    /// Where every instance is at the end, by its place in the description.
    pub at_end: Vec<usize>,
    /// Per zone and class: the least that was free on hosts in service.
    pub least_free: BTreeMap<(String, String), i128>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    MoveEnds(usize),
    HostEmpty(usize),
    HostBack(usize),
    HostDisabled(usize),
    MoveBegins(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// In service, to be rebooted later.
    Before,
    /// Disabled, and not back yet.
    Out,
    /// Rebooted, or need not be.
    After,
    /// Neither rebooted nor a destination.
    Aside,
}

struct World<'f, 'a> {
    facts: &'f Facts<'a>,
    plan: &'f RebootPlan,
    classes: Vec<&'a str>,
    usable: Vec<Vec<i128>>,
    used: Vec<Vec<i128>>,
    stand: Vec<Stand>,
    /// Instances per host that have to be gone before it is rebooted.
    to_leave: Vec<i64>,
    home: Vec<usize>,
    group_on: HashMap<(&'a str, usize), u32>,
    group_hosts: HashMap<&'a str, HashSet<usize>>,
    cells: Vec<Vec<NumaCell>>,
    on_cells: Vec<Vec<u32>>,
    out: Vec<u32>,
    into: Vec<u32>,
    moving: u32,
    domains: Vec<(String, usize, usize)>,
    domains_of: Vec<Vec<usize>>,
    received: Vec<bool>,
    free: BTreeMap<(String, String), i128>,
    least_free: BTreeMap<(String, String), i128>,
    findings: &'f mut Vec<Finding>,
}

pub(super) fn replay<'a>(facts: &Facts<'a>, plan: &RebootPlan, findings: &mut Vec<Finding>) -> Seen {
    let mut events: Vec<(u64, Event)> = Vec::new();
    for (at, drain) in plan.content.drains.iter().enumerate() {
        events.push((drain.disable_ms, Event::HostDisabled(at)));
        events.push((drain.empty_ms, Event::HostEmpty(at)));
        events.push((drain.back_ms, Event::HostBack(at)));
    }
    for (at, one) in plan.content.moves.iter().enumerate() {
        events.push((one.start_ms, Event::MoveBegins(at)));
        events.push((one.end_ms, Event::MoveEnds(at)));
    }
    events.sort_unstable();
    let mut world = World::new(facts, plan, findings);
    for (time, event) in events {
        match event {
            Event::MoveEnds(at) => world.move_ends(at),
            Event::HostEmpty(at) => world.host_empty(at, time),
            Event::HostBack(at) => world.host_back(at),
            Event::HostDisabled(at) => world.host_disabled(at, time),
            Event::MoveBegins(at) => world.move_begins(at, time),
        }
    }
    world.check_end();
    Seen { at_end: world.home, least_free: world.least_free }
}

impl<'f, 'a> World<'f, 'a> {
    fn new(facts: &'f Facts<'a>, plan: &'f RebootPlan, findings: &'f mut Vec<Finding>) -> Self {
        let fleet = facts.fleet;
        let mut classes: Vec<&str> =
            fleet.instances.iter().flat_map(|i| i.resources.keys()).map(String::as_str).collect();
        classes.sort_unstable();
        classes.dedup();
        let usable: Vec<Vec<i128>> = fleet
            .hosts
            .iter()
            .map(|host| {
                let of = |class: &&str| {
                    host.inventories.get(*class).map_or(0, |record| i128::from(record.usable()))
                };
                classes.iter().map(of).collect()
            })
            .collect();
        let held = |host: &volutus_model::fleet::FleetHost| {
            classes.iter().map(|class| i128::from(host.held.get(*class).copied().unwrap_or(0))).collect()
        };
        let n = fleet.hosts.len();
        let mut world = World {
            facts,
            plan,
            usable,
            used: fleet.hosts.iter().map(held).collect(),
            classes,
            stand: (0..n)
                .map(|at| match (facts.is_used(at), facts.is_to_reboot(at)) {
                    (_, true) => Stand::Before,
                    (true, false) => Stand::After,
                    (false, false) => Stand::Aside,
                })
                .collect(),
            to_leave: vec![0; n],
            home: Vec::new(),
            group_on: HashMap::new(),
            group_hosts: HashMap::new(),
            cells: fleet.hosts.iter().map(|host| host.cells.clone()).collect(),
            on_cells: Vec::new(),
            out: vec![0; n],
            into: vec![0; n],
            moving: 0,
            domains: Vec::new(),
            domains_of: vec![Vec::new(); n],
            received: vec![false; n],
            free: BTreeMap::new(),
            least_free: BTreeMap::new(),
            findings,
        };
        for left in &plan.content.left {
            if let Some(at) = facts.host(&left.host) {
                // A host that is left may still take instances that are declared to move again.
                world.stand[at] = Stand::Before;
            }
        }
        for place in plan.content.drains.iter().flat_map(|drain| &drain.newcomers.to) {
            if let Some(at) = facts.host(&place.host) {
                // It may take newcomers, so that it is kept empty for nothing.
                world.received[at] = true;
            }
        }
        world.settle_in();
        world
    }

    /// Puts everything where it is at the start.
    fn settle_in(&mut self) {
        let stays: HashSet<&str> =
            self.plan.content.stays.iter().map(|stay| stay.instance.as_str()).collect();
        for (at, instance) in self.facts.fleet.instances.iter().enumerate() {
            let host = self.facts.host(&instance.host).expect("a fleet that was checked");
            self.home.push(host);
            self.hold(at, host, 1);
            self.to_leave[host] += i64::from(!stays.contains(instance.id.as_str()));
            let on: Vec<u32> = instance.pins.iter().map(|pin| pin.cell).collect();
            self.take_cells(at, host, &on, true);
            self.on_cells.push(on);
        }
        for (number, (name, members, limit)) in self.facts.domains().into_iter().enumerate() {
            for member in members {
                self.domains_of[member].push(number);
            }
            self.domains.push((name, limit, 0));
        }
        for host in 0..self.usable.len() {
            if self.facts.is_used(host) {
                self.change_free(host, 1);
            }
        }
        self.least_free = self.free.clone();
    }

    fn zone(&self, host: usize) -> String {
        self.facts.fleet.hosts[host].zone.clone().unwrap_or_default()
    }

    /// A host comes into service or leaves it: what is free on it counts, or does not.
    fn change_free(&mut self, host: usize, sign: i128) {
        let zone = self.zone(host);
        for class in 0..self.classes.len() {
            let left = self.usable[host][class] - self.used[host][class];
            *self.free.entry((zone.clone(), self.classes[class].to_owned())).or_insert(0) += sign * left;
        }
    }

    fn note_least(&mut self, host: usize) {
        let zone = self.zone(host);
        for class in &self.classes {
            let key = (zone.clone(), (*class).to_owned());
            let free = self.free.get(&key).copied().unwrap_or(0);
            let least = self.least_free.entry(key).or_insert(free);
            *least = (*least).min(free);
        }
    }

    /// A host begins or ceases to hold an instance.
    fn hold(&mut self, instance: usize, host: usize, sign: i128) {
        let one = &self.facts.fleet.instances[instance];
        for (class, name) in self.classes.iter().enumerate() {
            self.used[host][class] += sign * i128::from(one.resources.get(*name).copied().unwrap_or(0));
        }
        if let Some(group) = &one.group {
            let members = self.group_on.entry((group, host)).or_insert(0);
            *members = if sign > 0 { *members + 1 } else { members.saturating_sub(1) };
            let hosts = self.group_hosts.entry(group).or_default();
            if *members == 0 {
                hosts.remove(&host);
            } else {
                hosts.insert(host);
            }
        }
    }

    /// `false` where a cell does not have what a pin takes.
    fn take_cells(&mut self, instance: usize, host: usize, on: &[u32], take: bool) -> bool {
        let pins = &self.facts.fleet.instances[instance].pins;
        let cells = &mut self.cells[host];
        let mut fits = true;
        for (pin, at) in pins.iter().zip(on) {
            let Some(cell) = cells.get_mut(*at as usize) else { continue };
            if take {
                fits &= cell.pcpus >= pin.pcpus && cell.memory_mb >= pin.memory_mb;
                cell.pcpus = cell.pcpus.saturating_sub(pin.pcpus);
                cell.memory_mb = cell.memory_mb.saturating_sub(pin.memory_mb);
            } else {
                cell.pcpus += pin.pcpus;
                cell.memory_mb += pin.memory_mb;
            }
        }
        fits
    }

    fn wrong(&mut self, code: &str, subject: &str, text: String) {
        self.findings.push(blocking(code, subject, text, PLAN_AGAIN));
    }

    fn host_disabled(&mut self, at: usize, time: u64) {
        let drain = &self.plan.content.drains[at];
        let host = self.facts.host(&drain.host).expect("names were looked up before");
        if self.stand[host] == Stand::Before {
            self.change_free(host, -1);
            self.note_least(host);
        }
        self.stand[host] = Stand::Out;
        for number in self.domains_of[host].clone() {
            self.domains[number].2 += 1;
            let (name, limit, now) = &self.domains[number];
            if now > limit {
                let text = format!(
                    "{now} hosts of {name} are out of service {time} ms after the start; {limit} may be"
                );
                self.wrong("fleet-hosts-at-once", drain.host.as_str(), text);
            }
        }
    }

    fn host_empty(&mut self, at: usize, time: u64) {
        let drain = &self.plan.content.drains[at];
        let host = self.facts.host(&drain.host).expect("names were looked up before");
        if self.to_leave[host] != 0 {
            let text = format!(
                "{} instances are on it when it is rebooted {time} ms after the start",
                self.to_leave[host]
            );
            self.wrong("fleet-order", drain.host.as_str(), text);
        }
    }

    fn host_back(&mut self, at: usize) {
        let drain = &self.plan.content.drains[at];
        let host = self.facts.host(&drain.host).expect("names were looked up before");
        if self.stand[host] != Stand::Out {
            self.wrong(
                "fleet-not-given-back",
                drain.host.as_str(),
                "it is back without having been away".to_owned(),
            );
            return;
        }
        self.stand[host] = Stand::After;
        self.change_free(host, 1);
        for number in self.domains_of[host].clone() {
            self.domains[number].2 -= 1;
        }
    }

    fn move_begins(&mut self, at: usize, time: u64) {
        let one = &self.plan.content.moves[at];
        let (instance, from, to) = self.facts.of_move(one);
        if self.home[instance] != from {
            let text =
                format!("it is to be moved from {}, where it is not {time} ms after the start", one.from);
            self.wrong("fleet-order", &one.instance, text);
        }
        match self.stand[to] {
            Stand::After => {
                if one.moves_again {
                    self.wrong(
                        "fleet-order",
                        &one.instance,
                        format!("it is said to move again, and {} is done", one.to),
                    );
                }
            }
            Stand::Before if one.moves_again => {}
            Stand::Before | Stand::Out | Stand::Aside => {
                let text =
                    format!("{} is not ready when it is moved there {time} ms after the start", one.to);
                self.wrong("fleet-order", &one.instance, text);
            }
        }
        if self.stand[from] != Stand::Out {
            self.wrong(
                "fleet-order",
                &one.instance,
                format!("{} is in service when it is moved off", one.from),
            );
        }
        self.check_room(at, instance, to);
        self.hold_at_destination(instance, to);
        self.check_group(at, instance, to);
        let fits = self.take_cells(instance, to, &one.cells, true);
        let pins = &self.facts.fleet.instances[instance].pins;
        let named = self.facts.fleet.hosts[to].cells.is_empty() || one.cells.len() == pins.len();
        if !fits || !named {
            self.wrong(
                "fleet-cells",
                &one.instance,
                format!("the cells of {} do not have room for it", one.to),
            );
        }
        self.to_leave[to] += 1;
        self.received[to] = true;
        self.count_move(at, from, to, time);
    }

    fn hold_at_destination(&mut self, instance: usize, to: usize) {
        let serving = matches!(self.stand[to], Stand::Before | Stand::After) && self.facts.is_used(to);
        if serving {
            self.change_free(to, -1);
        }
        self.hold(instance, to, 1);
        if serving {
            self.change_free(to, 1);
            self.note_least(to);
        }
    }

    fn check_room(&mut self, at: usize, instance: usize, to: usize) {
        let one = &self.plan.content.moves[at];
        let host = &self.facts.fleet.hosts[to];
        let fill = i128::from(self.facts.own[to].fill_max_percent);
        for class in 0..self.classes.len() {
            let name = self.classes[class];
            let amount = self.facts.fleet.instances[instance].resources.get(name).copied().unwrap_or(0);
            let after = self.used[to][class] + i128::from(amount);
            let usable = self.usable[to][class];
            if amount == 0 {
                continue;
            }
            if after > usable {
                let text = format!("{} would hold {after} {name} of {usable}", one.to);
                self.wrong("fleet-capacity", &one.instance, text);
            } else if after * 100 > usable * fill {
                let text = format!("{} would be filled over {fill} % of its {name}", one.to);
                self.wrong("fleet-fill", &one.instance, text);
            }
            let max = host.inventories.get(name).and_then(|record| record.max_unit).unwrap_or(u64::MAX);
            if amount > max {
                self.wrong(
                    "fleet-capacity",
                    &one.instance,
                    format!("{} gives no more than {max} {name} to one", one.to),
                );
            }
        }
    }

    fn check_group(&mut self, at: usize, instance: usize, to: usize) {
        let one = &self.plan.content.moves[at];
        let Some(group) = self.facts.fleet.instances[instance].group.as_deref() else { return };
        let members = self.group_on.get(&(group, to)).copied().unwrap_or(0);
        match self.facts.groups.get(group) {
            Some(GroupPolicy::AntiAffinity { per_host_max }) if members > *per_host_max => {
                let text = format!(
                    "{} would hold {members} members of group {group}; {per_host_max} may be",
                    one.to
                );
                self.wrong("fleet-group", &one.instance, text);
            }
            // On its way as a whole it is on the source and the destination, and nowhere else.
            Some(GroupPolicy::Affinity) if self.group_hosts.get(group).map_or(0, HashSet::len) > 2 => {
                self.wrong(
                    "fleet-group",
                    &one.instance,
                    format!("group {group} would be on more than two hosts"),
                );
            }
            _ => {}
        }
    }

    fn count_move(&mut self, at: usize, from: usize, to: usize, time: u64) {
        let one = &self.plan.content.moves[at];
        self.out[from] += 1;
        self.into[to] += 1;
        self.moving += 1;
        let own = &self.facts.own;
        if self.out[from] > own[from].per_source {
            let text =
                format!("{} moves leave {} at once {time} ms after the start", self.out[from], one.from);
            self.wrong("fleet-moves-at-once", one.from.as_str(), text);
        }
        if self.into[to] > own[to].per_destination {
            let text = format!("{} moves reach {} at once {time} ms after the start", self.into[to], one.to);
            self.wrong("fleet-moves-at-once", one.to.as_str(), text);
        }
        if self.facts.policy.moves_at_once().is_some_and(|limit| self.moving > limit) {
            let text = format!("{} moves are under way at once {time} ms after the start", self.moving);
            self.wrong("fleet-moves-at-once", &one.instance, text);
        }
    }

    fn move_ends(&mut self, at: usize) {
        let one = &self.plan.content.moves[at];
        let (instance, from, to) = self.facts.of_move(one);
        if self.moving == 0 || self.out[from] == 0 || self.into[to] == 0 {
            self.wrong("fleet-order", &one.instance, "its move ends before it begins".to_owned());
            return;
        }
        self.hold(instance, from, -1);
        self.to_leave[from] -= 1;
        self.home[instance] = to;
        let old = std::mem::replace(&mut self.on_cells[instance], one.cells.clone());
        self.take_cells(instance, from, &old, false);
        self.out[from] -= 1;
        self.into[to] -= 1;
        self.moving -= 1;
    }

    fn check_end(&mut self) {
        for at in 0..self.plan.content.drains.len() {
            let drain = &self.plan.content.drains[at];
            let host = self.facts.host(&drain.host).expect("names were looked up before");
            if self.stand[host] != Stand::After {
                self.wrong(
                    "fleet-not-given-back",
                    drain.host.as_str(),
                    "it is disabled at the end".to_owned(),
                );
            }
        }
        self.check_affinity_at_end();
        self.check_spares();
    }

    fn check_affinity_at_end(&mut self) {
        let mut apart = Vec::new();
        for (group, members) in &self.facts.members {
            let hosts: HashSet<usize> = members.iter().map(|at| self.home[*at]).collect();
            let first = |at: &usize| self.facts.host(&self.facts.fleet.instances[*at].host);
            let before: HashSet<_> = members.iter().map(first).collect();
            if self.facts.groups.get(group) == Some(&GroupPolicy::Affinity)
                && before.len() == 1
                && hosts.len() > 1
            {
                apart.push(*group);
            }
        }
        for group in apart {
            self.wrong("fleet-group", group, "its members are on several hosts at the end".to_owned());
        }
    }

    /// As many hosts as are to be kept empty are, in every zone where so many were.
    fn check_spares(&mut self) {
        let wanted = self.facts.policy.capacity.spare_hosts as usize;
        let occupied: HashSet<&str> = self.facts.fleet.instances.iter().map(|i| i.host.as_str()).collect();
        let mut zones: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for (at, host) in self.facts.fleet.hosts.iter().enumerate() {
            let enabled = host.availability == volutus_model::fleet::Availability::Enabled;
            if enabled && self.facts.is_used(at) && !occupied.contains(host.name.as_str()) {
                let (there, kept) = zones.entry(self.zone(at)).or_default();
                *there += 1;
                *kept += usize::from(!self.received[at]);
            }
        }
        for (zone, (there, kept)) in zones {
            if kept < wanted.min(there) {
                self.wrong("fleet-spare", &zone, format!("{kept} spare hosts are kept; {wanted} are to be"));
            }
        }
    }
}
