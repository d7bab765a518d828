//! Described fleets of any size, for benchmarks and tests: nothing of them exists. The same shape
//! always makes the same fleet.

use std::collections::{BTreeMap, BTreeSet};

use volutus_model::HostName;
use volutus_model::fleet::{
    Availability, Fleet, FleetHost, GroupPolicy, Hypervisor, Instance, InstanceState, InventoryRecord,
    MigrationSettings, NumaCell, Obstacle, OwnerChoice, Part, Pin, ServerGroup,
};

/// A fleet to describe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Hosts, spread over the zones in turn.
    pub hosts: usize,
    /// Zones.
    pub zones: usize,
    /// How full a zone's hosts are in all, by memory: 0.7 to 0.97.
    pub fill: f64,
    /// Hosts of each zone that are empty.
    pub empty_per_zone: usize,
    /// Whether there are instances of all kinds that make trouble, and hosts that differ.
    pub odd: bool,
    /// What chance decides.
    pub seed: u64,
}

/// MiB of memory of a described host that instances may have: 512 GiB, 8 of them reserved.
const HOST_MIB: u64 = 512 * 1024;
const RESERVED_MIB: u64 = 8 * 1024;

/// Flavors: processors, GiB, and how often they are chosen in 100. Their mean is 20 GiB, which
/// makes about 20 instances on a host.
const FLAVORS: [(u64, u64, u64); 5] = [(2, 4, 15), (4, 8, 25), (4, 16, 30), (8, 32, 20), (16, 64, 10)];

/// A sequence of numbers that look as if by chance (splitmix64).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The sequence of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..below`; 0 where that is empty.
    pub fn below(&mut self, below: u64) -> u64 {
        if below == 0 { 0 } else { self.draw() % below }
    }

    /// Whether something happens that happens so often in 1000.
    pub fn permille(&mut self, often: u64) -> bool {
        self.below(1000) < often
    }
}

/// Describes a fleet.
///
/// # Panics
/// Never: all names are made of letters and numbers.
#[must_use]
pub fn fleet(shape: &Shape) -> Fleet {
    let mut chance = Chance::new(shape.seed);
    let zones = shape.zones.max(1);
    let mut fleet = Fleet::default();
    for at in 0..shape.hosts {
        fleet.hosts.push(host(shape, at, at % zones, &mut chance));
    }
    let usable = HOST_MIB - RESERVED_MIB;
    for at in 0..shape.hosts {
        if is_empty(shape, at) {
            continue;
        }
        let of_zone = of_zone(shape, at);
        let empty = shape.empty_per_zone.min(of_zone);
        let share = shape.fill * of_zone as f64 / (of_zone - empty) as f64;
        let spread = 0.97 + chance.below(61) as f64 / 1000.0;
        let target = ((share * spread).min(0.985) * usable as f64) as u64;
        put_instances(shape, &mut fleet, at, target, &mut chance);
    }
    group(shape, &mut fleet, &mut chance);
    fleet
}

/// Hosts of a host's zone.
fn of_zone(shape: &Shape, at: usize) -> usize {
    let zones = shape.zones.max(1);
    shape.hosts / zones + usize::from(at % zones < shape.hosts % zones)
}

/// The last ones of every zone are empty.
fn is_empty(shape: &Shape, at: usize) -> bool {
    at / shape.zones.max(1) + shape.empty_per_zone >= of_zone(shape, at)
}

/// Odd fleets have hosts of every kind, in turn.
fn migrations(shape: &Shape, at: usize) -> Option<MigrationSettings> {
    let default = MigrationSettings::default();
    match at % 4 {
        _ if !shape.odd => None,
        0 => Some(default),
        1 => Some(MigrationSettings { auto_converge: true, ..default }),
        2 => Some(MigrationSettings { post_copy: true, auto_converge: true, ..default }),
        _ => None,
    }
}

fn host(shape: &Shape, at: usize, zone: usize, chance: &mut Chance) -> FleetHost {
    let record = |total, reserved, ratio| InventoryRecord {
        total,
        reserved,
        allocation_ratio: ratio,
        max_unit: Some(total),
    };
    let mut traits: BTreeSet<String> = ["HW_CPU_X86_AVX2", "COMPUTE_NODE"].map(str::to_owned).into();
    let newer = shape.odd && chance.permille(300);
    if newer {
        traits.insert("HW_CPU_X86_AVX512F".to_owned());
    }
    let availability = match chance.below(40) {
        0 if shape.odd => Availability::Disabled { reason: "memory errors".to_owned() },
        1 if shape.odd => Availability::Down,
        _ => Availability::Enabled,
    };
    let cells = if shape.odd { vec![NumaCell { pcpus: 32, memory_mb: 200 * 1024 }; 2] } else { Vec::new() };
    FleetHost {
        name: HostName::new(format!("c{at:05}")).expect("letters and digits are a name"),
        zone: Some(format!("az{}", zone + 1)),
        rack: Some(format!("r{}", at / 20)),
        // The empty ones can take whatever there is.
        aggregates: if at % 4 < 2 || is_empty(shape, at) {
            BTreeSet::from(["fast".to_owned()])
        } else {
            BTreeSet::new()
        },
        roles: BTreeSet::from(["compute".to_owned()]),
        traits,
        hypervisor: Some(Hypervisor {
            kind: "QEMU".to_owned(),
            version: if newer { 9_000_000 } else { 8_002_004 },
        }),
        release: None,
        inventories: BTreeMap::from([
            ("MEMORY_MB".to_owned(), record(HOST_MIB, RESERVED_MIB, 1.0)),
            ("VCPU".to_owned(), record(128, 4, 4.0)),
        ]),
        held: BTreeMap::new(),
        cells,
        migrations: migrations(shape, at),
        availability,
        part: if shape.odd && chance.permille(50) { Part::Exempt } else { Part::Reboot },
    }
}

fn put_instances(shape: &Shape, fleet: &mut Fleet, host: usize, target_mib: u64, chance: &mut Chance) {
    let mut used = 0;
    let mut cells = [32u64; 2];
    loop {
        let mut draw = chance.below(100);
        let drawn = FLAVORS.into_iter().find(|(_, _, often)| {
            let found = draw < *often;
            draw = draw.saturating_sub(*often);
            found
        });
        // Towards the end only the smaller ones fit.
        let fits = |(_, gib, _): &(u64, u64, u64)| used + gib * 1024 <= target_mib;
        let Some((vcpus, gib, _)) = drawn.filter(fits).or(FLAVORS.into_iter().rev().find(fits)) else {
            break;
        };
        let mib = gib * 1024;
        used += mib;
        let number = fleet.instances.len();
        let mut instance = Instance {
            id: format!("{number:08x}-0000-4000-8000-{:012x}", shape.seed & 0xffff_ffff),
            name: format!("vm-{number}"),
            project: String::new(),
            host: fleet.hosts[host].name.clone(),
            resources: BTreeMap::from([("MEMORY_MB".to_owned(), mib), ("VCPU".to_owned(), vcpus)]),
            state: InstanceState::Active,
            zone: None,
            traits_required: BTreeSet::new(),
            traits_forbidden: BTreeSet::new(),
            aggregates_required: Vec::new(),
            aggregates_forbidden: BTreeSet::new(),
            group: None,
            local_disk_bytes: 0,
            obstacles: BTreeSet::new(),
            pins: Vec::new(),
            choice: None,
            stopped: false,
            later: false,
        };
        if fleet.hosts[host].aggregates.contains("fast") && chance.permille(60) {
            instance.aggregates_required = vec![BTreeSet::from(["fast".to_owned()])];
        }
        if shape.odd {
            make_odd(&mut instance, &mut cells, vcpus, mib, chance);
        }
        fleet.instances.push(instance);
    }
}

fn make_odd(instance: &mut Instance, cells: &mut [u64; 2], vcpus: u64, mib: u64, chance: &mut Chance) {
    match chance.below(150) {
        0 => instance.obstacles = BTreeSet::from([Obstacle::Sriov]),
        1 => instance.choice = Some(OwnerChoice::Never),
        2 => instance.state = InstanceState::Busy { what: "resize to confirm".to_owned() },
        3..6 => instance.choice = Some(OwnerChoice::Cold),
        6..9 => instance.choice = Some(OwnerChoice::Stop),
        9..14 => instance.state = InstanceState::Off,
        14..18 => instance.choice = Some(OwnerChoice::Notify),
        18..22 => instance.local_disk_bytes = 20 << 30,
        22..26 => instance.zone = None,
        26..32 => {
            let cell = usize::from(cells[1] > cells[0]);
            if cells[cell] >= vcpus {
                cells[cell] -= vcpus;
                instance.pins = vec![Pin { cell: cell as u32, pcpus: vcpus, memory_mb: mib.min(1024) }];
            }
        }
        _ => {}
    }
}

/// Puts some instances into groups that their hosts fulfil.
fn group(shape: &Shape, fleet: &mut Fleet, chance: &mut Chance) {
    let zones = shape.zones.max(1);
    let mut of_zone: Vec<Vec<usize>> = vec![Vec::new(); zones];
    let zone_of: BTreeMap<HostName, usize> =
        fleet.hosts.iter().enumerate().map(|(at, host)| (host.name.clone(), at % zones)).collect();
    for (at, instance) in fleet.instances.iter().enumerate() {
        of_zone[zone_of[&instance.host]].push(at);
    }
    for members in &of_zone {
        if members.is_empty() {
            continue;
        }
        for _ in 0..members.len() / 60 + 1 {
            let policy = match chance.below(if shape.odd { 10 } else { 9 }) {
                0..6 => GroupPolicy::AntiAffinity { per_host_max: 1 },
                6..8 => GroupPolicy::SoftAntiAffinity,
                8 => GroupPolicy::SoftAffinity,
                _ => GroupPolicy::Affinity,
            };
            let wanted = 2 + chance.below(5) as usize;
            let mut hosts: BTreeSet<HostName> = BTreeSet::new();
            let number = fleet.groups.len();
            let id = format!("group-{number}");
            let first = members[chance.below(members.len() as u64) as usize];
            let home = fleet.instances[first].host.clone();
            for draw in 0..wanted * 3 {
                let next = chance.below(members.len() as u64) as usize;
                let at = match policy {
                    GroupPolicy::Affinity | GroupPolicy::SoftAffinity => first + draw,
                    _ => members[next],
                };
                let Some(instance) = fleet.instances.get_mut(at) else { break };
                let together = matches!(policy, GroupPolicy::Affinity | GroupPolicy::SoftAffinity);
                if instance.group.is_some() || (together && instance.host != home) {
                    continue;
                }
                if together || hosts.insert(instance.host.clone()) {
                    instance.group = Some(id.clone());
                }
                if hosts.len() >= wanted || (together && draw + 1 >= wanted) {
                    break;
                }
            }
            fleet.groups.push(ServerGroup { id, name: format!("g{number}"), policy });
        }
    }
}
