//! A replica of an API stops only while it is drained in every backend that it serves in, and is
//! given back in the same step; by itself, or in an exchange with others.

use std::collections::BTreeSet;

use volutus_catalog::DaemonRole;
use volutus_model::name::{BackendName, DaemonId};
use volutus_model::plan::{Action, PlanKind, Refresh, Seat, Step};
use volutus_model::{Finding, MitigationMethod, Severity};

use crate::context::{Context, Member};
use crate::{PLAN_AGAIN, blocking};

pub(crate) fn check_drain(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let undrained = matches!(&context.plan.kind, PlanKind::Mitigation { mitigation, .. }
        if mitigation.method == MitigationMethod::RestartWithoutDrain);
    for (at, action) in context.graph.actions() {
        let stopped: Vec<(&DaemonId, &Member<'_>)> = match action {
            Action::SwitchDaemon { daemon, .. }
            | Action::RefreshDaemon { daemon, how: Refresh::Restart, .. } => {
                context.members.get_key_value(daemon).into_iter().collect()
            }
            Action::RebootHost { host, .. } => {
                context.members.iter().filter(|(_, member)| member.host.name == *host).collect()
            }
            _ => continue,
        };
        let step = context.graph.steps[at.step].1;
        for (id, member) in stopped.into_iter().filter(|(_, member)| member.facts.role == DaemonRole::Api) {
            if undrained {
                findings.push(Finding::new(
                    Severity::Serious,
                    "restart-without-drain",
                    &member.facts.kind,
                    "the mitigation is declared with the method `restart-without-drain`: requests that a \
                     replica is sent while it restarts fail",
                    "Declare `restart`, where it can wait until each replica is drained; or consent to it.",
                ));
                continue;
            }
            for backend in &member.declaration.backends {
                let server = member.declaration.server_name(&member.host.name);
                let server = Server { id, backend, name: &server };
                check_backend(step, at.action, &server, findings);
            }
        }
    }
    for (_, step) in &context.graph.steps {
        check_others(context, step, findings);
    }
}

/// The place of a daemon that stops.
struct Server<'a> {
    id: &'a DaemonId,
    backend: &'a BackendName,
    name: &'a str,
}

impl Server<'_> {
    fn is_among(&self, of: &BackendName, seats: &[Seat]) -> bool {
        of == self.backend && seats.iter().any(|seat| seat.server == self.name)
    }

    fn is_taken_out_by(&self, action: &Action) -> bool {
        match action {
            Action::DrainBackend { backend, server, .. } => backend == self.backend && server == self.name,
            Action::ExchangeReplicas { backend, leave, .. } => self.is_among(backend, leave),
            _ => false,
        }
    }

    fn is_put_in_by(&self, action: &Action) -> bool {
        match action {
            Action::UndrainBackend { backend, server, .. } => backend == self.backend && server == self.name,
            Action::ExchangeReplicas { backend, enter, .. } => self.is_among(backend, enter),
            _ => false,
        }
    }

    fn is_given_back_by(&self, action: &Action) -> bool {
        match action {
            Action::SettleReplicas { backend, replicas, .. } => {
                backend == self.backend && replicas.iter().any(|replica| replica.seat.server == self.name)
            }
            _ => self.is_put_in_by(action),
        }
    }
}

fn check_backend(step: &Step, stop: usize, server: &Server<'_>, findings: &mut Vec<Finding>) {
    let (wanted, name) = (server.backend, server.name);
    let drained = step.actions[..stop].iter().any(|action| server.is_taken_out_by(action));
    if !drained {
        findings.push(blocking(
            "not-drained",
            &step.id,
            format!("the daemon stops while {wanted} still sends requests to {name}"),
            PLAN_AGAIN,
        ));
    }
    let proves = |a: &Action| matches!(a, Action::ProveDaemon { daemon, .. } if daemon == server.id);
    let proof = step.actions.iter().rposition(proves);
    let undrain = step.actions.iter().rposition(|action| server.is_put_in_by(action));
    let in_order = undrain.is_some() && undrain > proof && undrain > Some(stop);
    if !in_order || !step.give_back.iter().any(|action| server.is_given_back_by(action)) {
        findings.push(blocking(
            "not-undrained",
            &step.id,
            format!(
                "{name} is not given back to {wanted} after its proof in the same step, or not \
                 given back when the run is aborted in the middle of it"
            ),
            PLAN_AGAIN,
        ));
    }
}

/// The driver is the last one that can refuse a drain: it must be told the right limit.
fn check_others(context: &Context<'_>, step: &Step, findings: &mut Vec<Finding>) {
    for action in &step.actions {
        let Action::DrainBackend { backend, others_up_min, daemon, .. } = action else {
            continue;
        };
        let Some(Member { facts, .. }) = context.members.get(daemon) else {
            continue;
        };
        let replicas: BTreeSet<_> = context
            .members
            .iter()
            .filter(|(id, member)| id.kind == facts.kind && member.declaration.backends.contains(backend))
            .map(|(id, _)| id)
            .collect();
        let others = u32::try_from(replicas.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let wanted = context.policy.serving_replicas_min.min(others);
        if *others_up_min < wanted {
            findings.push(blocking(
                "drain-unguarded",
                &step.id,
                format!(
                    "it would drain {backend} with only {others_up_min} other servers up; the \
                     policy wants {wanted}"
                ),
                PLAN_AGAIN,
            ));
        }
    }
}
