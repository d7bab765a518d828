//! What is done where no rebooted or empty host can take what is on any host that waits: one host
//! is emptied onto hosts that are yet to be rebooted, and what was put there moves a second time.
//! The host with the fewest such instances is chosen, and no instance ever moves a third time.

use crate::assign::{self, Onto};
use crate::schedule::{Scheduler, Stand};

/// Hosts that are looked at, those with the fewest instances first. Beyond this number the answer
/// is the best of these, because looking costs the square of the number of hosts.
const LOOKED_AT_MAX: usize = 512;

/// Begins one such host; `false` where there is none.
pub(crate) fn empty_one(scheduler: &mut Scheduler<'_, '_>) -> bool {
    let index = scheduler.state.index;
    let mut candidates: Vec<(bool, usize, u32)> = scheduler
        .waiting_hosts()
        .into_iter()
        .filter(|host| scheduler.may_begin(*host))
        .map(|host| (index.hosts[host as usize].later, assign::movers(&scheduler.state, host).count(), host))
        .collect();
    candidates.sort_unstable();
    candidates.truncate(LOOKED_AT_MAX);
    // Hosts of later phases may take instances too.
    let not_yet: Vec<u32> = (0..scheduler.stand.len() as u32)
        .filter(|host| {
            scheduler.stand[*host as usize] == Stand::Waiting && !index.hosts[*host as usize].closed
        })
        .collect();
    let mut best: Option<(bool, usize, usize, u32)> = None;
    for (later, movers, host) in candidates {
        let pool = index.hosts[host as usize].pool;
        let others: Vec<u32> =
            not_yet.iter().copied().filter(|other| index.hosts[*other as usize].pool == pool).collect();
        if let Ok(placed) = assign::assign(&mut scheduler.state, host, Onto::Also(&others)) {
            let again = placed.iter().filter(|one| !scheduler.state.ready[one.to as usize]).count();
            assign::take_back(&mut scheduler.state, &placed);
            if best.is_none_or(|(late, least, few, _)| (later, again, movers) < (late, least, few)) {
                best = Some((later, again, movers, host));
            }
        }
    }
    let Some((_, _, _, host)) = best else { return false };
    let pool = index.hosts[host as usize].pool;
    let others: Vec<u32> =
        not_yet.into_iter().filter(|other| index.hosts[*other as usize].pool == pool).collect();
    match assign::assign(&mut scheduler.state, host, Onto::Also(&others)) {
        Ok(placed) => {
            scheduler.begin(host, placed);
            true
        }
        Err(_) => false,
    }
}
