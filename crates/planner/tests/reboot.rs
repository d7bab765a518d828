//! Reboots of a fleet: what is worked out for the fleet becomes steps, and plancheck sees what is
//! wrong with those.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeSet;

use support::{catalog, described, fleet, input};
use volutus_fleet::plan;
use volutus_model::fleet::limits::Amount;
use volutus_model::fleet::policy::Rung;
use volutus_model::fleet::{
    Availability, Fleet, HookMoment, HookPlace, MigrationSettings, OwnerChoice, RebootPolicy, Work,
};
use volutus_model::observation::Fact;
use volutus_model::plan::{Action, PlanKind, Step};
use volutus_model::{Finding, HostName, Plan};
use volutus_plancheck::check_plan;
use volutus_planner::{Error, RebootInput, plan_reboot};

/// These computes, and three controllers.
fn reboot(at_once: u32) -> RebootInput {
    let cloud = input(3, 4, "2025.2", "2026.1");
    let fleet = fleet();
    let mut policy = RebootPolicy::default();
    policy.hosts.at_once = Amount::Count(at_once);
    policy.hosts.canaries.clear();
    let name: HostName = cloud.inventory.name.clone();
    let mut reboot =
        plan(&fleet, &policy, &volutus_model::fleet::Selection::default(), &name, cloud.now).unwrap();
    reboot.content.control = ["ctl1", "ctl2", "ctl3"].map(|name| name.parse().unwrap()).to_vec();
    let reboot = volutus_model::fleet::RebootPlan::new(reboot.content);
    RebootInput {
        inventory: cloud.inventory,
        observation: cloud.observation,
        reboot,
        policy: cloud.policy,
        now: cloud.now,
    }
}

fn judge(input: &RebootInput, made: &Plan) -> Vec<Finding> {
    check_plan(made, &input.inventory, &input.observation, &catalog(), &input.policy)
}

#[test]
fn every_host_is_emptied_restarted_proved_and_given_back() {
    let input = reboot(1);
    let (made, _) = plan_reboot(&input, &catalog()).unwrap();
    assert_eq!(judge(&input, &made), []);
    assert_eq!(made.kind, PlanKind::Reboot { of: input.reboot.id, work: Work::Reboot });
    assert_eq!(made.from, made.to);
    let restarted: Vec<String> = made
        .steps()
        .flat_map(|(_, step)| &step.actions)
        .filter_map(|action| match action {
            Action::RebootHost { host, .. } => Some(host.to_string()),
            _ => None,
        })
        .collect();
    let mut sorted = restarted.clone();
    sorted.sort();
    assert_eq!(sorted, ["cmp1", "cmp2", "cmp3", "cmp4", "ctl1", "ctl2", "ctl3"]);
    // The empty one goes first: it takes what the others carry.
    assert_eq!(restarted[0], "cmp4");
    let moved: usize = made
        .steps()
        .flat_map(|(_, step)| &step.actions)
        .map(|action| match action {
            Action::MoveInstances { moves, .. } => moves.len(),
            _ => 0,
        })
        .sum();
    assert_eq!(moved, 9, "every instance moves once");
    let first = made.steps().find(|(_, step)| step.id.as_str() == "reboot/cmp4").unwrap().1;
    let actions: Vec<String> = first.actions.iter().map(Action::summary).collect();
    insta::assert_snapshot!(actions.join("\n"), @r"
    disable nova-compute on cmp4, settle
    prove cmp4 empty
    reboot cmp4
    prove nova-compute@cmp4 serves 32.2.1
    enable nova-compute on cmp4
    boot a canary instance on cmp4
    ");
    let control = made.steps().find(|(_, step)| step.id.as_str() == "reboot/ctl2").unwrap().1;
    let actions: Vec<String> = control.actions.iter().map(Action::summary).collect();
    insta::assert_snapshot!(actions.join("\n"), @r"
    drain cinder/ctl2
    drain glance/ctl2
    drain keystone/ctl2
    drain neutron/ctl2
    drain nova/ctl2
    drain nova-metadata/ctl2
    drain placement/ctl2
    reboot ctl2
    prove cinder-api@ctl2 serves 27.0.0
    prove cinder-scheduler@ctl2 serves 27.0.0
    prove cinder-volume@ctl2 serves 27.0.0
    prove glance-api@ctl2 serves 31.1.0
    prove keystone-api@ctl2 serves 28.1.0
    prove neutron-api@ctl2 serves 27.0.4
    prove neutron-periodic-workers@ctl2 serves 27.0.4
    prove neutron-rpc-server@ctl2 serves 27.0.4
    prove nova-api@ctl2 serves 32.2.1
    prove nova-conductor@ctl2 serves 32.2.1
    prove nova-metadata@ctl2 serves 32.2.1
    prove nova-scheduler@ctl2 serves 32.2.1
    prove placement-api@ctl2 serves 14.0.0
    undrain placement/ctl2
    undrain nova-metadata/ctl2
    undrain nova/ctl2
    undrain neutron/ctl2
    undrain keystone/ctl2
    undrain glance/ctl2
    undrain cinder/ctl2
    ");
}

#[test]
fn what_is_wrong_with_a_reboot_is_found() {
    let input = reboot(2);
    let spoilt = |spoil: &dyn Fn(&mut Plan)| -> Vec<String> {
        let (mut made, _) = plan_reboot(&input, &catalog()).unwrap();
        assert_eq!(judge(&input, &made), []);
        spoil(&mut made);
        made.id = made.compute_id();
        judge(&input, &made).into_iter().map(|finding| finding.code).collect()
    };
    let without = |what: fn(&Action) -> bool| {
        move |plan: &mut Plan| {
            for step in plan.stages.iter_mut().flat_map(|stage| &mut stage.steps) {
                step.actions.retain(|action| !what(action));
            }
        }
    };
    let has = |codes: Vec<String>, code: &str| assert!(codes.iter().any(|c| c == code), "{code}: {codes:?}");
    has(spoilt(&without(|a| matches!(a, Action::DisableCompute { .. }))), "restart-of-a-host-in-use");
    has(spoilt(&without(|a| matches!(a, Action::ProveEmpty { .. }))), "restart-of-a-host-in-use");
    has(spoilt(&without(|a| matches!(a, Action::EnableCompute { .. }))), "not-enabled");
    has(spoilt(&without(|a| matches!(a, Action::ProveDaemon { .. }))), "restart-unproved");
    has(spoilt(&without(|a| matches!(a, Action::DrainBackend { .. }))), "not-drained");
    has(spoilt(&without(|a| matches!(a, Action::UndrainBackend { .. }))), "not-undrained");
    let together = |plan: &mut Plan| {
        for stage in &mut plan.stages {
            stage.parallel_max = 9;
            stage.steps.iter_mut().for_each(|step| step.requires.clear());
        }
    };
    let codes = spoilt(&together);
    has(codes.clone(), "moved-onto-a-host-in-work");
    has(codes.clone(), "newcomers-onto-a-host-to-do");
    has(codes, "budget-exceeded");
    let twice = |plan: &mut Plan| {
        let stage = plan.stages.iter_mut().find(|stage| stage.id.as_str() == "reboot-control").unwrap();
        let mut again = stage.steps[0].clone();
        again.id = "reboot/again".parse().unwrap();
        again.requires = vec![stage.steps.last().unwrap().id.clone()];
        stage.steps.push(again);
    };
    has(spoilt(&twice), "restarted-twice");
}

#[test]
fn what_is_stopped_with_consent_is_started_again() {
    let mut input = reboot(2);
    let mut fleet = fleet();
    let consents = fleet.instances.iter_mut().find(|instance| instance.id == "i21").unwrap();
    consents.choice = Some(OwnerChoice::Stop);
    let made = plan(
        &fleet,
        &input.reboot.content.policy,
        &volutus_model::fleet::Selection::default(),
        &input.inventory.name,
        input.now,
    );
    input.reboot = made.unwrap();
    let (made, _) = plan_reboot(&input, &catalog()).unwrap();
    assert_eq!(judge(&input, &made), []);
    let step =
        made.stages.iter().flat_map(|stage| &stage.steps).find(|s| s.id.as_str() == "reboot/cmp2").unwrap();
    let names: Vec<String> = step.actions.iter().map(Action::summary).collect();
    let place = |what: &str| names.iter().position(|name| name.starts_with(what)).unwrap();
    assert!(place("disable") < place("stop 1 instances on cmp2"), "{names:?}");
    assert!(place("stop 1") < place("prove cmp2 empty") && place("prove cmp2 empty") < place("reboot cmp2"));
    assert!(place("prove nova-compute@cmp2") < place("start 1 instances on cmp2"), "{names:?}");
    assert!(place("start 1") < place("enable nova-compute on cmp2"), "{names:?}");
    for spoil in [
        |step: &mut Step| step.actions.retain(|a| !matches!(a, Action::StartInstances { .. })),
        |step: &mut Step| step.give_back.retain(|a| !matches!(a, Action::StartInstances { .. })),
        |step: &mut Step| {
            let start = step.actions.iter().position(|a| matches!(a, Action::StartInstances { .. })).unwrap();
            let start = step.actions.remove(start);
            step.actions.insert(0, start);
        },
    ] {
        let mut spoilt = made.clone();
        let steps = spoilt.stages.iter_mut().flat_map(|stage| &mut stage.steps);
        spoil(steps.filter(|s| s.id.as_str() == "reboot/cmp2").last().unwrap());
        spoilt.id = spoilt.compute_id();
        let codes: Vec<String> = judge(&input, &spoilt).into_iter().map(|finding| finding.code).collect();
        assert!(codes.iter().any(|code| code == "not-started"), "{codes:?}");
    }
}

/// The moves of a plan off a host: when each is switched to post-copy, completed and broken off.
fn turns(made: &Plan, from: &str) -> BTreeSet<(Option<u32>, Option<u32>, u32)> {
    let actions = made.steps().flat_map(|(_, step)| &step.actions);
    let moves = actions.filter_map(|action| match action {
        Action::MoveInstances { host, moves, .. } if host.as_str() == from => Some(moves),
        _ => None,
    });
    moves.flatten().map(|one| (one.post_copy_after_s, one.force_after_s, one.timeout_s)).collect()
}

#[test]
fn live_migrations_are_completed_as_their_source_permits() {
    let mut input = reboot(1);
    let mut fleet = fleet();
    let of = |post_copy, auto_converge| MigrationSettings { post_copy, auto_converge, ..Default::default() };
    fleet.hosts[0].migrations = Some(of(true, false));
    fleet.hosts[1].migrations = Some(of(false, true));
    let mut policy = input.reboot.content.policy.clone();
    policy.drain.ladder =
        vec![Rung::Live, Rung::PostCopy, Rung::AutoConverge, Rung::ForceComplete, Rung::Skip];
    let made =
        plan(&fleet, &policy, &volutus_model::fleet::Selection::default(), &input.inventory.name, input.now);
    input.reboot = made.unwrap();
    let (made, _) = plan_reboot(&input, &catalog()).unwrap();
    // Four GiB by 800 s, and ten besides.
    assert_eq!(turns(&made, "cmp1"), [(Some(1605), Some(2407), 3210)].into());
    assert_eq!(turns(&made, "cmp2"), [(None, Some(3210), 4815)].into());
    assert_eq!(turns(&made, "cmp3"), [(None, Some(1605), 3210)].into());
    let codes = |input: &RebootInput, made: &Plan| -> Vec<String> {
        judge(input, made).into_iter().map(|finding| finding.code).collect()
    };
    // The steps are judged by nova.conf itself, and not by what the reboot plan was made upon.
    assert_eq!(codes(&input, &made), ["post-copy-not-permitted"]);
    support::set_option(&mut input.observation, "cmp1", "libvirt/live_migration_permit_post_copy", "True");
    assert_eq!(judge(&input, &made), []);
    let mut spoilt = made;
    for action in
        spoilt.stages.iter_mut().flat_map(|stage| &mut stage.steps).flat_map(|step| &mut step.actions)
    {
        if let Action::MoveInstances { moves, .. } = action {
            moves.iter_mut().for_each(|one| one.force_after_s = Some(one.timeout_s));
        }
    }
    spoilt.id = spoilt.compute_id();
    assert!(codes(&input, &spoilt).iter().all(|code| code == "rung-out-of-time"));
    assert!(!codes(&input, &spoilt).is_empty());
}

/// Of a policy with two hooks, the first of which ends in any case.
fn hooked() -> RebootInput {
    let mut input = reboot(1);
    let text = "[reboot.act]\nbefore = [\"/opt/begin\"]\nafter = [\"/opt/end\"]\n[reboot.hosts]\nat_once = 1\n\
                [[reboot.hook]]\nname = \"silence\"\nbefore = [\"a\"]\nafter = [\"b\"]\nalways = true\n\
                [[reboot.hook]]\nname = \"ceph\"\non = \"ctl1\"\nbefore = [\"c\"]\nafter = [\"d\"]\n";
    let policy = RebootPolicy::parse(text).unwrap();
    let all = volutus_model::fleet::Selection::default();
    input.reboot = plan(&fleet(), &policy, &all, &input.inventory.name, input.now).unwrap();
    input
}

#[test]
fn hooks_are_around_everything_that_is_done_to_a_host() {
    let input = hooked();
    let (made, _) = plan_reboot(&input, &catalog()).unwrap();
    assert_eq!(judge(&input, &made), []);
    let step = made.steps().map(|(_, step)| step).find(|step| step.id.as_str() == "reboot/cmp4").unwrap();
    let told = |actions: &[Action]| actions.iter().map(Action::summary).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(told(&step.actions), @r"
    disable nova-compute on cmp4, settle
    prove cmp4 empty
    run the hook silence before cmp4 on volutus
    run the hook ceph before cmp4 on ctl1
    run the command `before` on cmp4
    reboot cmp4
    prove nova-compute@cmp4 serves 32.2.1
    run the command `after` on cmp4
    run the hook ceph after cmp4 on ctl1
    run the hook silence after cmp4 on volutus
    enable nova-compute on cmp4
    boot a canary instance on cmp4
    ");
    insta::assert_snapshot!(told(&step.give_back), @r"
    run the hook silence after cmp4 on volutus
    enable nova-compute on cmp4
    ");
}

#[test]
fn what_is_wrong_with_hooks_is_found() {
    let input = hooked();
    let (good, _) = plan_reboot(&input, &catalog()).unwrap();
    let spoilt = |spoil: &dyn Fn(&mut Step)| -> Vec<String> {
        let mut made = good.clone();
        made.stages.iter_mut().flat_map(|stage| &mut stage.steps).for_each(spoil);
        made.id = made.compute_id();
        judge(&input, &made).into_iter().map(|finding| finding.code).collect()
    };
    let is = |action: &Action, hook: &str, moment: HookMoment| matches!(action, Action::RunHook(call) if call.hook == hook && call.moment == moment);
    let has = |codes: Vec<String>, code: &str| assert!(codes.iter().any(|c| c == code), "{code}: {codes:?}");
    let (before, after) = (HookMoment::Before, HookMoment::After);
    has(spoilt(&|step| step.actions.retain(|one| !is(one, "ceph", after))), "hook-without-end");
    has(spoilt(&|step| step.give_back.retain(|one| !is(one, "silence", after))), "hook-without-end");
    let moved = |step: &mut Step, moment, to: &dyn Fn(usize) -> usize| {
        if let Some(at) = step.actions.iter().position(|one| is(one, "ceph", moment)) {
            let call = step.actions.remove(at);
            let to = to(step.actions.len());
            step.actions.insert(to, call);
        }
    };
    has(spoilt(&|step| moved(step, before, &|all| all)), "hook-late");
    has(spoilt(&|step| moved(step, before, &|all| all)), "hook-out-of-order");
    has(spoilt(&|step| moved(step, after, &|_| 0)), "hook-without-end");
    has(
        spoilt(&|step| {
            let call = step.actions.iter().find(|one| is(one, "ceph", after)).cloned();
            step.give_back.extend(call);
        }),
        "hook-not-wanted",
    );
    let on_the_next = |step: &mut Step| {
        for action in &mut step.actions {
            if let Action::RunHook(call) = action
                && call.hook == "ceph"
            {
                call.on = HookPlace::Host("cmp3".parse().unwrap());
            }
        }
    };
    let codes = spoilt(&on_the_next);
    assert!(!codes.iter().any(|code| code == "hook-on-a-host-in-work"), "one host after another: {codes:?}");
    let together = |step: &mut Step| {
        on_the_next(step);
        step.requires.clear();
    };
    has(spoilt(&together), "hook-on-a-host-in-work");
}

#[test]
fn a_hook_runs_on_a_declared_host() {
    let mut input = hooked();
    input.reboot.content.policy.hooks[1].on = HookPlace::Host("admin9".parse().unwrap());
    let error = plan_reboot(&input, &catalog()).unwrap_err().to_string();
    assert!(error.contains("declares no host `admin9`"), "{error}");
}

#[test]
fn gateways_are_moved_before_their_host_restarts() {
    let mut input = reboot(2);
    input.inventory.ovn = Some(described(serde_json::json!({"host": "infra1"})));
    input.observation.inventory = input.inventory.digest();
    let (made, _) = plan_reboot(&input, &catalog()).unwrap();
    assert_eq!(judge(&input, &made), []);
    for name in ["cmp1", "ctl1"] {
        let id = format!("reboot/{name}");
        let step = made.steps().map(|(_, step)| step).find(|step| step.id.as_str() == id).unwrap();
        let names: Vec<String> = step.actions.iter().map(Action::summary).collect();
        let place = |what: &str| names.iter().position(|one| one.starts_with(what)).unwrap();
        assert!(place("move OVN's gateways off") < place("reboot"), "{names:?}");
        assert!(place("give OVN's gateways back") > place("prove nova"), "{names:?}");
        assert!(step.give_back.iter().any(|a| matches!(a, Action::RestoreGateways { .. })));
    }
    let mut spoilt = made;
    for step in spoilt.stages.iter_mut().flat_map(|stage| &mut stage.steps) {
        step.actions.retain(|action| !matches!(action, Action::LowerGateways { .. }));
    }
    spoilt.id = spoilt.compute_id();
    assert!(judge(&input, &spoilt).iter().any(|finding| finding.code == "gateways-not-moved"));
}

/// Records of neutron's agents: `ctl1` and `cmp1` have duties, `cmp2` has what every compute has.
fn neutron_agents(input: &mut RebootInput) {
    let record = |(binary, host): (&str, &str)| {
        described::<volutus_model::observation::ServiceRecord>(serde_json::json!({
            "binary": binary, "host": host, "version": "", "report_count": 9, "age_s": 4, "disabled": null,
            "forced_down": false,
        }))
    };
    let records =
        [("neutron-dhcp-agent", "ctl1"), ("neutron-l3-agent", "cmp1"), ("neutron-openvswitch-agent", "cmp2")];
    let seen = Fact::observed(records.map(record).to_vec(), "described");
    input.observation.records.insert("neutron".parse().unwrap(), seen);
}

#[test]
fn duties_of_network_nodes_are_moved_before_their_host_restarts() {
    let mut input = reboot(2);
    neutron_agents(&mut input);
    let (made, _) = plan_reboot(&input, &catalog()).unwrap();
    assert_eq!(judge(&input, &made), []);
    let step = |plan: &Plan, name: &str| -> Step {
        let id = format!("reboot/{name}");
        plan.steps().map(|(_, step)| step).find(|step| step.id.as_str() == id).unwrap().clone()
    };
    let summaries = |actions: &[Action]| actions.iter().map(Action::summary).collect::<Vec<_>>();
    for name in ["cmp1", "ctl1"] {
        let names = summaries(&step(&made, name).actions);
        let place = |what: &str| names.iter().position(|one| one.starts_with(what)).unwrap();
        assert!(place("move the duties of neutron's agents off") < place("reboot"), "{names:?}");
        assert!(place("give the duties of neutron's agents back") > place("prove"), "{names:?}");
        let back = summaries(&step(&made, name).give_back);
        assert!(back.iter().any(|one| one.starts_with("give the duties")), "{back:?}");
    }
    assert!(!summaries(&step(&made, "cmp2").actions).iter().any(|one| one.contains("duties")));
    let is_move = |a: &Action| matches!(a, Action::MoveNetworkDuties { .. });
    let is_back = |a: &Action| matches!(a, Action::RestoreNetworkDuties { .. });
    let codes = |spoil: &dyn Fn(&mut Step)| -> Vec<String> {
        let mut spoilt = made.clone();
        spoilt.stages.iter_mut().flat_map(|stage| &mut stage.steps).for_each(spoil);
        spoilt.id = spoilt.compute_id();
        judge(&input, &spoilt).into_iter().map(|finding| finding.code).collect()
    };
    let swapped = |step: &mut Step| {
        let at = step.actions.iter().position(is_move);
        if let Some(at) = at {
            let back = step.actions.iter().position(is_back).unwrap();
            step.actions.swap(at, back);
        }
    };
    let early = |step: &mut Step| {
        if let Some(at) = step.actions.iter().position(is_back) {
            let back = step.actions.remove(at);
            let restart = step.actions.iter().position(|a| matches!(a, Action::RebootHost { .. })).unwrap();
            step.actions.insert(restart + 1, back);
        }
    };
    for spoil in [
        &(|step: &mut Step| step.actions.retain(|a| !is_move(a))) as &dyn Fn(&mut Step),
        &|step: &mut Step| step.actions.retain(|a| !is_back(a)),
        &|step: &mut Step| step.give_back.retain(|a| !is_back(a)),
        &swapped,
        &early,
    ] {
        let codes = codes(spoil);
        assert!(codes.iter().any(|code| code == "duties-not-moved"), "{codes:?}");
    }
    // What was not seen may be there: the driver asks.
    input.observation.records.insert("neutron".parse().unwrap(), Fact::unobserved("no answer"));
    let (made, _) = plan_reboot(&input, &catalog()).unwrap();
    assert_eq!(judge(&input, &made), []);
    assert!(step(&made, "cmp2").actions.iter().any(is_move));
    // Hosts that do not go away go on serving.
    input.reboot.content.policy.act.reboot = false;
    let (made, _) = plan_reboot(&input, &catalog()).unwrap();
    assert!(!made.steps().flat_map(|(_, step)| &step.actions).any(is_move));
}

#[test]
fn a_network_node_that_is_emptied_by_hand_gets_its_duties_back_by_undrain() {
    let mut all = reboot(1);
    neutron_agents(&mut all);
    let (fleet, host): (Fleet, HostName) = (fleet(), "cmp1".parse().unwrap());
    let policy = RebootPolicy::default();
    let by_hand = |reboot| RebootInput { reboot, ..all.clone() };
    let cloud = all.inventory.name.clone();
    let input = by_hand(volutus_fleet::drain(&fleet, &policy, &host, &cloud, all.now).unwrap());
    let (made, _) = plan_reboot(&input, &catalog()).unwrap();
    assert_eq!(judge(&input, &made), []);
    let (actions, back) = only_step(&made);
    assert_eq!(actions.last().unwrap(), "move the duties of neutron's agents off cmp1");
    let given_back = ["give the duties of neutron's agents back to cmp1", "enable nova-compute on cmp1"];
    assert_eq!(back, given_back.map(str::to_owned));
    let mut spoilt = made;
    spoilt.stages[0].steps[0].give_back.remove(0);
    spoilt.id = spoilt.compute_id();
    assert!(judge(&input, &spoilt).iter().any(|finding| finding.code == "duties-not-moved"));

    let input = by_hand(volutus_fleet::undrain(&fleet, &policy, &host, &cloud, all.now).unwrap());
    let (made, _) = plan_reboot(&input, &catalog()).unwrap();
    assert_eq!(judge(&input, &made), []);
    let wanted = [
        "prove nova-compute@cmp1 serves 32.2.1",
        "give the duties of neutron's agents back to cmp1",
        "enable nova-compute on cmp1",
        "boot a canary instance on cmp1",
    ];
    assert_eq!(only_step(&made), (wanted.map(str::to_owned).to_vec(), Vec::new()));
}

#[test]
fn what_an_earlier_run_left_stopped_is_started_with_its_host() {
    let mut input = reboot(1);
    let mut fleet = fleet();
    let left = fleet.instances.iter_mut().find(|instance| instance.id == "i21").unwrap();
    (left.state, left.stopped) = (volutus_model::fleet::InstanceState::Off, true);
    let cmp2: HostName = "cmp2".parse().unwrap();
    let policy = input.reboot.content.policy.clone();
    input.reboot = volutus_fleet::undrain(&fleet, &policy, &cmp2, &input.inventory.name, input.now).unwrap();
    let (made, _) = plan_reboot(&input, &catalog()).unwrap();
    let names: Vec<String> =
        made.stages.iter().flat_map(|stage| &stage.steps[0].actions).map(Action::summary).collect();
    let start = names.iter().position(|name| name == "start 1 instances on cmp2").unwrap();
    assert_eq!(names[start + 1], "enable nova-compute on cmp2");
}

#[test]
fn what_the_cloud_cannot_be_without_is_not_restarted() {
    let mut input = reboot(1);
    input.reboot.content.control = vec![input.inventory.databases[0].host.clone()];
    assert!(matches!(plan_reboot(&input, &catalog()), Err(Error::VitalHost { .. })));
    input.reboot.content.control = vec!["ctl9".parse().unwrap()];
    let error = plan_reboot(&input, &catalog()).unwrap_err().to_string();
    assert!(error.contains("declares no host `ctl9`"), "{error}");
}

#[test]
fn a_cloud_in_the_middle_of_an_upgrade_is_not_restarted() {
    let mut input = reboot(1);
    support::set_running(&mut input.observation, "nova-api@ctl1", "2026.1");
    assert!(matches!(plan_reboot(&input, &catalog()), Err(Error::MixedSeries { .. })));
}

/// The summaries of the actions of a plan's only step, and of what it gives back.
fn only_step(made: &Plan) -> (Vec<String>, Vec<String>) {
    let steps: Vec<_> = made.steps().collect();
    assert_eq!(steps.len(), 1, "{steps:?}");
    let told = |actions: &[Action]| actions.iter().map(Action::summary).collect();
    (told(&steps[0].1.actions), told(&steps[0].1.give_back))
}

#[test]
fn a_host_is_emptied_and_given_back_by_hand() {
    let all = reboot(1);
    let (fleet, host): (Fleet, HostName) = (fleet(), "cmp2".parse().unwrap());
    let by_hand = |reboot| RebootInput { reboot, ..all.clone() };
    let policy = RebootPolicy::default();
    let cloud = all.inventory.name.clone();

    let input = by_hand(volutus_fleet::drain(&fleet, &policy, &host, &cloud, all.now).unwrap());
    assert_eq!(volutus_plancheck::check_reboot(&input.reboot, &fleet, &input.reboot.content.policy), []);
    let (made, _) = plan_reboot(&input, &catalog()).unwrap();
    assert_eq!(judge(&input, &made), []);
    assert_eq!(made.kind, PlanKind::Reboot { of: input.reboot.id.clone(), work: Work::Drain });
    let (actions, back) = only_step(&made);
    let wanted = [
        "disable nova-compute on cmp2, settle",
        "move 3 instances off cmp2",
        "move newcomers off cmp2",
        "prove cmp2 empty",
    ];
    assert_eq!(
        (actions, back),
        (wanted.map(str::to_owned).to_vec(), vec!["enable nova-compute on cmp2".to_owned()])
    );
    // Given up in the middle, it is given back.
    let mut spoilt = made;
    spoilt.stages[0].steps[0].give_back.clear();
    spoilt.id = spoilt.compute_id();
    assert!(judge(&input, &spoilt).iter().any(|finding| finding.code == "not-enabled"));

    let input = by_hand(volutus_fleet::undrain(&fleet, &policy, &host, &cloud, all.now).unwrap());
    assert_eq!(volutus_plancheck::check_reboot(&input.reboot, &fleet, &policy), []);
    let (made, _) = plan_reboot(&input, &catalog()).unwrap();
    assert_eq!(judge(&input, &made), []);
    let (actions, back) = only_step(&made);
    let wanted = [
        "prove nova-compute@cmp2 serves 32.2.1",
        "enable nova-compute on cmp2",
        "boot a canary instance on cmp2",
    ];
    assert_eq!((actions, back), (wanted.map(str::to_owned).to_vec(), Vec::new()));
}

#[test]
fn a_host_that_cannot_be_emptied_by_hand_is_refused_with_the_cause() {
    let (mut fleet, policy) = (fleet(), RebootPolicy::default());
    let now = reboot(1).now;
    let name = |text: &str| -> HostName { text.parse().unwrap() };
    let drain =
        |fleet: &Fleet, host: &str| volutus_fleet::drain(fleet, &policy, &name(host), &name("cloud"), now);
    assert!(matches!(drain(&fleet, "cmp9"), Err(volutus_fleet::Error::NoSuchHost { .. })));
    // A host that a person disabled is emptied, since that is what is asked for.
    fleet.hosts[1].availability = Availability::Disabled { reason: "memory errors".to_owned() };
    assert_eq!(drain(&fleet, "cmp2").unwrap().content.moves.len(), 3);
    fleet.instances.iter_mut().for_each(|instance| instance.choice = Some(OwnerChoice::Never));
    let error = drain(&fleet, "cmp2").unwrap_err();
    assert!(
        matches!(&error, volutus_fleet::Error::CannotBeEmptied { left } if left.host == name("cmp2")),
        "{error}"
    );
}
