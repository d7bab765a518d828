//! What the API asks for, handed to the worker or read from the store.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use volutus_engine::Command;
use volutus_model::event::Actor;
use volutus_model::{Finding, Plan, PlanId, RunId};
use volutus_server::{Answer, Calendar, LockedAt, Look, Problem, Releases, StatusCode, Works};

use super::clock::Clock;
use super::firing::Deeds;
use super::looks::{Looks, Memory};
use crate::commands::check::judge;
use crate::commands::glances::Glances;
use crate::commands::plan::store_error;
use crate::commands::release::kept;
use crate::commands::schedule::Known;
use crate::context::Context;
use crate::error::{CliError, Kind};

/// Months that the API's calendar looks ahead.
const MONTHS: u8 = 3;

/// What the worker is to do.
pub enum Order {
    /// Begin a run of an approved plan.
    Begin { plan: PlanId, actor: Actor, answer: oneshot::Sender<Result<RunId, Problem>> },
    /// Take a run up.
    TakeUp { run: RunId, command: Command, actor: Actor, answer: oneshot::Sender<Result<(), Problem>> },
}

/// Works by orders to the worker.
pub struct ByOrders {
    /// The cloud.
    pub context: Arc<Context>,
    /// The file of windows, where one is named.
    pub windows: Option<PathBuf>,
    /// What schedules are decided by.
    pub clock: Clock,
    /// What is known of runs.
    pub glances: Arc<Glances>,
    /// Where new releases are looked for, if anywhere.
    pub looks: Option<Arc<Looks>>,
    /// The way to the worker.
    pub orders: mpsc::Sender<Order>,
}

impl ByOrders {
    async fn give<T>(
        &self,
        order: Order,
        answer: oneshot::Receiver<Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let ends = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "ends", "the server is about to end");
        self.orders.send(order).await.map_err(|_| ends())?;
        answer.await.map_err(|_| ends())?
    }
}

impl Works for ByOrders {
    fn begin<'a>(&'a self, plan: &'a PlanId, actor: &'a Actor) -> Answer<'a, RunId> {
        let (answer, answered) = oneshot::channel();
        let order = Order::Begin { plan: plan.clone(), actor: actor.clone(), answer };
        Box::pin(self.give(order, answered))
    }

    fn take_up<'a>(&'a self, run: &'a RunId, command: Command, actor: &'a Actor) -> Answer<'a, ()> {
        let (answer, answered) = oneshot::channel();
        let order = Order::TakeUp { run: run.clone(), command, actor: actor.clone(), answer };
        Box::pin(self.give(order, answered))
    }

    fn carries(&self) -> Result<Option<RunId>, Problem> {
        let read = || Deeds::of(&self.context, &self.context.store()?).carried();
        read().map(|carried| carried.map(|carried| carried.run)).map_err(problem)
    }

    fn calendar(&self) -> Result<Calendar, Problem> {
        let read = || {
            let (store, now) = (self.context.store()?, self.clock.now()?);
            let windows = self.windows.as_deref();
            let known = Known::load_at(&self.context, &store, windows, now, &self.glances)?;
            let (entries, missed) = (known.coming(MONTHS)?, known.missed()?);
            let held = Deeds::of(&self.context, &store).held(&known.schedules, &self.glances)?;
            Ok(Calendar { entries, missed, held, now: known.now, schedules: known.schedules })
        };
        read().map_err(problem)
    }

    fn releases(&self) -> Result<Releases, Problem> {
        let read = || {
            let store = self.context.store()?;
            let locked = kept(&store)?.into_iter().map(|(at, release)| LockedAt {
                name: release.name.to_string(),
                series: release.series.to_string(),
                from: format!("{} {}", release.source.kind, release.source.at),
                packages: release.packages.len(),
                at,
            });
            let locked = locked.collect();
            let Some(looks) = &self.looks else { return Ok(Releases { locked, looks: Vec::new() }) };
            let (now, mut looked) =
                (Context::now(), Memory::of(&self.context.inventory.name, &store).looked()?);
            let looks = looks.jobs(&self.context, &store, &self.glances).into_iter().map(|job| {
                let last = looked.remove(&job.key);
                Look {
                    series: job.series.map_or_else(|_| "next".to_owned(), |series| series.to_string()),
                    from: job.source.told.clone(),
                    last: last.as_ref().map(|last| last.at),
                    next: last.as_ref().map_or(now, |last| last.next(looks.every, now)),
                    failures: last.as_ref().map_or(0, |last| last.failures),
                    why: last.as_ref().and_then(|last| last.why.clone()),
                    release: last.and_then(|last| last.release.map(|name| name.to_string())),
                }
            });
            Ok(Releases { locked, looks: looks.collect() })
        };
        read().map_err(problem)
    }

    fn findings(&self, plan: &Plan) -> Result<Vec<Finding>, Problem> {
        let read = || self.context.store()?.latest_observation(&plan.cloud).map_err(store_error);
        let observation = read().map_err(problem)?.ok_or_else(|| {
            let detail = format!("no observation of cloud {} is kept", plan.cloud);
            Problem::new(StatusCode::CONFLICT, "no-observation", detail).hint("`volutus check` looks now.")
        })?;
        Ok(judge(&self.context, &observation, plan))
    }
}

/// An error of a command as the API gives it: the same code.
pub fn problem(error: CliError) -> Problem {
    let status = match (error.kind, error.code) {
        (_, "not-found") => StatusCode::NOT_FOUND,
        (Kind::Internal, _) => StatusCode::INTERNAL_SERVER_ERROR,
        (Kind::Cloud, _) => StatusCode::BAD_GATEWAY,
        _ => StatusCode::CONFLICT,
    };
    let told = Problem::new(status, error.code, error.message).causes(error.causes);
    match error.hint {
        Some(hint) => told.hint(hint),
        None => told,
    }
}
