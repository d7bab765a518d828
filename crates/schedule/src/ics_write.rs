//! Writes a calendar in iCalendar's form. Source of the format: RFC 5545.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::{Decision, Entry};

/// Bytes of a content line without its line break (RFC 5545, section 3.1).
const LINE_MAX: usize = 75;

/// Seconds that an entry of unknown length takes in a calendar.
const UNKNOWN_S: i64 = 3_600;

/// The entries as a calendar. The same entry has the same UID each time, so that who subscribes sees
/// it move and not twice.
#[must_use]
pub fn write_ics(cloud: &str, entries: &[Entry], now: Timestamp) -> String {
    let mut text = String::new();
    let mut line = |content: String| fold(&mut text, &content);
    for fixed in ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//volutus//schedules//EN", "CALSCALE:GREGORIAN"]
    {
        line(fixed.to_owned());
    }
    line(format!("X-WR-CALNAME:{}", escape(&format!("volutus {cloud}"))));
    for entry in entries {
        let Some(due) = entry.due else { continue };
        let (start, state, what) = match &entry.decision {
            Some(Decision::Start { at, .. }) => (*at, "CONFIRMED", String::new()),
            Some(Decision::TooLong { .. }) => (due, "CANCELLED", "does not fit its window".to_owned()),
            Some(Decision::Missed { .. }) => (due, "CANCELLED", "its window was missed".to_owned()),
            Some(Decision::NoOpening { because: Some(name) }) => {
                (due, "CANCELLED", format!("frozen: {name}"))
            }
            Some(Decision::NoOpening { because: None }) => (due, "CANCELLED", "no window is open".to_owned()),
            None => (due, "TENTATIVE", String::new()),
        };
        let expected_s = entry.expected_s.unwrap_or(UNKNOWN_S).max(60);
        line("BEGIN:VEVENT".to_owned());
        line(format!("UID:{}-{}@{cloud}.volutus", slug(&entry.schedule), due.as_second()));
        line(format!("DTSTAMP:{}", compact(now)));
        line(format!("DTSTART:{}", compact(start)));
        line(format!("DURATION:PT{expected_s}S"));
        line(format!("SUMMARY:{}", escape(&format!("{}: {}", entry.schedule, entry.title))));
        let notes: Vec<&str> = [what.as_str(), entry.note.as_deref().unwrap_or("")]
            .into_iter()
            .filter(|t| !t.is_empty())
            .collect();
        if !notes.is_empty() {
            line(format!("DESCRIPTION:{}", escape(&notes.join("; "))));
        }
        line(format!("STATUS:{state}"));
        line("END:VEVENT".to_owned());
    }
    line("END:VCALENDAR".to_owned());
    text
}

fn compact(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The name of a schedule as part of a UID.
fn slug(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

fn escape(text: &str) -> String {
    let mut found = String::new();
    for c in text.chars() {
        match c {
            '\\' | ';' | ',' => {
                found.push('\\');
                found.push(c);
            }
            '\n' => found.push_str("\\n"),
            c if c.is_control() => {}
            c => found.push(c),
        }
    }
    found
}

/// A content line, folded between characters.
fn fold(text: &mut String, content: &str) {
    let mut length = 0;
    for c in content.chars() {
        if length + c.len_utf8() > LINE_MAX {
            text.push_str("\r\n ");
            length = 1;
        }
        text.push(c);
        length += c.len_utf8();
    }
    text.push_str("\r\n");
}
