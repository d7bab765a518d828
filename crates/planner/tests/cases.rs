//! Plans of clouds of many shapes, compared with what was reviewed before. Every plan is judged
//! by plancheck as well.
//!
//! `UPDATE_CASES=1 cargo test -p volutus-planner` writes the files anew; their difference is
//! then what has to be reviewed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::PathBuf;

use support::{catalog, fleet, input_of, part_of, reboot_policy, series, set_running, shape};
use volutus_model::{Advertising, Inventory, Severity};
use volutus_plancheck::{check_plan, preflight};
use volutus_planner::described::{describe_text, observe};
use volutus_planner::{PlanningInput, plan, render_dot, render_markdown};

struct Case {
    name: &'static str,
    hosts: (usize, usize),
    from: &'static str,
    to: &'static str,
    /// Changes what is seen, or the policy, once the cloud is read from its file.
    change: fn(&mut PlanningInput),
    /// The worst finding that plancheck may have.
    worst: Option<Severity>,
}

fn as_it_is(_: &mut PlanningInput) {}

/// Four computes are emptied, upgraded and restarted in one pass, one after another.
fn with_reboot(input: &mut PlanningInput) {
    let all = volutus_model::fleet::Selection::default();
    input.drains = Some(part_of(input, &mut fleet(), &reboot_policy(1), &all));
}

const CASES: [Case; 8] = [
    Case {
        name: "three-and-three",
        hosts: (3, 3),
        from: "2025.2",
        to: "2026.1",
        change: as_it_is,
        worst: None,
    },
    Case { name: "two-and-five", hosts: (2, 5), from: "2025.2", to: "2026.1", change: as_it_is, worst: None },
    Case {
        name: "one-controller",
        hosts: (1, 1),
        from: "2025.2",
        to: "2026.1",
        change: |input| input.policy.accept_downtime = true,
        worst: Some(Severity::Serious),
    },
    Case {
        name: "with-reboot",
        hosts: (3, 4),
        from: "2025.2",
        to: "2026.1",
        change: with_reboot,
        worst: None,
    },
    Case { name: "slurp", hosts: (3, 3), from: "2025.1", to: "2026.1", change: as_it_is, worst: None },
    Case { name: "to-2026-2", hosts: (3, 3), from: "2026.1", to: "2026.2", change: as_it_is, worst: None },
    Case {
        name: "only-grows",
        hosts: (3, 3),
        from: "2025.2",
        to: "2026.1",
        change: |input| input.policy.api.advertised = Advertising::OnlyGrows,
        worst: None,
    },
    Case {
        name: "half-rolled",
        hosts: (3, 3),
        from: "2025.2",
        to: "2026.1",
        change: |input| {
            for daemon in ["keystone-api@ctl1", "keystone-api@ctl2", "keystone-api@ctl3", "nova-compute@cmp1"]
            {
                set_running(&mut input.observation, daemon, "2026.1");
            }
        },
        worst: None,
    },
];

fn compare(path: &PathBuf, made: &str) {
    if std::env::var_os("UPDATE_CASES").is_some() {
        std::fs::write(path, made).unwrap();
    }
    let kept = std::fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{}: {error}; set UPDATE_CASES=1", path.display()));
    assert!(
        kept == made,
        "{} differs from what was made:\n{made}\nUPDATE_CASES=1 writes it anew",
        path.display()
    );
}

#[test]
fn plans_are_as_reviewed_and_pass_their_check() {
    let catalog = catalog();
    for case in CASES {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(case.name);
        let shape = shape(case.hosts.0, case.hosts.1, case.from);
        if std::env::var_os("UPDATE_CASES").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("cloud.toml"), describe_text(&shape)).unwrap();
        }
        let text = std::fs::read_to_string(folder.join("cloud.toml")).unwrap();
        let inventory = Inventory::parse(&text).unwrap();
        let observation = observe(&inventory, &shape);
        let mut input = input_of(inventory, observation, case.to);
        (case.change)(&mut input);
        let (made, report) = plan(&input, &catalog).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        compare(&folder.join("plan.md"), &render_markdown(&made, None));
        compare(&folder.join("report.txt"), &report.to_string());
        compare(&folder.join("plan.dot"), &render_dot(&made));

        assert_eq!(made.id, made.compute_id());
        let (again, _) = plan(&input, &catalog).unwrap();
        assert_eq!(again, made, "{}: the same input made another plan", case.name);
        let (_, observation, policy) = (&input.inventory, &input.observation, &input.policy);
        let findings = check_plan(&made, &input.inventory, observation, &catalog, policy);
        let worst = findings.iter().map(|finding| finding.severity).max();
        assert_eq!(worst, case.worst, "{}: {findings:#?}", case.name);
        let before = preflight(
            &input.inventory,
            observation,
            &catalog,
            series(case.from),
            series(case.to),
            &made.versions,
            policy,
        );
        let blocking = before.iter().find(|finding| finding.severity == Severity::Blocking);
        assert_eq!(blocking, None, "{}", case.name);
    }
}
