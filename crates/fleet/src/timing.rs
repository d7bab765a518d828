//! How long things take. One move has a rate of its own, however many run beside it, which is
//! what limits per source, destination and overall are for.

use volutus_model::fleet::migration::live_limit_s;
use volutus_model::fleet::plan::How;
use volutus_model::fleet::{Instance, RebootPolicy};

use crate::ladder::Outcome;

/// Milliseconds that an instance's move is expected to take.
pub(crate) fn move_ms(instance: &Instance, policy: &RebootPolicy, outcome: Outcome) -> u64 {
    let moves = &policy.moves;
    let memory = instance.memory_mb() * 1024 * 1024 / 100 * u64::from(moves.memory_percent);
    let bytes = match outcome {
        Outcome::Move(How::Live) => memory + disk_bytes(instance, policy),
        Outcome::Move(How::Cold) => disk_bytes(instance, policy),
        Outcome::Stay(_) | Outcome::Blocked(_) => return 0,
    };
    // One Mbit/s is 125 bytes a millisecond.
    u64::from(moves.overhead_s) * 1000 + bytes.div_ceil(u64::from(moves.rate_mbit) * 125)
}

/// Bytes of an instance's disks that travel with it.
pub(crate) fn disk_bytes(instance: &Instance, policy: &RebootPolicy) -> u64 {
    if policy.moves.shared_disks { 0 } else { instance.local_disk_bytes }
}

/// Seconds that a move may take before the next rung is tried.
pub(crate) fn timeout_s(instance: &Instance, policy: &RebootPolicy, how: How) -> u64 {
    let (disks, overhead_s) = (disk_bytes(instance, policy), policy.moves.overhead_s);
    match how {
        How::Live => {
            live_limit_s(instance.memory_mb(), disks, overhead_s, policy.drain.live_timeout_s_per_gib)
        }
        How::Cold => {
            u64::from(overhead_s) + u64::from(policy.drain.cold_timeout_s_per_gib) * disks.div_ceil(1 << 30)
        }
    }
}
