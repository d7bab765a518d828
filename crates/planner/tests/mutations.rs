//! Every rule of plancheck must be able to fail: a good plan is spoilt in one way each, and the
//! rule that forbids it must say so.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;

use support::{catalog, input};
use volutus_model::plan::{Action, Plan, SchemaPhase, Stage, Step};
use volutus_model::{Finding, LockedPackage, LockedRelease, PackageVersion, Severity};
use volutus_plancheck::check_plan;
use volutus_planner::{PlanningInput, plan};

fn stage<'p>(plan: &'p mut Plan, id: &str) -> &'p mut Stage {
    plan.stages.iter_mut().find(|stage| stage.id.as_str() == id).unwrap()
}

fn step<'p>(plan: &'p mut Plan, id: &str) -> &'p mut Step {
    let steps = plan.stages.iter_mut().flat_map(|stage| &mut stage.steps);
    steps.into_iter().find(|step| step.id.as_str() == id).unwrap()
}

/// Spoils a plan, gives it a fitting id, and returns what the check says.
fn spoilt(input: &PlanningInput, spoil: impl Fn(&mut Plan)) -> Vec<Finding> {
    let (mut made, _) = plan(input, &catalog()).unwrap();
    let before = made.clone();
    spoil(&mut made);
    assert_ne!(made, before, "nothing was spoilt");
    made.id = made.compute_id();
    check_plan(&made, &input.inventory, &input.observation, &catalog(), &input.policy)
}

#[track_caller]
fn expect(code: &str, spoil: impl Fn(&mut Plan)) {
    let findings = spoilt(&input(3, 3, "2025.2", "2026.1"), spoil);
    let found = findings.iter().any(|f| f.code == code && f.severity == Severity::Blocking);
    assert!(found, "`{code}` is not among {findings:#?}");
}

#[test]
fn identity() {
    let input = input(3, 3, "2025.2", "2026.1");
    let (mut made, _) = plan(&input, &catalog()).unwrap();
    made.policy.soak_s += 1;
    let findings = check_plan(&made, &input.inventory, &input.observation, &catalog(), &input.policy);
    let codes: Vec<&str> = findings.iter().map(|finding| finding.code.as_str()).collect();
    assert_eq!(codes, ["plan-altered", "plan-other-policy"]);
    expect("plan-stale", |plan| plan.basis.push('x'));
    expect("plan-other-cloud", |plan| plan.inventory.push('x'));
    expect("plan-format", |plan| plan.format = 2);
}

#[test]
fn shape() {
    expect("plan-malformed", |plan| plan.stages.reverse());
    expect("plan-malformed", |plan| {
        let copy = plan.stages[0].clone();
        plan.stages.push(copy);
    });
    expect("plan-malformed", |plan| stage(plan, "soak").after.push("nowhere".parse().unwrap()));
    expect("plan-malformed", |plan| stage(plan, "soak").parallel_max = 0);
    expect("plan-malformed", |plan| {
        let last = "roll/nova-api@ctl3".parse().unwrap();
        step(plan, "roll/nova-api@ctl1").requires.push(last);
    });
    expect("plan-malformed", |plan| {
        step(plan, "roll/nova-api@ctl1").requires.push("roll/nowhere".parse().unwrap());
    });
    expect("plan-malformed", |plan| step(plan, "check/nova").action_timeout_s = 0);
}

#[test]
fn coverage() {
    expect("daemon-left-out", |plan| {
        stage(plan, "roll-glance-api").steps.pop();
    });
    expect("daemon-replaced-twice", |plan| {
        let mut again = step(plan, "roll/glance-api@ctl1").clone();
        again.id = "roll/again".parse().unwrap();
        stage(plan, "roll-glance-api").steps.push(again);
    });
    expect("daemon-unproved", |plan| {
        let actions = &mut step(plan, "roll/nova-conductor@ctl2").actions;
        actions.retain(|action| !matches!(action, Action::ProveDaemon { .. }));
    });
    expect("daemon-unproved", |plan| step(plan, "roll/nova-conductor@ctl2").actions.reverse());
}

#[test]
fn skew() {
    expect("path-forbidden", |plan| plan.from = "2024.2".parse().unwrap());
    expect("skew-refused", |plan| plan.from = "2024.2".parse().unwrap());
    expect("skew-too-wide", |plan| plan.from = "2025.1".parse().unwrap());
    expect("version-of-other-series", |plan| {
        let version = volutus_model::PackageVersion::new("34.0.0");
        plan.versions.insert("nova".parse().unwrap(), version);
    });
    expect("version-missing", |plan| {
        plan.versions.remove("nova");
    });
}

#[test]
fn commands() {
    expect("command-of-other-release", |plan| {
        if let Action::MigrateSchema { argv, .. } = &mut step(plan, "expand/glance").actions[0] {
            argv[0] = argv[0].replace("2026.1", "2025.2");
        }
    });
    expect("command-of-other-release", |plan| {
        if let Action::CheckUpgrade { argv, .. } = &mut step(plan, "check/glance").actions[0] {
            argv[0] = "glance-status".to_owned();
        }
    });
    expect("switch-of-other-release", |plan| {
        for action in &mut step(plan, "roll/glance-api@ctl2").actions {
            if let Action::SwitchDaemon { to, .. } = action {
                *to = to.replace("2026.1", "2026.2");
            }
        }
    });
    expect("proof-of-other-version", |plan| {
        for action in &mut step(plan, "roll/glance-api@ctl2").actions {
            if let Action::ProveDaemon { version, .. } = action {
                *version = volutus_model::PackageVersion::new("31.1.0");
            }
        }
    });
    expect("proof-too-weak", |plan| {
        for action in &mut step(plan, "canary/nova-compute@cmp1").actions {
            if let Action::ProveDaemon { proofs, .. } = action {
                *proofs = vec![volutus_model::plan::Proof::Steady { seconds: 60 }];
            }
        }
    });
}

fn drop_edge(plan: &mut Plan, from: &str, before: &str) {
    stage(plan, from).after.retain(|id| id.as_str() != before);
}

#[test]
fn order() {
    expect("not-staged", |plan| stage(plan, "check-upgrades").after.clear());
    expect("not-staged", |plan| drop_edge(plan, "canary-nova-compute", "stage-computes"));
    expect("check-not-first", |plan| stage(plan, "expand-keystone").after.clear());
    expect("roll-before-expand", |plan| {
        stage(plan, "roll-glance-api").after = vec!["check-upgrades".parse().unwrap()];
    });
    expect("expand-missing", |plan| {
        step(plan, "expand/nova").actions.pop();
    });
    expect("daemon-order", |plan| {
        drop_edge(plan, "roll-nova-api", "roll-nova-conductor");
        drop_edge(plan, "roll-nova-api", "roll-nova-scheduler");
    });
    expect("service-order", |plan| drop_edge(plan, "roll-nova-conductor", "roll-placement-api"));
}

#[test]
fn canary() {
    expect("no-canary", |plan| {
        step(plan, "canary/nova-compute@cmp1").actions.pop();
    });
    expect("no-canary", |plan| {
        let edges = stage(plan, "canary-nova-compute").after.clone();
        stage(plan, "waves-nova-compute").after = edges;
    });
    expect("no-canary", |plan| step(plan, "canary/nova-compute@cmp1").actions.rotate_right(1));
    expect("compute-not-disabled", |plan| {
        step(plan, "roll/nova-compute@cmp2").actions.remove(0);
    });
    expect("compute-not-given-back", |plan| {
        step(plan, "roll/nova-compute@cmp2").actions.pop();
    });
    expect("compute-not-given-back", |plan| {
        step(plan, "roll/nova-compute@cmp2").give_back.clear();
    });
}

#[test]
fn drain() {
    expect("not-drained", |plan| {
        step(plan, "roll/nova-api@ctl1").actions.remove(0);
    });
    expect("not-drained", |plan| {
        step(plan, "unpin/nova-api@ctl1").actions.remove(0);
    });
    expect("not-undrained", |plan| {
        step(plan, "roll/nova-api@ctl1").actions.pop();
    });
    expect("not-undrained", |plan| step(plan, "roll/nova-api@ctl1").give_back.clear());
    expect("drain-unguarded", |plan| {
        if let Action::DrainBackend { others_up_min, .. } = &mut step(plan, "roll/nova-api@ctl1").actions[0] {
            *others_up_min = 0;
        }
    });
}

#[test]
fn budget() {
    expect("budget-exceeded", |plan| {
        let stage = stage(plan, "roll-glance-api");
        stage.parallel_max = 3;
        stage.steps.iter_mut().for_each(|step| step.requires.clear());
    });
    expect("budget-exceeded", |plan| stage(plan, "roll-nova-conductor").parallel_max = 3);
    // The same replicas, spread over stages that have no order between them.
    expect("budget-exceeded", |plan| {
        let first = stage(plan, "roll-keystone-api").clone();
        let at = plan.stages.iter().position(|s| s.id == first.id).unwrap();
        for (i, step) in first.steps.iter().enumerate().skip(1) {
            let mut alone = first.clone();
            alone.id = format!("roll-keystone-{i}").parse().unwrap();
            alone.steps = vec![step.clone()];
            alone.steps[0].requires.clear();
            plan.stages.insert(at + i, alone);
        }
        plan.stages[at].steps.truncate(1);
    });
    // All computes of the zone at once.
    expect("budget-exceeded", |plan| {
        let canary = step(plan, "canary/nova-compute@cmp1").clone();
        let waves = stage(plan, "waves-nova-compute");
        waves.steps.push(canary);
        waves.parallel_max = 3;
        plan.stages.retain(|stage| stage.id.as_str() != "canary-nova-compute");
    });
    // A server that is down already counts.
    let mut down = input(2, 3, "2025.2", "2026.1");
    let servers = down.observation.backends.get_mut("glance").unwrap();
    if let volutus_model::Fact::Observed { value, .. } = servers {
        value[0].status = "DOWN".to_owned();
    }
    let (made, _) = plan(&down, &catalog()).unwrap();
    let findings = check_plan(&made, &down.inventory, &down.observation, &catalog(), &down.policy);
    assert!(findings.iter().any(|f| f.code == "budget-exceeded" && f.subject == "glance"));
}

#[test]
fn finalize() {
    expect("finalize-not-held", |plan| stage(plan, "contract-keystone").held = false);
    expect("finalize-not-held", |plan| {
        if let Action::MigrateSchema { phase, .. } = &mut step(plan, "expand/glance").actions[0] {
            *phase = SchemaPhase::Contract;
        }
    });
    expect("roll-held", |plan| stage(plan, "roll-glance-api").held = true);
    expect("finalize-too-early", |plan| stage(plan, "contract-keystone").after.clear());
}

#[test]
fn shadow() {
    let mut input = input(3, 3, "2025.2", "2026.1");
    input.policy.contract.gate = volutus_model::Gate::Block;
    let (good, _) = plan(&input, &catalog()).unwrap();
    let findings = check_plan(&good, &input.inventory, &input.observation, &catalog(), &input.policy);
    assert!(findings.is_empty(), "{findings:#?}");
    let shadows = good.steps().flat_map(|(_, step)| &step.actions);
    assert_eq!(shadows.filter(|action| matches!(action, Action::ShadowApi { writes: true, .. })).count(), 6);
    let mut reads = input.clone();
    reads.policy.contract.writes = false;
    let (reads, _) = plan(&reads, &catalog()).unwrap();
    let mut shadows = reads.steps().flat_map(|(_, step)| &step.actions);
    assert!(!shadows.any(|action| matches!(action, Action::ShadowApi { writes: true, .. })));
    let expect = |code: &str, spoil: &dyn Fn(&mut Plan)| {
        let findings = spoilt(&input, spoil);
        let found = findings.iter().any(|f| f.code == code && f.severity == Severity::Blocking);
        assert!(found, "`{code}` is not among {findings:#?}");
    };
    expect("shadow-not-stopped", &|plan| step(plan, "shadow/nova").give_back.clear());
    expect("shadow-late", &|plan| {
        for stage in &mut plan.stages {
            stage.after.retain(|after| after.as_str() != "shadow-neutron");
        }
    });
    expect("contract-unproved", &|plan| {
        plan.stages.retain(|stage| stage.id.as_str() != "shadow-glance");
        for stage in &mut plan.stages {
            stage.after.retain(|after| after.as_str() != "shadow-glance");
        }
    });
    expect("shadow-other-traffic", &|plan| {
        if let Action::ShadowApi { traffic, .. } = &mut step(plan, "shadow/nova").actions[0] {
            *traffic = Some("/var/log/other.log".to_owned());
        }
    });
    // What is asked again, and when.
    let again = good.steps().filter(|(_, step)| matches!(step.actions[0], Action::AskAgain { .. }));
    let again: Vec<(bool, &str)> = again.map(|(stage, step)| (stage.held, step.id.as_str())).collect();
    let services = ["cinder", "glance", "keystone", "neutron", "nova", "placement"];
    for service in services {
        assert!(again.contains(&(false, format!("again/{service}").as_str())), "{again:?}");
        assert!(again.contains(&(true, format!("finalized/{service}").as_str())), "{again:?}");
    }
    assert_eq!(again.len(), 12);
    expect("contract-not-asked-again", &|plan| {
        stage(plan, "contract-again").steps.retain(|step| step.id.as_str() != "again/nova");
    });
    expect("again-misplaced", &|plan| stage(plan, "contract-again").after.clear());
    expect("again-misplaced", &|plan| {
        for stage in &mut plan.stages {
            stage.after.retain(|after| after.as_str() != "contract-again");
        }
    });
    expect("again-misplaced", &|plan| stage(plan, "contract-finalized").after.clear());
    expect("again-without-before", &|plan| step(plan, "shadow/glance").actions.clear());
    expect("again-halts-finalized", &|plan| {
        if let Action::AskAgain { gate, .. } = &mut step(plan, "finalized/nova").actions[0] {
            *gate = volutus_model::Gate::Block;
        }
    });
    // A port that serves users, and the wrong release.
    for (from, to) in [(":28774", ":8774"), ("2026.1", "2025.2")] {
        expect("shadow-wrong", &|plan| {
            if let Action::ShadowApi { shadow, .. } = &mut step(plan, "shadow/nova").actions[0] {
                shadow.new = shadow.new.replace(from, to);
                shadow.to = shadow.to.replace(from, to);
            }
        });
    }
}

#[test]
fn gates() {
    let mut input = input(3, 3, "2025.2", "2026.1");
    for moment in volutus_model::Moment::ALL {
        for name in ["site", "smoke"] {
            let gate =
                format!("[[gates]]\nname = \"{name}\"\nargv = [\"/opt/{name}\"]\nwhen = \"{moment}\"\n");
            input.policy.gates.extend(volutus_model::Policy::parse(&gate).unwrap().gates);
        }
    }
    let (good, _) = plan(&input, &catalog()).unwrap();
    let findings = check_plan(&good, &input.inventory, &input.observation, &catalog(), &input.policy);
    assert!(findings.is_empty(), "{findings:#?}");
    let asked: Vec<&str> = good
        .steps()
        .filter(|(_, step)| matches!(step.actions[..], [Action::RunGate(_)]))
        .map(|(_, step)| step.id.as_str())
        .collect();
    assert_eq!(asked.len(), 10, "{asked:?}");
    assert_eq!(asked[..2], ["gate/before/site", "gate/before/smoke"]);
    let expect = |code: &str, spoil: &dyn Fn(&mut Plan)| {
        let findings = spoilt(&input, spoil);
        let found = findings.iter().any(|f| f.code == code && f.severity == Severity::Blocking);
        assert!(found, "`{code}` is not among {findings:#?}");
    };
    for moment in volutus_model::Moment::ALL {
        let id = format!("gates-{moment}");
        expect("gate-missing", &|plan| {
            stage(plan, &id).steps.remove(1);
        });
        // Another command than the policy's.
        expect("gate-unknown", &|plan| {
            if let Action::RunGate(gate) = &mut step(plan, &format!("gate/{moment}/site")).actions[0] {
                gate.argv.push("--force".to_owned());
            }
        });
        if moment != volutus_model::Moment::Before {
            expect("gate-early", &|plan| stage(plan, &id).after.clear());
        }
        if moment != volutus_model::Moment::After {
            expect("gate-late", &|plan| {
                for other in &mut plan.stages {
                    other.after.retain(|after| after.as_str() != id);
                }
            });
        }
    }
    expect("gate-unknown", &|plan| step(plan, "gate/before/site").action_timeout_s = 5);
}

#[test]
fn what_is_staged_is_what_is_locked() {
    let mut input = input(3, 3, "2025.2", "2026.1");
    let versions = &catalog().series[&"2026.1".parse().unwrap()].versions;
    let mut packages: BTreeMap<String, LockedPackage> = BTreeMap::new();
    for (service, version) in versions {
        let distribution = catalog().services[service].distribution.clone();
        packages.insert(distribution, LockedPackage { version: version.clone(), contents: None });
    }
    let library = LockedPackage { version: PackageVersion::new("9.7.1"), contents: None };
    packages.insert("oslo-config".to_owned(), library);
    packages.get_mut("keystone").unwrap().version = PackageVersion::new("29.0.0");
    input.lock = Some(LockedRelease { name: "autumn".parse().unwrap(), packages });
    let (made, _) = plan(&input, &catalog()).unwrap();
    assert_eq!(made.versions["keystone"].as_str(), "29.0.0", "the lock's version goes before the catalog's");
    let staged = made.steps().flat_map(|(_, step)| &step.actions).filter_map(|action| match action {
        Action::StageRelease { host, lock, .. } => Some((host.to_string(), lock.clone().unwrap())),
        _ => None,
    });
    let staged: BTreeMap<_, _> = staged.collect();
    assert!(staged.values().all(|lock| lock.packages.contains_key("oslo-config")));
    let with_keystone = staged.values().filter(|lock| lock.packages.contains_key("keystone")).count();
    assert!((1..staged.len()).contains(&with_keystone), "computes have no keystone");
    let codes = |plan: &Plan| -> Vec<String> {
        let findings = check_plan(plan, &input.inventory, &input.observation, &catalog(), &input.policy);
        findings.iter().map(|finding| finding.code.to_string()).collect()
    };
    assert!(!codes(&made).contains(&"staged-otherwise-than-locked".to_owned()));
    let mut other = made.clone();
    for action in
        other.stages.iter_mut().flat_map(|stage| &mut stage.steps).flat_map(|step| &mut step.actions)
    {
        if let Action::StageRelease { lock: Some(lock), .. } = action {
            lock.packages.remove("keystone");
        }
    }
    other.id = other.compute_id();
    assert!(codes(&other).contains(&"staged-otherwise-than-locked".to_owned()));

    input.lock.as_mut().unwrap().packages.remove("nova");
    let error = plan(&input, &catalog()).unwrap_err();
    assert!(error.to_string().contains("has no nova"), "{error}");
}
