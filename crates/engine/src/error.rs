//! What the engine refuses.

use volutus_model::name::{AttemptId, PlanId};
use volutus_model::run::RunStatus;

use crate::machine::Command;

/// Why the engine did not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The plan cannot be walked: an edge leads nowhere, or in a circle.
    #[error("plan {plan} cannot be carried out: {why}")]
    PlanUnsound {
        /// The plan.
        plan: PlanId,
        /// What is wrong with it.
        why: String,
    },
    /// A journal says something that cannot have happened where the run stood. Either the
    /// journal is not of this plan, or Volutus has a defect.
    #[error("event `{event}` is not possible while the run is {status}: {why}")]
    IllegalEvent {
        /// The event's name in the journal.
        event: &'static str,
        /// Where the run stood.
        status: RunStatus,
        /// Why it is not possible.
        why: String,
    },
    /// A journal entry of a format that this Volutus does not know.
    #[error(
        "journal entry {seq} has format {format}, and this Volutus reads format 1; \
         use the Volutus that wrote it, or a newer one"
    )]
    UnknownFormat {
        /// The entry's position.
        seq: u64,
        /// Its format.
        format: u32,
    },
    /// A command of an operator that makes no sense where the run stands. Nothing changed.
    #[error("cannot {command} a run that is {status}: {why}")]
    Refused {
        /// The command.
        command: Command,
        /// Where the run stands.
        status: RunStatus,
        /// What would make sense.
        why: &'static str,
    },
    /// An outcome was handed in for an attempt that is not under way.
    #[error("attempt {attempt} is not under way, so it cannot finish")]
    NotUnderWay {
        /// The attempt.
        attempt: AttemptId,
    },
    /// A run was to begin that has begun already.
    #[error("the run has begun already; it can only be taken up")]
    HasBegun,
    /// A run was to go on that has not begun.
    #[error("the run has not begun, so there is nothing to go on with")]
    HasNotBegun,
}
