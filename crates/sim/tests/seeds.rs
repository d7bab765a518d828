//! A bounded part of what `cargo xtask sim` and `cargo xtask mutants-sim` do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use volutus_sim::{Scenarios, run_seeds};

#[test]
fn a_thousand_seeds_keep_every_rule() {
    let scenarios = Scenarios::new().unwrap();
    let report = run_seeds(&scenarios, 1, 1_000, 2).unwrap();
    let worst: Vec<String> = report
        .violated
        .iter()
        .take(10)
        .map(|(seed, it)| format!("cargo xtask sim --seed {seed}  # {}: {}", it.rule, it.seen))
        .collect();
    assert!(worst.is_empty(), "{} seeds break a rule:\n{}", report.violated.len(), worst.join("\n"));
    assert_eq!(report.coverage.unexpected(), Vec::<String>::new());
}
