//! How long things take. One move has a rate of its own, however many run beside it, which is
//! what limits per source, destination and overall are for.

use volutus_model::fleet::plan::How;
use volutus_model::fleet::{Instance, RebootPolicy};

use crate::ladder::Outcome;

/// Milliseconds that an instance's move is expected to take.
pub(crate) fn move_ms(instance: &Instance, policy: &RebootPolicy, outcome: Outcome) -> u64 {
    let moves = &policy.moves;
    let memory = instance.memory_mb() * 1024 * 1024 / 100 * u64::from(moves.memory_percent);
    let bytes = match outcome {
        Outcome::Move(How::Live) => memory + instance.local_disk_bytes,
        Outcome::Move(How::Cold) => instance.local_disk_bytes,
        Outcome::Stay(_) | Outcome::Blocked(_) => return 0,
    };
    // One Mbit/s is 125 bytes a millisecond.
    u64::from(moves.overhead_s) * 1000 + bytes.div_ceil(u64::from(moves.rate_mbit) * 125)
}
