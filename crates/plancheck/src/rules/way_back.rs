//! A way back changes no schema, and asks for nothing that only an upgrade asks for.

use volutus_model::Finding;
use volutus_model::plan::Action;

use crate::context::Context;
use crate::{PLAN_AGAIN, blocking};

pub(crate) fn check_way_back(context: &Context<'_>, findings: &mut Vec<Finding>) {
    if !context.is_back() {
        return;
    }
    for (at, action) in context.graph.actions() {
        let step = &context.graph.steps[at.step].1.id;
        let why = match action {
            Action::MigrateSchema { .. } => {
                "schema commands of the old release fail on the widened schema, or worse"
            }
            Action::CheckUpgrade { .. } => "the old release's upgrade check says nothing of a way back",
            Action::RefreshDaemon { .. } => {
                "caches are emptied when the lowest version rises; on the way back it stays"
            }
            _ => continue,
        };
        findings.push(blocking("rollback-changes-schema", step, why, PLAN_AGAIN));
    }
    for stage in context.graph.stages.iter().filter(|stage| stage.held) {
        findings.push(blocking(
            "rollback-held",
            &stage.id,
            "a rollback waits for no finalize: when it has ended, the cloud is as it was",
            PLAN_AGAIN,
        ));
    }
    if context.plan.rollback.iter().any(|horizon| horizon.until.is_some())
        || context.plan.point_of_no_return.is_some()
    {
        findings.push(blocking(
            "rollback-held",
            &context.plan.id,
            "a rollback takes no way back; another upgrade is always possible after it",
            PLAN_AGAIN,
        ));
    }
}
