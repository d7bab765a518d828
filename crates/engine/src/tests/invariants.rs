//! What holds of every journal, told without the engine's own means.

use std::collections::{BTreeMap, BTreeSet};

use volutus_model::event::{ActionList, Event};
use volutus_model::name::{AttemptId, StepId};
use volutus_model::plan::Plan;

use crate::fold::event_name;
use crate::{Decision, Effect};

/// Goes through a journal from its beginning.
pub fn check_journal(plan: &Plan, journal: &[Event]) {
    let mut completed: BTreeSet<&StepId> = BTreeSet::new();
    let mut running: BTreeSet<&StepId> = BTreeSet::new();
    let mut open: BTreeMap<&AttemptId, &StepId> = BTreeMap::new();
    let mut of_attempt: BTreeMap<&AttemptId, &StepId> = BTreeMap::new();
    let mut given_back: BTreeMap<(&StepId, u32), u32> = BTreeMap::new();
    let mut failed: BTreeSet<&StepId> = BTreeSet::new();
    let (mut going, mut finalize, mut aborting, mut ended) = (false, false, false, false);
    let mut due = false;
    let mut aside: BTreeSet<StepId> = BTreeSet::new();
    for event in journal {
        assert!(!ended, "{} after the end", event_name(event));
        match event {
            Event::RunCreated { .. } | Event::Resumed => going = true,
            Event::Paused | Event::Halted { .. } => going = false,
            Event::AbortRequested => (going, aborting) = (false, true),
            Event::FinalizeAllowed => finalize = true,
            Event::AttemptStarted { attempt, step, list, action, .. } => {
                assert!(!open.values().any(|other| *other == step), "two attempts for {step}");
                assert!(of_attempt.insert(attempt, step).is_none(), "{attempt} was made twice");
                open.insert(attempt, step);
                match list {
                    ActionList::Actions => {
                        if running.insert(step) {
                            assert!(going, "{step} began while nothing was to begin");
                            check_begin(plan, step, &completed, finalize);
                        }
                    }
                    ActionList::GiveBack => {
                        assert!(aborting && running.is_empty(), "{step} gave back outside of an abort");
                        *given_back.entry((step, *action)).or_default() += 1;
                    }
                }
            }
            Event::AttemptTakenUp { attempt } => {
                open.insert(attempt, of_attempt[attempt]);
            }
            Event::AttemptFinished { attempt, .. } => {
                assert!(open.remove(attempt).is_some(), "{attempt} finished twice");
            }
            Event::StepCompleted { step } => {
                running.remove(step);
                completed.insert(step);
            }
            Event::StepFailed { step } => {
                running.remove(step);
                failed.insert(step);
            }
            Event::StepRetried { step } => {
                running.insert(step);
                failed.remove(step);
            }
            Event::Aborted { .. } => {
                ended = true;
                assert!(open.is_empty() && running.is_empty());
                for step in failed.iter().filter(|step| !aside.contains(**step)) {
                    let (_, planned) = plan.step(step).unwrap();
                    for action in 0..planned.give_back.len() {
                        assert!(given_back.contains_key(&(*step, action as u32)), "{step} kept what it held");
                    }
                }
            }
            Event::Succeeded => {
                ended = true;
                assert_eq!(completed.len(), plan.steps().count());
            }
            Event::RollCompleted => {
                let left = plan.stages.iter().filter(|stage| !stage.held).flat_map(|stage| &stage.steps);
                assert!(left.into_iter().all(|step| completed.contains(&step.id)));
            }
            Event::RollbackDue { .. } => {
                assert!(!finalize && plan.kind.is_upgrade(), "what cannot be taken back is to be");
                due = true;
            }
            Event::ReplanDue { set_aside, .. } => {
                assert!(plan.restarts_hosts());
                assert!(
                    set_aside.iter().all(|step| failed.contains(step)),
                    "what has not failed is set aside"
                );
                aside.extend(set_aside.iter().cloned());
            }
            Event::RunTakenUp { .. }
            | Event::StageStarted { .. }
            | Event::StageCompleted { .. }
            | Event::ProbeBreached(_) => {}
        }
        check_limits(plan, &running);
    }
    let in_one = journal.iter().zip(journal.iter().skip(1));
    for (event, next) in in_one {
        let due = matches!(event, Event::RollbackDue { .. } | Event::ReplanDue { .. });
        assert!(!due || *next == Event::AbortRequested, "another run is due, and the run goes on");
    }
    assert!(!due || aborting);
}

fn check_begin(plan: &Plan, step: &StepId, completed: &BTreeSet<&StepId>, finalize: bool) {
    let (stage, step) = plan.step(step).unwrap();
    assert!(finalize || !stage.held, "{} began before finalize", step.id);
    for required in &step.requires {
        assert!(completed.contains(required), "{} began before {required}", step.id);
    }
    for before in &stage.after {
        let before = plan.stages.iter().find(|stage| stage.id == *before).unwrap();
        for earlier in &before.steps {
            assert!(completed.contains(&earlier.id), "{} began before {}", step.id, earlier.id);
        }
    }
}

fn check_limits(plan: &Plan, running: &BTreeSet<&StepId>) {
    assert!(running.len() <= plan.policy.parallel_steps_max as usize, "too many steps: {running:?}");
    for stage in &plan.stages {
        let own = stage.steps.iter().filter(|step| running.contains(&step.id)).count();
        assert!(own <= stage.parallel_max as usize, "too many steps of {}", stage.id);
    }
}

/// No effect without its event, and no event of an attempt without its effect.
pub fn check_decision(decision: &Decision) {
    let recorded: Vec<(&AttemptId, bool)> = decision
        .events
        .iter()
        .filter_map(|event| match event {
            Event::AttemptStarted { attempt, .. } => Some((attempt, false)),
            Event::AttemptTakenUp { attempt } => Some((attempt, true)),
            _ => None,
        })
        .collect();
    let performed: Vec<(&AttemptId, bool)> = decision
        .effects
        .iter()
        .map(|Effect::Perform { order, .. }| (&order.attempt, order.taken_up))
        .collect();
    assert_eq!(recorded, performed);
}
