//! The one transition table: which event is possible where, and what it changes.

use jiff::Timestamp;
use volutus_model::event::{ActionList, Event, JournalEntry};
use volutus_model::name::{AttemptId, StageId, StepId};
use volutus_model::outcome::Outcome;
use volutus_model::plan::{Action, Step};
use volutus_model::run::{AttemptState, RunState, RunStatus, StepStatus};

use crate::error::Error;
use crate::index::PlanIndex;

/// Applies one journal entry to the state of its run.
///
/// # Errors
/// [`Error::IllegalEvent`] where the event is not possible in this state, and
/// [`Error::UnknownFormat`]; the state is unchanged then.
pub fn fold(state: &mut RunState, index: &PlanIndex, entry: &JournalEntry) -> Result<(), Error> {
    if entry.format != 1 {
        return Err(Error::UnknownFormat { seq: entry.seq, format: entry.format });
    }
    apply(state, index, &entry.event, entry.at)
}

/// The action at which a step begins again after the one at `failed`, from 0.
///
/// Every action can be repeated, so in general the one that failed is. A proof that failed goes
/// back to the switch of the same daemon: where the daemon runs the right release already the
/// switch finds nothing to do, and where it died, or was put back by hand, only the switch can
/// make the proof succeed.
#[must_use]
pub fn retry_action(step: &Step, failed: u32) -> u32 {
    let position = failed as usize;
    let Some(Action::ProveDaemon { daemon: proved, .. }) = step.actions.get(position) else {
        return failed;
    };
    step.actions[..position]
        .iter()
        .rposition(|action| matches!(action, Action::SwitchDaemon { daemon, .. } if daemon == proved))
        .map_or(failed, |switch| u32::try_from(switch).unwrap_or(failed))
}

/// The event's name, as the journal has it.
#[must_use]
pub fn event_name(event: &Event) -> &'static str {
    match event {
        Event::RunCreated { .. } => "run-created",
        Event::RunTakenUp { .. } => "run-taken-up",
        Event::StageStarted { .. } => "stage-started",
        Event::StageCompleted { .. } => "stage-completed",
        Event::AttemptStarted { .. } => "attempt-started",
        Event::AttemptTakenUp { .. } => "attempt-taken-up",
        Event::AttemptFinished { .. } => "attempt-finished",
        Event::StepCompleted { .. } => "step-completed",
        Event::StepFailed { .. } => "step-failed",
        Event::StepRetried { .. } => "step-retried",
        Event::Halted { .. } => "halted",
        Event::Paused => "paused",
        Event::Resumed => "resumed",
        Event::RollbackDue { .. } => "rollback-due",
        Event::ReplanDue { .. } => "replan-due",
        Event::AbortRequested => "abort-requested",
        Event::Aborted { .. } => "aborted",
        Event::FinalizeAllowed => "finalize-allowed",
        Event::RollCompleted => "roll-completed",
        Event::Succeeded => "succeeded",
        Event::ProbeBreached(_) => "probe-breached",
    }
}

pub(crate) fn apply(
    state: &mut RunState,
    index: &PlanIndex,
    event: &Event,
    at: Timestamp,
) -> Result<(), Error> {
    change(state, index, event, at).map_err(|why| Error::IllegalEvent {
        event: event_name(event),
        status: state.status,
        why,
    })?;
    state.last_at = Some(at);
    Ok(())
}

fn change(state: &mut RunState, index: &PlanIndex, event: &Event, at: Timestamp) -> Result<(), String> {
    use RunStatus::{Aborted, Aborting, AwaitingFinalize, Halted, Paused, Running, Succeeded};
    let first = state.last_at.is_none();
    require(first == matches!(event, Event::RunCreated { .. }), || {
        "a journal begins with run-created, and has it only there".to_owned()
    })?;
    require(!state.status.is_final(), || "the run is at its end".to_owned())?;
    match event {
        Event::RunCreated { plan } => {
            require(*plan == state.plan, || format!("the journal is of plan {plan}, not of {}", state.plan))
        }
        Event::RunTakenUp { .. } => Ok(()),
        Event::StageStarted { stage } => start_stage(state, index, stage),
        Event::StageCompleted { stage } => complete_stage(state, index, stage),
        Event::AttemptStarted { attempt, step, action, list, number } => {
            let begun = AttemptState {
                step: step.clone(),
                action: *action,
                list: *list,
                number: *number,
                started_at: at,
                finished_at: None,
                outcome: None,
            };
            start_attempt(state, index, attempt, begun)
        }
        Event::AttemptTakenUp { attempt } => take_up_attempt(state, attempt),
        Event::AttemptFinished { attempt, outcome } => finish_attempt(state, attempt, outcome, at),
        Event::StepCompleted { step } => complete_step(state, index, step),
        Event::StepFailed { step } => fail_step(state, index, step),
        Event::StepRetried { step } => retry_step(state, index, step),
        Event::Halted { cause } => {
            turn(state, &[Running, Paused, AwaitingFinalize], Halted)?;
            state.halt_cause = Some(cause.clone());
            Ok(())
        }
        Event::Paused => turn(state, &[Running], Paused),
        Event::Resumed => {
            // A rolled cloud that halted under watch waits for finalize again.
            let waits = state.rolled_at.is_some() && !state.finalize_allowed;
            turn(state, &[Paused, Halted], if waits { AwaitingFinalize } else { Running })
        }
        Event::RollbackDue { cause } => {
            let status = state.status;
            turn(state, &[Running, Paused, Halted, AwaitingFinalize], status)?;
            let open = index.plan().kind.is_upgrade() && !state.finalize_allowed;
            require(open, || "the way back is closed".to_owned())?;
            require(state.rollback_due.is_none(), || "a rollback is due already".to_owned())?;
            state.rollback_due = Some(cause.clone());
            Ok(())
        }
        Event::ReplanDue { cause, set_aside } => {
            turn(state, &[Halted], Halted)?;
            require(index.plan().restarts_hosts(), || "no hosts are rebooted".to_owned())?;
            let failed = |step: &&StepId| !matches!(state.step(step), StepStatus::Failed { .. });
            if let Some(step) = set_aside.iter().find(failed) {
                return Err(format!("step `{step}` has not failed"));
            }
            state.replan_due = Some(cause.clone());
            state.set_aside.extend(set_aside.iter().cloned());
            Ok(())
        }
        Event::AbortRequested => turn(state, &[Running, Paused, Halted, AwaitingFinalize], Aborting),
        Event::Aborted { left } => {
            require(state.running().next().is_none(), || "steps are still running".to_owned())?;
            turn(state, &[Aborting], Aborted)?;
            state.left.clone_from(left);
            Ok(())
        }
        Event::FinalizeAllowed => {
            require(!index.plan().leaves_hosts_behind(), || {
                "compute hosts were left on the old release".to_owned()
            })?;
            turn(state, &[AwaitingFinalize], Running)?;
            state.finalize_allowed = true;
            Ok(())
        }
        Event::RollCompleted => complete_roll(state, index, at),
        Event::Succeeded => {
            let all = state.stages_completed.len() == index.stages.len();
            require(all && state.rolled_at.is_some(), || "stages are not complete".to_owned())?;
            turn(state, &[Running], Succeeded)
        }
        Event::ProbeBreached(breach) => {
            require(matches!(state.status, Running | Paused | AwaitingFinalize), || {
                "a breach is recorded only where it halts the run".to_owned()
            })?;
            state.breach = Some(breach.clone());
            Ok(())
        }
    }
}

fn require(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

fn turn(state: &mut RunState, from: &[RunStatus], to: RunStatus) -> Result<(), String> {
    require(from.contains(&state.status), || {
        let names: Vec<String> = from.iter().map(ToString::to_string).collect();
        format!("it becomes {to} only from {}", names.join(" or "))
    })?;
    state.status = to;
    Ok(())
}

fn known_step<'a>(index: &'a PlanIndex, step: &StepId) -> Result<(usize, &'a Step), String> {
    let position = index.step_position(step).ok_or_else(|| format!("step `{step}` is not in the plan"))?;
    Ok((position, index.step(position)))
}

fn start_stage(state: &mut RunState, index: &PlanIndex, stage: &StageId) -> Result<(), String> {
    let position =
        index.stage_position(stage).ok_or_else(|| format!("stage `{stage}` is not in the plan"))?;
    let node = &index.stages[position];
    require(state.status == RunStatus::Running, || "no stage starts now".to_owned())?;
    require(!node.held || state.finalize_allowed, || format!("stage `{stage}` waits for finalize"))?;
    if let Some(before) = node.after.iter().find(|b| !state.stages_completed.contains(&index.stage(**b).id)) {
        return Err(format!("stage `{stage}` comes after `{}`", index.stage(*before).id));
    }
    require(state.stages_started.insert(stage.clone()), || format!("stage `{stage}` has started before"))
}

fn complete_stage(state: &mut RunState, index: &PlanIndex, stage: &StageId) -> Result<(), String> {
    let position =
        index.stage_position(stage).ok_or_else(|| format!("stage `{stage}` is not in the plan"))?;
    require(state.stages_started.contains(stage), || format!("stage `{stage}` has not started"))?;
    let open = index.stage(position).steps.iter().find(|s| state.step(&s.id) != StepStatus::Completed);
    if let Some(open) = open {
        return Err(format!("step `{}` is not complete", open.id));
    }
    require(state.stages_completed.insert(stage.clone()), || format!("stage `{stage}` was complete before"))
}

/// Whether a step that has not begun may begin; limits on parallel steps are not looked at
/// here, because a journal may have been written under another policy of the same plan's past.
fn may_begin(state: &RunState, index: &PlanIndex, position: usize) -> Result<(), String> {
    let node = &index.steps[position];
    let (stage, step) = (&index.stage(node.stage).id, &index.step(position).id);
    require(state.status == RunStatus::Running, || format!("step `{step}` may not begin now"))?;
    require(state.stages_started.contains(stage), || format!("stage `{stage}` has not started"))?;
    match node.requires.iter().map(|r| &index.step(*r).id).find(|r| state.step(r) != StepStatus::Completed) {
        None => Ok(()),
        Some(required) => Err(format!("step `{step}` requires `{required}`, which is not complete")),
    }
}

fn start_attempt(
    state: &mut RunState,
    index: &PlanIndex,
    attempt: &AttemptId,
    begun: AttemptState,
) -> Result<(), String> {
    let (position, step) = known_step(index, &begun.step)?;
    require(!state.attempts.contains_key(attempt), || format!("attempt {attempt} was made before"))?;
    let action = begun.action as usize;
    match begun.list {
        ActionList::Actions => {
            require(action < step.actions.len(), || format!("step `{}` has no action {action}", step.id))?;
            match state.step(&step.id) {
                StepStatus::Pending => {
                    may_begin(state, index, position)?;
                    require(action == 0, || "a step begins with its first action".to_owned())?;
                }
                StepStatus::Running { action: due, attempt: None } => {
                    require(due == begun.action, || format!("action {due} is due, not {action}"))?;
                }
                StepStatus::Running { attempt: Some(other), .. } => {
                    return Err(format!("attempt {other} is under way"));
                }
                StepStatus::Completed | StepStatus::Failed { .. } => {
                    return Err(format!("step `{}` is over", step.id));
                }
            }
            let running = StepStatus::Running { action: begun.action, attempt: Some(attempt.clone()) };
            state.steps.insert(begun.step.clone(), running);
        }
        ActionList::GiveBack => {
            require(action < step.give_back.len(), || {
                format!("step `{}` has no action {action} to give back", step.id)
            })?;
            let failed = matches!(state.step(&step.id), StepStatus::Failed { .. });
            require(failed && state.status == RunStatus::Aborting, || {
                format!("step `{}` gives back only after it failed, in an abort", step.id)
            })?;
        }
    }
    state.started_at.get_or_insert(begun.started_at);
    state.attempts.insert(attempt.clone(), begun);
    Ok(())
}

fn take_up_attempt(state: &mut RunState, attempt: &AttemptId) -> Result<(), String> {
    let known = state.attempts.get_mut(attempt).ok_or_else(|| format!("attempt {attempt} was never made"))?;
    require(matches!(known.outcome, None | Some(Outcome::Unknown { .. })), || {
        format!("the outcome of attempt {attempt} is known")
    })?;
    match known.list {
        ActionList::Actions => {
            let Some(StepStatus::Running { action, attempt: current }) = state.steps.get_mut(&known.step)
            else {
                return Err(format!("step `{}` does not run", known.step));
            };
            let free = current.as_ref().is_none_or(|current| current == attempt);
            require(free && *action == known.action, || format!("action {action} is due instead"))?;
            *current = Some(attempt.clone());
        }
        ActionList::GiveBack => require(state.status == RunStatus::Aborting, || {
            "things are given back only in an abort".to_owned()
        })?,
    }
    known.outcome = None;
    known.finished_at = None;
    Ok(())
}

fn finish_attempt(
    state: &mut RunState,
    attempt: &AttemptId,
    outcome: &Outcome,
    at: Timestamp,
) -> Result<(), String> {
    let known = state.attempts.get_mut(attempt).ok_or_else(|| format!("attempt {attempt} was never made"))?;
    require(known.outcome.is_none(), || format!("attempt {attempt} has its outcome already"))?;
    if known.list == ActionList::Actions {
        let Some(StepStatus::Running { action, attempt: current }) = state.steps.get_mut(&known.step) else {
            return Err(format!("step `{}` does not run", known.step));
        };
        require(current.as_ref() == Some(attempt), || format!("attempt {attempt} is not the current one"))?;
        *current = None;
        if outcome.is_success() {
            *action += 1;
        }
    }
    known.outcome = Some(outcome.clone());
    known.finished_at = Some(at);
    Ok(())
}

fn complete_step(state: &mut RunState, index: &PlanIndex, id: &StepId) -> Result<(), String> {
    let (position, step) = known_step(index, id)?;
    match state.step(id) {
        StepStatus::Running { action, attempt: None } if action as usize == step.actions.len() => {}
        StepStatus::Pending if step.actions.is_empty() => may_begin(state, index, position)?,
        _ => return Err(format!("not all actions of step `{id}` are done")),
    }
    state.steps.insert(id.clone(), StepStatus::Completed);
    Ok(())
}

fn fail_step(state: &mut RunState, index: &PlanIndex, id: &StepId) -> Result<(), String> {
    let (_, step) = known_step(index, id)?;
    match state.step(id) {
        StepStatus::Running { action, attempt: None } if (action as usize) < step.actions.len() => {
            state.steps.insert(id.clone(), StepStatus::Failed { action });
            Ok(())
        }
        _ => Err(format!("step `{id}` is not at an action that failed")),
    }
}

fn retry_step(state: &mut RunState, index: &PlanIndex, id: &StepId) -> Result<(), String> {
    let (_, step) = known_step(index, id)?;
    require(state.status == RunStatus::Running, || "a step is retried only after resumed".to_owned())?;
    let StepStatus::Failed { action } = state.step(id) else {
        return Err(format!("step `{id}` has not failed"));
    };
    let again = StepStatus::Running { action: retry_action(step, action), attempt: None };
    state.steps.insert(id.clone(), again);
    Ok(())
}

fn complete_roll(state: &mut RunState, index: &PlanIndex, at: Timestamp) -> Result<(), String> {
    require(state.status == RunStatus::Running && state.rolled_at.is_none(), || {
        "the roll is completed once, while running".to_owned()
    })?;
    let mut held = false;
    for (position, node) in index.stages.iter().enumerate() {
        let id = &index.stage(position).id;
        held |= node.held;
        require(node.held || state.stages_completed.contains(id), || {
            format!("stage `{id}` is not complete")
        })?;
    }
    state.rolled_at = Some(at);
    if held {
        state.status = RunStatus::AwaitingFinalize;
    }
    Ok(())
}
