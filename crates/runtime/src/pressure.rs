//! How much slower the cloud answers than in the run's own baseline: what batched work, which
//! nobody waits for, gives way to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use volutus_model::name::{ServiceName, StepId};
use volutus_model::plan::{Action, Phase, Plan, SchemaPhase};
use volutus_model::probe::Sample;

/// What is judged: long enough to hold every kind of request a few times.
const WINDOW_US: i64 = 20_000_000;
/// Fewer samples than this in the window say nothing.
const SAMPLES_MIN: usize = 20;
/// Work goes on once the slowness is down to this share of the limit, so that it does not start
/// and stop with every sample.
const RELEASE_SHARE: f64 = 0.75;

/// Compares what the synthetic user sees with what it saw before anything was touched.
#[derive(Debug, Clone)]
pub(crate) struct Pressure {
    limit_pct: u32,
    baseline: BTreeSet<StepId>,
    /// Latencies of the baseline in milliseconds, ascending, by kind of request.
    usual: BTreeMap<(ServiceName, String), Vec<f64>>,
    /// When a request was due, and how many times as long as usual it took.
    recent: VecDeque<(i64, f64)>,
    held: bool,
}

impl Pressure {
    /// Nothing where the plan has no work that gives way, or the policy does not want it to.
    pub fn new(plan: &Plan) -> Option<Self> {
        let gives_way = |action: &Action| {
            matches!(
                action,
                Action::MigrateSchema { phase: SchemaPhase::OnlineDataMigrations, .. }
                    | Action::ShadowApi { .. }
                    | Action::AskAgain { .. }
            )
        };
        let wanted = plan.policy.migrations_hold_pct > 0
            && plan.steps().any(|(_, step)| step.actions.iter().any(gives_way));
        let baseline = plan.steps().filter(|(stage, _)| stage.phase == Phase::Baseline);
        wanted.then(|| Self {
            limit_pct: plan.policy.migrations_hold_pct,
            baseline: baseline.map(|(_, step)| step.id.clone()).collect(),
            usual: BTreeMap::new(),
            recent: VecDeque::new(),
            held: false,
        })
    }

    /// Learns from the samples of the baseline what is usual.
    pub fn learn(&mut self, samples: &[Sample]) {
        let answered = samples.iter().filter(|sample| !sample.failed());
        for sample in answered.filter(|sample| sample.steps.iter().any(|step| self.baseline.contains(step))) {
            let usual = self.usual.entry((sample.service.clone(), sample.operation.clone())).or_default();
            let place = usual.partition_point(|latency| *latency < sample.latency_ms);
            usual.insert(place, sample.latency_ms);
        }
    }

    /// Takes samples in. The answer is there when something changes: why batched work is to wait,
    /// or that it may go on.
    pub fn take(&mut self, samples: &[Sample]) -> Option<Option<String>> {
        self.learn(samples);
        for sample in samples.iter().filter(|sample| !sample.failed()) {
            if sample.steps.iter().any(|step| self.baseline.contains(step)) {
                continue;
            }
            let usual = self.usual.get(&(sample.service.clone(), sample.operation.clone()));
            if let Some(median) = usual.and_then(|usual| usual.get(usual.len() / 2)) {
                self.recent.push_back((sample.due_us, sample.latency_ms / median.max(1.0)));
            }
        }
        let newest = self.recent.iter().map(|(due, _)| *due).max()?;
        self.recent.retain(|(due, _)| *due > newest - WINDOW_US);
        if self.recent.len() < SAMPLES_MIN {
            return None;
        }
        let mut times: Vec<f64> = self.recent.iter().map(|(_, times)| *times).collect();
        times.sort_by(f64::total_cmp);
        let typical = times.get(times.len() / 2).copied()?;
        let limit = f64::from(self.limit_pct) / 100.0;
        let held = typical > if self.held { limit * RELEASE_SHARE } else { limit };
        if held == self.held {
            return None;
        }
        self.held = held;
        Some(held.then(|| {
            format!("requests take {typical:.1} times as long as in the baseline, and up to {limit:.1} are allowed")
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use volutus_model::probe::SampleResult;

    fn samples(from_s: i64, latency_ms: f64, step: &str) -> Vec<Sample> {
        (0..40)
            .map(|number| Sample {
                due_us: (from_s * 10 + number) * 100_000,
                latency_ms: latency_ms * if number % 2 == 0 { 1.0 } else { 10.0 },
                service: "nova".parse().unwrap(),
                operation: if number % 2 == 0 { "list servers" } else { "boot to active" }.to_owned(),
                status: Some(200),
                result: SampleResult::Ok,
                steps: vec![step.parse().unwrap()],
                advertised: None,
            })
            .collect()
    }

    fn pressure(limit_pct: u32) -> Pressure {
        Pressure {
            limit_pct,
            baseline: ["baseline/watch".parse().unwrap()].into(),
            usual: BTreeMap::new(),
            recent: VecDeque::new(),
            held: false,
        }
    }

    #[test]
    fn slow_answers_hold_and_quick_ones_release() {
        let mut pressure = pressure(300);
        assert_eq!(pressure.take(&samples(0, 50.0, "baseline/watch")), None);
        assert_eq!(pressure.take(&samples(100, 100.0, "migrate/nova")), None, "twice as slow is allowed");
        let held = pressure.take(&samples(200, 200.0, "migrate/nova")).unwrap().unwrap();
        assert!(held.contains("4.0 times"), "{held}");
        // Between the two limits nothing changes: neither is it told again, nor released.
        assert_eq!(pressure.take(&samples(300, 130.0, "migrate/nova")), None);
        assert_eq!(pressure.take(&samples(400, 60.0, "migrate/nova")), Some(None));
    }

    #[test]
    fn without_a_baseline_nothing_is_judged() {
        let mut pressure = pressure(300);
        assert_eq!(pressure.take(&samples(100, 900.0, "migrate/nova")), None);
    }
}
