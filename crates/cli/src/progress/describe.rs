//! Events in words.

use std::collections::BTreeMap;

use volutus_model::event::{ActionList, Event};
use volutus_model::name::{AttemptId, StepId};
use volutus_model::outcome::Outcome;
use volutus_model::{Action, Plan};

/// Puts events into words. It remembers which attempt is about what.
pub struct Describer {
    plan: Plan,
    titles: BTreeMap<AttemptId, String>,
}

impl Describer {
    /// For events of runs of `plan`.
    pub fn new(plan: &Plan) -> Self {
        Self { plan: plan.clone(), titles: BTreeMap::new() }
    }

    /// What an attempt is about: its step and its action.
    pub fn title(&self, attempt: &AttemptId) -> String {
        self.titles.get(attempt).cloned().unwrap_or_else(|| attempt.to_string())
    }

    /// The event in one line.
    pub fn describe(&mut self, event: &Event) -> String {
        match event {
            Event::RunCreated { plan } => format!("run created for plan {plan}"),
            Event::RunTakenUp { holder } => format!("taken up by {holder}"),
            Event::StageStarted { stage } => {
                let title = self.plan.stages.iter().find(|s| s.id == *stage).map_or("", |s| s.title.as_str());
                format!("stage {stage}: {title}")
            }
            Event::StageCompleted { stage } => format!("stage {stage} is complete"),
            Event::AttemptStarted { attempt, step, action, list, number } => {
                let summary =
                    action_of(&self.plan, step, *list, *action).map_or(String::new(), Action::summary);
                let again = if *number > 1 { format!(" (attempt {number})") } else { String::new() };
                let title = format!("{step}: {summary}{again}");
                self.titles.insert(attempt.clone(), title.clone());
                title
            }
            Event::AttemptTakenUp { attempt } => {
                format!("looking for what became of {}", self.title(attempt))
            }
            Event::AttemptFinished { attempt, outcome } => match outcome {
                Outcome::Done { detail, .. } => format!("{}: done: {detail}", self.title(attempt)),
                Outcome::FoundNoChangesNeeded { detail } => {
                    format!("{}: nothing to do: {detail}", self.title(attempt))
                }
                Outcome::Failed(failure) => {
                    format!("{}: FAILED: {}", self.title(attempt), failure.message)
                }
                Outcome::Unknown { why } => {
                    format!("{}: outcome unknown: {why}", self.title(attempt))
                }
            },
            Event::StepCompleted { step } => format!("{step} is complete"),
            Event::StepFailed { step } => format!("{step} FAILED"),
            Event::StepRetried { step } => format!("{step} is tried again"),
            Event::Halted { cause } => format!("HALTED: {cause}"),
            Event::Paused => "paused: running steps end, no new ones start".to_owned(),
            Event::Resumed => "resumed".to_owned(),
            Event::RollbackDue { cause } => format!("everything is to be put back: {cause}"),
            Event::ReplanDue { cause, set_aside } if set_aside.is_empty() => {
                format!("the rest is to be planned anew: {cause}")
            }
            Event::ReplanDue { cause, set_aside } => {
                let steps: Vec<&str> = set_aside.iter().map(|step| step.as_str()).collect();
                format!("{} stay out of service; the rest is to be planned anew: {cause}", steps.join(", "))
            }
            Event::AbortRequested => "abort: running steps end, then what is held is given back".to_owned(),
            Event::Aborted { left } if left.is_empty() => "aborted; everything was given back".to_owned(),
            Event::Aborted { left } => format!("aborted; NOT given back: {}", left.join(", ")),
            Event::FinalizeAllowed => "finalize is allowed".to_owned(),
            Event::RollCompleted => {
                "everything is on the target; the way back is open until finalize".to_owned()
            }
            Event::Succeeded => "succeeded".to_owned(),
            Event::ProbeBreached(breach) => {
                format!(
                    "{} of {} probe requests failed: {}",
                    breach.failed,
                    breach.total,
                    breach.last.join("; ")
                )
            }
        }
    }
}

fn action_of<'a>(plan: &'a Plan, step: &StepId, list: ActionList, action: u32) -> Option<&'a Action> {
    let (_, step) = plan.step(step)?;
    match list {
        ActionList::Actions => step.actions.get(action as usize),
        ActionList::GiveBack => step.give_back.get(action as usize),
    }
}
