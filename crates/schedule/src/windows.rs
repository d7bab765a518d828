//! Maintenance windows and freezes, as the operator declares them in `windows.toml`.

use std::collections::BTreeSet;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan as _};
use serde::Deserialize;

use crate::openings::{Interval, merge};
use crate::{Error, parse, rule};

/// What a piece of work touches: availability zones and projects. Empty means all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Availability zones.
    pub zones: BTreeSet<String>,
    /// Projects.
    pub projects: BTreeSet<String>,
}

/// A time of the week in which work may be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Its name.
    pub name: String,
    /// The weekdays on which it begins.
    pub days: BTreeSet<Day>,
    /// When it begins, local time.
    pub from: Time,
    /// When it ends, local time; on the next day where this is not later than `from`.
    pub to: Time,
    /// The time zone.
    pub time_zone: String,
    /// The availability zones and projects that it is for.
    pub scope: Scope,
}

/// A weekday that can be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(i8);

/// A time in which no work may be done: a change freeze, a blackout date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// Its name.
    pub name: String,
    /// When.
    pub interval: Interval,
    /// The availability zones and projects that it is for.
    pub scope: Scope,
}

/// All windows and freezes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows {
    /// The windows; with none, work may be done at any time that is not frozen.
    pub windows: Vec<Window>,
    /// The freezes.
    pub freezes: Vec<Freeze>,
    /// Calendars to import freezes from, each with its scope.
    pub calendars: Vec<(String, Scope)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    window: Vec<RawWindow>,
    #[serde(default)]
    freeze: Vec<RawFreeze>,
    #[serde(default)]
    calendar: Vec<RawCalendar>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWindow {
    name: String,
    days: Vec<String>,
    from: String,
    to: String,
    time_zone: String,
    #[serde(default)]
    zones: BTreeSet<String>,
    #[serde(default)]
    projects: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFreeze {
    name: String,
    /// A day, both included, in `time_zone`.
    from: toml::value::Datetime,
    to: toml::value::Datetime,
    time_zone: String,
    #[serde(default)]
    zones: BTreeSet<String>,
    #[serde(default)]
    projects: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCalendar {
    file: String,
    #[serde(default)]
    zones: BTreeSet<String>,
    #[serde(default)]
    projects: BTreeSet<String>,
}

impl Scope {
    /// Whether a window for this scope admits work on another.
    fn admits(&self, work: &Self) -> bool {
        let one = |own: &BTreeSet<String>, work: &BTreeSet<String>| {
            own.is_empty() || !work.is_empty() && work.is_subset(own)
        };
        one(&self.zones, &work.zones) && one(&self.projects, &work.projects)
    }

    /// Whether a freeze of this scope stops work on another.
    pub(crate) fn stops(&self, work: &Self) -> bool {
        let one = |own: &BTreeSet<String>, work: &BTreeSet<String>| {
            own.is_empty() || work.is_empty() || !own.is_disjoint(work)
        };
        one(&self.zones, &work.zones) && one(&self.projects, &work.projects)
    }
}

impl Day {
    fn is(self, weekday: Weekday) -> bool {
        self.0 == weekday.to_monday_zero_offset()
    }
}

impl Windows {
    /// Reads `windows.toml`.
    ///
    /// # Errors
    /// [`Error::Windows`] with the place; [`Error::Zone`].
    pub fn parse(text: &str, zones: &TimeZoneDatabase) -> Result<Self, Error> {
        let raw: Raw = toml::from_str(text).map_err(|error| Error::Windows(error.to_string()))?;
        let mut windows = Vec::new();
        for raw in raw.window {
            windows.push(window(raw, zones)?);
        }
        let mut freezes = Vec::new();
        for raw in raw.freeze {
            freezes.push(freeze(raw, zones)?);
        }
        let calendars = raw
            .calendar
            .into_iter()
            .map(|raw| (raw.file, Scope { zones: raw.zones, projects: raw.projects }))
            .collect();
        Ok(Self { windows, freezes, calendars })
    }

    /// Whether work on a scope could ever be done: some window admits it, or there is none at all.
    #[must_use]
    pub fn admit(&self, scope: &Scope) -> bool {
        self.windows.is_empty() || self.admitting(scope).next().is_some()
    }

    /// The windows that admit a scope.
    pub(crate) fn admitting<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = &'a Window> {
        self.windows.iter().filter(move |window| window.scope.admits(scope))
    }
}

fn window(raw: RawWindow, zones: &TimeZoneDatabase) -> Result<Window, Error> {
    let refuse = |why: String| Error::Windows(format!("window `{}`: {why}", raw.name));
    let mut days = BTreeSet::new();
    for day in &raw.days {
        let found = match day.to_ascii_lowercase().as_str() {
            "daily" => (0..7).map(Day).collect(),
            "weekdays" => (0..5).map(Day).collect(),
            "weekends" => (5..7).map(Day).collect(),
            text => {
                let weekday = parse::weekday(text).ok_or_else(|| {
                    refuse(format!("`{day}` is no weekday, nor daily, weekdays or weekends"))
                })?;
                vec![Day(weekday.to_monday_zero_offset())]
            }
        };
        days.extend(found);
    }
    if days.is_empty() {
        return Err(refuse("it names no day".to_owned()));
    }
    let time =
        |text: &str| parse::clock(text).ok_or_else(|| refuse(format!("`{text}` is no time such as 02:00")));
    let (from, to) = (time(&raw.from)?, time(&raw.to)?);
    zones.get(&raw.time_zone).map_err(|_| Error::Zone(raw.time_zone.clone()))?;
    let scope = Scope { zones: raw.zones, projects: raw.projects };
    Ok(Window { name: raw.name, days, from, to, time_zone: raw.time_zone, scope })
}

fn freeze(raw: RawFreeze, zones: &TimeZoneDatabase) -> Result<Freeze, Error> {
    let refuse = |why: &str| Error::Windows(format!("freeze `{}`: {why}", raw.name));
    let zone = zones.get(&raw.time_zone).map_err(|_| Error::Zone(raw.time_zone.clone()))?;
    let instant = |value: &toml::value::Datetime, is_end: bool| -> Result<Timestamp, Error> {
        let text = value.to_string();
        let wrong = || refuse(&format!("`{text}` is neither a day nor a time"));
        if value.offset.is_some() {
            return text.parse().map_err(|_| wrong());
        }
        let local = match value.time {
            Some(_) => text.parse().map_err(|_| wrong())?,
            None => {
                let day: Date = text.parse().map_err(|_| wrong())?;
                let day = if is_end { day.checked_add(1.day()).map_err(|_| wrong())? } else { day };
                day.to_datetime(Time::midnight())
            }
        };
        rule::local(local, &zone, None).map(|due| due.at.timestamp()).ok_or_else(wrong)
    };
    let (start, end) = (instant(&raw.from, false)?, instant(&raw.to, true)?);
    if end <= start {
        return Err(refuse("it ends before it begins"));
    }
    let scope = Scope { zones: raw.zones, projects: raw.projects };
    Ok(Freeze { interval: Interval { start, end }, scope, name: raw.name })
}

impl Window {
    /// When it is open, between two times. A window that clocks being put forward leaves no time of is
    /// left out; one that spans the change is an hour shorter or longer.
    ///
    /// # Errors
    /// [`Error::Zone`].
    pub(crate) fn open(
        &self,
        from: Timestamp,
        to: Timestamp,
        zones: &TimeZoneDatabase,
    ) -> Result<Vec<Interval>, Error> {
        let zone: TimeZone = zones.get(&self.time_zone).map_err(|_| Error::Zone(self.time_zone.clone()))?;
        let mut found = Vec::new();
        let mut day = from.to_zoned(zone.clone()).date().saturating_sub(1.day());
        let last = to.to_zoned(zone.clone()).date();
        while day <= last {
            if self.days.iter().any(|wanted| wanted.is(day.weekday())) {
                let ends_on = if self.to <= self.from { day.saturating_add(1.day()) } else { day };
                let start = rule::local(day.to_datetime(self.from), &zone, None);
                let end = rule::local(ends_on.to_datetime(self.to), &zone, None);
                if let (Some(start), Some(end)) = (start, end) {
                    let interval = Interval { start: start.at.timestamp(), end: end.at.timestamp() };
                    if interval.start < interval.end && interval.end > from && interval.start < to {
                        found.push(interval);
                    }
                }
            }
            match day.checked_add(1.day()) {
                Ok(next) => day = next,
                Err(_) => break,
            }
        }
        Ok(merge(found))
    }
}
