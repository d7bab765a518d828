//! A comparison as a report for people.

mod html;
mod markdown;

pub use html::html;
pub use markdown::markdown;

use crate::diff::{Audience, Comparison, Difference};
use crate::microversion::Range;
use crate::rules::Class;

/// Differences of one class and service in a report beyond which only the number is told; JSON has all.
const LINES_MAX: usize = 60;

/// A range of microversions as people write it.
#[must_use]
pub fn range(at: Option<Range>) -> String {
    match at {
        None => String::new(),
        Some(Range { min, max }) if min == max => min.to_string(),
        Some(Range { min, max }) => format!("{min}–{max}"),
    }
}

/// The audience as people write it.
#[must_use]
pub fn audience(difference: &Difference) -> String {
    if Audience::USERS.iter().all(|user| difference.audience.contains(user)) {
        return "all users".to_owned();
    }
    difference.audience.iter().map(|audience| audience.name()).collect::<Vec<_>>().join(", ")
}

/// Where the difference is, in one line.
#[must_use]
pub fn place(difference: &Difference) -> String {
    if difference.location.is_empty() {
        return difference.subject.clone();
    }
    format!("{}: {}", difference.subject, difference.location)
}

/// The versions of both sides of a service: `33.0.2 → 34.0.0`.
fn versions(comparison: &Comparison, service: &str) -> String {
    let version =
        |side: &crate::diff::Side| side.versions.get(service).cloned().unwrap_or_else(|| "live".to_owned());
    format!("{} → {}", version(&comparison.old), version(&comparison.new))
}

/// What the columns of [`figures`] are called.
pub const FIGURES: [&str; 9] = [
    "service",
    "versions",
    "operations",
    "schemas",
    "microversions",
    "breaking",
    "to review",
    "correction",
    "additive",
];

/// The figures of each service: what was compared, and the differences of each class that stand.
#[must_use]
pub fn figures(comparison: &Comparison) -> Vec<[String; 9]> {
    let both =
        |(old, new): (usize, usize)| if old == new { old.to_string() } else { format!("{old} → {new}") };
    let row = |(service, counts): (&String, &crate::diff::Counts)| {
        let of = |class| standing(comparison, class).filter(|d| d.service == *service).count().to_string();
        [
            service.clone(),
            versions(comparison, service),
            both(counts.operations),
            both(counts.schemas),
            counts.microversions.to_string(),
            of(Class::Breaking),
            of(Class::Review),
            of(Class::Correction),
            of(Class::Additive),
        ]
    };
    comparison.counts.iter().map(row).collect()
}

/// The differences of a class that nobody waived.
pub fn standing(comparison: &Comparison, class: Class) -> impl Iterator<Item = &Difference> {
    comparison.differences.iter().filter(move |d| d.class == class && d.waived.is_none())
}
