//! Plans and checks a described cloud: `cargo run -p volutus-planner --example plan_described 10000`.

use std::time::Instant;

use volutus_catalog::Catalog;
use volutus_model::Policy;
use volutus_planner::{PlanningInput, described, plan};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let hosts = std::env::args().nth(1).map_or(Ok(100), |text| text.parse())?;
    let catalog = Catalog::builtin()?;
    let (inventory, observation) = described::cloud(hosts);
    let input = PlanningInput {
        inventory,
        observation,
        target: "2026.1".parse()?,
        versions: None,
        lock: None,
        policy: Policy::default(),
        now: "2026-11-24T00:00:00Z".parse()?,
        parent: None,
        drains: None,
    };
    let start = Instant::now();
    let (made, report) = plan(&input, &catalog)?;
    let planned = start.elapsed();
    let findings =
        volutus_plancheck::check_plan(&made, &input.inventory, &input.observation, &catalog, &input.policy);
    let checked = start.elapsed() - planned;
    let before = volutus_plancheck::preflight(
        &input.inventory,
        &input.observation,
        &catalog,
        made.from,
        made.to,
        &made.versions,
        &input.policy,
    );
    println!(
        "{hosts} hosts: {} steps, planned in {planned:?}, checked in {checked:?} ({} findings), \
         preflight in {:?} ({} findings); {}",
        made.steps().count(),
        findings.len(),
        start.elapsed() - planned - checked,
        before.len(),
        report.estimate
    );
    Ok(())
}
