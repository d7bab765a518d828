//! A Volutus process, with the manners of the runtime's session: events are durable before their
//! effects begin, outcomes are recorded in batches, the lease is renewed, a lost one is the end.
//! The engine in it is the real one.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use volutus_engine::{Command, Effect, Error, Input, Machine};
use volutus_model::event::{ActionList, Event, ProbeBreach};
use volutus_model::name::AttemptId;
use volutus_model::outcome::{FailureClass, Outcome};
use volutus_model::run::RunStatus;

use crate::coverage::InputKind;
use crate::driver::Attempt;
use crate::fault::Fate;
use crate::mutant::Mutant;
use crate::simulation::{Happening, Simulation};
use crate::store::LEASE_TTL_MS;

/// The runtime's figure.
const RENEWAL_MS: u64 = 5_000;
/// The runtime's figure.
const OUTCOMES_MAX: usize = 64;
/// Between two tries to get a lease that somebody else holds.
const LEASE_RETRY_MS: u64 = 10_000;
/// When virtual time begins: far enough from the epoch that clocks may jump back.
const BEGINNING_S: i64 = 1_700_000_000;

/// What a process has to deal with.
#[derive(Debug)]
pub(crate) enum Message {
    Ended(AttemptId, Outcome),
    Command(Command),
    Breach,
}

/// A decision that is on its way to the disk.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    events: Vec<Event>,
    effects: Vec<Effect>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Process {
    pub home: usize,
    pub epoch: u64,
    pub alive: bool,
    machine: Option<Machine>,
    pending: Option<Batch>,
    inbox: VecDeque<Message>,
    /// Attempts of which an answer is expected.
    pub open: Vec<AttemptId>,
    pub stalled_until: u64,
    /// It watches a rolled cloud until it finalizes by itself.
    watches: bool,
    /// When the lease was renewed last, by a clock that never jumps.
    renewed: u64,
}

impl Process {
    /// Whether somebody may have taken the lease meanwhile.
    pub fn may_have_lost(&self, now: u64) -> bool {
        now.saturating_sub(self.renewed) >= LEASE_TTL_MS as u64
    }
}

impl Simulation<'_> {
    fn wall_ms(&self, home: usize) -> i64 {
        BEGINNING_S * 1_000 + i64::try_from(self.now).unwrap_or(i64::MAX) + self.clocks[home]
    }

    fn wall(&self, home: usize) -> Timestamp {
        let ms = SignedDuration::from_millis(self.wall_ms(home));
        Timestamp::UNIX_EPOCH.checked_add(ms).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// A process starts: lease, journal, and whatever follows from it.
    pub(crate) fn start(&mut self, home: usize, tries: u32) {
        let process = self.processes.len();
        if self.processes.iter().any(|other| other.alive && other.home == home) {
            // The commands that were meant for a new one are carried out by the one that lives.
            self.starting -= 1;
            if let Some(alive) = self.processes.iter().position(|other| other.alive) {
                self.at(self.now, Happening::Obey(alive));
            }
            return;
        }
        let dead = self.store.lease.as_ref().is_some_and(|lease| !self.processes[lease.holder].alive);
        let Some(epoch) = self.store.acquire(process, home, self.wall_ms(home), dead) else {
            if tries == 0 {
                self.starting -= 1;
            } else {
                self.at(self.now + LEASE_RETRY_MS, Happening::Start(home, tries - 1));
            }
            return;
        };
        self.starting -= 1;
        self.say(|_| format!("process {process} has the lease, epoch {epoch}"));
        let index = Arc::clone(&self.prepared.index);
        let machine = match Machine::load(self.run.clone(), index, &self.store.journal) {
            Ok(machine) => machine,
            Err(error) => {
                self.monitor.violate(self.now, "journal-illegal", error.to_string());
                self.finished = true;
                return;
            }
        };
        let begun = machine.has_begun();
        self.processes.push(Process {
            home,
            epoch,
            alive: true,
            machine: Some(machine),
            pending: None,
            inbox: VecDeque::new(),
            open: Vec::new(),
            stalled_until: 0,
            watches: false,
            renewed: self.now,
        });
        if self.config.fine {
            self.at(self.now + RENEWAL_MS, Happening::Renew(process));
        }
        let holder = format!("process {process}");
        let input = if begun { Input::TakeUp { holder } } else { Input::Begin { holder } };
        self.decide(process, vec![input]);
    }

    /// Steps the engine; what follows goes to the disk.
    fn decide(&mut self, process: usize, inputs: Vec<Input>) {
        let at = self.wall(self.processes[process].home);
        let mut batch = Batch::default();
        for input in inputs {
            let Some(machine) = self.processes[process].machine.as_mut() else { return };
            let before = machine.has_begun().then(|| machine.state().status);
            let kind = kind_of(&input);
            match machine.step(input, at) {
                Ok(decision) => {
                    self.monitor.coverage.input(before, kind);
                    batch.events.extend(decision.events);
                    batch.effects.extend(decision.effects);
                }
                Err(Error::Refused { .. }) => {
                    self.monitor.coverage.input(before, kind);
                    if kind == InputKind::Finalize && !self.is(Mutant::FinalizesItself) {
                        self.monitor.finalize_refused();
                    }
                }
                Err(error) => {
                    self.monitor.violate(self.now, "engine-refused", error.to_string());
                    return self.die(process);
                }
            }
        }
        if batch.events.is_empty() {
            return self.idle(process);
        }
        if self.is(Mutant::PerformsFirst) {
            for effect in std::mem::take(&mut batch.effects) {
                self.perform(process, effect);
            }
        }
        if self.is_a_point_of_crash() {
            self.say(|_| "Volutus is ended before an append is durable".to_owned());
            return self.crash(process);
        }
        self.processes[process].pending = Some(batch);
        if self.config.fine {
            let ms = self.luck.between(1, 25);
            self.at(self.now + ms, Happening::Durable(process));
        } else {
            self.durable(process);
        }
    }

    /// An append is durable, or refused.
    pub(crate) fn durable(&mut self, process: usize) {
        let it = &self.processes[process];
        if !it.alive {
            return;
        }
        if it.stalled_until > self.now {
            let until = it.stalled_until;
            return self.at(until, Happening::Durable(process));
        }
        let epoch = it.epoch;
        let at = self.wall(it.home);
        let Some(batch) = self.processes[process].pending.take() else { return };
        if self.store.check(epoch).is_err() && !self.is(Mutant::NoFence) {
            return self.fence(process);
        }
        let crashes = self.is_a_point_of_crash();
        let lost = crashes && self.is(Mutant::AppendIsLazy);
        if !lost {
            if self.config.keeps_journal(&self.prepared.plan.policy) {
                let run = self.run.clone();
                self.store.append(&run, epoch, at, &batch.events);
            }
            self.monitor.recorded(self.now, epoch, &batch.events);
            self.follow(&batch.events);
        }
        if crashes && !lost {
            self.say(|_| "Volutus is ended after an append was durable".to_owned());
            return self.crash(process);
        }
        for effect in batch.effects {
            if self.is_a_point_of_crash() {
                self.say(|_| "Volutus is ended among the effects of a decision".to_owned());
                return self.crash(process);
            }
            self.perform(process, effect);
        }
        self.idle(process);
    }

    /// What a report needs of the events.
    fn follow(&mut self, events: &[Event]) {
        for event in events {
            if self.config.trace {
                let text = describe(event);
                self.trace.push((self.now, text));
            }
            match event {
                Event::Resumed => self.failed_requests = 0,
                Event::StageStarted { stage } => {
                    if let Some(at) = self.stage_at(stage) {
                        self.stages[at].0 = self.now;
                    }
                }
                Event::StageCompleted { stage } => {
                    if let Some(at) = self.stage_at(stage) {
                        self.stages[at].1 = self.now;
                    }
                }
                Event::RollCompleted => self.rolled_at = Some(self.now),
                Event::Halted { .. } | Event::Succeeded | Event::Aborted { .. } => self.ended_at = self.now,
                _ => {}
            }
        }
    }

    fn stage_at(&self, id: &volutus_model::StageId) -> Option<usize> {
        self.prepared.plan.stages.iter().position(|stage| stage.id == *id)
    }

    fn perform(&mut self, process: usize, effect: Effect) {
        let Effect::Perform { mut order, pause_ms } = effect;
        let Some(&step) = self.prepared.steps.get(&order.step) else { return };
        // The attempt's place in the plan is in its action; the list is told by its id's record.
        let declared = self.monitor.attempts.get(&order.attempt);
        let list = declared.map_or(ActionList::Actions, |declared| declared.list);
        let position = declared.map(|declared| declared.action);
        let ops = &self.prepared.ops[step];
        let timed = match list {
            ActionList::Actions => &ops.actions,
            ActionList::GiveBack => &ops.give_back,
        };
        let place = position.or_else(|| {
            let (_, plan_step) = self.prepared.plan.step(&order.step)?;
            plan_step.actions.iter().position(|action| *action == order.action)
        });
        let Some(timed) = place.and_then(|place| timed.get(place)).copied() else { return };
        let mut id = order.attempt.clone();
        if self.is(Mutant::TakeUpStartsAnew) && order.taken_up {
            order.taken_up = false;
            id = AttemptId::new(format!("{id}-anew")).unwrap_or(id);
        }
        if self.is(Mutant::GiveBackForgotten) && list == ActionList::GiveBack {
            let outcome = Outcome::done("");
            self.monitor.achieved(&id);
            self.processes[process].open.push(id.clone());
            self.processes[process].inbox.push_back(Message::Ended(id, outcome));
            return;
        }
        self.processes[process].open.push(order.attempt);
        let attempt = Attempt {
            process,
            live: true,
            generation: 0,
            id,
            op: timed.op,
            nominal_ms: timed.nominal_ms,
            list,
            taken_up: order.taken_up,
            begun: self.now,
            deadline: 0,
            stage: 0,
            aux: 0,
            fate: Fate::Plain,
            work: None,
            changed: false,
            incarnation: 0,
            timeout_ms: u64::from(order.timeout_s) * 1_000,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                let generation = self.attempts[slot].generation + 1;
                self.attempts[slot] = Attempt { generation, ..attempt };
                slot
            }
            None => {
                self.attempts.push(attempt);
                self.attempts.len() - 1
            }
        };
        let generation = self.attempts[slot].generation;
        self.at(self.now + pause_ms, Happening::Attempt(slot, generation));
    }

    /// An attempt has ended; its process hears of it.
    pub(crate) fn answer(&mut self, slot: usize, outcome: Outcome, twice: bool) {
        let attempt = &mut self.attempts[slot];
        attempt.live = false;
        self.free.push(slot);
        let (process, mut id) = (attempt.process, attempt.id.clone());
        if self.is(Mutant::TakeUpStartsAnew)
            && let Some(own) = id.as_str().strip_suffix("-anew")
        {
            id = AttemptId::new(own).unwrap_or(id);
        }
        let outcome = self.mutate(outcome);
        if twice {
            self.count("an answer arrives twice");
            self.processes[process].inbox.push_back(Message::Ended(id.clone(), outcome.clone()));
        }
        self.processes[process].inbox.push_back(Message::Ended(id, outcome));
        self.idle(process);
    }

    fn mutate(&self, outcome: Outcome) -> Outcome {
        match (self.config.mutant, &outcome) {
            (Some(Mutant::UnknownIsDone), Outcome::Unknown { .. })
            | (Some(Mutant::FailedIsDone), Outcome::Failed(_)) => Outcome::done(""),
            (Some(Mutant::UnchangedIsFailed), Outcome::FoundNoChangesNeeded { .. }) => {
                Outcome::Failed(volutus_model::Failure {
                    class: FailureClass::Permanent,
                    message: "there was nothing to do".to_owned(),
                    hint: String::new(),
                    evidence: Vec::new(),
                    refused_by: std::collections::BTreeSet::new(),
                    newcomers: std::collections::BTreeSet::new(),
                })
            }
            _ => outcome,
        }
    }

    /// A process that waits takes what has come; one at rest ends.
    pub(crate) fn idle(&mut self, process: usize) {
        let it = &mut self.processes[process];
        if !it.alive || it.pending.is_some() || it.stalled_until > self.now {
            return;
        }
        let mut inputs = Vec::new();
        while inputs.len() < OUTCOMES_MAX {
            match it.inbox.pop_front() {
                Some(Message::Ended(attempt, outcome)) => {
                    let open = it.open.iter().position(|open| *open == attempt);
                    if let Some(open) = open {
                        it.open.swap_remove(open);
                    } else if self.config.mutant != Some(Mutant::DuplicatesCount) {
                        continue;
                    }
                    inputs.push(Input::Finished { attempt, outcome });
                }
                Some(other) if inputs.is_empty() => {
                    inputs.push(match other {
                        Message::Command(command) => Input::Command(command),
                        _ => Input::Breach(ProbeBreach {
                            failed: self.failed_requests,
                            total: self.requests,
                            last: Vec::new(),
                            silent: None,
                        }),
                    });
                    break;
                }
                Some(other) => {
                    it.inbox.push_front(other);
                    break;
                }
                None => break,
            }
        }
        if !inputs.is_empty() {
            return self.decide(process, inputs);
        }
        let it = &self.processes[process];
        let Some(machine) = it.machine.as_ref() else { return };
        if !machine.is_at_rest() {
            if it.open.is_empty() {
                self.monitor.violate(self.now, "stuck", "nothing is under way, and nothing ends the run");
                self.finished = true;
                self.die(process);
            }
            return;
        }
        let waits = machine.state().status == RunStatus::AwaitingFinalize;
        if waits && self.config.finalizes_at_once {
            self.monitor.finalize_asked = true;
        }
        if waits && (self.config.finalizes_at_once || self.is(Mutant::FinalizesItself)) {
            return self.decide(process, vec![Input::Command(Command::Finalize)]);
        }
        if waits && !self.store.commands.is_empty() {
            return self.obey(process);
        }
        if waits && let Some(seconds) = self.prepared.plan.policy.finalize_after_s {
            if !self.processes[process].watches {
                self.processes[process].watches = true;
                self.at(self.now + u64::from(seconds) * 1_000, Happening::FinalizeDue(process));
            }
            return;
        }
        if let Some(command) = self.store.commands.pop_front() {
            return self.decide(process, vec![Input::Command(command)]);
        }
        self.say(|_| format!("process {process} ends: the run rests"));
        let epoch = self.processes[process].epoch;
        self.store.release(epoch);
        self.die(process);
        let after = self.mind.between(1_000, 90_000);
        self.at(self.now + after, Happening::Operator);
    }

    /// A process asks for commands.
    pub(crate) fn obey(&mut self, process: usize) {
        if !self.processes[process].alive {
            if !self.store.commands.is_empty() && self.starting == 0 {
                self.start_soon(0, 0);
            }
            return;
        }
        while let Some(command) = self.store.commands.pop_front() {
            self.processes[process].inbox.push_back(Message::Command(command));
        }
        self.idle(process);
    }

    pub(crate) fn renew(&mut self, process: usize) {
        let it = &self.processes[process];
        if !it.alive {
            return;
        }
        if it.stalled_until > self.now {
            let until = it.stalled_until;
            return self.at(until, Happening::Renew(process));
        }
        let (epoch, now) = (it.epoch, self.wall_ms(it.home));
        if self.store.renew(epoch, now).is_err() && !self.is(Mutant::NoFence) {
            return self.fence(process);
        }
        self.processes[process].renewed = self.now;
        self.at(self.now + RENEWAL_MS, Happening::Renew(process));
    }

    /// The policy finalizes without asking.
    pub(crate) fn finalize_due(&mut self, process: usize) {
        let it = &self.processes[process];
        let Some(machine) = it.machine.as_ref().filter(|_| it.alive) else { return };
        if machine.state().status != RunStatus::AwaitingFinalize {
            self.processes[process].watches = false;
            return;
        }
        if it.pending.is_some() || it.stalled_until > self.now {
            return self.at(self.now.max(it.stalled_until) + 100, Happening::FinalizeDue(process));
        }
        self.monitor.finalize_asked = true;
        self.decide(process, vec![Input::Command(Command::Finalize)]);
    }

    pub(crate) fn wake(&mut self, process: usize) {
        self.idle(process);
    }

    /// Users saw more failures than the policy allows.
    pub(crate) fn breach(&mut self) {
        let Some(at) = self.processes.iter().position(|process| process.alive) else { return };
        self.monitor.excuses += 1;
        self.processes[at].inbox.push_back(Message::Breach);
        self.failed_requests = 0;
        self.idle(at);
    }

    /// Somebody else has taken the lease: this process is at its end. Its operator looks at what
    /// has become of the run.
    fn fence(&mut self, process: usize) {
        self.count("a stale process is fenced");
        self.die(process);
        let after = self.mind.between(1_000, 90_000);
        self.at(self.now + after, Happening::Operator);
    }

    /// A process is no more; what it began on hosts goes on.
    fn die(&mut self, process: usize) {
        let it = &mut self.processes[process];
        it.alive = false;
        it.machine = None;
        it.pending = None;
        let mut left = std::mem::take(&mut it.inbox);
        it.open.clear();
        for message in left.drain(..) {
            // Commands stay in the store until they are answered.
            if let Message::Command(command) = message {
                self.store.commands.push_back(command);
            }
        }
        for (slot, attempt) in self.attempts.iter_mut().enumerate() {
            if attempt.live && attempt.process == process {
                attempt.live = false;
                self.free.push(slot);
            }
        }
        if !self.store.commands.is_empty()
            && let Some(other) = self.processes.iter().position(|other| other.alive)
        {
            self.at(self.now + 500, Happening::Obey(other));
        }
    }

    /// Volutus is ended; somebody, or its unit, starts it again.
    pub(crate) fn crash(&mut self, process: usize) {
        self.count("Volutus is ended");
        self.die(process);
        if self.starting == 0 {
            let home = self.mind.index(2);
            let after = self.mind.between(1_000, 60_000);
            self.start_soon(home, after);
        }
    }

    fn is_a_point_of_crash(&mut self) -> bool {
        self.points += 1;
        self.config.crash_points.binary_search(&self.points).is_ok()
    }
}

fn kind_of(input: &Input) -> InputKind {
    match input {
        Input::Begin { .. } => InputKind::Begin,
        Input::TakeUp { .. } | Input::Advance => InputKind::TakeUp,
        Input::Finished { outcome, .. } => InputKind::of_outcome(outcome),
        Input::Command(command) => InputKind::of_command(*command),
        Input::Breach(_) => InputKind::Breach,
    }
}

fn describe(event: &Event) -> String {
    match event {
        Event::AttemptStarted { attempt, step, action, .. } => {
            format!("  begin {attempt}: {step}, action {action}")
        }
        Event::AttemptFinished { attempt, outcome } => match outcome {
            Outcome::Done { .. } => format!("  end {attempt}: done"),
            Outcome::FoundNoChangesNeeded { .. } => format!("  end {attempt}: unchanged"),
            Outcome::Failed(failure) => {
                format!("  end {attempt}: failed ({:?}): {}", failure.class, failure.message)
            }
            Outcome::Unknown { why } => format!("  end {attempt}: unknown: {why}"),
        },
        other => format!("{other:?}"),
    }
}
