//! A simulated cloud under virtual time, for tests of Volutus itself and for rehearsals by
//! operators.
//!
//! Planner, plancheck and engine are the real ones; hosts, daemons, load balancer, schemas,
//! records, users, the store and the drivers are models of theirs. A seed stands for one run: a
//! cloud, a policy, an operator's mind and what goes wrong. [`run_seeds`] looks for runs that
//! break a rule, [`catch_mutant`] whether a rule that is wrong on purpose would be noticed, and
//! [`rehearse`] what a plan for a certain cloud may come to.
//!
//! What holds of the model need not hold of the world: that drivers do what their models do is
//! for the lab to show.

mod advice;
mod coverage;
mod drain;
mod driver;
mod end;
mod exchange;
mod fault;
mod monitor;
mod mutant;
mod prepared;
mod process;
mod rehearse;
mod rng;
mod rollback;
mod scenario;
mod seeds;
mod simulation;
mod store;
mod topology;
mod world;

pub use coverage::Coverage;
pub use fault::{Faults, Profile};
pub use monitor::Violation;
pub use mutant::Mutant;
pub use prepared::Prepared;
pub use rehearse::{FailedSteps, LeastHeadroom, Options, Rehearsal, Spread, StageTime, rehearse};
pub use scenario::Scenarios;
pub use seeds::{SeedReport, SeedsReport, catch_mutant, run_seed, run_seeds};

/// Why a simulation could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The planner refused.
    #[error("no plan could be made for the simulated cloud")]
    Plan(#[from] Box<volutus_planner::Error>),
    /// The engine cannot walk the plan.
    #[error("the plan cannot be carried out")]
    Engine(#[from] Box<volutus_engine::Error>),
    /// plancheck refused the plan.
    #[error("the plan must not be run: {}: {}", .0.code, .0.explanation)]
    Blocked(Box<volutus_model::Finding>),
    /// Plan, description and catalog do not fit together.
    #[error("the plan cannot be simulated: {0}")]
    Unfit(String),
}
