//! End-to-end tests of Volutus on the real lab, run by `cargo xtask test`.
//!
//! Scenarios share labs, because bringing one up takes minutes; each scenario of a lab starts
//! from the state that the one before left, and says so in its name. A scenario that fails ends
//! its lab's list: what follows would prove nothing.

mod bad_input;
mod converge;
mod drain;
mod locked;
mod mitigation;
mod mutations;
mod network_agents;
mod patch;
mod schedules;
mod snapshots;
mod told;
mod upgrade;
mod upgrade_drains;
mod way_back;
mod world;

use std::process::ExitCode;
use std::time::Instant;

use world::{Lab, World};

type Scenario = (&'static str, fn(&World, &Lab) -> anyhow::Result<()>);

/// A lab and what is done with it, in order.
struct Suite {
    name: &'static str,
    /// Whether it is carried out only where its name is given.
    by_name: bool,
    up: &'static [&'static str],
    scenarios: &'static [Scenario],
}

const SUITES: &[Suite] = &[
    Suite {
        name: "e2e-adjacent",
        by_name: false,
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
            ("altered_release_halts_the_run", locked::altered_release_halts),
            ("killed_run_resumes_to_the_next_series", upgrade::killed_run_resumes),
        ],
    },
    Suite {
        name: "e2e-agents",
        by_name: true,
        up: &[
            "--series",
            "2025.2",
            "--controllers",
            "1",
            "--computes",
            "3",
            "--spare",
            "1",
            "--instances",
            "4",
            "--virt",
            "qemu",
            "--ml2",
            "openvswitch",
        ],
        scenarios: &[
            ("duties_of_network_nodes_are_told_beforehand", network_agents::duties_are_told),
            ("network_node_goes_away_and_nothing_is_missed", network_agents::away_and_back),
            ("all_network_nodes_restart_one_after_another", network_agents::all_restart),
        ],
    },
    Suite {
        name: "e2e-converge",
        by_name: true,
        up: &[
            "--series",
            "2025.2",
            "--controllers",
            "1",
            "--computes",
            "2",
            "--spare",
            "1",
            "--instances",
            "1",
            "--virt",
            "qemu",
        ],
        scenarios: &[
            ("post_copy_ends_what_never_converges", converge::post_copy),
            ("auto_converge_slows_it_down_until_it_converges", converge::auto_converge),
            ("force_complete_pauses_it", converge::force_complete),
            ("none_of_the_rungs_breaks_it_off_and_it_runs_on", converge::none_of_the_rungs),
        ],
    },
    Suite {
        name: "e2e-drain",
        by_name: true,
        up: &[
            "--series",
            "2025.2",
            "--controllers",
            "1",
            "--computes",
            "3",
            "--spare",
            "1",
            "--instances",
            "4",
        ],
        scenarios: &[
            ("host_is_drained_and_given_back_by_hand", drain::by_hand),
            ("killed_drain_resumes_and_moves_nothing_twice", drain::killed_in_a_drain),
            ("instance_is_stopped_with_consent_and_started_again", drain::stopped_with_consent),
            ("group_as_large_as_the_hosts_is_told_beforehand", drain::group_as_large_as_the_hosts),
            ("instance_that_never_converges_is_left_or_completed", drain::never_converges),
            ("refusing_destination_is_gone_around", drain::refused_by_the_destination),
            ("host_with_another_kernel_stays_out", drain::another_kernel),
            ("host_that_a_person_disables_meanwhile_is_theirs", drain::changed_meanwhile),
            ("instance_that_lands_in_between_is_moved_along", drain::new_instance_in_between),
            ("instance_that_lands_in_between_halts_where_it_should", drain::new_instance_that_nobody_moves),
            ("host_that_does_not_come_back_is_left_out", drain::does_not_come_back),
            ("hooks_are_around_each_restart_once_also_when_killed", drain::hooks::around_each_restart),
        ],
    },
    Suite {
        name: "e2e-mutations",
        by_name: true,
        up: &[
            "--series",
            "2025.2",
            "--offer",
            "2026.1",
            "--controllers",
            "2",
            "--computes",
            "2",
            "--instances",
            "4",
        ],
        scenarios: &[(
            "mutated_release_is_halted_before_users_meet_it_and_the_real_one_is_not",
            mutations::every_mutation_is_caught,
        )],
    },
    Suite {
        name: "e2e-patch",
        by_name: true,
        up: &[
            "--series",
            "2025.2",
            "--pin",
            "keystone==28.0.1",
            "--offer-patched",
            "cve-2026-42999=keystone==28.0.2",
            "--offer-patched",
            "cve-2026-90460=keystone==28.1.0",
            "--computes",
            "1",
            "--instances",
            "4",
        ],
        scenarios: &[
            ("exposure_names_versions_and_hosts", patch::exposure_is_seen),
            ("vulnerability_without_a_fix_is_said_to_have_none", patch::no_fix_is_said),
            ("vulnerability_is_closed_and_nothing_else_is_touched", patch::patched),
            ("another_one_is_closed_from_the_patched_release", patch::patched_again),
            ("upgrade_is_planned_from_the_patched_release", patch::upgrade_is_planned_from_there),
            ("vulnerability_without_a_fix_is_mitigated", mitigation::mitigated_and_taken_back),
        ],
    },
    Suite {
        name: "e2e-schedule",
        by_name: true,
        up: &["--series", "2025.2", "--offer", "2026.1", "--computes", "2"],
        scenarios: &[
            ("bad_release_holds_the_schedule", schedules::bad_release_holds_the_schedule),
            (
                "due_in_its_window_and_again_a_month_later",
                schedules::due_in_its_window_and_again_a_month_later,
            ),
        ],
    },
    Suite {
        name: "e2e-slurp",
        by_name: false,
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
    Suite {
        name: "e2e-upgrade-drain",
        by_name: true,
        up: &[
            "--series",
            "2025.2",
            "--offer",
            "2026.1",
            "--controllers",
            "2",
            "--computes",
            "3",
            "--spare",
            "1",
            "--instances",
            "4",
        ],
        scenarios: &[
            ("upgrade_that_restarts_hosts_is_refused_what_it_cannot_do", upgrade_drains::refusals),
            ("every_host_is_upgraded_and_restarted_in_one_pass", upgrade_drains::one_pass),
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
    let mut count = Count::default();
    let wanted = |suite: &&Suite| only.as_deref().map_or(!suite.by_name, |name| suite.name == name);
    for suite in SUITES.iter().filter(wanted) {
        run_suite(&world, suite, scenario_only.as_deref(), &mut count);
    }
    let Count { passed, failed } = count;
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Debug, Default)]
struct Count {
    passed: usize,
    failed: usize,
}

impl Count {
    /// Counts the end of one test, and says it.
    fn told(&mut self, name: &str, result: anyhow::Result<String>) -> bool {
        match result {
            Ok(what) => {
                println!("test {name} ... ok{what}");
                self.passed += 1;
                true
            }
            Err(error) => {
                println!("test {name} ... FAILED\n{error:#}");
                self.failed += 1;
                false
            }
        }
    }
}

/// Brings a suite's lab up, carries out its scenarios, and takes the lab down.
fn run_suite(world: &World, suite: &Suite, only: Option<&str>, count: &mut Count) {
    let start = Instant::now();
    let took = |start: Instant| format!(" ({} s)", start.elapsed().as_secs());
    let lab = match world.up(suite.name, suite.up) {
        Ok(lab) => lab,
        Err(error) => {
            count.told(&format!("{}::lab_comes_up", suite.name), Err(error));
            count.failed += suite.scenarios.len();
            return;
        }
    };
    count.told(&format!("{}::lab_comes_up", suite.name), Ok(took(start)));
    let mut broken = false;
    for (name, scenario) in suite.scenarios.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
        let name = format!("{}::{name}", suite.name);
        if broken {
            println!("test {name} ... FAILED (not run: an earlier one failed)");
            count.failed += 1;
            continue;
        }
        let start = Instant::now();
        broken = !count.told(&name, scenario(world, &lab).map(|()| took(start)));
    }
    if !world.reuse {
        let gone = lab.down_and_gone().map(|()| String::new());
        count.told(&format!("{}::lab_leaves_nothing_behind", suite.name), gone);
    }
}
