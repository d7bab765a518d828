//! Input of which no plan can be made, and what is said about it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::{catalog, input, series, set_running};
use volutus_model::{Fact, PackageVersion};
use volutus_planner::{Error, parse_target, plan};

fn refusal(input: &volutus_planner::PlanningInput) -> String {
    plan(input, &catalog()).expect_err("a plan was made").to_string()
}

#[test]
fn unknown_series() {
    let say = |text: &str| parse_target(text, &catalog()).unwrap_err().to_string();
    insta::assert_snapshot!(say("2026.3"), @"unknown series `2026.3`: known are 2023.1, 2023.2, 2024.1, 2024.2, 2025.1, 2025.2, 2026.1, 2026.2. Did you mean 2026.2?");
    assert!(say("gazpaco").ends_with("Did you mean 2026.1?"));
    assert_eq!(parse_target("Gazpacho", &catalog()).unwrap(), series("2026.1"));
    let mut input = input(3, 3, "2025.2", "2026.1");
    input.target = series("2031.1");
    assert!(matches!(plan(&input, &catalog()), Err(Error::UnknownSeries { .. })));
}

#[test]
fn forbidden_path() {
    insta::assert_snapshot!(refusal(&input(3, 3, "2025.1", "2026.2")), @"no upgrade leads from 2025.1 to 2026.2 in one run: OpenStack supports going to the next series, and from one SLURP series (the first of a year) to the next SLURP series. The allowed way is by one run each to 2026.1, 2026.2");
    assert!(refusal(&input(3, 3, "2026.1", "2025.2")).contains("is older"));
}

#[test]
fn nothing_to_do() {
    insta::assert_snapshot!(refusal(&input(1, 1, "2026.1", "2026.1")), @"all 14 daemons run 2026.1 in the wanted versions already: nothing is to be done");
}

#[test]
fn what_was_not_seen_is_not_guessed() {
    let mut input = input(3, 3, "2025.2", "2026.1");
    let id: volutus_model::DaemonId = "nova-api@ctl2".parse().unwrap();
    input.observation.daemons.insert(id.clone(), Fact::unobserved("ctl2 did not answer in 10 s"));
    insta::assert_snapshot!(refusal(&input), @r"
    what 1 of the declared daemons run was not seen, and a plan is never made on a guess:
      nova-api@ctl2: ctl2 did not answer in 10 s
    ");
    input.observation.daemons.remove(&id);
    assert!(refusal(&input).contains("nova-api@ctl2: it was not looked at"));
}

#[test]
fn mixed_series() {
    let mut input = input(3, 3, "2025.2", "2026.1");
    set_running(&mut input.observation, "glance-api@ctl1", "2025.1");
    let message = refusal(&input);
    assert!(message.contains("2025.1 on 1 daemons (for example glance-api@ctl1)"), "{message}");
}

#[test]
fn another_version_of_the_target() {
    let mut input = input(3, 3, "2025.2", "2026.1");
    let id = "nova-api@ctl2".parse().unwrap();
    if let Some(Fact::Observed { value, .. }) = input.observation.daemons.get_mut(&id) {
        value.version = Fact::observed(PackageVersion::new("33.0.0"), "test");
    }
    assert!(matches!(plan(&input, &catalog()), Err(Error::OtherVersionOfTarget { .. })));
    // With that version as the wanted one it is simply there already.
    let nova = "nova".parse().unwrap();
    input.versions = Some([(nova, PackageVersion::new("33.0.0"))].into());
    let (made, _) = plan(&input, &catalog()).unwrap();
    assert!(made.step(&"roll/nova-api@ctl2".parse().unwrap()).is_none());
    assert_eq!(made.versions["nova"].as_str(), "33.0.0");
}

#[test]
fn versions_of_another_series() {
    let mut input = input(3, 3, "2025.2", "2026.1");
    input.versions = Some([("nova".parse().unwrap(), PackageVersion::new("34.0.0"))].into());
    assert!(refusal(&input).contains("it belongs to 2026.2"));
}

#[test]
fn daemons_that_nobody_knows() {
    let mut input = input(3, 3, "2025.2", "2026.1");
    input.inventory.roles[0].daemons[0].kind = "keystone-appi".parse().unwrap();
    input.observation.inventory = input.inventory.digest();
    let message = refusal(&input);
    assert!(message.contains("`keystone-appi`. Did you mean keystone-api?"), "{message}");
}

#[test]
fn an_observation_of_another_description() {
    let mut input = input(3, 3, "2025.2", "2026.1");
    input.inventory.hosts.pop();
    assert!(matches!(plan(&input, &catalog()), Err(Error::OtherInventory { .. })));
}
