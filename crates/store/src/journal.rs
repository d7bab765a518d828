//! Journals: appended to by the holder of the lease alone, without gaps, as a chain of hashes.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Transaction, params};
use volutus_model::event::{Actor, Event, JournalEntry};
use volutus_model::name::RunId;

use crate::error::Error;
use crate::lease::{Lease, check_lease};
use crate::runs::read_run;
use crate::{Store, records};

/// The format version of the entries that this Volutus writes.
const FORMAT: u32 = 1;

impl Store {
    /// Appends events to a run's journal, all of them or none, and durably: when this returns,
    /// a loss of power does not undo it.
    ///
    /// # Errors
    /// [`Error::Fenced`] where the lease is no longer the current one of the run's cloud;
    /// nothing was written then.
    pub fn append(
        &self,
        lease: &Lease,
        run: &RunId,
        actor: &Actor,
        at: Timestamp,
        events: &[Event],
    ) -> Result<Vec<JournalEntry>, Error> {
        self.write("append to a journal", |transaction| {
            check_lease(transaction, lease)?;
            append_events(transaction, lease, run, actor, at, events)
        })
    }

    /// A run's journal from that position on.
    ///
    /// # Errors
    /// [`Error::Unreadable`] for an entry that is none.
    pub fn journal(&self, run: &RunId, from_seq: u64) -> Result<Vec<JournalEntry>, Error> {
        self.read("read a journal", |transaction| {
            let mut entries = Vec::new();
            each_entry(transaction, run, from_seq, |seq, body| {
                entries.push(records::decode(&format!("entry {seq} of run {run}"), body)?);
                Ok(())
            })?;
            Ok(entries)
        })
    }

    /// Looks through a run's whole journal: whether positions have gaps, whether every entry
    /// carries the hash of the one before, and whether the last one is the one that was written
    /// last.
    ///
    /// # Errors
    /// [`Error::ChainBroken`] with the first entry that does not fit.
    pub fn verify_journal(&self, run: &RunId) -> Result<(), Error> {
        self.read_journal(run, |_| {})
    }

    /// Hands out a run's whole journal, entry by entry and never all of it at once, while it is
    /// verified as by [`Store::verify_journal`]. What was made of entries that were handed out is
    /// worth nothing when this fails.
    ///
    /// # Errors
    /// [`Error::ChainBroken`] with the first entry that does not fit.
    pub fn read_journal(&self, run: &RunId, mut take: impl FnMut(JournalEntry)) -> Result<(), Error> {
        self.read("verify a journal", |transaction| {
            let broken = |seq, why: String| Error::ChainBroken { run: run.clone(), seq, why };
            let mut expected = (0, String::new());
            each_entry(transaction, run, 0, |seq, body| {
                if seq != expected.0 {
                    return Err(broken(expected.0, "it is missing".to_owned()));
                }
                let entry: JournalEntry = serde_json::from_str(body)
                    .map_err(|error| broken(seq, format!("it cannot be read: {error}")))?;
                if entry.seq != seq || entry.run != *run {
                    return Err(broken(seq, "it says that it belongs elsewhere".to_owned()));
                }
                if entry.prev_hash != expected.1 {
                    return Err(broken(seq, "the one before is not the one that it followed".to_owned()));
                }
                expected = (seq + 1, entry.compute_hash());
                take(entry);
                Ok(())
            })?;
            let head = read_head(transaction, run)?;
            if head != expected {
                let why = "it is not the one that was written last there".to_owned();
                return Err(broken(expected.0.saturating_sub(1), why));
            }
            Ok(())
        })
    }
}

fn each_entry(
    transaction: &Transaction<'_>,
    run: &RunId,
    from_seq: u64,
    mut take: impl FnMut(u64, &str) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut statement = transaction
        .prepare_cached("SELECT seq, body FROM journal WHERE run = ?1 AND seq >= ?2 ORDER BY seq")?;
    let mut rows = statement.query(params![run.as_str(), from_seq])?;
    while let Some(row) = rows.next()? {
        take(row.get(0)?, row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)?;
    }
    Ok(())
}

fn read_head(transaction: &Transaction<'_>, run: &RunId) -> Result<(u64, String), Error> {
    transaction
        .prepare_cached("SELECT next_seq, head_hash FROM run WHERE id = ?1")?
        .query_row([run.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?
        .ok_or_else(|| Error::NotFound { kind: "run", sought: run.to_string(), known: Vec::new() })
}

/// Appends under a lease that the same transaction has checked.
pub(crate) fn append_events(
    transaction: &Transaction<'_>,
    lease: &Lease,
    run: &RunId,
    actor: &Actor,
    at: Timestamp,
    events: &[Event],
) -> Result<Vec<JournalEntry>, Error> {
    let cloud = read_run(transaction, run)?.cloud;
    if cloud != lease.cloud {
        return Err(Error::Fenced {
            cloud,
            epoch: lease.epoch,
            current: 0,
            holder: "a lease of that cloud".to_owned(),
        });
    }
    let (mut seq, mut prev_hash) = read_head(transaction, run)?;
    let mut insert =
        transaction.prepare_cached("INSERT INTO journal (run, seq, body) VALUES (?1, ?2, ?3)")?;
    let mut entries = Vec::with_capacity(events.len());
    let mut ended = false;
    for event in events {
        let entry = JournalEntry {
            format: FORMAT,
            run: run.clone(),
            seq,
            epoch: lease.epoch,
            at,
            actor: actor.clone(),
            prev_hash,
            event: event.clone(),
        };
        insert.execute(params![run.as_str(), seq, records::encode("a journal entry", &entry)?])?;
        ended |= matches!(event, Event::Aborted { .. } | Event::Succeeded);
        prev_hash = entry.compute_hash();
        seq += 1;
        entries.push(entry);
    }
    transaction
        .prepare_cached("UPDATE run SET next_seq = ?2, head_hash = ?3, ended = max(ended, ?4) WHERE id = ?1")?
        .execute(params![run.as_str(), seq, prev_hash, ended])?;
    Ok(entries)
}
