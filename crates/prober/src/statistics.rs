//! The few statistics that a verdict needs. Pure.

use statrs::function::factorial::ln_binomial;

/// The value below or at which a `share` of the values lie, by nearest rank: exact, and always
/// one of the values. `None` of no values.
///
/// `sorted` must be in ascending order.
#[must_use]
pub fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    debug_assert!(sorted.is_sorted());
    let rank = rank(sorted.len(), share)?;
    sorted.get(rank - 1).copied()
}

/// The rank, from 1, of a percentile among `count` values.
fn rank(count: usize, share: f64) -> Option<usize> {
    if count == 0 {
        return None;
    }
    Some(((share * count as f64).ceil() as usize).clamp(1, count))
}

/// The one-sided exceedance test: how probable it is that at least as many values of `run` lie
/// above the `share` percentile of `baseline` as do, if both come from the same distribution,
/// whatever that is. `None` where one of them is empty.
///
/// The number of exceedances is then distributed negative-hypergeometrically: of `n` baseline
/// values and `m` run values, with the percentile at rank `k`, exactly `j` run values exceed it
/// with probability `C(j+n-k, j) C(m-j+k-1, m-j) / C(n+m, m)`. Nothing is assumed of the shape
/// of the distribution, and the percentile is not taken to be known better than `n` values tell.
/// Source: E. J. Gumbel and H. von Schelling, "The distribution of the number of exceedances",
/// Annals of Mathematical Statistics 21 (1950).
///
/// `baseline` must be in ascending order.
#[must_use]
pub fn exceedance_p_value(baseline: &[f64], run: &[f64], share: f64) -> Option<f64> {
    let threshold = percentile(baseline, share)?;
    if run.is_empty() {
        return None;
    }
    let (n, m) = (baseline.len() as u64, run.len() as u64);
    // Values that equal the percentile do not exceed it; ranks count them below. With ties in
    // the baseline the rank of the last of them is the right one.
    let k = baseline.partition_point(|value| *value <= threshold) as u64;
    let exceeding = run.iter().filter(|value| **value > threshold).count() as u64;
    let whole = ln_binomial(n + m, m);
    let p: f64 = (exceeding..=m)
        .map(|j| {
            let ways = ln_binomial(j + n - k, j) + ln_binomial(m - j + k - 1, m - j);
            (ways - whole).exp()
        })
        .sum();
    Some(p.min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(range: std::ops::Range<u32>) -> Vec<f64> {
        range.map(f64::from).collect()
    }

    #[test]
    fn percentiles_are_exact() {
        let hundred = values(1..101);
        assert_eq!(percentile(&hundred, 0.5), Some(50.0));
        assert_eq!(percentile(&hundred, 0.99), Some(99.0));
        assert_eq!(percentile(&hundred, 1.0), Some(100.0));
        assert_eq!(percentile(&[7.0], 0.99), Some(7.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn nothing_above_the_percentile_is_no_evidence() {
        let p = exceedance_p_value(&values(0..100), &[1.0; 50], 0.99).unwrap();
        assert!((p - 1.0).abs() < 1e-9, "{p}");
    }

    #[test]
    fn the_probability_is_exact_in_a_case_that_can_be_counted() {
        // One baseline value and one run value: the run value is the larger one half of the time.
        let p = exceedance_p_value(&[1.0], &[2.0], 0.99).unwrap();
        assert!((p - 0.5).abs() < 1e-9, "{p}");
        // Two and two: of the 6 orders, in one both run values come last.
        let p = exceedance_p_value(&[1.0, 2.0], &[3.0, 4.0], 0.99).unwrap();
        assert!((p - 1.0 / 6.0).abs() < 1e-9, "{p}");
    }

    #[test]
    fn a_tenth_of_slow_answers_is_significant_and_the_expected_share_is_not() {
        let baseline = values(0..200);
        let mut run = vec![50.0; 900];
        run.extend(vec![1000.0; 100]);
        assert!(exceedance_p_value(&baseline, &run, 0.99).unwrap() < 1e-4);
        let mut run = vec![50.0; 990];
        run.extend(vec![1000.0; 10]);
        assert!(exceedance_p_value(&baseline, &run, 0.99).unwrap() > 0.3);
    }

    #[test]
    fn failures_count_as_infinitely_slow() {
        let p = exceedance_p_value(&values(0..100), &[f64::INFINITY; 20], 0.99).unwrap();
        assert!(p < 1e-6, "{p}");
    }

    #[test]
    fn many_values_do_not_overflow() {
        let p = exceedance_p_value(&values(0..20_000), &vec![5.0; 200_000], 0.99).unwrap();
        assert!((p - 1.0).abs() < 1e-6, "{p}");
    }
}
