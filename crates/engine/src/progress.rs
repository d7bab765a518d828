//! What is derived from a journal so that stepping is cheap: counts of what is missing, what is
//! ready, what is open. It holds nothing that the journal does not tell.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use volutus_model::event::{ActionList, Event};
use volutus_model::name::AttemptId;
use volutus_model::outcome::{FailureClass, Outcome};
use volutus_model::run::{RunState, StepStatus};

use crate::index::PlanIndex;
use crate::machine::TAKE_UPS_MAX;

/// How far a stage is.
#[derive(Debug, Clone, Default)]
pub(crate) struct StageProgress {
    /// Stages before it that are not complete.
    pub before_left: usize,
    /// Its steps that are not complete.
    pub steps_left: usize,
    /// Its steps that run.
    pub running: usize,
    /// Expected seconds of its steps that are not complete.
    pub work_left_s: u64,
    /// Steps that may begin, those with the longest chain behind them first.
    pub ready: BTreeSet<(Reverse<u64>, usize)>,
}

/// How far the giving back of one step is.
#[derive(Debug, Clone, Default)]
pub(crate) struct GiveBack {
    /// The action that is next, from 0.
    pub next: u32,
    /// Attempts at it so far.
    pub tries: u32,
    /// Whether an attempt is under way.
    pub open: bool,
    /// What could not be given back.
    pub left: Vec<String>,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub stages: Vec<StageProgress>,
    /// Stages that may start; held ones too, once `finalize` is allowed.
    pub startable: BTreeSet<usize>,
    /// Stages that have started, whose steps are all complete, and that were not called so.
    pub finished: BTreeSet<usize>,
    /// Started stages with steps that may begin.
    pub stages_ready: BTreeSet<usize>,
    /// Steps that run and have no attempt under way.
    pub due: BTreeSet<usize>,
    pub running: BTreeSet<usize>,
    pub failed: BTreeSet<usize>,
    /// Steps that run, per host.
    pub host_load: Vec<u32>,
    /// Attempts without an outcome.
    pub open: BTreeMap<AttemptId, (usize, ActionList)>,
    /// The last attempt at every action.
    pub latest: BTreeMap<(usize, ActionList, u32), AttemptId>,
    pub give_back: BTreeMap<usize, GiveBack>,
    pub unheld_left: usize,
    pub stages_left: usize,
    /// Steps that each step still requires.
    requires_left: Vec<usize>,
    /// Attempts at the current action since it became current, or was retried.
    tries: BTreeMap<usize, u32>,
    /// Steps that were tried again after they had failed.
    retried: BTreeSet<usize>,
    /// How often the outcome of an attempt was lost.
    unknowns: BTreeMap<AttemptId, u32>,
    /// Stages whose predecessors are all complete and that wait for `finalize`.
    held_back: BTreeSet<usize>,
}

impl Progress {
    pub fn new(index: &PlanIndex) -> Self {
        let stages = index.stages.iter().map(|node| StageProgress {
            before_left: node.after.len(),
            steps_left: node.count,
            work_left_s: node.work_s,
            ..StageProgress::default()
        });
        let mut progress = Self {
            stages: stages.collect(),
            startable: BTreeSet::new(),
            finished: BTreeSet::new(),
            stages_ready: BTreeSet::new(),
            due: BTreeSet::new(),
            running: BTreeSet::new(),
            failed: BTreeSet::new(),
            host_load: vec![0; index.hosts],
            open: BTreeMap::new(),
            latest: BTreeMap::new(),
            give_back: BTreeMap::new(),
            unheld_left: index.stages.iter().filter(|node| !node.held).count(),
            stages_left: index.stages.len(),
            requires_left: index.steps.iter().map(|node| node.requires.len()).collect(),
            tries: BTreeMap::new(),
            retried: BTreeSet::new(),
            unknowns: BTreeMap::new(),
            held_back: BTreeSet::new(),
        };
        for (position, node) in index.stages.iter().enumerate() {
            if node.after.is_empty() {
                progress.stage_may_start(index, position, false);
            }
        }
        progress
    }

    pub fn tries(&self, step: usize) -> u32 {
        self.tries.get(&step).copied().unwrap_or(0)
    }

    pub fn was_retried(&self, step: usize) -> bool {
        self.retried.contains(&step)
    }

    pub fn unknowns(&self, attempt: &AttemptId) -> u32 {
        self.unknowns.get(attempt).copied().unwrap_or(0)
    }

    /// Follows an event that `state` has already taken in.
    pub fn follow(&mut self, index: &PlanIndex, state: &RunState, event: &Event) {
        let step_of = |id| index.step_position(id);
        match event {
            Event::StageStarted { stage } => {
                if let Some(position) = index.stage_position(stage) {
                    self.stage_started(index, position);
                }
            }
            Event::StageCompleted { stage } => {
                if let Some(position) = index.stage_position(stage) {
                    self.stage_completed(index, state, position);
                }
            }
            Event::AttemptStarted { attempt, step, action, list, .. } => {
                if let Some(position) = step_of(step) {
                    self.attempt_started(index, position, attempt, *list, *action);
                }
            }
            Event::AttemptTakenUp { attempt } => self.attempt_open(index, state, attempt),
            Event::AttemptFinished { attempt, outcome } => {
                self.attempt_finished(index, state, attempt, outcome);
            }
            Event::StepCompleted { step } => {
                if let Some(position) = step_of(step) {
                    self.step_completed(index, position);
                }
            }
            Event::StepFailed { step } => {
                if let Some(position) = step_of(step) {
                    self.step_ended(index, position);
                    self.failed.insert(position);
                }
            }
            Event::StepRetried { step } => {
                if let Some(position) = step_of(step) {
                    self.retried.insert(position);
                    self.step_retried(index, position);
                }
            }
            Event::FinalizeAllowed => self.startable.append(&mut self.held_back),
            Event::RunCreated { .. }
            | Event::RunTakenUp { .. }
            | Event::Halted { .. }
            | Event::Paused
            | Event::Resumed
            | Event::RollbackDue { .. }
            | Event::ReplanDue { .. }
            | Event::AbortRequested
            | Event::Aborted { .. }
            | Event::RollCompleted
            | Event::Succeeded
            | Event::ProbeBreached(_) => {}
        }
    }

    fn stage_may_start(&mut self, index: &PlanIndex, position: usize, finalize_allowed: bool) {
        if index.stages[position].held && !finalize_allowed {
            self.held_back.insert(position);
        } else {
            self.startable.insert(position);
        }
    }

    fn stage_started(&mut self, index: &PlanIndex, position: usize) {
        self.startable.remove(&position);
        let node = &index.stages[position];
        if node.count == 0 {
            self.finished.insert(position);
        }
        for step in node.first..node.first + node.count {
            if self.requires_left[step] == 0 {
                self.step_ready(index, step);
            }
        }
    }

    fn stage_completed(&mut self, index: &PlanIndex, state: &RunState, position: usize) {
        self.finished.remove(&position);
        self.stages_left -= 1;
        let node = &index.stages[position];
        if !node.held {
            self.unheld_left -= 1;
        }
        for next in &node.unlocks {
            self.stages[*next].before_left -= 1;
            if self.stages[*next].before_left == 0 {
                self.stage_may_start(index, *next, state.finalize_allowed);
            }
        }
    }

    fn step_ready(&mut self, index: &PlanIndex, step: usize) {
        let node = &index.steps[step];
        self.stages[node.stage].ready.insert((Reverse(node.chain_s), step));
        self.stages_ready.insert(node.stage);
    }

    fn no_longer_ready(&mut self, index: &PlanIndex, step: usize) {
        let node = &index.steps[step];
        let stage = &mut self.stages[node.stage];
        stage.ready.remove(&(Reverse(node.chain_s), step));
        if stage.ready.is_empty() {
            self.stages_ready.remove(&node.stage);
        }
    }

    fn step_runs(&mut self, index: &PlanIndex, step: usize) {
        if self.running.insert(step) {
            let node = &index.steps[step];
            self.stages[node.stage].running += 1;
            if let Some(host) = node.host {
                self.host_load[host] += 1;
            }
        }
    }

    fn step_ended(&mut self, index: &PlanIndex, step: usize) {
        self.due.remove(&step);
        self.tries.remove(&step);
        if self.running.remove(&step) {
            let node = &index.steps[step];
            self.stages[node.stage].running -= 1;
            if let Some(host) = node.host {
                self.host_load[host] -= 1;
            }
        }
    }

    fn step_completed(&mut self, index: &PlanIndex, step: usize) {
        self.no_longer_ready(index, step);
        self.step_ended(index, step);
        let node = &index.steps[step];
        let stage = &mut self.stages[node.stage];
        stage.steps_left -= 1;
        stage.work_left_s -= u64::from(index.step(step).expected_s);
        if stage.steps_left == 0 {
            self.finished.insert(node.stage);
        }
        for next in &node.unlocks {
            self.requires_left[*next] -= 1;
            if self.requires_left[*next] == 0 {
                self.step_ready(index, *next);
            }
        }
    }

    fn step_retried(&mut self, index: &PlanIndex, step: usize) {
        self.failed.remove(&step);
        self.step_runs(index, step);
        self.due.insert(step);
        self.tries.remove(&step);
        // Somebody has looked since: an attempt whose outcome was lost may be sought afresh.
        for attempt in
            self.latest.range((step, ActionList::Actions, 0)..=(step, ActionList::Actions, u32::MAX))
        {
            self.unknowns.remove(attempt.1);
        }
    }

    fn attempt_started(
        &mut self,
        index: &PlanIndex,
        step: usize,
        attempt: &AttemptId,
        list: ActionList,
        action: u32,
    ) {
        self.open.insert(attempt.clone(), (step, list));
        self.latest.insert((step, list, action), attempt.clone());
        match list {
            ActionList::Actions => {
                self.no_longer_ready(index, step);
                self.step_runs(index, step);
                self.due.remove(&step);
                *self.tries.entry(step).or_default() += 1;
            }
            ActionList::GiveBack => {
                let back = self.give_back.entry(step).or_default();
                back.open = true;
                back.tries += 1;
            }
        }
    }

    fn attempt_open(&mut self, index: &PlanIndex, state: &RunState, attempt: &AttemptId) {
        let Some((step, list)) = self.place_of(index, state, attempt) else { return };
        self.open.insert(attempt.clone(), (step, list));
        match list {
            ActionList::Actions => {
                self.due.remove(&step);
            }
            ActionList::GiveBack => self.give_back.entry(step).or_default().open = true,
        }
    }

    fn place_of(
        &self,
        index: &PlanIndex,
        state: &RunState,
        attempt: &AttemptId,
    ) -> Option<(usize, ActionList)> {
        let known = state.attempts.get(attempt)?;
        Some((index.step_position(&known.step)?, known.list))
    }

    fn attempt_finished(
        &mut self,
        index: &PlanIndex,
        state: &RunState,
        attempt: &AttemptId,
        outcome: &Outcome,
    ) {
        let Some((step, list)) = self.place_of(index, state, attempt) else { return };
        self.open.remove(attempt);
        if let Outcome::Unknown { .. } = outcome {
            *self.unknowns.entry(attempt.clone()).or_default() += 1;
        }
        match list {
            ActionList::Actions => {
                if let StepStatus::Running { .. } = state.step(&index.step(step).id) {
                    self.due.insert(step);
                }
                if outcome.is_success() {
                    self.tries.remove(&step);
                }
            }
            ActionList::GiveBack => {
                let action = state.attempts.get(attempt).map_or(0, |known| known.action);
                self.gave_back(index, step, action, attempt, outcome);
            }
        }
    }

    /// Giving back goes on to the next action whatever became of one: each gives back another
    /// thing, and what could not be given back is named when the run ends.
    fn gave_back(
        &mut self,
        index: &PlanIndex,
        step: usize,
        action: u32,
        attempt: &AttemptId,
        outcome: &Outcome,
    ) {
        let spent = self.is_spent(index, self.give_back.get(&step).map_or(0, |b| b.tries), attempt, outcome);
        let back = self.give_back.entry(step).or_default();
        // What a step does not hold is passed over, so that the next one is not always one further.
        back.next = action;
        back.open = false;
        if !outcome.is_success() && !spent {
            return;
        }
        if let Some(why) = failure_text(outcome) {
            let step = index.step(step);
            let action = step.give_back.get(back.next as usize).map_or(String::new(), |a| a.summary());
            back.left.push(format!("{}: {action}: {why}", step.id));
        }
        back.next += 1;
        back.tries = 0;
    }

    /// Whether an action with this last outcome is not to be attempted again by itself.
    pub fn is_spent(&self, index: &PlanIndex, tries: u32, attempt: &AttemptId, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Done { .. } | Outcome::FoundNoChangesNeeded { .. } => false,
            Outcome::Failed(failure) => match failure.class {
                FailureClass::Permanent => true,
                FailureClass::Transient => tries >= index.plan().policy.attempts_max,
            },
            Outcome::Unknown { .. } => self.unknowns(attempt) > TAKE_UPS_MAX,
        }
    }
}

/// Why an outcome is no success, in one line.
pub(crate) fn failure_text(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Done { .. } | Outcome::FoundNoChangesNeeded { .. } => None,
        Outcome::Failed(failure) => Some(failure.message.clone()),
        Outcome::Unknown { why } => Some(format!("its outcome could not be found out: {why}")),
    }
}
