//! What the store refuses, and what went wrong with its file.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::ErrorCode;
use volutus_model::name::{HostName, PlanId, RunId};

/// Why the store did not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be used as it is.
    #[error("cannot {what} in {}: {why}; {hint}", path.display())]
    Unusable {
        /// What was attempted.
        what: String,
        /// The file.
        path: PathBuf,
        /// What is in the way.
        why: &'static str,
        /// What to do about it.
        hint: &'static str,
        /// What SQLite said.
        #[source]
        source: Box<rusqlite::Error>,
    },
    /// SQLite refused something that it should not have.
    #[error("cannot {what} in {}", path.display())]
    Sqlite {
        /// What was attempted.
        what: String,
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: Box<rusqlite::Error>,
    },
    /// The state directory cannot be made or used.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A newer Volutus wrote the file.
    #[error(
        "{} has schema version {found}, and this Volutus knows versions up to {known}; \
         use the Volutus that wrote it, or a newer one", path.display()
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version of this Volutus.
        known: u32,
    },
    /// What is stored cannot be read as what it should be: somebody changed it.
    #[error("{what} in the store cannot be read: {why}")]
    Unreadable {
        /// What was read.
        what: String,
        /// Why it could not be.
        why: String,
    },
    /// A plan's content is not what its id says.
    #[error("plan {id} was altered: its content has the id {actual}; make and approve a new plan instead")]
    PlanAltered {
        /// The id that it goes by.
        id: PlanId,
        /// The id of its content.
        actual: PlanId,
    },
    /// A plan of an upgrade was asked for, and this one reboots hosts.
    #[error("plan {id} reboots hosts; it is no upgrade")]
    IsReboot {
        /// The plan.
        id: PlanId,
    },
    /// There is no such plan or run.
    #[error("there is no {kind} `{sought}`{}", known_list(known))]
    NotFound {
        /// "plan" or "run".
        kind: &'static str,
        /// What was looked for.
        sought: String,
        /// The latest of those that there are.
        known: Vec<String>,
    },
    /// A prefix fits more than one plan or run.
    #[error("`{sought}` fits several: {}; give more of the id", fits.join(", "))]
    Ambiguous {
        /// What was looked for.
        sought: String,
        /// What it fits.
        fits: Vec<String>,
    },
    /// A run needs an approved plan.
    #[error("plan {plan} has not been approved; look at it, then `volutus approve {plan}`")]
    NotApproved {
        /// The plan.
        plan: PlanId,
    },
    /// A cloud has one run at a time.
    #[error("run {run} of cloud {cloud} has not ended; resume, finalize or abort it first")]
    RunUnfinished {
        /// The cloud.
        cloud: HostName,
        /// The run that has not ended.
        run: RunId,
    },
    /// A run's id is in use, or not fit for one.
    #[error("run id `{run}` cannot be used: {why}")]
    RunId {
        /// The id.
        run: RunId,
        /// Why not.
        why: &'static str,
    },
    /// Another process works on the cloud.
    #[error("cloud {cloud} is being worked on by {holder} since {since} (last sign of life {heartbeat})")]
    LeaseHeld {
        /// The cloud.
        cloud: HostName,
        /// The process.
        holder: String,
        /// Since when.
        since: Timestamp,
        /// When it last renewed its lease.
        heartbeat: Timestamp,
    },
    /// Somebody else has taken the lease: nothing may be recorded, or done, under it any more.
    #[error(
        "the lease of cloud {cloud} was lost: it had epoch {epoch}, and now {holder} holds epoch {current}; \
         nothing was recorded"
    )]
    Fenced {
        /// The cloud.
        cloud: HostName,
        /// The epoch of the lease that was lost.
        epoch: u64,
        /// The epoch now.
        current: u64,
        /// Who holds it now; "nobody" where it was released.
        holder: String,
    },
    /// A journal was altered: from this entry on it does not hold together.
    #[error("the journal of run {run} was altered: entry {seq}: {why}")]
    ChainBroken {
        /// The run.
        run: RunId,
        /// The first entry that does not fit.
        seq: u64,
        /// What does not fit.
        why: String,
    },
}

fn known_list(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!("; there are: {}", known.join(", ")) }
}

/// Where it happened is added by the caller, who knows; see [`Error::at`].
impl From<rusqlite::Error> for Error {
    fn from(source: rusqlite::Error) -> Self {
        Self::Sqlite { what: String::new(), path: PathBuf::new(), source: Box::new(source) }
    }
}

impl Error {
    /// Its stable code (docs/reference/errors.md); `store` for what an operator cannot mend.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::PlanAltered { .. } => "plan-altered",
            Self::IsReboot { .. } => "is-reboot",
            Self::NotFound { .. } => "not-found",
            Self::Ambiguous { .. } => "ambiguous",
            Self::NotApproved { .. } => "not-approved",
            Self::RunUnfinished { .. } => "run-unfinished",
            Self::LeaseHeld { .. } => "lease-held",
            _ => "store",
        }
    }

    /// Says on which file what was attempted, and what to do where that is known.
    pub(crate) fn at(self, path: &Path, what: &str) -> Self {
        let Self::Sqlite { source, .. } = self else { return self };
        let (what, path) = (what.to_owned(), path.to_owned());
        let full = source.sqlite_error().is_some_and(|error| error.extended_code == SHARED_INDEX_SIZE);
        let code = match source.sqlite_error_code() {
            _ if full => Some(ErrorCode::DiskFull),
            // SQLite cannot make its files beside it, and does not say why.
            Some(ErrorCode::CannotOpen) if only_readable(&path) => Some(ErrorCode::ReadOnly),
            code => code,
        };
        match code.and_then(explain) {
            Some((why, hint)) => Self::Unusable { what, path, why, hint, source },
            None => Self::Sqlite { what, path, source },
        }
    }
}

/// Whether the file is on a file system that is mounted to be read only.
fn only_readable(path: &Path) -> bool {
    let opened = std::fs::File::options().append(true).open(path);
    opened.is_err_and(|error| error.kind() == std::io::ErrorKind::ReadOnlyFilesystem)
}

/// SQLITE_IOERR_SHMSIZE: the index of the write-ahead log cannot grow. That is an I/O error for
/// SQLite, and has one cause: no room.
const SHARED_INDEX_SIZE: i32 = 4874;

fn explain(code: ErrorCode) -> Option<(&'static str, &'static str)> {
    match code {
        ErrorCode::DiskFull => {
            Some(("the disk is full", "make room, then run the command again: nothing was recorded halfway"))
        }
        ErrorCode::ReadOnly => Some((
            "the file may only be read",
            "give yourself the right to write to it and to its directory, or choose another --state directory",
        )),
        ErrorCode::PermissionDenied | ErrorCode::CannotOpen => Some((
            "the file cannot be opened",
            "see that the directory exists and that you may read and write in it",
        )),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Some((
            "another process has been writing to it for more than ten seconds",
            "see with `fuser` which one, and try again when it is through",
        )),
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Some((
            "the file is damaged, or not a store of Volutus",
            "put it aside and restore a copy; a cloud can be observed and planned anew without it",
        )),
        ErrorCode::SystemIoFailure => Some((
            "the disk reports an error",
            "look at the system's log; the state directory has to be on a local file system",
        )),
        _ => None,
    }
}
