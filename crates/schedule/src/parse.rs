//! Rules as people write them.

use jiff::civil::{Date, Time, Weekday};
use volutus_model::Series;

use crate::{Error, MonthDay, Nth, Rule, Span};

/// Longer texts are no rules.
const LENGTH_MAX: usize = 200;

/// Spans of more are mistakes: two years of days.
const NUMBER_MAX: u16 = 730;

impl Rule {
    /// Reads a rule. Letters may be capital or small; a time of day and a zone end every rule, and the
    /// zone may not be left out, since a server's own is rarely the one that is meant.
    ///
    /// # Errors
    /// [`Error::Rule`] with what is wrong, and how rules are written.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refuse =
            |why: &str| Error::Rule { text: text.chars().take(LENGTH_MAX).collect(), why: why.to_owned() };
        if text.len() > LENGTH_MAX {
            return Err(refuse("it is too long"));
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let [rule @ .., time, zone] = words.as_slice() else {
            return Err(refuse("it ends with neither a time of day nor a zone"));
        };
        let time = clock(time).ok_or_else(|| {
            refuse("before the zone there is no time of day such as 02:00; the zone must not be left out")
        })?;
        if !zone.starts_with(|c: char| c.is_ascii_alphabetic()) || !zone.chars().all(is_of_zone) {
            return Err(refuse("it does not end with the name of a time zone, such as Europe/Berlin"));
        }
        let zone = (*zone).to_owned();
        let lower: Vec<String> = rule.iter().map(|word| word.to_ascii_lowercase()).collect();
        let words: Vec<&str> = lower.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["once", day] | ["once", "on", day] | ["once", "at", day] => {
                let date: Date = day.parse().map_err(|_| refuse("the day is not of the form 2026-12-01"))?;
                Ok(Self::Once { at: date.to_datetime(time), zone })
            }
            [before @ .., "after", "the", "last", "success"] | [before @ .., "after", "last", "success"] => {
                let span = span(before)
                    .ok_or_else(|| refuse("before `after` there is no span such as `one month`"))?;
                Ok(Self::AfterSuccess { span, time, zone })
            }
            [before @ .., "after", series] => {
                let span = span(before)
                    .ok_or_else(|| refuse("before `after` there is no span such as `30 days`"))?;
                let series: Series =
                    series.parse().map_err(|_| refuse("behind `after` there is no series such as 2026.2"))?;
                Ok(Self::AfterRelease { span, series, time, zone })
            }
            words => {
                let day = month_day(strip(words)).ok_or_else(|| {
                    refuse("there is no day such as `second Tuesday`, `last Friday`, `day 15` or `last day`")
                })?;
                Ok(Self::Monthly { day, time, zone })
            }
        }
    }
}

fn is_of_zone(c: char) -> bool {
    c.is_ascii_alphanumeric() || "/_+-".contains(c)
}

/// Two digits, a colon, two digits.
pub(crate) fn clock(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|c| c.is_ascii_digit());
    if !digits(hour) || !digits(minute) {
        return None;
    }
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

/// "monthly on the second Tuesday of the month" is "second Tuesday".
fn strip<'w>(words: &'w [&'w str]) -> &'w [&'w str] {
    let mut words = words;
    for front in ["every", "monthly", "on", "the"] {
        words = words.strip_prefix(&[front]).unwrap_or(words);
    }
    words.strip_suffix(&["of", "the", "month"]).unwrap_or(words)
}

fn month_day(words: &[&str]) -> Option<MonthDay> {
    match words {
        ["last", "day"] => Some(MonthDay::Last),
        ["day", number] => {
            let number: i8 = number.parse().ok()?;
            (1..=31).contains(&number).then_some(MonthDay::Number(number))
        }
        [nth, weekday] => {
            let nth = match *nth {
                "first" | "1st" => Nth::Number(1),
                "second" | "2nd" => Nth::Number(2),
                "third" | "3rd" => Nth::Number(3),
                "fourth" | "4th" => Nth::Number(4),
                "last" => Nth::Last,
                _ => return None,
            };
            Some(MonthDay::Weekday(nth, self::weekday(weekday)?))
        }
        _ => None,
    }
}

/// A weekday by its name or the first three letters of it.
pub(crate) fn weekday(text: &str) -> Option<Weekday> {
    Some(match text.to_ascii_lowercase().as_str() {
        "monday" | "mon" => Weekday::Monday,
        "tuesday" | "tue" => Weekday::Tuesday,
        "wednesday" | "wed" => Weekday::Wednesday,
        "thursday" | "thu" => Weekday::Thursday,
        "friday" | "fri" => Weekday::Friday,
        "saturday" | "sat" => Weekday::Saturday,
        "sunday" | "sun" => Weekday::Sunday,
        _ => return None,
    })
}

fn span(words: &[&str]) -> Option<Span> {
    let [number, unit] = words else { return None };
    let number = match *number {
        "one" | "a" => 1,
        "two" => 2,
        "three" => 3,
        text => text.parse().ok().filter(|number| (1..=NUMBER_MAX).contains(number))?,
    };
    match *unit {
        "day" | "days" => Some(Span::Days(number)),
        "week" | "weeks" => Some(Span::Weeks(number)),
        "month" | "months" => Some(Span::Months(number)),
        _ => None,
    }
}
