//! The fleet out of what the APIs answered. Pure; what does not fit together is told, not guessed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use volutus_model::fleet::{
    Availability, Fleet, FleetHost, GroupPolicy, Hypervisor, Instance, InventoryRecord, Obstacle,
    OwnerChoice, Part, REASON_TOKEN, ServerGroup,
};
use volutus_model::{Finding, HostName, Inventory, Severity};
use volutus_openstack::compute::{FleetServer, Service};

use super::{Answers, Placed, instance};

/// Subjects that one finding names.
const NAMED_MAX: usize = 5;

/// The metadata of aggregates that keeps other projects off their hosts. Source: nova's filter
/// `AggregateMultiTenancyIsolation` and its placement request filter of the same name.
const TENANT_KEY: &str = "filter_tenant_id";

pub(super) fn fleet(inventory: &Inventory, answers: &Answers) -> Fleet {
    let mut unseen = Unseen::default();
    let mut fleet = Fleet { hosts: hosts(inventory, answers, &mut unseen), ..Fleet::default() };
    let known: HashSet<String> = fleet.hosts.iter().map(|host| host.name.to_string()).collect();
    let places = Places::new(answers, &mut unseen);
    for server in answers.servers.iter().filter(|server| !instance::passes(server)) {
        let Some(host) = &server.host else {
            if server.status == "UNKNOWN" {
                unseen.note("instance-unknown", &server.id);
            }
            // Otherwise it is on no host: not scheduled yet, or shelved and offloaded.
            continue;
        };
        match HostName::new(host.clone()) {
            Ok(host) if known.contains(host.as_str()) => {
                fleet.instances.push(one(server, host, answers, &places, &mut unseen));
            }
            _ => unseen.note("instance-on-unknown-host", &format!("{} on {host}", server.id)),
        }
    }
    fleet.instances.sort_by(|a, b| a.id.cmp(&b.id));
    let present: HashSet<&str> = fleet.instances.iter().map(|one| one.id.as_str()).collect();
    let passing = answers.servers.iter().filter(|server| instance::passes(server));
    let passing: HashSet<&str> = passing.map(|server| server.id.as_str()).collect();
    add_held(&mut fleet.hosts, &present, &passing, &places, &mut unseen);
    match &answers.duties {
        Ok(duties) => fleet.duties.clone_from(duties),
        Err(why) => unseen.note("duties-unseen", why),
    }
    fleet.groups = groups(answers, &fleet.instances, &mut unseen);
    fleet.unseen = unseen.findings();
    fleet
}

/// A host, and amounts that are allocated there.
type OnHost<'a> = (&'a str, &'a BTreeMap<String, u64>);

/// What is needed of every instance, by its id.
struct Places<'a> {
    /// By instance or other consumer: host and amounts.
    allocations: HashMap<&'a str, Vec<OnHost<'a>>>,
    group_of: HashMap<&'a str, &'a str>,
    sriov: HashSet<&'a str>,
    /// By instance: the host that it is on.
    home: HashMap<&'a str, &'a str>,
    aggregates: Vec<(&'a str, &'a BTreeMap<String, String>)>,
    /// By project: aggregates that are for it.
    for_project: BTreeMap<&'a str, BTreeSet<String>>,
}

impl<'a> Places<'a> {
    fn new(answers: &'a Answers, unseen: &mut Unseen) -> Self {
        let mut allocations: HashMap<&str, Vec<_>> = HashMap::new();
        for hypervisor in &answers.hypervisors {
            let Some(placed) = answers.placed.get(&hypervisor.id) else { continue };
            for (consumer, amounts) in &placed.allocations {
                let host = hypervisor.service.host.as_str();
                allocations.entry(consumer).or_default().push((host, amounts));
            }
        }
        let members = |group: &'a volutus_openstack::compute::ServerGroup| {
            group.members.iter().map(move |member| (member.as_str(), group.id.as_str()))
        };
        let sriov = match &answers.ports {
            Ok(ports) => ports
                .iter()
                .filter(|port| instance::SRIOV.contains(&port.vnic_type.as_str()))
                .map(|port| port.device_id.as_str())
                .collect(),
            Err(why) => {
                unseen.note("ports-unseen", why);
                HashSet::new()
            }
        };
        let aggregates = answers.aggregates.iter().map(|one| (one.name.as_str(), &one.metadata)).collect();
        let mut for_project: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for aggregate in &answers.aggregates {
            // Several projects are separated by commas, or have keys with a suffix.
            let keys = aggregate.metadata.iter().filter(|(key, _)| key.starts_with(TENANT_KEY));
            for project in
                keys.flat_map(|(_, value)| value.split(',')).map(str::trim).filter(|p| !p.is_empty())
            {
                for_project.entry(project).or_default().insert(aggregate.name.clone());
            }
        }
        let home =
            answers.servers.iter().filter_map(|server| Some((server.id.as_str(), server.host.as_deref()?)));
        Self {
            home: home.collect(),
            group_of: answers.groups.iter().flat_map(members).collect(),
            allocations,
            sriov,
            aggregates,
            for_project,
        }
    }

    fn is_home(&self, instance: &str, host: &str) -> bool {
        self.home.get(instance) == Some(&host)
    }

    /// Sets of aggregates of each of which an instance's host must be in one, and those that it must
    /// not be in.
    fn aggregates_of(&self, server: &FleetServer) -> (Vec<BTreeSet<String>>, BTreeSet<String>) {
        let mut required = Vec::new();
        for (key, wanted) in instance::aggregate_wishes(server) {
            let fits = |value: &String| value.split(',').any(|value| value.trim() == wanted);
            let fitting = self.aggregates.iter().filter(|(_, metadata)| metadata.get(key).is_some_and(fits));
            let names: BTreeSet<String> = fitting.map(|(name, _)| (*name).to_owned()).collect();
            // Where no aggregate has it, the scheduler's filter cannot be in use, or it would not run.
            if !names.is_empty() {
                required.push(names);
            }
        }
        let own = self.for_project.get(server.tenant_id.as_str());
        required.extend(own.cloned());
        let others =
            self.for_project.values().flatten().filter(|name| !own.is_some_and(|own| own.contains(*name)));
        (required, others.cloned().collect())
    }
}

fn one(
    server: &FleetServer,
    host: HostName,
    answers: &Answers,
    places: &Places<'_>,
    unseen: &mut Unseen,
) -> Instance {
    let name = host.as_str();
    let allocated = places.allocations.get(server.id.as_str());
    let here = allocated.and_then(|all| all.iter().find(|(on, _)| *on == name));
    let resources = match (here, &server.flavor) {
        (Some((_, amounts)), _) => (*amounts).clone(),
        (None, Some(flavor)) => {
            unseen.note("allocation-missing", &server.id);
            instance::resources_by_flavor(flavor)
        }
        (None, None) => {
            unseen.note("allocation-missing", &server.id);
            BTreeMap::new()
        }
    };
    if server.flavor.as_ref().is_none_or(|flavor| flavor.extra_specs.is_none()) {
        unseen.note("extra-specs-unseen", &server.id);
    }
    let mut obstacles = instance::obstacles(server, &resources);
    if places.sriov.contains(server.id.as_str()) {
        obstacles.insert(Obstacle::Sriov);
    }
    let choice = instance::choice(server).unwrap_or_else(|words| {
        unseen.note("choice-not-understood", &format!("{} ({words})", server.id));
        Some(OwnerChoice::Never)
    });
    let (traits_required, traits_forbidden) = instance::traits(server);
    let (aggregates_required, aggregates_forbidden) = places.aggregates_of(server);
    Instance {
        id: server.id.clone(),
        name: server.name.clone(),
        project: server.tenant_id.clone(),
        state: instance::state(server),
        zone: server.pinned_availability_zone.clone(),
        traits_required,
        traits_forbidden,
        aggregates_required,
        aggregates_forbidden,
        group: places.group_of.get(server.id.as_str()).map(|group| (*group).to_owned()),
        local_disk_bytes: instance::disk_bytes(server),
        obstacles,
        pins: answers.topologies.get(&server.id).map(|nodes| instance::pins(nodes)).unwrap_or_default(),
        choice,
        stopped: server.tags.iter().any(|tag| tag == volutus_model::fleet::STOPPED_TAG),
        later: false,
        resources,
        host,
    }
}

fn hosts(inventory: &Inventory, answers: &Answers, unseen: &mut Unseen) -> Vec<FleetHost> {
    let mut hosts = Vec::new();
    for record in &answers.services {
        let Ok(name) = HostName::new(record.host.clone()) else {
            unseen.note("host-name-unusable", &record.host);
            continue;
        };
        let mut host = FleetHost::named(name);
        host.zone = Some(record.zone.clone());
        host.availability = availability(record);
        if matches!(&host.availability, Availability::Disabled { reason } if reason.starts_with(REASON_TOKEN))
        {
            unseen.note("disabled-by-volutus", &record.host);
        }
        let aggregates = answers.aggregates.iter().filter(|one| one.hosts.contains(&record.host));
        host.aggregates = aggregates.map(|one| one.name.clone()).collect();
        match inventory.hosts.iter().find(|declared| declared.name == host.name) {
            Some(declared) => {
                host.roles = declared.roles.iter().map(ToString::to_string).collect();
                match answers.settings.get(&host.name) {
                    Some(Ok(settings)) => host.migrations = Some(*settings),
                    Some(Err(why)) => {
                        unseen.note("migration-settings-unseen", &format!("{} ({why})", record.host));
                    }
                    None => {
                        let why = "the cloud description has no nova-compute there";
                        unseen.note("migration-settings-unseen", &format!("{} ({why})", record.host));
                    }
                }
            }
            // It can take instances; but nobody said how it is reached, so it cannot be rebooted.
            None => {
                host.part = Part::Exempt;
                unseen.note("host-not-described", &record.host);
            }
        }
        let mut own = answers.hypervisors.iter().filter(|hypervisor| hypervisor.service.host == record.host);
        match (own.next(), own.next()) {
            (Some(hypervisor), None) => {
                host.hypervisor = Some(Hypervisor {
                    kind: hypervisor.hypervisor_type.clone(),
                    version: hypervisor.hypervisor_version,
                });
                match answers.placed.get(&hypervisor.id) {
                    Some(placed) => fill(&mut host, placed),
                    None => leave(&mut host, "no-provider", unseen),
                }
            }
            (None, _) => leave(&mut host, "no-hypervisor", unseen),
            // A service of ironic stands for many machines.
            (Some(_), Some(_)) => leave(&mut host, "many-hypervisors", unseen),
        }
        hosts.push(host);
    }
    hosts
}

/// A host of which too little is known is neither rebooted nor used.
fn leave(host: &mut FleetHost, code: &'static str, unseen: &mut Unseen) {
    host.part = Part::Untouched;
    unseen.note(code, host.name.as_str());
}

fn availability(record: &Service) -> Availability {
    if record.forced_down || record.state != "up" {
        return Availability::Down;
    }
    match record.status.as_str() {
        "enabled" => Availability::Enabled,
        _ => Availability::Disabled { reason: record.disabled_reason.clone().unwrap_or_default() },
    }
}

/// Inventories and traits of a host. A class that several providers of its tree have is summed: as
/// what is usable, where their ratios differ.
fn fill(host: &mut FleetHost, placed: &Placed) {
    host.traits.clone_from(&placed.traits);
    for (class, record) in placed.inventories.iter().flatten() {
        let one = InventoryRecord {
            total: record.total,
            reserved: record.reserved,
            allocation_ratio: record.allocation_ratio,
            max_unit: Some(record.max_unit),
        };
        let entry = host.inventories.entry(class.clone());
        entry
            .and_modify(|sum| {
                let max_unit = sum.max_unit.max(one.max_unit);
                let usable = sum.usable() + one.usable();
                *sum = InventoryRecord { total: usable, reserved: 0, allocation_ratio: 1.0, max_unit };
            })
            .or_insert(one);
    }
}

/// What consumers other than the instances that are on a host hold there: migrations that are under
/// way or unconfirmed, reservations, and what was left over. What passes holds nothing for long.
fn add_held(
    hosts: &mut [FleetHost],
    present: &HashSet<&str>,
    passing: &HashSet<&str>,
    places: &Places<'_>,
    unseen: &mut Unseen,
) {
    let at: HashMap<String, usize> =
        hosts.iter().enumerate().map(|(at, host)| (host.name.to_string(), at)).collect();
    let mut consumers: Vec<_> = places.allocations.iter().collect();
    consumers.sort_unstable_by_key(|(consumer, _)| **consumer);
    for (consumer, all) in consumers.into_iter().filter(|(consumer, _)| !passing.contains(*consumer)) {
        for (host, amounts) in all {
            let counted = present.contains(consumer) && places.is_home(consumer, host);
            let Some(at) = at.get(*host).filter(|_| !counted) else { continue };
            unseen.note("allocation-of-others", &format!("{consumer} on {host}"));
            for (class, amount) in *amounts {
                *hosts[*at].held.entry(class.clone()).or_default() += amount;
            }
        }
    }
}

fn groups(answers: &Answers, instances: &[Instance], unseen: &mut Unseen) -> Vec<ServerGroup> {
    let used: HashSet<&str> = instances.iter().filter_map(|one| one.group.as_deref()).collect();
    let mut groups = Vec::new();
    for group in answers.groups.iter().filter(|group| used.contains(group.id.as_str())) {
        let policy = match group.policy.as_str() {
            "affinity" => GroupPolicy::Affinity,
            "soft-affinity" => GroupPolicy::SoftAffinity,
            "anti-affinity" => {
                GroupPolicy::AntiAffinity { per_host_max: group.rules.max_server_per_host.unwrap_or(1) }
            }
            "soft-anti-affinity" => GroupPolicy::SoftAntiAffinity,
            other => {
                unseen.note("group-policy-unknown", &format!("{} ({other})", group.id));
                // The narrowest reading keeps whatever it may mean.
                GroupPolicy::AntiAffinity { per_host_max: 1 }
            }
        };
        groups.push(ServerGroup { id: group.id.clone(), name: group.name.clone(), policy });
    }
    groups.sort_by(|a, b| a.id.cmp(&b.id));
    groups
}

/// What was not seen, by code.
#[derive(Default)]
struct Unseen(BTreeMap<&'static str, Vec<String>>);

impl Unseen {
    fn note(&mut self, code: &'static str, subject: &str) {
        self.0.entry(code).or_default().push(subject.to_owned());
    }

    fn findings(self) -> Vec<Finding> {
        self.0.into_iter().map(|(code, subjects)| finding(code, &subjects)).collect()
    }
}

fn finding(code: &'static str, subjects: &[String]) -> Finding {
    use Severity::{Info, Serious, Warning};
    let (severity, explanation, action) = match code {
        "instance-unknown" => (
            Serious,
            "nova does not tell where these instances are: their cell does not answer",
            "See that every cell's database and message queue answer; then plan again.",
        ),
        "instance-on-unknown-host" => (
            Serious,
            "these instances are on hosts of which nova has no compute service",
            "Look at these instances; they belong to hosts that were removed without them.",
        ),
        "ports-unseen" => (
            Serious,
            "neutron did not tell the kinds of ports, so that instances with SR-IOV functions are taken for \
             ordinary ones",
            "Mend the reason; then plan again.",
        ),
        "duties-unseen" => (
            Serious,
            "neutron did not tell what its DHCP and L3 agents have to do: what moves with their hosts is not in the plan",
            "Mend the reason; then plan again. The run looks again before each host restarts.",
        ),
        "allocation-missing" => (
            Warning,
            "placement has no allocation of these instances on their hosts; their flavors were counted instead",
            "`nova-manage placement heal_allocations` mends it.",
        ),
        "extra-specs-unseen" => (
            Warning,
            "nova does not show the extra specs of these instances' flavors: what they ask of a host is not known",
            "Let the operator's user see them (policy `os_compute_api:os-flavor-extra-specs:index`).",
        ),
        "choice-not-understood" => (
            Warning,
            "their owners wrote something to volutus:maintenance that has no meaning; what is not understood is \
             not touched, so it was taken as `never`",
            "Have it set to live, cold, stop, notify or never.",
        ),
        "disabled-by-volutus" => (
            Warning,
            "an earlier run disabled these hosts and has not given them back; they are left alone",
            "`volutus resume` goes on with that run, `volutus abort` gives them back.",
        ),
        "host-not-described" => (
            Warning,
            "the cloud description lacks these hosts: they are not rebooted, and instances may be moved to them",
            "Add them to the cloud description, or give them an override with skip = true.",
        ),
        "migration-settings-unseen" => (
            Info,
            "nova.conf of these hosts was not read; `post-copy` and `auto-converge` are passed over for what \
             leaves them",
            "Nothing is to be done where reboot.drain.ladder has neither; else mend the reason.",
        ),
        "host-name-unusable" => (
            Warning,
            "these hosts have names that Volutus does not take; they are left alone",
            "Look at the service records of nova.",
        ),
        "no-provider" => (
            Warning,
            "placement has no resource provider of these hosts; they are left alone",
            "Restart nova-compute there and look at its log.",
        ),
        "no-hypervisor" => (
            Warning,
            "nova has a compute service, but no hypervisor of these hosts; they are left alone",
            "Restart nova-compute there and look at its log; delete the record where the host is gone.",
        ),
        "many-hypervisors" => (
            Info,
            "these compute services stand for several machines (ironic); they are left alone",
            "Nothing is to be done.",
        ),
        "allocation-of-others" => (
            Info,
            "placement holds room for consumers that are not instances on these hosts: migrations that are under \
             way or to be confirmed, or left-overs; it is counted as in use",
            "`nova-manage placement audit` finds left-overs.",
        ),
        _ => (
            Warning,
            "nova has groups with a policy that Volutus does not know; they were taken as anti-affinity",
            "Tell the makers of Volutus.",
        ),
    };
    let named = &subjects[..subjects.len().min(NAMED_MAX)];
    let more = subjects.len() - named.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Finding::new(severity, code, format!("{}{more}", named.join(", ")), explanation, action)
}

#[cfg(test)]
#[path = "assemble_tests.rs"]
mod tests;
