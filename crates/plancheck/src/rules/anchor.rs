//! Where old code refuses to start once all records are new, records at the old version are kept
//! from before the first switch until nobody needs them.

use std::collections::BTreeMap;

use volutus_catalog::Service;
use volutus_model::Finding;
use volutus_model::name::ServiceName;
use volutus_model::plan::{Action, Anchor};

use crate::context::Context;
use crate::graph::At;
use crate::rules::order::all_before;
use crate::{PLAN_AGAIN, blocking};

pub(crate) fn check_anchor(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let services: BTreeMap<&ServiceName, &Service> =
        context.members.values().map(|member| (&member.service.name, member.service)).collect();
    let (older, newer) = context.series();
    for service in services.into_values() {
        let Some(facts) = &service.anchor else {
            continue;
        };
        let versions = (service.record_versions.get(&older), service.record_versions.get(&newer));
        let (Some(old), Some(new)) = versions else {
            continue;
        };
        let kept = places(context, service, |action| matches!(action, Action::KeepAnchor(_)));
        let released = places(context, service, |action| matches!(action, Action::ReleaseAnchor(_)));
        for (at, anchor) in kept.iter().chain(&released) {
            let right =
                anchor.version == *old && anchor.object == facts.object && anchor.binaries == facts.binaries;
            if !right {
                findings.push(wrong(context, *at, "it is not the anchor that the catalog describes"));
            }
        }
        let old_code = |anchor: &Anchor| {
            let release = anchor.python.strip_suffix("/bin/python3");
            release.is_some_and(|path| context.release_at(path, older, &service.name).is_some())
        };
        for (at, _) in kept.iter().filter(|(_, anchor)| !old_code(anchor)) {
            let why =
                format!("a record carries the version of its writer, which must be of a release of {older}");
            findings.push(wrong(context, *at, why));
        }
        let switches: Vec<At> =
            service.daemons.iter().flat_map(|daemon| context.switches_of(&daemon.kind)).collect();
        let kept: Vec<At> = kept.into_iter().map(|(at, _)| at).collect();
        let released: Vec<At> = released.into_iter().map(|(at, _)| at).collect();
        if old < new && !switches.is_empty() && !given_up(context, service, *old) {
            if kept.is_empty() || !all_before(context, &kept, &switches) {
                findings.push(blocking(
                    "anchor-missing",
                    &service.name,
                    format!(
                        "a daemon of it may be switched before its records at version {old} are kept; \
                         old daemons would refuse to start again"
                    ),
                    PLAN_AGAIN,
                ));
            }
            if released.is_empty() {
                findings.push(blocking(
                    "anchor-not-released",
                    &service.name,
                    "its records at the old version would stay for ever, and hold back what needs all \
                     daemons to be new",
                    PLAN_AGAIN,
                ));
            }
        }
        check_release(context, service, &released, &switches, findings);
    }
}

fn check_release(
    context: &Context<'_>,
    service: &Service,
    released: &[At],
    switches: &[At],
    findings: &mut Vec<Finding>,
) {
    let held = |at: &At| context.graph.stage_of(at.step).held;
    let refreshes: Vec<At> = context
        .graph
        .actions()
        .filter(
            |(_, action)| matches!(action, Action::RefreshDaemon { service: of, .. } if *of == service.name),
        )
        .map(|(at, _)| at)
        .collect();
    let in_time = if context.is_back() {
        all_before(context, switches, released)
    } else {
        released.iter().all(held) && all_before(context, released, &refreshes)
    };
    if !in_time {
        findings.push(blocking(
            "anchor-released-wrongly",
            &service.name,
            if context.is_back() {
                "its records at the old version may go while a daemon still needs them to start"
            } else {
                "its records at the old version have to go when finalize is allowed, not before, and \
                 before its daemons ask for the lowest version anew"
            },
            PLAN_AGAIN,
        ));
    }
}

fn places<'a>(
    context: &Context<'a>,
    service: &Service,
    wanted: fn(&Action) -> bool,
) -> Vec<(At, &'a Anchor)> {
    let of_service = |(at, action): (At, &'a Action)| match action {
        Action::KeepAnchor(anchor) | Action::ReleaseAnchor(anchor)
            if anchor.service == service.name && wanted(action) =>
        {
            Some((at, anchor))
        }
        _ => None,
    };
    context.graph.actions().filter_map(of_service).collect()
}

/// Whether an upgrade goes on from a state in which no anchor can be set any more: some binary has
/// only newer records.
fn given_up(context: &Context<'_>, service: &Service, old: u32) -> bool {
    let records = context.observation.records.get(&service.name).and_then(|fact| fact.value());
    let (Some(records), Some(facts), false) = (records, &service.anchor, context.is_back()) else {
        return false;
    };
    facts.binaries.iter().any(|binary| {
        let of_binary = records.iter().filter(|r| r.binary == *binary && !r.forced_down);
        let versions: Vec<u32> = of_binary.filter_map(|r| r.version.parse().ok()).collect();
        !versions.is_empty() && versions.iter().all(|version| *version > old)
    })
}

fn wrong(context: &Context<'_>, at: At, why: impl Into<String>) -> Finding {
    blocking("anchor-wrong", &context.graph.steps[at.step].1.id, why, PLAN_AGAIN)
}
