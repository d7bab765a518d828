//! Moves what came to a compute host after the plan was made, alive, to the hosts that the plan names for that,
//! in their order. Nothing is chosen here: a destination that refuses makes way for the next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use volutus_model::fleet::plan::How;
use volutus_model::fleet::{InstanceState, NewcomerMoves, NewcomerPlace, Obstacle, OwnerChoice};
use volutus_model::name::HostName;
use volutus_model::outcome::{Evidence, Outcome};
use volutus_model::plan::InstanceMove;
use volutus_openstack::Error;
use volutus_openstack::compute::FleetServer;

use crate::attempt::{Attempt, Attempted, permanent, state};
use crate::compute::api_outcome;
use crate::drain::{self, Board, Moved};
use crate::observe::fleet::instance;

/// Between two looks at what is on the host.
const LOOK: Duration = Duration::from_millis(700);

/// What is known of the newcomers of a host so far.
#[derive(Default)]
struct Seen {
    /// How those that are away went, and what of it is kept.
    details: Vec<String>,
    moved: Vec<Evidence>,
    /// Those that cannot be moved here, and why.
    stuck: BTreeMap<String, String>,
    evidence: Vec<Evidence>,
}

/// Moves newcomers, some at once, until none is left that can be moved. What an earlier process asked for is
/// watched, and not asked for again.
pub(crate) async fn move_off(attempt: &Attempt<'_>, wanted: &NewcomerMoves) -> Attempted {
    let host = &wanted.host;
    let doing = format!("moving what came to {host} since the plan was made");
    let begun = Instant::now();
    let mut seen = Seen::default();
    loop {
        let here = match newcomers(attempt, wanted).await {
            Ok(here) => here,
            Err(error) if attempt.is_over() => return Err(api_outcome(&doing, &error)),
            Err(error) => {
                attempt.say(format!("what is on {host} is not seen: {error}"));
                attempt.pause(LOOK).await;
                continue;
            }
        };
        seen.stuck.retain(|id, _| here.iter().any(|server| server.id == *id));
        let open: Vec<&FleetServer> =
            here.iter().filter(|server| !seen.stuck.contains_key(&server.id)).collect();
        if open.is_empty() {
            return seen.outcome(host, begun);
        }
        let mut ready = Vec::new();
        let mut waits = Vec::new();
        for server in open {
            match stand(attempt, wanted, server).await {
                Ok(Stand::Ready(first)) => ready.push((server, first)),
                Ok(Stand::Busy(what)) => waits.push(format!("{} ({what})", server.id)),
                Ok(Stand::Stuck(why)) => drop(seen.stuck.insert(server.id.clone(), why)),
                Err(error) => return Err(api_outcome(&doing, &error)),
            }
        }
        if !ready.is_empty() {
            let went = move_all(attempt, wanted, ready).await;
            seen.take(went.map_err(|error| api_outcome(&doing, &error))?, host);
        } else if !waits.is_empty() {
            if attempt.is_over() {
                let why = "the time of the step is up while something is being done with it";
                seen.stuck.extend(here.into_iter().map(|server| (server.id, why.to_owned())));
                return seen.outcome(host, begun);
            }
            attempt.say(format!("waiting for what is being done on {host}: {}", waits.join(", ")));
            attempt.pause(LOOK).await;
        }
    }
}

/// What is on the host and not in the plan.
async fn newcomers(attempt: &Attempt<'_>, wanted: &NewcomerMoves) -> Result<Vec<FleetServer>, Error> {
    let mut servers = attempt.cloud.operator.compute().fleet_servers(Some(wanted.host.as_str())).await?;
    // What goes by itself is waited for when the host is proved empty.
    servers.retain(|server| !wanted.known.contains(&server.id) && !instance::passes(server));
    Ok(servers)
}

/// What can be done with a newcomer now.
enum Stand {
    /// It is moved, or is on its way to one of the destinations, that one.
    Ready(Option<HostName>),
    /// Something is being done with it.
    Busy(String),
    Stuck(String),
}

async fn stand(attempt: &Attempt<'_>, wanted: &NewcomerMoves, server: &FleetServer) -> Result<Stand, Error> {
    let operator = &attempt.cloud.operator;
    if let Some(task) = &server.task_state {
        let under_way =
            if task == "migrating" { operator.migration().under_way(&server.id).await? } else { None };
        let to = under_way.and_then(|migration| migration.dest_compute);
        // An earlier process asked for it; or a person, whose move is theirs.
        let own = wanted.way.to.iter().find(|place| Some(place.host.as_str()) == to.as_deref());
        return Ok(own.map_or_else(|| Stand::Busy(task.clone()), |own| Stand::Ready(Some(own.host.clone()))));
    }
    if server.vm_state.as_deref() == Some("building") {
        return Ok(Stand::Busy("building".to_owned()));
    }
    if instance::state(server) != InstanceState::Active {
        return Ok(Stand::Stuck(format!("it is {}, which cannot be moved alive", server.status)));
    }
    match instance::choice(server) {
        Ok(None | Some(OwnerChoice::Live)) => {}
        Ok(Some(choice)) => return Ok(Stand::Stuck(format!("its owner chose {}", choice.name()))),
        Err(words) => return Ok(Stand::Stuck(format!("its owner chose `{words}`, which is not understood"))),
    }
    let mut obstacles = instance::obstacles(server, &BTreeMap::new());
    let ports = operator.network().port_kinds_of(&server.id).await?;
    if ports.iter().any(|port| instance::SRIOV.contains(&port.vnic_type.as_str())) {
        obstacles.insert(Obstacle::Sriov);
    }
    let words: Vec<&str> = obstacles
        .iter()
        .filter(|obstacle| !wanted.movable.contains(obstacle))
        .map(|obstacle| obstacle.words())
        .collect();
    if words.is_empty() {
        Ok(Stand::Ready(None))
    } else {
        Ok(Stand::Stuck(format!("it has {}", words.join(" and "))))
    }
}

/// What came of one newcomer.
struct Went<'a> {
    server: &'a FleetServer,
    moved: Moved,
    /// The destinations that refused it before, and why.
    refused: Vec<String>,
}

async fn move_all<'a>(
    attempt: &Attempt<'_>,
    wanted: &'a NewcomerMoves,
    ready: Vec<(&'a FleetServer, Option<HostName>)>,
) -> Result<Vec<Went<'a>>, Error> {
    let board = Board::new(attempt, ready.len(), wanted.all_max);
    let width = usize::try_from(wanted.parallel_max.max(1)).unwrap_or(usize::MAX);
    let travels: Vec<_> =
        ready.into_iter().map(|(server, first)| travel(&board, wanted, server, first)).collect();
    let results: Vec<Result<Went<'a>, Error>> =
        futures::stream::iter(travels).buffer_unordered(width).collect().await;
    results.into_iter().collect()
}

/// Tries the destinations in the order of the plan; `first` is the one that it is on its way to already.
async fn travel<'a>(
    board: &Board<'_>,
    wanted: &'a NewcomerMoves,
    server: &'a FleetServer,
    first: Option<HostName>,
) -> Result<Went<'a>, Error> {
    let mut places: Vec<&NewcomerPlace> = wanted.way.to.iter().collect();
    places.sort_by_key(|place| Some(&place.host) != first.as_ref());
    let mut refused = Vec::new();
    let mut last = None;
    for place in places {
        let one = order(wanted, server, place);
        match drain::move_one(board, &wanted.host, &one).await? {
            Moved::Stays { why, evidence, refused: true } => {
                refused.push(format!("{}: {why}", place.host));
                last = Some(Moved::Stays { why: refused.join("; "), evidence, refused: true });
            }
            moved => {
                last = Some(moved);
                break;
            }
        }
    }
    board.tell(&server.id, None);
    let none = || Moved::Stays { why: "it may go nowhere".to_owned(), evidence: Vec::new(), refused: false };
    Ok(Went { server, moved: last.unwrap_or_else(none), refused })
}

fn order(wanted: &NewcomerMoves, server: &FleetServer, place: &NewcomerPlace) -> InstanceMove {
    let memory_mb = server.flavor.as_ref().map_or(0, |flavor| flavor.ram);
    let turns =
        wanted.turns(memory_mb, instance::disk_bytes(server), instance::has_persistent_memory(server));
    let seconds = |turn: u64| u32::try_from(turn).unwrap_or(u32::MAX);
    InstanceMove {
        instance: server.id.clone(),
        to: place.host.clone(),
        how: How::Live,
        onto_max: place.per_destination,
        timeout_s: seconds(turns.end),
        post_copy_after_s: turns.post_copy_after.map(seconds),
        force_after_s: turns.force_after.map(seconds),
    }
}

impl Seen {
    fn take(&mut self, all: Vec<Went<'_>>, from: &HostName) {
        for Went { server, moved, refused } in all {
            match moved {
                Moved::Away { detail, on, .. } => {
                    let after = if refused.is_empty() {
                        String::new()
                    } else {
                        format!(", which {} others refused", refused.len())
                    };
                    self.details.push(format!("{detail}{after}"));
                    // Deleted by its owner it is nowhere.
                    self.moved.extend(HostName::new(on).ok().map(|to| Evidence::NewcomerMoved {
                        instance: server.id.clone(),
                        from: from.clone(),
                        to,
                    }));
                }
                Moved::Stays { why, evidence, .. } => {
                    self.stuck.insert(server.id.clone(), why);
                    self.evidence.extend(evidence);
                }
            }
        }
    }

    fn outcome(mut self, host: &HostName, begun: Instant) -> Attempted {
        self.details.sort();
        if self.stuck.is_empty() {
            if self.details.is_empty() {
                return Ok(Outcome::unchanged(format!("nothing has come to {host} since the plan was made")));
            }
            let detail = format!(
                "{} newcomers moved off {host} in {:.0} s: {}",
                self.moved.len(),
                begun.elapsed().as_secs_f64(),
                drain::some(&self.details)
            );
            return Ok(Outcome::Done { detail, evidence: self.moved });
        }
        let told: Vec<String> = self.stuck.iter().map(|(id, why)| format!("{id}: {why}")).collect();
        let mut evidence = vec![state(format!("newcomers still on {host}"), told.join("\n"))];
        evidence.extend(self.moved);
        evidence.extend(self.evidence);
        let mut outcome = permanent(
            format!("{} newcomers could not be moved off {host}, the first {}", told.len(), told[0]),
            "they came after the plan was made and run on, untouched. A new plan of what is left does with them \
             what the policy and their owners allow: abort (the host is given back) and plan anew",
            evidence,
        );
        if let Outcome::Failed(failure) = &mut outcome {
            failure.newcomers = self.stuck.into_keys().collect::<BTreeSet<String>>();
        }
        Err(outcome)
    }
}
