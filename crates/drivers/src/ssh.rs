//! Connections to hosts, by the site's own OpenSSH: one master per host, opened when it is first
//! needed and opened anew when it has died.
//!
//! Host keys are always checked strictly, and nothing is ever asked of a terminal.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openssh::{ControlPersist, KnownHosts, Session, SessionBuilder};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use volutus_model::Inventory;
use volutus_model::name::HostName;
use volutus_model::outcome::{Evidence, Failure, FailureClass, Outcome};

use crate::ssh_failure::{Kind, classify};

/// A host in the same site answers in milliseconds; one that does not within this time is taken
/// for unreachable rather than letting a whole observation wait for it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// OpenSSH gives a connection up after three unanswered keepalives, so a cut is noticed within
/// four times this.
const KEEPALIVE: Duration = Duration::from_secs(4);
/// A master without sessions ends by itself after this time, so that a killed Volutus leaves no
/// connection behind for ever.
const IDLE_S: NonZeroUsize = NonZeroUsize::new(120).expect("120 is not zero");
/// Masters that are being opened at once: each is a process here and a key exchange there.
const OPENING_MAX: usize = 50;
/// Sessions at once on one host. sshd's default MaxSessions is 10; the rest is left to others
/// who share the connection's limits.
const SESSIONS_PER_HOST_MAX: usize = 8;

/// A connection that failed, or ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The cloud description has no such host.
    #[error("host `{0}` is not declared in the cloud description")]
    Undeclared(HostName),
    /// No connection came about.
    #[error("{kind}: ssh to {host} ({address}): {seen}")]
    Connect {
        /// The host.
        host: HostName,
        /// The address tried.
        address: IpAddr,
        /// What kind of failure it is.
        kind: Kind,
        /// What ssh said.
        seen: String,
    },
    /// The connection ended, or did not answer, while something was under way.
    #[error("the connection to {host} was lost while {doing}: {seen}")]
    Lost {
        /// The host.
        host: HostName,
        /// What was under way.
        doing: String,
        /// What was seen.
        seen: String,
    },
    /// The connection stands, and the host cannot do what is needed.
    #[error("{host} cannot {doing}: {seen}")]
    Host {
        /// The host.
        host: HostName,
        /// What was asked of it.
        doing: String,
        /// What it said.
        seen: String,
    },
    /// ssh itself could not be started here.
    #[error("ssh cannot be run on this machine: {0}")]
    Local(String),
}

impl Error {
    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Undeclared(_) => "add a [[host]] to the cloud description".to_owned(),
            Self::Connect { host, address, kind, .. } => kind.hint(host, *address),
            Self::Lost { host, .. } => format!(
                "see whether {host} is up and reachable; resuming looks at what is there before it goes on"
            ),
            Self::Host { host, .. } => format!("mend it on {host}, then resume"),
            Self::Local(_) => "install an OpenSSH client and see that `ssh` is in PATH".to_owned(),
        }
    }

    /// The outcome of an attempt that met this error. `begun` says whether the attempt may have
    /// changed something already: then nobody knows what came of it.
    #[must_use]
    pub fn outcome(&self, begun: bool) -> Outcome {
        if begun && matches!(self, Self::Lost { .. } | Self::Connect { .. }) {
            return Outcome::Unknown { why: self.to_string() };
        }
        let class = match self {
            Self::Lost { .. } | Self::Connect { kind: Kind::Unreachable | Kind::Other, .. } => {
                FailureClass::Transient
            }
            _ => FailureClass::Permanent,
        };
        Outcome::Failed(Failure {
            class,
            message: self.to_string(),
            hint: self.hint(),
            evidence: vec![Evidence::State { what: "ssh".to_owned(), value: self.to_string() }],
            refused_by: std::collections::BTreeSet::new(),
            newcomers: std::collections::BTreeSet::new(),
        })
    }
}

struct HostConnection {
    address: IpAddr,
    session: Mutex<Option<Arc<Session>>>,
    permits: Arc<Semaphore>,
}

/// All hosts of a cloud, and the connections to them.
pub struct Hosts {
    builder: SessionBuilder,
    /// Whether commands need sudo.
    sudo: bool,
    hosts: BTreeMap<HostName, HostConnection>,
    opening: Semaphore,
    control_dir: PathBuf,
}

/// A place for one session on a host, within the bounds.
pub(crate) struct Place {
    /// The connection.
    pub session: Arc<Session>,
    /// Given back when the place is dropped.
    pub _permit: OwnedSemaphorePermit,
}

impl Hosts {
    /// Prepares connections to the hosts of a cloud; none is opened yet. `base_dir` is where the
    /// paths of the cloud description start.
    ///
    /// # Errors
    /// Where a file that the cloud description names is not there, or no directory for control
    /// sockets can be made.
    pub fn new(inventory: &Inventory, base_dir: &Path) -> Result<Self, crate::Error> {
        let ssh = &inventory.ssh;
        let file = |what: &'static str, name: &String| {
            let path = base_dir.join(name);
            let path = std::path::absolute(&path).unwrap_or(path);
            if path.is_file() { Ok(path) } else { Err(crate::Error::MissingFile { what, path }) }
        };
        let control_dir = make_control_dir()?;
        let mut builder = SessionBuilder::default();
        builder
            .user(ssh.user.clone())
            .known_hosts_check(KnownHosts::Strict)
            .connect_timeout(CONNECT_TIMEOUT)
            .server_alive_interval(KEEPALIVE)
            .control_persist(ControlPersist::IdleFor(IDLE_S))
            .control_directory(&control_dir);
        if let Some(port) = ssh.port {
            builder.port(port);
        }
        if let Some(name) = &ssh.identity_file {
            builder.keyfile(file("ssh.identity_file", name)?);
        }
        if let Some(name) = &ssh.known_hosts {
            builder.user_known_hosts_file(file("ssh.known_hosts", name)?);
        }
        if let Some(name) = &ssh.config_file {
            builder.config_file(file("ssh.config_file", name)?);
        }
        let hosts = inventory
            .hosts
            .iter()
            .map(|host| {
                let connection = HostConnection {
                    address: host.address,
                    session: Mutex::new(None),
                    permits: Arc::new(Semaphore::new(SESSIONS_PER_HOST_MAX)),
                };
                (host.name.clone(), connection)
            })
            .collect();
        Ok(Self {
            builder,
            sudo: ssh.user != "root",
            hosts,
            opening: Semaphore::new(OPENING_MAX),
            control_dir,
        })
    }

    /// Whether commands on hosts go through sudo.
    pub(crate) fn needs_sudo(&self) -> bool {
        self.sudo
    }

    /// A place on the host's connection, which is opened where it is not open.
    pub(crate) async fn place(&self, host: &HostName) -> Result<Place, Error> {
        let connection = self.hosts.get(host).ok_or_else(|| Error::Undeclared(host.clone()))?;
        let permit = Arc::clone(&connection.permits)
            .acquire_owned()
            .await
            .expect("the semaphore of a host is never closed");
        let mut session = connection.session.lock().await;
        if let Some(open) = &*session {
            return Ok(Place { session: Arc::clone(open), _permit: permit });
        }
        let opened = Arc::new(self.open(host, connection.address).await?);
        *session = Some(Arc::clone(&opened));
        Ok(Place { session: opened, _permit: permit })
    }

    async fn open(&self, host: &HostName, address: IpAddr) -> Result<Session, Error> {
        let _turn = self.opening.acquire().await.expect("the semaphore is never closed");
        let failed = |kind: Kind, seen: String| Error::Connect { host: host.clone(), address, kind, seen };
        // ssh bounds the connection itself; this bounds a proxy or an agent that hangs.
        let limit = CONNECT_TIMEOUT * 2;
        let opened = match tokio::time::timeout(limit, self.builder.connect(address.to_string())).await {
            Ok(opened) => opened,
            Err(_) => {
                return Err(failed(Kind::Unreachable, format!("no connection within {} s", limit.as_secs())));
            }
        };
        opened.map_err(|error| match error {
            openssh::Error::Connect(inner) if inner.kind() == std::io::ErrorKind::NotFound => {
                Error::Local(inner.to_string())
            }
            openssh::Error::Connect(inner) => {
                let seen = inner.to_string();
                failed(classify(&seen), last_words(&seen))
            }
            other => Error::Local(describe(&other)),
        })
    }

    /// Forgets the host's connection, so that the next use opens a new one. `seen` is the
    /// connection that failed: one that somebody else has opened meanwhile is kept.
    pub(crate) async fn forget(&self, host: &HostName, seen: &Arc<Session>) {
        let Some(connection) = self.hosts.get(host) else { return };
        let mut session = connection.session.lock().await;
        if session.as_ref().is_some_and(|open| Arc::ptr_eq(open, seen)) {
            *session = None;
        }
    }

    /// Closes the host's connection where nobody uses it.
    pub(crate) async fn close(&self, host: &HostName) {
        let Some(connection) = self.hosts.get(host) else { return };
        let taken = connection.session.lock().await.take();
        if let Some(session) = taken.and_then(Arc::into_inner) {
            // A master that is dead already is closed enough.
            if let Err(error) = session.close().await {
                tracing::debug!(%host, %error, "closing an ssh connection");
            }
        }
    }

    /// Closes all connections.
    pub async fn close_all(&self) {
        futures::future::join_all(self.hosts.keys().map(|host| self.close(host))).await;
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // The sessions end their masters as they are dropped, which needs the directory; it goes
        // last. What cannot be removed is an empty directory of our own.
        self.hosts.clear();
        if let Err(error) = std::fs::remove_dir_all(&self.control_dir) {
            tracing::debug!(%error, "removing the directory of ssh control sockets");
        }
    }
}

/// A private directory with a short path: the path of a Unix socket has at most 107 bytes, and
/// ssh appends some 50 to it.
fn make_control_dir() -> Result<PathBuf, crate::Error> {
    let base = std::env::temp_dir();
    let base = if base.as_os_str().len() > 40 { PathBuf::from("/tmp") } else { base };
    remove_stale(&base);
    tempfile::Builder::new()
        .prefix(&format!("{CONTROL_PREFIX}{}-", std::process::id()))
        .tempdir_in(&base)
        .map(tempfile::TempDir::keep)
        .map_err(|source| crate::Error::ControlDirectory { path: base, source })
}

/// What the names of control directories begin with; the id of their process follows.
const CONTROL_PREFIX: &str = "volutus-ssh-";

/// Removes the control directories of processes that were killed. Their masters end by themselves
/// when they have been idle for a while.
fn remove_stale(base: &Path) {
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(CONTROL_PREFIX)?.split('-').next());
        let stale = process
            .and_then(|id| id.parse::<u32>().ok())
            .is_some_and(|id| !Path::new("/proc").join(id.to_string()).exists());
        if stale && let Err(error) = std::fs::remove_dir_all(entry.path()) {
            // Another user's; it is theirs to remove.
            tracing::debug!(%error, path = %entry.path().display(), "removing a stale directory");
        }
    }
}

/// The last lines of what ssh said: the banner of a changed host key is long.
fn last_words(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

/// An error with its sources in one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
