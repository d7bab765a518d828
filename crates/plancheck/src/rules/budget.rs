//! Never fewer than the policy's serving replicas, whichever steps the engine runs side by side.
//!
//! What may be out at the same time is bounded from above: in one stage by its width, over
//! stages by the worst set of stages between which the plan has no order.

use std::collections::{BTreeMap, BTreeSet};

use volutus_catalog::DaemonRole;
use volutus_model::name::BackendName;
use volutus_model::observation::BackendServer;
use volutus_model::plan::{Action, Refresh};
use volutus_model::{Finding, Severity};

use crate::context::Context;
use crate::{PLAN_AGAIN, blocking};

/// Stages that touch one group for which the exact worst case is searched; beyond it they are
/// all assumed to run side by side, which is never too low.
const STAGES_EXACT_MAX: usize = 16;

/// A set of replicas of which some must go on.
struct Group {
    label: String,
    /// Those that serve now.
    serving: u32,
    /// Those that must serve at any moment.
    min: u32,
    /// The steps that take one of them out.
    steps: Vec<usize>,
    kind: Kind,
}

enum Kind {
    Backend,
    Workers,
    Agents,
    Computes,
}

pub(crate) fn check_budget(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let mut groups = backends(context);
    groups.extend(daemons(context));
    for group in groups {
        let out = worst_case(context, &group.steps);
        if out == 0 || group.serving.saturating_sub(out) >= group.min {
            continue;
        }
        findings.push(over_budget(context, &group, out));
    }
}

fn over_budget(context: &Context<'_>, group: &Group, out: u32) -> Finding {
    let left = group.serving.saturating_sub(out);
    let explanation = format!(
        "{} serve now, the plan may take {out} out at the same time, so that {left} are left; {} \
         must serve at any moment",
        group.serving, group.min
    );
    match group.kind {
        // With downtime accepted it is still told, so that nobody is surprised.
        Kind::Backend if context.policy.accept_downtime => Finding::new(
            Severity::Serious,
            "budget-exceeded",
            &group.label,
            format!("{explanation}. The policy accepts downtime"),
            "Nothing, where the downtime is meant; otherwise add replicas.",
        ),
        Kind::Backend if group.serving <= group.min => blocking(
            "budget-exceeded",
            &group.label,
            explanation,
            "Add replicas, bring those that are down up again, or accept the downtime with \
             `accept_downtime = true` in the policy.",
        ),
        Kind::Computes if group.serving <= 1 => Finding::new(
            Severity::Serious,
            "budget-exceeded",
            &group.label,
            format!("{explanation}. No instance can be created there meanwhile"),
            "Add a compute host, or choose a time at which nobody creates instances.",
        ),
        Kind::Backend | Kind::Workers | Kind::Agents | Kind::Computes => {
            blocking("budget-exceeded", &group.label, explanation, PLAN_AGAIN)
        }
    }
}

fn backends(context: &Context<'_>) -> Vec<Group> {
    let mut declared: BTreeMap<_, u32> = BTreeMap::new();
    for member in context.members.values() {
        for backend in &member.declaration.backends {
            *declared.entry(backend).or_default() += 1;
        }
    }
    let mut touched: BTreeMap<_, BTreeSet<usize>> = BTreeMap::new();
    for (at, action) in context.graph.actions() {
        match action {
            Action::DrainBackend { backend, .. } => {
                touched.entry(backend).or_default().insert(at.step);
            }
            Action::SwitchDaemon { daemon, .. }
            | Action::RefreshDaemon { daemon, how: Refresh::Restart, .. } => {
                // Undrained or not, a replica that stops does not serve.
                if let Some(member) = context.members.get(daemon) {
                    for backend in &member.declaration.backends {
                        touched.entry(backend).or_default().insert(at.step);
                    }
                }
            }
            _ => {}
        }
    }
    touched
        .into_iter()
        .map(|(backend, steps)| {
            let seen = context.observation.backends.get(backend).and_then(|fact| fact.value());
            let up = seen.map(|servers| {
                let up = servers.iter().filter(|s| is_up(s));
                u32::try_from(up.count()).unwrap_or(u32::MAX)
            });
            let declared = declared.get(backend).copied().unwrap_or(0);
            // More servers than are declared are somebody else's, and may go any time.
            let serving = up.unwrap_or(declared).min(declared);
            let put_in = put_in_first(context, backend, &steps);
            let (mended, steps) = mended_first(context, backend, &steps);
            Group {
                label: backend.to_string(),
                serving: serving.saturating_add(mended).saturating_add(put_in).min(declared),
                min: context.policy.serving_replicas_min,
                steps,
                kind: Kind::Backend,
            }
        })
        .collect()
}

fn is_up(server: &BackendServer) -> bool {
    server.status == "UP" || server.status == "no check"
}

/// How many replicas that wait out of the load balancer are put in, as they are, before any step takes one out.
fn put_in_first(context: &Context<'_>, backend: &BackendName, steps: &BTreeSet<usize>) -> u32 {
    let seen = context.observation.backends.get(backend).and_then(|fact| fact.value());
    let waits = |name: &str| {
        seen.and_then(|servers| servers.iter().find(|s| s.name == name)).is_some_and(|s| !is_up(s))
    };
    let first =
        |at: &usize| !steps.contains(at) && steps.iter().all(|step| context.graph.step_before(*at, *step));
    let put_in = context.graph.actions().filter(|(at, action)| {
        matches!(action, Action::UndrainBackend { backend: into, server, .. } if into == backend && waits(server))
            && first(&at.step)
    });
    u32::try_from(put_in.count()).unwrap_or(u32::MAX)
}

/// A replica that is down now is none that a step takes out. Where the plan replaces all of those,
/// and proves them, before it touches one that is up, they serve again by then: how many do, and
/// the steps that are left to count. Only a way back mends: an upgrade of what is broken does not
/// make it whole.
fn mended_first(context: &Context<'_>, backend: &BackendName, steps: &BTreeSet<usize>) -> (u32, Vec<usize>) {
    let seen = context.observation.backends.get(backend).and_then(|fact| fact.value());
    let down = |step: &usize| {
        let mut replicas = context.graph.steps[*step].1.actions.iter().filter_map(|action| match action {
            Action::SwitchDaemon { daemon, .. } => context.members.get(daemon),
            _ => None,
        });
        replicas.next().is_some_and(|member| {
            let name = member.declaration.server_name(&member.host.name);
            seen.and_then(|servers| servers.iter().find(|s| s.name == name)).is_some_and(|s| !is_up(s))
        })
    };
    let (broken, whole): (Vec<usize>, Vec<usize>) = steps.iter().partition(|step| down(step));
    let first = broken.iter().all(|a| whole.iter().all(|b| context.graph.step_before(*a, *b)));
    if first && context.is_back() {
        (u32::try_from(broken.len()).unwrap_or(u32::MAX), whole)
    } else {
        (0, steps.iter().copied().collect())
    }
}

/// Workers and agents of a kind, and computes of a zone.
fn daemons(context: &Context<'_>) -> Vec<Group> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for (id, member) in &context.members {
        let (label, kind) = match member.facts.role {
            DaemonRole::Api => continue,
            DaemonRole::Worker => (id.kind.to_string(), Kind::Workers),
            DaemonRole::Agent => (id.kind.to_string(), Kind::Agents),
            DaemonRole::Compute => {
                let zone = member.host.zone.as_deref().unwrap_or("without a zone");
                (format!("{} in zone {zone}", id.kind), Kind::Computes)
            }
        };
        let group = groups.entry(label.clone()).or_insert(Group {
            label,
            serving: 0,
            min: 0,
            steps: Vec::new(),
            kind,
        });
        group.serving += 1;
        if let Some(places) = context.switches.get(id) {
            group.steps.extend(places.iter().map(|at| at.step));
        }
        group.steps.extend(context.restarts.get(&member.host.name).into_iter().flatten());
    }
    for group in groups.values_mut() {
        group.min = match group.kind {
            // A queue holds its messages while a single worker restarts.
            Kind::Workers if group.serving == 1 => 0,
            // What an only agent has set up goes on while it restarts.
            Kind::Agents if group.serving == 1 => 0,
            Kind::Workers => context.policy.serving_replicas_min.clamp(1, group.serving - 1),
            Kind::Agents | Kind::Computes | Kind::Backend => 1,
        };
        group.steps.sort_unstable();
        // A step that upgrades a host and restarts it takes out one of the group all the same.
        group.steps.dedup();
    }
    groups.into_values().collect()
}

/// The most of these steps that can be under way at the same time.
fn worst_case(context: &Context<'_>, steps: &[usize]) -> u32 {
    let graph = &context.graph;
    let mut by_stage: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for step in steps {
        by_stage.entry(graph.steps[*step].0).or_default().push(*step);
    }
    let widths: Vec<(usize, u32)> = by_stage
        .into_iter()
        .map(|(stage, steps)| {
            let width = graph.stages[stage].parallel_max;
            let count = u32::try_from(steps.len()).unwrap_or(u32::MAX);
            // Looking for a chain pays only where the width alone would allow more than one.
            let width = if width > 1 && steps.len() <= 64 && graph.is_chain(&steps) { 1 } else { width };
            (stage, width.min(count))
        })
        .collect();
    let limit = context.policy.parallel_steps_max;
    let most = if widths.len() > STAGES_EXACT_MAX {
        widths.iter().map(|(_, width)| *width).fold(0, u32::saturating_add)
    } else {
        heaviest(context, &widths, &mut Vec::new())
    };
    most.min(limit)
}

/// The heaviest set of stages no two of which are ordered.
fn heaviest(context: &Context<'_>, rest: &[(usize, u32)], chosen: &mut Vec<usize>) -> u32 {
    let Some(((stage, width), rest)) = rest.split_first() else {
        return 0;
    };
    let without = heaviest(context, rest, chosen);
    let graph = &context.graph;
    let ordered =
        chosen.iter().any(|other| graph.stage_before(*other, *stage) || graph.stage_before(*stage, *other));
    if ordered {
        return without;
    }
    chosen.push(*stage);
    let with = width.saturating_add(heaviest(context, rest, chosen));
    chosen.pop();
    with.max(without)
}
