//! Which hosts an instance may be on, apart from room and groups: zone, traits, aggregates, and
//! the direction in which processors and hypervisors allow a live migration. Instances that may
//! be on the same hosts share a lane.

use std::collections::{BTreeSet, HashMap};

use volutus_model::fleet::{FleetHost, Hypervisor, Instance};

use crate::index::{Index, Role};

/// A set of hosts.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    bits: Vec<u64>,
    /// Hosts in it that the plan uses.
    pub count: u32,
    /// The zone that all of it is in, where there is one.
    pub zone: Option<u32>,
}

impl Lane {
    pub(crate) fn has(&self, host: u32) -> bool {
        self.bits[host as usize / 64] >> (host % 64) & 1 == 1
    }
}

#[derive(PartialEq, Eq, Hash)]
struct Key<'a> {
    zone: Option<u32>,
    required: &'a BTreeSet<String>,
    forbidden: &'a BTreeSet<String>,
    inside: &'a [BTreeSet<String>],
    outside: &'a BTreeSet<String>,
    kind: u32,
}

/// From which host to which a guest may be migrated alive.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reach {
    kind_of_host: Vec<u32>,
    matrix: Vec<Vec<bool>>,
    /// The count of the narrowest lane that a host is in.
    narrowest: Vec<u32>,
}

impl Reach {
    /// Whether a host is one of few to some instances, and one of more to this lane: what has the
    /// choice had better go elsewhere.
    pub(crate) fn is_scarcer(&self, host: u32, lane: &Lane) -> bool {
        self.narrowest[host as usize] < lane.count
    }

    pub(crate) fn goes(&self, from: u32, to: u32) -> bool {
        let kind = |host: u32| self.kind_of_host[host as usize] as usize;
        self.matrix[kind(from)][kind(to)]
    }
}

/// Makes lanes while instances are read.
pub(crate) struct Reader<'a> {
    hosts: &'a [FleetHost],
    used: Vec<bool>,
    zone_of_host: Vec<u32>,
    zones: Vec<&'a str>,
    cross_zones: bool,
    kind_of_host: Vec<u32>,
    kinds: Vec<Kind<'a>>,
    lanes: Vec<Lane>,
    known: HashMap<Key<'a>, u32>,
}

#[derive(PartialEq, Eq, Hash, Clone)]
struct Kind<'a> {
    features: BTreeSet<&'a str>,
    hypervisor: Option<&'a Hypervisor>,
}

impl Kind<'_> {
    /// Whether a guest may be migrated from here to there. What is not known is left to nova.
    fn may_go_to(&self, there: &Self) -> bool {
        let hypervisor = match (self.hypervisor, there.hypervisor) {
            (Some(here), Some(there)) => here.kind == there.kind && here.version <= there.version,
            _ => true,
        };
        hypervisor && self.features.is_subset(&there.features)
    }
}

/// The traits of a host that are features of its processor.
pub(crate) fn features(host: &FleetHost) -> BTreeSet<&str> {
    host.traits.iter().map(String::as_str).filter(|name| name.starts_with("HW_CPU_")).collect()
}

impl<'a> Reader<'a> {
    pub(crate) fn new(index: &Index<'a>) -> Self {
        let mut known: HashMap<Kind<'a>, u32> = HashMap::new();
        let mut kinds = Vec::new();
        let mut kind_of_host = Vec::new();
        for host in &index.fleet.hosts {
            let features = if index.policy.capacity.cpu_check { features(host) } else { BTreeSet::new() };
            let kind = Kind { features, hypervisor: host.hypervisor.as_ref() };
            let next = kinds.len() as u32;
            let number = *known.entry(kind).or_insert_with_key(|kind| {
                kinds.push(kind.clone());
                next
            });
            kind_of_host.push(number);
        }
        Self {
            hosts: &index.fleet.hosts,
            used: index.hosts.iter().map(|host| host.role != Role::Untouched).collect(),
            zone_of_host: index.hosts.iter().map(|host| host.zone).collect(),
            zones: index.zones.clone(),
            cross_zones: index.policy.capacity.cross_zones,
            kind_of_host,
            kinds,
            lanes: Vec::new(),
            known: HashMap::new(),
        }
    }

    /// The lane of an instance on that host.
    pub(crate) fn lane_of(&mut self, instance: &'a Instance, host: u32) -> u32 {
        let zone = match &instance.zone {
            // A zone that no host is in is a lane without hosts.
            Some(zone) => Some(self.zones.binary_search(&zone.as_str()).map_or(u32::MAX, |at| at as u32)),
            None if self.cross_zones => None,
            None => Some(self.zone_of_host[host as usize]),
        };
        let key = Key {
            zone,
            required: &instance.traits_required,
            forbidden: &instance.traits_forbidden,
            inside: &instance.aggregates_required,
            outside: &instance.aggregates_forbidden,
            kind: self.kind_of_host[host as usize],
        };
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let lane = self.make(&key);
        let number = self.lanes.len() as u32;
        self.lanes.push(lane);
        self.known.insert(key, number);
        number
    }

    fn make(&self, key: &Key<'_>) -> Lane {
        let mut bits = vec![0u64; self.hosts.len().div_ceil(64)];
        let mut count = 0;
        let kind = &self.kinds[key.kind as usize];
        let reach: Vec<bool> = self.kinds.iter().map(|there| kind.may_go_to(there)).collect();
        for (index, host) in self.hosts.iter().enumerate() {
            let fits = self.used[index]
                && key.zone.is_none_or(|zone| self.zone_of_host[index] == zone)
                && reach[self.kind_of_host[index] as usize]
                && key.required.is_subset(&host.traits)
                && key.forbidden.is_disjoint(&host.traits)
                && key.inside.iter().all(|any| !any.is_disjoint(&host.aggregates))
                && key.outside.is_disjoint(&host.aggregates);
            if fits {
                bits[index / 64] |= 1 << (index % 64);
                count += 1;
            }
        }
        Lane { bits, count, zone: key.zone }
    }

    pub(crate) fn finish(self) -> (Vec<Lane>, Reach) {
        let kinds = &self.kinds;
        let matrix = kinds.iter().map(|here| kinds.iter().map(|there| here.may_go_to(there)).collect());
        let matrix = matrix.collect();
        let mut narrowest = vec![u32::MAX; self.hosts.len()];
        for lane in &self.lanes {
            for (host, least) in narrowest.iter_mut().enumerate() {
                if lane.has(host as u32) {
                    *least = (*least).min(lane.count);
                }
            }
        }
        (self.lanes, Reach { narrowest, kind_of_host: self.kind_of_host, matrix })
    }
}
