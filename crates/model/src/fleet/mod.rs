//! A fleet: the hosts that carry instances, the instances, and what binds them to each other.
//!
//! Capacity is placement's: inventories with reserved amounts and allocation ratios, and the
//! allocations of every instance. Nothing here comes from the figures of nova's hypervisor
//! records, which nova no longer serves (they went with microversion 2.88).

pub mod answer;
pub mod duties;
pub mod hook;
pub mod limits;
pub mod migration;
pub mod newcomers;
mod place;
pub mod plan;
pub mod policy;
pub mod selection;
pub mod since;
pub mod steps;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::finding::Finding;
use crate::name::{HostName, Series};

pub use answer::{Answer, Answers, Confirmation};
pub use duties::Duties;
pub use hook::{Hook, HookCall, HookMoment, HookPlace};
pub use migration::{MigrationSettings, TimeoutAction, Turns};
pub use newcomers::{NewcomerMoves, NewcomerPlace, NewcomerWay, Newcomers};
pub use plan::{RebootPlan, Work};
pub use policy::{PolicyError, RebootPolicy};
pub use selection::{Past, Selection};
pub use since::Since;

/// What Volutus's reasons for disabling a compute service begin with, so that they can be told from
/// a person's. The id of the run follows.
pub const REASON_TOKEN: &str = "volutus:";

/// Hosts, instances and server groups, as they were seen at one time or as they are described.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Fleet {
    /// The hosts, each name once.
    pub hosts: Vec<FleetHost>,
    /// The instances, each id once; every one is on a host of the list.
    pub instances: Vec<Instance>,
    /// The server groups, each id once.
    pub groups: Vec<ServerGroup>,
    /// What neutron's own agents have to do, by host; hosts among them that carry no instances.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub duties: BTreeMap<HostName, Duties>,
    /// What could not be seen, and what was assumed instead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<Finding>,
}

/// A compute host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FleetHost {
    /// Its name in nova's service records.
    pub name: HostName,
    /// Its availability zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its rack or other failure domain. No API tells it, so only described fleets have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
    /// Names of nova's host aggregates that it is in.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub aggregates: BTreeSet<String>,
    /// Its roles in the cloud description.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<String>,
    /// Traits of its resource provider. Those that begin with `HW_CPU_` are its processor's
    /// features, which a live migration may add to but not take from.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub traits: BTreeSet<String>,
    /// Its hypervisor, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hypervisor: Option<Hypervisor>,
    /// The series that its nova-compute runs, where hosts are upgraded on the way. Instances move from older
    /// code to newer: nova promises a rolling upgrade that direction, and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Series>,
    /// Placement's inventories, by resource class.
    pub inventories: BTreeMap<String, InventoryRecord>,
    /// What allocations other than those of the listed instances hold, by resource class.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<String, u64>,
    /// Its NUMA cells, where they are known. Placement does not tell them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cells: Vec<NumaCell>,
    /// What its nova does with live migrations that leave it; none where its nova.conf was not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrations: Option<MigrationSettings>,
    /// Whether new instances may come to it.
    #[serde(default)]
    pub availability: Availability,
    /// What is meant for it.
    #[serde(default)]
    pub part: Part,
}

impl FleetHost {
    /// A host of which nothing but its name is known.
    #[must_use]
    pub fn named(name: HostName) -> Self {
        Self {
            name,
            zone: None,
            rack: None,
            aggregates: BTreeSet::new(),
            roles: BTreeSet::new(),
            traits: BTreeSet::new(),
            hypervisor: None,
            release: None,
            inventories: BTreeMap::new(),
            held: BTreeMap::new(),
            cells: Vec::new(),
            migrations: None,
            availability: Availability::default(),
            part: Part::default(),
        }
    }
}

/// What a host runs instances with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Hypervisor {
    /// For example `QEMU`.
    pub kind: String,
    /// The version as one number, as nova has it: 8002004 is 8.2.4. nova refuses a live migration
    /// to another kind, or to a lower version (`nova/conductor/tasks/live_migrate.py`).
    pub version: u64,
}

/// One inventory of a resource provider. What can be allocated is
/// `(total - reserved) * allocation_ratio`, rounded down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InventoryRecord {
    /// What there is.
    pub total: u64,
    /// What is kept from allocation.
    #[serde(default)]
    pub reserved: u64,
    /// How many times the rest may be given away.
    pub allocation_ratio: f64,
    /// The most that one allocation may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unit: Option<u64>,
}

impl InventoryRecord {
    /// What can be allocated in all.
    #[must_use]
    pub fn usable(&self) -> u64 {
        // Inventories are far below 2^52, where f64 is exact.
        (self.total.saturating_sub(self.reserved) as f64 * self.allocation_ratio).max(0.0) as u64
    }
}

/// A NUMA cell, as far as pinned instances need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumaCell {
    /// Processors that can be dedicated.
    pub pcpus: u64,
    /// Memory for instances with a NUMA topology, in MiB.
    pub memory_mb: u64,
}

/// Whether the scheduler may use a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Availability {
    /// It may.
    #[default]
    Enabled,
    /// Somebody disabled it.
    Disabled {
        /// The reason in nova's record; may be empty.
        reason: String,
    },
    /// It does not report, or was forced down.
    Down,
}

/// What is meant for a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// It is to be emptied and rebooted.
    #[default]
    Reboot,
    /// It need not be rebooted, and instances may be moved to it.
    Exempt,
    /// It is neither rebooted nor used.
    Untouched,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its UUID.
    pub id: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The id of the project that owns it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub project: String,
    /// The host that it is on.
    pub host: HostName,
    /// What it holds there, by resource class.
    pub resources: BTreeMap<String, u64>,
    /// What it is doing.
    #[serde(default)]
    pub state: InstanceState,
    /// The zone that it has to be in, where it has to be in a certain one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Traits that its host must have.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub traits_required: BTreeSet<String>,
    /// Traits that its host must not have.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub traits_forbidden: BTreeSet<String>,
    /// Of each set, its host must be in one aggregate at least.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aggregates_required: Vec<BTreeSet<String>>,
    /// Aggregates that its host must not be in.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub aggregates_forbidden: BTreeSet<String>,
    /// The id of its server group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Bytes of its disks that are on the host itself and travel with it; 0 on shared storage.
    #[serde(default)]
    pub local_disk_bytes: u64,
    /// What keeps it from a live migration.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub obstacles: BTreeSet<Obstacle>,
    /// Where it is pinned; empty where it is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<Pin>,
    /// What its owner chose, by metadata or tag `volutus:maintenance=...`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<OwnerChoice>,
    /// Whether Volutus stopped it and has yet to start it; see [`STOPPED_TAG`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// Whether its owner asked for it to be as late as the plan allows; see [`Answer::Later`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub later: bool,
}

/// The tag of an instance that Volutus stopped, and will start again. It stands in nova, beside the
/// instance, so that it outlives Volutus's own store, and an owner who takes it off keeps the instance off.
pub const STOPPED_TAG: &str = "volutus:stopped";

/// What the names of instances begin with that the synthetic user and canaries boot. They last seconds.
pub const OWN_INSTANCES: [&str; 2] = ["volutus-probe-", "volutus-canary-"];

impl Instance {
    /// Its memory in MiB, by its allocation.
    #[must_use]
    pub fn memory_mb(&self) -> u64 {
        self.resources.get("MEMORY_MB").copied().unwrap_or(0)
    }
}

/// One cell of a pinned instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Index of the host's cell that it is on now.
    pub cell: u32,
    /// Dedicated processors.
    pub pcpus: u64,
    /// Memory there, in MiB.
    pub memory_mb: u64,
}

/// What an instance is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum InstanceState {
    /// It runs, or is paused in memory; nova can live-migrate both.
    #[default]
    Active,
    /// It is shut off or suspended to disk: a reboot of its host does not harm it.
    Off,
    /// Something is under way with it (a resize to confirm, a build, a snapshot).
    Busy {
        /// What.
        what: String,
    },
    /// nova gave it up.
    Error,
}

/// What keeps an instance from a live migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    /// A port with an SR-IOV function that cannot be migrated.
    Sriov,
    /// A PCI device passed through.
    Pci,
    /// A virtual GPU.
    Vgpu,
    /// A virtual TPM.
    Vtpm,
    /// A volume that only its host can reach.
    LocalVolume,
}

impl Obstacle {
    /// As people call it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Sriov => "an SR-IOV port that cannot be migrated",
            Self::Pci => "a PCI device passed through",
            Self::Vgpu => "a virtual GPU",
            Self::Vtpm => "a virtual TPM",
            Self::LocalVolume => "a volume that only its host reaches",
        }
    }
}

/// What an instance's owner wants when its host is emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OwnerChoice {
    /// To be moved alive, and in no other way.
    Live,
    /// To be stopped, moved and started.
    Cold,
    /// To be stopped, left where it is, and started after the reboot.
    Stop,
    /// To be told beforehand; then as without a choice.
    Notify,
    /// Not to be touched: its host is not rebooted.
    Never,
}

impl OwnerChoice {
    /// The value of `volutus:maintenance`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Cold => "cold",
            Self::Stop => "stop",
            Self::Notify => "notify",
            Self::Never => "never",
        }
    }

    /// Reads the value of `volutus:maintenance`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "live" => Self::Live,
            "cold" => Self::Cold,
            "stop" => Self::Stop,
            "notify" => Self::Notify,
            "never" => Self::Never,
            _ => return None,
        })
    }
}

/// A server group. Its members are the instances that name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerGroup {
    /// Its UUID.
    pub id: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What it asks for.
    pub policy: GroupPolicy,
}

/// The policies of nova's server groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupPolicy {
    /// All on one host.
    Affinity,
    /// All on one host, if possible.
    SoftAffinity,
    /// No more than so many on one host; nova's rule `max_server_per_host`, 1 without a rule.
    AntiAffinity {
        /// So many.
        per_host_max: u32,
    },
    /// On as many hosts as possible.
    SoftAntiAffinity,
}

/// What does not fit together in a description of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Something is named twice.
    #[error("{what} `{name}` is in the description twice")]
    Twice {
        /// "host", "instance", "server group".
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Something is named that is not there.
    #[error("instance `{instance}` names {what} `{name}`, which the description lacks")]
    Unknown {
        /// The instance.
        instance: String,
        /// "host", "server group", "NUMA cell".
        what: &'static str,
        /// The name.
        name: String,
    },
}

impl Fleet {
    /// Checks that names are unique and refer to something.
    ///
    /// # Errors
    /// The first [`Error`].
    pub fn check(&self) -> Result<(), Error> {
        let mut hosts: BTreeMap<&str, usize> = BTreeMap::new();
        for host in &self.hosts {
            if hosts.insert(host.name.as_str(), host.cells.len()).is_some() {
                return Err(Error::Twice { what: "host", name: host.name.to_string() });
            }
        }
        let mut groups = BTreeSet::new();
        for group in &self.groups {
            if !groups.insert(group.id.as_str()) {
                return Err(Error::Twice { what: "server group", name: group.id.clone() });
            }
        }
        let mut instances = BTreeSet::new();
        for instance in &self.instances {
            if !instances.insert(instance.id.as_str()) {
                return Err(Error::Twice { what: "instance", name: instance.id.clone() });
            }
            let unknown = |what, name: &str| Error::Unknown {
                instance: instance.id.clone(),
                what,
                name: name.to_owned(),
            };
            let Some(cells) = hosts.get(instance.host.as_str()) else {
                return Err(unknown("host", instance.host.as_str()));
            };
            if let Some(group) = instance.group.as_deref().filter(|group| !groups.contains(group)) {
                return Err(unknown("server group", group));
            }
            // A host without cells has them unobserved; pins then count as processors only.
            if let Some(pin) = instance.pins.iter().find(|pin| *cells > 0 && pin.cell as usize >= *cells) {
                return Err(unknown("NUMA cell", &pin.cell.to_string()));
            }
        }
        Ok(())
    }

    /// Takes hosts that a run of Volutus disabled as if they were enabled: for that very run, which
    /// gives them back. `reason` is what it disabled them with.
    pub fn take_over(&mut self, reason: &str) {
        for host in &mut self.hosts {
            if matches!(&host.availability, Availability::Disabled { reason: found } if found == reason) {
                host.availability = Availability::Enabled;
            }
        }
    }

    /// A hash of the description, by which a plan knows the fleet that it was made for. Duties are left out:
    /// routers become active here and there by themselves, and where instances go does not depend on it.
    #[must_use]
    pub fn digest(&self) -> String {
        let without = (!self.duties.is_empty()).then(|| Self { duties: BTreeMap::new(), ..self.clone() });
        let text = serde_json::to_vec(without.as_ref().unwrap_or(self)).expect("a fleet has only text keys");
        blake3::hash(&text).to_hex()[..32].to_owned()
    }
}
