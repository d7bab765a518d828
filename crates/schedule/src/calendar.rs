//! What is due in the coming months, and what will be done about it.

use jiff::tz::TimeZoneDatabase;
use jiff::{Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use volutus_model::Series;

use crate::openings::{Interval, Openings};
use crate::{Decision, Error, Facts, Next, Rule, Scope, Windows, decide};

/// Occurrences of one schedule that a calendar has at the most.
const OCCURRENCES_MAX: usize = 400;

/// How long something that is due waits for an opening.
const OPENING_WITHIN_DAYS: i64 = 62;

/// Something that is to be done again and again, or once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// When.
    pub rule: Rule,
    /// The series that is gone to; absent means the newest packages of the series that runs.
    #[serde(default)]
    pub to: Option<Series>,
    /// Availability zones that it is restricted to.
    #[serde(default)]
    pub zones: BTreeSet<String>,
    /// Projects that it is restricted to.
    #[serde(default)]
    pub projects: BTreeSet<String>,
    /// Seconds that it takes, where the operator knows better than past runs.
    #[serde(default)]
    pub expected_s: Option<i64>,
    /// Who added it.
    pub by: String,
    /// When it was added: what is due counts from then.
    pub since: Timestamp,
}

/// One entry of a calendar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The schedule.
    pub schedule: String,
    /// What is done.
    pub title: String,
    /// When it is due; absent where something has to happen first.
    pub due: Option<Timestamp>,
    /// When it is due, in the rule's own zone.
    pub local: String,
    /// Seconds that it is expected to take; absent where nobody knows.
    pub expected_s: Option<i64>,
    /// What is done about it.
    pub decision: Option<Decision>,
    /// What is to be known besides.
    pub note: Option<String>,
}

impl Schedule {
    /// What it touches.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope { zones: self.zones.clone(), projects: self.projects.clone() }
    }

    /// What it does, in a few words.
    #[must_use]
    pub fn title(&self) -> String {
        match self.to {
            Some(series) => format!("upgrade to {series}"),
            None => "update to the newest packages of the series".to_owned(),
        }
    }
}

/// The entries of all schedules within a horizon, in the order of time, judged as of `now`. Nothing is due
/// before its schedule was added.
///
/// # Errors
/// [`Error::Zone`], where the system's database of time zones has lost one.
pub fn calendar(
    schedules: &[Schedule],
    windows: &Windows,
    facts: &Facts,
    expected: impl Fn(&Schedule) -> Option<i64>,
    horizon: Interval,
    now: Timestamp,
    zones: &TimeZoneDatabase,
) -> Result<Vec<Entry>, Error> {
    // What is due at the end of the horizon may have its opening behind it.
    let end = horizon.end.saturating_add((24 * OPENING_WITHIN_DAYS).hours()).unwrap_or(horizon.end);
    let looked_at = Interval { start: horizon.start, end };
    let mut entries = Vec::new();
    for schedule in schedules {
        let expected_s = schedule.expected_s.or_else(|| expected(schedule));
        let entry = |due: Option<Timestamp>, local: String| Entry {
            schedule: schedule.name.clone(),
            title: schedule.title(),
            due,
            local,
            expected_s,
            decision: None,
            note: None,
        };
        let openings = Openings::of(windows, &schedule.scope(), looked_at, zones)?;
        let from = horizon.start.max(schedule.since);
        let dues = schedule.rule.between(from, horizon.end, facts, zones, OCCURRENCES_MAX)?;
        if dues.is_empty()
            && let Next::Waits(why) = schedule.rule.next(from, facts, zones)?
        {
            entries.push(Entry { note: Some(why), ..entry(None, String::new()) });
        }
        for due in dues {
            let at = due.at.timestamp();
            let local = due.at.strftime("%a %Y-%m-%d %H:%M %Z").to_string();
            // What nobody knows the length of has to begin within an opening, and is told of.
            let decision = decide(at, expected_s.unwrap_or(0), now, &openings);
            entries.push(Entry { decision: Some(decision), note: due.note, ..entry(Some(at), local) });
        }
    }
    entries.sort_by(|a, b| (a.due.is_none(), a.due, &a.schedule).cmp(&(b.due.is_none(), b.due, &b.schedule)));
    Ok(entries)
}

/// Of entries that are past, those that were not carried out: their window was missed, too short or
/// never open, and no run was begun from when they were due to the end of their opening.
#[must_use]
pub fn not_done(entries: Vec<Entry>, begun: &[Timestamp]) -> Vec<Entry> {
    let done = |due: Timestamp, opening: &Interval| begun.iter().any(|at| due <= *at && *at < opening.end);
    let keep = |entry: &Entry| match (entry.due, &entry.decision) {
        (Some(due), Some(Decision::Missed { opening, .. } | Decision::TooLong { opening, .. })) => {
            !done(due, opening)
        }
        (Some(_), Some(Decision::NoOpening { .. })) => true,
        _ => false,
    };
    entries.into_iter().filter(keep).collect()
}
