//! `cargo xtask bench rehearse`: rehearses an upgrade of a described cloud of 1,000 hosts.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};
use volutus_catalog::Catalog;
use volutus_model::Policy;
use volutus_planner::{PlanningInput, described};
use volutus_sim::{Options, Prepared, Profile, rehearse};

const HOSTS: usize = 1_000;
const RUNS: u32 = 1_000;
const SECONDS_MAX: f64 = 30.0;

/// Measures, prints and judges.
pub fn run() -> anyhow::Result<()> {
    let catalog = Catalog::builtin().context("the built-in catalog does not load")?;
    let (inventory, observation) = described::cloud(HOSTS);
    let input = PlanningInput {
        now: observation.at,
        inventory,
        observation,
        target: "2026.1".parse()?,
        versions: None,
        lock: None,
        policy: Policy::default(),
        parent: None,
        drains: None,
    };
    let start = Instant::now();
    let prepared = Arc::new(Prepared::plan(&input, &catalog)?);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    // Without faults every run goes to its end, which is the most there is to carry out.
    let options = Options { runs: RUNS, seed: 1, profile: Profile::None, faults: None, threads };
    let rehearsal = rehearse(&prepared, &catalog, &options)?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "rehearse {HOSTS} hosts, {} steps, {RUNS} runs on {threads} threads: {seconds:.1} s, {:.1} ms of a \
         processor per run, {} complete | goal under {SECONDS_MAX} s",
        rehearsal.steps,
        seconds * threads as f64 * 1_000.0 / f64::from(RUNS),
        rehearsal.endings.get("complete").copied().unwrap_or(0),
    );
    if seconds >= SECONDS_MAX || rehearsal.ended_well != RUNS {
        bail!("{seconds:.1} s, and {} of {RUNS} runs ended well", rehearsal.ended_well);
    }
    Ok(())
}
