//! The only code that touches a cloud: ssh, systemd, virtual environments, HAProxy, MariaDB, and
//! OpenStack's APIs.
//!
//! [`CloudDriver`] carries out one [`Action`] at a time: it looks, does, and sees that it is done.
//! It decides nothing: what it finds otherwise than the plan says ends the attempt with evidence.
//! [`CloudDriver::observe`] looks at everything and changes nothing.
//!
//! Hosts need an OpenSSH server, systemd and a Python 3, and nothing of Volutus: small programs
//! (`src/host`) are sent over the connection. Work that must outlive the connection runs as a
//! transient unit named by its attempt (`work`).

mod agents;
mod anchor;
mod announce;
mod ask_release;
mod attempt;
mod canary;
mod channel;
mod cloud;
mod compute;
mod database;
mod drain;
mod error;
mod gate;
mod gateways;
mod haproxy;
mod hook;
mod lanes;
mod local;
mod newcomers;
mod observe;
mod prove;
mod reboot;
mod refresh;
mod release;
mod rest;
mod schema;
mod shadow;
mod snapshot;
mod snapshots;
mod ssh;
mod ssh_failure;
mod work;

pub use channel::Trouble;
pub use cloud::CloudDriver;
pub use error::Error;
pub use observe::ComputeRecord;
pub use snapshots::{Copy, Restore, RestorePhase, SNAPSHOT_ROOT, Snapshot, SnapshotError, SnapshotWork};
pub use ssh::{Error as SshError, Hosts};
pub use ssh_failure::Kind as SshFailureKind;
pub use volutus_openstack::Error as ApiError;

#[cfg(doc)]
use volutus_model::Action;
