//! What the engine needs of the world outside.

use std::future::Future;
use std::pin::Pin;

use volutus_model::name::{AttemptId, RunId, StepId};
use volutus_model::outcome::Outcome;
use volutus_model::plan::Action;

/// One attempt at one action, to be made by a driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The run.
    pub run: RunId,
    /// The attempt; its id names remote work.
    pub attempt: AttemptId,
    /// The step.
    pub step: StepId,
    /// What is to be done.
    pub action: Action,
    /// Seconds after which the driver gives up and says so.
    pub timeout_s: u32,
    /// Whether an earlier process may have begun this very attempt: the driver looks for what
    /// it left before it does anything.
    pub taken_up: bool,
    /// Whether an earlier attempt at this very action was made. What that one left running was
    /// not good enough, so that finding it is no reason to do nothing.
    pub retried: bool,
}

/// The future of an attempt.
pub type OutcomeFuture<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// Tells what an attempt is waiting for, in a few words; for progress, not for the record.
pub type Say<'a> = &'a (dyn Fn(String) + Send + Sync);

/// Whoever carries out actions. There is one implementation for real clouds and one for
/// simulated ones.
pub trait Driver: Send + Sync {
    /// Makes one attempt: looks, does, and sees that it is done. Never panics, and never returns
    /// an error other than as an [`Outcome`]. It may be called again with the same order after a
    /// crash, and then must not do twice what must happen once.
    fn perform<'a>(&'a self, order: &'a Order, say: Say<'a>) -> OutcomeFuture<'a>;

    /// Work in batches that nobody waits for is to stop before its next batch, and why, or may go
    /// on. A driver without such work has nothing to do.
    fn hold_batches(&self, _why: Option<String>) {}
}
