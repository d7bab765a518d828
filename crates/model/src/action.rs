//! What a step of a plan does, one after another: the things that drivers can do.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::contract::{Gate, Shadow, Waiver};
use crate::fleet::NewcomerMoves;
use crate::fleet::hook::HookCall;
use crate::fleet::plan::How;
use crate::gate::{ClientGate, GateFailure};
use crate::lock::LockedRelease;
use crate::name::{BackendName, DaemonId, HostName, PackageVersion, Series, ServiceName};
use crate::patch::PatchedRelease;

/// One thing that drivers can do. Each can be repeated: a driver looks first, and finding that
/// nothing is to be done is an ordinary outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Let the time pass while the prober watches.
    Watch {
        /// Seconds.
        seconds: u32,
    },
    /// Put a release beside the running one, and check what is installed there.
    StageRelease {
        /// On which host.
        host: HostName,
        /// Which series.
        series: Series,
        /// Which versions must then be there, by service.
        versions: BTreeMap<ServiceName, PackageVersion>,
        /// The patched release of the series that is meant; the series' own where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        patch: Option<PatchedRelease>,
        /// The locked release that what is there is held against; absent where none was named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lock: Option<LockedRelease>,
    },
    /// Run a service's upgrade check with the new code.
    CheckUpgrade {
        /// The service.
        service: ServiceName,
        /// Where it runs.
        host: HostName,
        /// The command, with full paths. Exit 0 is a success, 1 a warning, 2 a failure;
        /// anything else means that the check itself broke, which is reported, and is neither
        /// a success nor a reason to stop. Source: oslo.upgradecheck.
        argv: Vec<String>,
    },
    /// Take a consistent copy of a service's databases.
    SnapshotDatabase {
        /// The service.
        service: ServiceName,
        /// The database host.
        host: HostName,
        /// The databases' names.
        databases: Vec<String>,
        /// The directory on that host that it goes to; its name is the snapshot's id.
        directory: String,
        /// The file on that host with the key that the copy is encrypted with: its path, never its
        /// content. Absent: the copy is not encrypted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key_file: Option<String>,
        /// How many snapshots of the cloud stay there; older ones are removed once this copy is
        /// verified. Absent: none is removed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keep: Option<u32>,
    },
    /// Run one schema command.
    MigrateSchema {
        /// The service.
        service: ServiceName,
        /// Where it runs.
        host: HostName,
        /// What it does to the schema.
        phase: SchemaPhase,
        /// The command, with full paths.
        argv: Vec<String>,
        /// Exit codes that mean success.
        success: BTreeSet<i32>,
        /// Exit codes that mean "more is to be done, run it again".
        rerun: BTreeSet<i32>,
    },
    /// Take a server out of its backend and wait until its sessions have ended.
    DrainBackend {
        /// The daemon behind it.
        daemon: DaemonId,
        /// The backend.
        backend: BackendName,
        /// The server's name there.
        server: String,
        /// Servers of the backend that must be up without it.
        others_up_min: u32,
    },
    /// Give a server back to its backend and wait until it is up there.
    UndrainBackend {
        /// The daemon behind it.
        daemon: DaemonId,
        /// The backend.
        backend: BackendName,
        /// The server's name there.
        server: String,
    },
    /// Put servers into a backend and take others out of it, in one command of each load balancer, so that
    /// requests meet the ones or the others; then wait until the sessions of the others have ended.
    ExchangeReplicas {
        /// The backend.
        backend: BackendName,
        /// Servers that take over: proved, drained by Volutus, and up.
        enter: Vec<Seat>,
        /// Servers that are drained in the same command.
        leave: Vec<Seat>,
    },
    /// Give back what an exchange that was given up holds: servers that run the same release as those that
    /// get requests are put in, and the others stay out, so that old and new never serve together.
    SettleReplicas {
        /// The backend.
        backend: BackendName,
        /// The service that the daemons behind it belong to.
        service: ServiceName,
        /// All of its servers that Volutus knows.
        replicas: Vec<SettledReplica>,
    },
    /// Disable a compute service for scheduling with Volutus's reason, and wait until nothing
    /// that was scheduled to it is under way.
    DisableCompute {
        /// The compute host.
        host: HostName,
        /// Whether a host that somebody else has disabled is left to them: the action fails there.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unless_others_did: bool,
    },
    /// Enable a compute service that Volutus disabled.
    EnableCompute {
        /// The compute host.
        host: HostName,
    },
    /// Stop a daemon gracefully, switch it to another release, and start it.
    SwitchDaemon {
        /// The daemon.
        daemon: DaemonId,
        /// The service it belongs to.
        service: ServiceName,
        /// Its unit.
        unit: String,
        /// The link that is switched.
        link: String,
        /// The release directory that the link must point to before (either this or `to`).
        from: String,
        /// The release directory that it points to afterwards.
        to: String,
    },
    /// See that a daemon serves, in the version that it should have.
    ProveDaemon {
        /// The daemon.
        daemon: DaemonId,
        /// The service it belongs to.
        service: ServiceName,
        /// Its unit.
        unit: String,
        /// The version that its process must have loaded.
        version: PackageVersion,
        /// What else must be seen.
        proofs: Vec<Proof>,
    },
    /// Make a service keep records at the old version, so that its old daemons may start again.
    KeepAnchor(Anchor),
    /// Take such records away again: the service then goes by its daemons alone.
    ReleaseAnchor(Anchor),
    /// Run one daemon of an API's new code beside the old one on the same host, on a port that
    /// nobody is sent to; ask both the same, compare the answers, and take it away again.
    ShadowApi {
        /// Both.
        #[serde(flatten)]
        shadow: Shadow,
        /// What a broken contract does.
        gate: Gate,
        /// What differences do that the guideline does not settle.
        review: Gate,
        /// Differences that do not count.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        waivers: Vec<Waiver>,
        /// The log of the load balancer that has what the site's clients ask.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        traffic: Option<String>,
        /// Whether writing requests about throw-away objects are compared as well.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        writes: bool,
    },
    /// Ask what serves users now the same that the old code was asked before they met the new one, and
    /// compare the structure of the answers with what it answered then.
    AskAgain {
        /// The comparison that it repeats.
        #[serde(flatten)]
        shadow: Shadow,
        /// What a broken contract does.
        gate: Gate,
        /// What differences do that the guideline does not settle.
        review: Gate,
        /// Differences that do not count.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        waivers: Vec<Waiver>,
    },
    /// Take away what such a daemon may have left.
    StopShadow {
        /// The daemon.
        #[serde(flatten)]
        shadow: Shadow,
    },
    /// Move instances off a compute host, each to where it is to go.
    MoveInstances {
        /// The host that they leave.
        host: HostName,
        /// The instances.
        moves: Vec<InstanceMove>,
        /// So many at once off this host.
        parallel_max: u32,
        /// So many at once in the whole cloud; 0 for no limit.
        #[serde(default, skip_serializing_if = "is_zero")]
        all_max: u32,
    },
    /// Move what came to a compute host since the plan was made and runs there, alive, each to the first host of
    /// the plan's list that takes it. What cannot be moved so is not touched, and fails the action.
    MoveNewcomers(NewcomerMoves),
    /// Stop instances on a compute host, each marked ([`crate::fleet::STOPPED_TAG`]) so that it is
    /// known who has to start it again. What is off already is left as it is, without a mark.
    StopInstances {
        /// The compute host.
        host: HostName,
        /// The instances.
        instances: Vec<String>,
    },
    /// Start those of the instances that carry the mark, see them run, and take the mark off.
    StartInstances {
        /// The compute host.
        host: HostName,
        /// The instances.
        instances: Vec<String>,
    },
    /// Put a host behind all others as a gateway of OVN's routers, and see that it is none any more.
    LowerGateways {
        /// The host.
        host: HostName,
    },
    /// Give a host the places as a gateway back that it had.
    RestoreGateways {
        /// The host.
        host: HostName,
    },
    /// See that no network and no router needs the host: networks that only its DHCP agent serves get a
    /// second agent, HA routers become active elsewhere, other routers are moved to another L3 agent.
    MoveNetworkDuties {
        /// The host.
        host: HostName,
    },
    /// Give a host's DHCP and L3 agents back what was moved off them, once they report and are wired.
    RestoreNetworkDuties {
        /// The host.
        host: HostName,
    },
    /// See that nothing is on a compute host any more but the instances that may stay.
    ProveEmpty {
        /// The compute host.
        host: HostName,
        /// Instances that stay: they are off, or may run on.
        stays: Vec<String>,
    },
    /// Restart a host exactly once, and wait until it is back.
    RebootHost {
        /// The host.
        host: HostName,
        /// The kernel that has to run afterwards (`uname -r`); any where absent.
        kernel: Option<String>,
        /// Seconds after which it counts as not having come back; the step's limit where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit_s: Option<u32>,
    },
    /// Run a command of the operator's on a host.
    RunCommand {
        /// The host.
        host: HostName,
        /// What it is for, in a word.
        what: String,
        /// The command, with full paths.
        argv: Vec<String>,
        /// The exit code by which it says that there was nothing to do.
        unchanged_exit: i32,
        /// Seconds after which it counts as failed; the step's limit where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit_s: Option<u32>,
    },
    /// Run a command of the operator's on Volutus's own machine, and go by how it ends. An attempt
    /// that nobody knows the end of is ended, and the command runs again.
    RunGate(ClientGate),
    /// Run a command of the operator's for another system than the host that is rebooted. How one on
    /// Volutus's own machine ended is kept until it is reported, so that it does not run again.
    RunHook(HookCall),
    /// Boot an instance with a port on a compute host, see it ACTIVE, and delete it.
    BootCanary {
        /// The compute host.
        host: HostName,
    },
    /// Make a daemon forget cached versions of its peers.
    RefreshDaemon {
        /// The daemon.
        daemon: DaemonId,
        /// The service it belongs to.
        service: ServiceName,
        /// Its unit.
        unit: String,
        /// How.
        how: Refresh,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A daemon's place in a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// The daemon.
    pub daemon: DaemonId,
    /// The server's name in the backend.
    pub server: String,
}

/// A replica of which it has to be found out which release it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledReplica {
    /// Its place.
    #[serde(flatten)]
    pub seat: Seat,
    /// Its unit.
    pub unit: String,
    /// The release directory that its link points to once it is replaced.
    pub to: String,
}

/// One instance that leaves a compute host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceMove {
    /// Its UUID.
    pub instance: String,
    /// To where.
    pub to: HostName,
    /// How.
    pub how: How,
    /// So many at once onto that host; 0 for no limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub onto_max: u32,
    /// Seconds that it may take.
    pub timeout_s: u32,
    /// Seconds after which nova is told to complete a live migration that does not converge, on a host
    /// that permits post-copy: the instance runs on at its destination and does not stand still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_copy_after_s: Option<u32>,
    /// Seconds after which nova is told to complete a live migration that does not converge: it
    /// pauses the instance for the rest, or switches to post-copy
    /// (`[libvirt] live_migration_timeout_action` and `live_migration_permit_post_copy`). Absent:
    /// it is broken off when its time is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_after_s: Option<u32>,
}

/// Service records at an old version, which belong to no daemon. Nova refuses to start a daemon
/// whose version is below the lowest record of its binary (`ServiceTooOld`); an anchor keeps that
/// lowest record old. It is made and unmade by the service's own code, under its own guards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The service.
    pub service: ServiceName,
    /// Where the service's code is run.
    pub host: HostName,
    /// The Python of the release whose code is run: to keep an anchor that of the old release,
    /// because a record always carries the version of the code that writes it.
    pub python: String,
    /// The service's configuration files, in order.
    pub config_files: Vec<String>,
    /// The class of the records, as a dotted path: `nova.objects.Service`.
    pub object: String,
    /// The binaries of which one record each is kept, in every database that has others of them.
    pub binaries: Vec<String>,
    /// The version that the records carry.
    pub version: u32,
}

fn servers(seats: &[Seat]) -> String {
    seats.iter().map(|seat| seat.server.as_str()).collect::<Vec<_>>().join(", ")
}

/// How a daemon is made to forget cached versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refresh {
    /// SIGHUP to the main process: services of oslo.service mutate their configuration and
    /// reset what they cached.
    Hangup,
    /// Restart of the unit: WSGI applications do not handle SIGHUP.
    Restart,
}

/// What a schema command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SchemaPhase {
    /// Widens; old code lives with it.
    Expand,
    /// Converts data while both codes run.
    OnlineDataMigrations,
    /// Removes what only old code needs.
    Contract,
}

/// Something that must be seen of a daemon besides its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "proof", rename_all = "kebab-case")]
pub enum Proof {
    /// Its own port answers a request of its own with one of these status codes.
    Http {
        /// `http://ADDRESS:PORT/PATH` of the replica itself, not of the load balancer.
        url: String,
        /// Status codes that are accepted.
        statuses: BTreeSet<u16>,
        /// Whether the request carries the operator's token. Without one, the answer of an API
        /// is that of its authentication, and says nothing of the application behind it.
        authenticated: bool,
    },
    /// Its service record has this version (where one is kept) and its reports advance.
    ServiceRecord {
        /// The service whose records are looked at.
        service: ServiceName,
        /// The binary in the record.
        binary: String,
        /// The service version number that it must have; `None` where the catalog knows none.
        version: Option<u32>,
    },
    /// The unit is active, its main process the same, and it did not restart, for this long:
    /// for daemons that publish nothing of themselves.
    Steady {
        /// Seconds.
        seconds: u32,
    },
}

impl Action {
    /// The host that the action works on, where there is one.
    #[must_use]
    pub fn host(&self) -> Option<&HostName> {
        match self {
            Self::Watch { .. }
            | Self::RunGate(_)
            | Self::ExchangeReplicas { .. }
            | Self::SettleReplicas { .. } => None,
            Self::StageRelease { host, .. }
            | Self::CheckUpgrade { host, .. }
            | Self::SnapshotDatabase { host, .. }
            | Self::MigrateSchema { host, .. }
            | Self::DisableCompute { host, .. }
            | Self::EnableCompute { host }
            | Self::MoveInstances { host, .. }
            | Self::StopInstances { host, .. }
            | Self::StartInstances { host, .. }
            | Self::LowerGateways { host }
            | Self::RestoreGateways { host }
            | Self::MoveNetworkDuties { host }
            | Self::RestoreNetworkDuties { host }
            | Self::ProveEmpty { host, .. }
            | Self::RebootHost { host, .. }
            | Self::RunCommand { host, .. }
            | Self::BootCanary { host } => Some(host),
            // It is about that host, wherever it runs.
            Self::RunHook(call) => Some(&call.host),
            Self::MoveNewcomers(newcomers) => Some(&newcomers.host),
            Self::KeepAnchor(anchor) | Self::ReleaseAnchor(anchor) => Some(&anchor.host),
            Self::DrainBackend { daemon, .. }
            | Self::UndrainBackend { daemon, .. }
            | Self::SwitchDaemon { daemon, .. }
            | Self::ProveDaemon { daemon, .. }
            | Self::RefreshDaemon { daemon, .. } => Some(&daemon.host),
            Self::ShadowApi { shadow, .. } | Self::StopShadow { shadow } => Some(&shadow.daemon.host),
            // It goes through the load balancer, as users do.
            Self::AskAgain { .. } => None,
        }
    }

    /// The action in a few words, for progress and journals.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::Watch { seconds } => format!("watch for {seconds} s"),
            Self::StageRelease { host, series, patch: Some(patch), .. } => {
                format!("stage {series}+{} on {host}", patch.name)
            }
            Self::StageRelease { host, series, patch: None, .. } => format!("stage {series} on {host}"),
            Self::CheckUpgrade { service, host, .. } => format!("upgrade check of {service} on {host}"),
            Self::SnapshotDatabase { service, host, .. } => {
                format!("snapshot of {service}'s databases on {host}")
            }
            Self::MigrateSchema { service, phase, .. } => match phase {
                SchemaPhase::Expand => format!("expand {service}'s schema"),
                SchemaPhase::OnlineDataMigrations => format!("online data migrations of {service}"),
                SchemaPhase::Contract => format!("contract {service}'s schema"),
            },
            Self::DrainBackend { backend, server, .. } => format!("drain {backend}/{server}"),
            Self::UndrainBackend { backend, server, .. } => format!("undrain {backend}/{server}"),
            Self::ExchangeReplicas { backend, enter, leave } => {
                format!("exchange {backend}: {} in, {} out", servers(enter), servers(leave))
            }
            Self::SettleReplicas { backend, .. } => format!("settle which servers of {backend} are in"),
            Self::DisableCompute { host, .. } => format!("disable nova-compute on {host}, settle"),
            Self::EnableCompute { host } => format!("enable nova-compute on {host}"),
            Self::SwitchDaemon { daemon, .. } => format!("switch {daemon}"),
            Self::ProveDaemon { daemon, version, .. } => format!("prove {daemon} serves {version}"),
            Self::KeepAnchor(anchor) => {
                format!("keep an anchor of {} at record version {}", anchor.service, anchor.version)
            }
            Self::ReleaseAnchor(anchor) => format!("release the anchor of {}", anchor.service),
            Self::ShadowApi { shadow, .. } => {
                format!("compare the answers of {}'s old and new code", shadow.service)
            }
            Self::AskAgain { shadow, .. } => {
                format!("ask {} again what its old code was asked, and compare", shadow.service)
            }
            Self::StopShadow { shadow } => format!("stop the shadow of {}", shadow.daemon),
            Self::MoveInstances { host, moves, .. } => format!("move {} instances off {host}", moves.len()),
            Self::MoveNewcomers(newcomers) => format!("move newcomers off {}", newcomers.host),
            Self::StopInstances { host, instances } => {
                format!("stop {} instances on {host}", instances.len())
            }
            Self::StartInstances { host, instances } => {
                format!("start {} instances on {host}", instances.len())
            }
            Self::LowerGateways { host } => format!("move OVN's gateways off {host}"),
            Self::RestoreGateways { host } => format!("give OVN's gateways back to {host}"),
            Self::MoveNetworkDuties { host } => format!("move the duties of neutron's agents off {host}"),
            Self::RestoreNetworkDuties { host } => {
                format!("give the duties of neutron's agents back to {host}")
            }
            Self::ProveEmpty { host, .. } => format!("prove {host} empty"),
            Self::RebootHost { host, .. } => format!("reboot {host}"),
            Self::RunCommand { host, what, .. } => format!("run the command `{what}` on {host}"),
            Self::RunHook(call) => {
                format!("run the hook {} {} {} on {}", call.hook, call.moment, call.host, call.on)
            }
            Self::RunGate(gate) => {
                let or = match gate.on_failure {
                    GateFailure::Block => "halt",
                    GateFailure::Warn => "warn",
                };
                format!("gate {}: `{}` within {} s, or {or}", gate.name, gate.argv.join(" "), gate.timeout_s)
            }
            Self::BootCanary { host } => format!("boot a canary instance on {host}"),
            Self::RefreshDaemon { daemon, how, .. } => match how {
                Refresh::Hangup => format!("reload {daemon}"),
                Refresh::Restart => format!("restart {daemon}"),
            },
        }
    }
}
