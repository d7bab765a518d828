//! The state of a run, as the fold of its journal describes it. The fold itself is the engine's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{ActionList, ProbeBreach};
use crate::name::{AttemptId, PlanId, StageId, StepId};
use crate::outcome::Outcome;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunStatus {
    /// Steps start as soon as they may.
    Running,
    /// Somebody paused it.
    Paused,
    /// It stopped by itself, with evidence; somebody has to decide.
    Halted,
    /// Everything but the held stages is complete; it waits for `finalize`.
    AwaitingFinalize,
    /// It is being given up.
    Aborting,
    /// It was given up.
    Aborted,
    /// Everything is complete.
    Succeeded,
}

impl RunStatus {
    /// Whether nothing will happen any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Aborted | Self::Succeeded)
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Halted => "halted",
            Self::AwaitingFinalize => "awaiting finalize",
            Self::Aborting => "aborting",
            Self::Aborted => "aborted",
            Self::Succeeded => "succeeded",
        })
    }
}

/// Where a step stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum StepStatus {
    /// It has not begun.
    Pending,
    /// An action of it is under way, or the next one is due.
    Running {
        /// The action that is due or under way, from 0.
        action: u32,
        /// The attempt under way.
        attempt: Option<AttemptId>,
    },
    /// All its actions are done.
    Completed,
    /// It cannot go on.
    Failed {
        /// The action that failed, from 0.
        action: u32,
    },
}

/// One attempt, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptState {
    /// The step.
    pub step: StepId,
    /// The action, from 0.
    pub action: u32,
    /// Which list of the step it is from.
    pub list: ActionList,
    /// The how-manieth at this action, from 1.
    pub number: u32,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it was finished.
    pub finished_at: Option<Timestamp>,
    /// How it turned out.
    pub outcome: Option<Outcome>,
}

/// The state of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunState {
    /// The plan.
    pub plan: PlanId,
    /// Where it stands.
    pub status: RunStatus,
    /// Every step that has begun; absent means [`StepStatus::Pending`].
    pub steps: BTreeMap<StepId, StepStatus>,
    /// Stages that have begun.
    pub stages_started: BTreeSet<StageId>,
    /// Stages that are complete.
    pub stages_completed: BTreeSet<StageId>,
    /// Every attempt.
    pub attempts: BTreeMap<AttemptId, AttemptState>,
    /// Whether the operator allowed the held stages.
    pub finalize_allowed: bool,
    /// Why it halted, the last time.
    pub halt_cause: Option<String>,
    /// Why everything is to be put back once the run is given up, where the policy says so.
    #[serde(default)]
    pub rollback_due: Option<String>,
    /// Why a new plan is to go on with the other hosts, where one is.
    #[serde(default)]
    pub replan_due: Option<String>,
    /// Steps whose hosts stay out of service, because they failed once they were acted upon.
    #[serde(default)]
    pub set_aside: BTreeSet<StepId>,
    /// The probe breach that halted it, if one did.
    pub breach: Option<ProbeBreach>,
    /// What an abort could not give back.
    pub left: Vec<String>,
    /// When the first attempt began.
    pub started_at: Option<Timestamp>,
    /// When the last entry was written.
    pub last_at: Option<Timestamp>,
    /// When everything but the held stages was complete.
    pub rolled_at: Option<Timestamp>,
}

impl RunState {
    /// The state of a run of `plan` of which nothing is known yet.
    #[must_use]
    pub fn new(plan: PlanId) -> Self {
        Self {
            plan,
            status: RunStatus::Running,
            steps: BTreeMap::new(),
            stages_started: BTreeSet::new(),
            stages_completed: BTreeSet::new(),
            attempts: BTreeMap::new(),
            finalize_allowed: false,
            halt_cause: None,
            rollback_due: None,
            replan_due: None,
            set_aside: BTreeSet::new(),
            breach: None,
            left: Vec::new(),
            started_at: None,
            last_at: None,
            rolled_at: None,
        }
    }

    /// Where a step stands.
    #[must_use]
    pub fn step(&self, id: &StepId) -> StepStatus {
        self.steps.get(id).cloned().unwrap_or(StepStatus::Pending)
    }

    /// Steps that are under way.
    pub fn running(&self) -> impl Iterator<Item = &StepId> {
        self.steps.iter().filter(|(_, status)| matches!(status, StepStatus::Running { .. })).map(|(id, _)| id)
    }
}
