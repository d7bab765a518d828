//! Puts servers of a backend in and takes others out at once, so that requests meet the ones or the others.
//!
//! One line of HAProxy's runtime API may hold several commands, separated by `;`, which it carries out one
//! right after another (management guide, 9.3). Those that enter come first: an instant without any server
//! would cost requests, and one in which both are in costs at most that a request meets the other release.
//! Measured with HAProxy 2.6.12 under load: the line takes less than 1 ms, and in `mode http` no request
//! that was begun behind it met a server that had left, whether connections to servers are kept (also with
//! `http-reuse always` and `option prefer-last-server`) or not: a drained server is chosen for no request,
//! and the one under way ends where it is. In `mode tcp` a session stays where it is until it ends.

use volutus_model::name::{BackendName, ServiceName};
use volutus_model::outcome::{Evidence, Outcome};
use volutus_model::plan::{Seat, SettledReplica};

use super::{Balancer, LOOK, OTHERS_UP_WAIT, evidence, nowhere, own, somebody_elses};
use crate::attempt::{Attempt, Attempted, permanent, transient};
use crate::channel::{Channel, Trouble};
use crate::prove::{Link, Unit};

/// One line that gives servers back and drains others.
fn line(backend: &BackendName, ready: &[&str], drain: &[&str]) -> String {
    let ready = ready.iter().map(|server| format!("set server {backend}/{server} state ready"));
    let drain = drain.iter().map(|server| format!("set server {backend}/{server} state drain"));
    ready.chain(drain).collect::<Vec<_>>().join("; ")
}

/// Lets servers take over from others, everywhere, and waits until the sessions of those have ended.
pub(crate) async fn exchange(
    attempt: &Attempt<'_>,
    backend: &BackendName,
    enter: &[Seat],
    leave: &[Seat],
) -> Attempted {
    let enter: Vec<&str> = enter.iter().map(|seat| seat.server.as_str()).collect();
    let leave: Vec<&str> = leave.iter().map(|seat| seat.server.as_str()).collect();
    let mut balancers = Balancer::open(attempt.cloud, backend)
        .await
        .map_err(|trouble| trouble.outcome(attempt.order.taken_up))?;
    if balancers.is_empty() {
        return Err(nowhere(attempt, backend, enter.first().copied().unwrap_or_default()));
    }
    let mut exchanged_before = true;
    for balancer in &mut balancers {
        exchanged_before &= may_be_exchanged(attempt, balancer, backend, &enter, &leave).await?;
    }
    if !exchanged_before {
        turn(attempt, &mut balancers, backend, &enter, &leave).await?;
    }
    until_up(attempt, &mut balancers, backend, &enter).await?;
    until_quiet(attempt, &mut balancers, backend, &leave).await?;
    let told = format!("{backend}: {} took over from {}", enter.join(", "), leave.join(", "));
    Ok(if exchanged_before { Outcome::unchanged(format!("{told} already")) } else { Outcome::done(told) })
}

/// Sees that all of them may be turned here, and waits until those that enter are well; says whether it
/// was done already.
async fn may_be_exchanged(
    attempt: &Attempt<'_>,
    balancer: &mut Balancer<'_>,
    backend: &BackendName,
    enter: &[&str],
    leave: &[&str],
) -> Result<bool, Outcome> {
    let patience = std::time::Instant::now() + OTHERS_UP_WAIT.min(attempt.left());
    loop {
        let servers = balancer.servers(backend).await.map_err(|trouble| trouble.outcome(false))?;
        let (mut done, mut ill) = (true, None);
        for server in enter.iter().chain(leave) {
            let row = own(&servers, balancer, backend, server)?;
            if row.is_administratively_out() {
                let owner =
                    balancer.owner(backend, server).await.map_err(|trouble| trouble.outcome(false))?;
                if owner.is_none() || row.is_in_maintenance() {
                    return Err(somebody_elses(balancer, backend, server, row, &servers));
                }
            }
            let enters = enter.contains(server);
            done &= enters != row.is_administratively_out();
            if enters && !row.is_well() {
                ill = Some(format!("{backend}/{server} is {}", row.describe()));
            }
        }
        let Some(ill) = ill else { return Ok(done) };
        if std::time::Instant::now() >= patience {
            return Err(transient(
                format!("nothing was exchanged: {ill} at {}", balancer.declared.host),
                format!(
                    "see why HAProxy's health check of it fails, then resume; {backend} serves as before"
                ),
                vec![evidence(balancer, backend, &servers)],
            ));
        }
        attempt.say(format!("waiting until those that take over are well ({ill})"));
        attempt.pause(LOOK).await;
    }
}

/// Gives the line to every load balancer, one right after another. Where one of them does not take it,
/// all of them are turned back: users shall not meet the one release here and the other one there.
async fn turn(
    attempt: &Attempt<'_>,
    balancers: &mut [Balancer<'_>],
    backend: &BackendName,
    enter: &[&str],
    leave: &[&str],
) -> Result<(), Outcome> {
    let owner = attempt.order.run.to_string();
    for balancer in balancers.iter_mut() {
        for server in leave {
            // The note comes first: a drained server without one would be taken for somebody else's.
            let noted = balancer.note(backend, server, Some(&owner)).await;
            noted.map_err(|trouble| trouble.outcome(true))?;
        }
    }
    let mut trouble = None;
    for balancer in balancers.iter_mut() {
        if let Err(seen) = balancer.order(&line(backend, enter, leave)).await {
            trouble = Some(seen);
            break;
        }
    }
    let Some(trouble) = trouble else { return Ok(()) };
    attempt.say("a load balancer did not take the exchange: all are turned back");
    let mut turned_back = true;
    for balancer in balancers.iter_mut() {
        turned_back &= balancer.order(&line(backend, leave, enter)).await.is_ok();
        for server in leave {
            turned_back &= balancer.note(backend, server, None).await.is_ok();
        }
    }
    // Nothing has happened where all are turned back; otherwise the attempt is looked for again, and
    // whoever does so turns all of them.
    Err(trouble.outcome(!turned_back))
}

/// Waits until servers that were put in get requests, and forgets that they were drained.
async fn until_up(
    attempt: &Attempt<'_>,
    balancers: &mut [Balancer<'_>],
    backend: &BackendName,
    entered: &[&str],
) -> Result<(), Outcome> {
    loop {
        let mut waiting: Vec<(String, Evidence)> = Vec::new();
        for balancer in balancers.iter_mut() {
            let servers = balancer.servers(backend).await.map_err(|trouble| trouble.outcome(true))?;
            for server in entered {
                let row = own(&servers, balancer, backend, server)?;
                if !row.serves() {
                    let told = format!("{backend}/{server} is {}", row.describe());
                    waiting.push((told, evidence(balancer, backend, &servers)));
                }
            }
        }
        let Some((told, _)) = waiting.first() else { break };
        if attempt.is_over() {
            return Err(permanent(
                format!("what was put into {backend} does not come up at the load balancer: {told}"),
                "see why HAProxy's health check of it fails, then resume",
                waiting.into_iter().map(|(_, evidence)| evidence).collect(),
            ));
        }
        attempt.say(format!("waiting until what was put in is up ({told})"));
        attempt.pause(LOOK).await;
    }
    for balancer in balancers.iter_mut() {
        for server in entered {
            balancer.note(backend, server, None).await.map_err(|trouble| trouble.outcome(true))?;
        }
    }
    Ok(())
}

/// Waits until servers that were taken out have no sessions. They are not given back where these do not
/// end: the others serve already.
async fn until_quiet(
    attempt: &Attempt<'_>,
    balancers: &mut [Balancer<'_>],
    backend: &BackendName,
    left: &[&str],
) -> Result<(), Outcome> {
    loop {
        let mut open = 0;
        let mut rows = Vec::new();
        for balancer in balancers.iter_mut() {
            let servers = balancer.servers(backend).await.map_err(|trouble| trouble.outcome(true))?;
            for server in left {
                let row = own(&servers, balancer, backend, server)?;
                open += row.sessions + row.queued;
            }
            rows.push(evidence(balancer, backend, &servers));
        }
        if open == 0 {
            return Ok(());
        }
        if attempt.is_over() {
            return Err(permanent(
                format!("{open} sessions of {} are still open; others of {backend} serve", left.join(", ")),
                "see who holds these sessions (`show sess` at HAProxy's socket): end them, or raise the \
                 policy's drain_timeout_s; then resume",
                rows,
            ));
        }
        attempt.say(format!("{open} sessions of {} are open", left.join(", ")));
        attempt.pause(LOOK).await;
    }
}

/// Which servers of a backend are to be settled.
pub(crate) struct Settling<'a> {
    /// The backend.
    pub backend: &'a BackendName,
    /// The service behind it.
    pub service: &'a ServiceName,
    /// Its servers.
    pub replicas: &'a [SettledReplica],
}

/// Puts in whatever runs the same release as what gets requests, and leaves the rest out, where a run is
/// given up around an exchange.
pub(crate) async fn settle(attempt: &Attempt<'_>, settling: &Settling<'_>) -> Attempted {
    let Settling { backend, replicas, .. } = *settling;
    let mut new: Vec<Option<bool>> = Vec::with_capacity(replicas.len());
    for replica in replicas {
        new.push(is_new(attempt, settling.service, replica).await);
    }
    let mut balancers = Balancer::open(attempt.cloud, backend)
        .await
        .map_err(|trouble| trouble.outcome(attempt.order.taken_up))?;
    if balancers.is_empty() {
        let first = replicas.first().map(|replica| replica.seat.server.as_str());
        return Err(nowhere(attempt, backend, first.unwrap_or_default()));
    }
    // Per replica: whether some load balancer sends it requests, and whether some does not because of
    // Volutus.
    let (mut inside, mut held) = (vec![false; replicas.len()], vec![false; replicas.len()]);
    for balancer in &mut balancers {
        let servers = balancer.servers(backend).await.map_err(|trouble| trouble.outcome(false))?;
        for (at, replica) in replicas.iter().enumerate() {
            let server = &replica.seat.server;
            let row = own(&servers, balancer, backend, server)?;
            if !row.is_administratively_out() {
                inside[at] = true;
            } else if !row.is_in_maintenance() {
                let owner = balancer.owner(backend, server).await;
                held[at] |= owner.map_err(|trouble| trouble.outcome(false))?.is_some();
            }
        }
    }
    let side = side(&new, &inside, &held);
    let of = |wanted: bool, among: &[bool]| -> Vec<&str> {
        let all = replicas.iter().zip(&new).zip(among);
        let found = all.filter(|((_, new), among)| **new == Some(wanted) && **among);
        found.map(|((replica, _), _)| replica.seat.server.as_str()).collect()
    };
    let (enter, leave) = (of(side, &held), of(!side, &inside));
    if !enter.is_empty() || !leave.is_empty() {
        turn(attempt, &mut balancers, backend, &enter, &leave).await?;
        until_up(attempt, &mut balancers, backend, &enter).await?;
    }
    let stays: Vec<String> = replicas
        .iter()
        .enumerate()
        .filter(|(at, replica)| {
            let name = replica.seat.server.as_str();
            (held[*at] || leave.contains(&name)) && !enter.contains(&name)
        })
        .map(|(_, replica)| format!("{backend}/{}", replica.seat.server))
        .collect();
    if stays.is_empty() {
        return Ok(match enter.is_empty() {
            true => Outcome::unchanged(format!("no server of {backend} is held")),
            false => Outcome::done(format!("{} of {backend} are in again", enter.join(", "))),
        });
    }
    Err(permanent(
        format!("{} stay out: they do not run the release of those that serve", stays.join(", ")),
        "`volutus rollback` puts them back to the old release and in; a new plan replaces the others and puts \
         them in",
        Vec::new(),
    ))
}

/// Which release serves: the new one as soon as one of its replicas is in, because users have met it; the
/// old one otherwise. Where nobody is in, the old one as well, if there is a replica of it to put in.
fn side(new: &[Option<bool>], inside: &[bool], held: &[bool]) -> bool {
    let any = |wanted, among: &[bool]| new.iter().zip(among).any(|(new, is)| *is && *new == Some(wanted));
    any(true, inside) || (!any(false, inside) && !any(false, held))
}

/// Whether the link of a replica points to the new release; nothing where that was not seen.
async fn is_new(attempt: &Attempt<'_>, service: &ServiceName, replica: &SettledReplica) -> Option<bool> {
    let cloud = attempt.cloud;
    let seen: Result<_, Trouble> = async {
        let mut channel = Channel::to_host(&cloud.hosts, &replica.seat.daemon.host).await?;
        let unit = Unit { cloud, daemon: &replica.seat.daemon, service, unit: &replica.unit };
        unit.look(&mut channel).await
    }
    .await;
    match seen.ok()?.link {
        Link::To { value } => Some(value == replica.to),
        Link::Unseen { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_enter_come_first_in_one_line() {
        let backend = BackendName::new("nova").expect("a name");
        assert_eq!(
            line(&backend, &["ctl1", "ctl2"], &["ctl3"]),
            "set server nova/ctl1 state ready; set server nova/ctl2 state ready; set server nova/ctl3 state drain"
        );
    }

    #[test]
    fn the_release_that_users_have_met_stays() {
        let (new, old, unseen) = (Some(true), Some(false), None);
        assert!(!side(&[new, old, old], &[false, true, true], &[true, false, false]));
        assert!(side(&[new, new, old], &[true, true, false], &[false, false, true]));
        // Turned at one load balancer and not at the other.
        assert!(side(&[new, new, old], &[true, true, true], &[true, true, true]));
        // Nobody is in: the old one, unless somebody else has taken it out.
        assert!(!side(&[new, old, unseen], &[false, false, false], &[true, true, true]));
        assert!(side(&[new, old, unseen], &[false, false, false], &[true, false, true]));
    }
}
