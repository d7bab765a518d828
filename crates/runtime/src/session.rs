//! One process's part in one run: from taking the lease to giving it back.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use volutus_engine::{Command, Decision, Effect, Input, Machine, PlanIndex};
use volutus_model::event::{Actor, JournalEntry};
use volutus_model::name::{AttemptId, RunId, StepId};
use volutus_model::outcome::Outcome;
use volutus_model::probe::Sample;
use volutus_model::run::RunStatus;
use volutus_store::{Lease, PendingCommand, Store};

use crate::attempts::Attempts;
use crate::error::Error;
use crate::pressure::Pressure;
use crate::probes::{BATCH_MAX, Probes};
use crate::report::Reporter;
use crate::watch::Watch;
use crate::{COMMAND_POLL, LEASE_RENEWAL, LEASE_TTL, Runtime, SAMPLE_FLUSH, TICK};

/// So many outcomes are recorded in one transaction at the most: a plan of many short steps is
/// not slowed down by the disk, and one transaction stays small.
const OUTCOMES_MAX: usize = 64;

/// Puts a call that waits for the disk onto a thread where waiting harms nobody: the prober's
/// timing shares the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(
    store: &Store,
    call: impl FnOnce(&Store) -> Result<T, volutus_store::Error> + Send + 'static,
) -> Result<T, Error> {
    let store = store.clone();
    let done = tokio::task::spawn_blocking(move || call(&store)).await.map_err(Error::Broken)?;
    Ok(done?)
}

/// Gives the lease back when the session ends, however it ends: a process that lives on must
/// not keep a cloud that it no longer works on.
struct Held {
    store: Store,
    lease: Lease,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(error) = self.store.release_lease(&self.lease) {
            tracing::warn!(%error, "the lease was not given back; it runs out by itself");
        }
    }
}

/// Whatever the loop can be woken by.
enum Wake {
    Interrupt,
    Renewal,
    Ended(AttemptId, Outcome),
    CommandPoll,
    Samples(Vec<Sample>),
    Say(AttemptId, String),
    Flush,
    Tick,
}

struct Session<'a> {
    runtime: &'a Runtime,
    run: RunId,
    machine: Machine,
    // Before `held`, so that attempts are stopped before the lease is given back.
    attempts: Attempts,
    held: Held,
    renewed: Instant,
    watch: Watch,
    pressure: Option<Pressure>,
    probes: Option<&'a mut Probes>,
    steps_told: Vec<StepId>,
    samples: Vec<Sample>,
    interrupted: bool,
    /// Since when the rolled cloud has been watched by this process, on its way to being finalized
    /// by the policy.
    rolled_since: Option<Timestamp>,
    reporter: &'a mut dyn Reporter,
}

pub(crate) async fn execute(
    runtime: &Runtime,
    run: &RunId,
    probes: Option<&mut Probes>,
    interrupts: &mut mpsc::Receiver<()>,
    reporter: &mut dyn Reporter,
) -> Result<RunStatus, Error> {
    let id = run.clone();
    let (record, plan) = blocking(&runtime.store, move |store| {
        let record = store.run(&id)?;
        let plan = store.plan(&record.plan)?;
        Ok((record, plan))
    })
    .await?;
    let engine = |source| Error::Engine { run: run.clone(), source };
    let index = Arc::new(PlanIndex::new(Arc::new(plan)).map_err(engine)?);

    let (holder, now) = (runtime.holder.clone(), (runtime.clock)());
    let lease =
        blocking(&runtime.store, move |store| store.acquire_lease(&record.cloud, &holder, now, LEASE_TTL))
            .await?;
    let held = Held { store: runtime.store.clone(), lease };
    let (attempts, sayings) = Attempts::new(Arc::clone(&runtime.driver));
    let mut session = Session {
        runtime,
        run: run.clone(),
        machine: Machine::new(run.clone(), Arc::clone(&index)),
        attempts,
        held,
        renewed: Instant::now(),
        watch: Watch::new(index.plan()),
        pressure: Pressure::new(index.plan()),
        probes,
        steps_told: Vec::new(),
        samples: Vec::new(),
        interrupted: false,
        rolled_since: None,
        reporter,
    };
    let result = session.carry_out(interrupts, sayings).await;
    // Nothing of this session is at work any more when the lease goes back.
    session.attempts.stop().await;
    // What was seen is kept whatever ended the session; its own error matters more than one here.
    match (result, session.flush().await) {
        (Ok(status), flushed) => flushed.map(|()| status),
        (Err(error), _) => Err(error),
    }
}

impl Session<'_> {
    async fn carry_out(
        &mut self,
        interrupts: &mut mpsc::Receiver<()>,
        mut sayings: mpsc::Receiver<(AttemptId, String)>,
    ) -> Result<RunStatus, Error> {
        self.load().await?;
        let holder = self.runtime.holder.to_string();
        let begun = self.machine.has_begun();
        let input = if begun { Input::TakeUp { holder } } else { Input::Begin { holder } };
        self.decide(vec![input], self.runtime.actor.clone()).await?;
        let mut timers = Timers::new();
        let mut interruptible = true;
        loop {
            if self.machine.is_at_rest() {
                self.obey().await?;
                self.finalize_by_policy().await?;
                if self.machine.is_at_rest() && !self.lingers() {
                    return Ok(self.machine.state().status);
                }
            }
            if self.attempts.is_empty() && !self.lingers() {
                return Err(Error::Stuck { run: self.run.clone() });
            }
            match self.wake(interrupts, &mut interruptible, &mut sayings, &mut timers).await {
                Wake::Interrupt => self.interrupt().await?,
                Wake::Renewal => self.renew().await?,
                Wake::Ended(attempt, outcome) => self.finish(attempt, outcome).await?,
                Wake::CommandPoll => self.obey().await?,
                Wake::Samples(samples) => self.take_samples(samples).await?,
                Wake::Say(attempt, text) => self.reporter.say(&attempt, &text),
                Wake::Flush => self.flush().await?,
                Wake::Tick => self.reporter.tick(self.machine.state()),
            }
        }
    }

    async fn wake(
        &mut self,
        interrupts: &mut mpsc::Receiver<()>,
        interruptible: &mut bool,
        sayings: &mut mpsc::Receiver<(AttemptId, String)>,
        timers: &mut Timers,
    ) -> Wake {
        loop {
            let probes = &mut self.probes;
            let samples = async {
                let Some(probes) = probes.as_mut() else { return std::future::pending().await };
                let mut batch = Vec::new();
                probes.samples.recv_many(&mut batch, BATCH_MAX).await;
                batch
            };
            // In the order of urgency: a person's interrupt and the lease before everything.
            tokio::select! {
                biased;
                interrupt = interrupts.recv(), if *interruptible => match interrupt {
                    Some(()) => return Wake::Interrupt,
                    None => *interruptible = false,
                },
                _ = timers.renewal.tick() => return Wake::Renewal,
                _ = timers.tick.tick() => return Wake::Tick,
                _ = timers.commands.tick() => return Wake::CommandPoll,
                _ = timers.flush.tick() => return Wake::Flush,
                Some((attempt, outcome)) = self.attempts.next() => return Wake::Ended(attempt, outcome),
                Some((attempt, text)) = sayings.recv() => return Wake::Say(attempt, text),
                batch = samples => {
                    if !batch.is_empty() {
                        return Wake::Samples(batch);
                    }
                    // The prober has stopped.
                    self.probes = None;
                }
            }
        }
    }

    /// Folds the journal, after looking whether it is whole.
    async fn load(&mut self) -> Result<(), Error> {
        let (run, mut machine, mut watch) = (self.run.clone(), self.machine.clone(), self.watch.clone());
        let (machine, watch, refused) = blocking(&self.runtime.store, move |store| {
            let mut refused = None;
            store.read_journal(&run, |entry| {
                if refused.is_none() {
                    refused = machine.fold(&entry).err();
                    watch.follow(&entry);
                }
            })?;
            Ok((machine, watch, refused))
        })
        .await?;
        if let Some(source) = refused {
            return Err(self.engine_error(source));
        }
        (self.machine, self.watch) = (machine, watch);
        if let Some(since_us) = self.watch.since_us() {
            let run = self.run.clone();
            let (failed, total) =
                blocking(&self.runtime.store, move |store| store.count_samples(&run, since_us)).await?;
            self.watch.take_over(failed, total);
        }
        if let Some(mut pressure) = self.pressure.take() {
            let run = self.run.clone();
            let mut earlier = blocking(&self.runtime.store, move |store| store.samples(&run)).await?;
            earlier.retain(Sample::is_request);
            // What an earlier process held has ended with it; only its baseline is of use.
            pressure.learn(&earlier);
            self.pressure = Some(pressure);
        }
        Ok(())
    }

    fn engine_error(&self, source: volutus_engine::Error) -> Error {
        Error::Engine { run: self.run.clone(), source }
    }

    /// Steps the engine, records what follows, and then does it.
    async fn decide(&mut self, inputs: Vec<Input>, actor: Actor) -> Result<(), Error> {
        let at = (self.runtime.clock)();
        let mut whole = Decision::default();
        for input in inputs {
            let decision = self.machine.step(input, at).map_err(|source| self.engine_error(source))?;
            whole.events.extend(decision.events);
            whole.effects.extend(decision.effects);
        }
        if whole.events.is_empty() {
            return Ok(());
        }
        let (lease, run, events) = (self.held.lease.clone(), self.run.clone(), whole.events);
        let entries = self.append(move |store| store.append(&lease, &run, &actor, at, &events)).await?;
        self.follow_up(&entries, whole.effects);
        Ok(())
    }

    async fn append<T: Send + 'static>(
        &mut self,
        call: impl FnOnce(&Store) -> Result<T, volutus_store::Error> + Send + 'static,
    ) -> Result<T, Error> {
        blocking(&self.runtime.store, call).await.map_err(|error| match error {
            Error::Store(source @ volutus_store::Error::Fenced { .. }) => {
                Error::LeaseLost { run: self.run.clone(), source }
            }
            other => other,
        })
    }

    /// What follows once entries are durable.
    fn follow_up(&mut self, entries: &[JournalEntry], effects: Vec<Effect>) {
        for entry in entries {
            self.watch.follow(entry);
            self.reporter.entry(entry, self.machine.state());
        }
        if let Some(probes) = &self.probes {
            let steps = self.machine.steps_under_way();
            if steps != self.steps_told {
                probes.probe.set_steps(steps.clone());
                self.steps_told = steps;
            }
        }
        for effect in effects {
            let Effect::Perform { order, pause_ms } = effect;
            self.attempts.start(order, Duration::from_millis(pause_ms));
        }
    }

    async fn finish(&mut self, attempt: AttemptId, outcome: Outcome) -> Result<(), Error> {
        let mut inputs = vec![Input::Finished { attempt, outcome }];
        while inputs.len() < OUTCOMES_MAX
            && let Some((attempt, outcome)) = self.attempts.try_next()
        {
            inputs.push(Input::Finished { attempt, outcome });
        }
        self.decide(inputs, volutus_itself()).await
    }

    /// Carries out the commands that wait in the store, and answers them.
    async fn obey(&mut self) -> Result<(), Error> {
        let run = self.run.clone();
        let commands = blocking(&self.runtime.store, move |store| store.pending_commands(&run)).await?;
        for command in commands {
            self.obey_one(command).await?;
        }
        Ok(())
    }

    async fn obey_one(&mut self, command: PendingCommand) -> Result<(), Error> {
        let at = (self.runtime.clock)();
        let lease = self.held.lease.clone();
        match self.machine.step(Input::Command(command.command), at) {
            Ok(decision) => {
                let (run, events) = (self.run.clone(), decision.events);
                let entries = self
                    .append(move |store| store.append_command(&lease, &run, &command, at, &events))
                    .await?;
                self.follow_up(&entries, decision.effects);
                Ok(())
            }
            Err(refusal @ volutus_engine::Error::Refused { .. }) => {
                let why = refusal.to_string();
                self.append(move |store| store.refuse_command(&lease, &command, &why)).await
            }
            Err(source) => Err(self.engine_error(source)),
        }
    }

    /// Whether the rolled cloud is watched until the policy finalizes it. Without a prober nobody
    /// watches, and then a person has to decide.
    fn lingers(&self) -> bool {
        let state = self.machine.state();
        state.status == RunStatus::AwaitingFinalize
            && self.machine.index().plan().finalize_after_s().is_some()
            && self.probes.is_some()
            && !self.interrupted
    }

    /// Allows finalize once the rolled cloud was watched for long enough, by one process and
    /// without a halt in between.
    async fn finalize_by_policy(&mut self) -> Result<(), Error> {
        if !self.lingers() {
            self.rolled_since = None;
            return Ok(());
        }
        let now = (self.runtime.clock)();
        let since = *self.rolled_since.get_or_insert(now);
        let wanted = self.machine.index().plan().finalize_after_s().map_or(i64::MAX, i64::from);
        if now.duration_since(since).as_secs() < wanted {
            return Ok(());
        }
        let actor = Actor(format!("policy finalize_after_s = {wanted}"));
        self.decide(vec![Input::Command(Command::Finalize)], actor).await
    }

    async fn interrupt(&mut self) -> Result<(), Error> {
        if self.interrupted {
            let under_way = self.machine.attempts_under_way().cloned().collect();
            return Err(Error::Interrupted { run: self.run.clone(), under_way });
        }
        self.interrupted = true;
        // A run that is halted, paused or being given up already ends by itself as soon as it can.
        if self.machine.state().status == RunStatus::Running {
            self.decide(vec![Input::Command(Command::Pause)], self.runtime.actor.clone()).await?;
        }
        Ok(())
    }

    /// A lease that was taken is the end at once. A disk that does not answer is not, until the
    /// lease may have run out.
    async fn renew(&mut self) -> Result<(), Error> {
        let (lease, now) = (self.held.lease.clone(), (self.runtime.clock)());
        match self.append(move |store| store.renew_lease(&lease, now)).await {
            Ok(()) => {
                self.renewed = Instant::now();
                Ok(())
            }
            Err(error @ Error::Store(_)) if self.renewed.elapsed() < LEASE_TTL => {
                tracing::warn!(%error, "the lease was not renewed; trying again");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn take_samples(&mut self, samples: Vec<Sample>) -> Result<(), Error> {
        // What is reached past the APIs is judged by its gaps.
        let (requests, reached): (Vec<Sample>, Vec<Sample>) =
            samples.iter().cloned().partition(Sample::is_request);
        self.reporter.samples(&requests);
        let silent = self.watch.reach(&reached);
        let breach = self.watch.count(&requests).or(silent);
        if let Some(change) = self.pressure.as_mut().and_then(|pressure| pressure.take(&requests)) {
            self.runtime.driver.hold_batches(change);
        }
        self.samples.extend(samples);
        if self.samples.len() >= BATCH_MAX || breach.is_some() {
            self.flush().await?;
        }
        match breach {
            Some(breach) => self.decide(vec![Input::Breach(breach)], volutus_itself()).await,
            None => Ok(()),
        }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        if self.samples.is_empty() {
            return Ok(());
        }
        let (run, samples) = (self.run.clone(), std::mem::take(&mut self.samples));
        blocking(&self.runtime.store, move |store| store.append_samples(&run, &samples)).await
    }
}

/// Who records what follows from the cloud's own doings.
pub(crate) fn volutus_itself() -> Actor {
    Actor("volutus".to_owned())
}

struct Timers {
    renewal: Interval,
    commands: Interval,
    flush: Interval,
    tick: Interval,
}

impl Timers {
    fn new() -> Self {
        Self {
            renewal: timer(LEASE_RENEWAL),
            commands: timer(COMMAND_POLL),
            flush: timer(SAMPLE_FLUSH),
            tick: timer(TICK),
        }
    }
}

/// A timer that does not make up for ticks it has missed.
fn timer(period: Duration) -> Interval {
    let mut timer = interval_at(Instant::now() + period, period);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}
