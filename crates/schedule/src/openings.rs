//! The times in which work may be done.

use jiff::tz::TimeZoneDatabase;
use jiff::{Timestamp, ToSpan as _};
use serde::Serialize;

use crate::{Error, Scope, Windows};

/// From one time to another, the end excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Interval {
    /// The start.
    pub start: Timestamp,
    /// The end.
    pub end: Timestamp,
}

/// The times in which work on a scope may be done, within a horizon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Openings {
    /// Them, in order, none touching another.
    pub open: Vec<Interval>,
    /// Freezes that took something away, by name.
    pub frozen: Vec<(String, Interval)>,
    /// Seconds after which something that is due is too late, where no window says so.
    pub late_max_s: Option<i64>,
}

/// How late something may start where no window says until when: a server that comes back after days
/// must not begin an upgrade at whatever time that is.
const LATE_MAX_S: i64 = 3_600;

impl Interval {
    /// Whether a time is within.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }

    fn less(self, other: &Self) -> [Option<Self>; 2] {
        if other.end <= self.start || self.end <= other.start {
            return [Some(self), None];
        }
        let before = Self { start: self.start, end: other.start };
        let after = Self { start: other.end, end: self.end };
        [before, after].map(|part| (part.start < part.end).then_some(part))
    }
}

/// In order, with those that touch made one.
pub(crate) fn merge(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort();
    let mut merged: Vec<Interval> = Vec::new();
    for interval in intervals {
        match merged.last_mut() {
            Some(last) if interval.start <= last.end => last.end = last.end.max(interval.end),
            _ => merged.push(interval),
        }
    }
    merged
}

impl Openings {
    /// Computes them: whatever a window that admits the scope opens, less what a freeze stops.
    ///
    /// # Errors
    /// [`Error::Zone`].
    pub fn of(
        windows: &Windows,
        scope: &Scope,
        horizon: Interval,
        zones: &TimeZoneDatabase,
    ) -> Result<Self, Error> {
        // One that began before the horizon, or ends after it, is seen whole.
        let wide = Interval {
            start: horizon.start.saturating_sub(48.hours()).unwrap_or(horizon.start),
            end: horizon.end.saturating_add(48.hours()).unwrap_or(horizon.end),
        };
        let mut open = Vec::new();
        if windows.windows.is_empty() {
            open.push(wide);
        }
        for window in windows.admitting(scope) {
            open.extend(window.open(wide.start, wide.end, zones)?);
        }
        let mut open = merge(open);
        let mut frozen = Vec::new();
        for freeze in windows.freezes.iter().filter(|freeze| freeze.scope.stops(scope)) {
            let before = open.clone();
            open = open.into_iter().flat_map(|one| one.less(&freeze.interval)).flatten().collect();
            if open != before {
                frozen.push((freeze.name.clone(), freeze.interval));
            }
        }
        let late_max_s = windows.windows.is_empty().then_some(LATE_MAX_S);
        Ok(Self { open, frozen, late_max_s })
    }

    /// The opening that a time is in, or the next one after it.
    #[must_use]
    pub fn at_or_after(&self, at: Timestamp) -> Option<Interval> {
        self.open.iter().find(|interval| interval.end > at).copied()
    }
}
