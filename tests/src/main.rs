//! End-to-end tests of Volutus on the real lab, run by `cargo xtask test`.
//!
//! Scenarios share labs, because bringing one up takes minutes; each scenario of a lab starts
//! from the state that the one before left, and says so in its name. A scenario that fails ends
//! its lab's list: what follows would prove nothing.

mod bad_input;
mod snapshots;
mod told;
mod upgrade;
mod way_back;
mod world;

use std::process::ExitCode;
use std::time::Instant;

use world::{Lab, World};

type Scenario = (&'static str, fn(&World, &Lab) -> anyhow::Result<()>);

/// A lab and what is done with it, in order.
struct Suite {
    name: &'static str,
    up: &'static [&'static str],
    scenarios: &'static [Scenario],
}

const SUITES: &[Suite] = &[
    Suite {
        name: "e2e-adjacent",
        up: &["--series", "2025.2", "--offer", "2026.1", "--offer", "2026.2"],
        scenarios: &[
            ("observe_sees_every_running_version", upgrade::observe_sees_everything),
            ("unknown_series_is_refused", bad_input::unknown_series),
            ("forbidden_path_is_refused", bad_input::forbidden_path),
            ("malformed_description_is_refused_with_line_and_column", bad_input::malformed_description),
            ("unreachable_host_blocks", bad_input::unreachable_host),
            ("changed_host_key_blocks", bad_input::changed_host_key),
            ("wrong_password_is_named", bad_input::wrong_password),
            ("name_without_an_address_is_named", bad_input::name_without_address),
            ("full_and_read_only_disks_are_named", bad_input::spent_disk),
            ("missing_backend_blocks", bad_input::missing_backend),
            ("unapproved_plan_is_refused", bad_input::unapproved_plan),
            ("plan_edited_after_approval_is_refused", bad_input::edited_plan),
            ("plan_for_a_changed_cloud_is_refused", bad_input::changed_cloud),
            ("computes_that_die_behind_an_active_unit_halt_the_run", upgrade::dead_computes_halt),
            ("mended_run_resumes", upgrade::mended_run_resumes),
            ("upgrade_is_taken_back_and_nothing_is_lost", way_back::taken_back_by_hand),
            ("upgrade_after_a_rollback", way_back::upgraded_again),
            ("finalize_ends_the_run", upgrade::finalize),
            ("snapshot_is_restored_and_taken_back", snapshots::restored_and_taken_back),
            ("killed_run_resumes_to_the_next_series", upgrade::killed_run_resumes),
        ],
    },
    Suite {
        name: "e2e-slurp",
        up: &[
            "--series",
            "2025.1",
            "--offer",
            "2026.1",
            "--controllers",
            "2",
            "--computes",
            "5",
            "--controller-name",
            "control-{n}",
            "--compute-name",
            "hv{n}",
            "--zones",
            "2",
        ],
        scenarios: &[
            ("bad_release_is_taken_back_by_policy", way_back::bad_release_is_taken_back),
            ("slurp_upgrade_of_another_shape", upgrade::slurp_upgrade),
        ],
    },
];

fn main() -> ExitCode {
    let world = match World::from_environment() {
        Ok(world) => world,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    // A suite, and one scenario of it: for working on a scenario with VOLUTUS_E2E_REUSE=1, which
    // takes a lab that is up already and leaves it so.
    let only = std::env::args().nth(1);
    let scenario_only = std::env::args().nth(2);
    let (mut passed, mut failed) = (0, 0);
    for suite in SUITES.iter().filter(|suite| only.as_deref().is_none_or(|name| suite.name == name)) {
        let start = Instant::now();
        let lab = match world.up(suite.name, suite.up) {
            Ok(lab) => lab,
            Err(error) => {
                println!("test {}::lab_comes_up ... FAILED\n{error:#}", suite.name);
                failed += suite.scenarios.len() + 1;
                continue;
            }
        };
        println!("test {}::lab_comes_up ... ok ({} s)", suite.name, start.elapsed().as_secs());
        passed += 1;
        let mut broken = false;
        let wanted = suite
            .scenarios
            .iter()
            .filter(|(name, _)| scenario_only.as_deref().is_none_or(|only| only == *name));
        for (name, scenario) in wanted {
            if broken {
                println!("test {}::{name} ... FAILED (not run: an earlier one failed)", suite.name);
                failed += 1;
                continue;
            }
            let start = Instant::now();
            match scenario(&world, &lab) {
                Ok(()) => {
                    println!("test {}::{name} ... ok ({} s)", suite.name, start.elapsed().as_secs());
                    passed += 1;
                }
                Err(error) => {
                    println!("test {}::{name} ... FAILED\n{error:#}", suite.name);
                    failed += 1;
                    broken = true;
                }
            }
        }
        if world.reuse {
            continue;
        }
        match lab.down_and_gone() {
            Ok(()) => {
                println!("test {}::lab_leaves_nothing_behind ... ok", suite.name);
                passed += 1;
            }
            Err(error) => {
                println!("test {}::lab_leaves_nothing_behind ... FAILED\n{error:#}", suite.name);
                failed += 1;
            }
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
