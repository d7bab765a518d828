//! Pure and independent of the planner: judges any plan, whoever made it, and any observation
//! before a run.
//!
//! [`check_plan`] asks of a plan what must hold whatever the reason for its shape: it is whole,
//! ordered, keeps its budgets under every interleaving that its edges allow, and takes nothing
//! back that cannot be given back before the operator says so. [`preflight`] asks of a cloud
//! whether a run to a series can be expected to end well. Neither knows how plans are made.

mod context;
mod fleet;
mod graph;
mod preflight;
mod rules;

use std::collections::BTreeMap;

use volutus_catalog::Catalog;
use volutus_model::plan::{Plan, PlanKind};
use volutus_model::{Finding, Inventory, Observation, Policy, Severity};

pub use fleet::{check_joined, check_reboot};
pub use preflight::preflight;

/// Findings of one code that are told one by one; the rest is told as a number.
const SHOWN_PER_CODE: usize = 20;

/// Judges a plan. An empty answer means that no rule is violated; findings are ordered by
/// severity, the worst first.
#[must_use]
pub fn check_plan(
    plan: &Plan,
    inventory: &Inventory,
    observation: &Observation,
    catalog: &Catalog,
    policy: &Policy,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    rules::identity::check_identity(plan, inventory, observation, policy, &mut findings);
    rules::shape::check_shape(plan, &mut findings);
    let context = context::Context::new(plan, inventory, observation, catalog, policy);
    rules::restart::check_restart(&context, &mut findings);
    // Upgrades empty and restart hosts as well.
    rules::rungs::check_rungs(&context, &mut findings);
    rules::hooks::check_hooks(&context, &mut findings);
    if matches!(plan.kind, PlanKind::Reboot { .. }) {
        // Nothing is replaced, so that no order between versions can be wrong.
        rules::drain::check_drain(&context, &mut findings);
        rules::budget::check_budget(&context, &mut findings);
        return condense(findings);
    }
    if let PlanKind::Mitigation { mitigation, .. } = &plan.kind {
        // No version changes, so that no order between versions can be wrong either.
        if mitigation.method.restarts() {
            rules::coverage::check_coverage(&context, &mut findings);
            rules::canary::check_canary(&context, &mut findings);
        }
        rules::drain::check_drain(&context, &mut findings);
        rules::budget::check_budget(&context, &mut findings);
        rules::mitigation::check_mitigation(&context, &mut findings);
        return condense(findings);
    }
    rules::coverage::check_coverage(&context, &mut findings);
    rules::skew::check_skew(&context, &mut findings);
    rules::commands::check_commands(&context, &mut findings);
    rules::order::check_order(&context, &mut findings);
    rules::canary::check_canary(&context, &mut findings);
    rules::drain::check_drain(&context, &mut findings);
    rules::emptied::check_emptied(&context, &mut findings);
    rules::budget::check_budget(&context, &mut findings);
    rules::advertised::check_advertised(&context, &mut findings);
    rules::finalize::check_finalize(&context, &mut findings);
    rules::anchor::check_anchor(&context, &mut findings);
    rules::shadow::check_shadow(&context, &mut findings);
    rules::gates::check_gates(&context, &mut findings);
    rules::way_back::check_way_back(&context, &mut findings);
    rules::patch::check_patch(&context, &mut findings);
    condense(findings)
}

/// Sorts findings and folds floods of one code: a mistake in a rule for computes of a large
/// cloud is one mistake, not ten thousand.
fn condense(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|a, b| {
        (std::cmp::Reverse(a.severity), &a.code, &a.subject).cmp(&(
            std::cmp::Reverse(b.severity),
            &b.code,
            &b.subject,
        ))
    });
    findings.dedup();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut left: BTreeMap<String, (Finding, usize)> = BTreeMap::new();
    let mut kept = Vec::new();
    for finding in findings {
        let count = counts.entry(finding.code.clone()).or_default();
        *count += 1;
        if *count <= SHOWN_PER_CODE {
            kept.push(finding);
        } else {
            left.entry(finding.code.clone()).or_insert((finding, 0)).1 += 1;
        }
    }
    for (_, (mut finding, count)) in left {
        finding.explanation =
            format!("{count} more of this code, this is the first of them: {}", finding.explanation);
        kept.push(finding);
    }
    kept.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    kept
}

/// A finding that forbids a run.
fn blocking(
    code: &str,
    subject: impl std::fmt::Display,
    explanation: impl Into<String>,
    action: impl Into<String>,
) -> Finding {
    Finding::new(Severity::Blocking, code, subject, explanation, action)
}

/// What to do about a plan that is not as it must be: plans are not mended by hand.
const PLAN_AGAIN: &str = "Do not run it. Make the plan anew; if it comes out the same, report it \
                          as a mistake of the planner.";
