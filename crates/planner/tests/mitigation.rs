//! Mitigations: what is done on which host and in which order, what is refused, and that plancheck sees spoilt
//! plans.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeSet;

use support::{catalog, input};
use volutus_model::plan::{Action, ImpactLevel, Phase, Plan, PlanKind, Step};
use volutus_model::{
    ExposedPackage, Fact, Finding, Mitigation, MitigationMethod, Observation, PackageVersion, Severity,
    WayBackClosed,
};
use volutus_plancheck::check_plan;
use volutus_planner::{Error, MitigationInput, plan_mitigation, render_markdown};

fn version(text: &str) -> PackageVersion {
    PackageVersion::new(text)
}

fn argv(last: &str) -> Vec<String> {
    ["/usr/local/sbin/mitigate", last].map(str::to_owned).to_vec()
}

/// Makes the daemons whose id begins so run a version.
fn run(observation: &mut Observation, begins: &str, runs: &str) {
    for (id, fact) in &mut observation.daemons {
        if let (true, Fact::Observed { value, .. }) = (id.to_string().starts_with(begins), fact) {
            value.version = Fact::observed(version(runs), "test");
        }
    }
}

fn package(distribution: &str, runs: &str) -> ExposedPackage {
    let versions = BTreeSet::from([version(runs)]);
    ExposedPackage { distribution: distribution.to_owned(), versions }
}

/// A cloud of 2025.2 whose keystone is 28.1.0, to be mitigated by a method.
fn exposed(method: MitigationMethod) -> MitigationInput {
    let cloud = input(3, 4, "2025.2", "2026.1");
    let mut observation = cloud.observation;
    run(&mut observation, "keystone-api", "28.1.0");
    let mitigation = Mitigation {
        vulnerability: "CVE-2026-99999".to_owned(),
        name: "no-federation".to_owned(),
        method,
        argv: argv("on"),
        unchanged_exit: 70,
        limit_s: 60,
        check: argv("is-on"),
        undo: argv("off"),
    };
    let mut policy = cloud.policy.for_patch();
    policy.patch.mitigations.push(mitigation.clone());
    MitigationInput {
        inventory: cloud.inventory,
        observation,
        vulnerability: "CVE-2026-99999".to_owned(),
        exposed: vec![package("keystone", "28.1.0")],
        mitigation,
        undo: false,
        policy,
        now: cloud.now,
    }
}

fn judge(input: &MitigationInput, plan: &Plan) -> Vec<Finding> {
    check_plan(plan, &input.inventory, &input.observation, &catalog(), &input.policy)
}

/// What is done to what, in order.
fn acts(step: &Step) -> Vec<String> {
    let told = |action: &Action| match action {
        Action::RunCommand { what, .. } => what.clone(),
        Action::RefreshDaemon { daemon, .. } => format!("restart {}", daemon.kind),
        Action::ProveDaemon { daemon, .. } => format!("prove {}", daemon.kind),
        Action::DrainBackend { backend, .. } => format!("drain {backend}"),
        Action::UndrainBackend { backend, .. } => format!("undrain {backend}"),
        Action::DisableCompute { .. } => "disable".to_owned(),
        Action::EnableCompute { .. } => "enable".to_owned(),
        Action::BootCanary { .. } => "boot".to_owned(),
        other => other.summary(),
    };
    step.actions.iter().map(told).collect()
}

fn steps(plan: &Plan) -> Vec<&Step> {
    let watched = |phase: Phase| matches!(phase, Phase::Baseline | Phase::Soak);
    plan.steps().filter(|(stage, _)| !watched(stage.phase)).map(|(_, step)| step).collect()
}

#[test]
fn one_host_after_another_is_mitigated() {
    let input = exposed(MitigationMethod::Restart);
    let (made, report) = plan_mitigation(&input, &catalog()).unwrap();
    assert_eq!(made.id, made.compute_id());
    assert_eq!(judge(&input, &made), [], "{}", render_markdown(&made, Some(&report)));
    let text = render_markdown(&made, Some(&report));
    for told in [
        "# Mitigation: ",
        "stays as vulnerable as it is: keystone 28.1.0",
        "no-federation",
        "method: restart",
    ] {
        assert!(text.contains(told), "`{told}` is not in:\n{text}");
    }
    let steps = steps(&made);
    let ids: Vec<&str> = steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["mitigate/ctl1", "mitigate/ctl2", "mitigate/ctl3"]);
    let wanted = [
        "drain keystone",
        "mitigate",
        "restart keystone-api",
        "prove keystone-api",
        "undrain keystone",
        "check",
    ];
    assert!(steps.iter().all(|step| acts(step) == wanted), "{steps:?}");
    assert_eq!(steps[2].requires, [steps[1].id.clone()]);
    // The stored form can be read again, and no way back is promised.
    let text = serde_json::to_string(&made).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), made);
    let state = volutus_model::RunState::new(made.id.clone());
    assert_eq!(WayBackClosed::of(&made, &state), Some(WayBackClosed::IsMitigation));
}

#[test]
fn the_method_says_what_is_done_around_the_command() {
    let input = exposed(MitigationMethod::None);
    let (made, _) = plan_mitigation(&input, &catalog()).unwrap();
    assert_eq!(judge(&input, &made), []);
    assert_eq!(acts(steps(&made)[0]), ["mitigate", "prove keystone-api", "check"]);

    let input = exposed(MitigationMethod::RestartWithoutDrain);
    let (made, _) = plan_mitigation(&input, &catalog()).unwrap();
    let first = steps(&made)[0];
    assert_eq!(acts(first), ["mitigate", "restart keystone-api", "prove keystone-api", "check"]);
    assert_eq!(first.impact.level, ImpactLevel::Major);
    // It is told, and has to be consented to.
    let [finding] = judge(&input, &made).try_into().unwrap();
    let Finding { severity, code, .. } = finding;
    assert_eq!((severity, code.as_str()), (Severity::Serious, "restart-without-drain"));

    let mut input = exposed(MitigationMethod::Restart);
    input.undo = true;
    let (made, _) = plan_mitigation(&input, &catalog()).unwrap();
    assert_eq!(judge(&input, &made), []);
    let wanted = ["drain keystone", "undo", "restart keystone-api", "prove keystone-api", "undrain keystone"];
    assert_eq!(acts(steps(&made)[0]), wanted);
}

#[test]
fn computes_come_behind_a_first_one_and_the_command_runs_once_a_host() {
    let mut input = exposed(MitigationMethod::Restart);
    run(&mut input.observation, "nova-", "32.0.0");
    input.exposed = vec![package("nova", "32.0.0")];
    let (made, _) = plan_mitigation(&input, &catalog()).unwrap();
    assert_eq!(judge(&input, &made), []);
    let stages: Vec<Phase> = made.stages.iter().map(|stage| stage.phase).collect();
    assert_eq!(stages[..3], [Phase::Baseline, Phase::Roll, Phase::Canary]);
    assert!(stages[3..stages.len() - 1].iter().all(|phase| *phase == Phase::Waves), "{stages:?}");
    let all = steps(&made);
    assert_eq!(all.len(), 7);
    for step in &all {
        assert_eq!(acts(step).iter().filter(|act| *act == "mitigate").count(), 1, "{step:?}");
    }
    let wanted = ["disable", "mitigate", "restart nova-compute", "prove nova-compute", "enable", "check"];
    assert_eq!(acts(all[4]), wanted);
    assert_eq!(acts(all[3]), wanted.into_iter().chain(["boot"]).collect::<Vec<_>>());
    // All of nova on a controller is drained before the command, and given back in the opposite order.
    let control = acts(all[0]);
    let place = |act: &str| control.iter().position(|done| done == act).unwrap();
    assert!(place("drain nova") < place("mitigate") && place("drain nova-metadata") < place("mitigate"));
    assert!(place("prove nova-scheduler") < place("undrain nova"));
}

#[test]
fn only_what_is_exposed_is_touched_and_proved_as_it_is() {
    let mut input = exposed(MitigationMethod::Restart);
    run(&mut input.observation, "keystone-api@ctl2", "28.0.2");
    run(&mut input.observation, "keystone-api@ctl3", "28.0.1");
    input.exposed[0].versions.insert(version("28.0.1"));
    let (made, _) = plan_mitigation(&input, &catalog()).unwrap();
    assert_eq!(judge(&input, &made), []);
    let ids: Vec<&str> = steps(&made).iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["mitigate/ctl1", "mitigate/ctl3"]);
    // The verdict wants of no daemon that it runs what another one does.
    assert!(!made.versions.contains_key("keystone"));
}

#[test]
fn refusals() {
    let mut input = exposed(MitigationMethod::Restart);
    input.exposed = vec![package("keystone", "28.0.0")];
    let refused = plan_mitigation(&input, &catalog()).unwrap_err();
    assert!(matches!(refused, Error::NothingToPatch { .. }), "{refused}");

    let mut input = exposed(MitigationMethod::Restart);
    input.undo = true;
    input.mitigation.undo.clear();
    let refused = plan_mitigation(&input, &catalog()).unwrap_err();
    assert!(matches!(&refused, Error::NoUndo { mitigation } if mitigation == "no-federation"), "{refused}");

    let mut input = exposed(MitigationMethod::Restart);
    let id = "keystone-api@ctl2".parse().unwrap();
    input.observation.daemons.insert(id, Fact::unobserved("its host does not answer"));
    let refused = plan_mitigation(&input, &catalog()).unwrap_err();
    assert!(matches!(&refused, Error::Unseen { unseen } if unseen.len() == 1), "{refused}");
}

#[test]
fn a_restart_must_not_change_what_runs() {
    let mut input = exposed(MitigationMethod::Restart);
    for (id, fact) in &mut input.observation.daemons {
        if let ("keystone-api@ctl3", Fact::Observed { value, .. }) = (id.to_string().as_str(), fact) {
            value.link = Fact::observed("/opt/openstack/2026.1".to_owned(), "test");
        }
    }
    let (made, _) = plan_mitigation(&input, &catalog()).unwrap();
    let [finding] = judge(&input, &made).try_into().unwrap();
    let Finding { code, subject, .. } = finding;
    assert_eq!((code.as_str(), subject.as_str()), ("restart-changes-release", "keystone-api@ctl3"));
    input.mitigation.method = MitigationMethod::None;
    input.policy.patch.mitigations = vec![input.mitigation.clone()];
    let (made, _) = plan_mitigation(&input, &catalog()).unwrap();
    assert_eq!(judge(&input, &made), []);
}

#[track_caller]
fn expect(code: &str, method: MitigationMethod, spoil: impl Fn(&mut Plan)) {
    let input = exposed(method);
    let (mut made, _) = plan_mitigation(&input, &catalog()).unwrap();
    spoil(&mut made);
    made.id = made.compute_id();
    let findings = judge(&input, &made);
    let found = findings.iter().any(|f| f.code == code && f.severity == Severity::Blocking);
    assert!(found, "`{code}` is not among {findings:#?}");
}

fn second(plan: &mut Plan) -> &mut Step {
    let mut stages = plan.stages.iter_mut();
    &mut stages.find(|stage| stage.phase == Phase::Roll).unwrap().steps[1]
}

fn is(action: &Action, wanted: &str) -> bool {
    matches!(action, Action::RunCommand { what, .. } if what == wanted)
}

#[test]
fn spoilt_mitigations_are_caught() {
    use MitigationMethod::{None as Live, Restart};
    for method in [Live, Restart] {
        expect("mitigation-not-once", method, |plan| {
            let stage = plan.stages.iter_mut().find(|stage| stage.phase == Phase::Roll).unwrap();
            stage.steps.pop();
        });
        expect("mitigation-not-once", method, |plan| second(plan).actions.retain(|a| !is(a, "mitigate")));
        expect("mitigation-not-once", method, |plan| {
            let again = second(plan).actions.iter().find(|a| is(a, "mitigate")).unwrap().clone();
            second(plan).actions.push(again);
        });
        expect("mitigation-unchecked", method, |plan| second(plan).actions.retain(|a| !is(a, "check")));
        expect("mitigation-unchecked", method, |plan| {
            let actions = &mut second(plan).actions;
            let check = actions.pop().unwrap();
            actions.insert(0, check);
        });
        expect("daemon-unproved", method, |plan| {
            second(plan).actions.retain(|action| !matches!(action, Action::ProveDaemon { .. }));
        });
        expect("mitigation-other-command", method, |plan| {
            for action in &mut second(plan).actions {
                if let Action::RunCommand { argv, .. } = action {
                    argv[1] = "twice".to_owned();
                }
            }
        });
        expect("mitigation-undeclared", method, |plan| {
            if let PlanKind::Mitigation { mitigation, .. } = &mut plan.kind {
                mitigation.check = argv("yes");
            }
        });
        expect("mitigation-other-version", method, |plan| {
            for action in &mut second(plan).actions {
                if let Action::ProveDaemon { version: proved, .. } = action {
                    *proved = version("28.2.0");
                }
            }
        });
        expect("mitigation-leaves-series", method, |plan| plan.to = "2026.1".parse().unwrap());
        expect("mitigation-touches-others", method, |plan| {
            let mut other = second(plan).clone();
            other.id = "mitigate/cmp1".parse().unwrap();
            for action in &mut other.actions {
                if let Action::RunCommand { host, .. } = action {
                    *host = "cmp1".parse().unwrap();
                }
            }
            plan.stages.iter_mut().find(|stage| stage.phase == Phase::Roll).unwrap().steps.push(other);
        });
        expect("mitigation-does-more", method, |plan| {
            let host = "ctl2".parse().unwrap();
            second(plan).actions.push(Action::RebootHost { host, kernel: None, limit_s: None });
        });
    }
    expect("daemon-left-out", Restart, |plan| {
        second(plan).actions.retain(|action| !matches!(action, Action::RefreshDaemon { .. }));
    });
    expect("restart-before-mitigation", Restart, |plan| {
        let actions = &mut second(plan).actions;
        let command = actions.iter().position(|action| is(action, "mitigate")).unwrap();
        actions.swap(command, command + 1);
    });
    expect("mitigation-touches-others", Restart, |plan| {
        for action in &mut second(plan).actions {
            if let Action::RefreshDaemon { daemon, .. } = action {
                *daemon = "glance-api@ctl2".parse().unwrap();
            }
        }
    });
    expect("not-drained", Restart, |plan| {
        second(plan).actions.retain(|action| !matches!(action, Action::DrainBackend { .. }));
    });
    expect("not-undrained", Restart, |plan| second(plan).give_back.clear());
    expect("budget-exceeded", Restart, |plan| {
        let stage = plan.stages.iter_mut().find(|stage| stage.phase == Phase::Roll).unwrap();
        stage.parallel_max = 3;
        stage.steps.iter_mut().for_each(|step| step.requires.clear());
    });
}
