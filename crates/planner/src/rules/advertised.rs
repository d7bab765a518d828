//! Where an API's highest microversion must only grow, old and new replicas never serve at the same time:
//! new ones wait out of the load balancer, and take over from the old ones in one exchange.
//!
//! Half of the replicas (the larger half) are replaced before the exchange. With `n` replicas and `k` of
//! them replaced before, `n - k` are left when the last of these is out, and `k` serve behind the exchange:
//! the half keeps the most at the worst instant. Of an odd number both halves are equally good by that, and
//! by the time that it lasts; then the larger one makes the exchange lead to more replicas, and the
//! replicas that carry the load alone beforehand are warm ones.
//!
//! All of it is one step: what must not be interrupted by a halt lies inside one step (decision 0003), and a
//! replica that waits is a drained one.

use volutus_model::Severity;
use volutus_model::name::BackendName;
use volutus_model::plan::{Action, Impact, ImpactLevel, Seat, SettledReplica, Step};

use super::daemon;
use super::roll_api::{Replicas, around, serves};
use crate::Error;
use crate::draft::{Draft, no_impact, step};
use crate::state::Member;

/// What one exchange is expected to take: a look at every load balancer before and after it.
const EXCHANGE_S: u32 = 2;

/// The step that replaces the replicas of a kind around an exchange; nothing where they are replaced one
/// after another as usual.
pub(crate) fn exchange(draft: &mut Draft<'_>, members: &[Member<'_>]) -> Result<Option<Step>, Error> {
    let Some(why) = wanted(draft, members) else { return Ok(None) };
    let waiting = waiting(draft, members);
    let (pending, done): (Vec<_>, Vec<_>) = members.iter().partition(|member| member.pending);
    if !pending.iter().any(|member| serves(draft, member)) {
        // Whatever is put in runs what serves already, or is the first that serves at all.
        return Ok(None);
    }
    let kind = &members[0].id.kind;
    if done.iter().any(|member| serves(draft, member)) {
        draft.find(
            Severity::Serious,
            "advertised-mixed",
            kind,
            "old and new replicas of it serve already, so that its highest microversion flaps until all of \
             them are the same",
            "Nothing, where that is accepted; the verdict tells it.",
        );
        return Ok(None);
    }
    let total = pending.len() + waiting.len();
    if total < 2 {
        // Nobody is there to take over from.
        return Ok(None);
    }
    let entering = waiting.len().max(total.div_ceil(2)).min(total - 1);
    // What serves nobody now is replaced first: taking it out costs nothing.
    let (serving, idle): (Vec<_>, Vec<_>) = pending.into_iter().partition(|member| serves(draft, member));
    let mut held: Vec<&Member<'_>> = idle.into_iter().chain(serving).collect();
    let left = held.split_off(entering.saturating_sub(waiting.len()).min(held.len() - 1));
    let min = draft.policy().serving_replicas_min;
    let in_backend = |members: &[&Member<'_>], backend: &BackendName| {
        members.iter().filter(|member| member.declaration.backends.contains(backend)).count()
    };
    let enter: Vec<&Member<'_>> = waiting.iter().copied().chain(held.iter().copied()).collect();
    let backends = backends(members);
    let least = |backend: &BackendName| in_backend(&enter, backend).min(in_backend(&left, backend));
    let worst = backends.iter().map(least).min().unwrap_or(0);
    if worst == 0 || u32::try_from(worst).unwrap_or(u32::MAX) < min {
        return refuse(draft, members, worst);
    }
    draft.note(kind, explain(&why, &enter, &left, worst, members.len()));
    let parts = Parts { backends: &backends, waiting: &waiting, held: &held, left: &left };
    Ok(Some(put_together(draft, members, &parts)?))
}

/// What was replaced, or kept, when an earlier run was given up, and was left out because others served.
fn waiting<'a, 'm>(draft: &Draft<'_>, members: &'m [Member<'a>]) -> Vec<&'m Member<'a>> {
    let drained = |member: &Member<'_>| {
        let name = member.declaration.server_name(&member.host.name);
        member.declaration.backends.iter().any(|backend| {
            let seen = draft.input.observation.backends.get(backend).and_then(|fact| fact.value());
            let row = seen.and_then(|servers| servers.iter().find(|row| row.name == name));
            row.is_some_and(|row| row.status.starts_with("DRAIN"))
        })
    };
    members.iter().filter(|member| !member.pending && drained(member)).collect()
}

/// Where no exchange is due: what waits is put in first, and where no old replica serves any more, the rest is
/// replaced one after another.
pub(crate) fn go_on(
    draft: &mut Draft<'_>,
    members: &[Member<'_>],
    steps: &mut Vec<Step>,
) -> Result<(), Error> {
    if wanted(draft, members).is_none() {
        return Ok(());
    }
    if !members.iter().any(|member| member.pending && serves(draft, member)) {
        for i in 1..steps.len() {
            steps[i].requires = vec![steps[i - 1].id.clone()];
        }
    }
    let waiting = waiting(draft, members);
    let Some(first) = waiting.first() else { return Ok(()) };
    let replicas = Replicas::of(members);
    let mut actions = Vec::new();
    for member in &waiting {
        let (_, undrains) = around(draft, member, &replicas);
        actions.push(daemon::prove(draft, member));
        actions.extend(undrains);
    }
    let step = step(
        format!("put-in/{}", first.id.kind),
        format!("put in what waits of {}", first.id.kind),
        actions,
        no_impact("more replicas serve than before"),
        first.facts.expected_s,
        daemon::action_timeout_s(draft, first),
    )?;
    steps.iter_mut().for_each(|other| other.requires.push(step.id.clone()));
    steps.insert(0, step);
    Ok(())
}

/// Who does what in an exchange.
struct Parts<'a, 'm> {
    backends: &'m [BackendName],
    /// Out already, and not to be replaced.
    waiting: &'m [&'m Member<'a>],
    /// Replaced before it.
    held: &'m [&'m Member<'a>],
    /// Replaced behind it.
    left: &'m [&'m Member<'a>],
}

/// Why old and new replicas of a kind must not serve together; nothing where they may.
fn wanted(draft: &Draft<'_>, members: &[Member<'_>]) -> Option<String> {
    let first = members.first()?;
    let (service, facts) = (&first.service.name, first.facts);
    let (from, to) = (draft.state.from, draft.input.target);
    let differs = facts.advertises_otherwise(from, to);
    let asked = facts.health.as_ref().is_some_and(|health| health.authenticated);
    if draft.is_patch() || !asked || !draft.policy().api.only_grows(service, differs) {
        return None;
    }
    // Without a second replica, or without a load balancer, nobody can wait.
    if members.len() < 2 || members.iter().any(|member| member.declaration.backends.is_empty()) {
        return None;
    }
    let known = |series| facts.microversions.get(&series).map_or("not known", String::as_str);
    Some(if differs {
        format!("{service}'s highest microversion is {} in {from} and {} in {to}", known(from), known(to))
    } else {
        format!("the policy names {service} in [api.services]")
    })
}

fn backends(members: &[Member<'_>]) -> Vec<BackendName> {
    let mut backends: Vec<BackendName> = Vec::new();
    for backend in members.iter().flat_map(|member| &member.declaration.backends) {
        if !backends.contains(backend) {
            backends.push(backend.clone());
        }
    }
    backends
}

/// An upgrade that cannot keep the policy is not begun; a way back is never refused because of it.
fn refuse(draft: &mut Draft<'_>, members: &[Member<'_>], worst: usize) -> Result<Option<Step>, Error> {
    let first = &members[0];
    let min = draft.policy().serving_replicas_min;
    if draft.is_back() {
        draft.find(
            Severity::Serious,
            "advertised-may-flap",
            &first.id.kind,
            format!(
                "with {} replicas an exchange would leave {worst} of them serving, and {min} must: they are \
                 put back one after another, and its highest microversion flaps meanwhile",
                members.len()
            ),
            "Nothing, where that is accepted; otherwise lower `serving_replicas_min` for the way back.",
        );
        return Ok(None);
    }
    Err(Error::TooFewToExchange {
        service: first.service.name.clone(),
        kind: first.id.kind.clone(),
        replicas: members.len(),
        worst,
        min,
    })
}

fn names(members: &[&Member<'_>]) -> String {
    members.iter().map(|member| member.host.name.as_str()).collect::<Vec<_>>().join(" and ")
}

fn explain(why: &str, enter: &[&Member<'_>], left: &[&Member<'_>], worst: usize, total: usize) -> String {
    let (wait, take) = if enter.len() == 1 { ("waits", "takes") } else { ("wait", "take") };
    format!(
        "old and new replicas never serve together, because {why}: once replaced, {} {wait} out of the load \
         balancer, and {take} over from {} in one command; at the least {worst} of {total} serve",
        names(enter),
        names(left)
    )
}

fn put_together(draft: &mut Draft<'_>, members: &[Member<'_>], parts: &Parts<'_, '_>) -> Result<Step, Error> {
    let Parts { backends, waiting, held, left } = *parts;
    let replicas = Replicas::of(members);
    let enter: Vec<&Member<'_>> = waiting.iter().chain(held).copied().collect();
    let mut actions: Vec<Action> = waiting.iter().map(|member| daemon::prove(draft, member)).collect();
    for member in held {
        let (drains, _) = around(draft, member, &replicas);
        actions.extend(drains);
        actions.push(daemon::switch(draft, member));
        actions.push(daemon::prove(draft, member));
    }
    let seats = |members: &[&Member<'_>], backend: &BackendName| -> Vec<Seat> {
        let inside = members.iter().filter(|member| member.declaration.backends.contains(backend));
        inside.map(|member| seat(member)).collect()
    };
    for backend in backends {
        actions.push(Action::ExchangeReplicas {
            backend: backend.clone(),
            enter: seats(&enter, backend),
            leave: seats(left, backend),
        });
    }
    for member in left {
        // The exchange has drained it.
        let (_, undrains) = around(draft, member, &replicas);
        actions.push(daemon::switch(draft, member));
        actions.push(daemon::prove(draft, member));
        actions.extend(undrains);
    }
    let first = &members[0];
    let replaced = u32::try_from(held.len() + left.len()).unwrap_or(u32::MAX);
    let limits = members.iter().map(|member| daemon::action_timeout_s(draft, member));
    let mut made = step(
        format!("roll/{}", first.id.kind),
        format!("{} {} on {} hosts around one exchange", draft.verb(), first.id.kind, replaced),
        actions,
        Impact {
            level: ImpactLevel::Minor,
            service: Some(first.service.name.clone()),
            why: format!(
                "down to {} of {} replicas serve; the others are being replaced or wait",
                enter.len().min(left.len()),
                members.len()
            ),
        },
        first.facts.expected_s.saturating_mul(replaced).saturating_add(EXCHANGE_S),
        limits.max().unwrap_or(1),
    )?;
    for backend in backends {
        let inside = members.iter().filter(|member| member.declaration.backends.contains(backend));
        let replicas = inside.map(|member| SettledReplica {
            seat: seat(member),
            unit: member.declaration.unit.clone(),
            to: draft.new_release(member),
        });
        made.give_back.push(Action::SettleReplicas {
            backend: backend.clone(),
            service: first.service.name.clone(),
            replicas: replicas.collect(),
        });
    }
    Ok(made)
}

fn seat(member: &Member<'_>) -> Seat {
    Seat { daemon: member.id.clone(), server: member.declaration.server_name(&member.host.name) }
}
