//! The lease of a cloud: one process at a time works on it.
//!
//! The epoch grows with every new holder. It fences: whoever appends under an older epoch is
//! refused, so that a process that was thought dead and is not cannot write into the journal of
//! the one that took over.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{OptionalExtension as _, Transaction, params};
use volutus_model::name::HostName;

use crate::error::Error;
use crate::holder::Holder;
use crate::{Store, records};

/// A lease that somebody holds, or held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The cloud.
    pub cloud: HostName,
    /// Who holds it.
    pub holder: Holder,
    /// The fencing number; grows by one with every new holder.
    pub epoch: u64,
}

/// A lease as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Who holds it, or held it last.
    pub holder: Holder,
    /// Its fencing number.
    pub epoch: u64,
    /// Whether it is held, that is not released.
    pub held: bool,
    /// Since when.
    pub since: Timestamp,
    /// When it was last renewed.
    pub heartbeat: Timestamp,
    /// How long after its last renewal others may take it.
    pub ttl: Duration,
}

impl Store {
    /// Takes the lease of a cloud. A holder that is known to have ended, or that has not renewed
    /// its lease for its time to live, is replaced.
    ///
    /// # Errors
    /// [`Error::LeaseHeld`] while another process holds it.
    pub fn acquire_lease(
        &self,
        cloud: &HostName,
        holder: &Holder,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Lease, Error> {
        let body = records::encode("a holder", holder)?;
        self.write("take a lease", |transaction| {
            let current = read_lease(transaction, cloud)?;
            if let Some(current) = &current
                && current.held
                && !has_run_out(current, now)
                && !current.holder.is_dead()
            {
                return Err(Error::LeaseHeld {
                    cloud: cloud.clone(),
                    holder: current.holder.to_string(),
                    since: current.since,
                    heartbeat: current.heartbeat,
                });
            }
            let epoch = current.map_or(1, |current| current.epoch + 1);
            transaction.execute(
                "INSERT INTO lease (cloud, epoch, holder, held, since, heartbeat, ttl_ms)
                 VALUES (?1, ?2, ?3, 1, ?4, ?4, ?5)
                 ON CONFLICT (cloud) DO UPDATE SET epoch = excluded.epoch, holder = excluded.holder,
                     held = 1, since = excluded.since, heartbeat = excluded.heartbeat,
                     ttl_ms = excluded.ttl_ms",
                params![cloud.as_str(), epoch, body, now.to_string(), millis(ttl)],
            )?;
            Ok(Lease { cloud: cloud.clone(), holder: holder.clone(), epoch })
        })
    }

    /// Renews a lease. One that has run out and that nobody has taken is renewed all the same.
    ///
    /// # Errors
    /// [`Error::Fenced`] where somebody has taken it.
    pub fn renew_lease(&self, lease: &Lease, now: Timestamp) -> Result<(), Error> {
        self.write("renew a lease", |transaction| {
            check_lease(transaction, lease)?;
            transaction.execute(
                "UPDATE lease SET heartbeat = ?2 WHERE cloud = ?1",
                params![lease.cloud.as_str(), now.to_string()],
            )?;
            Ok(())
        })
    }

    /// Gives a lease back. One that somebody else has taken since stays with them.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn release_lease(&self, lease: &Lease) -> Result<(), Error> {
        self.write("release a lease", |transaction| {
            transaction.execute(
                "UPDATE lease SET held = 0 WHERE cloud = ?1 AND epoch = ?2",
                params![lease.cloud.as_str(), lease.epoch],
            )?;
            Ok(())
        })
    }

    /// Who works on a cloud at `now`: `None` where nobody does, a holder that is known to have
    /// ended or whose lease has run out included.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn lease(&self, cloud: &HostName, now: Timestamp) -> Result<Option<LeaseRecord>, Error> {
        let current = self.read("read a lease", |transaction| read_lease(transaction, cloud))?;
        Ok(current.filter(|lease| lease.held && !has_run_out(lease, now) && !lease.holder.is_dead()))
    }
}

fn millis(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)
}

fn has_run_out(lease: &LeaseRecord, now: Timestamp) -> bool {
    let ttl = SignedDuration::try_from(lease.ttl).unwrap_or(SignedDuration::MAX);
    now.duration_since(lease.heartbeat) > ttl
}

fn read_lease(transaction: &Transaction<'_>, cloud: &HostName) -> Result<Option<LeaseRecord>, Error> {
    type Raw = (u64, String, bool, String, String, u64);
    let row: Option<Raw> = transaction
        .query_row(
            "SELECT epoch, holder, held, since, heartbeat, ttl_ms FROM lease WHERE cloud = ?1",
            [cloud.as_str()],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?)),
        )
        .optional()?;
    row.map(|(epoch, holder, held, since, heartbeat, ttl_ms)| {
        Ok(LeaseRecord {
            holder: records::decode("the holder of a lease", &holder)?,
            epoch,
            held,
            since: records::name("time", &since)?,
            heartbeat: records::name("time", &heartbeat)?,
            ttl: Duration::from_millis(ttl_ms),
        })
    })
    .transpose()
}

/// Refuses a lease that is no longer the current one.
pub(crate) fn check_lease(transaction: &Transaction<'_>, lease: &Lease) -> Result<(), Error> {
    let current = read_lease(transaction, &lease.cloud)?;
    match current {
        Some(current) if current.held && current.epoch == lease.epoch => Ok(()),
        other => Err(Error::Fenced {
            cloud: lease.cloud.clone(),
            epoch: lease.epoch,
            current: other.as_ref().map_or(0, |current| current.epoch),
            holder: other
                .filter(|current| current.held)
                .map_or("nobody".to_owned(), |current| current.holder.to_string()),
        }),
    }
}
