//! The order that a plan's edges prescribe.

use std::collections::{BTreeMap, BTreeSet};

use volutus_model::name::{StageId, StepId};
use volutus_model::plan::{Action, Plan, Stage, Step};

/// Steps of one stage among which a path is searched; beyond this only direct edges count, so
/// that no plan can make its own check take for ever.
const PATH_STEPS_MAX: usize = 2_000;

/// Where an action stands: step and position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    pub step: usize,
    pub action: usize,
}

/// A plan's steps with the order between them.
pub(crate) struct Graph<'a> {
    pub stages: Vec<&'a Stage>,
    /// Every step with the position of its stage.
    pub steps: Vec<(usize, &'a Step)>,
    /// Per stage: the stages that are complete before it starts.
    ancestors: Vec<BTreeSet<usize>>,
    /// Per step: the steps that it requires.
    requires: Vec<Vec<usize>>,
}

impl<'a> Graph<'a> {
    pub fn new(plan: &'a Plan) -> Self {
        let stages: Vec<&Stage> = plan.stages.iter().collect();
        let index: BTreeMap<&StageId, usize> =
            stages.iter().enumerate().map(|(i, stage)| (&stage.id, i)).collect();
        let parents: Vec<Vec<usize>> = stages
            .iter()
            .map(|stage| stage.after.iter().filter_map(|id| index.get(id).copied()).collect())
            .collect();
        let ancestors = (0..stages.len()).map(|i| reach(&parents, i)).collect();
        let steps: Vec<(usize, &Step)> = stages
            .iter()
            .enumerate()
            .flat_map(|(i, stage)| stage.steps.iter().map(move |step| (i, step)))
            .collect();
        let of_step: BTreeMap<(usize, &StepId), usize> =
            steps.iter().enumerate().map(|(i, (stage, step))| ((*stage, &step.id), i)).collect();
        let requires = steps
            .iter()
            .map(|(stage, step)| {
                step.requires.iter().filter_map(|id| of_step.get(&(*stage, id)).copied()).collect()
            })
            .collect();
        Self { stages, steps, ancestors, requires }
    }

    /// Every action with its place.
    pub fn actions(&self) -> impl Iterator<Item = (At, &'a Action)> + '_ {
        self.steps.iter().enumerate().flat_map(|(step, (_, content))| {
            content.actions.iter().enumerate().map(move |(action, a)| (At { step, action }, a))
        })
    }

    pub fn stage_of(&self, step: usize) -> &'a Stage {
        self.stages[self.steps[step].0]
    }

    /// Whether stage `a` is complete before stage `b` starts.
    pub fn stage_before(&self, a: usize, b: usize) -> bool {
        self.ancestors[b].contains(&a)
    }

    /// Whether step `a` is complete before step `b` starts, in every run.
    pub fn step_before(&self, a: usize, b: usize) -> bool {
        let (stage_a, stage_b) = (self.steps[a].0, self.steps[b].0);
        if stage_a != stage_b {
            return self.stage_before(stage_a, stage_b);
        }
        if self.requires[b].contains(&a) {
            return true;
        }
        self.stages[stage_a].steps.len() <= PATH_STEPS_MAX && reach(&self.requires, b).contains(&a)
    }

    /// Whether the action at `a` is complete before the one at `b` starts, in every run.
    pub fn before(&self, a: At, b: At) -> bool {
        if a.step == b.step { a.action < b.action } else { self.step_before(a.step, b.step) }
    }

    /// Whether the steps can only run one after another.
    pub fn is_chain(&self, steps: &[usize]) -> bool {
        steps.windows(2).all(|pair| self.step_before(pair[0], pair[1]))
    }
}

/// Everything that is reached from `start` over `edges`, itself excluded unless in a circle.
fn reach(edges: &[Vec<usize>], start: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut open = edges[start].clone();
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(&edges[next]);
        }
    }
    reached
}
