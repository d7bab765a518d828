//! Old and new replicas of an API whose highest microversion changes never serve together, where the
//! policy wants it: what the planner does, and what plancheck says of plans that do otherwise.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::{back_input, catalog, input, replaced, set_running};
use volutus_model::name::BackendName;
use volutus_model::plan::{Action, Plan, Seat, Step};
use volutus_model::{Advertising, Fact, Finding, Observation, Severity};
use volutus_plancheck::check_plan;
use volutus_planner::{Error, PlanningInput, RollbackInput, plan, plan_rollback};

fn only_grows(controllers: usize, serving_min: u32) -> PlanningInput {
    let mut input = input(controllers, 3, "2025.2", "2026.1");
    input.policy.api.advertised = Advertising::OnlyGrows;
    input.policy.serving_replicas_min = serving_min;
    input
}

fn findings(input: &PlanningInput, plan: &Plan) -> Vec<Finding> {
    check_plan(plan, &input.inventory, &input.observation, &catalog(), &input.policy)
}

fn made(input: &PlanningInput) -> Plan {
    let (plan, _) = plan(input, &catalog()).unwrap();
    let findings = findings(input, &plan);
    assert!(findings.is_empty(), "{findings:#?}");
    plan
}

fn steps_of<'p>(plan: &'p Plan, stage: &str) -> &'p [Step] {
    &plan.stages.iter().find(|found| found.id.as_str() == stage).unwrap().steps
}

/// The summaries of what a step does, without the proofs.
fn told(step: &Step) -> Vec<String> {
    let proof = |action: &&Action| !matches!(action, Action::ProveDaemon { .. });
    step.actions.iter().filter(proof).map(Action::summary).collect()
}

fn set_status(observation: &mut Observation, server: &str, status: &str) {
    let Some(Fact::Observed { value, .. }) = observation.backends.get_mut("nova") else {
        panic!("no backend")
    };
    value.iter_mut().find(|row| row.name == server).unwrap().status = status.to_owned();
}

#[test]
fn new_replicas_wait_and_take_over_at_once() {
    let plan = made(&only_grows(3, 1));
    let [step] = steps_of(&plan, "roll-nova-api") else { panic!("not one step") };
    assert_eq!(step.id.as_str(), "roll/nova-api");
    assert_eq!(
        told(step),
        [
            "drain nova/ctl1",
            "switch nova-api@ctl1",
            "drain nova/ctl2",
            "switch nova-api@ctl2",
            "exchange nova: ctl1, ctl2 in, ctl3 out",
            "switch nova-api@ctl3",
            "undrain nova/ctl3",
        ]
    );
    assert_eq!(step.give_back.len(), 1);
    // Nothing else has another highest microversion, and metadata has none.
    for kind in ["cinder-api", "placement-api", "glance-api", "nova-metadata"] {
        assert_eq!(steps_of(&plan, &format!("roll-{kind}")).len(), 3, "{kind}");
    }
}

#[test]
fn the_larger_half_takes_over() {
    for (replicas, entering) in [(2, 1), (3, 2), (4, 2), (5, 3)] {
        let plan = made(&only_grows(replicas, 1));
        let actions = steps_of(&plan, "roll-nova-api")[0].actions.clone();
        let exchange = actions.iter().find_map(|action| match action {
            Action::ExchangeReplicas { enter, leave, .. } => Some((enter.len(), leave.len())),
            _ => None,
        });
        assert_eq!(exchange, Some((entering, replicas - entering)));
    }
    // Four replicas can keep two serving throughout, and three cannot.
    made(&only_grows(4, 2));
    let refused = plan(&only_grows(3, 2), &catalog()).unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, Error::TooFewToExchange { replicas: 3, worst: 1, min: 2, .. }), "{text}");
    assert!(text.contains("until there are 4") && text.contains("nova = \"may-flap\""), "{text}");
}

#[test]
fn a_single_replica_has_nobody_to_wait_for() {
    let mut input = only_grows(1, 1);
    input.policy.accept_downtime = true;
    let (plan, _) = plan(&input, &catalog()).unwrap();
    assert_eq!(steps_of(&plan, "roll-nova-api")[0].id.as_str(), "roll/nova-api@ctl1");
}

#[test]
fn what_is_named_counts() {
    let mut input = only_grows(3, 1);
    input.policy.api.services.insert("glance".parse().unwrap(), Advertising::OnlyGrows);
    input.policy.api.services.insert("nova".parse().unwrap(), Advertising::MayFlap);
    let plan = made(&input);
    assert_eq!(steps_of(&plan, "roll-glance-api").len(), 1);
    assert_eq!(steps_of(&plan, "roll-nova-api").len(), 3);
}

/// A plan goes on from wherever an earlier one was given up.
#[test]
fn what_waits_already_is_taken_over() {
    let mut input = only_grows(3, 1);
    for daemon in ["nova-conductor", "nova-scheduler"] {
        for host in ["ctl1", "ctl2", "ctl3"] {
            set_running(&mut input.observation, &format!("{daemon}@{host}"), "2026.1");
        }
    }
    set_running(&mut input.observation, "nova-api@ctl1", "2026.1");
    set_status(&mut input.observation, "ctl1", "DRAIN");
    let waits = made(&input);
    assert_eq!(
        told(&steps_of(&waits, "roll-nova-api")[0]),
        [
            "drain nova/ctl2",
            "switch nova-api@ctl2",
            "exchange nova: ctl1, ctl2 in, ctl3 out",
            "switch nova-api@ctl3",
            "undrain nova/ctl3",
        ]
    );
    // Given up behind the exchange: the last old one is out, and stays so until it is new.
    set_running(&mut input.observation, "nova-api@ctl2", "2026.1");
    set_status(&mut input.observation, "ctl1", "UP");
    set_status(&mut input.observation, "ctl3", "DRAIN");
    let last = made(&input);
    assert_eq!(
        told(&steps_of(&last, "roll-nova-api")[0]),
        ["drain nova/ctl3", "switch nova-api@ctl3", "undrain nova/ctl3"]
    );
    // And where one that is new waits although no old one serves, it is put in before anything else.
    set_status(&mut input.observation, "ctl2", "DRAIN");
    let steps = made(&input);
    let steps = steps_of(&steps, "roll-nova-api");
    assert_eq!(told(&steps[0]), ["undrain nova/ctl2"]);
    assert_eq!(steps[1].requires, [steps[0].id.clone()]);
    set_status(&mut input.observation, "ctl2", "UP");
    // Both serve already: nothing can be kept any more, and both say so.
    set_status(&mut input.observation, "ctl3", "UP");
    let (mixed, report) = plan(&input, &catalog()).unwrap();
    assert!(report.findings.iter().any(|finding| finding.code == "advertised-mixed"));
    let codes: Vec<_> = findings(&input, &mixed).into_iter().map(|f| (f.code, f.severity)).collect();
    assert_eq!(codes, [("advertised-mixed".to_owned(), Severity::Serious)]);
}

fn way_back(input: &PlanningInput, back: &RollbackInput) -> Plan {
    let (plan, _) = plan_rollback(back, &catalog()).unwrap();
    let findings = check_plan(&plan, &input.inventory, &back.observation, &catalog(), &back.policy);
    assert!(findings.is_empty(), "{findings:#?}");
    plan
}

#[test]
fn the_way_back_has_one_exchange_as_well() {
    let input = only_grows(3, 1);
    let forward = made(&input);
    let back = back_input(&input, &forward, replaced(&input, &forward, |_| true));
    let plan = way_back(&input, &back);
    let steps = told(&steps_of(&plan, "roll-nova-api")[0]);
    assert_eq!(steps[4], "exchange nova: ctl1, ctl2 in, ctl3 out");

    // Given up before the exchange: what waits goes back, and no exchange is needed.
    let mut seen = replaced(&input, &forward, |id| !["nova-api@ctl2", "nova-api@ctl3"].contains(&id));
    set_status(&mut seen, "ctl1", "DRAIN");
    let plan = way_back(&input, &back_input(&input, &forward, seen));
    assert_eq!(
        told(&steps_of(&plan, "roll-nova-api")[0]),
        ["drain nova/ctl1", "switch nova-api@ctl1", "undrain nova/ctl1"]
    );

    // Given up behind it: the old one that was left out waits already.
    let mut seen = replaced(&input, &forward, |id| id != "nova-api@ctl3");
    set_status(&mut seen, "ctl3", "DRAIN");
    let plan = way_back(&input, &back_input(&input, &forward, seen));
    let steps = told(&steps_of(&plan, "roll-nova-api")[0]);
    assert_eq!(steps[2], "exchange nova: ctl3, ctl1 in, ctl2 out");
}

/// A way back is never refused because of it.
#[test]
fn a_way_back_that_cannot_keep_it_flaps_and_says_so() {
    let mut input = only_grows(3, 1);
    let forward = made(&input);
    input.policy.serving_replicas_min = 2;
    let back = back_input(&input, &forward, replaced(&input, &forward, |_| true));
    let (plan, report) = plan_rollback(&back, &catalog()).unwrap();
    assert!(report.findings.iter().any(|finding| finding.code == "advertised-may-flap"));
    let findings = check_plan(&plan, &input.inventory, &back.observation, &catalog(), &back.policy);
    assert!(findings.iter().any(|f| f.code == "advertised-unordered" && f.severity == Severity::Serious));
    assert!(findings.iter().all(|f| f.severity < Severity::Blocking), "{findings:#?}");
}

/// Spoils a good plan, and sees that the check says so.
#[track_caller]
fn expect(code: &str, spoil: impl Fn(&mut Vec<Action>)) {
    let input = only_grows(3, 1);
    let (mut plan, _) = plan(&input, &catalog()).unwrap();
    let steps = plan.stages.iter_mut().flat_map(|stage| &mut stage.steps);
    let step = steps.into_iter().find(|step| step.id.as_str() == "roll/nova-api").unwrap();
    let before = step.clone();
    spoil(&mut step.actions);
    assert_ne!(*step, before, "nothing was spoilt");
    expect_of(code, &input, plan);
}

#[track_caller]
fn expect_of(code: &str, input: &PlanningInput, mut plan: Plan) {
    plan.id = plan.compute_id();
    let findings = findings(input, &plan);
    let found = findings.iter().any(|f| f.code == code && f.severity == Severity::Blocking);
    assert!(found, "`{code}` is not among {findings:#?}");
}

fn exchange(actions: &mut [Action]) -> (&mut Vec<Seat>, &mut Vec<Seat>) {
    let found = actions.iter_mut().find_map(|action| match action {
        Action::ExchangeReplicas { enter, leave, .. } => Some((enter, leave)),
        _ => None,
    });
    found.unwrap()
}

fn undrain(seat: Seat) -> Action {
    let backend: BackendName = "nova".parse().unwrap();
    Action::UndrainBackend { daemon: seat.daemon, backend, server: seat.server }
}

#[test]
fn plans_in_which_old_and_new_serve_together_are_refused() {
    // The first new one does not wait.
    expect("advertised-flaps", |actions| {
        let first = exchange(actions).0[0].clone();
        actions.insert(3, undrain(first));
    });
    // The old one stays in.
    expect("advertised-flaps", |actions| exchange(actions).1.clear());
    expect("not-drained", |actions| exchange(actions).1.clear());
    // One after another instead of at once.
    expect("advertised-flaps", |actions| {
        let at = actions.iter().position(|a| matches!(a, Action::ExchangeReplicas { .. })).unwrap();
        let (enter, leave) = exchange(actions);
        let each: Vec<Action> = enter.drain(..).map(undrain).collect();
        assert_eq!(leave.len(), 1);
        actions.splice(at..at, each);
    });
    // The old one is switched before the exchange: nobody is left.
    expect("exchange-too-few", |actions| {
        let last = exchange(actions).1[0].clone();
        let Action::UndrainBackend { backend, .. } = undrain(last.clone()) else { unreachable!() };
        let drain =
            Action::DrainBackend { daemon: last.daemon, backend, server: last.server, others_up_min: 1 };
        actions.insert(0, drain);
    });
    expect("exchange-leaves-out", |actions| {
        exchange(actions).0.pop();
    });
    expect("not-undrained", |actions| {
        exchange(actions).0.pop();
    });
    // A replica that takes over before it was proved.
    expect("not-undrained", |actions| {
        let at = actions.iter().position(|a| matches!(a, Action::ExchangeReplicas { .. })).unwrap();
        actions.swap(at - 1, at);
    });
}

#[test]
fn plans_without_an_order_or_a_way_to_settle_are_refused() {
    let input = only_grows(3, 1);
    let mut flaps = input.clone();
    flaps.policy.api.advertised = Advertising::MayFlap;
    let (mut one_by_one, _) = plan(&flaps, &catalog()).unwrap();
    one_by_one.policy = input.policy.clone();
    expect_of("advertised-unordered", &input, one_by_one.clone());
    // In an order they still meet.
    let stage = one_by_one.stages.iter_mut().find(|stage| stage.id.as_str() == "roll-nova-api").unwrap();
    stage.steps[2].requires = vec![stage.steps[1].id.clone()];
    expect_of("advertised-flaps", &input, one_by_one);

    let mut held = made(&input);
    let stage = held.stages.iter_mut().find(|stage| stage.id.as_str() == "roll-nova-api").unwrap();
    stage.steps[0].give_back.clear();
    expect_of("not-undrained", &input, held);
}
