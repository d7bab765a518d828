//! Many seeds on all processors, and one seed with its trace.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use volutus_model::run::RunStatus;

use crate::Error;
use crate::coverage::Coverage;
use crate::monitor::Violation;
use crate::mutant::Mutant;
use crate::rollback::{WayBack, way_back_of};
use crate::scenario::{Outcomes, Scenarios};
use crate::simulation::{Simulation, Temper};

/// What came of one seed.
#[derive(Debug, Clone)]
pub struct SeedReport {
    /// The seed.
    pub seed: u64,
    /// Where the run stood at its end.
    pub status: String,
    /// What must not have happened.
    pub violations: Vec<Violation>,
    /// The transitions that it went through.
    pub coverage: Coverage,
    /// Virtual milliseconds and what happened, where a trace was asked for.
    pub trace: Vec<(u64, String)>,
    /// Faults, with how often each came.
    pub faults: Vec<(&'static str, u32)>,
}

/// What came of many.
#[derive(Debug, Clone, Default)]
pub struct SeedsReport {
    /// Seeds that were run.
    pub seeds: u64,
    /// Seeds with violations, each with its first one.
    pub violated: Vec<(u64, Violation)>,
    /// The transitions that all went through together.
    pub coverage: Coverage,
    /// Runs by where they ended.
    pub outcomes: Outcomes,
}

/// Runs one seed.
///
/// # Errors
/// Where its cloud cannot be planned for: a defect of the simulation.
pub fn run_seed(scenarios: &Scenarios, seed: u64, trace: bool) -> Result<SeedReport, Error> {
    run_one(scenarios, seed, None, trace)?
        .ok_or_else(|| Error::Unfit(format!("seed {seed} has no run without a mutant")))
}

fn run_one(
    scenarios: &Scenarios,
    seed: u64,
    mutant: Option<Mutant>,
    trace: bool,
) -> Result<Option<SeedReport>, Error> {
    let Some((prepared, config)) = scenarios.draw(seed, mutant, trace)? else { return Ok(None) };
    let mut simulation = Simulation::new(prepared, &config);
    simulation.carry_out();
    let went_back = go_back(scenarios, simulation)?;
    Ok(Some(went_back.report(seed)))
}

/// Takes the run back where that is due.
fn go_back<'c>(scenarios: &Scenarios, mut simulation: Simulation<'c>) -> Result<Ended, Error> {
    let due = simulation.monitor.status == Some(RunStatus::Aborted) && simulation.monitor.rollback_due;
    let spoilt = simulation.config.mutant.is_some() && !simulation.monitor.violations.is_empty();
    if !due || spoilt {
        return Ok(Ended::of(simulation, false));
    }
    simulation.settle();
    let now = simulation.now;
    match way_back_of(&mut simulation, &scenarios.catalog)? {
        WayBack::Nothing => {
            let mut ended = Ended::of(simulation, false);
            ended.status = "aborted, nothing to take back".to_owned();
            Ok(ended)
        }
        WayBack::Refused(why) => {
            simulation.say(|_| format!("no way back: {why}"));
            if simulation.monitor.excuses == 0 {
                simulation.monitor.violate(now, "no-way-back", why);
            }
            let mut ended = Ended::of(simulation, false);
            ended.status = "aborted, no way back yet".to_owned();
            Ok(ended)
        }
        WayBack::Open(prepared) => {
            let mut config = simulation.config.clone();
            config.mishaps.clear();
            config.script.clear();
            config.temper = Temper { resume: 1.0, mend: 1.0, resumes_max: 20, ..config.temper };
            let mut back = simulation.back(Arc::new(*prepared), &config);
            back.say(|_| "the run is taken back".to_owned());
            back.carry_out();
            Ok(Ended::of(back, true))
        }
    }
}

/// What is left of a simulation.
struct Ended {
    status: String,
    violations: Vec<Violation>,
    coverage: Coverage,
    trace: Vec<(u64, String)>,
    faults: Vec<(&'static str, u32)>,
}

impl Ended {
    fn of(simulation: Simulation<'_>, back: bool) -> Self {
        let status = simulation.monitor.status.map_or("not begun".to_owned(), |status| status.to_string());
        Self {
            status: if back { format!("rolled back, {status}") } else { status },
            violations: simulation.monitor.violations,
            coverage: simulation.monitor.coverage,
            trace: simulation.trace,
            faults: simulation.fired,
        }
    }

    fn report(self, seed: u64) -> SeedReport {
        let Self { status, violations, coverage, trace, faults } = self;
        SeedReport { seed, status, violations, coverage, trace, faults }
    }
}

/// Runs `count` seeds from `first` on, on that many threads.
///
/// # Errors
/// As [`run_seed`].
pub fn run_seeds(
    scenarios: &Scenarios,
    first: u64,
    count: u64,
    threads: usize,
) -> Result<SeedsReport, Error> {
    let next = AtomicU64::new(0);
    let parts: Vec<Result<SeedsReport, Error>> = std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..threads.max(1)).map(|_| scope.spawn(|| run_part(scenarios, first, count, &next))).collect();
        workers
            .into_iter()
            .map(|worker| {
                worker.join().unwrap_or_else(|_| {
                    Err(Error::Unfit("a thread of the simulation broke off; its message is above".to_owned()))
                })
            })
            .collect()
    });
    let mut whole = SeedsReport::default();
    for part in parts {
        let part = part?;
        whole.seeds += part.seeds;
        whole.violated.extend(part.violated);
        whole.coverage.add(&part.coverage);
        for (status, count) in part.outcomes {
            *whole.outcomes.entry(status).or_default() += count;
        }
    }
    whole.violated.sort_by_key(|(seed, _)| *seed);
    Ok(whole)
}

fn run_part(scenarios: &Scenarios, first: u64, count: u64, next: &AtomicU64) -> Result<SeedsReport, Error> {
    let mut part = SeedsReport::default();
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        if at >= count {
            return Ok(part);
        }
        let report = run_seed(scenarios, first + at, false)?;
        part.seeds += 1;
        part.coverage.add(&report.coverage);
        *part.outcomes.entry(report.status).or_default() += 1;
        if let Some(violation) = report.violations.into_iter().next() {
            part.violated.push((first + at, violation));
        }
    }
}

/// Looks for a seed, from `first` on, whose run shows that a mutant is wrong.
///
/// # Errors
/// As [`run_seed`].
pub fn catch_mutant(
    scenarios: &Scenarios,
    mutant: Mutant,
    first: u64,
    count: u64,
) -> Result<Option<(u64, Violation)>, Error> {
    for seed in first..first + count {
        let Some(report) = run_one(scenarios, seed, Some(mutant), false)? else { continue };
        if let Some(violation) = report.violations.into_iter().next() {
            return Ok(Some((seed, violation)));
        }
    }
    Ok(None)
}
