//! What is looked at again and again of runs, read once: a journal that has not grown says what it said.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use volutus_model::run::RunStatus;
use volutus_model::{Event, RunId};
use volutus_store::{RunRecord, Store};

use crate::commands::control::load;
use crate::commands::plan::store_error;
use crate::error::Result;

/// When a run of an upgrade was where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// When everything but the held stages was complete.
    pub rolled: Option<Timestamp>,
    /// When all of it was.
    pub succeeded: Option<Timestamp>,
}

/// What was read of one run, with the number of entries that its journal had.
type Kept<T> = Mutex<BTreeMap<RunId, (u64, T)>>;

/// What journals said when they were last read.
#[derive(Debug, Default)]
pub struct Glances {
    status: Kept<RunStatus>,
    times: Kept<Option<Times>>,
}

impl Glances {
    /// Where a run stands.
    pub fn status(&self, store: &Store, record: &RunRecord) -> Result<RunStatus> {
        glance(&self.status, record, || Ok(load(store, record)?.1.status))
    }

    /// When a run was where; `None` where it is none of an upgrade.
    pub fn times(&self, store: &Store, record: &RunRecord) -> Result<Option<Times>> {
        glance(&self.times, record, || {
            if !store.plan(&record.plan).map_err(store_error)?.kind.is_upgrade() {
                return Ok(None);
            }
            let mut times = Times::default();
            store
                .read_journal(&record.id, |entry| match entry.event {
                    Event::RollCompleted => times.rolled = Some(entry.at),
                    Event::Succeeded => times.succeeded = Some(entry.at),
                    _ => {}
                })
                .map_err(store_error)?;
            Ok(Some(times))
        })
    }
}

fn glance<T: Copy>(kept: &Kept<T>, record: &RunRecord, read: impl FnOnce() -> Result<T>) -> Result<T> {
    // Whoever broke off while it held the lock left nothing half written.
    let known = kept.lock().unwrap_or_else(PoisonError::into_inner).get(&record.id).copied();
    if let Some((entries, seen)) = known
        && entries == record.entries
    {
        return Ok(seen);
    }
    let seen = read()?;
    kept.lock().unwrap_or_else(PoisonError::into_inner).insert(record.id.clone(), (record.entries, seen));
    Ok(seen)
}
