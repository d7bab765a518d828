//! What the stages of a run are waiting for; for people who watch it.

use volutus_model::name::StageId;
use volutus_model::run::{RunState, RunStatus};

use crate::index::PlanIndex;

/// Why a stage has not started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The stage.
    pub stage: StageId,
    /// What it waits for, in a few words.
    pub why: String,
}

/// Every stage that has not started, with what it waits for, in the order of the plan.
#[must_use]
pub fn waiting(index: &PlanIndex, state: &RunState) -> Vec<Waiting> {
    let mut all = Vec::new();
    for (position, node) in index.stages.iter().enumerate() {
        let stage = &index.stage(position).id;
        if state.stages_started.contains(stage) || state.status.is_final() {
            continue;
        }
        let before: Vec<&str> = node
            .after
            .iter()
            .map(|before| &index.stage(*before).id)
            .filter(|before| !state.stages_completed.contains(*before))
            .map(StageId::as_str)
            .collect();
        let why = if node.held && !state.finalize_allowed && state.rolled_at.is_some() {
            "for the operator's `finalize`".to_owned()
        } else if !before.is_empty() {
            format!("until {} is complete", before.join(" and "))
        } else if node.held && !state.finalize_allowed {
            "until the roll is complete, and for the operator's `finalize`".to_owned()
        } else if state.status == RunStatus::Running {
            continue;
        } else {
            format!("because the run is {}", state.status)
        };
        all.push(Waiting { stage: stage.clone(), why });
    }
    all
}
