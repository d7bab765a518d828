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

/// Locked releases, and the looks for new ones.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Releases {
    /// What is locked, the latest last.
    pub locked: Vec<LockedAt>,
    /// The looks that the server takes by itself.
    pub looks: Vec<Look>,
}

/// A locked release, in a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LockedAt {
    /// Its name.
    pub name: String,
    /// The series that it is of.
    pub series: String,
    /// Where it was looked up.
    pub from: String,
    /// How many packages it has.
    pub packages: usize,
    /// When it was locked.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// A look at a source for new versions of a series.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Look {
    /// The series; "next" where it is not known which that is.
    pub series: String,
    /// The source.
    pub from: String,
    /// When it was asked last; absent before the first time.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last: Option<Timestamp>,
    /// When it is due to be asked next.
    #[schema(value_type = String, format = DateTime)]
    pub next: Timestamp,
    /// How many looks failed since the last one that did not.
    pub failures: u32,
    /// Why the last one failed, or what the source does not have yet.
    pub why: Option<String>,
    /// What is locked of what the source had when it last had all.
    pub release: Option<String>,
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

    /// What is locked, and where new releases are looked for. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// A [`Problem`] with the store.
    fn releases(&self) -> Result<Releases, Problem>;

    /// Judges a plan by the latest observation that is kept. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// A [`Problem`] where there is no observation.
    fn findings(&self, plan: &Plan) -> Result<Vec<Finding>, Problem>;
}
