//! The fleet as the rules look at it: names to places in the description, and what the policy
//! says of each host.

use std::collections::{BTreeMap, HashMap};

use volutus_model::HostName;
use volutus_model::fleet::limits::glob_matches;
use volutus_model::fleet::plan::{How, Move};
use volutus_model::fleet::policy::HostPolicy;
use volutus_model::fleet::{Availability, Fleet, FleetHost, GroupPolicy, Instance, Part, RebootPolicy};

pub(super) struct Facts<'a> {
    pub fleet: &'a Fleet,
    pub policy: &'a RebootPolicy,
    pub own: Vec<HostPolicy>,
    pub groups: HashMap<&'a str, GroupPolicy>,
    pub members: HashMap<&'a str, Vec<usize>>,
    hosts: HashMap<&'a str, usize>,
    instances: HashMap<&'a str, usize>,
}

impl<'a> Facts<'a> {
    pub fn new(fleet: &'a Fleet, policy: &'a RebootPolicy) -> Self {
        let mut members: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, instance) in fleet.instances.iter().enumerate() {
            if let Some(group) = &instance.group {
                members.entry(group).or_default().push(at);
            }
        }
        Self {
            fleet,
            policy,
            own: fleet.hosts.iter().map(|host| policy.for_host(host)).collect(),
            groups: fleet.groups.iter().map(|group| (group.id.as_str(), group.policy)).collect(),
            members,
            hosts: fleet.hosts.iter().enumerate().map(|(at, host)| (host.name.as_str(), at)).collect(),
            instances: fleet.instances.iter().enumerate().map(|(at, i)| (i.id.as_str(), at)).collect(),
        }
    }

    pub fn host(&self, name: &HostName) -> Option<usize> {
        self.hosts.get(name.as_str()).copied()
    }

    pub fn instance(&self, id: &str) -> Option<usize> {
        self.instances.get(id).copied()
    }

    /// The places of a move's instance and hosts. Names are known when rules ask.
    pub fn of_move(&self, one: &Move) -> (usize, usize, usize) {
        let host = |name: &HostName| self.host(name).expect("names were looked up before");
        (self.instance(&one.instance).expect("names were looked up before"), host(&one.from), host(&one.to))
    }

    /// Whether the plan may do anything with a host.
    pub fn is_used(&self, at: usize) -> bool {
        let host = &self.fleet.hosts[at];
        let open = match host.availability {
            Availability::Enabled => true,
            Availability::Disabled { .. } => self.policy.hosts.include_disabled && host.part == Part::Reboot,
            Availability::Down => false,
        };
        open && !self.own[at].skip && host.part != Part::Untouched
    }

    /// Whether a host is to be rebooted.
    pub fn is_to_reboot(&self, at: usize) -> bool {
        self.is_used(at) && self.fleet.hosts[at].part == Part::Reboot
    }

    pub fn is_canary(&self, host: &FleetHost) -> bool {
        self.policy.hosts.canaries.iter().any(|pattern| glob_matches(pattern, host.name.as_str()))
    }

    /// Other members of an instance's hard affinity group, if it is in one.
    pub fn is_bound_to_others(&self, instance: &Instance) -> bool {
        let Some(group) = instance.group.as_deref() else { return false };
        self.groups.get(group) == Some(&GroupPolicy::Affinity)
            && self.members.get(group).is_some_and(|members| members.len() > 1)
    }

    /// Milliseconds that a move takes by the policy's expectations, rounded up.
    pub fn move_ms(&self, instance: &Instance, how: How) -> u64 {
        let moves = &self.policy.moves;
        let mib = 1u128 << 20;
        let memory = u128::from(instance.memory_mb()) * mib / 100 * u128::from(moves.memory_percent);
        let disks = if moves.shared_disks { 0 } else { u128::from(instance.local_disk_bytes) };
        let sent = match how {
            How::Live => memory + disks,
            How::Cold => disks,
        };
        let bits_per_ms = u128::from(moves.rate_mbit) * 1000;
        let transfer = (sent * 8).div_ceil(bits_per_ms);
        u64::try_from(transfer).unwrap_or(u64::MAX).saturating_add(1000 * u64::from(moves.overhead_s))
    }

    /// The groups of hosts of which only so many may be out of service: by a name, its members
    /// and the number.
    pub fn domains(&self) -> Vec<(String, Vec<usize>, usize)> {
        let hosts = &self.policy.hosts;
        let mut members: BTreeMap<String, (_, Vec<usize>)> = BTreeMap::new();
        for (at, host) in self.fleet.hosts.iter().enumerate().filter(|(at, _)| self.is_used(*at)) {
            let zone = host.zone.as_deref().unwrap_or("");
            let mut names =
                vec![("all hosts".to_owned(), Some(hosts.at_once)), (format!("zone {zone}"), hosts.per_zone)];
            names.extend(host.rack.iter().map(|rack| (format!("rack {rack}"), hosts.per_rack)));
            names.extend(
                host.aggregates.iter().map(|name| (format!("aggregate {name}"), hosts.per_aggregate)),
            );
            names.extend(host.roles.iter().map(|role| (format!("role {role}"), hosts.per_role)));
            if let Some(number) = self.policy.overrides.iter().position(|part| part.matches(host)) {
                names.push((format!("override {}", number + 1), self.policy.overrides[number].at_once));
            }
            for (name, limit) in names {
                if let Some(limit) = limit {
                    members.entry(name).or_insert_with(|| (limit, Vec::new())).1.push(at);
                }
            }
        }
        let limited = members.into_iter().map(|(name, (limit, members))| {
            let limit = limit.of(members.len());
            (name, members, limit)
        });
        limited.collect()
    }
}
