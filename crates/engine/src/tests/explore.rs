//! Every interleaving of outcomes, commands, breaches and crashes in small plans.

use std::collections::{BTreeSet, HashSet, VecDeque};

use volutus_model::event::ProbeBreach;
use volutus_model::fleet::{HookCall, HookMoment, HookPlace, Work};
use volutus_model::name::{AttemptId, PlanId};
use volutus_model::outcome::{FailureClass, Outcome};
use volutus_model::plan::{Action, Plan, PlanKind, Step};
use volutus_model::run::RunStatus;
use volutus_model::{OnFailure, Policy};

use super::invariants::{check_decision, check_journal};
use super::plans::{held, holding_step, plan, policy, stage, step};
use super::{Trial, failure, unknown};
use crate::fold::event_name;
use crate::machine::{Command, Machine};
use crate::{Effect, Error, Input};

/// How many of what may still happen on a path: attempts at a failing action have growing
/// numbers, so without a bound there would be no end of different states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Budget {
    failures: u8,
    commands: u8,
    crashes: u8,
    breaches: u8,
}

const COMMANDS: [Command; 6] =
    [Command::Pause, Command::Resume, Command::Abort, Command::Finalize, Command::RollBack, Command::GoOn];

fn breach() -> ProbeBreach {
    ProbeBreach { failed: 3, total: 100, last: vec!["nova".to_owned()], silent: None }
}

/// Every input that may happen next, with what it costs.
fn inputs(machine: &Machine, budget: Budget) -> Vec<(Input, Budget)> {
    let mut all = Vec::new();
    let open: Vec<AttemptId> = machine.attempts_under_way().cloned().collect();
    for attempt in open {
        let finished = |outcome| Input::Finished { attempt: attempt.clone(), outcome };
        all.push((finished(Outcome::done("done")), budget));
        if let Some(failures) = budget.failures.checked_sub(1) {
            let cost = Budget { failures, ..budget };
            all.push((finished(failure(FailureClass::Transient)), cost));
            all.push((finished(failure(FailureClass::Permanent)), cost));
            all.push((finished(unknown()), cost));
        }
    }
    if let Some(commands) = budget.commands.checked_sub(1) {
        all.extend(COMMANDS.map(|command| (Input::Command(command), Budget { commands, ..budget })));
    }
    if let Some(breaches) = budget.breaches.checked_sub(1) {
        all.push((Input::Breach(breach()), Budget { breaches, ..budget }));
    }
    if let Some(crashes) = budget.crashes.checked_sub(1) {
        all.push((Input::TakeUp { holder: "p2".to_owned() }, Budget { crashes, ..budget }));
    }
    all
}

/// Takes one input and looks whether everything holds that has to.
fn try_input(before: &Trial, input: Input) -> Option<Trial> {
    let mut trial = before.clone();
    if matches!(input, Input::TakeUp { .. }) {
        trial.machine = before.reloaded();
    }
    let plan = trial.machine.index().plan().clone();
    let decision = match trial.step(input) {
        Ok(decision) => decision,
        Err(Error::Refused { .. }) => {
            assert_eq!(trial.machine.state(), before.machine.state(), "a refusal changed something");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    check_decision(&decision);
    check_journal(&plan, &trial.journal);
    let reloaded = trial.reloaded();
    assert_eq!(reloaded.state(), trial.machine.state(), "the journal tells another state");
    assert_eq!(format!("{reloaded:?}"), format!("{:?}", trial.machine), "derived state differs");
    let open = trial.machine.attempts_under_way().count();
    assert!(open > 0 || trial.machine.is_at_rest(), "stuck: {:?}", trial.machine.state());
    Some(trial)
}

/// From wherever a run stands it comes to its end when nothing more goes wrong.
fn check_ends(trial: &Trial) {
    let mut trial = trial.clone();
    for _ in 0..200 {
        let next = trial.machine.attempts_under_way().next().cloned();
        let input = match (next, trial.machine.state().status) {
            (Some(attempt), _) => Input::Finished { attempt, outcome: Outcome::done("done") },
            (None, RunStatus::Halted | RunStatus::Paused) => Input::Command(Command::Resume),
            (None, RunStatus::AwaitingFinalize) => Input::Command(Command::Finalize),
            (None, RunStatus::Aborted | RunStatus::Succeeded) => return,
            (None, status) => panic!("{status} with nothing under way"),
        };
        let decision = trial.step(input).unwrap();
        check_decision(&decision);
    }
    panic!("no end in sight: {:?}", trial.machine.state());
}

/// Explores a plan; says how many states there were, and which transitions were seen.
fn explore(plan: Plan, budget: Budget) -> (usize, BTreeSet<(String, &'static str)>) {
    let (first, decision) = Trial::begun(plan);
    check_decision(&decision);
    let mut seen = HashSet::new();
    let mut transitions = BTreeSet::new();
    let mut queue = VecDeque::from([(first, budget)]);
    while let Some((trial, budget)) = queue.pop_front() {
        for (input, left) in inputs(&trial.machine, budget) {
            let status = trial.machine.state().status.to_string();
            let Some(next) = try_input(&trial, input) else { continue };
            for event in &next.journal[trial.journal.len()..] {
                transitions.insert((status.clone(), event_name(event)));
            }
            if seen.insert((format!("{:?}", next.machine), left)) {
                check_ends(&next);
                queue.push_back((next, left));
            }
        }
    }
    (seen.len(), transitions)
}

#[test]
fn two_parallel_steps_and_a_held_stage() {
    let roll = vec![holding_step("a", &[], "h1"), holding_step("b", &[], "h2")];
    let last = vec![step("z", &[], vec![super::plans::enable("h1")])];
    let stages = vec![stage("roll", &[], 2, roll), held(stage("contract", &["roll"], 1, last))];
    let budget = Budget { failures: 2, commands: 2, crashes: 1, breaches: 1 };
    let (states, transitions) = explore(plan(stages, policy(2, 2)), budget);
    assert!(states > 1_000, "only {states} states");
    let names: BTreeSet<&str> = transitions.iter().map(|(_, event)| *event).collect();
    let all = [
        "abort-requested",
        "aborted",
        "attempt-finished",
        "attempt-started",
        "attempt-taken-up",
        "finalize-allowed",
        "halted",
        "paused",
        "probe-breached",
        "resumed",
        "roll-completed",
        "rollback-due",
        "run-taken-up",
        "stage-completed",
        "stage-started",
        "step-completed",
        "step-failed",
        "step-retried",
        "succeeded",
    ];
    assert_eq!(names, BTreeSet::from(all), "not every transition was seen");
}

/// The policy takes the run back in every moment, and tries a step again before it halts.
#[test]
fn the_policy_decides_in_every_moment() {
    for (on_failure, wanted) in
        [(OnFailure::RollBack, "rollback-due"), (OnFailure::RetryThenHalt, "step-retried")]
    {
        let roll = vec![holding_step("a", &[], "h1"), holding_step("b", &[], "h2")];
        let last = vec![step("z", &[], vec![super::plans::enable("h1")])];
        let stages = vec![stage("roll", &[], 2, roll), held(stage("contract", &["roll"], 1, last))];
        let policy = Policy { on_failure, ..policy(2, 1) };
        let budget = Budget { failures: 2, commands: 1, crashes: 1, breaches: 1 };
        let (states, transitions) = explore(plan(stages, policy), budget);
        assert!(states > 300, "only {states} states");
        assert!(transitions.contains(&("running".to_owned(), wanted)), "{transitions:?}");
        let after_finalize = ("awaiting finalize".to_owned(), "rollback-due");
        assert!(transitions.contains(&after_finalize), "{transitions:?}");
    }
}

#[test]
fn chains_and_stages_that_join() {
    let left = vec![step("a", &[], vec![super::plans::disable("h1")])];
    let right = vec![holding_step("b", &[], "h1"), step("c", &["b"], vec![super::plans::disable("h2")])];
    let join = vec![step("d", &[], Vec::new()), step("e", &["d"], vec![super::plans::enable("h2")])];
    let stages = vec![
        stage("left", &[], 1, left),
        stage("right", &[], 1, right),
        stage("empty", &["left"], 1, Vec::new()),
        stage("join", &["empty", "right"], 2, join),
    ];
    let budget = Budget { failures: 2, commands: 1, crashes: 1, breaches: 0 };
    let (states, _) = explore(plan(stages, policy(2, 1)), budget);
    assert!(states > 300, "only {states} states");
}

#[test]
fn an_abort_in_every_moment_gives_back() {
    let steps =
        vec![holding_step("a", &[], "h1"), holding_step("b", &[], "h2"), holding_step("c", &["a"], "h1")];
    let stages = vec![stage("roll", &[], 3, steps)];
    let budget = Budget { failures: 3, commands: 1, crashes: 0, breaches: 0 };
    let (states, transitions) = explore(plan(stages, policy(2, 2)), budget);
    assert!(states > 300, "only {states} states");
    assert!(transitions.contains(&("aborting".to_owned(), "aborted")));
}

/// The same plan as one that reboots hosts.
fn rebooting(mut plan: Plan) -> Plan {
    plan.kind = PlanKind::Reboot { of: PlanId::new("reboot").unwrap(), work: Work::Reboot };
    plan.id = plan.compute_id();
    plan
}

/// A step that takes hold of a host, restarts it and lets go of it.
fn rebooting_step(id: &str, requires: &[&str], host: &str) -> Step {
    let mut step = holding_step(id, requires, host);
    let reboot = Action::RebootHost { host: host.parse().unwrap(), kernel: None, limit_s: None };
    step.actions.insert(1, reboot);
    step
}

/// Wherever hosts fail, the others are planned anew, and a host that was acted upon is not given back.
#[test]
fn a_reboot_goes_on_without_what_failed() {
    let steps = vec![rebooting_step("a", &[], "h1"), rebooting_step("b", &[], "h2")];
    let made = rebooting(plan(vec![stage("roll", &[], 2, steps)], policy(2, 1)));
    let budget = Budget { failures: 2, commands: 2, crashes: 1, breaches: 0 };
    let (states, transitions) = explore(made, budget);
    assert!(states > 300, "only {states} states");
    assert!(transitions.contains(&("halted".to_owned(), "replan-due")), "{transitions:?}");
    let wrong = transitions.iter().find(|(status, event)| *event == "replan-due" && status != "halted");
    assert_eq!(wrong, None);
}

/// What a host holds is given back where it was merely emptied, and kept where it was restarted.
#[test]
fn only_hosts_that_were_acted_upon_are_set_aside() {
    for (failing, aside) in [(0, false), (1, true), (2, true)] {
        let steps = vec![rebooting_step("a", &[], "h1")];
        let (mut trial, _) = Trial::begun(rebooting(plan(vec![stage("roll", &[], 1, steps)], policy(1, 1))));
        let finish = |trial: &mut Trial, outcome: Outcome| {
            let attempt = trial.machine.attempts_under_way().next().cloned().unwrap();
            trial.step(Input::Finished { attempt, outcome }).unwrap()
        };
        for _ in 0..failing {
            let _ = finish(&mut trial, Outcome::done("done"));
        }
        let _ = finish(&mut trial, failure(FailureClass::Permanent));
        assert_eq!(trial.machine.state().status, RunStatus::Halted);
        let _ = trial.step(Input::Command(Command::GoOn)).unwrap();
        let state = trial.machine.state();
        assert_eq!(!state.set_aside.is_empty(), aside, "failed at action {failing}");
        let gives_back = trial.machine.attempts_under_way().count() == 1;
        assert_eq!(gives_back, !aside, "failed at action {failing}");
        assert_eq!(state.status == RunStatus::Aborted, aside, "failed at action {failing}");
        assert!(state.replan_due.is_some());
    }
}

fn hook(moment: HookMoment, host: &str) -> Action {
    Action::RunHook(HookCall {
        host: host.parse().unwrap(),
        hook: "ceph".to_owned(),
        moment,
        on: HookPlace::Volutus,
        argv: vec!["true".to_owned()],
        unchanged_exit: 70,
        limit_s: 7,
        always: true,
        environment: BTreeSet::new(),
        cloud: None,
    })
}

/// What a hook began is ended once wherever its host failed, also for a host that is set aside.
#[test]
fn a_hook_ends_what_it_began_and_nothing_else() {
    for (failing, wanted) in
        [(0, vec!["g1"]), (1, vec!["g0", "g1"]), (2, vec!["g0"]), (3, vec!["g0"]), (4, vec![])]
    {
        let mut step = rebooting_step("a", &[], "h1");
        step.actions.insert(1, hook(HookMoment::Before, "h1"));
        step.actions.insert(3, hook(HookMoment::After, "h1"));
        step.give_back.insert(0, hook(HookMoment::After, "h1"));
        let made = rebooting(plan(vec![stage("roll", &[], 1, vec![step])], policy(1, 1)));
        let (mut trial, _) = Trial::begun(made);
        let finish = |trial: &mut Trial, outcome: Outcome| {
            let attempt = trial.machine.attempts_under_way().next().cloned().unwrap();
            trial.step(Input::Finished { attempt, outcome }).unwrap()
        };
        for _ in 0..failing {
            let _ = finish(&mut trial, Outcome::done("done"));
        }
        let _ = finish(&mut trial, failure(FailureClass::Permanent));
        let mut decision = trial.step(Input::Command(Command::GoOn)).unwrap();
        let mut given = Vec::new();
        while let Some(Effect::Perform { order, .. }) = decision.effects.pop() {
            if matches!(order.action, Action::RunHook(_)) {
                assert_eq!(order.timeout_s, 7, "its own limit counts");
            }
            given.push(order.attempt.to_string());
            decision = finish(&mut trial, Outcome::done("done"));
        }
        let wanted: Vec<String> = wanted.into_iter().map(|action| format!("r1-0-{action}-1")).collect();
        assert_eq!(given, wanted, "failed at action {failing}");
        assert_eq!(trial.machine.state().status, RunStatus::Aborted);
    }
}
