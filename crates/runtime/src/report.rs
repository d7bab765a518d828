//! What somebody who watches is told.

use volutus_model::event::JournalEntry;
use volutus_model::name::AttemptId;
use volutus_model::probe::Sample;
use volutus_model::run::RunState;

/// Shows a run to somebody. Calls come from the loop that carries out the run, one at a time,
/// and hold it up: they return quickly.
pub trait Reporter: Send {
    /// An entry is in the journal. `state` is that after all entries of the same transaction.
    fn entry(&mut self, entry: &JournalEntry, state: &RunState);

    /// An attempt tells what it is waiting for.
    fn say(&mut self, attempt: &AttemptId, text: &str);

    /// The synthetic user delivered samples.
    fn samples(&mut self, samples: &[Sample]);

    /// Time has passed.
    fn tick(&mut self, state: &RunState);
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn entry(&mut self, _entry: &JournalEntry, _state: &RunState) {}
    fn say(&mut self, _attempt: &AttemptId, _text: &str) {}
    fn samples(&mut self, _samples: &[Sample]) {}
    fn tick(&mut self, _state: &RunState) {}
}
