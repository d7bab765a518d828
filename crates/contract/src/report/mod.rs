//! A comparison as a report for people.

mod html;
mod markdown;

pub use html::html;
pub use markdown::markdown;

use crate::diff::{Audience, Comparison, Difference};
use crate::microversion::Range;

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

/// One sentence about a number that may be the same on both sides.
fn both((old, new): (usize, usize)) -> String {
    if old == new { old.to_string() } else { format!("{old} → {new}") }
}
