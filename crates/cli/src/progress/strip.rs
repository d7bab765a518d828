//! The availability strip: one mark per service and moment, so that a single failed request of
//! one second ago is seen at a glance.

use std::collections::BTreeMap;

use owo_colors::OwoColorize as _;
use volutus_model::ServiceName;
use volutus_model::probe::Sample;

/// Seconds that one mark stands for.
const MARK_S: i64 = 2;

#[derive(Debug, Default, Clone, Copy)]
struct Mark {
    total: u32,
    failed: u32,
}

/// What the synthetic user saw, by service and moment.
#[derive(Debug, Default)]
pub struct Strip {
    marks: BTreeMap<ServiceName, BTreeMap<i64, Mark>>,
    totals: BTreeMap<ServiceName, Mark>,
}

impl Strip {
    /// Takes up new samples.
    pub fn add(&mut self, samples: &[Sample]) {
        for sample in samples {
            let moment = sample.due_us.div_euclid(1_000_000 * MARK_S);
            let failed = u32::from(sample.failed());
            let marks = self.marks.entry(sample.service.clone()).or_default();
            let mark = marks.entry(moment).or_default();
            mark.total += 1;
            mark.failed += failed;
            let total = self.totals.entry(sample.service.clone()).or_default();
            total.total += 1;
            total.failed += failed;
        }
    }

    /// Requests and failed requests so far.
    pub fn totals(&self) -> (u32, u32) {
        self.totals.values().fold((0, 0), |sum, mark| (sum.0 + mark.total, sum.1 + mark.failed))
    }

    /// One line per service, the latest moment at the right, `width` marks long.
    pub fn lines(&self, width: usize) -> Vec<String> {
        let latest = self.marks.values().filter_map(|m| m.keys().next_back()).max().copied();
        let Some(latest) = latest else { return Vec::new() };
        let first = latest - i64::try_from(width).unwrap_or(60) + 1;
        self.marks
            .iter()
            .map(|(service, marks)| {
                let strip: String = (first..=latest)
                    .map(|moment| match marks.get(&moment) {
                        None => "·".dimmed().to_string(),
                        Some(mark) if mark.failed > 0 => "✗".red().bold().to_string(),
                        Some(_) => "━".green().to_string(),
                    })
                    .collect();
                let total = self.totals.get(service).copied().unwrap_or_default();
                let failed = if total.failed > 0 {
                    format!("{} failed", total.failed).red().to_string()
                } else {
                    "0 failed".to_owned()
                };
                format!("{service:10} {strip} {:>6} requests, {failed}", total.total)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use volutus_model::probe::SampleResult;

    fn sample(second: i64, failed: bool) -> Sample {
        Sample {
            due_us: second * 1_000_000,
            latency_ms: 10.0,
            service: ServiceName::new("nova").unwrap(),
            operation: "list servers".to_owned(),
            status: Some(if failed { 503 } else { 200 }),
            result: if failed { SampleResult::Failed { why: "503".to_owned() } } else { SampleResult::Ok },
            steps: Vec::new(),
            advertised: None,
        }
    }

    #[test]
    fn one_failure_marks_its_moment() {
        let mut strip = Strip::default();
        strip.add(&[sample(100, false), sample(103, true), sample(103, false), sample(107, false)]);
        assert_eq!(strip.totals(), (4, 1));
        let lines = strip.lines(4);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains('✗') && lines[0].contains('·'), "{}", lines[0]);
        assert!(lines[0].contains("1 failed"));
    }
}
