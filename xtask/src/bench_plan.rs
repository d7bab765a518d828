//! `cargo xtask bench plan`: plans and checks described clouds of growing size.

use std::time::Instant;

use anyhow::{Context as _, bail};
use volutus_catalog::Catalog;
use volutus_model::Policy;
use volutus_planner::{PlanningInput, described};

const SIZES: [usize; 3] = [100, 1_000, 10_000];
const SECONDS_MAX: f64 = 2.0;
const MIB_MAX: u64 = 500;

/// The highest resident memory of this process so far, in MiB.
pub fn peak_mib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    let kib: u64 = line.split_whitespace().nth(1).context("no figure in VmHWM")?.parse()?;
    Ok(kib / 1024)
}

/// Measures, prints, and judges the largest size.
pub fn run() -> anyhow::Result<()> {
    let catalog = Catalog::builtin().context("the built-in catalog does not load")?;
    let mut figures = Vec::new();
    let mut last = (0.0, 0);
    for hosts in SIZES {
        let (inventory, observation) = described::cloud(hosts);
        let policy = Policy::default();
        let input = PlanningInput {
            inventory: inventory.clone(),
            observation: observation.clone(),
            target: "2026.1".parse()?,
            versions: None,
            lock: None,
            policy: policy.clone(),
            now: observation.at,
            parent: None,
            drains: None,
        };
        let start = Instant::now();
        let (plan, _report) = volutus_planner::plan(&input, &catalog)?;
        let planned = start.elapsed().as_secs_f64();
        let findings = volutus_plancheck::check_plan(&plan, &inventory, &observation, &catalog, &policy);
        let total = start.elapsed().as_secs_f64();
        if let Some(finding) = findings.first() {
            bail!("the plan for {hosts} hosts has a finding: {finding:?}");
        }
        let steps = plan.steps().count();
        let mib = peak_mib()?;
        println!(
            "{hosts:>6} hosts: {steps:>6} steps, planned in {planned:.3} s, planned and checked in {total:.3} s, peak {mib} MiB"
        );
        figures.push(format!("{hosts}: {total:.3} s"));
        last = (total, mib);
    }
    let (seconds, mib) = last;
    println!(
        "plan+check {} | peak {mib} MiB | goal under {SECONDS_MAX} s and {MIB_MAX} MiB at 10000",
        figures.join(", ")
    );
    if seconds >= SECONDS_MAX || mib >= MIB_MAX {
        bail!(
            "10,000 hosts took {seconds:.3} s and {mib} MiB; the goal is under {SECONDS_MAX} s and {MIB_MAX} MiB"
        );
    }
    Ok(())
}
