//! The way back: plans of it, what they refuse, and that plancheck would see them spoilt.
//! `UPDATE_CASES=1` writes the reviewed files anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::PathBuf;

use support::{back_input, catalog, input, replaced};
use volutus_model::event::Event;
use volutus_model::plan::{Action, Phase, Plan, PlanKind, SchemaClass};
use volutus_model::run::StepStatus;
use volutus_model::{Fact, Finding, Observation, Severity, WayBackClosed};
use volutus_plancheck::{check_plan, preflight};
use volutus_planner::{
    Error, PlanReport, PlanningInput, RollbackInput, plan, plan_rollback, render_markdown,
};

fn compare(name: &str, file: &str, made: &str) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(name);
    let path = folder.join(file);
    if std::env::var_os("UPDATE_CASES").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&path, made).unwrap();
    }
    let kept = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; set UPDATE_CASES=1", path.display()));
    assert!(kept == made, "{} differs from what was made:\n{made}", path.display());
}

fn judge(back: &RollbackInput, made: &Plan) -> Vec<Finding> {
    check_plan(made, &back.inventory, &back.observation, &catalog(), &back.policy)
}

/// Plans the way back of an upgrade in which these daemons were replaced.
fn way_back(
    from: &str,
    to: &str,
    which: impl Fn(&str) -> bool,
    change: impl Fn(&mut Observation),
) -> (RollbackInput, Plan, PlanReport) {
    let input = input(3, 3, from, to);
    let (made, _) = plan(&input, &catalog()).unwrap();
    let mut observation = replaced(&input, &made, which);
    change(&mut observation);
    let back = back_input(&input, &made, observation);
    let (plan, report) = plan_rollback(&back, &catalog()).unwrap();
    assert_eq!(plan.id, plan.compute_id());
    assert_eq!(judge(&back, &plan), [], "{}", render_markdown(&plan, Some(&report)));
    (back, plan, report)
}

fn reviewed(name: &str, plan: &Plan, report: &PlanReport) {
    compare(name, "plan.md", &render_markdown(plan, None));
    compare(name, "report.txt", &report.to_string());
}

fn switched(plan: &Plan) -> Vec<String> {
    let actions = plan.steps().flat_map(|(_, step)| &step.actions);
    let mut daemons: Vec<String> = actions
        .filter_map(|action| match action {
            Action::SwitchDaemon { daemon, .. } => Some(daemon.to_string()),
            _ => None,
        })
        .collect();
    daemons.sort();
    daemons
}

#[test]
fn everything_was_replaced() {
    let (back, plan, report) = way_back("2025.2", "2026.1", |_| true, |_| {});
    reviewed("rollback-all", &plan, &report);
    assert_eq!(switched(&plan).len(), back.inventory.daemons().count());
    let commands = plan.steps().flat_map(|(_, step)| &step.actions);
    assert_eq!(commands.filter(|action| matches!(action, Action::MigrateSchema { .. })).count(), 0);
}

#[test]
fn from_2026_2() {
    let (_, plan, report) = way_back("2026.1", "2026.2", |_| true, |_| {});
    reviewed("rollback-from-2026-2", &plan, &report);
}

#[test]
fn half_was_replaced() {
    let rolled = |id: &str| !id.starts_with("nova-compute") && !id.ends_with("@ctl3");
    let (_, plan, report) = way_back("2025.2", "2026.1", rolled, |_| {});
    reviewed("rollback-half", &plan, &report);
    assert!(switched(&plan).iter().all(|daemon| rolled(daemon)));
}

/// The first compute of the new release died behind a unit that is not active any more.
#[test]
fn halted_at_a_dead_canary() {
    let rolled = |id: &str| !id.starts_with("nova-compute");
    let (_, plan, report) = way_back("2025.2", "2026.1", rolled, |observation| {
        let id: volutus_model::DaemonId = "nova-compute@cmp1".parse().unwrap();
        if let Some(Fact::Observed { value, .. }) = observation.daemons.get_mut(&id) {
            value.active_state = "failed".to_owned();
            value.main_pid = 0;
            value.version = Fact::unobserved("no process runs");
            value.release_path = Fact::unobserved("no process runs");
            value.link = Fact::observed("/opt/openstack/2026.1".to_owned(), "test");
        }
    });
    reviewed("rollback-dead-canary", &plan, &report);
    assert!(switched(&plan).contains(&"nova-compute@cmp1".to_owned()));
    assert!(!switched(&plan).contains(&"nova-compute@cmp2".to_owned()));
}

/// Of two replicas the first one never came up in the new release: it is mended first, and only
/// then the other one is taken out.
#[test]
fn a_broken_replica_is_mended_first() {
    let input = input(2, 2, "2025.2", "2026.1");
    let (made, _) = plan(&input, &catalog()).unwrap();
    let mut observation = replaced(&input, &made, |id| id.starts_with("glance-api"));
    if let Some(Fact::Observed { value, .. }) = observation.backends.get_mut("glance") {
        value.iter_mut().find(|server| server.name == "ctl2").unwrap().status = "DOWN".to_owned();
    }
    let back = back_input(&input, &made, observation);
    let (plan, _) = plan_rollback(&back, &catalog()).unwrap();
    assert_eq!(judge(&back, &plan), []);
    let stage = plan.stages.iter().find(|stage| stage.id.as_str() == "roll-glance-api").unwrap();
    assert_eq!(stage.steps[0].id.as_str(), "roll/glance-api@ctl2");
    assert_eq!(stage.steps[1].requires, [stage.steps[0].id.clone()]);

    let mut spoilt = plan.clone();
    let stage = spoilt.stages.iter_mut().find(|stage| stage.id.as_str() == "roll-glance-api").unwrap();
    stage.steps.reverse();
    let (first, second) = (stage.steps[0].id.clone(), stage.steps[1].id.clone());
    stage.steps[0].requires.clear();
    stage.steps[1].requires = vec![first];
    assert_ne!(second.as_str(), "");
    spoilt.id = spoilt.compute_id();
    assert!(judge(&back, &spoilt).iter().any(|finding| finding.code == "budget-exceeded"));
}

/// A daemon that is active and did not prove itself serves nobody: the run's journal knows it, and
/// what serves beside it has to go on until it is back.
#[test]
fn what_did_not_prove_itself_goes_back_first() {
    let input = input(3, 3, "2025.2", "2026.1");
    let (made, _) = plan(&input, &catalog()).unwrap();
    let two = ["nova-scheduler@ctl1", "nova-scheduler@ctl2"];
    let mut back = back_input(&input, &made, replaced(&input, &made, |daemon| two.contains(&daemon)));
    let failed = "roll/nova-scheduler@ctl2".parse().unwrap();
    back.state.steps.insert(failed, StepStatus::Failed { action: 1 });
    let (plan, _) = plan_rollback(&back, &catalog()).unwrap();
    assert_eq!(judge(&back, &plan), []);
    let stage = plan.stages.iter().find(|stage| stage.id.as_str() == "roll-nova-scheduler").unwrap();
    let order: Vec<&str> = stage.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(order, ["roll/nova-scheduler@ctl2", "roll/nova-scheduler@ctl1"]);
    assert_eq!(stage.steps[1].requires, [stage.steps[0].id.clone()]);
}

#[test]
fn only_the_anchor_is_left() {
    let (_, plan, _) = way_back("2025.2", "2026.1", |_| false, |_| {});
    assert_eq!(switched(&plan), Vec::<String>::new());
    let releases = plan.steps().flat_map(|(_, step)| &step.actions);
    assert_eq!(releases.filter(|action| matches!(action, Action::ReleaseAnchor(_))).count(), 1);
}

#[test]
fn nothing_is_to_be_taken_back() {
    let input = input(3, 3, "2025.2", "2026.1");
    let (made, _) = plan(&input, &catalog()).unwrap();
    let back = back_input(&input, &made, input.observation.clone());
    assert!(matches!(plan_rollback(&back, &catalog()), Err(Error::NothingToTakeBack { .. })));
}

#[test]
fn after_finalize_was_allowed_it_is_refused() {
    let input = input(3, 3, "2025.2", "2026.1");
    let (made, _) = plan(&input, &catalog()).unwrap();
    let mut back = back_input(&input, &made, replaced(&input, &made, |_| true));
    back.state.finalize_allowed = true;
    let error = plan_rollback(&back, &catalog()).unwrap_err();
    assert!(error.to_string().contains("finalize was allowed"), "{error}");
}

fn with_segment_ranges(input: &mut PlanningInput) {
    for fact in input.observation.hosts.values_mut() {
        if let Fact::Observed { value, .. } = fact
            && let Some(options) = value.options.get_mut("/etc/neutron/neutron.conf")
        {
            options.insert("DEFAULT/service_plugins".to_owned(), "network_segment_range".to_owned());
        }
    }
}

/// The expand that closes the way back comes when everything else has been replaced and proved;
/// until it begins the way back is open, and then its copy is named.
#[test]
fn an_expand_that_closes_the_way_back_comes_late_and_names_its_copy() {
    let mut input = input(3, 3, "2025.2", "2026.1");
    with_segment_ranges(&mut input);
    let (made, _) = plan(&input, &catalog()).unwrap();
    let findings = check_plan(&made, &input.inventory, &input.observation, &catalog(), &input.policy);
    assert_eq!(findings, [], "{findings:#?}");
    let neutron = made.rollback.iter().find(|horizon| horizon.service.as_str() == "neutron").unwrap();
    assert_eq!(neutron.class, SchemaClass::Restore);
    assert_eq!(made.point_of_no_return.as_ref().unwrap().as_str(), "expand-neutron");
    let late = made.stages.iter().find(|stage| stage.id.as_str() == "expand-neutron").unwrap();
    let awaited: Vec<&str> = late.after.iter().map(|stage| stage.as_str()).collect();
    for before in ["waves-nova-compute", "roll-glance-api", "roll-cinder-api", "roll-keystone-api"] {
        assert!(awaited.contains(&before), "{awaited:?}");
    }

    let mut back = back_input(&input, &made, replaced(&input, &made, |_| true));
    back.state.steps.insert("snapshot/neutron".parse().unwrap(), StepStatus::Completed);
    assert_eq!(WayBackClosed::of(&made, &back.state), None);
    let running = StepStatus::Running { action: 0, attempt: None };
    back.state.steps.insert("expand/neutron".parse().unwrap(), running);
    let error = plan_rollback(&back, &catalog()).unwrap_err().to_string();
    assert!(error.contains("/var/lib/volutus/snapshots/described-2026.1"), "{error}");
    assert!(error.contains("infra1"), "{error}");
}

#[test]
fn without_an_anchor_and_with_new_records_alone_it_is_refused_before_anything_is_done() {
    let input = input(3, 3, "2025.2", "2026.1");
    let (made, _) = plan(&input, &catalog()).unwrap();
    let mut observation = replaced(&input, &made, |_| true);
    if let Some(Fact::Observed { value, .. }) = observation.records.get_mut("nova") {
        value.retain(|record| !record.is_anchor());
    }
    let back = back_input(&input, &made, observation);
    let error = plan_rollback(&back, &catalog()).unwrap_err();
    assert!(matches!(error, Error::NoAnchor { version: 70, .. }), "{error}");
}

#[test]
fn a_rollback_is_not_taken_back() {
    let (mut back, plan, _) = way_back("2025.2", "2026.1", |_| true, |_| {});
    back.of = plan;
    assert!(matches!(plan_rollback(&back, &catalog()), Err(Error::WayBackClosed { .. })));
}

/// After a rollback the schema has the newer heads already, and the same upgrade plans again.
#[test]
fn the_same_upgrade_plans_again_on_the_widened_schema() {
    let mut input = input(3, 3, "2025.2", "2026.1");
    for fact in input.observation.schemas.values_mut() {
        let heads = [("main".to_owned(), vec!["the-newer-head".to_owned()])].into();
        *fact = Fact::observed(heads, "test");
    }
    let (made, _) = plan(&input, &catalog()).unwrap();
    let findings = check_plan(&made, &input.inventory, &input.observation, &catalog(), &input.policy);
    assert_eq!(findings, []);
}

#[test]
fn the_next_hop_waits_until_the_anchor_is_gone() {
    let input = input(3, 3, "2025.2", "2026.1");
    let (made, _) = plan(&input, &catalog()).unwrap();
    let mut next = input.clone();
    next.observation = replaced(&input, &made, |_| true);
    next.target = "2026.2".parse().unwrap();
    let error = plan(&next, &catalog()).unwrap_err();
    assert!(matches!(error, Error::OtherAnchor { .. }), "{error}");
    let versions = catalog().series[&next.target].versions.clone();
    let (from, to) = (made.to, next.target);
    let findings =
        preflight(&next.inventory, &next.observation, &catalog(), from, to, &versions, &next.policy);
    let blocking = findings.iter().filter(|finding| finding.severity == Severity::Blocking);
    assert!(blocking.map(|finding| finding.code.as_str()).all(|code| code == "anchor-of-earlier-run"));
    assert!(findings.iter().any(|finding| finding.code == "anchor-of-earlier-run"));
}

/// A run that was given up with everything replaced is brought to its end by a plan that only
/// watches and finalizes.
#[test]
fn what_was_replaced_and_given_up_can_be_finalized() {
    let input = input(3, 3, "2025.2", "2026.1");
    let (made, _) = plan(&input, &catalog()).unwrap();
    let mut again = input.clone();
    again.observation = replaced(&input, &made, |_| true);
    let (plan, _) = plan(&again, &catalog()).unwrap();
    assert_eq!((plan.from, plan.to), (made.from, made.to));
    assert_eq!(switched(&plan), Vec::<String>::new());
    assert!(plan.stages.iter().any(|stage| stage.id.as_str() == "release-nova" && stage.held));
    let findings = check_plan(&plan, &again.inventory, &again.observation, &catalog(), &again.policy);
    assert_eq!(findings, [], "{findings:#?}");
}

/// An anchor of this very hop stands in nobody's way, and is told of.
#[test]
fn an_anchor_of_this_hop_blocks_nothing() {
    let input = input(3, 3, "2025.2", "2026.1");
    let (made, _) = plan(&input, &catalog()).unwrap();
    let mut again = input.clone();
    again.observation = replaced(&input, &made, |_| false);
    assert!(plan(&again, &catalog()).is_ok());
    let findings = preflight(
        &again.inventory,
        &again.observation,
        &catalog(),
        made.from,
        made.to,
        &made.versions,
        &again.policy,
    );
    assert!(findings.iter().all(|finding| finding.severity < Severity::Warning), "{findings:#?}");
    assert!(findings.iter().any(|finding| finding.code == "anchor-kept"));
}

#[track_caller]
fn expect(code: &str, spoil: impl Fn(&mut Plan)) {
    let (back, plan, _) = way_back("2025.2", "2026.1", |_| true, |_| {});
    let mut made = plan.clone();
    spoil(&mut made);
    assert_ne!(made, plan, "nothing was spoilt");
    made.id = made.compute_id();
    let findings = judge(&back, &made);
    let found = findings.iter().any(|f| f.code == code && f.severity == Severity::Blocking);
    assert!(found, "`{code}` is not among {findings:#?}");
}

fn stage<'p>(plan: &'p mut Plan, id: &str) -> &'p mut volutus_model::Stage {
    plan.stages.iter_mut().find(|stage| stage.id.as_str() == id).unwrap()
}

#[test]
fn spoilt_ways_back_are_caught() {
    expect("daemon-order", |plan| {
        stage(plan, "roll-nova-conductor").after.retain(|stage| stage.as_str().starts_with("anchor"));
        let at = plan.stages.iter().position(|stage| stage.id.as_str() == "roll-nova-conductor").unwrap();
        let moved = plan.stages.remove(at);
        let anchor = plan.stages.iter().position(|stage| stage.id.as_str() == "anchor-nova").unwrap();
        plan.stages.insert(anchor + 1, moved);
    });
    expect("service-order", |plan| stage(plan, "roll-placement-api").after.clear());
    expect("anchor-missing", |plan| {
        stage(plan, "canary-nova-compute").after.retain(|s| s.as_str() != "anchor-nova");
    });
    expect("anchor-released-wrongly", |plan| stage(plan, "release-nova").after.clear());
    expect("anchor-not-released", |plan| plan.stages.retain(|stage| stage.id.as_str() != "release-nova"));
    expect("anchor-wrong", |plan| {
        if let Action::KeepAnchor(anchor) = &mut stage(plan, "anchor-nova").steps[0].actions[0] {
            anchor.python = anchor.python.replace("2025.2", "2026.1");
        }
    });
    expect("no-canary", |plan| {
        stage(plan, "canary-nova-compute").steps[0].actions.pop();
    });
    expect("not-drained", |plan| {
        stage(plan, "roll-glance-api").steps[0].actions.remove(0);
    });
    expect("not-staged", |plan| {
        stage(plan, "stage-control").steps.pop();
    });
    expect("switch-of-other-release", |plan| {
        for action in &mut stage(plan, "roll-nova-scheduler").steps[0].actions {
            if let Action::SwitchDaemon { from, to, .. } = action {
                std::mem::swap(from, to);
            }
        }
    });
    expect("rollback-held", |plan| {
        let stage = stage(plan, "soak");
        stage.held = true;
        stage.phase = Phase::Finalize;
    });
    expect("plan-direction", |plan| plan.kind = PlanKind::Upgrade);
}

#[test]
fn a_schema_command_on_the_way_back_is_caught() {
    let input = input(3, 3, "2025.2", "2026.1");
    let (forward, _) = plan(&input, &catalog()).unwrap();
    let expand = forward.steps().find(|(_, step)| step.id.as_str() == "expand/keystone").unwrap().1.clone();
    expect("rollback-changes-schema", |plan| stage(plan, "soak").steps.push(expand.clone()));
}

/// The id of a plan that leads forward does not depend on the word for its kind, so that plans
/// that were approved before there was any stay approved.
#[test]
fn a_plan_without_a_kind_is_read_as_an_upgrade_of_the_same_id() {
    let (made, _) = plan(&input(3, 3, "2025.2", "2026.1"), &catalog()).unwrap();
    let text = serde_json::to_value(&made).unwrap();
    assert!(text.get("kind").is_none());
    assert!(text["policy"].get("on_failure").is_none());
    let read: Plan = serde_json::from_value(text).unwrap();
    assert_eq!(read, made);
    assert_eq!(read.compute_id(), made.id);
    // The types of events that only the way back needs are part of the same journal format.
    let due = Event::RollbackDue { cause: "a proof failed".to_owned() };
    let text = serde_json::to_string(&due).unwrap();
    assert_eq!(text, r#"{"event":"rollback-due","cause":"a proof failed"}"#);
}
