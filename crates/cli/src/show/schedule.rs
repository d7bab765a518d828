//! Schedules and calendars, as an operator reads them.

use volutus_schedule::{Decision, Entry, Schedule};

use super::{duration, table};

/// Openings longer than this are no windows of maintenance.
const OPEN_ALWAYS_S: i64 = 7 * 86_400;

/// What is done about something that is due.
pub fn decision(entry: &Entry) -> String {
    let Some(decision) = &entry.decision else { return "waits".to_owned() };
    match decision {
        Decision::Start { at, opening } => {
            let waits = match entry.due.is_some_and(|due| due < *at) {
                true => format!("starts {at}, when its window opens"),
                false => "starts".to_owned(),
            };
            // Without windows everything between two freezes is open.
            if opening.end.as_second() - opening.start.as_second() > OPEN_ALWAYS_S {
                return waits;
            }
            match entry.expected_s {
                Some(_) => format!("{waits}; until {}", opening.end),
                None => format!("{waits}; until {}; whether it fits is not known", opening.end),
            }
        }
        Decision::TooLong { expected_s, available_s, .. } => format!(
            "NOT started: it takes {}, and its window has {}",
            duration(*expected_s as f64),
            duration(*available_s as f64)
        ),
        Decision::Missed { latest_start, .. } => {
            format!("MISSED: it could have started until {latest_start}")
        }
        Decision::NoOpening { because: Some(name) } => format!("NOT started: frozen ({name})"),
        Decision::NoOpening { because: None } => "NOT started: no window is open".to_owned(),
    }
}

/// Entries of a calendar, one a line.
pub fn render(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "nothing is due\n".to_owned();
    }
    let mut rows = table(&["due", "schedule", "what", "takes", "then", "note"]);
    for entry in entries {
        rows.add_row([
            if entry.due.is_some() { entry.local.clone() } else { "-".to_owned() },
            entry.schedule.clone(),
            entry.title.clone(),
            entry.expected_s.map_or("?".to_owned(), |seconds| duration(seconds as f64)),
            decision(entry),
            entry.note.clone().unwrap_or_default(),
        ]);
    }
    format!("{rows}\n")
}

/// What was not done, where there is any.
pub fn render_missed(missed: &[Entry]) -> String {
    if missed.is_empty() {
        return String::new();
    }
    format!("\nWas due and was not done:\n{}", render(missed))
}

/// All schedules, with what is next and what was not done.
pub fn render_list(schedules: &[Schedule], next: &[Entry], missed: &[Entry]) -> String {
    if schedules.is_empty() {
        return "no schedule; `volutus schedule add` makes one\n".to_owned();
    }
    let mut rows = table(&["schedule", "rule", "what", "for", "by", "next"]);
    for schedule in schedules {
        let only: Vec<&str> = schedule.zones.iter().chain(&schedule.projects).map(String::as_str).collect();
        let next = next.iter().find(|entry| entry.schedule == schedule.name);
        let next = next.map_or("not within a year".to_owned(), |entry| match (&entry.due, &entry.note) {
            (None, Some(why)) => format!("waits: {why}"),
            _ => format!("{}: {}", entry.local, decision(entry)),
        });
        rows.add_row([
            schedule.name.clone(),
            schedule.rule.to_string(),
            schedule.title(),
            if only.is_empty() { "all".to_owned() } else { only.join(", ") },
            schedule.by.clone(),
            next,
        ]);
    }
    format!("{rows}\n{}", render_missed(missed))
}
