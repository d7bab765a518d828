//! The journal, plans, approvals, leases and samples, in one SQLite file of a state directory.
//!
//! Whoever carries out a run holds the [`Lease`] of its cloud. Every append to a journal names
//! the lease and is refused ([`Error::Fenced`]) once somebody else has taken it: there is one
//! writer per run, whatever the clocks say. Journals are chains of hashes, plans are named by
//! the hash of their content; [`Store::verify_journal`] and [`Store::plan`] see what was
//! altered. Nothing here knows a secret.
//!
//! A [`Store`] is a handle: clone it, send it, open the same directory from several processes.
//! Every call blocks for as long as the disk takes; asynchronous callers put it on a thread of
//! its own.

mod commands;
mod error;
mod holder;
mod journal;
mod lease;
mod plans;
mod records;
mod runs;
mod samples;
mod schema;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, Transaction, TransactionBehavior};

pub use commands::PendingCommand;
pub use error::Error;
pub use holder::Holder;
pub use lease::{Lease, LeaseRecord};
pub use plans::{Approval, PlanRecord};
pub use runs::RunRecord;

/// The name of the file in the state directory.
pub const FILE: &str = "volutus.db";

/// A handle on a state directory.
#[derive(Debug, Clone)]
pub struct Store {
    connection: Arc<Mutex<Connection>>,
    path: PathBuf,
}

impl Store {
    /// Opens the store in a directory, and makes both where they are not there yet.
    ///
    /// # Errors
    /// [`Error::NewerSchema`] for a file that a newer Volutus wrote; [`Error::Unusable`] and
    /// [`Error::Io`] with the path and what to do where it cannot be read or written.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(FILE);
        let connection = schema::open(directory, &path)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), path })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A panic while the connection was held leaves at most a transaction that SQLite rolls
    /// back, so a poisoned lock is as good as any.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads in one consistent view.
    fn read<T>(&self, what: &str, read: impl FnOnce(&Transaction<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(|e| self.error(what, e))?;
        let value = read(&transaction).map_err(|error| error.at(&self.path, what))?;
        transaction.commit().map_err(|e| self.error(what, e))?;
        Ok(value)
    }

    /// Reads and writes in one transaction that has the write lock from its beginning: what it
    /// read is still so when it writes. An error leaves everything as it was.
    fn write<T>(&self, what: &str, write: impl FnOnce(&Transaction<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let mut connection = self.connection();
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| self.error(what, e))?;
        let value = write(&transaction).map_err(|error| error.at(&self.path, what))?;
        transaction.commit().map_err(|e| self.error(what, e))?;
        Ok(value)
    }

    fn error(&self, what: &str, source: rusqlite::Error) -> Error {
        Error::from(source).at(&self.path, what)
    }
}
