//! What an operator does with snapshots outside of a run: look at them, verify them, restore them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use volutus_engine::ports::{Order, Say};
use volutus_model::Series;
use volutus_model::name::{AttemptId, DaemonId, HostName, RunId, ServiceName, StepId};
use volutus_model::outcome::Outcome;
use volutus_model::plan::Action;

use crate::attempt::{Attempt, last_line};
use crate::channel::{ASK, Channel, Trouble};
use crate::snapshot::{program, slot, why};
use crate::work::{Program, perform, safe};
use crate::{CloudDriver, release};

/// Where snapshots are on a database host.
pub const SNAPSHOT_ROOT: &str = "/var/lib/volutus/snapshots";

/// A database of hundreds of gigabytes restores within this; what takes longer hangs.
const LIMIT: Duration = Duration::from_secs(12 * 3600);
/// Counting in tables of millions of rows.
const COUNT: Duration = Duration::from_secs(120);

/// The copies of one run on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Its id: the name of its directory.
    pub id: String,
    /// The database host.
    pub host: HostName,
    /// One copy for each service.
    pub copies: Vec<Copy>,
}

/// A copy of one service's databases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// The service.
    pub service: ServiceName,
    /// The cloud.
    pub cloud: HostName,
    /// The run that took it.
    pub run: RunId,
    /// The databases.
    pub databases: Vec<String>,
    /// The file, in the snapshot's directory.
    pub file: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its checksum.
    pub sha256: String,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// As of when it holds the databases.
    pub taken_at: Timestamp,
    /// When it was last restored in a scratch server and found equal; `None` where it was not, or
    /// was found damaged since.
    pub verified_at: Option<Timestamp>,
    /// The server that it was taken from.
    pub server: String,
    /// Tables in it.
    pub tables: u64,
    /// Whether the file is there.
    pub present: bool,
}

/// How far a service's restore has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// The service.
    pub service: ServiceName,
    /// The snapshot.
    pub snapshot: String,
    /// How far it is.
    pub phase: RestorePhase,
    /// By database: where that is kept which was in use before.
    pub before: BTreeMap<String, String>,
    /// By database: where that is kept which was in use when the restore was taken back.
    pub undone: BTreeMap<String, String>,
    /// When it was put in place.
    #[serde(default)]
    pub swapped_at: Option<Timestamp>,
    /// When it was taken back.
    #[serde(default)]
    pub undone_at: Option<Timestamp>,
}

/// The phases of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RestorePhase {
    /// It is being read beside what is in use; that is untouched.
    Load,
    /// It is whole beside what is in use; that is untouched.
    Loaded,
    /// Tables are being exchanged.
    Swap,
    /// It is in place; daemons were not seen serving on it yet.
    Done,
    /// It is in place and done with; what was in use is kept.
    Kept,
    /// Tables are being exchanged back.
    Undo,
}

/// What can be done with one service's copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotWork {
    /// Restore it in a scratch server, and compare.
    Verify,
    /// Restore it beside what is in use; that is not touched.
    Prepare,
    /// Exchange it for what is in use, which nobody may be connected to.
    Swap,
    /// Exchange it back.
    Undo,
    /// Say that daemons serve on it.
    End,
    /// Take away what was prepared.
    Cancel,
}

/// Why something with snapshots was not done.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The host was not reached, or could not answer.
    #[error(transparent)]
    Trouble(#[from] Trouble),
    /// It was tried and did not succeed.
    #[error("{0}")]
    Failed(String),
    /// Its end was not seen: it may go on still.
    #[error("{0}")]
    Unseen(String),
}

impl SnapshotWork {
    const fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Prepare => "prepare",
            Self::Swap => "swap",
            Self::Undo => "undo",
            Self::End => "end",
            Self::Cancel => "cancel",
        }
    }
}

#[derive(Deserialize)]
struct Seen {
    snapshots: Vec<SeenSnapshot>,
    restores: Vec<Restore>,
}

#[derive(Deserialize)]
struct SeenSnapshot {
    id: String,
    copies: Vec<Copy>,
}

impl Restore {
    /// Whether tables of it were exchanged, or are being exchanged, by what is to exchange them now.
    #[must_use]
    pub fn has_exchanged(&self, exchange: SnapshotWork) -> bool {
        match exchange {
            SnapshotWork::Undo => self.phase == RestorePhase::Undo || self.undone_at.is_some(),
            _ => matches!(self.phase, RestorePhase::Swap | RestorePhase::Done),
        }
    }
}

impl CloudDriver {
    /// All snapshots and restores on the database hosts; empty where none is declared.
    ///
    /// # Errors
    /// Where a database host cannot be asked.
    pub async fn snapshots(&self) -> Result<(Vec<Snapshot>, Vec<Restore>), Trouble> {
        let (mut snapshots, mut restores) = (Vec::new(), Vec::new());
        for database in &self.inventory.databases {
            let mut channel = Channel::to_snapshots(&self.hosts, &database.host).await?;
            let seen: Seen = channel.ask("snapshots", json!({"root": SNAPSHOT_ROOT}), ASK).await?;
            snapshots.extend(seen.snapshots.into_iter().map(|SeenSnapshot { id, copies }| Snapshot {
                id,
                host: database.host.clone(),
                copies,
            }));
            restores.extend(seen.restores);
        }
        Ok((snapshots, restores))
    }

    /// How many objects of each kind were made in a copy's databases since `since`, as far as tables
    /// record when.
    ///
    /// # Errors
    /// Where the host, or its database server, does not answer.
    pub async fn made_since(
        &self,
        host: &HostName,
        databases: &[String],
        since: Timestamp,
    ) -> Result<BTreeMap<String, u64>, Trouble> {
        let mut channel = Channel::to_snapshots(&self.hosts, host).await?;
        let since = since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        channel.ask("snapshot_loss", json!({"databases": databases, "since": since}), COUNT).await
    }

    /// Does something with one service's copy. What a killed process left of it is waited for, and
    /// gone on from.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn work_on_snapshot(
        &self,
        snapshot: &Snapshot,
        service: &ServiceName,
        what: SnapshotWork,
        say: Say<'_>,
    ) -> Result<Value, SnapshotError> {
        let mut request = json!({"do": what.name(), "service": service});
        if matches!(what, SnapshotWork::Verify | SnapshotWork::Prepare) {
            let declared = self.inventory.databases.iter().find(|database| database.host == snapshot.host);
            request["directory"] = json!(format!("{SNAPSHOT_ROOT}/{}", snapshot.id));
            request["key_file"] = json!(declared.and_then(|database| database.snapshot_key_file.as_deref()));
        } else {
            request["root"] = json!(SNAPSHOT_ROOT);
        }
        let output = self.outside_of_a_run(&snapshot.host, &slot(service), &program(&request), say).await?;
        serde_json::from_str(last_line(&output)).map_err(|error| SnapshotError::Failed(error.to_string()))
    }

    /// Stops units, gracefully: systemd keeps to their own time.
    ///
    /// # Errors
    /// The first one that does not stop; the others are stopped all the same.
    pub async fn stop_units(
        &self,
        units: &BTreeMap<&HostName, Vec<String>>,
        say: Say<'_>,
    ) -> Result<(), SnapshotError> {
        self.systemctl("stop", units, say).await
    }

    /// Starts units as they are.
    ///
    /// # Errors
    /// The first one that does not start; the others are started all the same.
    pub async fn start_units(
        &self,
        units: &BTreeMap<&HostName, Vec<String>>,
        say: Say<'_>,
    ) -> Result<(), SnapshotError> {
        self.systemctl("start", units, say).await
    }

    async fn systemctl(
        &self,
        verb: &str,
        units: &BTreeMap<&HostName, Vec<String>>,
        say: Say<'_>,
    ) -> Result<(), SnapshotError> {
        let on_hosts = units.iter().map(|(host, units)| async move {
            let words = ["systemctl", verb, "--"].map(str::to_owned).to_vec();
            let program = Program::Argv([words, units.clone()].concat());
            self.outside_of_a_run(host, &format!("{verb} of daemons"), &program, say).await.map(|_| ())
        });
        futures::future::join_all(on_hosts).await.into_iter().collect()
    }

    /// Starts daemons from the release of `series`, whatever they run from now of that and `other`.
    ///
    /// # Errors
    /// The first one that does not start, or whose link points elsewhere; the others are started all
    /// the same.
    pub async fn start_from(
        &self,
        daemons: &[DaemonId],
        series: Series,
        other: Series,
        say: Say<'_>,
    ) -> Result<(), SnapshotError> {
        let all = daemons.iter().map(|daemon| self.start_one(daemon, series, other, say));
        futures::future::join_all(all).await.into_iter().collect()
    }

    async fn start_one(
        &self,
        daemon: &DaemonId,
        series: Series,
        other: Series,
        say: Say<'_>,
    ) -> Result<(), SnapshotError> {
        let (_, declared) = self
            .inventory
            .daemon(daemon)
            .ok_or_else(|| SnapshotError::Failed(format!("{daemon} is not in the cloud description")))?;
        let (service, _) = self
            .catalog
            .daemon(&daemon.kind)
            .ok_or_else(|| SnapshotError::Failed(format!("the catalog knows no {}", daemon.kind)))?;
        let releases = &self.inventory.releases;
        let switch = release::Switch {
            daemon,
            service: &service.name,
            unit: &declared.unit,
            link: &releases.current_of(&service.name, &daemon.kind),
            from: &releases.path_of(other, &service.name),
            to: &releases.path_of(series, &service.name),
        };
        self.pretend_swept(&daemon.host);
        let order = order().map_err(SnapshotError::Failed)?;
        let attempt = self.attempt(&order, say);
        release::switch(&attempt, &switch).await.map(|_| ()).map_err(|outcome| not_done(&outcome))
    }

    /// Which releases of `series` are missing on the hosts of these daemons, in words.
    ///
    /// # Errors
    /// Where a host cannot be asked.
    pub async fn missing_releases(
        &self,
        daemons: &[DaemonId],
        series: Series,
    ) -> Result<Vec<String>, Trouble> {
        let mut wanted: BTreeMap<&HostName, BTreeMap<String, String>> = BTreeMap::new();
        for daemon in daemons {
            if let Some((service, _)) = self.catalog.daemon(&daemon.kind) {
                let path = self.inventory.releases.path_of(series, &service.name);
                wanted.entry(&daemon.host).or_default().insert(path, service.distribution.clone());
            }
        }
        let mut missing = Vec::new();
        for (host, releases) in wanted {
            let mut channel = Channel::to_host(&self.hosts, host).await?;
            let question: Vec<_> = releases.iter().collect();
            let seen: Vec<Option<String>> =
                channel.ask("packages", json!({"releases": question}), ASK).await?;
            let absent = releases.keys().zip(seen).filter(|(_, seen)| seen.is_none());
            missing.extend(absent.map(|(path, _)| format!("{path} on {host}")));
        }
        Ok(missing)
    }

    async fn outside_of_a_run(
        &self,
        host: &HostName,
        slot: &str,
        program: &Program,
        say: Say<'_>,
    ) -> Result<String, SnapshotError> {
        self.pretend_swept(host);
        let order = order().map_err(SnapshotError::Failed)?;
        let attempt = self.attempt(&order, say);
        match perform(&attempt, host, slot, program).await {
            Ok(finished) if finished.exit_code == 0 => Ok(finished.output),
            Ok(finished) => Err(SnapshotError::Failed(format!("{host}: {}", why(&finished.output)))),
            Err(outcome) => Err(not_done(&outcome)),
        }
    }

    fn attempt<'a>(&'a self, order: &'a Order, say: Say<'a>) -> Attempt<'a> {
        Attempt { cloud: self, order, say, deadline: Instant::now() + LIMIT, told: Mutex::default() }
    }
}

/// The frame that remote work is done in. A name of its own for every piece of work: what must not
/// run twice at once is kept apart by its slot, and going on after a kill is up to the programs.
fn order() -> Result<Order, String> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}-{number}", Timestamp::now().as_millisecond());
    let invalid = |error: volutus_model::name::InvalidName| error.to_string();
    Ok(Order {
        run: RunId::new("by-hand").map_err(invalid)?,
        attempt: AttemptId::new(safe(&format!("by-hand-{name}"))).map_err(invalid)?,
        step: StepId::new("by-hand").map_err(invalid)?,
        action: Action::Watch { seconds: 0 },
        timeout_s: u32::try_from(LIMIT.as_secs()).unwrap_or(u32::MAX),
        taken_up: false,
        retried: false,
    })
}

fn not_done(outcome: &Outcome) -> SnapshotError {
    match outcome {
        Outcome::Failed(failure) => SnapshotError::Failed(format!("{} ({})", failure.message, failure.hint)),
        Outcome::Unknown { why } => SnapshotError::Unseen(why.clone()),
        other => SnapshotError::Failed(format!("{other:?}")),
    }
}
