//! Whether something that is due is started.

use jiff::Timestamp;
use serde::Serialize;

use crate::openings::{Interval, Openings};
use crate::rule::seconds;

/// What is done about something that is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "decision", rename_all = "kebab-case")]
pub enum Decision {
    /// It starts then, and has to be at a safe point when the opening ends.
    Start {
        /// When: at the time that it is due, or when the opening begins.
        at: Timestamp,
        /// The opening.
        opening: Interval,
    },
    /// It takes longer than the opening has left, so it is not started.
    TooLong {
        /// The opening that it would have had.
        opening: Interval,
        /// Seconds that it is expected to take.
        expected_s: i64,
        /// Seconds that there are.
        available_s: i64,
    },
    /// The last time at which it could have started has passed, so it is not started. It is told.
    Missed {
        /// The opening that was missed.
        opening: Interval,
        /// Until when it could have started.
        latest_start: Timestamp,
    },
    /// There is no opening within the horizon.
    NoOpening {
        /// What keeps it closed, where it is known.
        because: Option<String>,
    },
}

/// Decides on something that is due at a time, takes so many seconds, and is looked at `now`.
///
/// Something that is due outside of every opening waits for the next one. It never starts in an
/// opening that it would not fit into, and never later than lets it fit; where no window is declared,
/// it starts within an hour or not at all.
#[must_use]
pub fn decide(due: Timestamp, expected_s: i64, now: Timestamp, openings: &Openings) -> Decision {
    let Some(opening) = openings.at_or_after(due) else {
        let frozen = openings.frozen.iter().find(|(_, interval)| interval.end > due);
        return Decision::NoOpening { because: frozen.map(|(name, _)| name.clone()) };
    };
    let at = due.max(opening.start);
    let available_s = seconds(at, opening.end);
    if available_s < expected_s {
        return Decision::TooLong { opening, expected_s, available_s };
    }
    let latest_start = Timestamp::from_second(opening.end.as_second() - expected_s).unwrap_or(opening.start);
    let (latest_start, opened) = match openings.late_max_s {
        None => (latest_start, opening),
        Some(late_s) => {
            let late = Timestamp::from_second(at.as_second() + late_s).unwrap_or(latest_start);
            let latest_start = latest_start.min(late);
            (latest_start, Interval { end: latest_start, ..opening })
        }
    };
    if now > latest_start {
        return Decision::Missed { opening: opened, latest_start };
    }
    Decision::Start { at, opening }
}
