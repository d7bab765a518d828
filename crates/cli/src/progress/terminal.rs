//! The live display of a run: the whole as a bar, at most eight running steps with what they wait
//! for, and the availability strip of every service.

use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use owo_colors::OwoColorize as _;
use volutus_model::event::{Event, JournalEntry};
use volutus_model::name::{AttemptId, StepId};
use volutus_model::plan::Plan;
use volutus_model::probe::Sample;
use volutus_model::run::{RunState, StepStatus};

use super::describe::Describer;
use super::strip::Strip;
use crate::show::duration;

/// Running steps that are shown; more than these would push the strip off a small terminal.
const RUNNING_SHOWN_MAX: usize = 8;
/// Services that have a line of their own in the strip.
const STRIP_LINES_MAX: usize = 8;
/// Marks of the strip: two minutes at two seconds a mark.
const STRIP_WIDTH: usize = 60;

struct Running {
    summary: String,
    since: Timestamp,
    said: String,
}

/// Draws the live display.
pub struct Terminal {
    plan: Plan,
    display: MultiProgress,
    whole: ProgressBar,
    running_lines: Vec<ProgressBar>,
    strip_lines: Vec<ProgressBar>,
    describer: Describer,
    running: BTreeMap<StepId, Running>,
    steps_of: BTreeMap<AttemptId, StepId>,
    strip: Strip,
    steps_to_do: u64,
}

impl Terminal {
    /// A display of a run of `plan`.
    pub fn new(plan: &Plan) -> Self {
        let display = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8));
        let text = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let line = |display: &MultiProgress| {
            let bar = display.add(ProgressBar::new(0));
            bar.set_style(text.clone());
            bar
        };
        let steps_to_do =
            plan.stages.iter().filter(|stage| !stage.held).map(|stage| stage.steps.len() as u64).sum();
        let whole = display.add(ProgressBar::new(steps_to_do));
        if let Ok(style) = ProgressStyle::with_template("{bar:40.green/dim} {pos}/{len} steps  {msg}") {
            whole.set_style(style.progress_chars("━━─"));
        }
        let running_lines = (0..RUNNING_SHOWN_MAX).map(|_| line(&display)).collect();
        let strip_lines = (0..STRIP_LINES_MAX).map(|_| line(&display)).collect();
        Self {
            plan: plan.clone(),
            display,
            whole,
            running_lines,
            strip_lines,
            describer: Describer::new(plan),
            running: BTreeMap::new(),
            steps_of: BTreeMap::new(),
            strip: Strip::default(),
            steps_to_do,
        }
    }

    fn println(&self, at: Timestamp, text: &str) {
        // A display that cannot be drawn (the terminal went away) is no reason to stop a run.
        let _drawn = self.display.println(format!("{} {text}", at.strftime("%H:%M:%S")));
    }

    fn draw(&mut self, state: &RunState) {
        let now = Timestamp::now();
        let done = state.steps.values().filter(|s| matches!(s, StepStatus::Completed)).count() as u64;
        self.whole.set_length(self.steps_to_do.max(done));
        self.whole.set_position(done);
        let elapsed = state.started_at.map_or(0.0, |start| (now - start).get_seconds() as f64);
        let left = self.expected_left_s(state);
        self.whole.set_message(format!(
            "{}  {} so far, about {} left",
            state.status.bold(),
            duration(elapsed),
            duration(left)
        ));
        let mut lines: Vec<String> = self
            .running
            .iter()
            .map(|(step, running)| {
                let seconds = (now - running.since).get_seconds() as f64;
                let said =
                    if running.said.is_empty() { String::new() } else { format!("  ({})", running.said) };
                format!("  {:>6} {}  {}{}", duration(seconds), step.bold(), running.summary, said.dimmed())
            })
            .collect();
        if lines.len() > RUNNING_SHOWN_MAX {
            let more = lines.len() - RUNNING_SHOWN_MAX + 1;
            lines.truncate(RUNNING_SHOWN_MAX - 1);
            lines.push(format!("         and {more} more"));
        }
        for (index, bar) in self.running_lines.iter().enumerate() {
            bar.set_message(lines.get(index).cloned().unwrap_or_default());
        }
        let strip = self.strip.lines(STRIP_WIDTH);
        for (index, bar) in self.strip_lines.iter().enumerate() {
            bar.set_message(strip.get(index).cloned().unwrap_or_default());
        }
    }

    /// The plan's own estimate for what is not complete, at the parallelism seen in the plan.
    fn expected_left_s(&self, state: &RunState) -> f64 {
        self.plan
            .stages
            .iter()
            .filter(|stage| !stage.held || state.finalize_allowed)
            .map(|stage| {
                let open =
                    stage.steps.iter().filter(|step| !matches!(state.step(&step.id), StepStatus::Completed));
                let total: u32 = open.map(|step| step.expected_s).sum();
                f64::from(total) / f64::from(stage.parallel_max.max(1))
            })
            .sum::<f64>()
            / f64::from(self.plan.policy.parallel_steps_max.max(1))
    }
}

impl volutus_runtime::Reporter for Terminal {
    fn entry(&mut self, entry: &JournalEntry, state: &RunState) {
        match &entry.event {
            Event::AttemptStarted { attempt, step, .. } => {
                let title = self.describer.describe(&entry.event);
                let summary =
                    title.split_once(": ").map_or(title.as_str(), |(_, summary)| summary).to_owned();
                self.steps_of.insert(attempt.clone(), step.clone());
                let since = self.running.get(step).map_or(entry.at, |running| running.since);
                self.running.insert(step.clone(), Running { summary, since, said: String::new() });
            }
            Event::AttemptFinished { outcome, .. } => {
                if !outcome.is_success() {
                    let text = self.describer.describe(&entry.event);
                    self.println(entry.at, &text);
                }
            }
            Event::StepCompleted { step } => {
                if let Some(running) = self.running.remove(step) {
                    let took = (entry.at - running.since).get_seconds() as f64;
                    self.println(entry.at, &format!("{} {step} in {}", "✓".green(), duration(took)));
                }
            }
            Event::StepFailed { step } => {
                self.running.remove(step);
                self.println(entry.at, &format!("{} {step}", "✗".red()));
            }
            Event::StageCompleted { .. } | Event::StageStarted { .. } => {}
            other => {
                let text = self.describer.describe(other);
                self.println(entry.at, &text);
            }
        }
        self.draw(state);
    }

    fn say(&mut self, attempt: &AttemptId, text: &str) {
        if let Some(running) = self.steps_of.get(attempt).and_then(|step| self.running.get_mut(step)) {
            text.clone_into(&mut running.said);
        }
    }

    fn samples(&mut self, samples: &[Sample]) {
        for sample in samples.iter().filter(|sample| sample.failed()) {
            let status = sample.status.map_or("no answer".to_owned(), |s| s.to_string());
            let text = format!("{} {} failed ({status})", sample.service, sample.operation);
            self.println(Timestamp::now(), &text.red().to_string());
        }
        self.strip.add(samples);
    }

    fn tick(&mut self, state: &RunState) {
        self.draw(state);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        for bar in self.running_lines.iter().chain(&self.strip_lines).chain([&self.whole]) {
            bar.finish_and_clear();
        }
    }
}
