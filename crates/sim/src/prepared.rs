//! A plan and its cloud, made ready to be carried out many times.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use volutus_catalog::Catalog;
use volutus_engine::PlanIndex;
use volutus_model::name::StepId;
use volutus_model::plan::{Action, Plan, SchemaPhase};
use volutus_model::{Inventory, Observation, Severity};
use volutus_planner::PlanningInput;

use crate::Error;
use crate::topology::{Code, Op, StepOps, Topology, compile};
use crate::world::World;

/// See the module.
#[derive(Debug)]
pub struct Prepared {
    /// The plan that is carried out.
    pub(crate) plan: Arc<Plan>,
    /// The plan as the planner made it, which rules are judged by.
    pub(crate) intended: Arc<Plan>,
    pub(crate) index: Arc<PlanIndex>,
    pub(crate) topology: Arc<Topology>,
    pub(crate) inventory: Arc<Inventory>,
    pub(crate) observation: Arc<Observation>,
    /// The release that the plan leads to.
    pub(crate) target: Code,
    pub(crate) ops: Vec<StepOps>,
    pub(crate) steps: HashMap<StepId, usize>,
    /// Per stage of `plan`: how many of its steps the planner lets run at the same time.
    pub(crate) widths: Vec<usize>,
    /// Backends of which the replicas are exchanged.
    pub(crate) exchanged: BTreeSet<usize>,
    /// Per service: commands that widen its schema.
    pub(crate) expands: Vec<u32>,
    pub(crate) world: World,
    /// Expected seconds from begin to end.
    pub(crate) expected_s: u64,
    pub(crate) attempts: usize,
    pub(crate) starts: usize,
}

impl Prepared {
    /// Plans an upgrade, has plancheck judge the plan, and makes it ready.
    ///
    /// # Errors
    /// [`Error::Plan`] where the planner refuses, [`Error::Blocked`] where plancheck does.
    pub fn plan(input: &PlanningInput, catalog: &Catalog) -> Result<Self, Error> {
        let (plan, _) = volutus_planner::plan(input, catalog).map_err(Box::new)?;
        let (inventory, observation) = (&input.inventory, &input.observation);
        let findings = volutus_plancheck::check_plan(&plan, inventory, observation, catalog, &input.policy);
        if let Some(finding) = findings.into_iter().find(|finding| finding.severity == Severity::Blocking) {
            return Err(Error::Blocked(Box::new(finding)));
        }
        Self::new(plan, inventory, observation, catalog)
    }

    /// Makes a plan ready for the cloud that it was made for.
    ///
    /// # Errors
    /// [`Error::Unfit`] where the plan is not of this cloud.
    pub fn new(
        plan: Plan,
        inventory: &Inventory,
        observation: &Observation,
        catalog: &Catalog,
    ) -> Result<Self, Error> {
        let plan = Arc::new(plan);
        Self::of_plans(Arc::clone(&plan), plan, inventory, observation, catalog)
    }

    pub(crate) fn of_plans(
        plan: Arc<Plan>,
        intended: Arc<Plan>,
        inventory: &Inventory,
        observation: &Observation,
        catalog: &Catalog,
    ) -> Result<Self, Error> {
        let index = Arc::new(PlanIndex::new(Arc::clone(&plan)).map_err(Box::new)?);
        let topology = Arc::new(Topology::new(inventory, catalog)?);
        let ops = compile(&plan, inventory, &topology)?;
        let steps = plan.steps().enumerate().map(|(i, (_, step))| (step.id.clone(), i)).collect();
        let widths = plan
            .stages
            .iter()
            .map(|stage| {
                let own = intended.stages.iter().find(|other| other.id == stage.id);
                own.map_or(1, |stage| stage.parallel_max as usize)
            })
            .collect();
        let world = World::new(Arc::clone(&topology), inventory, observation, catalog, &plan);
        let mut expands = vec![0; topology.services.len()];
        let mut exchanged = BTreeSet::new();
        for step in &compile(&intended, inventory, &topology)? {
            for timed in &step.actions {
                match timed.op {
                    Op::Migrate { service, phase: SchemaPhase::Expand, .. } => expands[service] += 1,
                    Op::Exchange { backend, .. } => {
                        exchanged.insert(backend);
                    }
                    _ => {}
                }
            }
        }
        let estimate = volutus_planner::estimate(&intended);
        let actions = || plan.steps().flat_map(|(_, step)| &step.actions);
        Ok(Self {
            expected_s: estimate.baseline_s + estimate.roll_s + estimate.soak_s + estimate.finalize_s,
            attempts: actions().count(),
            starts: actions().filter(|action| matches!(action, Action::SwitchDaemon { .. })).count(),
            target: if plan.kind.is_rollback() { Code::Old } else { Code::New },
            inventory: Arc::new(inventory.clone()),
            observation: Arc::new(observation.clone()),
            plan,
            intended,
            index,
            topology,
            ops,
            steps,
            widths,
            exchanged,
            expands,
            world,
        })
    }

    /// The plan.
    #[must_use]
    pub fn the_plan(&self) -> &Arc<Plan> {
        &self.plan
    }
}
