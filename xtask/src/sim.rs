//! `cargo xtask sim` and `cargo xtask mutants-sim`: many simulated runs with faults, and rules
//! that are wrong on purpose, which they have to notice.

use std::time::Instant;

use anyhow::bail;
use clap::Args;
use volutus_sim::{Mutant, Scenarios, catch_mutant, run_seed, run_seeds};

/// A mutant that so many seeds do not catch would not be caught by chance either. Most are caught within
/// a hundred; a stale process that goes on needs a takeover in the one moment in which it acts.
const MUTANT_SEEDS_MAX: u64 = 20_000;

/// What can be chosen.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// How many seeds are run.
    #[arg(long, default_value_t = 20_000)]
    pub seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    pub from: u64,
    /// Run this one alone, and show what happens in it.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Percent of the engine's transitions that all seeds together have to go through.
    #[arg(long, default_value_t = 100)]
    pub coverage_min: usize,
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs seeds, and fails where one breaks a rule or too few transitions were gone through.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let scenarios = Scenarios::new()?;
    if let Some(seed) = options.seed {
        return replay(&scenarios, seed);
    }
    let start = Instant::now();
    let report = run_seeds(&scenarios, options.from, options.seeds, threads())?;
    let seconds = start.elapsed().as_secs_f64();
    for (status, count) in &report.outcomes {
        println!("{count:>8} {status}");
    }
    for transition in report.coverage.missing() {
        println!("not gone through: {transition}");
    }
    let unexpected = report.coverage.unexpected();
    for transition in &unexpected {
        println!("not known to be legal: {transition}");
    }
    for (seed, violation) in report.violated.iter().take(20) {
        println!("cargo xtask sim --seed {seed}  # {}: {}", violation.rule, violation.seen);
    }
    let percent = report.coverage.percent();
    let (seen, total) = report.coverage.count();
    println!(
        "sim {} seeds, {} violations, {:.0} seeds/s | transitions {seen} of {total} ({percent} %) | goal 0 \
         violations and {} %",
        report.seeds,
        report.violated.len(),
        report.seeds as f64 / seconds,
        options.coverage_min,
    );
    if !report.violated.is_empty() || percent < options.coverage_min || !unexpected.is_empty() {
        bail!("the simulation found something; each line above replays one seed");
    }
    Ok(())
}

fn replay(scenarios: &Scenarios, seed: u64) -> anyhow::Result<()> {
    let report = run_seed(scenarios, seed, true)?;
    for (at_ms, line) in &report.trace {
        println!("{:>10.3} {line}", *at_ms as f64 / 1_000.0);
    }
    for violation in &report.violations {
        println!(
            "{:>10.3} VIOLATION {}: {}",
            violation.at_ms as f64 / 1_000.0,
            violation.rule,
            violation.seen
        );
    }
    println!("seed {seed}: {}, {} violations", report.status, report.violations.len());
    if !report.violations.is_empty() {
        bail!("seed {seed} breaks a rule");
    }
    Ok(())
}

/// Looks for each mutant whether a seed catches it, and fails where one gets away.
pub fn mutants() -> anyhow::Result<()> {
    let scenarios = Scenarios::new()?;
    let mut caught = 0;
    for mutant in Mutant::ALL {
        match catch_mutant(&scenarios, *mutant, 1, MUTANT_SEEDS_MAX)? {
            Some((seed, violation)) => {
                caught += 1;
                println!("{mutant:?}: caught by seed {seed}: {}: {}", violation.rule, violation.seen);
            }
            None => println!("{mutant:?}: NOT CAUGHT by {MUTANT_SEEDS_MAX} seeds"),
        }
    }
    let total = Mutant::ALL.len();
    println!("mutants caught {caught}/{total}");
    if caught < total {
        bail!("{} wrong rules get away", total - caught);
    }
    Ok(())
}
