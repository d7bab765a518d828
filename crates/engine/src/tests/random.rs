//! Random plans under random fortunes.

use proptest::prelude::*;
use volutus_model::name::AttemptId;
use volutus_model::outcome::{FailureClass, Outcome};
use volutus_model::plan::{Plan, Stage};
use volutus_model::run::RunStatus;

use super::invariants::{check_decision, check_journal};
use super::plans::{disable, held, holding_step, plan, policy, stage, step};
use super::{Trial, failure, unknown};
use crate::Input;
use crate::machine::Command;

/// Edges lead to earlier ones only, so that there are no circles; which ones is by chance.
fn stages(shape: &[(usize, u32, Vec<u8>)], held_from: usize) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    for (number, (count, parallel, chance)) in shape.iter().enumerate() {
        let draw = |at: usize| chance.get(at % chance.len().max(1)).copied().unwrap_or(0);
        let after: Vec<String> =
            (0..number).filter(|before| draw(*before) % 3 == 0).map(|before| format!("s{before}")).collect();
        let after: Vec<&str> = after.iter().map(String::as_str).collect();
        let mut steps = Vec::new();
        for place in 0..*count {
            let id = format!("s{number}/{place}");
            let host = format!("h{}", draw(place) % 4);
            let requires = format!("s{number}/{}", place.saturating_sub(1));
            let requires: &[&str] = if place > 0 && draw(place) % 2 == 0 { &[&requires] } else { &[] };
            steps.push(match draw(place + 1) % 4 {
                0 => step(&id, requires, Vec::new()),
                1 => step(&id, requires, vec![disable(&host)]),
                _ => holding_step(&id, requires, &host),
            });
        }
        let made = stage(&format!("s{number}"), &after, *parallel, steps);
        stages.push(if number >= held_from { held(made) } else { made });
    }
    stages
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let stage = (0usize..5, 1u32..4, prop::collection::vec(any::<u8>(), 6));
    (prop::collection::vec(stage, 1..6), 0usize..7, 1u32..5, 1u32..4).prop_map(
        |(shape, held_from, parallel, attempts)| plan(stages(&shape, held_from), policy(parallel, attempts)),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_run_keeps_the_rules_and_ends(plan in any_plan(), fortunes in prop::collection::vec(any::<(u8, u8)>(), 0..60)) {
        let (mut trial, decision) = Trial::begun(plan.clone());
        check_decision(&decision);
        let mut fortunes = fortunes.into_iter();
        for _ in 0..2_000 {
            let status = trial.machine.state().status;
            if status.is_final() {
                break;
            }
            let open: Vec<AttemptId> = trial.machine.attempts_under_way().cloned().collect();
            let (kind, which) = fortunes.next().unwrap_or((255, 0));
            let input = if open.is_empty() {
                match status {
                    RunStatus::AwaitingFinalize => Input::Command(Command::Finalize),
                    _ => Input::Command(Command::Resume),
                }
            } else {
                let attempt = open[usize::from(which) % open.len()].clone();
                match kind {
                    0..=9 => Input::Command(Command::Pause),
                    10..=11 => Input::Command(Command::Abort),
                    12..=15 => Input::Command(Command::Resume),
                    16..=30 => {
                        trial.machine = trial.reloaded();
                        Input::TakeUp { holder: "p2".to_owned() }
                    }
                    31..=60 => Input::Finished { attempt, outcome: failure(FailureClass::Transient) },
                    61..=70 => Input::Finished { attempt, outcome: failure(FailureClass::Permanent) },
                    71..=90 => Input::Finished { attempt, outcome: unknown() },
                    _ => Input::Finished { attempt, outcome: Outcome::done("done") },
                }
            };
            match trial.step(input) {
                Ok(decision) => check_decision(&decision),
                Err(crate::Error::Refused { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        prop_assert!(trial.machine.state().status.is_final(), "{:?}", trial.machine.state());
        check_journal(&plan, &trial.journal);
        let reloaded = trial.reloaded();
        prop_assert_eq!(reloaded.state(), trial.machine.state());
    }
}
