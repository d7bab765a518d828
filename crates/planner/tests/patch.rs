//! Patches within a series: what is touched and what is not, what is refused, that plancheck sees spoilt
//! plans, and that upgrades and their way back know the releases that patches leave.
//! `UPDATE_CASES=1` writes the reviewed files anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;

use support::{back_input, catalog, input, replaced};
use volutus_model::observation::Environment;
use volutus_model::plan::{Action, Phase, Plan, SchemaPhase, Step};
use volutus_model::{DaemonId, Fact, Finding, Observation, PackageVersion, Severity, VersionChange};
use volutus_plancheck::check_plan;
use volutus_planner::{Error, PatchInput, plan, plan_patch, plan_rollback, render_markdown};

fn version(text: &str) -> PackageVersion {
    PackageVersion::new(text)
}

fn change(distribution: &str, from: &str, to: &str) -> VersionChange {
    let from = BTreeSet::from([version(from)]);
    VersionChange { distribution: distribution.to_owned(), from, to: version(to) }
}

/// Makes the daemons whose id begins so run a version.
fn run(observation: &mut Observation, begins: &str, runs: &str) {
    for (id, fact) in &mut observation.daemons {
        if let (true, Fact::Observed { value, .. }) = (id.to_string().starts_with(begins), fact) {
            value.version = Fact::observed(version(runs), "test");
        }
    }
}

/// A cloud of 2025.2 whose keystone is 28.0.1.
fn exposed() -> PatchInput {
    let cloud = input(3, 3, "2025.2", "2026.1");
    let mut observation = cloud.observation;
    run(&mut observation, "keystone-api", "28.0.1");
    PatchInput {
        inventory: cloud.inventory,
        observation,
        vulnerability: "CVE-2026-42999".to_owned(),
        release: "cve-2026-42999".parse().unwrap(),
        changes: vec![change("keystone", "28.0.1", "28.0.2")],
        policy: cloud.policy.for_patch(),
        now: cloud.now,
    }
}

fn judge(input: &PatchInput, plan: &Plan) -> Vec<Finding> {
    check_plan(plan, &input.inventory, &input.observation, &catalog(), &input.policy)
}

fn switches(plan: &Plan) -> Vec<(String, String, String)> {
    let actions = plan.steps().flat_map(|(_, step)| &step.actions);
    actions
        .filter_map(|action| match action {
            Action::SwitchDaemon { daemon, from, to, .. } => {
                Some((daemon.to_string(), from.clone(), to.clone()))
            }
            _ => None,
        })
        .collect()
}

fn compare(file: &str, made: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(file);
    if std::env::var_os("UPDATE_CASES").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, made).unwrap();
    }
    let kept = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; set UPDATE_CASES=1", path.display()));
    assert!(kept == made, "{} differs from what was made:\n{made}", path.display());
}

#[test]
fn only_what_is_exposed_is_touched() {
    let input = exposed();
    let (made, report) = plan_patch(&input, &catalog()).unwrap();
    assert_eq!(made.id, made.compute_id());
    assert_eq!(judge(&input, &made), [], "{}", render_markdown(&made, Some(&report)));
    compare("patch-keystone/plan.md", &render_markdown(&made, None));
    compare("patch-keystone/report.txt", &report.to_string());
    let (old, new) = ("/opt/openstack/2025.2", "/opt/openstack/2025.2+cve-2026-42999");
    let wanted =
        ["ctl1", "ctl2", "ctl3"].map(|host| (format!("keystone-api@{host}"), old.to_owned(), new.to_owned()));
    assert_eq!(switches(&made), wanted);
    assert!(made.stages.iter().all(|stage| !stage.held));
    // The stored form can be read again.
    let text = serde_json::to_string(&made).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), made);
    // The contract gate stays where it is on.
    let mut gated = exposed();
    gated.policy.contract.gate = volutus_model::Gate::Block;
    let (made, _) = plan_patch(&gated, &catalog()).unwrap();
    assert!(made.stages.iter().any(|stage| stage.phase == Phase::Shadow));
    let asks =
        |stage: &&volutus_model::plan::Stage| matches!(stage.steps[0].actions[0], Action::AskAgain { .. });
    let again: Vec<&str> = made.stages.iter().filter(asks).map(|stage| stage.id.as_str()).collect();
    assert_eq!(again, ["contract-again"]);
    assert_eq!(judge(&gated, &made), []);
}

#[test]
fn part_of_a_service_may_be_exposed() {
    let mut input = exposed();
    run(&mut input.observation, "keystone-api@ctl2", "28.0.2");
    let (made, _) = plan_patch(&input, &catalog()).unwrap();
    let touched: Vec<String> = switches(&made).into_iter().map(|(daemon, ..)| daemon).collect();
    assert_eq!(touched, ["keystone-api@ctl1", "keystone-api@ctl3"]);
    assert_eq!(judge(&input, &made), []);
    run(&mut input.observation, "keystone-api@ctl2", "28.1.0");
    let refused = plan_patch(&input, &catalog()).unwrap_err();
    assert!(matches!(&refused, Error::PatchUneven { versions, .. } if versions.len() == 2), "{refused}");
}

#[test]
fn computes_are_patched_behind_a_canary() {
    let mut input = exposed();
    run(&mut input.observation, "nova-", "32.0.0");
    input.changes = vec![change("nova", "32.0.0", "32.1.1")];
    let (made, _) = plan_patch(&input, &catalog()).unwrap();
    assert_eq!(judge(&input, &made), []);
    let switched = switches(&made);
    assert!(switched.iter().all(|(daemon, ..)| daemon.starts_with("nova-")));
    assert_eq!(
        switched.len(),
        input.observation.daemons.keys().filter(|id| id.kind.as_str().starts_with("nova-")).count()
    );
    assert!(made.stages.iter().any(|stage| stage.phase == Phase::Canary));
}

/// Gives hosts environments with a library in them.
fn with_library(input: &mut PatchInput, distribution: &str, runs: &str) {
    let packages = [(distribution.to_owned(), version(runs))].into();
    let environment = Environment { packages };
    let digest = environment.digest();
    for fact in input.observation.hosts.values_mut() {
        if let Fact::Observed { value, .. } = fact {
            let path = "/opt/openstack/2025.2".to_owned();
            value.environments.insert(path, Fact::observed(digest.clone(), "test"));
        }
    }
    input.observation.environments.insert(digest, environment);
}

#[test]
fn code_of_another_service_in_the_same_environment_concerns_nobody() {
    let mut input = exposed();
    let (alone, _) = plan_patch(&input, &catalog()).unwrap();
    with_library(&mut input, "keystone", "28.0.1");
    let (beside, _) = plan_patch(&input, &catalog()).unwrap();
    assert_eq!(judge(&input, &beside), []);
    assert_eq!(switches(&beside), switches(&alone));
}

#[test]
fn a_library_concerns_whoever_has_loaded_it() {
    let mut input = exposed();
    with_library(&mut input, "keystonemiddleware", "10.12.0");
    input.changes = vec![change("keystonemiddleware", "10.12.0", "10.12.1")];
    let (made, _) = plan_patch(&input, &catalog()).unwrap();
    assert_eq!(judge(&input, &made), []);
    assert_eq!(switches(&made).len(), input.observation.daemons.len());
    // Versions of services stay, and the library is looked for where the release is staged.
    assert_eq!(made.versions["keystone"], version("28.0.1"));
    for (_, step) in made.steps() {
        for action in &step.actions {
            if let Action::StageRelease { patch, .. } = action {
                assert_eq!(patch.as_ref().unwrap().packages["keystonemiddleware"], version("10.12.1"));
            }
        }
    }
}

#[test]
fn what_is_not_seen_is_not_guessed() {
    let unseen = |daemon: &str| {
        let mut input = exposed();
        let id: DaemonId = daemon.parse().unwrap();
        input.observation.daemons.insert(id, Fact::unobserved("its host does not answer"));
        input
    };
    let refused = plan_patch(&unseen("keystone-api@ctl2"), &catalog()).unwrap_err();
    assert!(matches!(&refused, Error::Unseen { unseen } if unseen.len() == 1), "{refused}");
    // A dead compute does not hold up what does not concern it, and is named.
    let input = unseen("nova-compute@cmp2");
    let (made, report) = plan_patch(&input, &catalog()).unwrap();
    assert!(report.notes.iter().any(|note| note.subject == "nova-compute@cmp2"));
    assert_eq!(judge(&input, &made), []);
}

#[test]
fn refusals() {
    let mut input = exposed();
    run(&mut input.observation, "keystone-api", "28.0.2");
    let refused = plan_patch(&input, &catalog()).unwrap_err();
    assert!(matches!(refused, Error::NothingToPatch { .. }), "{refused}");

    let mut input = exposed();
    run(&mut input.observation, "keystone-api@ctl1", "29.0.1");
    input.changes[0].from.insert(version("29.0.1"));
    let refused = plan_patch(&input, &catalog()).unwrap_err();
    assert!(matches!(&refused, Error::PatchOfSeveralSeries { seen } if seen.len() == 2), "{refused}");

    let mut input = exposed();
    link(&mut input.observation, "keystone-api", "/opt/openstack/2025.2+cve-2026-42999");
    let refused = plan_patch(&input, &catalog()).unwrap_err();
    assert!(matches!(&refused, Error::ReleaseInUse { .. }), "{refused}");
    input.release = "again".parse().unwrap();
    let (made, _) = plan_patch(&input, &catalog()).unwrap();
    assert_eq!(judge(&input, &made), []);
    assert_eq!(switches(&made)[0].1, "/opt/openstack/2025.2+cve-2026-42999");
}

/// Lets daemons run from a release directory.
fn link(observation: &mut Observation, begins: &str, path: &str) {
    for (id, fact) in &mut observation.daemons {
        if let (true, Fact::Observed { value, .. }) = (id.to_string().starts_with(begins), fact) {
            value.link = Fact::observed(path.to_owned(), "test");
            value.release_path = Fact::observed(path.to_owned(), "test");
        }
    }
}

#[track_caller]
fn expect(code: &str, spoil: impl Fn(&mut Plan)) {
    let input = exposed();
    let (mut made, _) = plan_patch(&input, &catalog()).unwrap();
    spoil(&mut made);
    made.id = made.compute_id();
    let findings = judge(&input, &made);
    let found = findings.iter().any(|f| f.code == code && f.severity == Severity::Blocking);
    assert!(found, "`{code}` is not among {findings:#?}");
}

fn roll(plan: &mut Plan) -> &mut Step {
    let mut stages = plan.stages.iter_mut();
    &mut stages.find(|stage| stage.id.as_str() == "roll-keystone-api").unwrap().steps[1]
}

#[test]
fn spoilt_patches_are_caught() {
    expect("daemon-left-out", |plan| {
        let stage = plan.stages.iter_mut().find(|stage| stage.phase == Phase::Roll).unwrap();
        stage.steps.pop();
    });
    expect("daemon-unproved", |plan| {
        roll(plan).actions.retain(|action| !matches!(action, Action::ProveDaemon { .. }));
    });
    expect("not-drained", |plan| {
        roll(plan).actions.retain(|action| !matches!(action, Action::DrainBackend { .. }));
    });
    expect("budget-exceeded", |plan| {
        let stage = plan.stages.iter_mut().find(|stage| stage.phase == Phase::Roll).unwrap();
        stage.parallel_max = 3;
        stage.steps.iter_mut().for_each(|step| step.requires.clear());
    });
    expect("not-staged", |plan| plan.stages.iter_mut().for_each(|stage| stage.after.clear()));
    expect("switch-of-other-release", |plan| {
        for action in &mut roll(plan).actions {
            if let Action::SwitchDaemon { from, to, .. } = action {
                to.clone_from(from);
            }
        }
    });
    expect("patch-touches-others", |plan| {
        let mut other = roll(plan).clone();
        other.id = "roll/glance-api@ctl1".parse().unwrap();
        for action in &mut other.actions {
            if let Action::SwitchDaemon { daemon, .. } = action {
                *daemon = "glance-api@ctl1".parse().unwrap();
            }
        }
        plan.stages.iter_mut().find(|stage| stage.phase == Phase::Roll).unwrap().steps.push(other);
    });
    expect("patch-lowers-version", |plan| {
        changes(plan)[0].to = version("28.0.0");
    });
    expect("patch-of-other-version", |plan| {
        plan.versions.insert("keystone".parse().unwrap(), version("28.1.0"));
    });
    expect("version-of-other-series", |plan| {
        plan.versions.insert("keystone".parse().unwrap(), version("29.0.2"));
    });
    expect("patch-leaves-series", |plan| plan.to = "2026.1".parse().unwrap());
    expect("patch-content-unproved", |plan| {
        for action in plan.stages.iter_mut().flat_map(|s| &mut s.steps).flat_map(|s| &mut s.actions) {
            if let Action::StageRelease { patch: Some(patch), .. } = action {
                patch.packages.clear();
            }
        }
    });
    expect("patch-does-more", |plan| {
        let host = "ctl1".parse().unwrap();
        roll(plan).actions.push(Action::MigrateSchema {
            service: "keystone".parse().unwrap(),
            host,
            phase: SchemaPhase::Expand,
            argv: vec!["/opt/openstack/2025.2/bin/keystone-manage".to_owned()],
            success: BTreeSet::from([0]),
            rerun: BTreeSet::new(),
        });
    });
}

fn changes(plan: &mut Plan) -> &mut Vec<VersionChange> {
    match &mut plan.kind {
        volutus_model::PlanKind::Patch { changes, .. } => changes,
        other => panic!("{other:?} is no patch"),
    }
}

/// What a patch leaves: keystone runs from a release of its own, and the next upgrade begins there. Its way
/// back leads there again, and not to what is vulnerable.
#[test]
fn an_upgrade_begins_and_ends_where_a_patch_left() {
    let patched = "/opt/openstack/2025.2+cve-2026-42999";
    let mut upgrade = input(3, 3, "2025.2", "2026.1");
    run(&mut upgrade.observation, "keystone-api", "28.0.2");
    link(&mut upgrade.observation, "keystone-api", patched);
    for fact in upgrade.observation.hosts.values_mut() {
        if let Fact::Observed { value, .. } = fact {
            for versions in value.staged.values_mut() {
                versions.insert("keystone".parse().unwrap(), version("28.0.1"));
            }
        }
    }
    let (made, _) = plan(&upgrade, &catalog()).unwrap();
    let check = |plan: &Plan, observation: &Observation| {
        check_plan(plan, &upgrade.inventory, observation, &catalog(), &upgrade.policy)
    };
    assert_eq!(check(&made, &upgrade.observation), []);
    let from = |plan: &Plan, daemon: &str| {
        let found = switches(plan).into_iter().find(|(id, ..)| id == daemon).unwrap();
        (found.1, found.2)
    };
    let (own, new) = ("/opt/openstack/2025.2".to_owned(), "/opt/openstack/2026.1".to_owned());
    assert_eq!(from(&made, "keystone-api@ctl1"), (patched.to_owned(), new.clone()));
    assert_eq!(from(&made, "glance-api@ctl1"), (own.clone(), new.clone()));

    let mut seen = replaced(&upgrade, &made, |_| true);
    let packages = [("keystone".to_owned(), version("28.0.2"))].into();
    let environment = Environment { packages };
    for fact in seen.hosts.values_mut() {
        if let Fact::Observed { value, .. } = fact {
            value.environments.insert(patched.to_owned(), Fact::observed(environment.digest(), "test"));
        }
    }
    seen.environments.insert(environment.digest(), environment);
    let back = back_input(&upgrade, &made, seen);
    let (plan, _) = plan_rollback(&back, &catalog()).unwrap();
    assert_eq!(check(&plan, &back.observation), []);
    assert_eq!(from(&plan, "keystone-api@ctl1"), (new.clone(), patched.to_owned()));
    assert_eq!(from(&plan, "glance-api@ctl1"), (new, own));
    assert_eq!(plan.versions["keystone"], version("28.0.2"));
}
