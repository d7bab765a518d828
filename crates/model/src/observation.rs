//! What was seen of a cloud. What could not be seen is [`Fact::Unobserved`] with the reason;
//! it is never assumed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::name::{BackendName, DaemonId, HostName, PackageVersion, Series, ServiceName};

/// Something that was looked at: seen, or not seen for a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact<T> {
    /// It was seen.
    Observed {
        /// What was seen.
        value: T,
        /// How it was asked, for example "process maps and package metadata".
        source: String,
    },
    /// It was not seen.
    Unobserved {
        /// Why not.
        why: String,
    },
}

impl<T> Fact<T> {
    /// What was seen, and by what means.
    pub fn observed(value: T, source: impl Into<String>) -> Self {
        Self::Observed { value, source: source.into() }
    }

    /// Not seen, and why.
    pub fn unobserved(why: impl Into<String>) -> Self {
        Self::Unobserved { why: why.into() }
    }

    /// The value, where it was seen.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Observed { value, .. } => Some(value),
            Self::Unobserved { .. } => None,
        }
    }

    /// Why it was not seen.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Observed { .. } => None,
            Self::Unobserved { why } => Some(why),
        }
    }
}

/// Everything that one look at the cloud saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// When the look began.
    pub at: Timestamp,
    /// [`crate::Inventory::digest`] of the description that it was made with.
    pub inventory: String,
    /// Per host: what it says of itself.
    pub hosts: BTreeMap<HostName, Fact<HostObservation>>,
    /// Per declared daemon: what runs.
    pub daemons: BTreeMap<DaemonId, Fact<DaemonObservation>>,
    /// Per service: the heads of its schemas, by schema name (nova has `api` and `main`).
    pub schemas: BTreeMap<ServiceName, Fact<BTreeMap<String, Vec<String>>>>,
    /// Per backend: what the load balancer says of its servers.
    pub backends: BTreeMap<BackendName, Fact<Vec<BackendServer>>>,
    /// The service records of nova, cinder and the agents of neutron.
    pub records: BTreeMap<ServiceName, Fact<Vec<ServiceRecord>>>,
    /// Instances per compute host, by nova's records (all cells).
    pub instances: Fact<BTreeMap<HostName, u64>>,
    /// Ids of the instances, of all projects, that are in status ERROR.
    pub instances_in_error: Fact<BTreeSet<String>>,
    /// Port bindings per VIF type, in neutron's records: hazards look at them.
    pub vif_types: Fact<BTreeMap<String, u64>>,
    /// Per service: rows that online data migrations have still to convert, by the catalog's
    /// name of the query.
    pub pending_migrations: BTreeMap<ServiceName, Fact<BTreeMap<String, u64>>>,
    /// Per service: the version document of its endpoint, as seen through the load balancer.
    pub endpoints: BTreeMap<ServiceName, Fact<EndpointObservation>>,
    /// The environments that hosts have, by their digest: hosts of one release share one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environments: BTreeMap<String, Environment>,
}

/// What is installed in one Python environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Every distribution with its version; names are normalised as PEP 503 says.
    pub packages: BTreeMap<String, PackageVersion>,
}

impl Environment {
    /// The digest by which hosts refer to it.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for (name, version) in &self.packages {
            hasher.update(format!("{name}=={version}\n").as_bytes());
        }
        hasher.finalize().to_hex()[..32].to_owned()
    }
}

/// What a host says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostObservation {
    /// The kernel's boot id.
    pub boot_id: String,
    /// The running kernel.
    pub kernel: String,
    /// Version of the system's Python 3, such as "3.11.2".
    pub python: String,
    /// The host's clock minus Volutus's, in milliseconds, taken at half the round trip.
    pub clock_skew_ms: i64,
    /// Free bytes on the file system that holds releases.
    pub release_free_bytes: u64,
    /// Free bytes on the root file system.
    pub root_free_bytes: u64,
    /// Series whose release directory is present, with the versions installed there.
    pub staged: BTreeMap<Series, BTreeMap<ServiceName, PackageVersion>>,
    /// Options of configuration files that checks look at: file, then `section/option`.
    pub options: BTreeMap<String, BTreeMap<String, String>>,
    /// The environments that its daemons run from and that are staged on it: path to digest in
    /// [`Observation::environments`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environments: BTreeMap<String, Fact<String>>,
}

/// What runs as a daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonObservation {
    /// systemd's ActiveState of the unit, for example "active".
    pub active_state: String,
    /// The main process; 0 where none runs.
    pub main_pid: u32,
    /// Number of automatic restarts of the unit.
    pub restarts: u32,
    /// `TimeoutStopSec` of the unit in seconds; `None` for infinity.
    pub timeout_stop_s: Option<u64>,
    /// The environment that the unit sets, restricted to concurrency settings (`OS_*EVENTLET*`).
    pub environment: BTreeMap<String, String>,
    /// The version of the service's package that the *process* has loaded.
    pub version: Fact<PackageVersion>,
    /// The release directory that the process has loaded its code from.
    pub release_path: Fact<String>,
    /// Where the daemon's link points now, which is what a restart would run.
    pub link: Fact<String>,
    /// Distributions of its environment that were put there after its process had started: the
    /// process may still run what was there before.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub replaced: BTreeSet<String>,
}

/// One server of a backend, from `show stat`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendServer {
    /// The server's name.
    pub name: String,
    /// The status as HAProxy words it: `UP`, `DOWN`, `DRAIN`, `MAINT`, `no check`.
    pub status: String,
    /// Sessions that are open now.
    pub sessions: u64,
}

/// The host under which an anchor's records are kept; no machine has this name. See
/// [`crate::plan::Anchor`].
pub const ANCHOR_HOST: &str = "volutus-anchor";

/// One record of nova's `services`, cinder's `services`, or a neutron agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// The binary, for example `nova-compute`.
    pub binary: String,
    /// The host as recorded; cinder-volume has `host@backend`.
    pub host: String,
    /// The service version number (nova) or RPC version text; empty where none is kept.
    pub version: String,
    /// Number of reports so far.
    pub report_count: u64,
    /// Seconds since the last report, by the database's clock.
    pub age_s: Option<u64>,
    /// Whether it is disabled for scheduling, with the reason.
    pub disabled: Option<String>,
    /// Whether somebody forced it down.
    pub forced_down: bool,
}

impl ServiceRecord {
    /// Whether the record is part of an anchor: it stands for no daemon, never reports, and is
    /// disabled on purpose.
    #[must_use]
    pub fn is_anchor(&self) -> bool {
        self.host == ANCHOR_HOST
    }
}

/// What an endpoint publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointObservation {
    /// The endpoint's address.
    pub url: String,
    /// Lowest microversion or version, where published.
    pub min_version: String,
    /// Highest microversion or version, where published.
    pub max_version: String,
}

/// The daemons of neutron whose duties are others' than the instances' of their own host. Source: neutron-lib,
/// `constants.AGENT_PROCESS_DHCP` and `AGENT_PROCESS_L3`.
const DUTIFUL: [&str; 2] = ["neutron-dhcp-agent", "neutron-l3-agent"];

impl Observation {
    /// Whether a host has, or may have, duties as a network node: one of neutron's DHCP or L3 agents has its
    /// record there, or neutron's records were not seen.
    #[must_use]
    pub fn may_have_network_duties(&self, host: &HostName) -> bool {
        match self.records.get("neutron") {
            // Neutron is no part of the cloud description.
            None => false,
            Some(Fact::Unobserved { .. }) => true,
            Some(Fact::Observed { value, .. }) => value
                .iter()
                .any(|record| record.host == host.as_str() && DUTIFUL.contains(&record.binary.as_str())),
        }
    }

    /// The records of a service that belong to its anchor; empty where there is none, and where
    /// the records were not seen.
    pub fn anchors(&self, service: &str) -> impl Iterator<Item = &ServiceRecord> {
        let records = self.records.get(service).and_then(|fact| fact.value());
        records.into_iter().flatten().filter(|record| record.is_anchor())
    }

    /// The version that the daemon's process runs, where it was seen.
    #[must_use]
    pub fn running_version(&self, daemon: &DaemonId) -> Option<&PackageVersion> {
        self.daemons.get(daemon)?.value()?.version.value()
    }

    /// The version of a distribution that a daemon runs, where it was seen: of its service's own
    /// (`own`) what its process has loaded, of any other what is in the environment that it has loaded.
    #[must_use]
    pub fn running_package(
        &self,
        daemon: &DaemonId,
        own: &str,
        distribution: &str,
    ) -> Option<&PackageVersion> {
        if own == distribution {
            return self.running_version(daemon);
        }
        let path = self.daemons.get(daemon)?.value()?.release_path.value()?;
        self.package_at(&daemon.host, path, distribution)
    }

    /// The version of a distribution in a release directory of a host, where it was seen.
    #[must_use]
    pub fn package_at(&self, host: &HostName, path: &str, distribution: &str) -> Option<&PackageVersion> {
        let digest = self.hosts.get(host)?.value()?.environments.get(path)?.value()?;
        self.environments.get(digest)?.packages.get(distribution)
    }
}
