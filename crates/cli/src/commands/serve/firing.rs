//! What schedules did, as the store keeps it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use volutus_model::event::Actor;
use volutus_model::run::RunStatus;
use volutus_model::{HostName, PlanId, RunId};
use volutus_schedule::Schedule;
use volutus_store::Store;

use crate::commands::glances::Glances;
use crate::commands::plan::store_error;
use crate::context::Context;
use crate::error::Result;

/// Times of a schedule that are remembered: more than the three months in which misses are told have.
const EARLIER_MAX: usize = 100;

/// What a schedule did last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firing {
    /// The time at which it was due.
    pub due: Timestamp,
    /// The run.
    pub run: RunId,
    /// Whether the run waits for the next opening, because the last one ended before it did.
    pub waits: bool,
    /// Times before at which it was due and was done.
    #[serde(default)]
    pub earlier: Vec<Timestamp>,
    /// Seconds by which the clock of schedules was ahead of the machine's: not 0 in tests alone.
    #[serde(default)]
    pub ahead_s: i64,
}

impl Firing {
    /// The next one of the same schedule.
    pub fn next(before: Option<Self>, due: Timestamp, run: RunId, ahead_s: i64) -> Self {
        let mut earlier = before.map_or_else(Vec::new, |before| {
            let mut earlier = before.earlier;
            earlier.push(before.due);
            earlier
        });
        earlier.drain(..earlier.len().saturating_sub(EARLIER_MAX));
        Self { due, run, waits: false, earlier, ahead_s }
    }

    /// Whether what was due at that time was done.
    pub fn did(&self, due: Timestamp) -> bool {
        self.due == due || self.earlier.contains(&due)
    }
}

/// What is about to be begun, kept before it is: a server that ends in between finds the run that it
/// made, and makes no second one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The time at which it is due.
    pub due: Timestamp,
    /// The plan, which has no run yet.
    pub plan: PlanId,
    /// When the run has to be at a safe point.
    pub until: Option<Timestamp>,
    /// Whose run it is.
    pub actor: Actor,
}

/// A run that the server carries out, kept so that its successor goes on with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// The run.
    pub run: RunId,
    /// Whose it is.
    pub actor: Actor,
    /// When it has to be at a safe point.
    pub until: Option<Timestamp>,
    /// The schedule that it is of.
    pub schedule: Option<String>,
}

/// Where all of it is.
#[derive(Debug, Clone)]
pub struct Deeds {
    store: Store,
    cloud: HostName,
}

impl Deeds {
    /// Of the cloud of a context.
    pub fn of(context: &Context, store: &Store) -> Self {
        Self { store: store.clone(), cloud: context.inventory.name.clone() }
    }

    fn kind(&self, what: &str) -> String {
        format!("{what}/{}", self.cloud)
    }

    /// What each schedule did last, by its name.
    pub fn firings(&self) -> Result<BTreeMap<String, Firing>> {
        let all = self.store.documents::<Firing>(&self.kind("firing")).map_err(store_error)?;
        Ok(all.into_iter().map(|document| (document.key, document.body)).collect())
    }

    /// Keeps what a schedule did last.
    pub fn keep_firing(&self, schedule: &str, firing: Firing) -> Result<()> {
        self.put("firing", schedule, firing)
    }

    /// Forgets what a schedule did last.
    pub fn forget_firing(&self, schedule: &str) -> Result<()> {
        self.remove("firing", schedule)
    }

    /// What is about to be begun by which schedule.
    pub fn intents(&self) -> Result<BTreeMap<String, Intent>> {
        let all = self.store.documents::<Intent>(&self.kind("intent")).map_err(store_error)?;
        Ok(all.into_iter().map(|document| (document.key, document.body)).collect())
    }

    /// Keeps what is about to be begun.
    pub fn keep_intent(&self, schedule: &str, intent: Intent) -> Result<()> {
        self.put("intent", schedule, intent)
    }

    /// It has been begun, or is not to be.
    pub fn forget_intent(&self, schedule: &str) -> Result<()> {
        self.remove("intent", schedule)
    }

    /// The run that is carried out.
    pub fn carried(&self) -> Result<Option<Carried>> {
        let all = self.store.documents::<Carried>(&self.kind("carried")).map_err(store_error)?;
        Ok(all.into_iter().next().map(|document| document.body))
    }

    /// Keeps which run is carried out.
    pub fn keep_carried(&self, carried: Carried) -> Result<()> {
        self.put("carried", "run", carried)
    }

    /// None is any more.
    pub fn forget_carried(&self) -> Result<()> {
        self.remove("carried", "run")
    }

    fn put<T: Serialize>(&self, what: &str, key: &str, body: T) -> Result<()> {
        let document = [(key.to_owned(), body)];
        self.store.put_documents(&self.kind(what), &document, Context::now()).map_err(store_error)
    }

    fn remove(&self, what: &str, key: &str) -> Result<()> {
        self.store.remove_document(&self.kind(what), key).map(|_| ()).map_err(store_error)
    }

    /// Schedules that are held, with the reason: what they did last did not go well, or stands still and
    /// waits for nothing. Removing and adding one again releases it.
    pub fn held(&self, schedules: &[Schedule], glances: &Glances) -> Result<BTreeMap<String, String>> {
        let mut held = BTreeMap::new();
        let is_worked_on = self.carried()?.is_some()
            || self.store.lease(&self.cloud, Context::now()).map_err(store_error)?.is_some();
        for (name, firing) in self.firings()? {
            if !schedules.iter().any(|schedule| schedule.name == name && schedule.since <= firing.due) {
                continue;
            }
            let record = self.store.run(&firing.run).map_err(store_error)?;
            let status = glances.status(&self.store, &record)?;
            let is_bad = match status {
                RunStatus::Aborted | RunStatus::Aborting | RunStatus::Halted => true,
                RunStatus::Running | RunStatus::Paused => !firing.waits && !is_worked_on,
                RunStatus::AwaitingFinalize | RunStatus::Succeeded => false,
            };
            if is_bad {
                held.insert(name, format!("its run {} is {status}", record.id));
            }
        }
        Ok(held)
    }
}
