//! The task that carries work out: what it is ordered to, what is due, and what an earlier process left.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use volutus_engine::Command;
use volutus_model::event::Actor;
use volutus_model::run::RunStatus;
use volutus_model::{Plan, RunId};
use volutus_schedule::{Decision, Entry, Schedule};
use volutus_server::{Problem, StatusCode};
use volutus_store::{Store, Subject};

use super::works::{Order, problem};
use crate::commands::control::load;
use crate::commands::go_on;
use crate::commands::plan::store_error;
use crate::commands::rollback::is_due;
use crate::commands::run::{After, begin, execute, make_ready};
use crate::commands::schedule::Known;
use crate::context::Context;
use crate::error::{CliError, Result};

/// How often it is looked whether something is due; windows are told in minutes.
const LOOK: Duration = Duration::from_secs(5);

/// How late something may start where no window says until when: a server that comes back after days
/// must not begin an upgrade at whatever time that is.
const LATE_MAX_HOURS: i64 = 1;

/// How far back something is looked for that waits for its opening.
const BACK_HOURS: i64 = 24 * 62;

/// What a schedule did last.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Firing {
    /// The time at which it was due.
    due: Timestamp,
    /// The run.
    run: RunId,
    /// Whether the run waits for the next opening, because the last one ended before it did.
    waits: bool,
}

/// A run that the server carries out, kept so that its successor goes on with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Carried {
    run: RunId,
    actor: Actor,
    /// When it has to be at a safe point.
    until: Option<Timestamp>,
    /// The schedule that it is of.
    schedule: Option<String>,
}

fn firings(context: &Context) -> String {
    format!("firing/{}", context.inventory.name)
}

fn carried(context: &Context) -> String {
    format!("carried/{}", context.inventory.name)
}

/// Schedules that are held, with the reason: what they did last did not go well. Removing and adding
/// one again releases it.
pub fn held(context: &Context, store: &Store, schedules: &[Schedule]) -> Result<BTreeMap<String, String>> {
    let mut held = BTreeMap::new();
    for firing in store.documents::<Firing>(&firings(context)).map_err(store_error)? {
        let known = schedules.iter().any(|s| s.name == firing.key && s.since <= firing.body.due);
        if !known {
            continue;
        }
        let record = store.run(&firing.body.run).map_err(store_error)?;
        let status = load(store, &record)?.1.status;
        if matches!(status, RunStatus::Aborted | RunStatus::Aborting | RunStatus::Halted) {
            held.insert(firing.key, format!("its run {} is {status}", record.id));
        }
    }
    Ok(held)
}

/// The run that the server carries out, or is about to.
pub fn carried_run(context: &Context, store: &Store) -> Result<Option<RunId>> {
    let all = store.documents::<Carried>(&carried(context)).map_err(store_error)?;
    Ok(all.into_iter().next().map(|document| document.body.run))
}

/// The task.
pub struct Worker {
    context: Arc<Context>,
    store: Store,
    windows: Option<PathBuf>,
    orders: mpsc::Receiver<Order>,
    stopped: watch::Receiver<bool>,
    /// What was said last of each schedule, so that it is said once.
    said: BTreeMap<String, String>,
}

impl Worker {
    /// A worker that takes orders until it is stopped.
    pub fn new(
        context: Arc<Context>,
        store: Store,
        windows: Option<PathBuf>,
        orders: mpsc::Receiver<Order>,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        Self { context, store, windows, orders, stopped, said: BTreeMap::new() }
    }

    /// Works until it is stopped. What goes wrong is told and does not end it.
    pub async fn work(mut self) {
        if let Err(error) = self.go_on().await {
            tell("what an earlier process left could not be gone on with", &error);
        }
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*self.stopped.borrow() {
            tokio::select! {
                biased;
                _changed = self.stopped.changed() => {}
                Some(order) = self.orders.recv() => self.obey(order).await,
                _ = looks.tick() => {
                    if let Err(error) = self.look().await {
                        self.say("", format!("{error}"));
                    }
                }
            }
        }
    }

    /// Says something of a schedule, unless it was what was said last.
    fn say(&mut self, schedule: &str, text: String) {
        if self.said.get(schedule) != Some(&text) {
            anstream::eprintln!(
                "{}{text}",
                if schedule.is_empty() { String::new() } else { format!("{schedule}: ") }
            );
            self.said.insert(schedule.to_owned(), text);
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Begin { plan, actor, answer } => {
                let (context, store) = (self.context.clone(), self.store.clone());
                match begin(&context, &store, plan.as_str()).await {
                    Err(error) => {
                        let _gone = answer.send(Err(problem(error)));
                    }
                    Ok((run, plan)) => {
                        let work = Carried { run, actor, until: None, schedule: None };
                        // Who is answered finds the run carried out.
                        let noted = self.note(&work).map_err(problem);
                        let _gone = answer.send(noted.map(|()| work.run.clone()));
                        self.carry(work, &plan).await;
                    }
                }
            }
            Order::TakeUp { run, command, actor, answer } => match self.ready(&run, command, &actor) {
                Err(error) => {
                    let _gone = answer.send(Err(problem(error)));
                }
                Ok(plan) => {
                    let work = Carried { run, actor, until: None, schedule: None };
                    let _gone = answer.send(self.note(&work).map_err(problem));
                    self.carry(work, &plan).await;
                }
            },
        }
    }

    fn ready(&self, run: &RunId, command: Command, actor: &Actor) -> Result<Plan> {
        let record = self.store.run(run).map_err(store_error)?;
        make_ready(&self.store, &record, command, actor)
    }

    /// Goes on with the run that an earlier process carried out when it ended.
    async fn go_on(&mut self) -> Result<()> {
        let left = self.store.documents::<Carried>(&carried(&self.context)).map_err(store_error)?;
        for left in left {
            let record = self.store.run(&left.body.run).map_err(store_error)?;
            let (plan, state, _) = load(&self.store, &record)?;
            let goes_on = match state.status {
                RunStatus::Running | RunStatus::Paused | RunStatus::Aborting => true,
                RunStatus::AwaitingFinalize => plan.policy.finalize_after_s.is_some(),
                RunStatus::Aborted => {
                    is_due(&self.store, &record, &state)? || go_on::is_due(&self.store, &record, &state)?
                }
                RunStatus::Halted | RunStatus::Succeeded => false,
            };
            if goes_on {
                anstream::eprintln!(
                    "going on with run {}, which an earlier process left {}",
                    record.id,
                    state.status
                );
                let plan = make_ready(&self.store, &record, Command::Resume, &left.body.actor)?;
                self.carry(left.body, &plan).await;
            } else {
                self.forget()?;
            }
        }
        Ok(())
    }

    /// Notes what is carried out, so that the next process goes on with it.
    fn note(&self, work: &Carried) -> Result<()> {
        let kept = [("run".to_owned(), work.clone())];
        self.store.put_documents(&carried(&self.context), &kept, Context::now()).map_err(store_error)
    }

    fn forget(&self) -> Result<()> {
        self.store.remove_document(&carried(&self.context), "run").map(|_| ()).map_err(store_error)
    }

    /// Carries a run out. Orders that come meanwhile are refused; at the end of its opening the run is
    /// paused.
    async fn carry(&mut self, work: Carried, plan: &Plan) {
        if let Err(error) = self.carry_out(work, plan).await {
            tell("the run did not come to a good end", &error);
        }
    }

    async fn carry_out(&mut self, work: Carried, plan: &Plan) -> Result<()> {
        self.note(&work)?;
        let (context, store) = (self.context.clone(), self.store.clone());
        let mut execution =
            Box::pin(execute(&context, &store, &work.run, plan, After::AsRecorded, &work.actor));
        let mut until = work.until;
        let result = loop {
            tokio::select! {
                result = &mut execution => break result,
                Some(order) = self.orders.recv() => refuse(order, &work.run),
                () = reached(until) => {
                    until = None;
                    anstream::eprintln!("the window of run {} ends: it pauses at its next safe point", work.run);
                    let pushed = store.push_command(&work.run, Command::Pause, &work.actor, Context::now());
                    if let Err(error) = pushed {
                        tell("the run could not be paused", &store_error(error));
                    }
                }
            }
        };
        // What a signal paused, the next process goes on with.
        if !*self.stopped.borrow() {
            self.forget()?;
        }
        if let Some(schedule) = &work.schedule {
            self.note_end(schedule, work.until.is_some() && until.is_none())?;
        }
        result
    }

    /// Notes whether the run of a schedule waits for the next opening.
    fn note_end(&self, schedule: &str, window_ended: bool) -> Result<()> {
        let Some(firing) = self.firing(schedule)? else { return Ok(()) };
        let record = self.store.run(&firing.run).map_err(store_error)?;
        let paused = load(&self.store, &record)?.1.status == RunStatus::Paused;
        self.keep(schedule, Firing { waits: window_ended && paused, ..firing })
    }

    fn firing(&self, schedule: &str) -> Result<Option<Firing>> {
        let all = self.store.documents::<Firing>(&firings(&self.context)).map_err(store_error)?;
        Ok(all.into_iter().find(|document| document.key == schedule).map(|document| document.body))
    }

    fn keep(&self, schedule: &str, firing: Firing) -> Result<()> {
        let document = [(schedule.to_owned(), firing)];
        self.store.put_documents(&firings(&self.context), &document, Context::now()).map_err(store_error)
    }

    /// Does what is due, if anything is.
    async fn look(&mut self) -> Result<()> {
        let known = Known::load(&self.context, self.windows.as_deref())?;
        if known.schedules.is_empty()
            || self.store.lease(&self.context.inventory.name, known.now).map_err(store_error)?.is_some()
        {
            return Ok(());
        }
        for entry in known.missed()? {
            let key = format!("{} of {}", entry.schedule, entry.local);
            self.say(&key, "was due and was NOT done; `volutus calendar` tells why".to_owned());
        }
        let held = held(&self.context, &self.store, &known.schedules)?;
        let late = if known.windows.windows.is_empty() { LATE_MAX_HOURS } else { BACK_HOURS };
        let from = known.now.saturating_sub(late.hours()).unwrap_or(known.now);
        let entries = known.entries(from, known.now)?;
        for schedule in &known.schedules {
            if let Some(why) = held.get(&schedule.name) {
                let why = format!("is held: {why}; mend it, then remove and add the schedule again");
                self.say(&schedule.name, why);
            } else if self.resume_waiting(&known, schedule).await?
                || self.fire(&known, schedule, &entries).await?
            {
                // What was known is old after a run.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Goes on with a run that the end of its window paused, once the next one is open.
    async fn resume_waiting(&mut self, known: &Known, schedule: &Schedule) -> Result<bool> {
        let Some(firing) = self.firing(&schedule.name)?.filter(|firing| firing.waits) else {
            return Ok(false);
        };
        let Some(opening) = known.opening(schedule)? else { return Ok(false) };
        let actor = by(schedule);
        self.keep(&schedule.name, Firing { waits: false, ..firing.clone() })?;
        let record = self.store.run(&firing.run).map_err(store_error)?;
        if load(&self.store, &record)?.1.status != RunStatus::Paused {
            return Ok(false);
        }
        anstream::eprintln!("{}: goes on with run {}, whose window is open", schedule.name, firing.run);
        let plan = self.ready(&firing.run, Command::Resume, &actor)?;
        let until = Some(opening.end).filter(|_| !known.windows.windows.is_empty());
        self.carry(Carried { run: firing.run, actor, until, schedule: Some(schedule.name.clone()) }, &plan)
            .await;
        Ok(true)
    }

    /// Begins what is due by a schedule, where its opening has come and it has not been begun.
    async fn fire(&mut self, known: &Known, schedule: &Schedule, entries: &[Entry]) -> Result<bool> {
        let last = self.firing(&schedule.name)?.map(|firing| firing.due);
        let due = entries.iter().filter(|entry| entry.schedule == schedule.name).find_map(|entry| {
            let due = entry.due.filter(|due| last.is_none_or(|last| *due > last))?;
            match &entry.decision {
                Some(Decision::Start { at, opening }) if *at <= known.now => Some((due, opening.end)),
                _ => None,
            }
        });
        let Some((due, end)) = due else { return Ok(false) };
        let Some(plan) = self.approved(schedule)? else {
            self.say(
                &schedule.name,
                format!("is due since {due}, and no approved plan is there for it: {}", schedule.title()),
            );
            return Ok(false);
        };
        let (context, store) = (self.context.clone(), self.store.clone());
        let (run, plan) = match begin(&context, &store, &plan).await {
            Ok(begun) => begun,
            Err(error) => {
                self.say(&schedule.name, format!("is due since {due} and was not begun: {error}"));
                return Ok(false);
            }
        };
        anstream::eprintln!("{}: due since {due}, begins run {run}", schedule.name);
        self.keep(&schedule.name, Firing { due, run: run.clone(), waits: false })?;
        let until = Some(end).filter(|_| !known.windows.windows.is_empty());
        self.carry(Carried { run, actor: by(schedule), until, schedule: Some(schedule.name.clone()) }, &plan)
            .await;
        Ok(true)
    }

    /// The latest approved plan that does what a schedule says and has not been run.
    fn approved(&self, schedule: &Schedule) -> Result<Option<String>> {
        let runs = self.store.runs().map_err(store_error)?;
        let plans = self.store.plans().map_err(store_error)?;
        let fits = |subject: Subject| match (subject, schedule.to) {
            (Subject::Upgrade { to, .. }, Some(wanted)) => to == wanted,
            (Subject::Upgrade { from, to }, None) => from == to,
            (Subject::Reboot, _) => false,
        };
        let candidates = plans.into_iter().filter(|plan| {
            plan.cloud == self.context.inventory.name
                && plan.approval.is_some()
                && fits(plan.subject)
                && !runs.iter().any(|run| run.plan == plan.id)
        });
        for plan in candidates {
            // Rollbacks and the steps of reboots are approved plans as well.
            if self.store.plan(&plan.id).map_err(store_error)?.kind.is_upgrade() {
                return Ok(Some(plan.id.to_string()));
            }
        }
        Ok(None)
    }
}

/// Who a run of a schedule is of: whoever added it.
fn by(schedule: &Schedule) -> Actor {
    Actor(format!("{} (schedule {})", schedule.by, schedule.name))
}

fn refuse(order: Order, run: &RunId) {
    let detail = format!("run {run} is being carried out");
    let busy =
        Problem::new(StatusCode::CONFLICT, "lease-held", detail).hint("Once it has begun it takes commands.");
    match order {
        Order::Begin { answer, .. } => drop(answer.send(Err(busy))),
        Order::TakeUp { answer, .. } => drop(answer.send(Err(busy))),
    }
}

/// Ends at a time; never where there is none.
async fn reached(until: Option<Timestamp>) {
    let Some(until) = until else { return std::future::pending().await };
    loop {
        // Clocks are put right now and then, so the time is looked at again and again.
        let left_s = until.as_second() - Context::now().as_second();
        if left_s <= 0 {
            return;
        }
        tokio::time::sleep(LOOK.min(Duration::from_secs(left_s.unsigned_abs()))).await;
    }
}

fn tell(what: &str, error: &CliError) {
    anstream::eprintln!("{what}\n{error}");
}
