//! Small plans to test with.

use std::collections::BTreeMap;

use jiff::Timestamp;
use volutus_model::name::PlanId;
use volutus_model::plan::{Action, Impact, ImpactLevel, Phase, Plan, PlanKind, Stage, Step};
use volutus_model::policy::Policy;

/// A plan of these stages, with its true id.
pub fn plan(stages: Vec<Stage>, policy: Policy) -> Plan {
    let mut plan = Plan {
        id: PlanId::new("unset").unwrap(),
        format: 1,
        kind: PlanKind::Upgrade,
        drains: None,
        cloud: "cloud".parse().unwrap(),
        parent: None,
        created_at: Timestamp::UNIX_EPOCH,
        inventory: String::new(),
        basis: String::new(),
        from: "2025.2".parse().unwrap(),
        to: "2026.1".parse().unwrap(),
        versions: BTreeMap::new(),
        policy,
        stages,
        rollback: Vec::new(),
        point_of_no_return: None,
    };
    plan.id = plan.compute_id();
    plan
}

/// A policy of this many steps at a time and tries per action.
pub fn policy(parallel_steps_max: u32, attempts_max: u32) -> Policy {
    Policy { parallel_steps_max, attempts_max, ..Policy::default() }
}

/// A stage of the roll.
pub fn stage(id: &str, after: &[&str], parallel_max: u32, steps: Vec<Step>) -> Stage {
    Stage {
        id: id.parse().unwrap(),
        phase: Phase::Roll,
        title: id.to_owned(),
        after: after.iter().map(|id| id.parse().unwrap()).collect(),
        parallel_max,
        held: false,
        steps,
    }
}

/// The same stage, waiting for `finalize`.
pub fn held(mut stage: Stage) -> Stage {
    stage.held = true;
    stage.phase = Phase::Finalize;
    stage
}

/// A step of these actions, expected to take 10 s.
pub fn step(id: &str, requires: &[&str], actions: Vec<Action>) -> Step {
    Step {
        id: id.parse().unwrap(),
        title: id.to_owned(),
        requires: requires.iter().map(|id| id.parse().unwrap()).collect(),
        actions,
        give_back: Vec::new(),
        impact: Impact { level: ImpactLevel::None, service: None, why: String::new() },
        expected_s: 10,
        action_timeout_s: 60,
    }
}

/// An action on a host.
pub fn disable(host: &str) -> Action {
    Action::DisableCompute { host: host.parse().unwrap(), unless_others_did: false }
}

/// What gives it back.
pub fn enable(host: &str) -> Action {
    Action::EnableCompute { host: host.parse().unwrap() }
}

/// A step that takes hold of a host and lets go of it.
pub fn holding_step(id: &str, requires: &[&str], host: &str) -> Step {
    let mut step = step(id, requires, vec![disable(host), enable(host)]);
    step.give_back = vec![enable(host)];
    step
}
