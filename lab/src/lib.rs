//! A real OpenStack in miniature on one machine.
//!
//! The lab runs real hosts (systemd-nspawn containers with systemd, sshd, an address and a disk
//! of their own), real services from released packages, and real infrastructure: MariaDB,
//! RabbitMQ, memcached, HAProxy. Only three drivers are its own: instances without guests, ports
//! without wires, volumes that are files. Operators rehearse in it; tests use it as a cloud.
//!
//! Everything a lab makes on the machine is named after its subnet or lies in its folder, and is
//! reserved before it is made, so that [`Lab::down`] finds all of it after any crash. The lab
//! touches nothing else on the machine except installing Debian packages, and knows nothing of
//! Volutus but the format of the cloud description that it writes.
//!
//! Start reading at `up.rs`; `machine.rs` is one host, `render.rs` what is written into it.

mod base;
mod command;
mod daemon;
mod data_plane;
mod down;
mod error;
mod fault;
mod guest;
mod layer;
mod machine;
mod network;
mod outputs;
mod paths;
mod progress;
mod ready;
mod record;
mod release;
mod render;
mod render_virt;
mod schema;
mod setup;
mod status;
mod topology;
mod up;
mod variant;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

pub use command::Output;
pub use daemon::{COMPUTE, CONTROLLER, Daemon, SERVICES, Start};
pub use data_plane::{DataPlane, Guest, Migration, Pings};
pub use error::{Error, Result};
pub use fault::Fault;
pub use paths::{CACHE_VARIABLE, STATE_VARIABLE, StateDir, cache_root, state_root};
pub use progress::{Lines, Progress, Silent, Terminal, for_stderr};
pub use record::{Phase, Record};
pub use release::{RELEASES, Release};
pub use setup::is_root;
pub use status::{DaemonStatus, HostStatus, LabStatus};
pub use topology::{COMPUTES_MAX, CONTROLLERS_MAX, Host, Ml2, Options, Role, Virt};
pub use up::Offer;
pub use watch::{Held, Watched, table as guests_table};

use machine::Machine;

/// A lab that exists.
#[derive(Debug, Clone)]
pub struct Lab {
    state: StateDir,
    record: Record,
}

impl Lab {
    /// Brings a lab up: from an empty machine, or in two to three minutes once releases and base
    /// are cached. `offer` says what its hosts can be upgraded to.
    ///
    /// # Errors
    /// Refuses impossible options and a name whose lab is up. Everything else is told with the
    /// step that failed; the half-made lab stays for inspection until [`Lab::down`].
    pub fn up(options: &Options, offer: &Offer, progress: &dyn Progress) -> Result<Self> {
        let (state, record) = up::up(options, offer, progress)?;
        Ok(Self { state, record })
    }

    /// Opens a lab that was brought up before.
    ///
    /// # Errors
    /// Refuses a name that no lab has.
    pub fn open(name: &str) -> Result<Self> {
        let state = StateDir::of(name)?;
        let record = Record::load(&state)?;
        Ok(Self { state, record })
    }

    /// Names of all labs, also of those that were left half way.
    ///
    /// # Errors
    /// When the state folder cannot be read.
    pub fn list() -> Result<Vec<String>> {
        let root = state_root();
        let mut names = Vec::new();
        if root.is_dir() {
            use error::IoContext as _;
            for entry in std::fs::read_dir(&root).on("listing", &root)? {
                let entry = entry.on("listing", &root)?;
                if entry.path().is_dir() {
                    names.push(entry.file_name().to_string_lossy().into_owned());
                }
            }
        }
        names.sort();
        Ok(names)
    }

    /// Fills the cache for these series, and what a lab of this kind needs, without making a lab.
    ///
    /// # Errors
    /// Refuses unknown series; tells a failed build with its last output.
    pub fn build(series: &[String], virt: Virt, progress: &dyn Progress) -> Result<()> {
        let wanted = if series.is_empty() {
            RELEASES.to_vec()
        } else {
            series.iter().map(|series| Release::find(series)).collect::<Result<Vec<_>>>()?
        };
        setup::prepare_machine(virt, progress)?;
        base::ensure_base(virt, progress)?;
        if virt == Virt::Qemu {
            layer::ensure(progress)?;
            guest::ensure(progress)?;
        }
        up::build_releases(&wanted, progress)
    }

    /// Removes a lab and all it has on the machine, in whatever state it is. A name without a
    /// lab is fine.
    ///
    /// # Errors
    /// When something of it resists, or another process is working on it.
    pub fn down(name: &str, progress: &dyn Progress) -> Result<()> {
        let state = StateDir::of(name)?;
        setup::require_root()?;
        let _lock = paths::Lock::now(&state.lock(), &format!("the lab {name}"))?;
        progress::step(progress, &format!("take down the lab {name}"), || down::remove_all(&state))
    }

    /// What was asked for, and what it became.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Path of the cloud's description for Volutus.
    pub fn cloud_toml(&self) -> PathBuf {
        self.state.cloud_toml()
    }

    /// Path of the credentials.
    pub fn clouds_yaml(&self) -> PathBuf {
        self.state.clouds_yaml()
    }

    /// Folder of the lab, with `known_hosts`, `id_ed25519`, `ssh_config` and the consoles.
    pub fn folder(&self) -> PathBuf {
        self.state.path()
    }

    /// Shell lines that set `OS_*` and name the files above.
    pub fn environment(&self) -> String {
        outputs::environment(&self.state, &self.record)
    }

    /// Runs a command on a host and returns its output, whatever its exit status.
    ///
    /// # Errors
    /// Refuses an unknown host and one that does not run.
    pub fn exec(&self, host: &str, arguments: &[String], limit: Duration) -> Result<Output> {
        self.machine(host)?.output(arguments, limit)
    }

    /// The program and arguments that run a command on a host with this process' own terminal.
    ///
    /// # Errors
    /// Refuses an unknown host and one that does not run.
    pub fn exec_command(&self, host: &str, arguments: &[String]) -> Result<std::process::Command> {
        let machine = self.machine(host)?;
        machine.interactive(arguments)
    }

    /// Does something bad to a host.
    ///
    /// # Errors
    /// Refuses hosts, daemons and services that do not exist.
    pub fn fault(&self, host: &str, fault: &Fault) -> Result<()> {
        fault.apply(self.machine(host)?)
    }

    /// Undoes what [`Lab::fault`] did.
    ///
    /// # Errors
    /// As [`Lab::fault`].
    pub fn undo(&self, host: &str, fault: &Fault) -> Result<()> {
        fault.undo(self.machine(host)?)
    }

    /// What the lab looks like now.
    ///
    /// # Errors
    /// When a running host cannot be asked.
    pub fn status(&self) -> Result<LabStatus> {
        status::observe(&self.state, &self.record)
    }

    /// Asks every guest from inside its network and from outside, and live-migrates as many as
    /// wanted while they are pinged.
    ///
    /// # Errors
    /// Refuses labs without a real data plane. What guests do not answer is in the result.
    pub fn check_data_plane(&self, migrations: u32) -> Result<DataPlane> {
        data_plane::check(&self.state, &self.record, migrations)
    }

    /// Watches every guest until `until` returns.
    ///
    /// # Errors
    /// Refuses labs without a real data plane. What guests do not answer is in the result.
    pub fn watch_guests(&self, until: impl FnOnce()) -> Result<Vec<Watched>> {
        watch::watch(&self.state, &self.record, until)
    }

    fn machine(&self, host: &str) -> Result<Machine<'_>> {
        let host = self.record.host(host)?;
        Ok(Machine { state: &self.state, record: &self.record, host })
    }
}
