//! A mitigation runs the declared command once on every host with an exposed daemon and on no other, before
//! anything restarts there; every exposed daemon proves itself behind it, in the version that it ran; and
//! the check sees the mitigation in force once all of that is done.

use std::collections::BTreeMap;

use volutus_model::mitigation::command;
use volutus_model::name::{DaemonId, HostName};
use volutus_model::plan::{Action, PlanKind, Refresh};
use volutus_model::{Finding, Mitigation};

use crate::context::{Context, Member};
use crate::graph::At;
use crate::{PLAN_AGAIN, blocking};

pub(crate) fn check_mitigation(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let PlanKind::Mitigation { mitigation, undo, .. } = &context.plan.kind else { return };
    let plan = context.plan;
    if plan.from != plan.to {
        let subject = format!("{} to {}", plan.from, plan.to);
        findings.push(blocking("mitigation-leaves-series", subject, "no version changes", PLAN_AGAIN));
    }
    if !context.policy.patch.mitigations.contains(mitigation) || (*undo && mitigation.undo.is_empty()) {
        findings.push(blocking(
            "mitigation-undeclared",
            &mitigation.name,
            "the policy that the plan was made under does not declare it so",
            PLAN_AGAIN,
        ));
    }
    let mut exposed: BTreeMap<&HostName, Vec<&DaemonId>> = BTreeMap::new();
    for (id, member) in &context.members {
        if context.is_exposed(id, member.service) {
            exposed.entry(&id.host).or_default().push(id);
            check_link(context, id, member, mitigation, findings);
        }
    }
    let (what, argv) = match undo {
        true => (command::UNDO, &mitigation.undo),
        false => (command::MITIGATE, &mitigation.argv),
    };
    let mut places: BTreeMap<&HostName, Vec<At>> = BTreeMap::new();
    for (at, action) in context.graph.actions() {
        match action {
            Action::RunCommand { host, what: named, argv: given, .. } if named == what && given == argv => {
                places.entry(host).or_default().push(at);
            }
            Action::RunCommand { what: named, argv: given, .. }
                if !*undo && named == command::CHECK && *given == mitigation.check => {}
            Action::RunCommand { what: named, .. } => findings.push(blocking(
                "mitigation-other-command",
                step_of(context, at),
                format!("the command `{named}` is not the one that the mitigation declares"),
                PLAN_AGAIN,
            )),
            other => check_action(context, mitigation, at, other, findings),
        }
    }
    for host in places.keys().filter(|host| !exposed.contains_key(*host)) {
        findings.push(blocking(
            "mitigation-touches-others",
            host,
            "its command runs there, and no daemon there was seen to run anything that is exposed",
            PLAN_AGAIN,
        ));
    }
    for (host, daemons) in exposed {
        match places.get(host).map_or(&[][..], Vec::as_slice) {
            [place] => check_host(context, *place, host, &daemons, findings),
            others => findings.push(blocking(
                "mitigation-not-once",
                host,
                format!("an exposed daemon runs there, and the command runs there {} times", others.len()),
                PLAN_AGAIN,
            )),
        }
    }
}

fn step_of<'a>(context: &Context<'a>, at: At) -> &'a volutus_model::StepId {
    &context.graph.steps[at.step].1.id
}

/// A restart starts what the link says, which in the midst of a change is not what ran.
fn check_link(
    context: &Context<'_>,
    id: &DaemonId,
    member: &Member<'_>,
    mitigation: &Mitigation,
    findings: &mut Vec<Finding>,
) {
    let seen = context.observation.daemons.get(id).and_then(|fact| fact.value());
    let paths = seen.and_then(|seen| Some((seen.link.value()?, seen.release_path.value()?)));
    if let Some((link, runs)) = paths.filter(|(link, runs)| link != runs)
        && mitigation.method.restarts()
    {
        findings.push(blocking(
            "restart-changes-release",
            id,
            format!("it runs from {runs}, and its link points to {link}: a restart would change its version"),
            format!(
                "Let the link of {} point to where it runs from, and plan again.",
                member.declaration.unit
            ),
        ));
    }
}

/// Nothing is done that the method does not need, nor to a daemon that is not exposed.
fn check_action(
    context: &Context<'_>,
    mitigation: &Mitigation,
    at: At,
    action: &Action,
    findings: &mut Vec<Finding>,
) {
    let fits = match action {
        Action::Watch { .. } => true,
        Action::ProveDaemon { daemon, version, .. } => {
            if context.runs(daemon) != Some(version) {
                findings.push(blocking(
                    "mitigation-other-version",
                    daemon,
                    format!("it is to prove {version}, which is not what it was seen to run"),
                    PLAN_AGAIN,
                ));
            }
            true
        }
        Action::RefreshDaemon { daemon, how: Refresh::Restart, .. } => {
            let member = context.members.get(daemon);
            if !member.is_some_and(|member| context.is_exposed(daemon, member.service)) {
                findings.push(blocking(
                    "mitigation-touches-others",
                    step_of(context, at),
                    format!(
                        "{daemon} was not seen to run anything that is exposed, and restarts all the same"
                    ),
                    PLAN_AGAIN,
                ));
            }
            mitigation.method.restarts()
        }
        Action::DrainBackend { .. }
        | Action::UndrainBackend { .. }
        | Action::DisableCompute { .. }
        | Action::EnableCompute { .. }
        | Action::BootCanary { .. } => mitigation.method.restarts(),
        _ => false,
    };
    if !fits {
        findings.push(blocking(
            "mitigation-does-more",
            step_of(context, at),
            format!("{}: the method `{}` needs nothing of that kind", action.summary(), mitigation.method),
            PLAN_AGAIN,
        ));
    }
}

/// What one host's step has to do around the command, which stands at `place`.
fn check_host(
    context: &Context<'_>,
    place: At,
    host: &HostName,
    daemons: &[&DaemonId],
    findings: &mut Vec<Finding>,
) {
    let PlanKind::Mitigation { mitigation, undo, .. } = &context.plan.kind else { return };
    let step = context.graph.steps[place.step].1;
    let behind = &step.actions[place.action + 1..];
    let mut settled = 0;
    for id in daemons {
        let restarts = |a: &Action| matches!(a, Action::RefreshDaemon { daemon, how: Refresh::Restart, .. } if daemon == *id);
        if mitigation.method.restarts() && !behind.iter().any(restarts) {
            findings.push(blocking(
                "restart-before-mitigation",
                &step.id,
                format!("{id} does not restart behind the command in the same step: it would not heed it"),
                PLAN_AGAIN,
            ));
        }
        let proof =
            behind.iter().rposition(|a| matches!(a, Action::ProveDaemon { daemon, .. } if daemon == *id));
        let restart = behind.iter().rposition(restarts);
        match proof.filter(|proof| Some(*proof) > restart) {
            Some(proof) => settled = settled.max(proof),
            None => findings.push(blocking(
                "daemon-unproved",
                id,
                "after the command nothing in the same step sees whether it serves",
                PLAN_AGAIN,
            )),
        }
    }
    let is_check = |a: &Action| matches!(a, Action::RunCommand { host: on, what, .. } if on == host && what == command::CHECK);
    if !*undo && !behind[settled..].iter().any(is_check) {
        findings.push(blocking(
            "mitigation-unchecked",
            host,
            "nothing sees that the mitigation is in force once the daemons there are proved",
            PLAN_AGAIN,
        ));
    }
}
