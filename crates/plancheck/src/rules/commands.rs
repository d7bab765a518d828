//! Commands and switches name the right release: a schema command of the old release on a
//! widened schema fails, or worse.

use std::collections::BTreeSet;

use volutus_model::Finding;
use volutus_model::plan::{Action, Proof};

use crate::context::Context;
use crate::{PLAN_AGAIN, blocking};

pub(crate) fn check_commands(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let releases = &context.inventory.releases;
    let to = context.plan.to;
    for (at, action) in context.graph.actions() {
        let step = &context.graph.steps[at.step].1.id;
        match action {
            Action::CheckUpgrade { service, argv, .. } | Action::MigrateSchema { service, argv, .. } => {
                let release = format!("{}/", releases.path_of(to, service));
                if !argv.first().is_some_and(|program| program.starts_with(&release)) {
                    findings.push(blocking(
                        "command-of-other-release",
                        step,
                        format!("{argv:?} is not a program of the new release in {release}"),
                        PLAN_AGAIN,
                    ));
                }
            }
            Action::StageRelease { host, versions, lock: Some(lock), .. } => {
                for (service, version) in versions {
                    let distribution = context.catalog.services.get(service).map(|known| &known.distribution);
                    let locked = distribution.and_then(|name| lock.packages.get(name));
                    if locked.is_none_or(|package| package.version != *version) {
                        let message = format!(
                            "it stages {service} {version} on {host}, which is not the version of the locked release {}",
                            lock.name
                        );
                        findings.push(blocking("staged-otherwise-than-locked", step, message, PLAN_AGAIN));
                    }
                }
            }
            Action::SwitchDaemon { daemon, service, unit, link, from: old, to: new } => {
                let Some(member) = context.members.get(daemon) else {
                    continue;
                };
                let right = *service == member.service.name
                    && *unit == member.declaration.unit
                    && *link == releases.current_of(service, &daemon.kind)
                    && context.is_old_release(daemon, service, old)
                    && context.is_new_release(service, new);
                if !right {
                    findings.push(blocking(
                        "switch-of-other-release",
                        step,
                        format!(
                            "it switches {link} of {unit} ({service}) from {old} to {new}, which \
                             is not what the cloud description says of {daemon}"
                        ),
                        PLAN_AGAIN,
                    ));
                }
            }
            Action::ProveDaemon { daemon, service, version, proofs, .. } => {
                if context.plan.versions.get(service) != Some(version) {
                    findings.push(blocking(
                        "proof-of-other-version",
                        step,
                        format!("it proves {version}, which is not the plan's version of {service}"),
                        PLAN_AGAIN,
                    ));
                }
                check_proofs(context, daemon, step, proofs, findings);
            }
            _ => {}
        }
    }
}

/// The version of a process alone does not tell whether it serves.
fn check_proofs(
    context: &Context<'_>,
    daemon: &volutus_model::DaemonId,
    step: &volutus_model::StepId,
    proofs: &[Proof],
    findings: &mut Vec<Finding>,
) {
    let Some(member) = context.members.get(daemon) else {
        return;
    };
    let mut wanted = BTreeSet::new();
    if member.facts.health.is_some() && member.declaration.port.is_some() {
        wanted.insert("an answer of its own port");
    }
    if member.facts.record.is_some() {
        wanted.insert("its service record");
    }
    for proof in proofs {
        match proof {
            Proof::Http { .. } => wanted.remove("an answer of its own port"),
            Proof::ServiceRecord { .. } => wanted.remove("its service record"),
            Proof::Steady { .. } => false,
        };
    }
    if proofs.is_empty() || !wanted.is_empty() {
        let missing = if wanted.is_empty() {
            "anything but its version".to_owned()
        } else {
            wanted.into_iter().collect::<Vec<_>>().join(", ")
        };
        findings.push(blocking(
            "proof-too-weak",
            step,
            format!("{daemon} is believed to serve without a look at {missing}"),
            PLAN_AGAIN,
        ));
    }
}
