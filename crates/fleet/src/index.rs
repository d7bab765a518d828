//! Names into numbers, once: hosts, instances, resource classes, zones and groups by index.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use volutus_model::fleet::{Availability, Fleet, GroupPolicy, Part, RebootPolicy};

use crate::budgets::{self, Domain};
use crate::ladder::{self, Outcome};
use crate::lanes::{self, Lane, Reach};
use crate::timing;

/// Not in any group.
pub(crate) const NONE: u32 = u32::MAX;

/// What a host is to the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// To be emptied and rebooted.
    Reboot,
    /// Takes instances from the start.
    Ready,
    /// Neither.
    Untouched,
}

#[derive(Debug, Clone)]
pub(crate) struct HostFacts {
    pub role: Role,
    pub zone: u32,
    /// Hosts of other pools never exchange instances.
    pub pool: u32,
    pub act_ms: u64,
    pub per_source: u32,
    pub per_destination: u32,
    pub domains: Vec<u32>,
    pub phase: u32,
    /// Nothing is moved to it: it is kept as a spare, or stays disabled as a person left it.
    pub closed: bool,
    /// The owner of an instance on it asked for it to be late.
    pub later: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct InstanceFacts {
    pub host: u32,
    pub shape: u32,
    pub lane: u32,
    pub group: u32,
    pub work_ms: u64,
    pub outcome: Outcome,
}

pub(crate) struct Index<'a> {
    pub fleet: &'a Fleet,
    pub policy: &'a RebootPolicy,
    /// Names of the resource classes that instances hold.
    pub classes: Vec<&'a str>,
    pub zones: Vec<&'a str>,
    pub hosts: Vec<HostFacts>,
    pub instances: Vec<InstanceFacts>,
    pub groups: Vec<GroupPolicy>,
    pub lanes: Vec<Lane>,
    pub reach: Reach,
    pub domains: Vec<Domain>,
    pub phases: u32,
    /// Place of each host by name.
    pub by_name: Vec<u32>,
    /// What can be allocated, per host and class.
    pub capacity: Vec<i64>,
    /// What may be in use on a destination, per host and class.
    pub fill: Vec<i64>,
    /// The most that one allocation may take, per host and class.
    pub max_unit: Vec<i64>,
    /// What is in use at the start, per host and class.
    pub used: Vec<i64>,
    /// Amounts per shape and class.
    pub shapes: Vec<i64>,
    /// Per class: how much of an ordinary host one unit is, to compare classes.
    pub scale: Vec<f64>,
    pub spares_missing: Vec<(String, u32, usize)>,
    pub pins_unseen: usize,
    /// Hard affinity groups of several instances.
    bound: BTreeSet<u32>,
}

impl<'a> Index<'a> {
    pub(crate) fn new(fleet: &'a Fleet, policy: &'a RebootPolicy) -> Self {
        let classes: BTreeSet<&str> =
            fleet.instances.iter().flat_map(|i| i.resources.keys()).map(String::as_str).collect();
        let classes: Vec<&str> = classes.into_iter().collect();
        let zones: BTreeSet<&str> =
            fleet.hosts.iter().map(|host| host.zone.as_deref().unwrap_or("")).collect();
        let mut index = Index {
            fleet,
            policy,
            classes,
            zones: zones.into_iter().collect(),
            hosts: Vec::new(),
            instances: Vec::new(),
            groups: fleet.groups.iter().map(|group| group.policy).collect(),
            lanes: Vec::new(),
            reach: Reach::default(),
            domains: Vec::new(),
            phases: 0,
            by_name: Vec::new(),
            capacity: Vec::new(),
            fill: Vec::new(),
            max_unit: Vec::new(),
            used: Vec::new(),
            shapes: Vec::new(),
            scale: Vec::new(),
            spares_missing: Vec::new(),
            pins_unseen: 0,
            bound: BTreeSet::new(),
        };
        index.read_hosts();
        index.read_instances();
        index.keep_spares();
        budgets::set(&mut index);
        index
    }

    /// Number of resource classes.
    pub(crate) fn k(&self) -> usize {
        self.classes.len()
    }

    /// Whether an instance is in a hard affinity group with others.
    pub(crate) fn is_bound(&self, instance: u32) -> bool {
        self.bound.contains(&self.instances[instance as usize].group)
    }

    pub(crate) fn name(&self, host: u32) -> &'a str {
        self.fleet.hosts[host as usize].name.as_str()
    }

    /// Whether one host runs newer code than another does now. nova moves instances in the middle of a rolling
    /// upgrade from older code to newer; hosts that are done, or need not be, are on the newest.
    pub(crate) fn is_ahead_of(&self, host: u32, other: u32) -> bool {
        let release = |host: u32| self.fleet.hosts[host as usize].release;
        matches!((release(host), release(other)), (Some(here), Some(there)) if here > there)
    }

    pub(crate) fn shape(&self, shape: u32) -> &[i64] {
        let k = self.k();
        &self.shapes[shape as usize * k..][..k]
    }

    pub(crate) fn zone_of(&self, name: &str) -> u32 {
        self.zones.binary_search(&name).map_or(NONE, |at| at as u32)
    }

    fn read_hosts(&mut self) {
        for host in &self.fleet.hosts {
            let own = self.policy.for_host(host);
            let usable = match &host.availability {
                Availability::Enabled => true,
                Availability::Disabled { .. } => self.policy.hosts.include_disabled,
                Availability::Down => false,
            };
            let role = match host.part {
                _ if own.skip || !usable => Role::Untouched,
                Part::Reboot => Role::Reboot,
                // A host that a person disabled is not given instances, even if it may be rebooted.
                Part::Exempt if host.availability == Availability::Enabled => Role::Ready,
                Part::Exempt | Part::Untouched => Role::Untouched,
            };
            for class in &self.classes {
                let record = host.inventories.get(*class);
                let usable = record.map_or(0, |record| record.usable()) as i64;
                self.capacity.push(usable);
                self.fill.push(usable * i64::from(own.fill_max_percent) / 100);
                let max = record.and_then(|record| record.max_unit).unwrap_or(u64::MAX);
                self.max_unit.push(i64::try_from(max).unwrap_or(i64::MAX));
                self.used.push(host.held.get(*class).copied().unwrap_or(0) as i64);
            }
            self.hosts.push(HostFacts {
                role,
                zone: self.zone_of(host.zone.as_deref().unwrap_or("")),
                pool: 0,
                act_ms: own.act_ms,
                per_source: own.per_source,
                per_destination: own.per_destination,
                domains: Vec::new(),
                phase: 0,
                closed: host.availability != Availability::Enabled,
                later: false,
            });
        }
        let mut by_name: Vec<u32> = (0..self.hosts.len() as u32).collect();
        by_name.sort_by_key(|host| self.fleet.hosts[*host as usize].name.as_str());
        self.by_name = vec![0; self.hosts.len()];
        for (place, host) in by_name.into_iter().enumerate() {
            self.by_name[host as usize] = place as u32;
        }
        let (k, n) = (self.k(), self.hosts.len().max(1));
        for class in 0..k {
            let all: i64 = (0..self.hosts.len()).map(|host| self.capacity[host * k + class]).sum();
            self.scale.push(n as f64 / (all.max(1) as f64));
        }
    }

    fn read_instances(&mut self) {
        let k = self.k();
        let hosts: HashMap<&str, u32> =
            self.fleet.hosts.iter().enumerate().map(|(i, host)| (host.name.as_str(), i as u32)).collect();
        let groups: HashMap<&str, u32> =
            self.fleet.groups.iter().enumerate().map(|(i, group)| (group.id.as_str(), i as u32)).collect();
        let together = ladder::groups_to_be_moved_together(self.fleet);
        let mut shapes: HashMap<Vec<i64>, u32> = HashMap::new();
        let mut lanes = lanes::Reader::new(self);
        let mut facts = Vec::with_capacity(self.fleet.instances.len());
        let mut pins_unseen = 0;
        let blind = self.fleet.hosts.iter().any(|host| host.cells.is_empty());
        for instance in &self.fleet.instances {
            let host = hosts[instance.host.as_str()];
            self.hosts[host as usize].later |= instance.later;
            let amounts: Vec<i64> = self
                .classes
                .iter()
                .map(|class| instance.resources.get(*class).copied().unwrap_or(0) as i64)
                .collect();
            for (class, amount) in amounts.iter().enumerate() {
                self.used[host as usize * k + class] += amount;
            }
            let next = shapes.len() as u32;
            let shape = *shapes.entry(amounts).or_insert_with_key(|amounts| {
                self.shapes.extend_from_slice(amounts);
                next
            });
            let group = instance.group.as_deref().map_or(NONE, |group| groups[group]);
            let outcome = ladder::classify(instance, self.policy, together.get(&group));
            let moves = matches!(outcome, Outcome::Move(_));
            pins_unseen += usize::from(moves && !instance.pins.is_empty() && blind);
            facts.push(InstanceFacts {
                host,
                shape,
                lane: lanes.lane_of(instance, host),
                group,
                work_ms: timing::move_ms(instance, self.policy, outcome),
                outcome,
            });
        }
        (self.lanes, self.reach) = lanes.finish();
        self.instances = facts;
        self.pins_unseen = pins_unseen;
        self.bound = together.into_keys().collect();
        let any_zone = self.lanes.iter().any(|lane| lane.zone.is_none());
        for host in &mut self.hosts {
            host.pool = if any_zone { 0 } else { host.zone };
        }
    }

    /// The emptiest hosts of each zone, of those without any instance, are kept back.
    fn keep_spares(&mut self) {
        let wanted = self.policy.capacity.spare_hosts;
        if wanted == 0 {
            return;
        }
        let mut occupied = vec![false; self.hosts.len()];
        for instance in &self.instances {
            occupied[instance.host as usize] = true;
        }
        let mut empty: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (index, host) in self.hosts.iter().enumerate() {
            if host.role != Role::Untouched && !host.closed {
                let of_zone = empty.entry(host.zone).or_default();
                if !occupied[index] {
                    of_zone.push(index);
                }
            }
        }
        for (zone, mut hosts) in empty {
            // The largest are kept: a spare has to be able to stand in for any host.
            let k = self.k();
            let size = |host: usize| -> f64 {
                (0..k).map(|class| self.capacity[host * k + class] as f64 * self.scale[class]).sum()
            };
            hosts.sort_by(|a, b| size(*b).total_cmp(&size(*a)).then(a.cmp(b)));
            if hosts.len() < wanted as usize {
                self.spares_missing.push((self.zones[zone as usize].to_owned(), wanted, hosts.len()));
            }
            for host in hosts.into_iter().take(wanted as usize) {
                self.hosts[host].closed = true;
            }
        }
    }
}
