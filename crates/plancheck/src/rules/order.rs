//! What must come before what: staging before switching, the upgrade check before expanding,
//! expanding before rolling, and services and daemons in the catalog's order.

use std::collections::{BTreeMap, BTreeSet};

use volutus_catalog::Service;
use volutus_model::Finding;
use volutus_model::PatchName;
use volutus_model::name::{HostName, ServiceName};
use volutus_model::plan::{Action, SchemaPhase};

use crate::context::Context;
use crate::graph::At;
use crate::{PLAN_AGAIN, blocking};

/// Pairs of actions within one stage that are compared one by one.
const PAIRS_MAX: usize = 100_000;

pub(crate) fn check_order(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let mut staged: Staged<'_> = BTreeMap::new();
    let mut checks: BTreeMap<&ServiceName, Vec<At>> = BTreeMap::new();
    let mut expands: BTreeMap<&ServiceName, Vec<At>> = BTreeMap::new();
    for (at, action) in context.graph.actions() {
        match action {
            Action::StageRelease { host, series, patch, .. } if *series == context.plan.to => {
                let name = patch.as_ref().map(|patch| patch.name.clone());
                staged.entry((host, name)).or_default().push(at);
            }
            Action::CheckUpgrade { service, .. } => checks.entry(service).or_default().push(at),
            Action::MigrateSchema { service, phase: SchemaPhase::Expand, .. } => {
                expands.entry(service).or_default().push(at);
            }
            _ => {}
        }
    }
    check_staged(context, &staged, findings);
    let services: BTreeMap<&ServiceName, &Service> =
        context.members.values().map(|member| (&member.service.name, member.service)).collect();
    let none = Vec::new();
    for (name, service) in &services {
        let expands = expands.get(name).unwrap_or(&none);
        let checks = checks.get(name).unwrap_or(&none);
        let rolls: Vec<At> =
            service.daemons.iter().flat_map(|daemon| context.switches_of(&daemon.kind)).collect();
        if rolls.is_empty() {
            continue;
        }
        // The way back has no schema to widen and no code that is new here, and a patch stays within
        // what the schema is for.
        if context.is_back() || context.is_patch() {
            check_kinds(context, service, findings);
            for other in service.after.iter().filter_map(|name| services.get(name)) {
                check_services(context, service, other, findings);
            }
            continue;
        }
        if expands.len() < service.expand.len() {
            findings.push(blocking(
                "expand-missing",
                name,
                format!(
                    "its new code needs {} schema commands, and the plan runs {}",
                    service.expand.len(),
                    expands.len()
                ),
                PLAN_AGAIN,
            ));
        }
        let first_touch = if expands.is_empty() { &rolls } else { expands };
        if checks.is_empty() || !all_before(context, checks, first_touch) {
            findings.push(blocking(
                "check-not-first",
                name,
                "its schema or daemons are touched before its upgrade check is complete",
                PLAN_AGAIN,
            ));
        }
        if !all_before(context, expands, &rolls) {
            findings.push(blocking(
                "roll-before-expand",
                name,
                "a daemon of it is replaced before its schema is widened",
                PLAN_AGAIN,
            ));
        }
        check_kinds(context, service, findings);
        for other in service.after.iter().filter_map(|name| services.get(name)) {
            check_services(context, service, other, findings);
        }
    }
}

/// Where releases are staged: by host, and by name where it is a patched one.
type Staged<'a> = BTreeMap<(&'a HostName, Option<PatchName>), Vec<At>>;

fn check_staged(context: &Context<'_>, staged: &Staged<'_>, findings: &mut Vec<Finding>) {
    // Commands of the new release need it on their host just as daemons do.
    let mut needs: BTreeSet<(&HostName, Option<PatchName>, At)> = BTreeSet::new();
    let of = |path: &str, service: &ServiceName| context.release_at(path, context.plan.to, service).flatten();
    for (at, action) in context.graph.actions() {
        match action {
            Action::SwitchDaemon { daemon, service, to, .. } => {
                needs.insert((&daemon.host, of(to, service), at))
            }
            Action::ShadowApi { shadow, .. } => {
                needs.insert((&shadow.daemon.host, of(&shadow.to, &shadow.service), at))
            }
            Action::CheckUpgrade { host, .. } | Action::MigrateSchema { host, .. } => {
                needs.insert((host, None, at))
            }
            _ => false,
        };
    }
    for (host, release, at) in needs {
        let before = staged
            .get(&(host, release))
            .is_some_and(|places| places.iter().any(|place| context.graph.before(*place, at)));
        if !before {
            findings.push(blocking(
                "not-staged",
                &context.graph.steps[at.step].1.id,
                format!("it needs the new release on {host} before it is certain to be there"),
                PLAN_AGAIN,
            ));
        }
    }
}

fn check_kinds(context: &Context<'_>, service: &Service, findings: &mut Vec<Finding>) {
    for daemon in &service.daemons {
        let rolls = context.switches_of(&daemon.kind);
        for before in &daemon.after {
            let others = context.switches_of(before);
            let (first, then) = if context.is_back() { (&rolls, &others) } else { (&others, &rolls) };
            if !all_before(context, first, then) {
                let why = if context.is_back() {
                    format!("a {before} may be put back before every one of them is")
                } else {
                    format!("one of them may be replaced before every {before} is")
                };
                findings.push(blocking("daemon-order", &daemon.kind, why, PLAN_AGAIN));
            }
        }
    }
}

fn check_services(context: &Context<'_>, service: &Service, first: &Service, findings: &mut Vec<Finding>) {
    let control = |service: &Service| -> Vec<At> {
        let kinds = service.daemons.iter().filter(|d| d.role.is_central());
        kinds.flat_map(|daemon| context.switches_of(&daemon.kind)).collect()
    };
    let all: Vec<At> = service.daemons.iter().flat_map(|daemon| context.switches_of(&daemon.kind)).collect();
    let below = control(first);
    let (before, behind) = if context.is_back() { (&all, &below) } else { (&below, &all) };
    if !all_before(context, before, behind) {
        let why = if context.is_back() {
            format!("{} may be put back before all of it is", first.name)
        } else {
            format!("a daemon of it may be replaced before all of {} is", first.name)
        };
        findings.push(blocking("service-order", &service.name, why, PLAN_AGAIN));
    }
}

/// Whether every action of `first` is complete before any of `then` starts. Actions are compared
/// by their stages as far as that decides, so that thousands of computes cost nothing.
pub(crate) fn all_before(context: &Context<'_>, first: &[At], then: &[At]) -> bool {
    let stages = |places: &[At]| -> BTreeMap<usize, Vec<At>> {
        let mut by_stage: BTreeMap<usize, Vec<At>> = BTreeMap::new();
        for at in places {
            by_stage.entry(context.graph.steps[at.step].0).or_default().push(*at);
        }
        by_stage
    };
    let (first, then) = (stages(first), stages(then));
    first.iter().all(|(a, places_a)| {
        then.iter().all(|(b, places_b)| {
            if a != b {
                return context.graph.stage_before(*a, *b);
            }
            places_a.len() * places_b.len() <= PAIRS_MAX
                && places_a.iter().all(|x| places_b.iter().all(|y| context.graph.before(*x, *y)))
        })
    })
}
