//! A rehearsal: the plan for a certain cloud, carried out many times in its simulated twin with
//! what may go wrong, and what that came to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;
use volutus_catalog::Catalog;
use volutus_model::Finding;
use volutus_model::run::RunStatus;

use crate::Error;
use crate::advice::advise;
use crate::fault::{Faults, Mishap, Profile};
use crate::prepared::Prepared;
use crate::rng::Rng;
use crate::rollback::{WayBack, way_back_of};
use crate::scenario::draw_mishap;
use crate::simulation::{Config, Simulation, Temper};

/// How a plan is rehearsed.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How many times the plan is carried out.
    pub runs: u32,
    /// The same seed gives the same rehearsal.
    pub seed: u64,
    /// What goes wrong.
    pub profile: Profile,
    /// How many faults a run meets on average, where it is not the profile that says so.
    pub faults: Option<f64>,
    /// Threads.
    pub threads: usize,
}

/// Seconds over many runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// Runs that it is over.
    pub runs: usize,
    /// Half of the runs took no longer.
    pub p50: u64,
    /// Nine of ten took no longer.
    pub p90: u64,
    /// The longest.
    pub max: u64,
}

impl Spread {
    fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let at = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100).max(1) - 1;
            values.get(rank).copied().unwrap_or(0)
        };
        Self { runs: values.len(), p50: at(50), p90: at(90), max: values.last().copied().unwrap_or(0) }
    }
}

/// How long a stage took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageTime {
    /// The stage.
    pub stage: String,
    /// From its start to its end, in seconds, over the runs that completed it.
    pub seconds: Spread,
}

/// Steps of one kind that failed in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedSteps {
    /// The step without its host: `roll/nova-api`.
    pub steps: String,
    /// How it failed.
    pub why: String,
    /// How often, over all runs.
    pub times: u32,
}

/// The fewest replicas above what the policy wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeastHeadroom {
    /// Serving replicas minus the policy's minimum; negative where too few served.
    pub spare: i64,
    /// Where.
    pub backend: String,
    /// How many seconds after the beginning.
    pub at_s: u64,
    /// In which run, from 0.
    pub run: usize,
    /// Runs in which too few served at some moment.
    pub runs_below: usize,
}

/// What a rehearsal came to.
#[derive(Debug, Clone, Serialize)]
pub struct Rehearsal {
    /// The plan.
    pub plan: String,
    /// Its steps.
    pub steps: usize,
    /// How many times it was carried out.
    pub runs: u32,
    /// The seed.
    pub seed: u64,
    /// What went wrong.
    pub profile: Profile,
    /// Seconds from the beginning to the end of finalize, over the runs that got there.
    pub total_s: Spread,
    /// Seconds until everything is replaced and was watched.
    pub roll_s: Spread,
    /// By stage, in the order of the plan.
    pub stages: Vec<StageTime>,
    /// Where runs ended.
    pub endings: BTreeMap<String, u32>,
    /// Runs that ended as they should: complete, taken back, or halted with their cause and with
    /// the choice of resuming or giving up.
    pub ended_well: u32,
    /// Which steps failed how, the most frequent ones first. A step that was tried again counts
    /// each time.
    pub failed: Vec<FailedSteps>,
    /// The least headroom at any moment; `None` where no API is behind a load balancer.
    pub headroom: Option<LeastHeadroom>,
    /// Runs in which requests of users failed, because of faults.
    pub runs_with_failed_requests: u32,
    /// Requests of users that failed, per run.
    pub failed_requests: Spread,
    /// What went wrong, over all runs.
    pub faults: BTreeMap<String, u32>,
    /// Broken rules: defects of Volutus, each with the run that shows it.
    pub violations: Vec<String>,
    /// What would lower the risk.
    pub findings: Vec<Finding>,
}

/// What one run came to.
pub(crate) struct Outcome {
    pub ending: &'static str,
    pub well: bool,
    pub total_ms: Option<u64>,
    pub rolled_ms: Option<u64>,
    pub stages_ms: Vec<Option<u64>>,
    pub failures: Vec<(usize, String)>,
    pub headroom: Option<crate::monitor::Headroom>,
    pub failed_requests: u64,
    pub faults: Vec<(&'static str, u32)>,
    pub violations: Vec<crate::monitor::Violation>,
}

/// Carries a plan out many times.
///
/// # Errors
/// [`Error::Unfit`] where a thread breaks off, or the way back of a run cannot be simulated.
pub fn rehearse(prepared: &Arc<Prepared>, catalog: &Catalog, options: &Options) -> Result<Rehearsal, Error> {
    let mut faults = options.profile.faults();
    if let Some(wanted) = options.faults {
        // Without a profile, faults in the proportions of the mild one.
        let base = if options.profile == Profile::None { Profile::Mild.faults() } else { faults };
        let hours = prepared.expected_s as f64 / 3_600.0;
        faults = base.scaled(wanted, prepared.attempts, prepared.starts, hours);
    }
    let next = AtomicUsize::new(0);
    let runs = options.runs as usize;
    let part = || -> Result<Vec<(usize, Outcome)>, Error> {
        let mut done = Vec::new();
        loop {
            let run = next.fetch_add(1, Ordering::Relaxed);
            if run >= runs {
                return Ok(done);
            }
            done.push((run, rehearse_once(prepared, catalog, faults, options.seed, run)?));
        }
    };
    let parts: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.threads.max(1)).map(|_| scope.spawn(part)).collect();
        let broken =
            |_| Err(Error::Unfit("a thread of the rehearsal broke off; its message is above".to_owned()));
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(broken)).collect()
    });
    let mut all = Vec::with_capacity(runs);
    for part in parts {
        all.extend(part?);
    }
    all.sort_by_key(|(run, _)| *run);
    let outcomes: Vec<Outcome> = all.into_iter().map(|(_, outcome)| outcome).collect();
    Ok(sum_up(prepared, options, &outcomes))
}

fn rehearse_once(
    prepared: &Arc<Prepared>,
    catalog: &Catalog,
    faults: Faults,
    seed: u64,
    run: usize,
) -> Result<Outcome, Error> {
    let seed = Rng::new(seed, 100 + run as u64).next();
    let config = Config {
        seed,
        faults,
        mishaps: draw_mishaps(&mut Rng::new(seed, 4), &faults, prepared),
        crash_points: Vec::new(),
        script: Vec::new(),
        temper: Temper {
            // What is rehearsed is how far the run comes by itself.
            resume: 0.0,
            abort: 0.0,
            roll_back: 0.0,
            mend: 0.0,
            finalize: 0.0,
            resumes_max: 0,
            late_command: 0.0,
        },
        mutant: None,
        trace: false,
        fine: false,
        finalizes_at_once: true,
    };
    let mut simulation = Simulation::new(Arc::clone(prepared), &config);
    simulation.carry_out();
    let mut outcome = outcome_of(&mut simulation);
    if simulation.monitor.status == Some(RunStatus::Aborted) && simulation.monitor.rollback_due {
        simulation.settle();
        match way_back_of(&mut simulation, catalog)? {
            WayBack::Nothing => {
                outcome.ending = "given up before anything was replaced";
            }
            WayBack::Refused(_) => outcome.ending = "given up, no way back yet",
            WayBack::Open(back) => {
                let config = Config { mishaps: Vec::new(), ..config.clone() };
                let mut back = simulation.back(Arc::new(*back), &config);
                back.carry_out();
                let status = back.monitor.status;
                outcome.ending = match status {
                    Some(RunStatus::Succeeded) => "rolled back",
                    _ => "halted while it was rolled back",
                };
                outcome.violations = back.monitor.violations;
                outcome.failed_requests = back.failed_in_all;
                outcome.faults = back.fired;
            }
        }
        outcome.well = outcome.violations.is_empty();
    }
    Ok(outcome)
}

fn draw_mishaps(rng: &mut Rng, faults: &Faults, prepared: &Prepared) -> Vec<(u64, Mishap)> {
    let end_ms = (prepared.expected_s * 1_000).max(1);
    let hours = end_ms as f64 / 3_600_000.0;
    let mut mishaps = Vec::new();
    let mut draw = |rng: &mut Rng, per_hour: f64, make: &dyn Fn(&mut Rng) -> Mishap| {
        let expected = per_hour * hours;
        let count = expected as u64 + u64::from(rng.chance(expected.fract()));
        for _ in 0..count {
            mishaps.push((rng.below(end_ms), make(rng)));
        }
    };
    draw(rng, faults.hosts_per_hour, &|rng| draw_mishap(rng, prepared, 0..3));
    draw(rng, faults.people_per_hour, &|rng| draw_mishap(rng, prepared, 3..5));
    draw(rng, faults.crashes_per_hour, &|_| Mishap::Crash);
    mishaps
}

fn outcome_of(simulation: &mut Simulation<'_>) -> Outcome {
    let monitor = &mut simulation.monitor;
    let ending = match monitor.status {
        Some(RunStatus::Succeeded) => "complete",
        Some(RunStatus::Halted) => "halted with its choices",
        Some(RunStatus::Aborted) => "given up",
        _ => "without an end",
    };
    let complete = monitor.status == Some(RunStatus::Succeeded);
    Outcome {
        ending,
        well: monitor.violations.is_empty() && ending != "without an end",
        total_ms: complete.then_some(simulation.ended_at),
        rolled_ms: simulation.rolled_at,
        stages_ms: simulation.stages.iter().map(|(from, to)| (*to > 0).then(|| to - from)).collect(),
        failures: std::mem::take(&mut monitor.failures),
        headroom: monitor.headroom,
        failed_requests: simulation.failed_in_all,
        faults: std::mem::take(&mut simulation.fired),
        violations: std::mem::take(&mut monitor.violations),
    }
}

/// A step's id without its host.
pub(crate) fn kind_of_step(id: &str) -> &str {
    id.split('@').next().unwrap_or(id)
}

fn sum_up(prepared: &Prepared, options: &Options, outcomes: &[Outcome]) -> Rehearsal {
    let plan = &prepared.plan;
    let seconds = |values: Vec<u64>| Spread::of(values.into_iter().map(|ms| ms / 1_000).collect());
    let stages = plan.stages.iter().enumerate().map(|(at, stage)| StageTime {
        stage: stage.id.to_string(),
        seconds: seconds(outcomes.iter().filter_map(|outcome| outcome.stages_ms[at]).collect()),
    });
    let ids: Vec<&str> = plan.steps().map(|(_, step)| step.id.as_str()).collect();
    let mut failed: BTreeMap<(String, String), u32> = BTreeMap::new();
    let mut endings: BTreeMap<String, u32> = BTreeMap::new();
    let mut faults: BTreeMap<String, u32> = BTreeMap::new();
    let mut violations = Vec::new();
    for (run, outcome) in outcomes.iter().enumerate() {
        *endings.entry(outcome.ending.to_owned()).or_default() += 1;
        for (step, why) in &outcome.failures {
            let kind = kind_of_step(ids.get(*step).copied().unwrap_or_default());
            // Hosts and snapshots are steps per host or service; their kind says enough.
            let kind = if kind.starts_with("stage/") { "stage" } else { kind };
            *failed.entry((kind.to_owned(), why.clone())).or_default() += 1;
        }
        for (fault, count) in &outcome.faults {
            *faults.entry((*fault).to_owned()).or_default() += count;
        }
        violations.extend(outcome.violations.iter().map(|it| format!("run {run}: {}: {}", it.rule, it.seen)));
    }
    let mut failed: Vec<FailedSteps> =
        failed.into_iter().map(|((steps, why), times)| FailedSteps { steps, why, times }).collect();
    failed.sort_by_key(|failed| std::cmp::Reverse(failed.times));
    let mut rehearsal = Rehearsal {
        plan: plan.id.to_string(),
        steps: ids.len(),
        runs: options.runs,
        seed: options.seed,
        profile: options.profile,
        total_s: seconds(outcomes.iter().filter_map(|outcome| outcome.total_ms).collect()),
        roll_s: seconds(outcomes.iter().filter_map(|outcome| outcome.rolled_ms).collect()),
        stages: stages.collect(),
        endings,
        ended_well: outcomes.iter().map(|outcome| u32::from(outcome.well)).sum(),
        failed,
        headroom: least_headroom(prepared, outcomes),
        runs_with_failed_requests: outcomes.iter().map(|o| u32::from(o.failed_requests > 0)).sum(),
        failed_requests: Spread::of(outcomes.iter().map(|outcome| outcome.failed_requests).collect()),
        faults,
        violations,
        findings: Vec::new(),
    };
    rehearsal.findings = advise(prepared, &rehearsal, outcomes);
    rehearsal
}

fn least_headroom(prepared: &Prepared, outcomes: &[Outcome]) -> Option<LeastHeadroom> {
    let runs = outcomes.iter().enumerate();
    let (run, least) = runs
        .filter_map(|(run, outcome)| outcome.headroom.map(|headroom| (run, headroom)))
        .min_by_key(|(run, headroom)| (headroom.spare, *run))?;
    Some(LeastHeadroom {
        spare: least.spare,
        backend: prepared.topology.backends[least.backend].name.clone(),
        at_s: least.at_ms / 1_000,
        run,
        runs_below: outcomes.iter().filter(|o| o.headroom.is_some_and(|least| least.spare < 0)).count(),
    })
}
