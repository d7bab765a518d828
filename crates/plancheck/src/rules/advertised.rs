//! Where an API's highest microversion must only grow, no instant of the plan has an old and a new replica
//! of it serving; and wherever replicas are exchanged, enough of them serve at every instant.
//!
//! The plan is played through: what touches such a backend has to come in one order, whatever the engine
//! runs side by side.

use std::collections::{BTreeMap, BTreeSet};

use volutus_model::name::{BackendName, DaemonId};
use volutus_model::plan::{Action, Refresh};
use volutus_model::{Finding, Severity};

use crate::context::Context;
use crate::{PLAN_AGAIN, blocking};

/// A server of a backend, while the plan is played.
struct Replica<'a> {
    id: &'a DaemonId,
    server: String,
    /// It runs what the plan leads to.
    new: bool,
    serves: bool,
    /// The plan took it out, and has not put it in again.
    out: bool,
}

pub(crate) fn check_advertised(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let mut backends: BTreeMap<&BackendName, Vec<Replica<'_>>> = BTreeMap::new();
    let mut kept = BTreeSet::new();
    for (id, member) in &context.members {
        let server = member.declaration.server_name(&member.host.name);
        for backend in &member.declaration.backends {
            let seen = context.observation.backends.get(backend).and_then(|fact| fact.value());
            let row = seen.and_then(|servers| servers.iter().find(|row| row.name == server));
            backends.entry(backend).or_default().push(Replica {
                id,
                server: server.clone(),
                new: context.on_target(id, &member.service.name),
                serves: row.is_none_or(|row| row.status == "UP" || row.status == "no check"),
                out: false,
            });
            if only_grows(context, id) {
                kept.insert(backend);
            }
        }
    }
    for (_, action) in context.graph.actions() {
        if let Action::ExchangeReplicas { backend, .. } = action {
            kept.insert(backend);
        }
    }
    for (backend, mut replicas) in backends {
        if kept.contains(backend) && replicas.len() > 1 {
            check_backend(context, backend, &mut replicas, findings);
        }
    }
}

/// Whether the policy wants the highest microversion of a daemon's API only to grow.
fn only_grows(context: &Context<'_>, id: &DaemonId) -> bool {
    let Some(member) = context.members.get(id) else { return false };
    let asked = member.facts.health.as_ref().is_some_and(|health| health.authenticated);
    let differs = member.facts.advertises_otherwise(context.plan.from, context.plan.to);
    !context.is_patch() && asked && context.policy.api.only_grows(&member.service.name, differs)
}

fn check_backend(
    context: &Context<'_>,
    backend: &BackendName,
    replicas: &mut [Replica<'_>],
    findings: &mut Vec<Finding>,
) {
    let graph = &context.graph;
    let mut steps: Vec<usize> = Vec::new();
    let mut others: BTreeSet<usize> = BTreeSet::new();
    for (at, action) in graph.actions() {
        let replaces = match action {
            Action::SwitchDaemon { daemon, .. } => replicas.iter().any(|replica| replica.id == daemon),
            Action::ExchangeReplicas { backend: of, .. } => of == backend,
            _ => false,
        };
        if replaces && steps.last() != Some(&at.step) {
            steps.push(at.step);
        } else if touches(action, backend, replicas) {
            others.insert(at.step);
        }
    }
    if steps.is_empty() {
        return;
    }
    if is_mixed(replicas) {
        findings.push(Finding::new(
            Severity::Serious,
            "advertised-mixed",
            backend,
            "old and new replicas serve already, so that its highest microversion flaps before anything is done",
            "Nothing, where that is accepted; the verdict tells it.",
        ));
        return;
    }
    let ordered = |a: usize, b: usize| a == b || graph.step_before(a, b) || graph.step_before(b, a);
    let beside = |other: &usize| {
        let before = steps.iter().all(|step| other == step || graph.step_before(*other, *step));
        let behind = steps.iter().all(|step| other == step || graph.step_before(*step, *other));
        !steps.contains(other) && !before && !behind
    };
    if !steps.iter().all(|a| steps.iter().all(|b| ordered(*a, *b))) || others.iter().any(beside) {
        findings.push(may_flap(
            context,
            replicas.len(),
            "advertised-unordered",
            backend,
            "its replicas are replaced in steps without an order, so that an old and a new one may serve \
             together",
        ));
        return;
    }
    steps.sort_by(|a, b| match (graph.step_before(*a, *b), graph.step_before(*b, *a)) {
        (true, _) => std::cmp::Ordering::Less,
        (_, true) => std::cmp::Ordering::Greater,
        _ => a.cmp(b),
    });
    play(context, backend, replicas, &steps, findings);
}

/// Whether an action takes a server of the backend out or puts it in, or stops what is behind it.
fn touches(action: &Action, backend: &BackendName, replicas: &[Replica<'_>]) -> bool {
    match action {
        Action::DrainBackend { backend: of, .. } | Action::UndrainBackend { backend: of, .. } => {
            of == backend
        }
        Action::RefreshDaemon { daemon, how: Refresh::Restart, .. } => {
            replicas.iter().any(|replica| replica.id == daemon)
        }
        _ => false,
    }
}

/// Whether an old and a new replica serve.
fn is_mixed(replicas: &[Replica<'_>]) -> bool {
    let serves = |new: bool| replicas.iter().any(|replica| replica.serves && replica.new == new);
    serves(true) && serves(false)
}

/// A way back that cannot keep the policy leads back all the same.
fn may_flap(
    context: &Context<'_>,
    replicas: usize,
    code: &str,
    backend: &BackendName,
    why: impl Into<String>,
) -> Finding {
    let half = u32::try_from(replicas / 2).unwrap_or(u32::MAX);
    if context.is_back() && half < context.policy.serving_replicas_min {
        let action = "Nothing, where that is accepted; otherwise lower `serving_replicas_min`.";
        return Finding::new(Severity::Serious, code, backend, why, action);
    }
    blocking(code, backend, why, PLAN_AGAIN)
}

fn play(
    context: &Context<'_>,
    backend: &BackendName,
    replicas: &mut [Replica<'_>],
    steps: &[usize],
    findings: &mut Vec<Finding>,
) {
    let min = context.policy.serving_replicas_min as usize;
    let count = |replicas: &[Replica<'_>]| replicas.iter().filter(|replica| replica.serves).count();
    for (step, action) in
        steps.iter().flat_map(|step| context.graph.steps[*step].1.actions.iter().map(move |a| (*step, a)))
    {
        let before = count(replicas);
        perform(action, backend, replicas);
        let now = count(replicas);
        let id = &context.graph.steps[step].1.id;
        if is_mixed(replicas) {
            findings.push(may_flap(
                context,
                replicas.len(),
                "advertised-flaps",
                backend,
                format!("behind `{}` of {id} an old and a new replica serve together", action.summary()),
            ));
            return;
        }
        if now < before && now < min {
            let accepted = context.policy.accept_downtime;
            findings.push(Finding::new(
                if accepted { Severity::Serious } else { Severity::Blocking },
                "exchange-too-few",
                backend,
                format!("behind `{}` of {id} {now} replicas serve, and {min} must", action.summary()),
                "Add replicas, lower `serving_replicas_min`, or let it flap (`[api.services]` of the policy).",
            ));
            return;
        }
    }
    let left: Vec<&str> =
        replicas.iter().filter(|replica| replica.out).map(|replica| replica.server.as_str()).collect();
    if !left.is_empty() {
        findings.push(blocking(
            "exchange-leaves-out",
            backend,
            format!("{} stay out of it when the plan has ended", left.join(", ")),
            PLAN_AGAIN,
        ));
    }
}

/// What an action changes of the backend.
fn perform(action: &Action, backend: &BackendName, replicas: &mut [Replica<'_>]) {
    let mut set = |server: &str, serves: bool| {
        for replica in replicas.iter_mut().filter(|replica| replica.server == *server) {
            (replica.serves, replica.out) = (serves, !serves);
        }
    };
    match action {
        Action::DrainBackend { backend: of, server, .. } if of == backend => set(server, false),
        Action::UndrainBackend { backend: of, server, .. } if of == backend => set(server, true),
        Action::ExchangeReplicas { backend: of, enter, leave } if of == backend => {
            enter.iter().for_each(|seat| set(&seat.server, true));
            leave.iter().for_each(|seat| set(&seat.server, false));
        }
        Action::SwitchDaemon { daemon, .. } => {
            for replica in replicas.iter_mut().filter(|replica| replica.id == daemon) {
                replica.new = true;
            }
        }
        _ => {}
    }
}
