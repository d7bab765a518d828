//! What the worker does to the cloud, apart from its deciding when.

use std::future::Future;
use std::sync::Arc;

use volutus_model::event::Actor;
use volutus_model::{Plan, PlanId, RunId};
use volutus_store::Store;

use crate::commands::run::{After, begin, execute};
use crate::context::Context;
use crate::error::Result;

/// Whoever begins runs and carries them out.
pub trait Hands {
    /// Creates a run of an approved plan, where nothing stands in its way.
    fn begin(&self, plan: &PlanId) -> impl Future<Output = Result<(RunId, Plan)>>;

    /// Carries a run out until it has ended, or waits for somebody.
    fn carry_out(&self, run: &RunId, plan: &Plan, actor: &Actor) -> impl Future<Output = Result<()>>;
}

/// As `volutus run` and `resume` do it.
pub struct OnCloud {
    context: Arc<Context>,
    store: Store,
}

impl OnCloud {
    /// On the cloud of a context.
    pub const fn new(context: Arc<Context>, store: Store) -> Self {
        Self { context, store }
    }
}

impl Hands for OnCloud {
    fn begin(&self, plan: &PlanId) -> impl Future<Output = Result<(RunId, Plan)>> {
        begin(&self.context, &self.store, plan.as_str())
    }

    fn carry_out(&self, run: &RunId, plan: &Plan, actor: &Actor) -> impl Future<Output = Result<()>> {
        execute(&self.context, &self.store, run, plan, After::AsRecorded, actor)
    }
}
