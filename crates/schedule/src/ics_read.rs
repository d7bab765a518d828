//! Reads freezes from an iCalendar file. Source of the format: RFC 5545.
//!
//! Strict: what is not understood is refused with its line, because an event that is left out is a
//! freeze that is not kept. Events repeat daily, weekly, monthly or yearly, with `INTERVAL`, `COUNT` and
//! `UNTIL`; other parts of a recurrence are refused. Transparent and cancelled events stop nothing.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Span, Timestamp, ToSpan as _};

use crate::openings::Interval;
use crate::{Error, Freeze, Scope, rule};

/// A calendar of more bytes is no list of freezes.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Occurrences of one event that are kept: ten years of days.
const OCCURRENCES_MAX: usize = 3_660;

/// Reads the events of a calendar as freezes of a scope, as far as they touch the horizon.
///
/// # Errors
/// [`Error::Calendar`] with the line; [`Error::Zone`].
pub fn read_ics(
    text: &str,
    scope: &Scope,
    horizon: Interval,
    zones: &TimeZoneDatabase,
) -> Result<Vec<Freeze>, Error> {
    if text.len() > BYTES_MAX {
        return Err(refuse(1, format!("it has {} bytes, and {BYTES_MAX} are read at the most", text.len())));
    }
    let lines = unfold(text)?;
    let mut freezes = Vec::new();
    let mut inside: Vec<String> = Vec::new();
    let mut event: Option<Event> = None;
    for line in &lines {
        match line.name.as_str() {
            "BEGIN" => {
                let what = line.value.to_ascii_uppercase();
                if inside.is_empty() && what != "VCALENDAR" {
                    return Err(refuse(line.number, "it does not begin with BEGIN:VCALENDAR"));
                }
                if what == "VEVENT" {
                    event = Some(Event { line: line.number, ..Event::default() });
                }
                inside.push(what);
            }
            "END" => {
                if inside.pop().as_deref() != Some(line.value.to_ascii_uppercase().as_str()) {
                    return Err(refuse(line.number, format!("END:{} has no BEGIN", line.value)));
                }
                if line.value.eq_ignore_ascii_case("VEVENT")
                    && let Some(event) = event.take()
                {
                    freezes.extend(event.freezes(scope, horizon)?);
                }
            }
            _ if inside.is_empty() => {
                return Err(refuse(line.number, "it does not begin with BEGIN:VCALENDAR"));
            }
            // Alarms and the like are within an event, and are none of its properties.
            _ if inside.last().is_some_and(|last| last == "VEVENT") => {
                if let Some(event) = event.as_mut() {
                    event.take(line, zones)?;
                }
            }
            _ => {}
        }
    }
    match inside.last() {
        Some(open) => {
            Err(refuse(lines.last().map_or(1, |line| line.number), format!("BEGIN:{open} has no END")))
        }
        None if lines.is_empty() => Err(refuse(1, "it is empty")),
        None => Ok(freezes),
    }
}

fn refuse(line: usize, why: impl Into<String>) -> Error {
    Error::Calendar { line, why: why.into() }
}

/// One property, with its line.
struct Line {
    number: usize,
    name: String,
    parameters: Vec<(String, String)>,
    value: String,
}

/// Content lines: those that begin with a blank go on with the one before.
fn unfold(text: &str) -> Result<Vec<Line>, Error> {
    let mut whole: Vec<(usize, String)> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim_end_matches('\r');
        match (line.strip_prefix([' ', '\t']), whole.last_mut()) {
            (Some(rest), Some((_, last))) => last.push_str(rest),
            _ if line.trim().is_empty() => {}
            _ => whole.push((i + 1, line.trim_start_matches('\u{feff}').to_owned())),
        }
    }
    whole.into_iter().map(|(number, line)| content(number, &line)).collect()
}

fn content(number: usize, line: &str) -> Result<Line, Error> {
    let mut quoted = false;
    let colon = line.char_indices().find(|(_, c)| {
        quoted ^= *c == '"';
        *c == ':' && !quoted
    });
    let Some((colon, _)) = colon else {
        return Err(refuse(number, "it is not of the form NAME:VALUE"));
    };
    let (head, value) = (&line[..colon], &line[colon + 1..]);
    let mut parts = head.split(';');
    let name = parts.next().unwrap_or_default().to_ascii_uppercase();
    let parameters = parts
        .filter_map(|part| part.split_once('='))
        .map(|(key, value)| (key.to_ascii_uppercase(), value.trim_matches('"').to_owned()))
        .collect();
    Ok(Line { number, name, parameters, value: value.to_owned() })
}

/// A time as an event gives it.
#[derive(Clone)]
struct When {
    local: DateTime,
    zone: TimeZone,
    /// A day without a time: the whole of it.
    whole_day: bool,
}

impl When {
    fn timestamp(&self) -> Option<Timestamp> {
        rule::local(self.local, &self.zone, None).map(|due| due.at.timestamp())
    }

    fn later(&self, span: Span) -> Option<Self> {
        Some(Self { local: self.local.checked_add(span).ok()?, ..self.clone() })
    }
}

#[derive(Default)]
struct Event {
    line: usize,
    summary: String,
    start: Option<When>,
    end: Option<When>,
    duration: Option<SignedDuration>,
    repeat: Option<Repeat>,
    idle: bool,
}

struct Repeat {
    every: Span,
    times: Option<usize>,
    until: Option<Timestamp>,
}

impl Event {
    fn take(&mut self, line: &Line, zones: &TimeZoneDatabase) -> Result<(), Error> {
        match line.name.as_str() {
            "SUMMARY" => self.summary = unescape(&line.value),
            "DTSTART" => self.start = Some(when(line, zones)?),
            "DTEND" => self.end = Some(when(line, zones)?),
            "DURATION" => {
                let duration: SignedDuration = line
                    .value
                    .parse()
                    .map_err(|_| refuse(line.number, format!("`{}` is not a duration", line.value)))?;
                self.duration = Some(duration);
            }
            "RRULE" => self.repeat = Some(repeat(line, zones)?),
            "RDATE" | "EXDATE" | "EXRULE" | "RECURRENCE-ID" => {
                return Err(refuse(
                    line.number,
                    format!("{} is not understood; write such an event as several", line.name),
                ));
            }
            "TRANSP" => self.idle |= line.value.eq_ignore_ascii_case("TRANSPARENT"),
            "STATUS" => self.idle |= line.value.eq_ignore_ascii_case("CANCELLED"),
            _ => {}
        }
        Ok(())
    }

    fn freezes(self, scope: &Scope, horizon: Interval) -> Result<Vec<Freeze>, Error> {
        if self.idle {
            return Ok(Vec::new());
        }
        let start = self.start.as_ref().ok_or_else(|| refuse(self.line, "the event has no DTSTART"))?;
        let far = || refuse(self.line, "the event is out of the range of times");
        let end = match (&self.end, self.duration) {
            (Some(end), _) if end.whole_day == start.whole_day => end.clone(),
            (Some(_), _) => return Err(refuse(self.line, "DTSTART and DTEND are of different kinds")),
            (None, Some(duration)) => {
                let local = start.local.checked_add(duration).map_err(|_| far())?;
                When { local, ..start.clone() }
            }
            // Source: RFC 5545, section 3.6.1: a day without an end is one day.
            (None, None) if start.whole_day => start.later(1.day()).ok_or_else(far)?,
            (None, None) => return Err(refuse(self.line, "the event has neither DTEND nor DURATION")),
        };
        let name = match self.summary.is_empty() {
            true => "event without a summary".to_owned(),
            false => self.summary.clone(),
        };
        let mut found = Vec::new();
        let times = self.repeat.as_ref().map_or(1, |repeat| repeat.times.unwrap_or(usize::MAX));
        for i in 0..times {
            if i >= OCCURRENCES_MAX {
                return Err(refuse(
                    self.line,
                    format!(
                        "the event repeats more than {OCCURRENCES_MAX} times before the end of the calendar"
                    ),
                ));
            }
            let moved = |when: &When| match &self.repeat {
                None => Some(when.clone()),
                // Counted from the first one, so that a month's 31st does not become the 28th for good.
                Some(repeat) => when.later(repeat.every.checked_mul(i64::try_from(i).ok()?).ok()?),
            };
            let (Some(from), Some(to)) = (moved(start), moved(&end)) else { break };
            // Source: RFC 5545, section 3.3.10: a day that a month does not have is left out.
            if from.local.day() != start.local.day() && self.repeat.as_ref().is_some_and(Repeat::is_by_month)
            {
                continue;
            }
            let (Some(start), Some(end)) = (from.timestamp(), to.timestamp()) else { break };
            if end <= start {
                return Err(refuse(self.line, "the event ends before it begins"));
            }
            let past =
                self.repeat.as_ref().and_then(|repeat| repeat.until).is_some_and(|until| start > until);
            if past || start >= horizon.end {
                break;
            }
            if end > horizon.start {
                let interval = Interval { start, end };
                found.push(Freeze { name: name.clone(), interval, scope: scope.clone() });
            }
        }
        Ok(found)
    }
}

impl Repeat {
    fn is_by_month(&self) -> bool {
        self.every.get_months() != 0 || self.every.get_years() != 0
    }
}

fn when(line: &Line, zones: &TimeZoneDatabase) -> Result<When, Error> {
    let wrong = || refuse(line.number, format!("`{}` is neither a day nor a time", line.value));
    let named = line.parameters.iter().find(|(key, _)| key == "TZID").map(|(_, value)| value.as_str());
    let (text, zone) = match (line.value.strip_suffix('Z'), named) {
        (Some(text), _) => (text, TimeZone::UTC),
        (None, Some(name)) => {
            (line.value.as_str(), zones.get(name).map_err(|_| Error::Zone(name.to_owned()))?)
        }
        // A day of no zone is taken for one of UTC, and a time of no zone is refused: it would be
        // another time on every machine.
        (None, None) => (line.value.as_str(), TimeZone::UTC),
    };
    if let Some(local) = compact_time(text) {
        if named.is_none() && !line.value.ends_with('Z') {
            return Err(refuse(line.number, format!("`{}` is a time of no zone; add Z or TZID", line.value)));
        }
        return Ok(When { local, zone, whole_day: false });
    }
    let day = compact_day(text).ok_or_else(wrong)?;
    Ok(When { local: day.to_datetime(Time::midnight()), zone, whole_day: true })
}

/// `20261224`
fn compact_day(text: &str) -> Option<Date> {
    if text.len() != 8 || !text.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    Date::new(text[..4].parse().ok()?, text[4..6].parse().ok()?, text[6..].parse().ok()?).ok()
}

/// `20261224T180000`
fn compact_time(text: &str) -> Option<DateTime> {
    let (day, time) = text.split_once('T')?;
    if time.len() != 6 || !time.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let time =
        Time::new(time[..2].parse().ok()?, time[2..4].parse().ok()?, time[4..].parse().ok()?, 0).ok()?;
    Some(compact_day(day)?.to_datetime(time))
}

fn repeat(line: &Line, zones: &TimeZoneDatabase) -> Result<Repeat, Error> {
    let (mut unit, mut interval) = (None, 1_i64);
    let (mut times, mut until) = (None, None);
    for part in line.value.split(';').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let wrong = || refuse(line.number, format!("`{part}` of the recurrence is not understood"));
        match key.to_ascii_uppercase().as_str() {
            "FREQ" => {
                unit = Some(match value.to_ascii_uppercase().as_str() {
                    "DAILY" => 1.day(),
                    "WEEKLY" => 1.week(),
                    "MONTHLY" => 1.month(),
                    "YEARLY" => 1.year(),
                    _ => return Err(wrong()),
                });
            }
            "INTERVAL" => {
                interval = value.parse().ok().filter(|n| (1..=1_000).contains(n)).ok_or_else(wrong)?;
            }
            "COUNT" => times = Some(value.parse().map_err(|_| wrong())?),
            "UNTIL" => {
                let part =
                    Line { value: value.to_owned(), parameters: Vec::new(), name: String::new(), ..*line };
                until = when(&part, zones)?.timestamp();
            }
            // The start of the week matters only together with parts that are refused.
            "WKST" => {}
            _ => return Err(wrong()),
        }
    }
    let unit = unit.ok_or_else(|| refuse(line.number, "the recurrence has no FREQ"))?;
    let every = unit.checked_mul(interval).map_err(|_| refuse(line.number, "INTERVAL is too large"))?;
    Ok(Repeat { every, times, until })
}

fn unescape(text: &str) -> String {
    let mut found = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some('n' | 'N') => found.push(' '),
                Some(other) => found.push(other),
                None => {}
            },
            // Names end up in a terminal.
            c if c.is_control() => {}
            c => found.push(c),
        }
    }
    found
}
