//! Rehearsals: reproducible, complete where nothing goes wrong, and with findings where it does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use volutus_catalog::Catalog;
use volutus_model::Policy;
use volutus_planner::{PlanningInput, described};
use volutus_sim::{Options, Prepared, Profile, Rehearsal, rehearse};

fn rehearsal(hosts: usize, profile: Profile, faults: Option<f64>, threads: usize) -> Rehearsal {
    let catalog = Catalog::builtin().unwrap();
    let (inventory, observation) = described::cloud(hosts);
    let input = PlanningInput {
        now: observation.at,
        inventory,
        observation,
        target: "2026.1".parse().unwrap(),
        versions: None,
        lock: None,
        policy: Policy::default(),
        parent: None,
        drains: None,
    };
    let prepared = Arc::new(Prepared::plan(&input, &catalog).unwrap());
    let options = Options { runs: 40, seed: 7, profile, faults, threads };
    rehearse(&prepared, &catalog, &options).unwrap()
}

#[test]
fn without_faults_every_run_is_complete_and_takes_about_what_is_expected() {
    let calm = rehearsal(12, Profile::None, None, 2);
    assert_eq!(calm.endings.get("complete"), Some(&40), "{:?}", calm.endings);
    assert_eq!((calm.ended_well, calm.runs_with_failed_requests), (40, 0));
    assert!(calm.violations.is_empty() && calm.failed.is_empty(), "{:?}", calm.violations);
    assert_eq!(calm.headroom.unwrap().spare, 1, "three replicas, one out, one must serve");
    assert!(calm.total_s.p50 <= calm.total_s.p90 && calm.total_s.p90 <= calm.total_s.max);
    assert!(calm.roll_s.p50 < calm.total_s.p50);
}

#[test]
fn the_same_seed_gives_the_same_rehearsal_on_any_number_of_threads() {
    let text = |threads| format!("{:?}", rehearsal(12, Profile::Harsh, None, threads));
    assert_eq!(text(1), text(3));
}

#[test]
fn faults_make_runs_halt_and_are_told_with_what_helps() {
    let harsh = rehearsal(12, Profile::Harsh, Some(40.0), 2);
    assert!(harsh.endings.contains_key("halted with its choices"), "{:?}", harsh.endings);
    assert_eq!(harsh.ended_well, 40, "{:?}", harsh.violations);
    assert!(!harsh.failed.is_empty() && !harsh.faults.is_empty());
    assert!(harsh.findings.iter().all(|finding| !finding.action.is_empty()));
    assert!(harsh.findings.iter().any(|finding| finding.code == "steps-fail"));
}
