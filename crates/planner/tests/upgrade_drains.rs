//! Upgrades that empty compute hosts: one pass over the fleet upgrades and restarts, and plancheck sees what is
//! wrong with a plan of that.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeSet;

use support::{back_input, catalog, fleet, input, part_of, reboot_policy, replaced, set_running};
use volutus_model::fleet::{Availability, Fleet, Selection};
use volutus_model::plan::{Action, Phase, Step};
use volutus_model::{Finding, HostName, Plan, Severity};
use volutus_plancheck::{check_joined, check_plan, check_reboot};
use volutus_planner::{PlanReport, PlanningInput, plan, plan_rollback};

/// Three controllers and the four computes, of which those that are meant are emptied.
fn joined(
    at_once: u32,
    selection: &Selection,
    change: impl Fn(&mut PlanningInput, &mut Fleet),
) -> PlanningInput {
    let (mut input, mut fleet) = (input(3, 4, "2025.2", "2026.1"), fleet());
    change(&mut input, &mut fleet);
    input.drains = Some(part_of(&input, &mut fleet, &reboot_policy(at_once), selection));
    input
}

fn all(at_once: u32) -> PlanningInput {
    joined(at_once, &Selection::default(), |_, _| ())
}

fn only(hosts: &str) -> Selection {
    Selection { hosts: Some(hosts.to_owned()), ..Selection::default() }
}

fn judge(input: &PlanningInput, made: &Plan) -> Vec<Finding> {
    let mut findings = check_plan(made, &input.inventory, &input.observation, &catalog(), &input.policy);
    findings.extend(check_joined(made, input.drains.as_ref().unwrap()));
    findings
}

/// The plan, which breaks no rule.
fn made(input: &PlanningInput) -> (Plan, PlanReport) {
    let (made, report) = plan(input, &catalog()).unwrap();
    assert_eq!(judge(input, &made), []);
    (made, report)
}

fn step<'p>(plan: &'p Plan, id: &str) -> &'p Step {
    plan.steps().map(|(_, step)| step).find(|step| step.id.as_str() == id).unwrap()
}

fn summaries(step: &Step) -> Vec<String> {
    step.actions.iter().map(Action::summary).collect()
}

fn hosts_of(plan: &Plan, what: fn(&Action) -> Option<&HostName>) -> Vec<String> {
    let actions = plan.steps().flat_map(|(_, step)| &step.actions);
    actions.filter_map(what).map(ToString::to_string).collect()
}

fn switched(action: &Action) -> Option<&HostName> {
    match action {
        Action::SwitchDaemon { daemon, .. } if daemon.kind.as_str() == "nova-compute" => Some(&daemon.host),
        _ => None,
    }
}

fn restarted(action: &Action) -> Option<&HostName> {
    match action {
        Action::RebootHost { host, .. } => Some(host),
        _ => None,
    }
}

#[test]
fn one_pass_empties_upgrades_restarts_proves_and_gives_back() {
    let mut input = all(1);
    let mut reboot = input.drains.take().unwrap();
    let act = &mut reboot.content.policy.act;
    act.before = vec!["/opt/site/begin".to_owned()];
    act.packages = vec!["*".to_owned()];
    act.after = vec!["/opt/site/end".to_owned()];
    input.drains = Some(volutus_model::fleet::RebootPlan::new(reboot.content));
    let (made, _) = made(&input);
    assert_eq!(made.drains.as_ref().unwrap().of, input.drains.as_ref().unwrap().id);
    insta::assert_snapshot!(summaries(step(&made, "reboot/cmp1")).join("\n"), @r"
    disable nova-compute on cmp1, settle
    move 3 instances off cmp1
    prove cmp1 empty
    run the command `before` on cmp1
    switch nova-compute@cmp1
    run the command `packages` on cmp1
    reboot cmp1
    prove nova-compute@cmp1 serves 33.0.2
    run the command `after` on cmp1
    enable nova-compute on cmp1
    boot a canary instance on cmp1
    ");
    let (mut upgraded, mut rebooted) = (hosts_of(&made, switched), hosts_of(&made, restarted));
    assert_eq!(rebooted[0], "cmp4", "the empty one takes what the others carry");
    upgraded.sort();
    rebooted.sort();
    assert_eq!(
        (&upgraded[..], &rebooted[..]),
        (&["cmp1", "cmp2", "cmp3", "cmp4"].map(str::to_owned)[..], &upgraded[..])
    );
    let moved: Vec<&String> = made
        .steps()
        .flat_map(|(_, step)| &step.actions)
        .filter_map(|action| match action {
            Action::MoveInstances { moves, .. } => Some(moves),
            _ => None,
        })
        .flatten()
        .map(|moved| &moved.instance)
        .collect();
    assert_eq!(moved.len(), 9);
    assert_eq!(moved.iter().collect::<BTreeSet<_>>().len(), 9, "every instance moves once");
    assert!(!made.stages.iter().any(|stage| stage.phase == Phase::Canary), "nothing is replaced in place");
}

#[test]
fn the_first_host_proves_the_release_before_another_is_upgraded() {
    // Two empty ones: both could begin at once.
    let input =
        joined(2, &Selection::default(), |_, fleet| fleet.instances.retain(|i| i.host.as_str() != "cmp3"));
    assert!(input.drains.as_ref().unwrap().content.drains.iter().filter(|d| d.disable_ms == 0).count() == 2);
    let (made, _) = made(&input);
    let stage = made.stages.iter().find(|stage| stage.id.as_str() == "reboot-computes").unwrap();
    let first = stage.steps.iter().find(|step| step.requires.is_empty()).unwrap();
    for other in stage.steps.iter().filter(|step| step.id != first.id) {
        assert!(other.requires.contains(&first.id), "{} does not wait for {}", other.id, first.id);
    }
    let mut spoilt = made.clone();
    for step in spoilt.stages.iter_mut().flat_map(|stage| &mut stage.steps) {
        step.requires.retain(|id| *id != first.id);
    }
    spoilt.id = spoilt.compute_id();
    assert!(judge(&input, &spoilt).iter().any(|finding| finding.code == "no-canary"));
}

#[test]
fn others_are_upgraded_in_place_before_anything_moves_onto_them() {
    let input = joined(1, &only("cmp1"), |_, fleet| {
        fleet.hosts[1].availability = Availability::Disabled { reason: "memory errors".to_owned() };
    });
    let (made, report) = made(&input);
    assert_eq!(hosts_of(&made, restarted), ["cmp1"]);
    let position = |id: &str| made.stages.iter().position(|stage| stage.id.as_str() == id).unwrap();
    assert!(position("canary-nova-compute") < position("waves-nova-compute"));
    assert!(position("waves-nova-compute") < position("reboot-computes"));
    let mut upgraded = hosts_of(&made, switched);
    assert_eq!(upgraded.pop().unwrap(), "cmp1");
    upgraded.sort();
    assert_eq!(upgraded, ["cmp2", "cmp3", "cmp4"]);
    // Before anything is drained the code is there.
    let staged = made.stages.iter().find(|stage| stage.id.as_str() == "stage-computes").unwrap();
    assert!(staged.steps.iter().any(|step| step.id.as_str() == "stage/cmp1"));
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.subject == "instances" && note.text.starts_with("3 of them move"))
    );
}

#[test]
fn a_host_that_cannot_be_emptied_is_upgraded_beside_its_instances() {
    let input = joined(1, &Selection::default(), |_, fleet| {
        let here = fleet.instances.iter_mut().filter(|instance| instance.host.as_str() == "cmp2");
        here.for_each(|instance| instance.choice = Some(volutus_model::fleet::OwnerChoice::Never));
    });
    assert_eq!(input.drains.as_ref().unwrap().content.left.len(), 1);
    let (made, report) = made(&input);
    assert!(!hosts_of(&made, restarted).contains(&"cmp2".to_owned()));
    assert!(hosts_of(&made, switched).contains(&"cmp2".to_owned()));
    let told = report.findings.iter().find(|finding| finding.code == "upgraded-in-place").unwrap();
    assert_eq!((told.subject.as_str(), told.severity), ("cmp2", Severity::Warning));
}

#[test]
fn a_host_that_is_upgraded_already_is_only_emptied_and_restarted() {
    let input = joined(1, &Selection::default(), |input, _| {
        set_running(&mut input.observation, "nova-compute@cmp2", "2026.1");
    });
    let (made, _) = made(&input);
    assert!(!hosts_of(&made, switched).contains(&"cmp2".to_owned()));
    assert_eq!(hosts_of(&made, restarted).len(), 4);
}

#[test]
fn no_instance_moves_from_newer_code_to_older() {
    // No host is empty, so that one is emptied onto hosts that wait: not onto older ones.
    let crowded = |input: &mut PlanningInput, fleet: &mut Fleet| {
        fleet.hosts.truncate(3);
        fleet.instances.retain(|instance| instance.id != "i13");
        input.inventory.hosts.retain(|host| host.name.as_str() != "cmp4");
        input.observation.inventory = input.inventory.digest();
        input.observation.daemons.remove(&"nova-compute@cmp4".parse().unwrap());
    };
    let input = joined(1, &Selection::default(), crowded);
    let reboot = input.drains.as_ref().unwrap();
    assert!(reboot.content.moves.iter().any(|moved| moved.moves_again));
    let (made, _) = made(&input);
    // The host that goes first, had it been upgraded before.
    let first = reboot.content.drains[0].host.clone();
    let ahead = joined(1, &Selection::default(), |input, fleet| {
        crowded(input, fleet);
        set_running(&mut input.observation, &format!("nova-compute@{first}"), "2026.1");
    });
    let other = &ahead.drains.as_ref().unwrap().content;
    assert!(!other.moves.iter().any(|moved| moved.moves_again && moved.from == first), "{:?}", other.moves);
    // A plan that does so all the same is seen by both checks.
    let mut fleet = fleet();
    let mut changed = input.clone();
    crowded(&mut changed, &mut fleet);
    for host in &mut fleet.hosts {
        let newer = if host.name == first { "2026.1" } else { "2025.2" };
        host.release = Some(newer.parse().unwrap());
    }
    let codes = |findings: Vec<Finding>| -> Vec<String> { findings.into_iter().map(|f| f.code).collect() };
    let found = codes(check_reboot(reboot, &fleet, &reboot.content.policy));
    assert!(found.contains(&"fleet-place".to_owned()), "{found:?}");
    set_running(&mut changed.observation, &format!("nova-compute@{first}"), "2026.1");
    let found = codes(judge(&changed, &made));
    assert!(found.contains(&"moved-onto-older-code".to_owned()), "{found:?}");
}

#[test]
fn what_is_wrong_with_such_a_plan_is_found() {
    let input = all(2);
    let (good, _) = made(&input);
    let spoilt = |spoil: &dyn Fn(&mut Plan)| -> Vec<String> {
        let mut plan = good.clone();
        spoil(&mut plan);
        assert_ne!(plan, good, "nothing was spoilt");
        plan.id = plan.compute_id();
        judge(&input, &plan).into_iter().map(|finding| finding.code).collect()
    };
    fn on<'p>(plan: &'p mut Plan, id: &str) -> &'p mut Step {
        let steps = plan.stages.iter_mut().flat_map(|stage| &mut stage.steps);
        steps.into_iter().find(|step| step.id.as_str() == id).unwrap()
    }
    let place =
        |step: &Step, what: &str| step.actions.iter().position(|a| a.summary().starts_with(what)).unwrap();
    let has = |codes: Vec<String>, code: &str| assert!(codes.iter().any(|c| c == code), "{code}: {codes:?}");
    let shift = |plan: &mut Plan, what: &str, to: &str| {
        let step = on(plan, "reboot/cmp1");
        let action = step.actions.remove(place(step, what));
        let at = place(step, to);
        step.actions.insert(at, action);
    };
    has(spoilt(&|plan| plan.drains = None), "drain-of-no-plan");
    has(spoilt(&|plan| plan.drains.as_mut().unwrap().of = "other".parse().unwrap()), "drain-of-no-plan");
    has(spoilt(&|plan| shift(plan, "switch", "move")), "upgraded-out-of-turn");
    has(spoilt(&|plan| shift(plan, "switch", "prove nova-compute")), "upgraded-out-of-turn");
    has(spoilt(&|plan| shift(plan, "switch", "disable")), "compute-not-disabled");
    has(spoilt(&|plan| shift(plan, "enable", "reboot")), "compute-not-given-back");
    has(spoilt(&|plan| shift(plan, "reboot", "prove cmp1")), "restart-of-a-host-in-use");
    let apart = |plan: &mut Plan| {
        let step = on(plan, "reboot/cmp1");
        let mut own = step.clone();
        own.id = "roll/nova-compute@cmp1".parse().unwrap();
        own.requires = vec![step.id.clone()];
        own.actions.retain(|action| !action.summary().contains("move") && restarted(action).is_none());
        own.actions.retain(|action| !matches!(action, Action::ProveEmpty { .. }));
        step.actions.retain(|action| switched(action).is_none());
        let stage = plan.stages.iter_mut().find(|stage| stage.id.as_str() == "reboot-computes").unwrap();
        stage.steps.push(own);
    };
    has(spoilt(&apart), "upgraded-apart-from-restart");
    has(
        spoilt(&|plan| {
            let step = on(plan, "reboot/cmp1");
            for action in &mut step.actions {
                if let Action::MoveInstances { moves, .. } = action {
                    moves[0].to = "cmp2".parse().unwrap();
                }
            }
        }),
        "drain-otherwise",
    );
    has(
        spoilt(&|plan| {
            for step in plan.stages.iter_mut().flat_map(|stage| &mut stage.steps) {
                step.actions.retain(|action| !matches!(action, Action::MoveNewcomers(_)));
            }
        }),
        "drain-otherwise",
    );
    has(
        spoilt(&|plan| {
            for stage in &mut plan.stages {
                stage.steps.retain(|step| step.id.as_str() != "reboot/cmp1");
                stage
                    .steps
                    .iter_mut()
                    .for_each(|step| step.requires.retain(|id| id.as_str() != "reboot/cmp1"));
            }
        }),
        "daemon-left-out",
    );
    let together = |plan: &mut Plan| {
        let stage = plan.stages.iter_mut().find(|stage| stage.id.as_str() == "reboot-computes").unwrap();
        stage.parallel_max = 9;
        stage.steps.iter_mut().for_each(|step| step.requires.clear());
    };
    let codes = spoilt(&together);
    for code in ["moved-onto-a-host-in-work", "no-canary", "drain-otherwise"] {
        has(codes.clone(), code);
    }
    let early = |plan: &mut Plan| {
        let stage = plan.stages.iter_mut().find(|stage| stage.id.as_str() == "reboot-computes").unwrap();
        stage.after = vec!["stage-computes".parse().unwrap()];
    };
    has(spoilt(&early), "daemon-order");
}

#[test]
fn what_an_earlier_run_left_behind_holds_finalize() {
    let mut input = all(1);
    let mut reboot = input.drains.take().unwrap();
    reboot.content.selection.past.failed = BTreeSet::from(["cmp9".parse().unwrap()]);
    input.drains = Some(volutus_model::fleet::RebootPlan::new(reboot.content));
    let (made, report) = made(&input);
    assert!(made.leaves_hosts_behind() && made.finalize_after_s().is_none());
    assert!(report.findings.iter().any(|finding| finding.code == "finalize-withheld"));
}

#[test]
fn the_way_back_puts_daemons_back_and_moves_nothing() {
    let input = all(1);
    let (of, _) = made(&input);
    let observation = replaced(&input, &of, |_| true);
    let back = back_input(&input, &of, observation);
    let (made, report) = plan_rollback(&back, &catalog()).unwrap();
    assert_eq!(check_plan(&made, &back.inventory, &back.observation, &catalog(), &back.policy), []);
    assert!(made.drains.is_none() && hosts_of(&made, restarted).is_empty());
    assert_eq!(hosts_of(&made, switched).len(), 4);
    assert!(made.steps().all(|(_, step)| step.empties().is_none()));
    assert!(report.notes.iter().any(|note| note.subject == "hosts" && note.text.contains("stay")));
}

#[test]
fn an_upgrade_of_daemons_alone_says_that_instances_stay() {
    let input = input(3, 4, "2025.2", "2026.1");
    let (made, report) = plan(&input, &catalog()).unwrap();
    assert!(made.drains.is_none());
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.subject == "instances" && note.text.contains("stay where they are"))
    );
}
