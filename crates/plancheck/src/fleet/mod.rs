//! Judges the plan of a reboot of a fleet, whoever made it: replays it event by event over the
//! described fleet and asks at every instant whether capacity, groups and budgets hold. It shares
//! no code with the planner, reads names as names, and knows nothing of how plans come about.

mod consent;
mod coverage;
mod facts;
mod figures;
mod joined;
mod newcomers;
mod order;
mod places;
mod replay;
mod rungs;

use volutus_model::fleet::plan::FORMAT;
use volutus_model::fleet::{Fleet, RebootPlan, RebootPolicy, Work};
use volutus_model::{Finding, Severity};

use crate::{PLAN_AGAIN, blocking, condense};
use facts::Facts;

pub use joined::check_joined;

/// Judges a plan against the fleet that it is to be used on and the policy that is to be kept. An
/// empty answer means that no rule is violated.
#[must_use]
pub fn check_reboot(plan: &RebootPlan, fleet: &Fleet, policy: &RebootPolicy) -> Vec<Finding> {
    let mut findings = Vec::new();
    check_identity(plan, fleet, policy, &mut findings);
    if let Err(error) = fleet.check() {
        findings.push(blocking(
            "fleet-malformed",
            "the fleet",
            error.to_string(),
            "Describe the fleet anew.",
        ));
        return findings;
    }
    let as_it_was = plan.content.fleet == fleet.digest();
    let fleet = &plan.content.selection.applied_to(fleet);
    let facts = Facts::new(fleet, policy);
    if !names_are_known(&facts, plan, &mut findings) {
        // Nothing can be said of a plan about other things.
        return condense(findings);
    }
    if plan.content.work == Work::Undrain {
        check_undrain(plan, &mut findings);
        return condense(findings);
    }
    coverage::check_coverage(&facts, plan, &mut findings);
    consent::check_consent(&facts, plan, &mut findings);
    rungs::check_rungs(&facts, plan, as_it_was, &mut findings);
    places::check_places(&facts, plan, &mut findings);
    newcomers::check_newcomers(&facts, plan, &mut findings);
    order::check_order(&facts, plan, &mut findings);
    let seen = replay::replay(&facts, plan, &mut findings);
    // Figures are of the fleet as it was: instances that came or went since do not make them wrong.
    if plan.content.fleet == fleet.digest() {
        figures::check_figures(&facts, plan, &seen, &mut findings);
    }
    condense(findings)
}

fn check_identity(plan: &RebootPlan, fleet: &Fleet, policy: &RebootPolicy, findings: &mut Vec<Finding>) {
    let content = &plan.content;
    let mut wrong = |code, explanation: &str, action: &str| {
        findings.push(blocking(code, &plan.id, explanation, action));
    };
    if content.format != FORMAT {
        wrong("fleet-plan-format", "its format is not the one that this Volutus reads", PLAN_AGAIN);
    }
    if RebootPlan::compute_id(content) != plan.id {
        wrong("fleet-plan-altered", "its content is not what its id is the hash of", PLAN_AGAIN);
    }
    if content.policy != *policy {
        wrong("fleet-plan-other-policy", "it was made under another policy", "Make a new plan.");
    }
    if content.fleet != fleet.digest() {
        // A living cloud never looks the same twice; what the difference does is found by the rules.
        findings.push(Finding::new(
            Severity::Warning,
            "fleet-plan-stale",
            &plan.id,
            "the fleet looks otherwise than when it was made; all else here is judged by how it looks now",
            "Make a new plan where a finding blocks this one.",
        ));
    }
}

/// What gives a host back moves nothing, whatever is on the host.
fn check_undrain(plan: &RebootPlan, findings: &mut Vec<Finding>) {
    let content = &plan.content;
    if content.drains.len() != 1 || !content.moves.is_empty() || !content.control.is_empty() {
        let text = "it gives one host back, and has other hosts or moves in it besides";
        findings.push(blocking("fleet-coverage", &plan.id, text, PLAN_AGAIN));
    }
}

fn names_are_known(facts: &Facts<'_>, plan: &RebootPlan, findings: &mut Vec<Finding>) -> bool {
    let mut unknown = |name: &str, what: &str| {
        let text = format!("the plan names it as {what}, and the fleet has none of that name");
        findings.push(blocking("fleet-unknown-name", name, text, PLAN_AGAIN));
    };
    let content = &plan.content;
    let mut all = true;
    let hosts = content.drains.iter().map(|drain| &drain.host);
    let hosts = hosts.chain(content.moves.iter().flat_map(|one| [&one.from, &one.to]));
    let hosts = hosts.chain(content.stays.iter().map(|stay| &stay.host));
    for host in hosts.chain(content.left.iter().map(|left| &left.host)) {
        if facts.host(host).is_none() {
            unknown(host.as_str(), "a host");
            all = false;
        }
    }
    let instances = content.moves.iter().map(|one| &one.instance);
    for instance in instances.chain(content.stays.iter().map(|stay| &stay.instance)) {
        if facts.instance(instance).is_none() {
            unknown(instance, "an instance");
            all = false;
        }
    }
    all
}
