//! What happened in a run. The journal is a chain of these; the state of a run is their fold.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::name::{AttemptId, PlanId, RunId, StageId, StepId};
use crate::outcome::Outcome;

/// Who caused something: a person at a terminal, or Volutus itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Actor(pub String);

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One thing that happened in a run. The wire form is stable: a variant is never changed, only
/// added, because every later version reads the journals of every earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The run was created for an approved plan.
    RunCreated {
        /// The plan.
        plan: PlanId,
    },
    /// A Volutus process took the run up (again).
    RunTakenUp {
        /// Process and host, as in the lease.
        holder: String,
    },
    /// A stage's first step may start.
    StageStarted {
        /// Which.
        stage: StageId,
    },
    /// All steps of a stage are complete.
    StageCompleted {
        /// Which.
        stage: StageId,
    },
    /// An attempt at one action of a step is about to be made. Durable before it is.
    AttemptStarted {
        /// The attempt.
        attempt: AttemptId,
        /// The step.
        step: StepId,
        /// Which action of the step, from 0.
        action: u32,
        /// Which of the step's lists the action is from.
        list: ActionList,
        /// The how-manieth attempt at this action, from 1.
        number: u32,
    },
    /// An attempt whose outcome was lost is looked for again under the same id.
    AttemptTakenUp {
        /// The attempt.
        attempt: AttemptId,
    },
    /// An attempt turned out like this.
    AttemptFinished {
        /// The attempt.
        attempt: AttemptId,
        /// How.
        outcome: Outcome,
    },
    /// All actions of a step are done.
    StepCompleted {
        /// Which.
        step: StepId,
    },
    /// A step cannot go on.
    StepFailed {
        /// Which.
        step: StepId,
    },
    /// A step that had failed is to be tried again from the action that failed.
    StepRetried {
        /// Which.
        step: StepId,
    },
    /// No further step starts until somebody decides; running steps end first.
    Halted {
        /// Why.
        cause: String,
    },
    /// No further step starts until somebody resumes; running steps end first.
    Paused,
    /// Steps may start again.
    Resumed,
    /// The policy wants everything put back: the run is given up, and a run that takes it back
    /// has to follow. A Volutus that finds this in the journal of an aborted run makes it.
    RollbackDue {
        /// What went wrong, and which rule of the policy says so.
        cause: String,
    },
    /// The run of a reboot is given up, so that a new plan goes on with the other hosts. A Volutus
    /// that finds this in the journal of an aborted run makes that plan.
    ReplanDue {
        /// What went wrong.
        cause: String,
        /// Steps that failed on hosts that were acted upon: these are not given back, but stay out of
        /// service until somebody has looked at them.
        set_aside: Vec<StepId>,
    },
    /// The run is being given up: what it holds is given back.
    AbortRequested,
    /// The run is at an end, given up; everything it held was given back, or is named.
    Aborted {
        /// What could not be given back.
        left: Vec<String>,
    },
    /// The operator allowed the stages that take the way back.
    FinalizeAllowed,
    /// Everything up to the held stages is complete.
    RollCompleted,
    /// Everything is complete.
    Succeeded,
    /// The synthetic user saw more failures than the policy allows, or an address of the data plane was
    /// silent for longer.
    ProbeBreached(ProbeBreach),
}

/// From which of a step's lists an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActionList {
    /// [`crate::plan::Step::actions`].
    Actions,
    /// [`crate::plan::Step::give_back`].
    GiveBack,
}

/// More failed requests, or a longer silence, than the policy allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeBreach {
    /// Failed requests so far.
    pub failed: u64,
    /// Requests so far.
    pub total: u64,
    /// The last of them, one line each: time, service, operation, status, why.
    pub last: Vec<String>,
    /// The address of the data plane that did not answer for too long, where that was it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<Silence>,
}

/// An address of the data plane that did not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// How it was to be reached and what it is called: `ping vm7`.
    pub target: String,
    /// For how long, in milliseconds.
    pub for_ms: u64,
}

/// One record of a run's journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Format version of the entry; 1.
    pub format: u32,
    /// The run.
    pub run: RunId,
    /// Position, from 0, without gaps.
    pub seq: u64,
    /// The lease's epoch under which it was written.
    pub epoch: u64,
    /// When it was written, by the clock of the Volutus that wrote it.
    pub at: Timestamp,
    /// Who caused it.
    pub actor: Actor,
    /// [`JournalEntry::compute_hash`] of the entry before; empty for the first.
    pub prev_hash: String,
    /// What happened.
    pub event: Event,
}

impl JournalEntry {
    /// The hash of this entry, which the next one carries: whoever changes an entry breaks the
    /// chain from there on.
    #[must_use]
    pub fn compute_hash(&self) -> String {
        let text = serde_json::to_vec(self).expect("a journal entry has only text keys");
        blake3::hash(&text).to_hex()[..32].to_owned()
    }
}
