//! The imperative shell that binds engine, store, drivers, prober, clock and lease.
//!
//! [`Runtime::execute`] is the one loop of a run: it takes the lease, folds the journal, and
//! feeds the engine with whatever happens (outcomes, commands, probe samples, interrupts).
//! Every event is durable before the effect that follows from it is started. The loop decides
//! nothing itself.
//!
//! What a crash leaves behind is a journal with attempts that have no outcome; the next
//! `execute` takes them up under the same ids.

mod attempts;
mod error;
mod interrupts;
mod pressure;
mod probes;
mod report;
mod session;
mod standing;
mod watch;
mod way_back;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::mpsc;
use uuid::Uuid;
use volutus_engine::ports::Driver;
use volutus_model::event::Actor;
use volutus_model::name::RunId;
use volutus_model::run::RunStatus;
use volutus_store::{Holder, Store};

pub use error::Error;
pub use interrupts::interrupts;
pub use probes::{Probe, Probes};
pub use report::{Reporter, Silent};
pub use standing::{ANSWER_LIMIT, Standing, ask};
pub use way_back::{PlanFuture, PlanWayBack};

/// Tells the time; the system's, except in tests.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How long a lease outlives its last renewal. Another machine waits this long before it takes
/// over; on the same machine the end of a process is seen at once.
const LEASE_TTL: Duration = Duration::from_secs(30);

/// How often the lease is renewed: six chances before it runs out.
const LEASE_RENEWAL: Duration = Duration::from_secs(5);

/// How often the store is asked for commands: quick for a person who waits, and cheap.
const COMMAND_POLL: Duration = Duration::from_millis(500);

/// How often a progress display is given the chance to move.
const TICK: Duration = Duration::from_millis(200);

/// How often samples are written: one sync of the disk per second, and at most a second of
/// samples lost in a crash.
const SAMPLE_FLUSH: Duration = Duration::from_secs(1);

/// What one Volutus process needs in order to carry out runs.
#[derive(Clone)]
pub struct Runtime {
    store: Store,
    driver: Arc<dyn Driver>,
    holder: Holder,
    actor: Actor,
    clock: Clock,
}

impl Runtime {
    /// A runtime that works as `holder`, on behalf of `actor`.
    pub fn new(store: Store, driver: Arc<dyn Driver>, holder: Holder, actor: Actor) -> Self {
        Self { store, driver, holder, actor, clock: Arc::new(Timestamp::now) }
    }

    /// The same with another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Carries out a run until it is at its end, halted or paused with nothing under way, or
    /// waits for `finalize`; and says where it stands then. Where the policy has
    /// `finalize_after_s`, a rolled cloud is watched for so long and then finalized; that needs
    /// `probes`. Commands that wait for it in the
    /// store are carried out first, so that this is also how a run is resumed, finalized or
    /// aborted.
    ///
    /// The first message on `interrupts` pauses the run and lets running steps end; the second
    /// one leaves everything as it is.
    ///
    /// # Errors
    /// [`Error::Store`] with [`volutus_store::Error::LeaseHeld`] where another process works on
    /// the cloud; [`Error::LeaseLost`] and [`Error::Interrupted`], which leave attempts under
    /// way to whoever takes the run up; [`Error::Engine`] where plan and journal do not fit.
    pub async fn execute(
        &self,
        run: &RunId,
        probes: Option<&mut Probes>,
        interrupts: &mut mpsc::Receiver<()>,
        reporter: &mut dyn Reporter,
    ) -> Result<RunStatus, Error> {
        session::execute(self, run, probes, interrupts, reporter).await
    }

    /// Keeps what the prober still delivers after [`Runtime::execute`], until it has stopped.
    ///
    /// # Errors
    /// Where samples cannot be written.
    pub async fn keep_last_samples(
        &self,
        run: &RunId,
        probes: &mut Probes,
        reporter: &mut dyn Reporter,
    ) -> Result<(), Error> {
        let mut batch = Vec::new();
        while probes.samples.recv_many(&mut batch, probes::BATCH_MAX).await > 0 {
            let requests: Vec<_> = batch.iter().filter(|sample| sample.is_request()).cloned().collect();
            reporter.samples(&requests);
            let samples = std::mem::take(&mut batch);
            let run = run.clone();
            session::blocking(&self.store, move |store| store.append_samples(&run, &samples)).await?;
        }
        Ok(())
    }
}

/// An id for a new run: the time in UTC, so that ids sort and people can read them, and six
/// random digits against two runs of one minute.
///
/// # Errors
/// [`Error::RunId`] for a time far outside of history, whose year does not make a name.
pub fn new_run_id(now: Timestamp) -> Result<RunId, Error> {
    let random = Uuid::new_v4().simple().to_string();
    let time = now.to_zoned(TimeZone::UTC).strftime("%Y%m%d-%H%M").to_string();
    RunId::new(format!("{time}-{}", &random[..6])).map_err(Error::RunId)
}
