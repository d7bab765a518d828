//! The order in which stages stand in a plan.
//!
//! Any order that respects the edges would be right. Stages with the longest way still behind
//! them come first, because the engine starts what stands first when it has to choose, and a
//! run is as long as its longest way.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use volutus_model::name::StageId;
use volutus_model::plan::Stage;

use crate::Error;

/// Seconds that a stage takes at the least: its longest step, or all of them over its width.
fn duration_s(stage: &Stage) -> u64 {
    let sum: u64 = stage.steps.iter().map(|step| u64::from(step.expected_s)).sum();
    let longest = stage.steps.iter().map(|step| u64::from(step.expected_s)).max().unwrap_or(0);
    longest.max(sum.div_ceil(u64::from(stage.parallel_max.max(1))))
}

/// Puts stages in an order in which they could be done one after another, those with the most
/// work behind them first.
pub(crate) fn order_stages(stages: Vec<Stage>) -> Result<Vec<Stage>, Error> {
    let index: BTreeMap<StageId, usize> =
        stages.iter().enumerate().map(|(i, stage)| (stage.id.clone(), i)).collect();
    let mut before = vec![0_usize; stages.len()];
    let mut behind: Vec<Vec<usize>> = vec![Vec::new(); stages.len()];
    for (i, stage) in stages.iter().enumerate() {
        for after in &stage.after {
            if let Some(&j) = index.get(after) {
                before[i] += 1;
                behind[j].push(i);
            }
        }
    }
    let topological = topological(&before, &behind);
    if topological.len() < stages.len() {
        let placed: std::collections::BTreeSet<usize> = topological.into_iter().collect();
        let stages = stages.iter().enumerate().filter(|(i, _)| !placed.contains(i));
        return Err(Error::Circle { stages: stages.map(|(_, s)| s.id.to_string()).collect() });
    }
    let mut remaining = vec![0_u64; stages.len()];
    for &i in topological.iter().rev() {
        let longest = behind[i].iter().map(|&j| remaining[j]).max().unwrap_or(0);
        remaining[i] = duration_s(&stages[i]) + longest;
    }
    let mut ready: BinaryHeap<(Reverse<bool>, u64, Reverse<usize>)> = BinaryHeap::new();
    let key = |i: usize| (Reverse(stages[i].held), remaining[i], Reverse(i));
    for (i, _) in before.iter().enumerate().filter(|(_, count)| **count == 0) {
        ready.push(key(i));
    }
    let mut order = Vec::new();
    while let Some((_, _, Reverse(i))) = ready.pop() {
        order.push(i);
        for &j in &behind[i] {
            before[j] -= 1;
            if before[j] == 0 {
                ready.push(key(j));
            }
        }
    }
    let mut slots: Vec<Option<Stage>> = stages.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|i| slots[i].take()).collect())
}

fn topological(before: &[usize], behind: &[Vec<usize>]) -> Vec<usize> {
    let mut before = before.to_vec();
    let mut order: Vec<usize> = (0..before.len()).filter(|&i| before[i] == 0).collect();
    let mut next = 0;
    while next < order.len() {
        let i = order[next];
        next += 1;
        for &j in &behind[i] {
            before[j] -= 1;
            if before[j] == 0 {
                order.push(j);
            }
        }
    }
    order
}
