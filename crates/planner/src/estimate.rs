//! How long a plan is expected to take: the plan is played through with every step taking its
//! expected time, under the same limits that the engine keeps.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::fmt;

use serde::Serialize;
use volutus_model::name::StepId;
use volutus_model::plan::{Phase, Plan, Stage};

/// The expected times of a plan, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Estimate {
    /// Watching before anything is touched.
    pub baseline_s: u64,
    /// From the first change to the last replaced daemon.
    pub roll_s: u64,
    /// Watching afterwards.
    pub soak_s: u64,
    /// The held stages, once they are allowed.
    pub finalize_s: u64,
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} to replace everything, after {} of baseline and before {} of soak; {} to finalize",
            minutes(self.roll_s),
            minutes(self.baseline_s),
            minutes(self.soak_s),
            minutes(self.finalize_s)
        )
    }
}

/// Seconds in words: `45 s`, `3 min 20 s`, `2 h 5 min`.
pub(crate) fn minutes(seconds: u64) -> String {
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, 0) => format!("{m} min"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, 0, _) => format!("{h} h"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

/// Plays a plan through.
#[must_use]
pub fn estimate(plan: &Plan) -> Estimate {
    let of_phase = |phase: Phase| {
        let stages = plan.stages.iter().filter(|stage| stage.phase == phase);
        stages.flat_map(|stage| &stage.steps).map(|step| u64::from(step.expected_s)).sum::<u64>()
    };
    let (baseline_s, soak_s) = (of_phase(Phase::Baseline), of_phase(Phase::Soak));
    Estimate {
        baseline_s,
        roll_s: play(plan, false).saturating_sub(baseline_s + soak_s),
        soak_s,
        finalize_s: play(plan, true),
    }
}

/// One stage while the plan is played.
struct Playing<'a> {
    stage: &'a Stage,
    /// Stages before it that are not complete.
    before: usize,
    /// Steps that could start, in the stage's order.
    ready: VecDeque<usize>,
    /// Per step: steps that it requires and that are not complete.
    missing: Vec<usize>,
    /// Per step: the steps that require it.
    behind: Vec<Vec<usize>>,
    running: u32,
    open: usize,
}

impl<'a> Playing<'a> {
    fn new(stage: &'a Stage) -> Self {
        let index: BTreeMap<&StepId, usize> =
            stage.steps.iter().enumerate().map(|(i, step)| (&step.id, i)).collect();
        let mut missing = vec![0; stage.steps.len()];
        let mut behind = vec![Vec::new(); stage.steps.len()];
        for (i, step) in stage.steps.iter().enumerate() {
            for required in step.requires.iter().filter_map(|id| index.get(id)) {
                missing[i] += 1;
                behind[*required].push(i);
            }
        }
        let ready = (0..missing.len()).filter(|&i| missing[i] == 0).collect();
        let open = stage.steps.len();
        Self { stage, before: 0, ready, missing, behind, running: 0, open }
    }

    fn can_start(&self) -> bool {
        self.before == 0 && self.running < self.stage.parallel_max && !self.ready.is_empty()
    }
}

/// Seconds from the start of the first to the end of the last of the stages that are held, or
/// of those that are not.
fn play(plan: &Plan, held: bool) -> u64 {
    let mut stages: Vec<Playing<'_>> =
        plan.stages.iter().filter(|stage| stage.held == held).map(Playing::new).collect();
    let index: BTreeMap<_, usize> =
        stages.iter().enumerate().map(|(i, playing)| (playing.stage.id.clone(), i)).collect();
    let mut behind: Vec<Vec<usize>> = vec![Vec::new(); stages.len()];
    for (i, playing) in stages.iter_mut().enumerate() {
        for before in playing.stage.after.iter().filter_map(|id| index.get(id)) {
            playing.before += 1;
            behind[*before].push(i);
        }
    }
    let mut startable: BTreeSet<usize> = (0..stages.len()).filter(|&i| stages[i].can_start()).collect();
    let mut ends: BinaryHeap<Reverse<(u64, usize, usize)>> = BinaryHeap::new();
    let limit = usize::try_from(plan.policy.parallel_steps_max.max(1)).unwrap_or(usize::MAX);
    let mut now = 0;
    loop {
        while ends.len() < limit
            && let Some(&i) = startable.first()
        {
            if let Some(step) = stages[i].ready.pop_front() {
                stages[i].running += 1;
                let seconds = u64::from(stages[i].stage.steps[step].expected_s);
                ends.push(Reverse((now + seconds, i, step)));
            }
            if !stages[i].can_start() {
                startable.remove(&i);
            }
        }
        let Some(Reverse((at, i, step))) = ends.pop() else {
            return now;
        };
        now = at;
        stages[i].running -= 1;
        stages[i].open -= 1;
        for next in std::mem::take(&mut stages[i].behind[step]) {
            stages[i].missing[next] -= 1;
            if stages[i].missing[next] == 0 {
                stages[i].ready.push_back(next);
            }
        }
        let mut touched = vec![i];
        if stages[i].open == 0 {
            for &next in &behind[i] {
                stages[next].before -= 1;
                touched.push(next);
            }
        }
        startable.extend(touched.into_iter().filter(|&i| stages[i].can_start()));
    }
}
