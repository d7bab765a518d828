//! What the runtime needs of the synthetic user.

use std::sync::Arc;

use tokio::sync::mpsc;
use volutus_model::name::StepId;
use volutus_model::probe::Sample;

/// So many samples are taken from the prober at a time: several seconds' worth.
pub(crate) const BATCH_MAX: usize = 256;

/// The synthetic user, as far as the runtime speaks to it.
pub trait Probe: Send + Sync {
    /// From now on these steps are under way; samples that fall due carry them.
    fn set_steps(&self, steps: Vec<StepId>);
}

/// A running prober.
pub struct Probes {
    /// Its control.
    pub probe: Arc<dyn Probe>,
    /// What it delivers.
    pub samples: mpsc::Receiver<Sample>,
}
