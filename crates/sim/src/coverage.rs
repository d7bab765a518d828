//! Which transitions of the engine a set of runs has gone through, out of those that are legal.

use volutus_engine::{Command, event_name};
use volutus_model::event::Event;
use volutus_model::outcome::{FailureClass, Outcome};
use volutus_model::run::RunStatus;

use RunStatus::{Aborted, Aborting, AwaitingFinalize, Halted, Paused, Running, Succeeded};

const STATUSES: [RunStatus; 7] = [Running, Paused, Halted, AwaitingFinalize, Aborting, Aborted, Succeeded];
/// The row of a run of which nothing is recorded.
const FRESH: usize = STATUSES.len();

/// What a machine was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputKind {
    Begin,
    TakeUp,
    Done,
    Unchanged,
    Transient,
    Permanent,
    Unknown,
    Pause,
    Resume,
    Abort,
    Finalize,
    RollBack,
    GoOn,
    Breach,
}

const INPUTS: usize = 14;

impl InputKind {
    pub fn of_outcome(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Done { .. } => Self::Done,
            Outcome::FoundNoChangesNeeded { .. } => Self::Unchanged,
            Outcome::Failed(failure) if failure.class == FailureClass::Transient => Self::Transient,
            Outcome::Failed(_) => Self::Permanent,
            Outcome::Unknown { .. } => Self::Unknown,
        }
    }

    pub fn of_command(command: Command) -> Self {
        match command {
            Command::Pause => Self::Pause,
            Command::Resume => Self::Resume,
            Command::Abort => Self::Abort,
            Command::Finalize => Self::Finalize,
            Command::RollBack => Self::RollBack,
            Command::GoOn => Self::GoOn,
        }
    }
}

/// The events whose transitions are counted, with the statuses in which each is possible. It is
/// written down once more here, so that a change of the engine's own table is noticed.
fn legal_events() -> Vec<(&'static str, Vec<usize>)> {
    let at = |statuses: &[RunStatus]| statuses.iter().map(|status| row(Some(*status))).collect::<Vec<_>>();
    let working: &[RunStatus] = &[Running, Paused, Halted, Aborting];
    vec![
        ("run-created", vec![FRESH]),
        ("run-taken-up", at(&[Running, Paused, Halted, AwaitingFinalize, Aborting])),
        ("stage-started", at(&[Running])),
        ("stage-completed", at(working)),
        ("attempt-started", at(working)),
        ("attempt-taken-up", at(working)),
        ("attempt-finished", at(working)),
        ("step-completed", at(working)),
        ("step-failed", at(working)),
        ("step-retried", at(&[Running])),
        ("halted", at(&[Running, Paused, AwaitingFinalize])),
        ("rollback-due", at(&[Running, Paused, Halted, AwaitingFinalize])),
        ("paused", at(&[Running])),
        ("resumed", at(&[Paused, Halted])),
        ("abort-requested", at(&[Running, Paused, Halted, AwaitingFinalize])),
        ("aborted", at(&[Aborting])),
        ("finalize-allowed", at(&[AwaitingFinalize])),
        ("roll-completed", at(&[Running])),
        ("succeeded", at(&[Running])),
        ("probe-breached", at(&[Running, Paused, AwaitingFinalize])),
    ]
}

/// Inputs, with the statuses in which the runtime can hand them in. Commands can come at any
/// time; where they make no sense, the refusal is the transition.
fn legal_inputs() -> Vec<(InputKind, Vec<usize>)> {
    use InputKind as In;
    let at = |statuses: &[RunStatus]| statuses.iter().map(|status| row(Some(*status))).collect::<Vec<_>>();
    let working: &[RunStatus] = &[Running, Paused, Halted, Aborting];
    let mut all = vec![
        (In::Begin, vec![FRESH]),
        (In::TakeUp, at(&[Running, Paused, Halted, AwaitingFinalize, Aborting])),
        (In::Breach, at(&[Running, Paused, Halted, AwaitingFinalize, Aborting])),
    ];
    for outcome in [In::Done, In::Unchanged, In::Transient, In::Permanent, In::Unknown] {
        all.push((outcome, at(working)));
    }
    for command in [In::Pause, In::Resume, In::Abort, In::Finalize, In::RollBack] {
        all.push((command, at(&STATUSES)));
    }
    all
}

fn row(status: Option<RunStatus>) -> usize {
    status.map_or(FRESH, |status| STATUSES.iter().position(|known| *known == status).unwrap_or(FRESH))
}

/// What was gone through. Sets of several runs can be added.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    inputs: [u16; INPUTS],
    events: Vec<(&'static str, u16)>,
}

impl Coverage {
    pub(crate) fn input(&mut self, status: Option<RunStatus>, input: InputKind) {
        self.inputs[input as usize] |= 1 << row(status);
    }

    pub(crate) fn event(&mut self, status: Option<RunStatus>, event: &Event) {
        self.mark(event_name(event), 1 << row(status));
    }

    fn mark(&mut self, name: &'static str, bits: u16) {
        match self.events.iter_mut().find(|(known, _)| *known == name) {
            Some((_, seen)) => *seen |= bits,
            None => self.events.push((name, bits)),
        }
    }

    /// Adds what other runs went through.
    pub fn add(&mut self, other: &Self) {
        for (own, other) in self.inputs.iter_mut().zip(other.inputs) {
            *own |= other;
        }
        for (name, bits) in &other.events {
            self.mark(name, *bits);
        }
    }

    /// How many of the legal transitions were gone through, and how many there are.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let missing = self.missing().len();
        let total = legal_events().iter().map(|(_, rows)| rows.len()).sum::<usize>()
            + legal_inputs().iter().map(|(_, rows)| rows.len()).sum::<usize>();
        (total - missing, total)
    }

    /// Percent of the legal transitions, rounded down.
    #[must_use]
    pub fn percent(&self) -> usize {
        let (seen, total) = self.count();
        seen * 100 / total.max(1)
    }

    /// The legal transitions that were not gone through: status, then event or input.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let name = |row: usize| STATUSES.get(row).map_or("fresh".to_owned(), ToString::to_string);
        let mut missing = Vec::new();
        for (event, rows) in legal_events() {
            let seen = self.events.iter().find(|(known, _)| *known == event).map_or(0, |(_, bits)| *bits);
            missing.extend(
                rows.into_iter()
                    .filter(|row| seen & (1 << row) == 0)
                    .map(|r| format!("{}: {event}", name(r))),
            );
        }
        for (input, rows) in legal_inputs() {
            let seen = self.inputs[input as usize];
            missing.extend(
                rows.into_iter()
                    .filter(|row| seen & (1 << row) == 0)
                    .map(|row| format!("{}: input {input:?}", name(row))),
            );
        }
        missing
    }

    /// Transitions that were gone through although this table does not hold them legal.
    #[must_use]
    pub fn unexpected(&self) -> Vec<String> {
        let name = |row: usize| STATUSES.get(row).map_or("fresh".to_owned(), ToString::to_string);
        let legal = legal_events();
        let mut all = Vec::new();
        for (event, bits) in &self.events {
            let rows = legal.iter().find(|(known, _)| known == event).map(|(_, rows)| rows.as_slice());
            for row in 0..=FRESH {
                if bits & (1 << row) != 0 && !rows.is_some_and(|rows| rows.contains(&row)) {
                    all.push(format!("{}: {event}", name(row)));
                }
            }
        }
        all
    }
}
