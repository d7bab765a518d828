//! The attempts that are under way in this process.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use volutus_engine::ports::{Driver, Order};
use volutus_model::name::AttemptId;
use volutus_model::outcome::Outcome;

/// So much longer than the order allows an attempt may take. Drivers end an attempt in time by
/// themselves, with evidence; this is for one that hangs, of which nothing is known then.
const GRACE: Duration = Duration::from_secs(60);

/// Words of attempts that wait for the display; what does not fit is dropped, for it is only
/// progress.
const SAYINGS_MAX: usize = 256;

/// Attempts under way. Dropping this stops all of them where they are.
pub(crate) struct Attempts {
    driver: Arc<dyn Driver>,
    set: JoinSet<Outcome>,
    ids: HashMap<Id, AttemptId>,
    say: mpsc::Sender<(AttemptId, String)>,
}

impl Attempts {
    pub fn new(driver: Arc<dyn Driver>) -> (Self, mpsc::Receiver<(AttemptId, String)>) {
        let (say, sayings) = mpsc::channel(SAYINGS_MAX);
        (Self { driver, set: JoinSet::new(), ids: HashMap::new(), say }, sayings)
    }

    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    pub fn start(&mut self, order: Order, pause: Duration) {
        let (driver, say) = (Arc::clone(&self.driver), self.say.clone());
        let attempt = order.attempt.clone();
        let running = self.set.spawn(async move {
            // A timer of zero still waits for the timer's next millisecond.
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let limit = Duration::from_secs(u64::from(order.timeout_s)) + GRACE;
            let speak = |text: String| {
                let _ = say.try_send((order.attempt.clone(), text));
            };
            match tokio::time::timeout(limit, driver.perform(&order, &speak)).await {
                Ok(outcome) => outcome,
                Err(_) => Outcome::Unknown {
                    why: format!(
                        "it was allowed {} s, and did not end {} s later",
                        order.timeout_s,
                        GRACE.as_secs()
                    ),
                },
            }
        });
        self.ids.insert(running.id(), attempt);
    }

    /// Stops all attempts where they are, and waits until they have.
    pub async fn stop(&mut self) {
        self.set.shutdown().await;
        self.ids.clear();
    }

    /// Waits for the next attempt to end; `None` where none is under way. May be cancelled.
    pub async fn next(&mut self) -> Option<(AttemptId, Outcome)> {
        let ended = self.set.join_next_with_id().await?;
        self.outcome(ended)
    }

    /// An attempt that has ended already.
    pub fn try_next(&mut self) -> Option<(AttemptId, Outcome)> {
        let ended = self.set.try_join_next_with_id()?;
        self.outcome(ended)
    }

    /// A driver that panicked has left nobody knows what: the attempt is looked for again.
    fn outcome(&mut self, ended: Result<(Id, Outcome), JoinError>) -> Option<(AttemptId, Outcome)> {
        let (id, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) => (error.id(), Outcome::Unknown { why: format!("the driver broke off: {error}") }),
        };
        self.ids.remove(&id).map(|attempt| (attempt, outcome))
    }
}
