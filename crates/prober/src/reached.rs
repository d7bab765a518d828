//! How reachable the data plane was, from the samples of [`crate::reach`]. Pure.

use std::collections::{BTreeMap, BTreeSet};

use volutus_model::probe::Sample;
use volutus_model::verdict::Reached;

/// What was seen of every target in the stretches that count, given in microseconds since the
/// epoch, and a sentence for each that was silent for longer than the policy allows.
pub(crate) fn judge<'a>(
    samples: impl Iterator<Item = &'a Sample>,
    stretches: &[(i64, i64)],
    gap_max_ms: u32,
) -> (BTreeMap<String, Reached>, Vec<String>) {
    let mut targets: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
    for sample in samples.filter(|sample| !sample.is_request()) {
        targets.entry(&sample.operation).or_default().push(sample);
    }
    let mut reasons = Vec::new();
    let mut reached = BTreeMap::new();
    for (target, samples) in targets {
        let seen = of_target(&samples, stretches);
        if seen.longest_gap_ms > f64::from(gap_max_ms) {
            let during: Vec<&str> = seen.gap_steps.iter().map(|step| step.as_str()).collect();
            reasons.push(format!(
                "data plane: no answer to {target} for {:.1} s (during {}); the policy allows {:.1} s",
                seen.longest_gap_ms / 1000.0,
                if during.is_empty() { "no step".to_owned() } else { during.join(", ") },
                f64::from(gap_max_ms) / 1000.0
            ));
        }
        reached.insert(target.to_owned(), seen);
    }
    (reached, reasons)
}

fn of_target(samples: &[&Sample], stretches: &[(i64, i64)]) -> Reached {
    let within = |at: i64| stretches.iter().any(|(start, end)| (*start..=*end).contains(&at));
    let counted: Vec<&&Sample> = samples.iter().filter(|sample| within(sample.due_us)).collect();
    let mut answers: Vec<i64> = samples
        .iter()
        .filter(|sample| !sample.failed())
        .map(|sample| sample.due_us + (sample.latency_ms * 1000.0) as i64)
        .collect();
    answers.sort_unstable();
    let (mut longest, mut gap) = (0, (0, 0));
    for &(start, end) in stretches {
        let mut last = start;
        let inner = answers.iter().copied().filter(|at| (start..=end).contains(at));
        for at in inner.chain([end]) {
            if at - last > longest {
                (longest, gap) = (at - last, (last, at));
            }
            last = at;
        }
    }
    let steps: BTreeSet<_> = samples
        .iter()
        .filter(|sample| (gap.0..=gap.1).contains(&sample.due_us))
        .flat_map(|sample| sample.steps.iter().cloned())
        .collect();
    Reached {
        sent: counted.len() as u64,
        lost: counted.iter().filter(|sample| sample.failed()).count() as u64,
        longest_gap_ms: longest as f64 / 1000.0,
        gap_steps: steps.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use volutus_model::probe::{DATA_PLANE, SampleResult};

    fn sample(ms: i64, lost: bool) -> Sample {
        Sample {
            due_us: ms * 1000,
            latency_ms: 1.0,
            service: DATA_PLANE.parse().unwrap(),
            operation: "ping vm".to_owned(),
            status: None,
            result: if lost {
                SampleResult::Failed { why: "no answer".to_owned() }
            } else {
                SampleResult::Ok
            },
            steps: vec![if lost { "move/vm" } else { "watch" }.parse().unwrap()],
            advertised: None,
        }
    }

    #[test]
    fn the_longest_gap_is_between_answers_and_names_its_steps() {
        let samples: Vec<Sample> = (0..50).map(|n| sample(n * 200, (10..14).contains(&n))).collect();
        let (reached, reasons) = judge(samples.iter(), &[(0, 9_900_000)], 900);
        let seen = &reached["ping vm"];
        assert_eq!((seen.sent, seen.lost), (50, 4));
        assert!((seen.longest_gap_ms - 1000.0).abs() < 1e-6, "{}", seen.longest_gap_ms);
        assert!(seen.gap_steps.iter().any(|step| step.as_str() == "move/vm"));
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        assert!(judge(samples.iter(), &[(0, 9_900_000)], 1000).1.is_empty());
    }

    #[test]
    fn what_never_answered_was_silent_all_the_time() {
        let samples: Vec<Sample> = (0..50).map(|n| sample(n * 200, true)).collect();
        let (reached, reasons) = judge(samples.iter(), &[(0, 9_800_000)], 5000);
        assert!((reached["ping vm"].longest_gap_ms - 9800.0).abs() < 1e-6);
        assert_eq!(reasons.len(), 1);
    }
}
