//! Every daemon that is not on the target is replaced exactly once, and proves itself afterwards.

use std::collections::BTreeMap;

use volutus_model::Finding;
use volutus_model::name::DaemonId;
use volutus_model::plan::Action;

use crate::context::Context;
use crate::graph::At;
use crate::{PLAN_AGAIN, blocking};

pub(crate) fn check_coverage(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let mut proofs: BTreeMap<&DaemonId, Vec<At>> = BTreeMap::new();
    for (at, action) in context.graph.actions() {
        if let Action::ProveDaemon { daemon, .. } = action {
            proofs.entry(daemon).or_default().push(at);
        }
    }
    for (id, _, declaration) in context.inventory.daemons() {
        if !context.members.contains_key(&id) {
            findings.push(blocking(
                "daemon-unknown",
                &id,
                format!("the catalog knows no `{}`, so nobody plans for it", declaration.kind),
                "Add its service to the catalog as a data file, or take it out of the description.",
            ));
        }
    }
    for (id, member) in &context.members {
        let switches = context.switches.get(id).map(Vec::as_slice).unwrap_or_default();
        let done = match context.is_patch() || context.plan.kind.is_mitigation() {
            true => !context.is_exposed(id, member.service),
            false => context.on_target(id, &member.service.name),
        };
        if switches.is_empty() && !done {
            findings.push(blocking(
                "daemon-left-out",
                id,
                match context.runs(id) {
                    Some(version) => format!("it runs {version}, and the plan never replaces it"),
                    None => "what it runs was not seen, and the plan never replaces it".to_owned(),
                },
                PLAN_AGAIN,
            ));
        }
        if switches.len() > 1 {
            findings.push(blocking(
                "daemon-replaced-twice",
                id,
                format!("the plan replaces it {} times", switches.len()),
                PLAN_AGAIN,
            ));
        }
        // In the same step: whatever waits for the step then waits for the proof.
        for switch in switches {
            let proofs = proofs.get(id).map(Vec::as_slice).unwrap_or_default();
            if !proofs.iter().any(|at| at.step == switch.step && at.action > switch.action) {
                findings.push(blocking(
                    "daemon-unproved",
                    id,
                    "after it is switched nothing in the same step sees whether it serves",
                    PLAN_AGAIN,
                ));
            }
        }
    }
    for daemon in context.switches.keys() {
        if !context.members.contains_key(*daemon) {
            findings.push(blocking(
                "daemon-undeclared",
                daemon,
                "the plan replaces it, and the cloud description has no such daemon",
                PLAN_AGAIN,
            ));
        }
    }
}
