//! What the API asks of the process that it is part of.

use std::future::Future;
use std::pin::Pin;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use volutus_engine::Command;
use volutus_model::event::Actor;
use volutus_model::name::{PlanId, RunId};
use volutus_model::{Finding, Plan};
use volutus_schedule::{Entry, Schedule};

use crate::Problem;

/// An answer that takes its time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Problem>> + Send + 'a>>;

/// Schedules, and what is due by them.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Calendar {
    /// The schedules.
    #[schema(value_type = Vec<Object>)]
    pub schedules: Vec<Schedule>,
    /// What is due in the coming three months, and what is done about it.
    #[schema(value_type = Vec<Object>)]
    pub entries: Vec<Entry>,
    /// What was due in the past three months and was not done.
    #[schema(value_type = Vec<Object>)]
    pub missed: Vec<Entry>,
    /// Schedules that are held because what they did last did not go well, with the reason.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub held: std::collections::BTreeMap<String, String>,
    /// As of when.
    #[schema(value_type = String, format = DateTime)]
    pub now: Timestamp,
}

/// Whoever carries out work.
pub trait Works: Send + Sync {
    /// Begins a run of an approved plan, and answers once it exists. It is carried out afterwards.
    fn begin<'a>(&'a self, plan: &'a PlanId, actor: &'a Actor) -> Answer<'a, RunId>;

    /// Takes up a run that no process carries out, with a command. Answers once that has begun.
    fn take_up<'a>(&'a self, run: &'a RunId, command: Command, actor: &'a Actor) -> Answer<'a, ()>;

    /// The run that is carried out, or is about to be. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// A [`Problem`] with the store.
    fn carries(&self) -> Result<Option<RunId>, Problem>;

    /// What is due. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// A [`Problem`] with the windows or with the store.
    fn calendar(&self) -> Result<Calendar, Problem>;

    /// Judges a plan by the latest observation that is kept. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// A [`Problem`] where there is no observation.
    fn findings(&self, plan: &Plan) -> Result<Vec<Finding>, Problem>;
}
