//! Counts the synthetic user's failures, and the data plane's silences, against the policy.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::Timestamp;
use volutus_model::event::{Event, JournalEntry, ProbeBreach, Silence};
use volutus_model::name::StageId;
use volutus_model::plan::{Phase, Plan};
use volutus_model::probe::{Sample, SampleResult};

/// So many of the last failures go into the record of a breach.
const LAST_MAX: usize = 10;

/// Failures count from the end of the baseline on: what failed before anything was touched is
/// not the run's doing. They count anew from every resumption, or a run that a person decided
/// to go on with would halt again for what that person had seen.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    baseline: BTreeSet<StageId>,
    since: Option<Timestamp>,
    failed_max: u64,
    failed: u64,
    total: u64,
    last: VecDeque<String>,
    /// Milliseconds for which an address of the data plane may be silent.
    gap_max_ms: u32,
    /// When each address answered last, in microseconds since the Unix epoch. One that never did is
    /// not silent by the run's doing.
    answered: BTreeMap<String, i64>,
}

impl Watch {
    pub fn new(plan: &Plan) -> Self {
        let baseline = plan.stages.iter().filter(|stage| stage.phase == Phase::Baseline);
        Self {
            baseline: baseline.map(|stage| stage.id.clone()).collect(),
            since: None,
            failed_max: u64::from(plan.policy.failed_requests_max.max(1)),
            failed: 0,
            total: 0,
            last: VecDeque::new(),
            gap_max_ms: plan.policy.reach_gap_max_ms,
            answered: BTreeMap::new(),
        }
    }

    /// Follows the journal.
    pub fn follow(&mut self, entry: &JournalEntry) {
        match &entry.event {
            Event::StageCompleted { stage } if self.baseline.remove(stage) && self.baseline.is_empty() => {
                self.begin(entry.at);
            }
            Event::RunCreated { .. } if self.baseline.is_empty() => self.begin(entry.at),
            Event::Resumed if self.since.is_some() => self.begin(entry.at),
            _ => {}
        }
    }

    fn begin(&mut self, at: Timestamp) {
        self.since = Some(at);
        (self.failed, self.total) = (0, 0);
        self.last.clear();
    }

    /// From when on samples count, in microseconds since the Unix epoch.
    pub fn since_us(&self) -> Option<i64> {
        self.since.map(Timestamp::as_microsecond)
    }

    /// Takes over what an earlier process has counted.
    pub fn take_over(&mut self, failed: u64, total: u64) {
        (self.failed, self.total) = (failed, total);
    }

    /// Counts samples, and says so where there are new failures and more than the policy allows.
    pub fn count(&mut self, samples: &[Sample]) -> Option<ProbeBreach> {
        let since = self.since_us()?;
        let mut worse = false;
        for sample in samples.iter().filter(|sample| sample.due_us >= since) {
            self.total += 1;
            if let SampleResult::Failed { why } = &sample.result {
                worse = true;
                self.failed += 1;
                self.last.push_back(line(sample, why));
                if self.last.len() > LAST_MAX {
                    self.last.pop_front();
                }
            }
        }
        (worse && self.failed >= self.failed_max).then(|| self.breach(None))
    }

    /// Looks at what was reached past the APIs, and says so where an address that has answered is silent
    /// for longer than the policy allows; once for every silence.
    pub fn reach(&mut self, samples: &[Sample]) -> Option<ProbeBreach> {
        let mut silent = None;
        for sample in samples {
            let target = sample.operation.as_str();
            if !sample.failed() {
                // An answer to an earlier attempt may be taken up behind that to a later one.
                let at = sample.due_us + (sample.latency_ms * 1000.0) as i64;
                let last = self.answered.entry(target.to_owned()).or_insert(at);
                *last = at.max(*last);
                continue;
            }
            let (Some(since), Some(last)) = (self.since_us(), self.answered.get(target)) else { continue };
            let for_ms = sample.due_us.saturating_sub(since.max(*last)) / 1000;
            if for_ms > i64::from(self.gap_max_ms) {
                self.answered.remove(target);
                let for_ms = u64::try_from(for_ms).unwrap_or_default();
                silent = Some(Silence { target: target.to_owned(), for_ms });
            }
        }
        silent.map(|silent| self.breach(Some(silent)))
    }

    fn breach(&self, silent: Option<Silence>) -> ProbeBreach {
        let last = self.last.iter().cloned().collect();
        ProbeBreach { failed: self.failed, total: self.total, last, silent }
    }
}

fn line(sample: &Sample, why: &str) -> String {
    let due = Timestamp::from_microsecond(sample.due_us).map_or(String::new(), |at| at.to_string());
    let status = sample.status.map_or("no answer".to_owned(), |status| format!("HTTP {status}"));
    format!("{due} {} {}: {status}: {why}", sample.service, sample.operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(baseline: &[&str], failed_max: u64) -> Watch {
        Watch {
            baseline: baseline.iter().map(|id| id.parse().unwrap()).collect(),
            since: None,
            failed_max,
            failed: 0,
            total: 0,
            last: VecDeque::new(),
            gap_max_ms: 1000,
            answered: BTreeMap::new(),
        }
    }

    fn entry(at_s: i64, event: Event) -> JournalEntry {
        JournalEntry {
            format: 1,
            run: "r".parse().unwrap(),
            seq: 0,
            epoch: 1,
            at: Timestamp::from_second(at_s).unwrap(),
            actor: volutus_model::Actor("t".to_owned()),
            prev_hash: String::new(),
            event,
        }
    }

    fn sample(due_s: i64, failed: bool) -> Sample {
        let result =
            if failed { SampleResult::Failed { why: "refused".to_owned() } } else { SampleResult::Ok };
        Sample {
            due_us: due_s * 1_000_000,
            latency_ms: 1.0,
            service: "nova".parse().unwrap(),
            operation: "list servers".to_owned(),
            status: (!failed).then_some(200),
            result,
            steps: Vec::new(),
            advertised: None,
        }
    }

    #[test]
    fn failures_count_from_the_end_of_the_baseline() {
        let mut watch = watch(&["baseline"], 2);
        watch.follow(&entry(0, Event::RunCreated { plan: "p".parse().unwrap() }));
        assert_eq!(watch.count(&[sample(1, true), sample(2, true)]), None);
        watch.follow(&entry(10, Event::StageCompleted { stage: "baseline".parse().unwrap() }));
        assert_eq!(watch.count(&[sample(9, true), sample(11, true), sample(11, false)]), None);
        let breach = watch.count(&[sample(12, true)]).unwrap();
        assert_eq!((breach.failed, breach.total), (2, 3));
        assert_eq!(breach.last[1], "1970-01-01T00:00:12Z nova list servers: no answer: refused");
        assert_eq!(watch.count(&[sample(13, false)]), None, "no new failure, no new breach");
    }

    #[test]
    fn a_resumption_counts_anew() {
        let mut watch = watch(&[], 1);
        watch.follow(&entry(0, Event::RunCreated { plan: "p".parse().unwrap() }));
        assert!(watch.count(&[sample(1, true)]).is_some());
        watch.follow(&entry(20, Event::Resumed));
        assert_eq!(watch.count(&[sample(19, true)]), None, "it was due before the resumption");
        assert_eq!(watch.count(&[sample(21, true)]).unwrap().failed, 1);
    }
    #[test]
    fn an_address_that_falls_silent_is_told_once() {
        let mut watch = watch(&[], 1);
        let ping = |due_ms: i64, failed| Sample {
            due_us: due_ms * 1000,
            operation: "ping vm".to_owned(),
            service: volutus_model::probe::DATA_PLANE.parse().unwrap(),
            ..sample(0, failed)
        };
        watch.follow(&entry(0, Event::RunCreated { plan: "p".parse().unwrap() }));
        assert_eq!(watch.reach(&[ping(5_000, true)]), None, "it never answered");
        assert_eq!(watch.reach(&[ping(5_200, false), ping(5_400, true), ping(6_200, true)]), None);
        let breach = watch.reach(&[ping(6_400, true)]).unwrap();
        assert_eq!(breach.silent, Some(Silence { target: "ping vm".to_owned(), for_ms: 1199 }));
        assert_eq!(watch.reach(&[ping(9_000, true)]), None, "it was told");
        assert_eq!(watch.reach(&[ping(9_200, false), ping(9_400, true)]), None);
        // A person who resumes has seen it.
        watch.follow(&entry(10, Event::Resumed));
        assert_eq!(watch.reach(&[ping(10_900, true)]), None);
        assert!(watch.reach(&[ping(11_100, true)]).is_some());
    }
}
