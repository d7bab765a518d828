//! Clouds for tests: a shape, changed as a case asks.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use volutus_catalog::Catalog;
use volutus_model::{Fact, Inventory, Observation, PackageVersion, Policy, Series};
use volutus_planner::PlanningInput;
use volutus_planner::described::{Shape, describe, observe};

pub fn catalog() -> Catalog {
    Catalog::builtin().unwrap()
}

pub fn series(text: &str) -> Series {
    text.parse().unwrap()
}

pub fn shape(controllers: usize, computes: usize, from: &str) -> Shape {
    Shape::new(controllers, computes, series(from), &catalog()).unwrap()
}

pub fn input_of(inventory: Inventory, observation: Observation, to: &str) -> PlanningInput {
    PlanningInput {
        inventory,
        observation,
        target: series(to),
        versions: None,
        policy: Policy::default(),
        now: "2026-11-24T01:02:03Z".parse().unwrap(),
        parent: None,
    }
}

pub fn input(controllers: usize, computes: usize, from: &str, to: &str) -> PlanningInput {
    let shape = shape(controllers, computes, from);
    let inventory = describe(&shape);
    let observation = observe(&inventory, &shape);
    input_of(inventory, observation, to)
}

/// Makes a daemon run the latest version of a series.
pub fn set_running(observation: &mut Observation, daemon: &str, to: &str) {
    let catalog = catalog();
    let id = daemon.parse().unwrap();
    let service = daemon.split('-').next().unwrap();
    let version: PackageVersion = catalog.series[&series(to)].versions[service].clone();
    let Some(Fact::Observed { value, .. }) = observation.daemons.get_mut(&id) else {
        panic!("{daemon} is not in the observation");
    };
    value.version = Fact::observed(version, "test");
}
