//! The one that carries work out: what it is ordered to, what is due, and what an earlier process left.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{Timestamp, ToSpan as _};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use volutus_engine::Command;
use volutus_model::event::Actor;
use volutus_model::run::RunStatus;
use volutus_model::{Plan, PlanId, RunId};
use volutus_notices::Moment;
use volutus_schedule::{Decision, Entry, Schedule};
use volutus_server::{Problem, StatusCode};
use volutus_store::{RunRecord, Store, Subject};

use super::clock::Clock;
use super::firing::{Carried, Deeds, Firing, Intent};
use super::hands::Hands;
use super::told::Told;
use super::works::{Order, problem};
use crate::commands::control::load;
use crate::commands::glances::Glances;
use crate::commands::go_on;
use crate::commands::notice::Notices;
use crate::commands::plan::store_error;
use crate::commands::rollback::is_due;
use crate::commands::run::make_ready;
use crate::commands::schedule::Known;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::show::schedule::decision;

/// How often it is looked whether something is due; windows are told in minutes.
pub const LOOK: Duration = Duration::from_secs(5);

/// How far back something is looked for that waits for its opening.
const BACK_HOURS: i64 = 24 * 62;

/// What was missed longer ago is in the log and in the calendar, and is no news to anybody.
const NEWS_HOURS: i64 = 24 * 14;

/// What a worker works with.
pub struct Worker<H> {
    /// The cloud.
    pub context: Arc<Context>,
    /// Where everything is kept.
    pub store: Store,
    /// What begins runs and carries them out.
    pub hands: H,
    /// What schedules are decided by.
    pub clock: Clock,
    /// The file of windows, where one is named.
    pub windows: Option<PathBuf>,
    /// What is known of runs.
    pub glances: Arc<Glances>,
    /// Orders from outside.
    pub orders: mpsc::Receiver<Order>,
    /// Becomes true when the server is to end.
    pub stopped: watch::Receiver<bool>,
    /// How often it looks: [`LOOK`].
    pub look: Duration,
    /// What schedules did.
    pub deeds: Deeds,
    /// Who tells people.
    pub told: Told,
    /// What was said last of each schedule, so that it is said once.
    pub said: BTreeMap<String, String>,
}

impl<H: Hands> Worker<H> {
    /// Works until it is stopped. What goes wrong is told and does not end it.
    pub async fn work(mut self) {
        if let Err(error) = self.go_on().await {
            tell("what an earlier process left could not be gone on with", &error);
        }
        let mut looks = tokio::time::interval(self.look);
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
        self.told.finish().await;
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
            Order::Begin { plan, actor, answer } => match self.hands.begin(&plan).await {
                Err(error) => {
                    let _gone = answer.send(Err(problem(error)));
                }
                Ok((run, plan)) => {
                    let work = Carried { run, actor, until: None, schedule: None };
                    // Who is answered finds the run carried out.
                    let noted = self.deeds.keep_carried(work.clone()).map_err(problem);
                    let _gone = answer.send(noted.map(|()| work.run.clone()));
                    self.carry(work, &plan).await;
                }
            },
            Order::TakeUp { run, command, actor, answer } => match self.ready(&run, command, &actor) {
                Err(error) => {
                    let _gone = answer.send(Err(problem(error)));
                }
                Ok(plan) => {
                    let work = Carried { run, actor, until: None, schedule: None };
                    let _gone = answer.send(self.deeds.keep_carried(work.clone()).map_err(problem));
                    self.carry(work, &plan).await;
                }
            },
        }
    }

    fn ready(&self, run: &RunId, command: Command, actor: &Actor) -> Result<Plan> {
        let record = self.store.run(run).map_err(store_error)?;
        make_ready(&self.store, &record, command, actor)
    }

    /// Sees what became of what was about to begin: whether a run was made, which is to be carried out now.
    fn settle_intents(&self) -> Result<bool> {
        let mut is_made = false;
        for (schedule, intent) in self.deeds.intents()? {
            let runs = self.store.runs().map_err(store_error)?;
            let made = runs.into_iter().find(|run| self.is_of(run, &intent.plan));
            if let Some(made) = made {
                is_made = true;
                let ahead_s = self.clock.ahead_s()?;
                let Intent { due, until, actor, .. } = intent;
                // Kept first, and whatever is known of the run: an intent that is left was not carried out.
                let run = made.id.clone();
                self.deeds.keep_carried(Carried { run, actor, until, schedule: Some(schedule.clone()) })?;
                let before = self.deeds.firings()?.remove(&schedule);
                if before.as_ref().is_none_or(|before| before.run != made.id) {
                    self.deeds.keep_firing(&schedule, Firing::next(before, due, made.id, ahead_s))?;
                }
            }
            self.deeds.forget_intent(&schedule)?;
        }
        Ok(is_made)
    }

    /// Goes on with the run that an earlier process carried out, or had just made, when it ended.
    pub async fn go_on(&mut self) -> Result<()> {
        self.settle_intents()?;
        self.go_on_carried().await
    }

    async fn go_on_carried(&mut self) -> Result<()> {
        let Some(left) = self.deeds.carried()? else { return Ok(()) };
        let record = self.store.run(&left.run).map_err(store_error)?;
        let (plan, state, _) = load(&self.store, &record)?;
        let goes_on = match state.status {
            RunStatus::Paused if self.is_over(left.until)? => {
                self.note_end(&left, true)?;
                false
            }
            RunStatus::Running | RunStatus::Paused | RunStatus::Aborting => true,
            RunStatus::AwaitingFinalize => plan.finalize_after_s().is_some(),
            RunStatus::Aborted => {
                is_due(&self.store, &record, &state)? || go_on::is_due(&self.store, &record, &state)?
            }
            RunStatus::Halted | RunStatus::Succeeded => false,
        };
        if !goes_on {
            return self.deeds.forget_carried();
        }
        anstream::eprintln!(
            "going on with run {}, which an earlier process left {}",
            record.id,
            state.status
        );
        let plan = make_ready(&self.store, &record, Command::Resume, &left.actor)?;
        self.carry(left, &plan).await;
        Ok(())
    }

    fn is_over(&self, until: Option<Timestamp>) -> Result<bool> {
        let now = self.clock.now()?;
        Ok(until.is_some_and(|until| until <= now))
    }

    /// Carries a run out. Orders that come meanwhile are refused; at the end of its opening the run is
    /// paused.
    async fn carry(&mut self, work: Carried, plan: &Plan) {
        if let Err(error) = self.carry_out(work, plan).await {
            tell("the run did not come to a good end", &error);
        }
    }

    async fn carry_out(&mut self, work: Carried, plan: &Plan) -> Result<()> {
        self.deeds.keep_carried(work.clone())?;
        if let Some(schedule) = &work.schedule {
            self.deeds.forget_intent(schedule)?;
        }
        let mut until = work.until;
        // Where the opening is over already, the run pauses before it begins another step.
        if self.is_over(until)? {
            until = None;
            self.pause(&work);
        }
        let mut execution = Box::pin(self.hands.carry_out(&work.run, plan, &work.actor));
        let result = loop {
            tokio::select! {
                result = &mut execution => break result,
                Some(order) = self.orders.recv() => refuse(order, &work.run),
                () = reached(until, &self.clock, self.look) => {
                    until = None;
                    self.pause(&work);
                }
            }
        };
        drop(execution);
        // What a signal paused, the next process goes on with.
        if !*self.stopped.borrow() {
            self.deeds.forget_carried()?;
        }
        let window_ended = work.until.is_some() && until.is_none();
        match self.note_end(&work, window_ended)? {
            true => {
                anstream::eprintln!("run {} waits for the next opening", work.run);
                Ok(())
            }
            false => result,
        }
    }

    fn pause(&self, work: &Carried) {
        anstream::eprintln!("the window of run {} ends: it pauses at its next safe point", work.run);
        let pushed = self.store.push_command(&work.run, Command::Pause, &work.actor, Context::now());
        if let Err(error) = pushed {
            tell("the run could not be paused", &store_error(error));
        }
    }

    /// Notes whether the run of a schedule waits for the next opening, and tells it.
    fn note_end(&self, work: &Carried, window_ended: bool) -> Result<bool> {
        let Some(schedule) = &work.schedule else { return Ok(false) };
        let Some(firing) = self.deeds.firings()?.remove(schedule) else { return Ok(false) };
        let record = self.store.run(&firing.run).map_err(store_error)?;
        let waits = window_ended && self.glances.status(&self.store, &record)? == RunStatus::Paused;
        self.deeds.keep_firing(schedule, Firing { waits, ..firing })?;
        Ok(waits)
    }

    /// Does what is due, if anything is, and tells what is to be told.
    pub async fn look(&mut self) -> Result<()> {
        if let Err(error) = self.told.send_due() {
            self.say("notices", error.message);
        }
        // Where the store could not be written once a run was made, it is carried out as soon as it can.
        if self.settle_intents()? {
            return self.go_on_carried().await;
        }
        let now = self.clock.now()?;
        let known = Known::load_at(&self.context, &self.store, self.windows.as_deref(), now, &self.glances)?;
        let cloud = &self.context.inventory.name;
        if known.schedules.is_empty()
            || self.store.lease(cloud, Context::now()).map_err(store_error)?.is_some()
        {
            return Ok(());
        }
        let held = self.deeds.held(&known.schedules, &self.glances)?;
        // Whoever is not told holds nothing up.
        if let Err(error) = self.tell_people(&known, &held) {
            self.say("notices", error.message);
        }
        let from = now.saturating_sub(BACK_HOURS.hours()).unwrap_or(now);
        let entries = known.entries(from, now)?;
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

    /// Tells of what was missed, of what is held, and of what comes.
    fn tell_people(&mut self, known: &Known, held: &BTreeMap<String, String>) -> Result<()> {
        for entry in known.missed()? {
            let why = decision(&entry);
            let key = format!("{} of {}", entry.schedule, entry.local);
            self.say(&key, format!("was due and was NOT done: {why}"));
            let schedule = known.schedules.iter().find(|schedule| schedule.name == entry.schedule);
            let (Some(schedule), Some(due)) = (schedule, entry.due) else { continue };
            let is_news = due.saturating_add(NEWS_HOURS.hours()).is_ok_and(|until| known.now < until);
            if is_news {
                self.told.missed(schedule, due, why)?;
            }
        }
        for (name, why) in held {
            let Some(firing) = known.firings.get(name) else { continue };
            self.told.held(name, firing.due, &firing.run, why)?;
        }
        let Some(days) = Notices::before_days(&self.context)? else { return Ok(()) };
        let ahead = (24 * i64::from(days)).hours();
        let ahead = known.now.saturating_add(ahead).unwrap_or(known.now);
        for entry in known.entries(known.now, ahead)? {
            let schedule = known.schedules.iter().find(|schedule| schedule.name == entry.schedule);
            let (Some(schedule), Some(due), Some(Decision::Start { at, .. })) =
                (schedule, entry.due, &entry.decision)
            else {
                continue;
            };
            if *at > ahead
                || held.contains_key(&entry.schedule)
                || self.told.has_told(Moment::Before, &entry.schedule, due)
            {
                continue;
            }
            match self.approved(schedule)? {
                Some(plan) => self.told.before(&entry.schedule, due, &plan, *at)?,
                None => {
                    let key = format!("{} of {}", entry.schedule, entry.local);
                    let what = schedule.title();
                    self.say(&key, format!("will be due, and no approved plan is there for it yet: {what}"));
                }
            }
        }
        Ok(())
    }

    /// Goes on with a run that the end of its window paused, once the next one is open.
    async fn resume_waiting(&mut self, known: &Known, schedule: &Schedule) -> Result<bool> {
        let Some(firing) = known.firings.get(&schedule.name).filter(|firing| firing.waits) else {
            return Ok(false);
        };
        let Some(opening) = known.opening(schedule)? else { return Ok(false) };
        let actor = by(schedule);
        let record = self.store.run(&firing.run).map_err(store_error)?;
        if self.glances.status(&self.store, &record)? != RunStatus::Paused {
            // Somebody went on with it by hand.
            self.deeds.keep_firing(&schedule.name, Firing { waits: false, ..firing.clone() })?;
            return Ok(false);
        }
        anstream::eprintln!("{}: goes on with run {}, whose window is open", schedule.name, firing.run);
        let plan = self.ready(&firing.run, Command::Resume, &actor)?;
        let until = Some(opening.end).filter(|_| !known.windows.windows.is_empty());
        let run = firing.run.clone();
        self.carry(Carried { run, actor, until, schedule: Some(schedule.name.clone()) }, &plan).await;
        Ok(true)
    }

    /// Begins what is due by a schedule, where its opening has come and it has not been begun.
    async fn fire(&mut self, known: &Known, schedule: &Schedule, entries: &[Entry]) -> Result<bool> {
        let last = known.firings.get(&schedule.name).map(|firing| firing.due);
        let (mut startable, mut waiting) = (None, None);
        // The latest counts: what became due again while it waited for an opening is done once.
        for entry in entries.iter().filter(|entry| entry.schedule == schedule.name) {
            let Some(due) = entry.due.filter(|due| last.is_none_or(|last| *due > last)) else { continue };
            match &entry.decision {
                Some(Decision::Start { at, opening }) if *at <= known.now => {
                    startable = Some((due, opening.end));
                }
                Some(Decision::Start { at, .. }) => waiting = Some((due, *at)),
                _ => {}
            }
        }
        let Some((due, end)) = startable else {
            if let Some((due, at)) = waiting {
                self.say(
                    &schedule.name,
                    format!("is due since {due}, and waits for its window, which opens {at}"),
                );
            }
            return Ok(false);
        };
        let Some(plan) = self.approved(schedule)? else {
            self.say(
                &schedule.name,
                format!("is due since {due}, and no approved plan is there for it: {}", schedule.title()),
            );
            return Ok(false);
        };
        let (name, actor) = (&schedule.name, by(schedule));
        let until = Some(end).filter(|_| !known.windows.windows.is_empty());
        let intent = Intent { due, plan: plan.id.clone(), until, actor: actor.clone() };
        self.deeds.keep_intent(name, intent)?;
        let (run, plan) = match self.hands.begin(&plan.id).await {
            Ok(begun) => begun,
            Err(error) => {
                self.deeds.forget_intent(name)?;
                self.say(name, format!("is due since {due} and was not begun: {error}"));
                return Ok(false);
            }
        };
        anstream::eprintln!("{name}: due since {due}, begins run {run}");
        let before = known.firings.get(name).cloned();
        let firing = Firing::next(before, due, run.clone(), self.clock.ahead_s()?);
        self.deeds.keep_firing(name, firing)?;
        self.carry(Carried { run, actor, until, schedule: Some(name.clone()) }, &plan).await;
        Ok(true)
    }

    /// Whether a run carries out a plan, or one that was made in its place.
    fn is_of(&self, run: &RunRecord, plan: &PlanId) -> bool {
        run.plan == *plan || self.store.plan(&run.plan).is_ok_and(|made| made.parent.as_ref() == Some(plan))
    }

    /// The latest approved plan that does what a schedule says and has not been run.
    fn approved(&self, schedule: &Schedule) -> Result<Option<Plan>> {
        let runs = self.store.runs().map_err(store_error)?;
        let plans = self.store.plans().map_err(store_error)?;
        let fits = |subject: Subject| match (subject, schedule.to) {
            (Subject::Upgrade { to, .. }, Some(wanted)) => to == wanted,
            (Subject::Upgrade { from, to }, None) => from == to,
            (Subject::Reboot, _) => false,
        };
        let is_run = |id: &PlanId| runs.iter().any(|run| self.is_of(run, id));
        let candidates = plans.into_iter().filter(|plan| {
            plan.cloud == self.context.inventory.name
                && plan.approval.is_some()
                && fits(plan.subject)
                && !is_run(&plan.id)
        });
        for plan in candidates {
            // Rollbacks and the steps of reboots are approved plans as well.
            let plan = self.store.plan(&plan.id).map_err(store_error)?;
            if plan.kind.is_upgrade() {
                return Ok(Some(plan));
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
async fn reached(until: Option<Timestamp>, clock: &Clock, look: Duration) {
    let Some(until) = until else { return std::future::pending().await };
    loop {
        // Clocks are put right now and then, so the time is looked at again and again. One that cannot
        // be read ends no window.
        match clock.now() {
            Ok(now) if now >= until => return,
            Ok(_) => {}
            Err(error) => tracing::warn!("{}", error.message),
        }
        tokio::time::sleep(look).await;
    }
}

fn tell(what: &str, error: &CliError) {
    anstream::eprintln!("{what}\n{error}");
}
