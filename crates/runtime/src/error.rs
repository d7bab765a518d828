//! Why a run is not carried out any further by this process.

use volutus_model::name::{AttemptId, InvalidName, RunId};
use volutus_model::run::RunStatus;

/// Why a run is not carried out any further by this process. The run itself is as its journal
/// says; an outcome of the cloud is never one of these.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] volutus_store::Error),
    /// Plan and journal do not fit each other, or Volutus has a defect.
    #[error("run {run} cannot go on: {source}")]
    Engine {
        /// The run.
        run: RunId,
        /// What the engine says.
        source: volutus_engine::Error,
    },
    /// Another process took the lease: this one stopped at once.
    #[error(
        "run {run} was taken over by another process, so this one stopped; follow it with `volutus watch`"
    )]
    LeaseLost {
        /// The run.
        run: RunId,
        /// How that was seen.
        source: volutus_store::Error,
    },
    /// The operator interrupted twice: this process stopped at once.
    #[error(
        "stopped at once; {} of run {run} may still be going on on their hosts; \
         `volutus resume` looks for them and goes on",
        attempts_text(under_way)
    )]
    Interrupted {
        /// The run.
        run: RunId,
        /// Attempts without an outcome.
        under_way: Vec<AttemptId>,
    },
    /// Nothing is under way and nothing can begin: a defect of Volutus.
    #[error("run {run} neither goes on nor ends (a defect of Volutus); abort it and make a new plan")]
    Stuck {
        /// The run.
        run: RunId,
    },
    /// A run is to be taken back that has not been given up.
    #[error("run {run} is {status}; only a run that was given up is taken back")]
    NotGivenUp {
        /// The run.
        run: RunId,
        /// Where it stands.
        status: RunStatus,
    },
    /// No plan of the way back can be made now. The run stays given up, and its journal keeps
    /// that it is to be taken back.
    #[error("run {run} cannot be taken back now: {why}")]
    NoWayBack {
        /// The run.
        run: RunId,
        /// Why not, and what to do.
        why: String,
    },
    /// A thread that wrote to the store ended in a panic.
    #[error("a write to the store broke off: {0}")]
    Broken(tokio::task::JoinError),
    /// No run id can be made.
    #[error("no run id can be made of this time: {0}")]
    RunId(InvalidName),
}

fn attempts_text(attempts: &[AttemptId]) -> String {
    match attempts {
        [] => "no attempts".to_owned(),
        [one] => format!("attempt {one}"),
        more => {
            let names: Vec<&str> = more.iter().map(AttemptId::as_str).collect();
            format!("attempts {}", names.join(", "))
        }
    }
}
