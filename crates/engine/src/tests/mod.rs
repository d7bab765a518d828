//! Tests of the whole engine; what they share.

mod explore;
mod invariants;
mod machine;
pub(crate) mod plans;
mod random;
mod transitions;

use std::sync::Arc;

use jiff::Timestamp;
use volutus_model::event::{Actor, Event, JournalEntry};
use volutus_model::outcome::{Failure, FailureClass, Outcome};
use volutus_model::plan::Plan;

use crate::machine::Machine;
use crate::{Decision, Input, PlanIndex};

pub(crate) fn failure(class: FailureClass) -> Outcome {
    Outcome::Failed(Failure {
        class,
        message: "it broke".to_owned(),
        hint: "mend it".to_owned(),
        evidence: Vec::new(),
        refused_by: std::collections::BTreeSet::new(),
        newcomers: std::collections::BTreeSet::new(),
    })
}

pub(crate) fn unknown() -> Outcome {
    Outcome::Unknown { why: "the connection went".to_owned() }
}

pub(crate) fn index(plan: Plan) -> Arc<PlanIndex> {
    Arc::new(PlanIndex::new(Arc::new(plan)).unwrap())
}

pub(crate) fn entries(events: &[Event]) -> Vec<JournalEntry> {
    let entry = |(seq, event): (usize, &Event)| JournalEntry {
        format: 1,
        run: "r1".parse().unwrap(),
        seq: seq as u64,
        epoch: 1,
        at: Timestamp::UNIX_EPOCH,
        actor: Actor("test".to_owned()),
        prev_hash: String::new(),
        event: event.clone(),
    };
    events.iter().enumerate().map(entry).collect()
}

/// A machine with its journal.
#[derive(Clone)]
pub(crate) struct Trial {
    pub machine: Machine,
    pub journal: Vec<Event>,
}

impl Trial {
    pub fn new(plan: Plan) -> Self {
        Self { machine: Machine::new("r1".parse().unwrap(), index(plan)), journal: Vec::new() }
    }

    pub fn begun(plan: Plan) -> (Self, Decision) {
        let mut trial = Self::new(plan);
        let decision = trial.step(Input::Begin { holder: "p1".to_owned() }).unwrap();
        (trial, decision)
    }

    pub fn step(&mut self, input: Input) -> Result<Decision, crate::Error> {
        let decision = self.machine.step(input, Timestamp::UNIX_EPOCH)?;
        self.journal.extend(decision.events.iter().cloned());
        Ok(decision)
    }

    /// What a process that starts now makes of the journal.
    pub fn reloaded(&self) -> Machine {
        let run = "r1".parse().unwrap();
        Machine::load(run, Arc::clone(self.machine.index()), &entries(&self.journal)).unwrap()
    }
}
