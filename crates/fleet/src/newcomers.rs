//! Where instances go that come to a host after its plan was made: hosts that are done by then or need not be
//! rebooted, with room to spare.
//!
//! Nothing leaves a host that is done, so it is fullest at the end. The room that is left then is promised to no
//! move of the plan, and only that is given to newcomers: they take nothing from instances that are yet to move.

use volutus_model::fleet::newcomers::DESTINATIONS_MAX;
use volutus_model::fleet::policy::Rung;
use volutus_model::fleet::{NewcomerPlace, NewcomerWay};

use crate::index::{Index, Role};
use crate::ladder;
use crate::schedule::{Drain, Schedule};

/// A host that newcomers may go to.
struct Candidate {
    host: u32,
    /// From when on, in milliseconds.
    from_ms: u64,
    /// What is free at the end, in shares of ordinary hosts.
    room: f64,
}

/// The ways of the newcomers of each host, in the order of the schedule's hosts.
pub(crate) fn ways(index: &Index<'_>, done: &Schedule) -> Vec<NewcomerWay> {
    let drain = &index.policy.drain;
    if !drain.newcomers.is_move() || !drain.ladder.contains(&Rung::Live) {
        return vec![NewcomerWay::default(); done.drains.len()];
    }
    let candidates = candidates(index, done);
    done.drains.iter().map(|drain| way(index, &candidates, drain)).collect()
}

/// All hosts that ever take newcomers, those with the most room at the end first.
fn candidates(index: &Index<'_>, done: &Schedule) -> Vec<Candidate> {
    let exempt = (0..index.hosts.len() as u32).filter(|host| index.hosts[*host as usize].role == Role::Ready);
    let exempt = exempt.map(|host| (host, 0));
    let back = done.drains.iter().map(|drain| (drain.host, drain.back_ms));
    let mut candidates: Vec<Candidate> = exempt
        .chain(back)
        // Spares stay empty, and what a person disabled is not given instances.
        .filter(|(host, _)| !index.hosts[*host as usize].closed)
        .filter_map(|(host, from_ms)| Some(Candidate { host, from_ms, room: room(index, done, host)? }))
        .collect();
    candidates.sort_by(|a, b| b.room.total_cmp(&a.room).then(a.host.cmp(&b.host)));
    candidates
}

/// What a host has free at the end, by the plan's accounting and up to the fill limit; none where it has no room
/// for even the smallest instance that is to move.
fn room(index: &Index<'_>, done: &Schedule, host: u32) -> Option<f64> {
    let at = host as usize * index.k();
    let free = |class: usize| index.fill[at + class] - done.used_at_end[at + class];
    let fits = (0..index.k()).all(|class| {
        let smallest = done.smallest[class];
        let any = smallest == i64::MAX && (free(class) > 0 || index.capacity[at + class] == 0);
        smallest == 0 || any || free(class) >= smallest
    });
    fits.then(|| (0..index.k()).map(|class| free(class) as f64 * index.scale[class]).sum())
}

fn way(index: &Index<'_>, candidates: &[Candidate], drain: &Drain) -> NewcomerWay {
    let zone = |host: u32| index.hosts[host as usize].zone;
    let own = zone(drain.host);
    let fits = |one: &&Candidate| {
        one.host != drain.host
            && one.from_ms <= drain.disable_ms
            && index.reach.goes(drain.host, one.host)
            && (zone(one.host) == own || index.policy.capacity.cross_zones)
    };
    let (mut here, elsewhere): (Vec<&Candidate>, Vec<&Candidate>) =
        candidates.iter().filter(fits).partition(|one| zone(one.host) == own);
    here.extend(elsewhere);
    here.truncate(DESTINATIONS_MAX);
    let place = |one: &Candidate| NewcomerPlace {
        host: index.fleet.hosts[one.host as usize].name.clone(),
        per_destination: index.hosts[one.host as usize].per_destination,
    };
    let to: Vec<NewcomerPlace> = here.into_iter().map(place).collect();
    let then = if to.is_empty() {
        Vec::new()
    } else {
        ladder::rest_of_newcomers(index.policy, index.fleet.hosts[drain.host as usize].migrations.as_ref())
    };
    NewcomerWay { to, then }
}
