//! The plan is the one that its id names, and was made for this cloud as it is now.

use volutus_model::plan::{FORMAT, Plan};
use volutus_model::{Finding, Inventory, Observation, Policy};

use crate::blocking;

pub(crate) fn check_identity(
    plan: &Plan,
    inventory: &Inventory,
    observation: &Observation,
    policy: &Policy,
    findings: &mut Vec<Finding>,
) {
    let again = "Make a new plan, and have it approved.";
    let id = plan.compute_id();
    if plan.id != id {
        findings.push(blocking(
            "plan-altered",
            &plan.id,
            format!("the plan's content hashes to {id}: it was changed after it was made"),
            again,
        ));
    }
    if plan.format != FORMAT {
        findings.push(blocking(
            "plan-format",
            &plan.id,
            format!("the plan has format {}, and this Volutus knows format {FORMAT}", plan.format),
            "Make a new plan with this Volutus, or run it with the one that made it.",
        ));
    }
    if plan.cloud != inventory.name || plan.inventory != inventory.digest() {
        findings.push(blocking(
            "plan-other-cloud",
            &plan.id,
            format!(
                "the plan was made for cloud `{}` with another description than the present one \
                 of `{}`",
                plan.cloud, inventory.name
            ),
            again,
        ));
    }
    if plan.basis != Plan::basis_of(observation) {
        findings.push(blocking(
            "plan-stale",
            &plan.id,
            "what runs where, or on which schemas, has changed since the plan was made",
            "Observe again, and make a new plan; `volutus plan diff` shows what differs.",
        ));
    }
    if plan.policy != *policy {
        findings.push(blocking(
            "plan-other-policy",
            &plan.id,
            "the plan was made under another policy than the one that is to hold now",
            again,
        ));
    }
}
