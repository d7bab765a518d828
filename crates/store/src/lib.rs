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
mod confirmations;
mod documents;
mod error;
mod holder;
mod journal;
mod lease;
mod notices;
mod plans;
mod records;
mod runs;
mod samples;
mod schema;
mod slots;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, Transaction, TransactionBehavior};

pub use commands::PendingCommand;
pub use documents::Document;
pub use error::Error;
pub use holder::Holder;
pub use lease::{Lease, LeaseRecord};
pub use notices::{FEED, NewNotice, Notice, NoticeState, SENDING_MAX, Sending};
pub use plans::{AnyPlan, Approval, PlanRecord, Subject};
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
    fn read<T>(
        &self,
        what: &str,
        read: impl FnOnce(&Transaction<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(|e| self.error(what, e))?;
        let value = read(&transaction).map_err(|error| error.at(&self.path, what))?;
        transaction.commit().map_err(|e| self.error(what, e))?;
        Ok(value)
    }

    /// Reads and writes in one transaction that has the write lock from its beginning: what it
    /// read is still so when it writes. An error leaves everything as it was.
    fn write<T>(
        &self,
        what: &str,
        write: impl FnOnce(&Transaction<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use volutus_model::Observation;

    /// SQLite's limit on pages stands in for the end of the disk: the error is the same.
    #[test]
    fn a_full_disk_is_explained_and_undoes_the_whole_write() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let pages: i64 = store.connection().query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        store
            .connection()
            .pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0))
            .unwrap();
        let cloud = "cloud".parse().unwrap();
        let observation = Observation {
            at: Timestamp::UNIX_EPOCH,
            inventory: "x".repeat(100_000),
            hosts: Default::default(),
            daemons: Default::default(),
            schemas: Default::default(),
            backends: Default::default(),
            records: Default::default(),
            instances: volutus_model::Fact::unobserved("not asked"),
            instances_in_error: volutus_model::Fact::unobserved("not asked"),
            vif_types: volutus_model::Fact::unobserved("not asked"),
            pending_migrations: Default::default(),
            endpoints: Default::default(),
            environments: Default::default(),
        };
        let error = store.put_observation(&cloud, &observation).unwrap_err().to_string();
        assert!(error.contains("the disk is full; make room"), "{error}");
        assert!(error.contains(FILE) && error.contains("keep an observation"), "{error}");
        assert_eq!(store.latest_observation(&cloud).unwrap(), None);
    }

    #[test]
    fn a_file_that_may_only_be_read_is_explained() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.connection().pragma_update(None, "query_only", true).unwrap();
        let holder = Holder::this_process().unwrap();
        let taken = store.acquire_lease(
            &"cloud".parse().unwrap(),
            &holder,
            Timestamp::UNIX_EPOCH,
            std::time::Duration::from_secs(1),
        );
        let error = taken.unwrap_err().to_string();
        assert!(error.contains("may only be read"), "{error}");
    }

    /// What a write has begun in another process is waited for only so long.
    #[test]
    fn a_store_that_another_process_keeps_locked_is_explained() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.connection().busy_timeout(std::time::Duration::ZERO).unwrap();
        let other = Connection::open(directory.path().join(FILE)).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let holder = Holder::this_process().unwrap();
        let ttl = std::time::Duration::from_secs(1);
        let cloud = "cloud".parse().unwrap();
        let error = store.acquire_lease(&cloud, &holder, Timestamp::UNIX_EPOCH, ttl).unwrap_err().to_string();
        assert!(error.contains("another process has been writing"), "{error}");
        other.execute_batch("COMMIT").unwrap();
        store.acquire_lease(&cloud, &holder, Timestamp::UNIX_EPOCH, ttl).unwrap();
    }
}
