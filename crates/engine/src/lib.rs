//! Pure: folds the journal of a run into its state and, given one input, says what is to be
//! recorded and what is to be done.
//!
//! There is no I/O, no clock and no randomness here. [`PlanIndex`] is a plan made quick to
//! walk, [`fold`] is the one transition table of [`volutus_model::RunState`], and [`Machine`]
//! is a state together with what is derived from it so that stepping stays cheap in plans of
//! tens of thousands of steps. The loop that feeds a machine is the runtime's; it makes every
//! event of a [`Decision`] durable before it starts the decision's effects.
//!
//! What never happens: a step that starts before what it comes after is complete, more steps
//! at a time than the plan allows, a held stage before the operator's `finalize`, an effect
//! without its event, an event that its state does not allow (that is [`Error::IllegalEvent`]).

mod error;
mod fold;
mod index;
mod machine;
pub mod ports;
mod progress;
mod schedule;
mod waiting;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use fold::{event_name, fold, retry_action};
pub use index::PlanIndex;
pub use machine::{Command, Decision, Effect, Input, Machine, TAKE_UPS_MAX};
pub use waiting::{Waiting, waiting};
