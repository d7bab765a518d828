//! A plan made quick to walk: edges in both directions, positions instead of names, and how
//! much is left behind every stage.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use volutus_model::name::{HostName, StageId, StepId};
use volutus_model::plan::{Plan, Stage, Step};

use crate::error::Error;

/// A step's neighbours.
#[derive(Debug)]
pub(crate) struct StepNode {
    /// Its stage's position in the plan.
    pub stage: usize,
    /// Its own position in the stage.
    place: usize,
    /// Steps that must be complete before.
    pub requires: Vec<usize>,
    /// Steps that require it.
    pub unlocks: Vec<usize>,
    /// Expected seconds of the longest chain of steps of the stage that begins with it.
    pub chain_s: u64,
    /// The host that it works on, as a number, where there is one.
    pub host: Option<usize>,
}

/// A stage's neighbours.
#[derive(Debug)]
pub(crate) struct StageNode {
    /// Stages that must be complete before.
    pub after: Vec<usize>,
    /// Stages that come after it.
    pub unlocks: Vec<usize>,
    /// The position of its first step among all steps of the plan.
    pub first: usize,
    /// The number of its steps.
    pub count: usize,
    /// Whether it waits for `finalize`: it is held itself, or comes after a stage that is.
    pub held: bool,
    /// Expected seconds of all its steps, one after another.
    pub work_s: u64,
    /// Expected seconds of the longest way from its end to the end of the roll (or, for a held
    /// stage, of the run).
    pub tail_s: u64,
}

/// A plan with its edges resolved and checked.
#[derive(Debug)]
pub struct PlanIndex {
    plan: Arc<Plan>,
    pub(crate) steps: Vec<StepNode>,
    pub(crate) stages: Vec<StageNode>,
    pub(crate) hosts: usize,
    // Looked up several times per event; nothing depends on an order.
    step_by_id: HashMap<StepId, usize>,
    stage_by_id: HashMap<StageId, usize>,
}

impl PlanIndex {
    /// Resolves a plan's edges.
    ///
    /// # Errors
    /// [`Error::PlanUnsound`] where an id is used twice, an edge leads to nothing, edges form a
    /// circle, or a limit of 0 would let nothing happen: such a plan would never end.
    pub fn new(plan: Arc<Plan>) -> Result<Self, Error> {
        Self::build(Arc::clone(&plan)).map_err(|why| Error::PlanUnsound { plan: plan.id.clone(), why })
    }

    fn build(plan: Arc<Plan>) -> Result<Self, String> {
        if plan.policy.parallel_steps_max == 0 {
            return Err("its policy's parallel_steps_max is 0, so no step could start".to_owned());
        }
        let (stage_by_id, step_by_id) = number(&plan)?;
        let stages = link_stages(&plan, &stage_by_id)?;
        let (steps, hosts) = link_steps(&plan, &step_by_id)?;
        let mut index = Self { plan, steps, stages, hosts, step_by_id, stage_by_id };
        index.measure_chains()?;
        index.measure_tails()?;
        Ok(index)
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    pub(crate) fn step(&self, position: usize) -> &Step {
        let node = &self.steps[position];
        &self.plan.stages[node.stage].steps[node.place]
    }

    pub(crate) fn stage(&self, position: usize) -> &Stage {
        &self.plan.stages[position]
    }

    pub(crate) fn step_position(&self, id: &StepId) -> Option<usize> {
        self.step_by_id.get(id).copied()
    }

    pub(crate) fn stage_position(&self, id: &StageId) -> Option<usize> {
        self.stage_by_id.get(id).copied()
    }

    /// Whether the stage waits for `finalize`, by its own word or because it comes after one
    /// that does. `None` for a stage that is not of the plan.
    #[must_use]
    pub fn is_held(&self, id: &StageId) -> Option<bool> {
        self.stage_position(id).map(|position| self.stages[position].held)
    }

    /// Number of steps in the plan.
    #[must_use]
    pub fn steps_total(&self) -> usize {
        self.steps.len()
    }

    fn measure_chains(&mut self) -> Result<(), String> {
        let order = topological(self.steps.len(), |i| &self.steps[i].requires, |i| &self.steps[i].unlocks)
            .map_err(|at| format!("steps require each other in a circle through `{}`", self.step(at).id))?;
        for position in order.into_iter().rev() {
            let behind = self.steps[position].unlocks.iter().map(|next| self.steps[*next].chain_s).max();
            let own = u64::from(self.step(position).expected_s);
            self.steps[position].chain_s = own + behind.unwrap_or(0);
        }
        Ok(())
    }

    fn measure_tails(&mut self) -> Result<(), String> {
        let order = topological(self.stages.len(), |i| &self.stages[i].after, |i| &self.stages[i].unlocks)
            .map_err(|at| {
                format!("stages come after each other in a circle through `{}`", self.stage(at).id)
            })?;
        for position in &order {
            let held = self.stage(*position).held
                || self.stages[*position].after.iter().any(|before| self.stages[*before].held);
            self.stages[*position].held = held;
        }
        for position in order.into_iter().rev() {
            // What only begins after `finalize` does not make the roll longer.
            let tail = self.stages[position]
                .unlocks
                .iter()
                .filter(|next| self.stages[**next].held == self.stages[position].held)
                .map(|next| self.stage_length_s(*next) + self.stages[*next].tail_s)
                .max();
            self.stages[position].tail_s = tail.unwrap_or(0);
        }
        Ok(())
    }

    fn stage_length_s(&self, position: usize) -> u64 {
        let stage = &self.stages[position];
        let chain = self.steps[stage.first..stage.first + stage.count].iter().map(|s| s.chain_s).max();
        let wide = stage.work_s / u64::from(self.stage(position).parallel_max);
        wide.max(chain.unwrap_or(0))
    }
}

type Numbers = (HashMap<StageId, usize>, HashMap<StepId, usize>);

fn number(plan: &Plan) -> Result<Numbers, String> {
    let mut stages = HashMap::new();
    let mut steps = HashMap::new();
    for (position, stage) in plan.stages.iter().enumerate() {
        if stages.insert(stage.id.clone(), position).is_some() {
            return Err(format!("two stages are called `{}`", stage.id));
        }
        if stage.parallel_max == 0 && !stage.steps.is_empty() {
            return Err(format!("stage `{}` allows 0 steps at a time, so none could start", stage.id));
        }
        for step in &stage.steps {
            let position = steps.len();
            if steps.insert(step.id.clone(), position).is_some() {
                return Err(format!("two steps are called `{}`", step.id));
            }
        }
    }
    Ok((stages, steps))
}

fn link_stages(plan: &Plan, numbers: &HashMap<StageId, usize>) -> Result<Vec<StageNode>, String> {
    let mut nodes = Vec::with_capacity(plan.stages.len());
    let mut first = 0;
    for stage in &plan.stages {
        let mut after = BTreeSet::new();
        for id in &stage.after {
            let position = numbers
                .get(id)
                .ok_or_else(|| format!("stage `{}` comes after `{id}`, which does not exist", stage.id))?;
            after.insert(*position);
        }
        nodes.push(StageNode {
            after: after.into_iter().collect(),
            unlocks: Vec::new(),
            first,
            count: stage.steps.len(),
            held: stage.held,
            work_s: stage.steps.iter().map(|step| u64::from(step.expected_s)).sum(),
            tail_s: 0,
        });
        first += stage.steps.len();
    }
    for position in 0..nodes.len() {
        for before in nodes[position].after.clone() {
            nodes[before].unlocks.push(position);
        }
    }
    Ok(nodes)
}

fn link_steps(plan: &Plan, numbers: &HashMap<StepId, usize>) -> Result<(Vec<StepNode>, usize), String> {
    let mut nodes: Vec<StepNode> = Vec::with_capacity(numbers.len());
    let mut hosts: BTreeMap<&HostName, usize> = BTreeMap::new();
    for (position, stage) in plan.stages.iter().enumerate() {
        let own = nodes.len()..nodes.len() + stage.steps.len();
        for (place, step) in stage.steps.iter().enumerate() {
            let mut requires = BTreeSet::new();
            for id in &step.requires {
                let required = numbers.get(id).filter(|number| own.contains(number)).ok_or_else(|| {
                    format!("step `{}` requires `{id}`, which is not in its stage `{}`", step.id, stage.id)
                })?;
                requires.insert(*required);
            }
            let host = step.actions.iter().find_map(|action| action.host()).map(|host| {
                let next = hosts.len();
                *hosts.entry(host).or_insert(next)
            });
            nodes.push(StepNode {
                stage: position,
                place,
                requires: requires.into_iter().collect(),
                unlocks: Vec::new(),
                chain_s: 0,
                host,
            });
        }
    }
    for position in 0..nodes.len() {
        for before in nodes[position].requires.clone() {
            nodes[before].unlocks.push(position);
        }
    }
    Ok((nodes, hosts.len()))
}

/// An order in which everything comes after what it needs; the position of something that is
/// part of a circle, or behind one, where there is none.
fn topological<'a>(
    count: usize,
    needs: impl Fn(usize) -> &'a Vec<usize>,
    unlocks: impl Fn(usize) -> &'a Vec<usize>,
) -> Result<Vec<usize>, usize> {
    let mut missing: Vec<usize> = (0..count).map(|i| needs(i).len()).collect();
    let mut order: Vec<usize> = (0..count).filter(|i| missing[*i] == 0).collect();
    let mut done = 0;
    while done < order.len() {
        for next in unlocks(order[done]) {
            missing[*next] -= 1;
            if missing[*next] == 0 {
                order.push(*next);
            }
        }
        done += 1;
    }
    match missing.iter().position(|left| *left > 0) {
        None => Ok(order),
        Some(at) => Err(at),
    }
}
