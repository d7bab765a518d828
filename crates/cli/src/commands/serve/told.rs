//! What people are told of schedules: ahead of a run, of what was missed, of what is held.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinHandle;
use volutus_model::{Plan, RunId};
use volutus_notices::{Facts, Moment, Occurrence, What};
use volutus_schedule::Schedule;
use volutus_store::Store;

use crate::commands::notice::{Notices, plan_facts};
use crate::commands::plan::store_error;
use crate::context::Context;
use crate::error::Result;

/// What is being sent when the server ends may hold it up for so long: a mail server's answer is waited
/// for 20 s. What is cut off counts as unsure, and is not sent again by itself.
const LAST_WORDS: Duration = Duration::from_secs(25);

/// Tells, once each.
pub struct Told {
    context: Arc<Context>,
    store: Store,
    /// What this process has queued; what an earlier one has, the queue knows.
    queued: BTreeSet<String>,
    sending: Option<JoinHandle<()>>,
}

impl Told {
    /// Nothing is told yet.
    pub const fn new(context: Arc<Context>, store: Store) -> Self {
        Self { context, store, queued: BTreeSet::new(), sending: None }
    }

    /// Whether this process has told it.
    pub fn has_told(&self, moment: Moment, schedule: &str, due: Timestamp) -> bool {
        self.queued.contains(&key(moment, schedule, due))
    }

    /// Tells users that a plan is carried out then.
    pub fn before(&mut self, schedule: &str, due: Timestamp, plan: &Plan, begins: Timestamp) -> Result<()> {
        let store = self.store.clone();
        self.tell(Moment::Before, schedule, due, || plan_facts(&store, plan, Moment::Before, begins))
    }

    /// Tells operators that something was due and was not done.
    pub fn missed(&mut self, schedule: &Schedule, due: Timestamp, cause: String) -> Result<()> {
        let cloud = self.context.inventory.name.to_string();
        self.tell(Moment::Missed, &schedule.name, due, || {
            Ok(Facts {
                cloud,
                moment: Moment::Missed,
                what: What::Upgrade,
                plan: String::new(),
                run: None,
                from: String::new(),
                to: schedule.to.map(|series| series.to_string()).unwrap_or_default(),
                begins: due,
                ended: None,
                expected_s: 0,
                services: Vec::new(),
                instances: Vec::new(),
                requests: None,
                cause: Some(cause),
                schedule: None,
                release: None,
            })
        })
    }

    /// Tells operators that a schedule is held because of a run.
    pub fn held(&mut self, schedule: &str, due: Timestamp, run: &RunId, cause: &str) -> Result<()> {
        let store = self.store.clone();
        self.tell(Moment::Held, schedule, due, || {
            let record = store.run(run).map_err(store_error)?;
            let plan = store.plan(&record.plan).map_err(store_error)?;
            let facts = plan_facts(&store, &plan, Moment::Held, record.created_at)?;
            Ok(Facts { run: Some(run.to_string()), cause: Some(cause.to_owned()), ..facts })
        })
    }

    fn tell(
        &mut self,
        moment: Moment,
        schedule: &str,
        due: Timestamp,
        facts: impl FnOnce() -> Result<Facts>,
    ) -> Result<()> {
        if self.has_told(moment, schedule, due) {
            return Ok(());
        }
        let Some(notices) = Notices::load(&self.context, &self.store)? else { return Ok(()) };
        let occurrence = Occurrence { name: schedule.to_owned(), due };
        notices.queue(&Facts { schedule: Some(occurrence), ..facts()? })?;
        self.queued.insert(key(moment, schedule, due));
        Ok(())
    }

    /// Sends what is due, beside everything else.
    pub fn send_due(&mut self) -> Result<()> {
        let cloud = self.context.inventory.name.as_str();
        let busy = self.sending.as_ref().is_some_and(|sending| !sending.is_finished());
        if busy || !self.store.is_notice_due(cloud, Context::now()).map_err(store_error)? {
            return Ok(());
        }
        let Some(notices) = Notices::load(&self.context, &self.store)? else { return Ok(()) };
        self.sending = Some(tokio::spawn(async move {
            if let Err(error) = notices.deliver().await {
                tracing::warn!("notices wait: {}", error.message);
            }
        }));
        Ok(())
    }

    /// Waits for what is being sent.
    pub async fn finish(self) {
        if let Some(sending) = self.sending
            && tokio::time::timeout(LAST_WORDS, sending).await.is_err()
        {
            tracing::warn!("a notice was being sent when the server ended: `volutus notice list`");
        }
    }
}

fn key(moment: Moment, schedule: &str, due: Timestamp) -> String {
    format!("{schedule}/{due}/{moment}")
}
