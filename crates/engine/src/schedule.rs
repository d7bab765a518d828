//! Which of the steps that may begin begins next.
//!
//! The plan has settled everything that matters for safety; what is left is to keep the run
//! short. The step with the longest expected way behind it goes first, and of equal ones that
//! on the host where the least is running, so that one host's processors are not the limit.

use crate::index::PlanIndex;
use crate::progress::Progress;

/// Of equal steps at the front of a stage, so many are compared by their host's load: enough
/// for the hosts of any control plane, and a bound where ten thousand computes are equal.
const COMPARED_MAX: usize = 16;

/// The step to begin next, where one may.
pub(crate) fn next_step(index: &PlanIndex, progress: &Progress) -> Option<usize> {
    if progress.running.len() >= index.plan().policy.parallel_steps_max as usize {
        return None;
    }
    progress
        .stages_ready
        .iter()
        .filter_map(|stage| best_of_stage(index, progress, *stage))
        .min_by_key(|best| (std::cmp::Reverse(best.remaining_s), best.load, best.step))
        .map(|best| best.step)
}

struct Best {
    remaining_s: u64,
    load: u32,
    step: usize,
}

fn best_of_stage(index: &PlanIndex, progress: &Progress, stage: usize) -> Option<Best> {
    let own = &progress.stages[stage];
    let width = index.stage(stage).parallel_max;
    if own.running >= width as usize {
        return None;
    }
    let (longest, _) = own.ready.first()?;
    let load = |step: usize| index.steps[step].host.map_or(0, |host| progress.host_load[host]);
    let (load, step) = own
        .ready
        .iter()
        .take(COMPARED_MAX)
        .take_while(|(chain, _)| chain == longest)
        .map(|(_, step)| (load(*step), *step))
        .min()?;
    // A stage that does one step at a time still has all its steps before it.
    let remaining_s = longest.0.max(own.work_left_s / u64::from(width)) + index.stages[stage].tail_s;
    Some(Best { remaining_s, load, step })
}
