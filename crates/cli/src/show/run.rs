//! Where a run stands, with the evidence of what failed and the choices that are open.

use std::collections::BTreeSet;

use owo_colors::OwoColorize as _;
use volutus_model::outcome::{Evidence, Failure, Outcome};
use volutus_model::plan::{Action, Anchor};
use volutus_model::run::{RunState, RunStatus, StepStatus};
use volutus_model::{Plan, RunId};

use super::{duration, short};

/// Of a halted reboot.
const WITHOUT_FAILED: &str =
    "volutus resume --without-failed   go on with the other hosts; what failed stays as it is";

/// The state of a run in full.
pub fn render(run: &RunId, plan: &Plan, state: &RunState) -> String {
    let total = plan.steps().count();
    let done = state.steps.values().filter(|s| matches!(s, StepStatus::Completed)).count();
    let mut text = format!(
        "run {} of plan {} ({} -> {}): {}\n{done} of {total} steps are complete",
        short(run.as_str()),
        short(plan.id.as_str()),
        plan.from,
        plan.to,
        state.status.bold()
    );
    if let (Some(start), Some(last)) = (state.started_at, state.last_at) {
        text += &format!(", {} so far", duration((last - start).get_seconds() as f64));
    }
    text += "\n";
    for (id, status) in &state.steps {
        match status {
            StepStatus::Running { action, .. } => {
                let summary = plan
                    .step(id)
                    .and_then(|(_, step)| step.actions.get(*action as usize))
                    .map_or(String::new(), |action| action.summary());
                text += &format!("  running  {id}: {summary}\n");
            }
            StepStatus::Failed { action } => {
                let summary = plan
                    .step(id)
                    .and_then(|(_, step)| step.actions.get(*action as usize))
                    .map_or(String::new(), |action| action.summary());
                text += &format!("  {}   {id}: {summary}\n", "failed".red());
            }
            StepStatus::Pending | StepStatus::Completed => {}
        }
    }
    if matches!(state.status, RunStatus::Halted | RunStatus::Aborting | RunStatus::Aborted)
        && let Some(cause) = &state.halt_cause
    {
        text += &format!("\nhalted because: {cause}\n");
    }
    let newcomers = newcomers(state);
    if !newcomers.is_empty() {
        text += &format!(
            "{} instances that came since the plan was made were moved besides: {}\n",
            newcomers.len(),
            super::some(&newcomers.into_iter().collect::<Vec<_>>())
        );
    }
    for failure in last_failures(state) {
        text += &evidence(failure);
    }
    // A silence is told in full as the cause of the halt.
    if let Some(breach) = state.breach.as_ref().filter(|breach| breach.silent.is_none()) {
        text += &format!("\n{} of {} probe requests failed; the last:\n", breach.failed, breach.total);
        for line in &breach.last {
            text += &format!("  {line}\n");
        }
    }
    for step in &state.set_aside {
        text += &format!("stays out of service: {step}\n");
    }
    for left in &state.left {
        text += &format!("not given back: {left}\n");
    }
    if state.status == RunStatus::Aborted {
        for anchor in kept(plan, state) {
            text += &format!(
                "kept on purpose: the records of {} at version {}, so that old daemons may start again; \
                 `volutus rollback` or a later finalize releases them\n",
                anchor.service, anchor.version
            );
        }
        if let Some(cause) = &state.rollback_due {
            text += &format!("to be taken back because: {cause}\n");
            text += "`volutus resume` sees to it, unless that has been done\n";
        }
    }
    text += &choices(state.status, plan);
    text
}

/// Anchors that the run set and did not release.
fn kept<'a>(plan: &'a Plan, state: &RunState) -> Vec<&'a Anchor> {
    let mut kept: Vec<&Anchor> = Vec::new();
    for (_, step) in plan.steps().filter(|(_, step)| state.step(&step.id) == StepStatus::Completed) {
        for action in &step.actions {
            match action {
                Action::KeepAnchor(anchor) => kept.push(anchor),
                Action::ReleaseAnchor(released) => kept.retain(|anchor| anchor.service != released.service),
                _ => {}
            }
        }
    }
    kept
}

/// The newcomers that were moved, each once, also by attempts that failed for others.
fn newcomers(state: &RunState) -> BTreeSet<&str> {
    let outcomes = state.attempts.values().filter_map(|attempt| attempt.outcome.as_ref());
    let pieces = outcomes.flat_map(|outcome| match outcome {
        Outcome::Done { evidence, .. } => evidence.as_slice(),
        Outcome::Failed(failure) => failure.evidence.as_slice(),
        Outcome::FoundNoChangesNeeded { .. } | Outcome::Unknown { .. } => &[],
    });
    let moved = pieces.filter_map(|piece| match piece {
        Evidence::NewcomerMoved { instance, .. } => Some(instance.as_str()),
        _ => None,
    });
    moved.collect()
}

/// The last failure of every step that stands failed.
fn last_failures(state: &RunState) -> Vec<&Failure> {
    let failed = |step| matches!(state.steps.get(step), Some(StepStatus::Failed { .. }));
    let mut latest = std::collections::BTreeMap::new();
    for attempt in state.attempts.values().filter(|attempt| failed(&attempt.step)) {
        if let Some(Outcome::Failed(failure)) = &attempt.outcome {
            let known = latest.entry(&attempt.step).or_insert((attempt.finished_at, failure));
            if attempt.finished_at >= known.0 {
                *known = (attempt.finished_at, failure);
            }
        }
    }
    latest.into_values().map(|(_, failure)| failure).collect()
}

/// A failure with its evidence.
pub fn evidence(failure: &Failure) -> String {
    let mut text = format!("\n{}\n", failure.message.red());
    for piece in &failure.evidence {
        let contract;
        let (title, body) = match piece {
            Evidence::Command { host, command, exit_code, output } => {
                let code = exit_code.map_or("no exit code".to_owned(), |c| format!("exit {c}"));
                (format!("{host}$ {command}  ({code})"), output)
            }
            Evidence::Log { host, unit, lines } => (format!("log of {unit} on {host}"), lines),
            Evidence::Contract(seen) => {
                let text = format!(
                    "{} requests to {} operations, {} of throw-away objects besides; differences by class: {:?}",
                    seen.requests_compared, seen.operations_compared, seen.writes_compared, seen.differences
                );
                contract = text;
                (format!("answers of {}'s old and new code", seen.service), &contract)
            }
            Evidence::AskedAgain(seen) => {
                let missed = seen.not_compared.as_ref().map_or(String::new(), |why| format!("; {why}"));
                let text = format!(
                    "{} requests to {} operations; differences by class that were not there before: {:?}{missed}",
                    seen.requests_compared, seen.operations_compared, seen.differences
                );
                contract = text;
                (format!("answers of {} now and of its old code", seen.service), &contract)
            }
            Evidence::Http { request, status, body } => {
                let status = status.map_or("no answer".to_owned(), |s| format!("HTTP {s}"));
                (format!("{request}  ({status})"), body)
            }
            Evidence::Gate(seen) => {
                (format!("gate {} ({}), all of its output", seen.gate, seen.when), &seen.output)
            }
            Evidence::NewcomerMoved { instance, from, to } => {
                contract = format!("from {from} to {to}");
                (format!("newcomer {instance} moved"), &contract)
            }
            Evidence::State { what, value } => (what.clone(), value),
        };
        text += &format!("  {}\n", title.bold());
        for line in body.lines() {
            text += &format!("    {line}\n");
        }
    }
    if !failure.hint.is_empty() {
        text += &format!("  Hint: {}\n", failure.hint);
    }
    text
}

/// What can be done next.
pub fn choices(status: RunStatus, plan: &Plan) -> String {
    let forward = plan.kind.is_upgrade();
    let lines: &[&str] = match status {
        RunStatus::Running | RunStatus::Aborting => &[
            "volutus watch    follow it",
            "volutus pause    let running steps end and start no new ones",
            "volutus resume   if the process that carried it out has died",
        ],
        RunStatus::Paused => &[
            "volutus resume   go on",
            "volutus rollback put everything back; nothing that users created is lost",
            "volutus abort    give it up",
        ],
        RunStatus::Halted => &[
            "mend the cause, then volutus resume: the failed step is tried again",
            WITHOUT_FAILED,
            "volutus rollback put everything back; nothing that users created is lost",
            "volutus abort    give back what is drained or disabled, and give the run up",
            "volutus observe  look at the cloud",
        ],
        RunStatus::AwaitingFinalize => &[
            "volutus verdict   what users noticed so far",
            "volutus rollback  put everything back; nothing that users created is lost",
            "volutus finalize  unpin, migrate data, contract (takes the way back)",
        ],
        RunStatus::Aborted => &[
            "volutus plan --to SERIES   a new plan from what the cloud is now",
            "volutus rollback           put back what was replaced",
        ],
        RunStatus::Succeeded => &["volutus verdict   what users noticed"],
    };
    let mut text = "\nWhat you can do now:\n".to_owned();
    let reboots = plan.restarts_hosts();
    let fits = |line: &&&str| match **line {
        WITHOUT_FAILED => reboots,
        line => forward || !line.starts_with("volutus rollback"),
    };
    for line in lines.iter().filter(fits) {
        text += &format!("  {line}\n");
    }
    text
}
