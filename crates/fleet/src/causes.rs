//! Why a host cannot be emptied, and what would let it be.

use volutus_model::fleet::plan::Left;
use volutus_model::fleet::{FleetHost, GroupPolicy, Instance};

use crate::assign;
use crate::index::{Index, NONE, Role};
use crate::ladder::{self, Outcome};
use crate::lanes;
use crate::render;
use crate::schedule::Scheduler;
use crate::state::State;

/// Hosts that cannot be emptied however much room there is, found before anything is scheduled.
pub(crate) fn before_the_start(state: &State<'_, '_>) -> Vec<(u32, Left)> {
    let index = state.index;
    let sizes = group_sizes(index);
    let mut found = Vec::new();
    for (at, host) in index.hosts.iter().enumerate() {
        if host.role != Role::Reboot {
            continue;
        }
        let at = at as u32;
        let cause = state.on_host[at as usize].iter().find_map(|instance| {
            blocked(index, *instance)
                .or_else(|| no_host(index, *instance, at))
                .or_else(|| full_group(state, &sizes, *instance))
        });
        if let Some((code, cause, action)) = cause {
            found.push((at, left(index, at, code, cause, action)));
        }
    }
    found
}

/// Why a host still waits when nothing is under way any more.
pub(crate) fn at_the_end(scheduler: &Scheduler<'_, '_>, host: u32) -> Left {
    let state = &scheduler.state;
    let index = state.index;
    let movers: Vec<u32> = assign::movers(state, host).collect();
    for instance in &movers {
        let facts = &index.instances[*instance as usize];
        let lane = &index.lanes[facts.lane as usize];
        let others = |other: &u32| *other != host && lane.has(*other);
        let hosts: Vec<u32> = (0..index.hosts.len() as u32).filter(others).collect();
        if !hosts.is_empty() && hosts.iter().all(|other| state.group_forbids(facts.group, *other)) {
            let (code, cause, action) = group_words(index, *instance, hosts.len() + 1);
            return left(index, host, code, cause, action);
        }
    }
    let (code, cause, action) = short_of_room(scheduler, host, &movers);
    left(index, host, code, cause, action)
}

fn left(index: &Index<'_>, host: u32, code: &str, cause: String, action: String) -> Left {
    Left { host: index.fleet.hosts[host as usize].name.clone(), code: code.to_owned(), cause, action }
}

type Words = (&'static str, String, String);

fn blocked(index: &Index<'_>, instance: u32) -> Option<Words> {
    match index.instances[instance as usize].outcome {
        Outcome::Blocked(block) => Some(ladder::explain(block, &index.fleet.instances[instance as usize])),
        Outcome::Move(_) | Outcome::Stay(_) => None,
    }
}

fn no_host(index: &Index<'_>, instance: u32, host: u32) -> Option<Words> {
    let facts = &index.instances[instance as usize];
    let lane = &index.lanes[facts.lane as usize];
    if !matches!(facts.outcome, Outcome::Move(_)) || lane.count > u32::from(lane.has(host)) {
        return None;
    }
    let instance = &index.fleet.instances[instance as usize];
    let here = &index.fleet.hosts[host as usize];
    let usable: Vec<&FleetHost> = index
        .fleet
        .hosts
        .iter()
        .zip(&index.hosts)
        .filter(|(other, facts)| facts.role != Role::Untouched && other.name != here.name)
        .map(|(other, _)| other)
        .collect();
    let mut words = Vec::new();
    let mut rest = usable;
    for (name, fits) in
        wishes(instance, here, index.policy.capacity.cross_zones, index.policy.capacity.cpu_check)
    {
        let before = rest.len();
        rest.retain(|other| fits(other));
        if rest.len() < before {
            words.push(format!("{name} leaves {} of {before}", rest.len()));
        }
    }
    Some((
        "no-host-fits",
        format!(
            "no other host may take instance {}: {}",
            instance.id,
            if words.is_empty() { "the plan uses no other host".to_owned() } else { words.join(", ") }
        ),
        "Add a host that fulfils this, enable one that does, or have the instance's owner consent to a stop \
         (volutus:maintenance=stop)."
            .to_owned(),
    ))
}

type Wish<'a> = (String, Box<dyn Fn(&FleetHost) -> bool + 'a>);

/// What an instance asks of a host, one by one, in words.
fn wishes<'a>(instance: &'a Instance, here: &'a FleetHost, cross_zones: bool, cpu: bool) -> Vec<Wish<'a>> {
    let mut wishes: Vec<Wish<'a>> = Vec::new();
    let zone =
        instance.zone.as_ref().or(here.zone.as_ref()).filter(|_| instance.zone.is_some() || !cross_zones);
    if let Some(zone) = zone {
        wishes.push((format!("zone {zone}"), Box::new(move |host| host.zone.as_ref() == Some(zone))));
    }
    for name in &instance.traits_required {
        wishes.push((format!("trait {name}"), Box::new(move |host| host.traits.contains(name))));
    }
    for name in &instance.traits_forbidden {
        wishes.push((format!("forbidden trait {name}"), Box::new(move |host| !host.traits.contains(name))));
    }
    for any in &instance.aggregates_required {
        let names: Vec<&str> = any.iter().map(String::as_str).collect();
        wishes.push((
            format!("aggregate {}", names.join(" or ")),
            Box::new(move |host| !any.is_disjoint(&host.aggregates)),
        ));
    }
    for name in &instance.aggregates_forbidden {
        wishes.push((format!("not aggregate {name}"), Box::new(move |host| !host.aggregates.contains(name))));
    }
    if cpu {
        wishes.push((
            format!("the processor features of {}", here.name),
            Box::new(move |host| lanes::features(here).is_subset(&lanes::features(host))),
        ));
    }
    if let Some(hypervisor) = &here.hypervisor {
        wishes.push((
            format!("{} {} or newer", hypervisor.kind, hypervisor.version),
            Box::new(move |host| {
                host.hypervisor
                    .as_ref()
                    .is_none_or(|there| there.kind == hypervisor.kind && there.version >= hypervisor.version)
            }),
        ));
    }
    wishes
}

fn group_sizes(index: &Index<'_>) -> Vec<u32> {
    let mut sizes = vec![0; index.groups.len()];
    for facts in index.instances.iter().filter(|facts| facts.group != NONE) {
        sizes[facts.group as usize] += 1;
    }
    sizes
}

/// A hard anti-affinity group that fills all hosts that it may be on: none of its members can
/// ever move.
fn full_group(state: &State<'_, '_>, sizes: &[u32], instance: u32) -> Option<Words> {
    let index = state.index;
    let facts = &index.instances[instance as usize];
    if facts.group == NONE || !matches!(facts.outcome, Outcome::Move(_)) {
        return None;
    }
    let GroupPolicy::AntiAffinity { per_host_max } = index.groups[facts.group as usize] else { return None };
    let lane = &index.lanes[facts.lane as usize];
    if sizes[facts.group as usize] < per_host_max * lane.count {
        return None;
    }
    let full = (0..index.hosts.len() as u32)
        .filter(|host| lane.has(*host))
        .all(|host| state.group_forbids(facts.group, host));
    full.then(|| group_words(index, instance, lane.count as usize))
}

fn group_words(index: &Index<'_>, instance: u32, hosts: usize) -> Words {
    let facts = &index.instances[instance as usize];
    let group = &index.fleet.groups[facts.group as usize];
    let size = group_sizes(index)[facts.group as usize];
    (
        "group-as-large-as-hosts",
        format!(
            "server group {} ({}) has {size} members that may not share a host, and they are on all {hosts} \
             hosts that could take them",
            group.id, group.name
        ),
        format!(
            "Add one host to those {hosts}, raise the group's max_server_per_host, or have the owner of one \
             member consent to a stop (volutus:maintenance=stop)."
        ),
    )
}

/// How much of which class is missing, or which instance is too large for every gap.
fn short_of_room(scheduler: &Scheduler<'_, '_>, host: u32, movers: &[u32]) -> Words {
    let state = &scheduler.state;
    let index = state.index;
    let zone = index.zones[index.hosts[host as usize].zone as usize];
    let place = if zone.is_empty() { "the hosts without a zone".to_owned() } else { format!("zone {zone}") };
    let reach: Vec<u32> = (0..index.hosts.len() as u32)
        .filter(|other| *other != host && index.hosts[*other as usize].role != Role::Untouched)
        .filter(|other| !index.hosts[*other as usize].closed)
        .filter(|other| {
            movers.iter().any(|at| index.lanes[index.instances[*at as usize].lane as usize].has(*other))
        })
        .collect();
    let load = scheduler.load(host);
    for (class, needed) in load.iter().enumerate() {
        let free: i64 = reach.iter().map(|other| state.free(*other, class).max(0)).sum();
        if *needed > free {
            let name = index.classes[class];
            let short = render::amount(name, needed - free);
            return (
                "capacity-short",
                format!(
                    "its instances need {} of {name}, and all other hosts of {place} have {} left: {short} too little",
                    render::amount(name, *needed),
                    render::amount(name, free)
                ),
                format!("Add {short} of {name} to {place}, or move or stop instances there first."),
            );
        }
    }
    let largest = movers.iter().max_by_key(|at| {
        let shape = index.shape(index.instances[**at as usize].shape);
        (shape.iter().zip(&index.scale).map(|(a, s)| *a as f64 * s).fold(0.0, f64::max) * 1e9) as u64
    });
    let what = largest.map_or(String::new(), |at| {
        let facts = &index.instances[*at as usize];
        let amounts: Vec<String> = index
            .classes
            .iter()
            .zip(index.shape(facts.shape))
            .filter(|(_, amount)| **amount > 0)
            .map(|(class, amount)| format!("{} {class}", render::amount(class, *amount)))
            .collect();
        format!(
            "; the largest of them, {}, needs {}",
            index.fleet.instances[*at as usize].id,
            amounts.join(", ")
        )
    });
    (
        "capacity-fragmented",
        format!(
            "there is room enough for its {} instances on the other hosts of {place} in sum, but not in \
             pieces that fit{what}",
            movers.len()
        ),
        format!("Empty one host of {place}, or add one."),
    )
}
