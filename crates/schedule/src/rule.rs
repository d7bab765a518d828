//! Rules: when something is due.

use std::collections::BTreeMap;
use std::fmt;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, ToSpan as _, Zoned};
use serde::{Deserialize, Serialize};
use volutus_model::Series;

use crate::Error;

/// When something is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Rule {
    /// Once.
    Once {
        /// The local time.
        at: DateTime,
        /// The zone's name.
        zone: String,
    },
    /// On a day of every month.
    Monthly {
        /// Which day.
        day: MonthDay,
        /// The local time of day.
        time: Time,
        /// The zone's name.
        zone: String,
    },
    /// Once, some time after a series was released.
    AfterRelease {
        /// How long after.
        span: Span,
        /// Which series.
        series: Series,
        /// The local time of day.
        time: Time,
        /// The zone's name.
        zone: String,
    },
    /// Some time after the last success, again and again.
    AfterSuccess {
        /// How long after.
        span: Span,
        /// The local time of day.
        time: Time,
        /// The zone's name.
        zone: String,
    },
}

/// A day of a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MonthDay {
    /// The day of that number; the last day of shorter months.
    Number(i8),
    /// The last day.
    Last,
    /// A weekday.
    Weekday(Nth, Weekday),
}

/// Which of a month's weekdays of one name. Every month has four, so "fifth" is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nth {
    /// The first to the fourth.
    Number(i8),
    /// The last.
    Last,
}

/// A length of calendar time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// Days.
    Days(u16),
    /// Weeks.
    Weeks(u16),
    /// Months: to the day of that number, or the last of a shorter month.
    Months(u16),
}

/// What rules depend on besides the time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The days on which series were released.
    pub releases: BTreeMap<Series, Date>,
    /// When the last run succeeded.
    pub last_success: Option<Timestamp>,
}

/// When a rule says that something is due next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// At that time.
    At(Due),
    /// Not before something has happened, which is told.
    Waits(String),
    /// Never again.
    Over,
}

/// One time at which something is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The time, in the rule's zone.
    pub at: Zoned,
    /// What differs from the rule's own words: a local time that does not exist or exists twice, a
    /// month that is too short.
    pub note: Option<String>,
}

/// How far a monthly rule is looked for: every rule has an occurrence in each month.
const MONTHS_MAX: i32 = 14;

impl Rule {
    /// The next time after `after`.
    ///
    /// # Errors
    /// [`Error::Zone`]; [`Error::Rule`] where the time would be past the year 9999.
    pub fn next(&self, after: Timestamp, facts: &Facts, zones: &TimeZoneDatabase) -> Result<Next, Error> {
        let zone = self.zone(zones)?;
        let due = match self {
            Self::Once { at, .. } => local(*at, &zone, None),
            Self::Monthly { day, time, .. } => return self.monthly(*day, *time, after, &zone),
            Self::AfterRelease { span, series, time, .. } => {
                let Some(released) = facts.releases.get(series) else {
                    return Ok(Next::Waits(format!("{series} is not released yet, as far as is known")));
                };
                let (day, note) = span.after(*released).ok_or_else(|| self.too_late())?;
                local(day.to_datetime(*time), &zone, note)
            }
            Self::AfterSuccess { span, time, .. } => {
                let Some(success) = facts.last_success else {
                    return Ok(Next::Waits("no run has succeeded yet".to_owned()));
                };
                let date = success.to_zoned(zone.clone()).date();
                let (day, note) = span.after(date).ok_or_else(|| self.too_late())?;
                local(day.to_datetime(*time), &zone, note)
            }
        };
        let due = due.ok_or_else(|| self.too_late())?;
        Ok(if due.at.timestamp() > after { Next::At(due) } else { Next::Over })
    }

    /// All times after one and not after another, at most `max`.
    ///
    /// # Errors
    /// As [`Rule::next`].
    pub fn between(
        &self,
        after: Timestamp,
        until: Timestamp,
        facts: &Facts,
        zones: &TimeZoneDatabase,
        max: usize,
    ) -> Result<Vec<Due>, Error> {
        let mut found = Vec::new();
        let mut after = after;
        while found.len() < max
            && let Next::At(due) = self.next(after, facts, zones)?
            && due.at.timestamp() <= until
        {
            after = due.at.timestamp();
            found.push(due);
        }
        Ok(found)
    }

    fn zone(&self, zones: &TimeZoneDatabase) -> Result<TimeZone, Error> {
        let name = self.zone_name();
        zones.get(name).map_err(|_| Error::Zone(name.to_owned()))
    }

    pub(crate) fn zone_name(&self) -> &str {
        match self {
            Self::Once { zone, .. }
            | Self::Monthly { zone, .. }
            | Self::AfterRelease { zone, .. }
            | Self::AfterSuccess { zone, .. } => zone,
        }
    }

    fn too_late(&self) -> Error {
        Error::Rule { text: self.to_string(), why: "the time is past the year 9999".to_owned() }
    }

    fn monthly(&self, day: MonthDay, time: Time, after: Timestamp, zone: &TimeZone) -> Result<Next, Error> {
        // The month before may have its occurrence later than `after` where zones differ by a day.
        let start = after.to_zoned(zone.clone()).date().first_of_month();
        for months in 0..MONTHS_MAX {
            let month = start.checked_add(months.months()).map_err(|_| self.too_late())?;
            let (date, note) = day.of(month);
            let due = local(date.to_datetime(time), zone, note).ok_or_else(|| self.too_late())?;
            if due.at.timestamp() > after {
                return Ok(Next::At(due));
            }
        }
        Ok(Next::Over)
    }
}

impl MonthDay {
    /// The day in the month that a date belongs to, with a note where the month is too short.
    fn of(self, month: Date) -> (Date, Option<String>) {
        match self {
            Self::Last => (month.last_of_month(), None),
            Self::Number(number) => {
                let last = month.last_of_month();
                let note = (number > last.day())
                    .then(|| format!("the month has no day {number}; it is the last day instead"));
                let day = number.clamp(1, last.day());
                (month.with().day(day).build().unwrap_or(last), note)
            }
            Self::Weekday(nth, weekday) => {
                let nth = match nth {
                    Nth::Number(number) => number,
                    Nth::Last => -1,
                };
                // Every month has a first to fourth and a last of each weekday.
                (month.nth_weekday_of_month(nth, weekday).unwrap_or(month.last_of_month()), None)
            }
        }
    }
}

impl Span {
    /// That long after a day.
    fn after(self, day: Date) -> Option<(Date, Option<String>)> {
        let later = match self {
            Self::Days(days) => day.checked_add(i64::from(days).days()),
            Self::Weeks(weeks) => day.checked_add(i64::from(weeks).weeks()),
            Self::Months(months) => day.checked_add(i64::from(months).months()),
        };
        let later = later.ok()?;
        let shorter = matches!(self, Self::Months(_)) && later.day() != day.day();
        let note = shorter.then(|| format!("the month has no day {}; it is the last day instead", day.day()));
        Some((later, note))
    }
}

/// A local time in a zone. One that does not exist is later by as much as clocks are put forward; of
/// one that exists twice it is the first. Source: RFC 5545, section 3.3.5.
pub(crate) fn local(at: DateTime, zone: &TimeZone, note: Option<String>) -> Option<Due> {
    let ambiguous = zone.to_ambiguous_timestamp(at);
    let is_ambiguous = ambiguous.is_ambiguous();
    let timestamp = ambiguous.compatible().ok()?;
    let zoned = timestamp.to_zoned(zone.clone());
    let clock = if !is_ambiguous {
        None
    } else if zoned.datetime() == at {
        Some(format!("{} exists twice on that day; it is the first", at.time().strftime("%H:%M")))
    } else {
        Some(format!(
            "{} does not exist on that day, because clocks are put forward; it is {}",
            at.time().strftime("%H:%M"),
            zoned.time().strftime("%H:%M")
        ))
    };
    let notes: Vec<String> = note.into_iter().chain(clock).collect();
    Some(Due { at: zoned, note: (!notes.is_empty()).then(|| notes.join("; ")) })
}

/// Whole seconds of a duration, for comparisons with what is expected.
pub(crate) fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    SignedDuration::from_secs(to.as_second() - from.as_second()).as_secs()
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Once { at, zone } => {
                write!(f, "once {} {} {zone}", at.date(), at.time().strftime("%H:%M"))
            }
            Self::Monthly { day, time, zone } => write!(f, "{day} {} {zone}", time.strftime("%H:%M")),
            Self::AfterRelease { span, series, time, zone } => {
                write!(f, "{span} after {series} {} {zone}", time.strftime("%H:%M"))
            }
            Self::AfterSuccess { span, time, zone } => {
                write!(f, "{span} after the last success {} {zone}", time.strftime("%H:%M"))
            }
        }
    }
}

impl fmt::Display for MonthDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "day {number}"),
            Self::Last => f.write_str("last day"),
            Self::Weekday(nth, weekday) => {
                let nth = match nth {
                    Nth::Number(1) => "first",
                    Nth::Number(2) => "second",
                    Nth::Number(3) => "third",
                    Nth::Number(_) => "fourth",
                    Nth::Last => "last",
                };
                write!(f, "{nth} {weekday:?}")
            }
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match self {
            Self::Days(number) => (number, "day"),
            Self::Weeks(number) => (number, "week"),
            Self::Months(number) => (number, "month"),
        };
        write!(f, "{number} {unit}{}", if *number == 1 { "" } else { "s" })
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

impl TryFrom<String> for Rule {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        Self::parse(&text)
    }
}
