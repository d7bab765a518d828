//! How many hosts may be out of service at once, and which come first.

use std::collections::BTreeMap;

use volutus_model::fleet::limits::{Amount, glob_matches};
use volutus_model::fleet::policy::Zones;

use crate::index::{Index, Role};

/// Hosts of which only so many may be out of service at once.
#[derive(Debug, Clone)]
pub(crate) struct Domain {
    pub limit: u32,
}

/// The domain of all hosts.
pub(crate) const ALL: u32 = 0;

/// Sets the domains and phases of every host.
pub(crate) fn set(index: &mut Index<'_>) {
    let hosts = &index.policy.hosts;
    let mut members: BTreeMap<(u8, &str), (Amount, Vec<usize>)> = BTreeMap::new();
    let mut add = |kind: u8, name, limit: Option<Amount>, host: usize| {
        if let Some(limit) = limit {
            members.entry((kind, name)).or_insert_with(|| (limit, Vec::new())).1.push(host);
        }
    };
    let names: Vec<String> = (0..index.policy.overrides.len()).map(|number| number.to_string()).collect();
    for (at, host) in index.fleet.hosts.iter().enumerate() {
        if index.hosts[at].role == Role::Untouched {
            continue;
        }
        add(0, "", Some(hosts.at_once), at);
        add(1, host.zone.as_deref().unwrap_or(""), hosts.per_zone, at);
        if let Some(rack) = &host.rack {
            add(2, rack, hosts.per_rack, at);
        }
        for aggregate in &host.aggregates {
            add(3, aggregate, hosts.per_aggregate, at);
        }
        for role in &host.roles {
            add(4, role, hosts.per_role, at);
        }
        if let Some(part) = index.policy.override_of(host) {
            add(5, &names[part], index.policy.overrides[part].at_once, at);
        }
    }
    for (limit, members) in members.into_values() {
        let number = index.domains.len() as u32;
        index.domains.push(Domain { limit: limit.of(members.len()) as u32 });
        for host in members {
            index.hosts[host].domains.push(number);
        }
    }
    set_phases(index);
}

/// Canaries are the first phase; zones that are done one after another have one each.
fn set_phases(index: &mut Index<'_>) {
    let policy = &index.policy.hosts;
    let rank = |zone: &str| {
        let named = policy.zone_order.iter().position(|name| name == zone);
        named.unwrap_or(policy.zone_order.len())
    };
    let mut zones: Vec<u32> = (0..index.zones.len() as u32).collect();
    zones.sort_by_key(|zone| rank(index.zones[*zone as usize]));
    for (at, host) in index.fleet.hosts.iter().enumerate() {
        let canary = policy.canaries.iter().any(|pattern| glob_matches(pattern, host.name.as_str()));
        let zone = index.hosts[at].zone;
        index.hosts[at].phase = match policy.zones {
            _ if canary => 0,
            Zones::Together => 1,
            Zones::OneAfterAnother => 1 + zones.iter().position(|other| *other == zone).unwrap_or(0) as u32,
        };
    }
    index.phases = index.hosts.iter().map(|host| host.phase + 1).max().unwrap_or(0);
}
