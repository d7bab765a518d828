//! Nothing that takes the way back happens before the operator allows it, and nothing is left to
//! be replaced by then.

use volutus_model::Finding;
use volutus_model::plan::{Action, Phase, SchemaPhase};

use crate::context::Context;
use crate::{PLAN_AGAIN, blocking};

pub(crate) fn check_finalize(context: &Context<'_>, findings: &mut Vec<Finding>) {
    for (at, action) in context.graph.actions() {
        let stage = context.graph.stage_of(at.step);
        let step = &context.graph.steps[at.step].1.id;
        let closes = match action {
            Action::MigrateSchema { phase, .. } => *phase != SchemaPhase::Expand,
            Action::RefreshDaemon { .. } => true,
            _ => false,
        };
        if closes && !stage.held {
            findings.push(blocking(
                "finalize-not-held",
                step,
                format!("{} would happen before the operator allows it", action.summary()),
                PLAN_AGAIN,
            ));
        }
        let rolls = matches!(
            action,
            Action::SwitchDaemon { .. } | Action::MigrateSchema { phase: SchemaPhase::Expand, .. }
        );
        if rolls && stage.held {
            findings.push(blocking(
                "roll-held",
                step,
                format!("{} would wait for finalize", action.summary()),
                PLAN_AGAIN,
            ));
        }
    }
    let graph = &context.graph;
    for (i, stage) in graph.stages.iter().enumerate() {
        if stage.held != (stage.phase == Phase::Finalize) {
            findings.push(blocking(
                "finalize-not-held",
                &stage.id,
                "stages of phase finalize are held, and no others",
                PLAN_AGAIN,
            ));
        }
        for (j, other) in graph.stages.iter().enumerate() {
            if stage.held && !other.held && !graph.stage_before(j, i) {
                findings.push(blocking(
                    "finalize-too-early",
                    &stage.id,
                    format!("it does not wait for {}", other.id),
                    PLAN_AGAIN,
                ));
            }
        }
    }
}
