//! One timestamped line per event, for logs and for terminals that are none.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use volutus_model::Plan;
use volutus_model::event::JournalEntry;
use volutus_model::name::AttemptId;
use volutus_model::probe::Sample;
use volutus_model::run::{RunState, StepStatus};

use super::describe::Describer;
use super::strip::Strip;
use crate::show::duration;

/// How often the state is told when nothing happens: often enough to see that it lives, seldom
/// enough for a log.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Prints events as lines.
pub struct Lines {
    describer: Describer,
    strip: Strip,
    last_line: Instant,
    last_said: BTreeMap<AttemptId, String>,
}

impl Lines {
    /// Lines about a run of `plan`.
    pub fn new(plan: &Plan) -> Self {
        Self {
            describer: Describer::new(plan),
            strip: Strip::default(),
            last_line: Instant::now(),
            last_said: BTreeMap::new(),
        }
    }

    fn line(&mut self, at: jiff::Timestamp, text: &str) {
        anstream::eprintln!("{} {text}", at.strftime("%H:%M:%S"));
        self.last_line = Instant::now();
    }
}

impl volutus_runtime::Reporter for Lines {
    fn entry(&mut self, entry: &JournalEntry, _state: &RunState) {
        let text = self.describer.describe(&entry.event);
        self.line(entry.at, &text);
    }

    fn say(&mut self, attempt: &AttemptId, text: &str) {
        if self.last_said.get(attempt).is_some_and(|last| last == text) {
            return;
        }
        self.last_said.insert(attempt.clone(), text.to_owned());
        let line = format!("{}: {text}", self.describer.title(attempt));
        self.line(jiff::Timestamp::now(), &line);
    }

    fn samples(&mut self, samples: &[Sample]) {
        for sample in samples.iter().filter(|sample| sample.failed()) {
            let status = sample.status.map_or("no answer".to_owned(), |s| s.to_string());
            let line = format!("probe: {} {} FAILED ({status})", sample.service, sample.operation);
            self.line(jiff::Timestamp::now(), &line);
        }
        self.strip.add(samples);
    }

    fn tick(&mut self, state: &RunState) {
        if self.last_line.elapsed() < HEARTBEAT {
            return;
        }
        let done = state.steps.values().filter(|s| matches!(s, StepStatus::Completed)).count();
        let running: Vec<&str> = state.running().map(|step| step.as_str()).collect();
        let (total, failed) = self.strip.totals();
        let now = jiff::Timestamp::now();
        let elapsed = state.started_at.map_or(0.0, |start| (now - start).get_seconds() as f64);
        let text = format!(
            "{} after {}: {done} steps complete, running: {}; {failed} of {total} probe requests failed",
            state.status,
            duration(elapsed),
            if running.is_empty() { "none".to_owned() } else { running.join(", ") }
        );
        self.line(now, &text);
    }
}
