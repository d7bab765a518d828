//! A patch touches what is exposed and nothing else, raises versions within the series, and leaves
//! schemas alone.

use std::collections::{BTreeMap, BTreeSet};

use volutus_model::name::{HostName, PackageVersion};
use volutus_model::plan::{Action, PlanKind};
use volutus_model::{Finding, VersionChange};

use crate::context::Context;
use crate::{PLAN_AGAIN, blocking};

pub(crate) fn check_patch(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let PlanKind::Patch { release, changes, .. } = &context.plan.kind else { return };
    let plan = context.plan;
    if plan.from != plan.to {
        findings.push(blocking(
            "patch-leaves-series",
            format!("{} to {}", plan.from, plan.to),
            "a patch stays within its series",
            PLAN_AGAIN,
        ));
    }
    for change in changes {
        if let Some(from) = change.from.iter().find(|from| **from >= change.to) {
            findings.push(blocking(
                "patch-lowers-version",
                &change.distribution,
                format!("{} would take the place of {from}: a fix is never older", change.to),
                PLAN_AGAIN,
            ));
        }
    }
    for (service, version) in &plan.versions {
        if context.catalog.series_of(service, version) != Some(plan.to) {
            findings.push(blocking(
                "version-of-other-series",
                service,
                format!("{version} is not a version of {}", plan.to),
                PLAN_AGAIN,
            ));
        }
    }
    check_touched(context, findings);
    check_content(context, findings);
    for (at, action) in context.graph.actions() {
        let why = match action {
            Action::StageRelease { patch, .. } if patch.as_ref().is_none_or(|p| p.name != *release) => {
                "it stages another release than the patched one"
            }
            Action::StageRelease { .. }
            | Action::Watch { .. }
            | Action::ShadowApi { .. }
            | Action::AskAgain { .. }
            | Action::StopShadow { .. }
            | Action::DrainBackend { .. }
            | Action::UndrainBackend { .. }
            | Action::DisableCompute { .. }
            | Action::EnableCompute { .. }
            | Action::SwitchDaemon { .. }
            | Action::ProveDaemon { .. }
            | Action::BootCanary { .. } => continue,
            Action::MigrateSchema { .. } => "a stable branch takes no migrations",
            _ => "nothing of that kind is needed to close a vulnerability within a series",
        };
        let step = &context.graph.steps[at.step].1.id;
        findings.push(blocking("patch-does-more", step, format!("{}: {why}", action.summary()), PLAN_AGAIN));
    }
}

/// Whatever is switched was seen to be exposed, and has the version afterwards that the change gives it.
fn check_touched(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let PlanKind::Patch { changes, .. } = &context.plan.kind else { return };
    for (id, places) in &context.switches {
        let Some(member) = context.members.get(*id) else { continue };
        if !context.is_exposed(id, member.service) {
            findings.push(blocking(
                "patch-touches-others",
                &context.graph.steps[places[0].step].1.id,
                format!(
                    "{id} was not seen to run anything that is to be replaced, and is switched all the same"
                ),
                PLAN_AGAIN,
            ));
            continue;
        }
        let (own, runs) = (&member.service.distribution, context.runs(id));
        let change = changes.iter().find(|change| {
            change.distribution == *own && runs.is_some_and(|runs| change.from.contains(runs))
        });
        let wanted: Option<&PackageVersion> = change.map(|change| &change.to).or(runs);
        if context.plan.versions.get(&member.service.name) != wanted {
            findings.push(blocking(
                "patch-of-other-version",
                id,
                format!(
                    "afterwards it is to run {}, and the plan proves {}",
                    wanted.map_or("what was not seen", |version| version.as_str()),
                    context
                        .plan
                        .versions
                        .get(&member.service.name)
                        .map_or("nothing", |version| version.as_str())
                ),
                PLAN_AGAIN,
            ));
        }
    }
}

/// On every host the patched release is seen to hold what the switched daemons there need.
fn check_content(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let PlanKind::Patch { changes, .. } = &context.plan.kind else { return };
    let mut wanted: BTreeMap<&HostName, BTreeSet<(&str, &PackageVersion)>> = BTreeMap::new();
    for id in context.switches.keys() {
        let Some(member) = context.members.get(*id) else { continue };
        let own = &member.service.distribution;
        let possible =
            |change: &&VersionChange| context.catalog.may_load(member.service, &change.distribution);
        let replaced = changes.iter().filter(possible).filter(|change| {
            let runs = context.observation.running_package(id, own, &change.distribution);
            runs.is_some_and(|runs| change.from.contains(runs))
        });
        let here = wanted.entry(&id.host).or_default();
        here.extend(replaced.map(|change| (change.distribution.as_str(), &change.to)));
    }
    for (_, action) in context.graph.actions() {
        let Action::StageRelease { host, patch: Some(patch), .. } = action else { continue };
        if let Some(here) = wanted.get_mut(host) {
            here.retain(|(name, version)| patch.packages.get(*name) != Some(*version));
        }
    }
    for (host, missing) in wanted.into_iter().filter(|(_, missing)| !missing.is_empty()) {
        let missing: Vec<String> =
            missing.iter().map(|(name, version)| format!("{name} {version}")).collect();
        findings.push(blocking(
            "patch-content-unproved",
            host,
            format!("nothing sees that the patched release there has {}", missing.join(", ")),
            PLAN_AGAIN,
        ));
    }
}
