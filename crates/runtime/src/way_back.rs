//! From a run that was given up to the run that takes it back.
//!
//! Every part of it can be done again after a crash: what is there already is found, and a plan
//! that was made but not begun is made anew from what the cloud is by then.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use volutus_engine::{Machine, PlanIndex};
use volutus_model::Plan;
use volutus_model::event::{Actor, Event, JournalEntry};
use volutus_model::name::RunId;
use volutus_model::run::{RunState, RunStatus};
use volutus_store::{RunRecord, Store};

use crate::error::Error;
use crate::session::{blocking, volutus_itself};
use crate::{Runtime, new_run_id};

/// The future of a plan; `None` where nothing is to be taken back.
pub type PlanFuture<'a> = Pin<Box<dyn Future<Output = Result<Option<Plan>, String>> + Send + 'a>>;

/// Whoever makes the plan of a way back: looks at the cloud, plans, and has the plan checked.
pub trait PlanWayBack: Send + Sync {
    /// Plans the way back of a run of `of` that stands at `state` and is at its end.
    ///
    /// An error is a sentence that says why no plan can be made, and what to do.
    fn plan_back<'a>(&'a self, run: &'a RunId, of: &'a Plan, state: &'a RunState) -> PlanFuture<'a>;
}

/// A run as its journal tells it.
struct Told {
    record: RunRecord,
    plan: Plan,
    state: RunState,
    journal: Vec<JournalEntry>,
}

impl Runtime {
    /// The run that takes `run` back: the one that there is already, unless it was given up, else
    /// a new one whose plan is made now and approved by whoever wanted it: the operator who asked,
    /// or the policy that an operator approved with the plan. `None` where nothing is to be taken
    /// back. It is for [`Runtime::execute`] to carry it out.
    ///
    /// # Errors
    /// [`Error::NotGivenUp`] while the run goes on; [`Error::NoWayBack`] where no plan can be
    /// made; [`Error::Store`].
    pub async fn prepare_rollback(
        &self,
        run: &RunId,
        planner: &dyn PlanWayBack,
    ) -> Result<Option<RunId>, Error> {
        let id = run.clone();
        let told = blocking(&self.store, move |store| read(store, &id)).await?;
        let Told { record, plan, state, journal } = told.fold(run)?;
        if state.status != RunStatus::Aborted {
            return Err(Error::NotGivenUp { run: run.clone(), status: state.status });
        }
        let id = run.clone();
        let earlier = blocking(&self.store, move |store| rollbacks(store, &id)).await?;
        for known in earlier {
            let told = known.fold(run)?;
            if told.state.status != RunStatus::Aborted {
                return Ok(Some(told.record.id));
            }
        }
        let back = planner.plan_back(run, &plan, &state).await;
        let back = back.map_err(|why| Error::NoWayBack { run: run.clone(), why })?;
        let Some(back) = back else { return Ok(None) };
        let now = (self.clock)();
        let new = new_run_id(now)?;
        let asked = journal.iter().rev().find(|entry| matches!(entry.event, Event::RollbackDue { .. }));
        let asked = asked.map(|entry| entry.actor.clone());
        let (actor, created, cloud) = (self.actor.clone(), new.clone(), record.cloud);
        blocking(&self.store, move |store| {
            let actor = match asked {
                Some(asked) if asked == volutus_itself() => by_policy(store, &plan)?,
                Some(asked) => asked,
                None => actor,
            };
            store.put_plan(&back)?;
            store.approve(&back.id, &actor, now, &[])?;
            store.create_run(&created, &back.id, &cloud, now)
        })
        .await?;
        Ok(Some(new))
    }
}

/// The policy as an actor: it was approved with the plan, by somebody.
fn by_policy(store: &Store, plan: &Plan) -> Result<Actor, volutus_store::Error> {
    let approval = store.approval(&plan.id)?;
    let whom = approval.map_or_else(|| "nobody".to_owned(), |approval| approval.actor.to_string());
    Ok(Actor(format!("policy on_failure of plan {}, approved by {whom}", plan.id)))
}

/// A run and its journal, not yet folded: folding can refuse in other ways than the store does.
struct Read {
    record: RunRecord,
    plan: Plan,
    journal: Vec<JournalEntry>,
}

impl Read {
    fn fold(self, run: &RunId) -> Result<Told, Error> {
        let engine = |source| Error::Engine { run: run.clone(), source };
        let index = Arc::new(PlanIndex::new(Arc::new(self.plan.clone())).map_err(engine)?);
        let machine = Machine::load(self.record.id.clone(), index, &self.journal).map_err(engine)?;
        Ok(Told { record: self.record, plan: self.plan, state: machine.into_state(), journal: self.journal })
    }
}

fn read(store: &Store, run: &RunId) -> Result<Read, volutus_store::Error> {
    let record = store.run(run)?;
    let plan = store.plan(&record.plan)?;
    let journal = store.journal(run, 0)?;
    Ok(Read { record, plan, journal })
}

/// The runs that take `run` back, the latest first.
fn rollbacks(store: &Store, run: &RunId) -> Result<Vec<Read>, volutus_store::Error> {
    let mut found = Vec::new();
    for record in store.runs()? {
        // Nothing before the run itself can take it back.
        if record.id == *run {
            break;
        }
        if store.plan(&record.plan)?.kind.taken_back() == Some(run) {
            found.push(read(store, &record.id)?);
        }
    }
    Ok(found)
}
