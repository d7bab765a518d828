//! A run's state together with what is derived from it: takes one input at a time and says
//! what is to be recorded and done.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use volutus_model::event::{ActionList, Event, JournalEntry, ProbeBreach};
use volutus_model::name::{AttemptId, RunId, StepId};
use volutus_model::outcome::Outcome;
use volutus_model::plan::{Action, Phase, Step};
use volutus_model::run::{RunState, RunStatus, StepStatus};
use volutus_model::{OnFailure, Policy, WayBackClosed};

use crate::error::Error;
use crate::fold::apply;
use crate::index::PlanIndex;
use crate::ports::Order;
use crate::progress::{Progress, failure_text};
use crate::schedule::next_step;

/// How often an attempt whose outcome was lost is taken up again before its step fails. A lost
/// connection is usually back at the first look; a host that cannot be asked five times in a row
/// (with growing pauses, more than a minute in all) is gone, and a person has to look.
pub const TAKE_UPS_MAX: u32 = 5;

/// The pause before the second try, which doubles with every further one.
const PAUSE_FIRST_MS: u64 = 2_000;

/// The longest pause between two tries: longer than an API server needs to start, and short
/// beside the time that a drained server costs.
const PAUSE_MAX_MS: u64 = 30_000;

/// What an operator can ask of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Let running steps end and start no new ones.
    Pause,
    /// Go on; steps that failed are tried again.
    Resume,
    /// Give the run up: running steps end, and what failed steps hold is given back.
    Abort,
    /// Allow the stages that take the way back.
    Finalize,
    /// Give the run up and take it back: a run that puts everything back follows.
    RollBack,
    /// Give a halted reboot up, and go on with a new plan for the hosts that did not fail.
    GoOn,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
            Self::Finalize => "finalize",
            Self::RollBack => "roll back",
            Self::GoOn => "go on without what failed",
        })
    }
}

/// What happened outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A Volutus process begins the run.
    Begin {
        /// The process and its host.
        holder: String,
    },
    /// A Volutus process goes on with a run that has begun. Whatever was under way is looked
    /// for again.
    TakeUp {
        /// The process and its host.
        holder: String,
    },
    /// An attempt came to its end.
    Finished {
        /// The attempt.
        attempt: AttemptId,
        /// How it turned out.
        outcome: Outcome,
    },
    /// An operator asks for something.
    Command(Command),
    /// The synthetic user saw more failures than the policy allows.
    Breach(ProbeBreach),
    /// Nothing in particular: whatever may go on goes on.
    Advance,
}

/// Something to be done, after the events of its decision are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Hand an order to a driver.
    Perform {
        /// The order.
        order: Order,
        /// Milliseconds to wait before: the pause before a repetition.
        pause_ms: u64,
    },
}

/// What follows from an input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "events have to be made durable, and effects to be started"]
pub struct Decision {
    /// What is to be recorded, in one transaction.
    pub events: Vec<Event>,
    /// What is to be done then.
    pub effects: Vec<Effect>,
}

/// A run's state that takes inputs.
///
/// A machine moves with its own decisions, at once: its state is that of a journal to which the
/// decision's events have been appended. Whoever fails to append them drops the machine and
/// loads another one from the journal, which alone is the truth.
#[derive(Debug, Clone)]
pub struct Machine {
    run: RunId,
    index: Arc<PlanIndex>,
    state: RunState,
    progress: Progress,
}

impl Machine {
    /// The machine of a run of which nothing has been recorded.
    #[must_use]
    pub fn new(run: RunId, index: Arc<PlanIndex>) -> Self {
        let state = RunState::new(index.plan().id.clone());
        let progress = Progress::new(&index);
        Self { run, index, state, progress }
    }

    /// The machine of a run with this journal.
    ///
    /// # Errors
    /// As [`Machine::fold`].
    pub fn load<'a>(
        run: RunId,
        index: Arc<PlanIndex>,
        journal: impl IntoIterator<Item = &'a JournalEntry>,
    ) -> Result<Self, Error> {
        let mut machine = Self::new(run, index);
        for entry in journal {
            machine.fold(entry)?;
        }
        Ok(machine)
    }

    /// Takes in an entry that somebody else recorded.
    ///
    /// # Errors
    /// [`Error::IllegalEvent`] where it is not possible in this state, [`Error::UnknownFormat`].
    pub fn fold(&mut self, entry: &JournalEntry) -> Result<(), Error> {
        crate::fold::fold(&mut self.state, &self.index, entry)?;
        self.progress.follow(&self.index, &self.state, &entry.event);
        Ok(())
    }

    /// Where the run stands.
    #[must_use]
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// The state, without the machine.
    #[must_use]
    pub fn into_state(self) -> RunState {
        self.state
    }

    /// The plan.
    #[must_use]
    pub fn index(&self) -> &Arc<PlanIndex> {
        &self.index
    }

    /// Whether anything has been recorded.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.state.last_at.is_some()
    }

    /// The next action, from `from` on, by which a failed step gives something back; none where nothing
    /// is left.
    fn next_to_give_back(&self, step: usize, from: u32) -> Option<u32> {
        let step = self.index.step(step);
        let StepStatus::Failed { action: failed } = self.state.step(&step.id) else { return None };
        let aside = self.state.set_aside.contains(&step.id);
        let due = |(_, action): &(u32, &Action)| step.gives_back(action, failed, aside);
        (0u32..).zip(&step.give_back).skip(from as usize).find(due).map(|(at, _)| at)
    }

    /// Steps that something is being done for now: those that run, and those that give back.
    #[must_use]
    pub fn steps_under_way(&self) -> Vec<StepId> {
        let giving_back = self.progress.give_back.iter().filter(|(_, back)| back.open).map(|(step, _)| step);
        self.progress
            .running
            .iter()
            .chain(giving_back)
            .map(|step| self.index.step(*step).id.clone())
            .collect()
    }

    /// Attempts without an outcome.
    pub fn attempts_under_way(&self) -> impl Iterator<Item = &AttemptId> {
        self.progress.open.keys()
    }

    /// Whether nothing is under way and nothing will begin by itself.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let status = self.state.status;
        let waits = status.is_final()
            || matches!(status, RunStatus::Halted | RunStatus::Paused | RunStatus::AwaitingFinalize);
        waits && self.progress.open.is_empty() && self.progress.due.is_empty()
    }

    /// Decides what follows from an input. An input that means nothing where the run stands
    /// (a breach while it is halted, anything after its end) leads to an empty decision; only
    /// commands are refused, because a person waits for the answer.
    ///
    /// # Errors
    /// [`Error::Refused`] for a command that makes no sense now; nothing changed then. Every
    /// other error is a defect of Volutus or a journal of another plan; the machine is of no
    /// use afterwards.
    pub fn step(&mut self, input: Input, at: Timestamp) -> Result<Decision, Error> {
        let mut turn = Turn { machine: self, at, decision: Decision::default() };
        turn.take(input)?;
        turn.advance()?;
        Ok(turn.decision)
    }
}

/// One decision in the making.
struct Turn<'a> {
    machine: &'a mut Machine,
    at: Timestamp,
    decision: Decision,
}

impl Turn<'_> {
    fn record(&mut self, event: Event) -> Result<(), Error> {
        let machine = &mut *self.machine;
        apply(&mut machine.state, &machine.index, &event, self.at)?;
        machine.progress.follow(&machine.index, &machine.state, &event);
        self.decision.events.push(event);
        Ok(())
    }

    fn status(&self) -> RunStatus {
        self.machine.state.status
    }

    fn take(&mut self, input: Input) -> Result<(), Error> {
        match (self.machine.has_begun(), &input) {
            (true, Input::Begin { .. }) => return Err(Error::HasBegun),
            (false, Input::Begin { .. }) | (true, _) => {}
            (false, _) => return Err(Error::HasNotBegun),
        }
        match input {
            Input::Begin { holder } => {
                let plan = self.machine.state.plan.clone();
                self.record(Event::RunCreated { plan })?;
                self.record(Event::RunTakenUp { holder })
            }
            Input::TakeUp { holder } => self.take_up(holder),
            Input::Finished { attempt, outcome } => self.finish(attempt, outcome),
            Input::Command(command) => self.command(command),
            Input::Breach(breach) => self.breach(breach),
            Input::Advance => Ok(()),
        }
    }

    fn take_up(&mut self, holder: String) -> Result<(), Error> {
        if self.status().is_final() {
            return Ok(());
        }
        self.record(Event::RunTakenUp { holder })?;
        let open: Vec<AttemptId> = self.machine.progress.open.keys().cloned().collect();
        for attempt in open {
            self.take_up_attempt(attempt, 0)?;
        }
        Ok(())
    }

    fn finish(&mut self, attempt: AttemptId, outcome: Outcome) -> Result<(), Error> {
        let Some((step, list)) = self.machine.progress.open.get(&attempt).copied() else {
            return Err(Error::NotUnderWay { attempt });
        };
        self.record(Event::AttemptFinished { attempt: attempt.clone(), outcome: outcome.clone() })?;
        let progress = &self.machine.progress;
        let spent = progress.is_spent(&self.machine.index, progress.tries(step), &attempt, &outcome);
        if list == ActionList::GiveBack || !spent {
            return Ok(());
        }
        let id = self.machine.index.step(step).id.clone();
        self.record(Event::StepFailed { step: id.clone() })?;
        if !matches!(self.status(), RunStatus::Running | RunStatus::Paused) {
            return Ok(());
        }
        let phase = self.phase_of(step);
        let policy = self.policy_in(phase);
        let first = !self.machine.progress.was_retried(step);
        if policy == OnFailure::RetryThenHalt && first && self.status() == RunStatus::Running {
            return self.record(Event::StepRetried { step: id });
        }
        let why = failure_text(&outcome).unwrap_or_default();
        self.fall(format!("step {id} failed: {why}"), policy)
    }

    /// The phase that a step belongs to.
    fn phase_of(&self, step: usize) -> Phase {
        let index = &self.machine.index;
        index.stage(index.steps[step].stage).phase
    }

    /// What the policy says about a failure in a phase, as far as it can be followed: what a
    /// rollback does is not taken back, and what cannot be taken back is not.
    fn policy_in(&self, phase: Phase) -> OnFailure {
        let plan = self.machine.index.plan();
        match plan.policy.on_failure_in(phase) {
            OnFailure::RollBack if WayBackClosed::of(plan, &self.machine.state).is_some() => OnFailure::Halt,
            other => other,
        }
    }

    /// Halts and, where the policy says so, gives the run up so that it is taken back. A run
    /// that somebody paused is in that person's hands, and halts.
    fn fall(&mut self, cause: String, policy: OnFailure) -> Result<(), Error> {
        let paused = self.status() == RunStatus::Paused;
        self.record(Event::Halted { cause: cause.clone() })?;
        if policy == OnFailure::RollBack && !paused {
            self.record(Event::RollbackDue { cause })?;
            self.record(Event::AbortRequested)?;
        }
        Ok(())
    }

    fn breach(&mut self, breach: ProbeBreach) -> Result<(), Error> {
        use RunStatus::{AwaitingFinalize, Paused, Running};
        if !matches!(self.status(), Running | Paused | AwaitingFinalize) {
            return Ok(());
        }
        // Of the phases that are under way the one with the strictest policy counts.
        let phases = self.machine.progress.running.iter().map(|step| self.policy_in(self.phase_of(*step)));
        let policy = phases.max().unwrap_or_else(|| self.policy_in(Phase::Soak));
        let limits = &self.machine.index.plan().policy;
        let cause = match &breach.silent {
            Some(silent) => format!(
                "no answer to {} for {:.1} s; the policy halts a run at {:.1} s",
                silent.target,
                seconds(silent.for_ms),
                seconds(u64::from(limits.reach_gap_max_ms))
            ),
            None => format!(
                "{} of {} requests of the synthetic user failed; the policy halts a run at {}",
                breach.failed,
                breach.total,
                limits.failed_requests_max.max(1)
            ),
        };
        self.record(Event::ProbeBreached(breach))?;
        self.fall(cause, policy)
    }

    fn command(&mut self, command: Command) -> Result<(), Error> {
        use RunStatus::{Aborted, Aborting, AwaitingFinalize, Halted, Paused, Running, Succeeded};
        let status = self.status();
        let why = match (command, status) {
            (Command::Pause, Running) => return self.record(Event::Paused),
            (Command::Resume, Paused | Halted) => return self.resume(),
            (Command::Abort, Running | Paused | Halted | AwaitingFinalize) => {
                return self.record(Event::AbortRequested);
            }
            (Command::Finalize, AwaitingFinalize) if self.machine.index.plan().leaves_hosts_behind() => {
                "compute hosts that failed were left on the old release, and what finalize takes away they still \
                 need: mend them, give this run up with abort, and upgrade them by a new plan, which finalizes"
            }
            (Command::Finalize, AwaitingFinalize) => return self.record(Event::FinalizeAllowed),
            (Command::RollBack, Running | Paused | Halted | AwaitingFinalize) => {
                if WayBackClosed::of(self.machine.index.plan(), &self.machine.state).is_none() {
                    self.record(Event::RollbackDue { cause: "somebody asked for it".to_owned() })?;
                    return self.record(Event::AbortRequested);
                }
                "its way back is closed: finalize was allowed, an expand took away what old code needs, \
                 or it is a rollback itself"
            }
            (Command::GoOn, Halted) => {
                if self.may_go_on() {
                    return self.go_on();
                }
                "it is not the emptying or restart of hosts that failed"
            }
            (_, Succeeded) => "everything is complete",
            (_, Aborted) => "it was given up; make a new plan from what the cloud is now",
            (_, Aborting) => "it is being given up, which cannot be stopped",
            (Command::Pause, Paused | Halted) => "no step starts in it anyway",
            (Command::Pause | Command::Resume, AwaitingFinalize) => {
                "it waits for nothing but finalize (or abort, to end it here)"
            }
            (Command::Resume | Command::GoOn, Running) => "it goes on already",
            (Command::GoOn, Paused | AwaitingFinalize) => "nothing has failed in it",
            (Command::Finalize, Running | Paused | Halted) => {
                "finalize comes after every step of the roll is complete"
            }
        };
        Err(Error::Refused { command, status, why })
    }

    fn resume(&mut self) -> Result<(), Error> {
        self.record(Event::Resumed)?;
        let failed: Vec<usize> = self.machine.progress.failed.iter().copied().collect();
        for step in failed {
            let step = self.machine.index.step(step).id.clone();
            self.record(Event::StepRetried { step })?;
        }
        Ok(())
    }

    /// Whether what failed are hosts that can be left out. In an upgrade nothing else can: the control plane and
    /// the first compute that is replaced in place are what all the others stand on.
    fn may_go_on(&self) -> bool {
        let (plan, failed) = (self.machine.index.plan(), &self.machine.progress.failed);
        let is_host = |step: &usize| self.machine.index.step(*step).empties().is_some();
        plan.restarts_hosts() && !failed.is_empty() && (plan.drains.is_none() || failed.iter().all(is_host))
    }

    /// Gives the run up without giving back the hosts that failed once they were acted upon.
    fn go_on(&mut self) -> Result<(), Error> {
        let machine = &*self.machine;
        let aside = |step: &&usize| {
            let step = machine.index.step(**step);
            matches!(machine.state.step(&step.id), StepStatus::Failed { action } if step.is_acted_upon(action))
        };
        let failed = machine.progress.failed.iter().filter(aside);
        let set_aside = failed.map(|step| machine.index.step(*step).id.clone()).collect();
        let cause = machine.state.halt_cause.clone().unwrap_or_default();
        self.record(Event::ReplanDue { cause, set_aside })?;
        self.record(Event::AbortRequested)
    }

    /// Whatever may go on goes on.
    fn advance(&mut self) -> Result<(), Error> {
        self.continue_steps()?;
        self.complete_stages()?;
        match self.status() {
            RunStatus::Running => self.begin_steps(),
            RunStatus::Aborting => self.give_back(),
            RunStatus::Paused
            | RunStatus::Halted
            | RunStatus::AwaitingFinalize
            | RunStatus::Aborted
            | RunStatus::Succeeded => Ok(()),
        }
    }

    /// Steps that run go on to their next action in every status: a step that was left in the
    /// middle would hold a drained server.
    fn continue_steps(&mut self) -> Result<(), Error> {
        while let Some(step) = self.machine.progress.due.first().copied() {
            let plan_step = self.machine.index.step(step);
            let StepStatus::Running { action, .. } = self.machine.state.step(&plan_step.id) else {
                unreachable!("a due step runs: both follow from the same events");
            };
            if action as usize >= plan_step.actions.len() {
                let step = plan_step.id.clone();
                self.record(Event::StepCompleted { step })?;
            } else {
                self.attempt(step, ActionList::Actions, action)?;
            }
        }
        Ok(())
    }

    fn complete_stages(&mut self) -> Result<(), Error> {
        if self.status().is_final() {
            return Ok(());
        }
        while let Some(stage) = self.machine.progress.finished.first().copied() {
            let stage = self.machine.index.stage(stage).id.clone();
            self.record(Event::StageCompleted { stage })?;
        }
        Ok(())
    }

    fn begin_steps(&mut self) -> Result<(), Error> {
        loop {
            self.complete_stages()?;
            if let Some(stage) = self.machine.progress.startable.first().copied() {
                let stage = self.machine.index.stage(stage).id.clone();
                self.record(Event::StageStarted { stage })?;
            } else if let Some(step) = next_step(&self.machine.index, &self.machine.progress) {
                let plan_step = self.machine.index.step(step);
                if plan_step.actions.is_empty() {
                    let step = plan_step.id.clone();
                    self.record(Event::StepCompleted { step })?;
                } else {
                    self.attempt(step, ActionList::Actions, 0)?;
                }
            } else {
                break;
            }
        }
        if self.machine.progress.unheld_left == 0 && self.machine.state.rolled_at.is_none() {
            self.record(Event::RollCompleted)?;
        }
        if self.status() == RunStatus::Running && self.machine.progress.stages_left == 0 {
            self.record(Event::Succeeded)?;
        }
        Ok(())
    }

    /// In an abort, once no step runs: what failed steps hold is given back, as many at a time
    /// as steps may run.
    fn give_back(&mut self) -> Result<(), Error> {
        if !self.machine.progress.running.is_empty() {
            return Ok(());
        }
        let width = self.machine.index.plan().policy.parallel_steps_max as usize;
        let failed: Vec<usize> = self.machine.progress.failed.iter().copied().collect();
        let mut left = Vec::new();
        for step in failed {
            let back = self.machine.progress.give_back.get(&step);
            let open = back.is_some_and(|back| back.open);
            let next = self.machine.next_to_give_back(step, back.map_or(0, |back| back.next));
            if let Some(next) = next.filter(|_| !open && self.machine.progress.open.len() < width) {
                self.attempt(step, ActionList::GiveBack, next)?;
            } else if let Some(back) = back {
                left.extend(back.left.iter().cloned());
            }
            if next.is_some() && self.machine.progress.open.len() >= width {
                return Ok(());
            }
        }
        if self.machine.progress.open.is_empty() {
            self.record(Event::Aborted { left })?;
        }
        Ok(())
    }

    /// Makes the next attempt at an action: a new one, or, where the outcome of the last one
    /// was lost, that one again, because what it began may still be going on.
    fn attempt(&mut self, step: usize, list: ActionList, action: u32) -> Result<(), Error> {
        let machine = &*self.machine;
        let last = machine.progress.latest.get(&(step, list, action));
        let known = last.and_then(|id| machine.state.attempts.get(id).map(|attempt| (id, attempt)));
        let mut number = 1;
        let mut pause_ms = 0;
        if let Some((id, attempt)) = known {
            match &attempt.outcome {
                Some(Outcome::Unknown { .. }) => {
                    let pause_ms = pause_before(machine.progress.unknowns(id) + 1);
                    let id = id.clone();
                    return self.take_up_attempt(id, pause_ms);
                }
                Some(Outcome::Failed(_)) => {
                    let tries = match list {
                        ActionList::Actions => machine.progress.tries(step),
                        ActionList::GiveBack => machine.progress.give_back.get(&step).map_or(0, |b| b.tries),
                    };
                    pause_ms = pause_before(tries + 1);
                }
                Some(Outcome::Done { .. } | Outcome::FoundNoChangesNeeded { .. }) | None => {}
            }
            number = attempt.number + 1;
        }
        let attempt = attempt_id(&machine.run, step, list, action, number);
        let id = machine.index.step(step).id.clone();
        self.record(Event::AttemptStarted { attempt: attempt.clone(), step: id, action, list, number })?;
        self.perform(step, list, action, attempt, false, pause_ms);
        Ok(())
    }

    fn take_up_attempt(&mut self, attempt: AttemptId, pause_ms: u64) -> Result<(), Error> {
        self.record(Event::AttemptTakenUp { attempt: attempt.clone() })?;
        let known = &self.machine.state.attempts[&attempt];
        let (action, list) = (known.action, known.list);
        if let Some(step) = self.machine.index.step_position(&known.step) {
            self.perform(step, list, action, attempt, true, pause_ms);
        }
        Ok(())
    }

    fn perform(
        &mut self,
        step: usize,
        list: ActionList,
        action: u32,
        attempt: AttemptId,
        taken_up: bool,
        pause_ms: u64,
    ) {
        let plan_step = self.machine.index.step(step);
        let actions = match list {
            ActionList::Actions => &plan_step.actions,
            ActionList::GiveBack => &plan_step.give_back,
        };
        // It was recorded just before: no order without its durable attempt.
        let retried = self.machine.state.attempts[&attempt].number > 1;
        let order = Order {
            run: self.machine.run.clone(),
            attempt,
            step: plan_step.id.clone(),
            action: actions[action as usize].clone(),
            timeout_s: timeout_of(&actions[action as usize], plan_step, &self.machine.index.plan().policy),
            taken_up,
            retried,
        };
        self.decision.effects.push(Effect::Perform { order, pause_ms });
    }
}

/// Seconds after which an action is given up. A step's own limit is that of its slowest action,
/// which is a graceful stop; a daemon that does not prove itself has its own.
fn timeout_of(action: &Action, step: &Step, policy: &Policy) -> u32 {
    match action {
        Action::ProveDaemon { .. } => step.action_timeout_s.min(policy.prove_timeout_s),
        Action::RunHook(call) => call.limit_s,
        Action::MoveNewcomers(newcomers) => step.action_timeout_s.max(newcomers.limit_s),
        Action::RebootHost { limit_s, .. } | Action::RunCommand { limit_s, .. } => {
            limit_s.unwrap_or(step.action_timeout_s)
        }
        _ => step.action_timeout_s,
    }
}

/// The pause before the try of this number (from 1; the first has none).
fn pause_before(number: u32) -> u64 {
    match number {
        0 | 1 => 0,
        more => PAUSE_FIRST_MS.saturating_mul(1 << (more - 2).min(10)).min(PAUSE_MAX_MS),
    }
}

/// Short, unlike any other, the same whenever it is made, and fit for a unit's name.
fn attempt_id(run: &RunId, step: usize, list: ActionList, action: u32, number: u32) -> AttemptId {
    let list = match list {
        ActionList::Actions => 'a',
        ActionList::GiveBack => 'g',
    };
    AttemptId::new(format!("{run}-{step}-{list}{action}-{number}"))
        .expect("a run id of at most 150 characters, digits and dashes make a name")
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}
