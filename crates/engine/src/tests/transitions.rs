//! The table of run-level transitions, written down once more and compared in full.

use jiff::Timestamp;
use volutus_model::event::{ActionList, Event, ProbeBreach};
use volutus_model::outcome::Outcome;
use volutus_model::run::{RunState, RunStatus, StepStatus};

use super::plans::{held, holding_step, plan, policy, stage, step};
use super::{entries, index};
use crate::fold::{apply, event_name, fold};
use crate::{Error, PlanIndex};

const STATUSES: [RunStatus; 7] = [
    RunStatus::Running,
    RunStatus::Paused,
    RunStatus::Halted,
    RunStatus::AwaitingFinalize,
    RunStatus::Aborting,
    RunStatus::Aborted,
    RunStatus::Succeeded,
];

fn parts() -> (std::sync::Arc<PlanIndex>, RunState) {
    let roll = stage("roll", &[], 1, vec![holding_step("a", &[], "h1"), step("b", &["a"], Vec::new())]);
    let last = held(stage("last", &["roll"], 1, Vec::new()));
    let index = index(plan(vec![roll, last], policy(1, 1)));
    let mut state = RunState::new(index.plan().id.clone());
    let created = Event::RunCreated { plan: state.plan.clone() };
    apply(&mut state, &index, &created, Timestamp::UNIX_EPOCH).unwrap();
    (index, state)
}

#[test]
fn run_level_events_are_possible_exactly_there() {
    use RunStatus::{Aborting, AwaitingFinalize, Halted, Paused, Running};
    let breach = ProbeBreach { failed: 1, total: 1, last: Vec::new(), silent: None };
    let replan = Event::ReplanDue { cause: "c".into(), set_aside: Vec::new() };
    let table: [(Event, &[RunStatus], Option<RunStatus>); 11] = [
        (
            Event::RunTakenUp { holder: "p".into() },
            &[Running, Paused, Halted, AwaitingFinalize, Aborting],
            None,
        ),
        (Event::Paused, &[Running], Some(Paused)),
        (Event::Resumed, &[Paused, Halted], Some(Running)),
        (Event::Halted { cause: "c".into() }, &[Running, Paused, AwaitingFinalize], Some(Halted)),
        (Event::RollbackDue { cause: "c".into() }, &[Running, Paused, Halted, AwaitingFinalize], None),
        // An upgrade is never planned anew for other hosts.
        (replan, &[], None),
        (Event::AbortRequested, &[Running, Paused, Halted, AwaitingFinalize], Some(Aborting)),
        (Event::Aborted { left: Vec::new() }, &[Aborting], Some(RunStatus::Aborted)),
        (Event::FinalizeAllowed, &[AwaitingFinalize], Some(Running)),
        (Event::ProbeBreached(breach), &[Running, Paused, AwaitingFinalize], None),
        (Event::StageStarted { stage: "roll".parse().unwrap() }, &[Running], None),
    ];
    let (index, created) = parts();
    for (event, possible, then) in table {
        for status in STATUSES {
            let mut state = RunState { status, ..created.clone() };
            let before = state.clone();
            let result = apply(&mut state, &index, &event, Timestamp::UNIX_EPOCH);
            let name = event_name(&event);
            if possible.contains(&status) {
                assert_eq!(result, Ok(()), "{name} while {status}");
                assert_eq!(state.status, then.unwrap_or(status), "{name} while {status}");
            } else {
                assert!(matches!(result, Err(Error::IllegalEvent { .. })), "{name} while {status}");
                assert_eq!(state, before, "a refused {name} changed something");
            }
        }
    }
}

#[test]
fn step_level_events_out_of_order_are_refused() {
    let (index, created) = parts();
    let begin = |step: &str, action, attempt: &str| Event::AttemptStarted {
        attempt: attempt.parse().unwrap(),
        step: step.parse().unwrap(),
        action,
        list: ActionList::Actions,
        number: 1,
    };
    let end = |attempt: &str| Event::AttemptFinished {
        attempt: attempt.parse().unwrap(),
        outcome: Outcome::done("done"),
    };
    let roll = || Event::StageStarted { stage: "roll".parse().unwrap() };
    let complete = |step: &str| Event::StepCompleted { step: step.parse().unwrap() };
    let cases: Vec<(Vec<Event>, &str)> = vec![
        (vec![begin("a", 0, "x")], "has not started"),
        (vec![roll(), roll()], "has started before"),
        (vec![roll(), begin("a", 1, "x")], "begins with its first action"),
        (vec![roll(), begin("a", 7, "x")], "has no action"),
        (vec![roll(), begin("q", 0, "x")], "not in the plan"),
        (vec![roll(), begin("a", 0, "x"), begin("a", 0, "y")], "is under way"),
        (vec![roll(), begin("a", 0, "x"), end("x"), begin("a", 0, "y")], "action 1 is due"),
        (vec![roll(), begin("a", 0, "x"), end("x"), begin("a", 1, "x")], "was made before"),
        (vec![roll(), begin("a", 0, "x"), end("x"), end("x")], "has its outcome already"),
        (vec![roll(), end("x")], "was never made"),
        (vec![roll(), Event::AttemptTakenUp { attempt: "x".parse().unwrap() }], "was never made"),
        (
            vec![
                roll(),
                begin("a", 0, "x"),
                end("x"),
                Event::AttemptTakenUp { attempt: "x".parse().unwrap() },
            ],
            "is known",
        ),
        (vec![roll(), begin("a", 0, "x"), complete("a")], "not all actions"),
        (vec![roll(), complete("b")], "which is not complete"),
        (vec![Event::StepFailed { step: "a".parse().unwrap() }], "not at an action"),
        (vec![Event::StepRetried { step: "a".parse().unwrap() }], "has not failed"),
        (vec![roll(), Event::StageCompleted { stage: "roll".parse().unwrap() }], "is not complete"),
        (vec![Event::StageStarted { stage: "last".parse().unwrap() }], "waits for finalize"),
        (vec![Event::RollCompleted], "is not complete"),
        (vec![Event::Succeeded], "stages are not complete"),
        (vec![Event::RunCreated { plan: created.plan.clone() }], "only there"),
        (
            vec![Event::AttemptStarted {
                attempt: "x".parse().unwrap(),
                step: "a".parse().unwrap(),
                action: 0,
                list: ActionList::GiveBack,
                number: 1,
            }],
            "gives back only",
        ),
    ];
    for (events, expected) in cases {
        let mut state = created.clone();
        let (last, first) = events.split_last().unwrap();
        for event in first {
            apply(&mut state, &index, event, Timestamp::UNIX_EPOCH).unwrap();
        }
        let before = state.clone();
        let error = apply(&mut state, &index, last, Timestamp::UNIX_EPOCH).unwrap_err().to_string();
        assert!(error.contains(expected), "expected `{expected}`, got `{error}`");
        assert_eq!(state, before, "a refused event changed something: {error}");
    }
}

#[test]
fn a_journal_of_another_plan_or_format_is_refused() {
    let (index, created) = parts();
    let mut fresh = RunState::new(created.plan);
    let other = entries(&[Event::RunCreated { plan: "other".parse().unwrap() }]);
    assert!(matches!(fold(&mut fresh, &index, &other[0]), Err(Error::IllegalEvent { .. })));
    let mut newer = entries(&[Event::Paused]);
    newer[0].format = 2;
    assert!(matches!(fold(&mut fresh, &index, &newer[0]), Err(Error::UnknownFormat { seq: 0, format: 2 })));
    assert!(matches!(
        fold(&mut fresh, &index, &entries(&[Event::Paused])[0]),
        Err(Error::IllegalEvent { .. })
    ));
    assert_eq!(fresh.step(&"a".parse().unwrap()), StepStatus::Pending);
}
