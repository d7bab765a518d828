//! When what was done, from a run's journal. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use volutus_model::event::ActionList;
use volutus_model::name::{DaemonId, ServiceName};
use volutus_model::plan::{Action, Phase, Plan};
use volutus_model::run::RunState;

/// A stretch of time; without an end it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its first moment.
    pub start: Timestamp,
    /// The first moment after it.
    pub end: Option<Timestamp>,
}

impl Window {
    pub(crate) fn holds(&self, due_us: i64) -> bool {
        due_us >= self.start.as_microsecond() && self.end.is_none_or(|end| due_us < end.as_microsecond())
    }
}

/// When the cloud was only watched, and when it was worked on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Windows {
    /// From the start of the first watch of a baseline stage to the end of the last; `None`
    /// where the plan has none or none ended.
    pub baseline: Option<Window>,
    /// From the first attempt of any other stage on, soak included; without an end, so that
    /// whatever the prober saw until it was stopped counts. `None` where nothing was begun.
    pub work: Option<Window>,
    /// Start of the first attempt, and end of the last, of what changes the cloud: staging to
    /// the last wave.
    pub changes: Option<(Timestamp, Timestamp)>,
}

impl Windows {
    /// Those of two runs as of one, of which `later` took the first one back. The baseline is the
    /// first run's: the later one begins in a cloud that is being worked on.
    #[must_use]
    pub fn and(self, later: Self) -> Self {
        let starts = [self.work, later.work].into_iter().flatten().map(|window| window.start);
        let mut changes = self.changes;
        if let Some((start, end)) = later.changes {
            widen(&mut changes, start, end);
        }
        Self {
            baseline: self.baseline.or(later.baseline),
            work: starts.min().map(|start| Window { start, end: None }),
            changes,
        }
    }
}

/// Derives the windows of a run from its journal.
#[must_use]
pub fn windows(plan: &Plan, state: &RunState) -> Windows {
    let mut baseline: Option<(Timestamp, Timestamp)> = None;
    let mut work: Option<Timestamp> = None;
    let mut changes: Option<(Timestamp, Timestamp)> = None;
    for attempt in state.attempts.values() {
        let Some((stage, _)) = plan.step(&attempt.step) else {
            continue;
        };
        let started = attempt.started_at;
        if stage.phase == Phase::Baseline {
            if let Some(finished) = attempt.finished_at {
                widen(&mut baseline, started, finished);
            }
            continue;
        }
        // A gate changes nothing, and one before all else sees the cloud as it was.
        if stage.phase == Phase::Gate {
            continue;
        }
        work = Some(work.map_or(started, |first| first.min(started)));
        if !matches!(stage.phase, Phase::Soak | Phase::Finalize) {
            widen(&mut changes, started, attempt.finished_at.or(state.last_at).unwrap_or(started));
        }
    }
    let baseline = baseline.map(|(start, end)| {
        // A baseline that overlaps work would compare the work with itself.
        let end = work.map_or(end, |work| end.min(work));
        Window { start, end: Some(end) }
    });
    Windows { baseline, work: work.map(|start| Window { start, end: None }), changes }
}

fn widen(range: &mut Option<(Timestamp, Timestamp)>, start: Timestamp, end: Timestamp) {
    *range = Some(match *range {
        None => (start, end),
        Some((first, last)) => (first.min(start), last.max(end)),
    });
}

/// The stretches of the work that have to be measured: from the first attempt to the last before
/// finalize, and from the first to the last of finalize. Between the two a run may wait for days,
/// in one and the same state, and nobody has to measure then. A pause in the midst is measured:
/// the cloud is then half old and half new.
pub(crate) fn stretches(plan: &Plan, state: &RunState, windows: &Windows) -> Vec<(i64, i64)> {
    let Some(work) = windows.work else {
        return Vec::new();
    };
    let last = state.last_at.unwrap_or(work.start);
    let mut before: Option<(Timestamp, Timestamp)> = None;
    let mut finalize: Option<(Timestamp, Timestamp)> = None;
    for attempt in state.attempts.values().filter(|attempt| attempt.started_at >= work.start) {
        let Some((stage, _)) = plan.step(&attempt.step) else {
            continue;
        };
        let held = stage.held || stage.phase == Phase::Finalize;
        let range = if held { &mut finalize } else { &mut before };
        widen(range, attempt.started_at, attempt.finished_at.unwrap_or(last).max(attempt.started_at));
    }
    [before, finalize]
        .into_iter()
        .flatten()
        .map(|(start, end)| (start.as_microsecond(), end.as_microsecond()))
        .collect()
}

/// The longest time between two of these moments, or between one and the start or end of its stretch, in
/// milliseconds.
pub(crate) fn longest_between(stretches: &[(i64, i64)], moments: impl Iterator<Item = i64>) -> f64 {
    let mut moments: Vec<i64> = moments.collect();
    moments.sort_unstable();
    let mut longest = 0;
    for &(start, end) in stretches {
        let mut last = start;
        for &moment in moments.iter().filter(|moment| (start..=end).contains(*moment)) {
            longest = longest.max(moment - last);
            last = moment;
        }
        longest = longest.max(end - last);
    }
    longest as f64 / 1000.0
}

/// Start of the first and end of the last attempt that switched each daemon of a service.
pub(crate) fn switches(plan: &Plan, state: &RunState, service: &ServiceName) -> Vec<(Timestamp, Timestamp)> {
    let mut found: BTreeMap<&DaemonId, Option<(Timestamp, Timestamp)>> = BTreeMap::new();
    for attempt in state.attempts.values() {
        let Some((_, step)) = plan.step(&attempt.step) else {
            continue;
        };
        let index = usize::try_from(attempt.action).unwrap_or(usize::MAX);
        if let Some(Action::SwitchDaemon { service: of, daemon, .. }) = step.actions.get(index)
            && attempt.list == ActionList::Actions
            && of == service
        {
            let end = attempt.finished_at.unwrap_or(attempt.started_at);
            widen(found.entry(daemon).or_default(), attempt.started_at, end);
        }
    }
    found.into_values().flatten().collect()
}
