//! When things are due and whether they fit: tables over transitions, month ends, windows, freezes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::tz::TimeZoneDatabase;
use proptest::prelude::*;
use volutus_schedule::{
    Decision, Facts, Interval, Next, Openings, Rule, Schedule, Scope, Windows, calendar, decide, not_done,
    read_ics, write_ics,
};

fn zones() -> &'static TimeZoneDatabase {
    jiff::tz::db()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn facts() -> Facts {
    Facts {
        releases: [("2026.2".parse().unwrap(), jiff::civil::date(2026, 9, 30))].into(),
        last_success: Some(at("2026-01-31T23:30:00Z")),
    }
}

fn next(rule: &str, after: &str) -> (String, Option<String>) {
    match Rule::parse(rule).unwrap().next(at(after), &facts(), zones()).unwrap() {
        Next::At(due) => (due.at.timestamp().to_string(), due.note),
        other => (format!("{other:?}"), None),
    }
}

/// What is due next: rule, after when, and the time in UTC.
#[test]
fn due_times() {
    for (rule, after, expected) in [
        ("second Tuesday 02:00 Europe/Berlin", "2026-11-25T00:00:00Z", "2026-12-08T01:00:00Z"),
        // The very moment counts as past, and a moment before as due.
        ("second Tuesday 02:00 Europe/Berlin", "2026-12-08T01:00:00Z", "2027-01-12T01:00:00Z"),
        ("second Tuesday 02:00 Europe/Berlin", "2026-12-08T00:59:59Z", "2026-12-08T01:00:00Z"),
        // Over the change of the year, and from winter to summer time.
        ("second Tuesday 02:00 Europe/Berlin", "2026-12-31T23:30:00Z", "2027-01-12T01:00:00Z"),
        ("second Tuesday 02:00 Europe/Berlin", "2026-03-11T00:00:00Z", "2026-04-14T00:00:00Z"),
        ("monthly on the last Friday of the month 22:00 UTC", "2026-11-01T00:00:00Z", "2026-11-27T22:00:00Z"),
        ("1st mon 00:00 Pacific/Auckland", "2026-11-25T00:00:00Z", "2026-12-06T11:00:00Z"),
        ("last day 23:59 America/New_York", "2028-02-01T06:00:00Z", "2028-03-01T04:59:00Z"),
        ("day 31 02:00 UTC", "2026-11-01T00:00:00Z", "2026-11-30T02:00:00Z"),
        ("day 29 02:00 UTC", "2027-02-01T00:00:00Z", "2027-02-28T02:00:00Z"),
        ("day 29 02:00 UTC", "2028-02-01T00:00:00Z", "2028-02-29T02:00:00Z"),
        // West of Greenwich the month has not begun yet, east of it it has.
        ("day 1 00:00 America/Los_Angeles", "2026-12-01T00:00:00Z", "2026-12-01T08:00:00Z"),
        ("day 1 00:00 Asia/Tokyo", "2026-11-30T16:00:00Z", "2026-12-31T15:00:00Z"),
        ("once 2026-12-01 02:00 Europe/Berlin", "2026-11-25T00:00:00Z", "2026-12-01T01:00:00Z"),
        ("once 2026-12-01 02:00 Europe/Berlin", "2026-12-01T01:00:00Z", "Over"),
        ("30 days after 2026.2 02:00 UTC", "2026-10-01T00:00:00Z", "2026-10-30T02:00:00Z"),
        ("30 days after 2026.2 02:00 UTC", "2026-11-01T00:00:00Z", "Over"),
        // The success was on 1 February already in Berlin, and still on 31 January in London.
        (
            "one month after the last success 02:00 Europe/Berlin",
            "2026-02-01T00:00:00Z",
            "2026-03-01T01:00:00Z",
        ),
        (
            "one month after the last success 02:00 Europe/London",
            "2026-02-01T00:00:00Z",
            "2026-02-28T02:00:00Z",
        ),
        ("two weeks after last success 02:00 UTC", "2026-02-01T00:00:00Z", "2026-02-14T02:00:00Z"),
    ] {
        assert_eq!(next(rule, after).0, expected, "{rule}, after {after}");
    }
}

/// Local times that do not exist, or exist twice.
#[test]
fn transitions() {
    for (rule, after, expected, note) in [
        // Europe goes forward on the last Sunday of March at 01:00 UTC, and back in October.
        ("last Sunday 02:00 Europe/Berlin", "2026-03-01T00:00:00Z", "2026-03-29T01:00:00Z", "it is 03:00"),
        ("last Sunday 02:30 Europe/Berlin", "2026-03-01T00:00:00Z", "2026-03-29T01:30:00Z", "it is 03:30"),
        ("last Sunday 02:30 Europe/Berlin", "2026-10-01T00:00:00Z", "2026-10-25T00:30:00Z", "the first"),
        ("last Sunday 03:00 Europe/Berlin", "2026-10-01T00:00:00Z", "2026-10-25T02:00:00Z", ""),
        ("last Sunday 01:59 Europe/Berlin", "2026-03-01T00:00:00Z", "2026-03-29T00:59:00Z", ""),
        ("last Sunday 01:30 Europe/London", "2026-03-01T00:00:00Z", "2026-03-29T01:30:00Z", "it is 02:30"),
        // The United States on the second Sunday of March, and the first of November.
        (
            "second Sunday 02:30 America/New_York",
            "2027-03-01T00:00:00Z",
            "2027-03-14T07:30:00Z",
            "it is 03:30",
        ),
        ("first Sunday 01:30 America/New_York", "2026-11-01T00:00:00Z", "2026-11-01T05:30:00Z", "the first"),
        // Lord Howe moves by half an hour only.
        (
            "first Sunday 02:15 Australia/Lord_Howe",
            "2026-10-01T00:00:00Z",
            "2026-10-03T15:45:00Z",
            "it is 02:45",
        ),
        // The southern half of the world.
        ("first Sunday 02:30 Australia/Sydney", "2027-04-01T00:00:00Z", "2027-04-03T15:30:00Z", "the first"),
        // A zone without any.
        ("last Sunday 02:30 Asia/Tokyo", "2026-03-01T00:00:00Z", "2026-03-28T17:30:00Z", ""),
        // Both at once: a short month and a gap do not meet, but a short month is told.
        ("day 31 02:00 UTC", "2026-02-01T00:00:00Z", "2026-02-28T02:00:00Z", "no day 31"),
    ] {
        let (found, told) = next(rule, after);
        assert_eq!(found, expected, "{rule}, after {after}");
        let told = told.unwrap_or_default();
        assert!(told.contains(note) && told.is_empty() == note.is_empty(), "{rule}: {told:?}");
    }
}

#[test]
fn a_year_of_months_over_both_transitions() {
    let rule = Rule::parse("last Sunday 02:30 Europe/Berlin").unwrap();
    let found =
        rule.between(at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"), &facts(), zones(), 50).unwrap();
    assert_eq!(found.len(), 12);
    let hours: Vec<String> = found.iter().map(|due| due.at.strftime("%m-%d %H:%M").to_string()).collect();
    assert_eq!(hours[2], "03-29 03:30");
    assert!(hours.iter().enumerate().all(|(i, hour)| i == 2 || hour.ends_with("02:30")), "{hours:?}");
}

#[test]
fn what_has_not_happened_is_waited_for() {
    for rule in ["30 days after 2027.1 02:00 UTC", "one month after the last success 02:00 UTC"] {
        let none = Facts::default();
        let next = Rule::parse(rule).unwrap().next(at("2026-11-25T00:00:00Z"), &none, zones()).unwrap();
        assert!(matches!(next, Next::Waits(_)), "{next:?}");
    }
}

#[test]
fn rules_that_are_not_understood_are_refused() {
    for bad in [
        "",
        "Tuesday",
        "second Tuesday 02:00",
        "second Tuesday Europe/Berlin",
        "fifth Tuesday 02:00 UTC",
        "second Tuesday 2:00 UTC",
        "second Tuesday 24:00 UTC",
        "second Tuesday 02:60 UTC",
        "second day 02:00 UTC",
        "day 0 02:00 UTC",
        "day 32 02:00 UTC",
        "once 2026-02-30 02:00 UTC",
        "once tomorrow 02:00 UTC",
        "0 days after 2026.2 02:00 UTC",
        "30 days after epoxy 02:00 UTC",
        "9999 days after 2026.2 02:00 UTC",
        "one month after 02:00 UTC",
        "second Tuesday 02:00 +01:00",
        "second Tuesday 02:00 ../etc/passwd",
    ] {
        assert!(Rule::parse(bad).is_err(), "{bad:?} was accepted");
    }
    let unknown = Rule::parse("second Tuesday 02:00 Europe/Atlantis").unwrap();
    assert!(unknown.next(at("2026-11-25T00:00:00Z"), &facts(), zones()).is_err());
}

const WINDOWS: &str = "
[[window]]
name = 'nights'
days = ['weekdays']
from = '22:00'
to = '04:00'
time_zone = 'Europe/Berlin'

[[window]]
name = 'az1 on Saturdays'
days = ['Saturday']
from = '08:00'
to = '12:00'
time_zone = 'Europe/Berlin'
zones = ['az1']

[[freeze]]
name = 'end of the year'
from = 2026-12-18
to = 2027-01-03
time_zone = 'Europe/Berlin'

[[freeze]]
name = 'release of the shop'
from = 2026-12-08T23:00:00
to = 2026-12-09T01:00:00
time_zone = 'Europe/Berlin'
projects = ['shop']
";

fn openings(scope: &Scope, from: &str, to: &str) -> Openings {
    let windows = Windows::parse(WINDOWS, zones()).unwrap();
    Openings::of(&windows, scope, Interval { start: at(from), end: at(to) }, zones()).unwrap()
}

fn named(zones: &[&str], projects: &[&str]) -> Scope {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    Scope { zones: set(zones), projects: set(projects) }
}

const ALL: (&str, &str) = ("2026-11-25T00:00:00Z", "2027-02-25T00:00:00Z");

#[test]
fn what_fits_is_started_and_what_does_not_is_not() {
    let whole = openings(&Scope::default(), ALL.0, ALL.1);
    let now = at(ALL.0);
    let hours = |n: i64| n * 3_600;
    // Tuesday 02:00 in Berlin is within the night from Monday; two hours are left.
    let due = at("2026-12-08T01:00:00Z");
    assert!(matches!(decide(due, hours(2), now, &whole), Decision::Start { at, .. } if at == due));
    assert!(matches!(decide(due, hours(2) + 1, now, &whole), Decision::TooLong { available_s: 7_200, .. }));
    // At noon the next night is waited for, all six hours of it.
    let noon = at("2026-12-10T11:00:00Z");
    let night = at("2026-12-10T21:00:00Z");
    assert!(matches!(decide(noon, hours(6), now, &whole), Decision::Start { at, .. } if at == night));
    // Looked at too late, it is missed; at the last moment it is not.
    let last = at("2026-12-11T01:00:00Z");
    assert!(matches!(decide(noon, hours(2), last, &whole), Decision::Start { .. }));
    let late = at("2026-12-11T01:00:01Z");
    assert!(
        matches!(decide(noon, hours(2), late, &whole), Decision::Missed { latest_start, .. } if latest_start == last)
    );
    // In the freeze there is nothing; the first opening is the night to Monday's morning... of the 4th.
    let frozen = at("2026-12-20T11:00:00Z");
    let after = at("2027-01-04T21:00:00Z");
    assert!(matches!(decide(frozen, hours(6), now, &whole), Decision::Start { at, .. } if at == after));
}

#[test]
fn windows_and_freezes_are_for_zones_and_projects() {
    let saturday = at("2026-11-28T08:00:00Z");
    let open = |scope: &Scope, at| openings(scope, ALL.0, ALL.1).open.iter().any(|one| one.contains(at));
    assert!(open(&named(&["az1"], &[]), saturday));
    // The whole cloud is more than the window is for.
    assert!(!open(&Scope::default(), saturday) && !open(&named(&["az2"], &[]), saturday));
    assert!(!open(&named(&["az1", "az2"], &[]), saturday));
    // A freeze of one project stops work on all, and on that one, but not on another.
    let frozen = at("2026-12-08T23:30:00Z");
    assert!(!open(&Scope::default(), frozen) && !open(&named(&[], &["shop"]), frozen));
    assert!(open(&named(&[], &["bank"]), frozen));
}

/// A night in which clocks change has an hour less or more, and a window that the change leaves
/// nothing of is not there.
#[test]
fn windows_over_transitions() {
    let text = WINDOWS
        .replace("'weekdays'", "'Saturday'")
        .replace("2026-12-18", "2027-12-18")
        .replace("2027-01-03", "2028-01-03");
    let windows = Windows::parse(&text, zones()).unwrap();
    let hours = |from: &str, to: &str| {
        let horizon = Interval { start: at(from), end: at(to) };
        let openings = Openings::of(&windows, &Scope::default(), horizon, zones()).unwrap();
        let within = openings.open.iter().filter(|one| one.start >= horizon.start && one.end <= horizon.end);
        within.map(|one| (one.end.as_second() - one.start.as_second()) / 3_600).collect::<Vec<_>>()
    };
    assert_eq!(hours("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"), [5]);
    assert_eq!(hours("2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z"), [7]);
    assert_eq!(hours("2026-06-06T12:00:00Z", "2026-06-07T12:00:00Z"), [6]);
    let gap = "[[window]]\nname = 'gap'\ndays = ['Sunday']\nfrom = '02:00'\nto = '03:00'\ntime_zone = 'Europe/Berlin'";
    let windows = Windows::parse(gap, zones()).unwrap();
    let horizon = Interval { start: at("2026-03-20T00:00:00Z"), end: at("2026-04-10T00:00:00Z") };
    let open = Openings::of(&windows, &Scope::default(), horizon, zones()).unwrap().open;
    // 22 March, 5 April, and the one after the horizon's end are there; 29 March is not.
    assert!(!open.iter().any(|one| one.start.to_string().starts_with("2026-03-29")), "{open:?}");
    assert!(open.iter().any(|one| one.start.to_string() == "2026-04-05T00:00:00Z"), "{open:?}");
}

#[test]
fn windows_that_say_too_little_are_refused() {
    for (from, to) in [
        ("days = ['weekdays']", "days = []"),
        ("days = ['weekdays']", "days = ['someday']"),
        ("from = '22:00'", "from = '22'"),
        ("'Europe/Berlin'\n\n[[window]]", "'Mars/Olympus'\n\n[[window]]"),
        ("to = 2027-01-03", "to = 2026-01-03"),
        ("zones =", "zone ="),
        ("from = 2026-12-18", "from = 12:00:00"),
    ] {
        let text = WINDOWS.replacen(from, to, 1);
        assert_ne!(text, WINDOWS, "{from}");
        assert!(Windows::parse(&text, zones()).is_err(), "{to} was accepted");
    }
}

fn ics(events: &str) -> String {
    format!("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n{}END:VCALENDAR\r\n", events.replace('\n', "\r\n"))
}

fn import(events: &str) -> Result<Vec<String>, String> {
    let horizon = Interval { start: at("2026-11-25T00:00:00Z"), end: at("2027-02-25T00:00:00Z") };
    let found =
        read_ics(&ics(events), &Scope::default(), horizon, zones()).map_err(|error| error.to_string())?;
    Ok(found.iter().map(|f| format!("{} {} {}", f.name, f.interval.start, f.interval.end)).collect())
}

#[test]
fn freezes_are_imported() {
    let event =
        |body: &str| import(&format!("BEGIN:VEVENT\nSUMMARY:Freeze\\, yes\n{body}\nEND:VEVENT\n")).unwrap();
    assert_eq!(
        event("DTSTART;VALUE=DATE:20261224\nDTEND;VALUE=DATE:20261227"),
        ["Freeze, yes 2026-12-24T00:00:00Z 2026-12-27T00:00:00Z"]
    );
    assert_eq!(
        event("DTSTART;TZID=Europe/Berlin:20261224T180000\nDURATION:PT6H"),
        ["Freeze, yes 2026-12-24T17:00:00Z 2026-12-24T23:00:00Z"]
    );
    assert_eq!(event("DTSTART:2026122\n 4T180000Z\nDTEND:20261224T190000Z").len(), 1);
    // A day of the year, every year; the one within the horizon.
    assert_eq!(
        event("DTSTART;VALUE=DATE:20201224\nRRULE:FREQ=YEARLY"),
        ["Freeze, yes 2026-12-24T00:00:00Z 2026-12-25T00:00:00Z"]
    );
    assert_eq!(event("DTSTART;VALUE=DATE:20261130\nRRULE:FREQ=WEEKLY;INTERVAL=2;COUNT=3").len(), 3);
    assert_eq!(event("DTSTART;VALUE=DATE:20261130\nRRULE:FREQ=DAILY;UNTIL=20261203").len(), 4);
    // The 31st: November and February have none.
    assert_eq!(event("DTSTART;VALUE=DATE:20261031\nRRULE:FREQ=MONTHLY").len(), 2);
    // Over the change of the clocks the local time stays.
    assert_eq!(
        event("DTSTART;TZID=Europe/Berlin:20260701T120000\nDURATION:PT1H\nRRULE:FREQ=MONTHLY")[0],
        "Freeze, yes 2026-12-01T11:00:00Z 2026-12-01T12:00:00Z"
    );
    assert!(event("DTSTART;VALUE=DATE:20261224\nTRANSP:TRANSPARENT").is_empty());
    assert!(event("DTSTART;VALUE=DATE:20261224\nSTATUS:CANCELLED").is_empty());
    assert!(event("DTSTART;VALUE=DATE:20281224").is_empty());
    let alarm = "DTSTART;VALUE=DATE:20261224\nBEGIN:VALARM\nDURATION:nonsense\nEND:VALARM";
    assert_eq!(event(alarm).len(), 1);
}

#[test]
fn what_is_not_understood_of_a_calendar_is_refused() {
    for body in [
        "SUMMARY:x",
        "DTSTART:20261224T180000",
        "DTSTART;TZID=W. Europe Standard Time:20261224T180000\nDURATION:PT1H",
        "DTSTART:20261224T180000Z",
        "DTSTART:20261324",
        "DTSTART:20261224T180000Z\nDTEND:20261224T170000Z",
        "DTSTART:20261224T180000Z\nDTEND;VALUE=DATE:20261225",
        "DTSTART;VALUE=DATE:20261224\nRRULE:FREQ=WEEKLY;BYDAY=MO,TU",
        "DTSTART;VALUE=DATE:20261224\nRRULE:COUNT=3",
        "DTSTART;VALUE=DATE:20261224\nRRULE:FREQ=DAILY;INTERVAL=0",
        "DTSTART;VALUE=DATE:19001224\nRRULE:FREQ=DAILY",
        "DTSTART;VALUE=DATE:20261224\nEXDATE:20261224",
        "no colon",
    ] {
        let found = import(&format!("BEGIN:VEVENT\n{body}\nEND:VEVENT\n"));
        assert!(found.is_err(), "{body:?} gave {found:?}");
    }
    let horizon = Interval { start: at(ALL.0), end: at(ALL.1) };
    for text in
        ["", "hello", "BEGIN:VEVENT\nEND:VEVENT\n", "BEGIN:VCALENDAR\n", "BEGIN:VCALENDAR\nEND:VEVENT\n"]
    {
        assert!(read_ics(text, &Scope::default(), horizon, zones()).is_err(), "{text:?} was accepted");
    }
}

fn schedule(rule: &str, expected_s: Option<i64>) -> Schedule {
    Schedule {
        name: "every month".to_owned(),
        rule: Rule::parse(rule).unwrap(),
        to: None,
        zones: BTreeSet::new(),
        projects: BTreeSet::new(),
        expected_s,
        by: "jo".to_owned(),
        since: at("2026-11-25T00:00:00Z"),
    }
}

#[test]
fn the_coming_months_are_told_and_exported() {
    let windows = Windows::parse(WINDOWS, zones()).unwrap();
    let horizon = Interval { start: at(ALL.0), end: at(ALL.1) };
    let schedules = [
        schedule("second Tuesday 02:00 Europe/Berlin", Some(7_200)),
        schedule("third Tuesday 02:00 Europe/Berlin", None),
        schedule("30 days after 2027.1 02:00 UTC", None),
    ];
    let entries =
        calendar(&schedules, &windows, &facts(), |_| Some(10_000), horizon, horizon.start, zones()).unwrap();
    let starts = entries.iter().filter(|e| matches!(e.decision, Some(Decision::Start { .. }))).count();
    let too_long = entries.iter().filter(|e| matches!(e.decision, Some(Decision::TooLong { .. }))).count();
    assert_eq!((entries.len(), starts, too_long), (7, 3, 3), "{entries:?}");
    assert!(entries.last().is_some_and(|entry| entry.due.is_none() && entry.note.is_some()));
    let text = write_ics("cloud", &entries, at("2026-11-25T12:00:00Z"));
    assert_eq!(text.matches("BEGIN:VEVENT").count(), 6);
    assert_eq!(text.matches("STATUS:CANCELLED").count(), 3);
    assert!(text.contains("DTSTART:20261208T010000Z\r\nDURATION:PT7200S\r\n"), "{text}");
    assert!(text.split("\r\n").all(|line| line.len() <= 75));
    assert_eq!(write_ics("cloud", &entries, at("2026-11-25T12:00:00Z")), text);
    let uids: BTreeSet<&str> = text.lines().filter(|line| line.starts_with("UID:")).collect();
    assert_eq!(uids.len(), 6);
}

#[test]
fn what_was_not_done_is_told() {
    let windows = Windows::parse(WINDOWS, zones()).unwrap();
    let horizon = Interval { start: at("2026-11-25T00:00:00Z"), end: at("2026-12-20T00:00:00Z") };
    let monthly = schedule("second Tuesday 02:00 Europe/Berlin", Some(3_600));
    let told = |now: &str, begun: &[Timestamp]| {
        let all =
            calendar(std::slice::from_ref(&monthly), &windows, &facts(), |_| None, horizon, at(now), zones());
        not_done(all.unwrap(), begun).len()
    };
    // Until it can no longer start, it is not missed; a run within the window is it being done.
    assert_eq!(told("2026-12-08T02:00:00Z", &[]), 0);
    assert_eq!(told("2026-12-08T02:00:01Z", &[]), 1);
    assert_eq!(told("2026-12-19T00:00:00Z", &[at("2026-12-08T01:30:00Z")]), 0);
    assert_eq!(told("2026-12-19T00:00:00Z", &[at("2026-12-08T03:00:00Z"), at("2026-12-08T00:59:00Z")]), 1);
    // On a Friday night the next window is on Monday: it is waited for, and not missed.
    let friday = schedule("once 2026-12-11 12:00 Europe/Berlin", Some(3_600));
    let horizon = Interval { start: at("2026-11-25T00:00:00Z"), end: at("2026-12-11T11:30:00Z") };
    let all = calendar(&[friday], &windows, &facts(), |_| None, horizon, horizon.end, zones()).unwrap();
    assert!(matches!(all[0].decision, Some(Decision::Start { .. })) && not_done(all, &[]).is_empty());
    // Without any window it is an hour in which it starts, or is missed.
    let anytime = |now: &str, begun: &[Timestamp]| {
        let none = Windows::default();
        let all =
            calendar(std::slice::from_ref(&monthly), &none, &facts(), |_| None, horizon, at(now), zones());
        not_done(all.unwrap(), begun).len()
    };
    assert_eq!(anytime("2026-12-08T02:00:00Z", &[]), 0);
    assert_eq!(anytime("2026-12-08T02:00:01Z", &[]), 1);
    assert_eq!(anytime("2026-12-19T00:00:00Z", &[at("2026-12-08T01:59:59Z")]), 0);
    assert_eq!(anytime("2026-12-19T00:00:00Z", &[at("2026-12-08T02:30:00Z")]), 1);
    // What was due before the schedule was there is not missed.
    let horizon = Interval { start: at("2026-11-25T00:00:00Z"), end: at("2026-12-20T00:00:00Z") };
    let late = Schedule { since: at("2026-12-09T00:00:00Z"), ..monthly.clone() };
    let now = at("2026-12-19T00:00:00Z");
    let all = calendar(&[late], &windows, &facts(), |_| None, horizon, now, zones()).unwrap();
    assert!(not_done(all, &[]).is_empty());
}

#[test]
fn a_schedule_reads_back_as_it_was_kept() {
    for rule in [
        "second Tuesday 02:00 Europe/Berlin",
        "last day 23:59 UTC",
        "day 15 00:00 UTC",
        "once 2026-12-01 02:00 UTC",
        "30 days after 2026.2 02:00 UTC",
        "one month after last success 02:00 UTC",
    ] {
        let kept = schedule(rule, Some(60));
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), kept, "{text}");
    }
}

proptest! {
    #[test]
    fn no_input_breaks_it(rule in ".{0,60}", words in "(first|second|last|day|once|30|days|after|2026.2|the|success| ){0,8}02:00 (UTC|Europe/Berlin)",
                          calendar in "(BEGIN|END|DTSTART|DTEND|RRULE|SUMMARY|:|;|=|VEVENT|VCALENDAR|2026|T|Z|\n| ){0,40}") {
        let facts = facts();
        for text in [rule, words] {
            if let Ok(rule) = Rule::parse(&text) {
                prop_assert_eq!(&Rule::parse(&rule.to_string()).unwrap(), &rule);
                let _next = rule.next(at("2026-11-25T00:00:00Z"), &facts, zones());
            }
        }
        let horizon = Interval { start: at(ALL.0), end: at(ALL.1) };
        let _freezes = read_ics(&calendar, &Scope::default(), horizon, zones());
        let _freezes = read_ics(&ics(&format!("BEGIN:VEVENT\n{calendar}\nEND:VEVENT\n")), &Scope::default(), horizon, zones());
        let _windows = Windows::parse(&calendar, zones());
    }

    /// Whatever the rule, the time that is due is after the one asked for, and the next one after it.
    #[test]
    fn time_goes_forward(number in 1_i8..=31, hour in 0_u8..24, second in 0_i64..4_000_000_000) {
        let after = Timestamp::from_second(second).unwrap();
        for zone in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"] {
            let rule = Rule::parse(&format!("day {number} {hour:02}:30 {zone}")).unwrap();
            let Next::At(due) = rule.next(after, &Facts::default(), zones()).unwrap() else { panic!("it is over") };
            let gap = due.at.timestamp().as_second() - second;
            prop_assert!(gap > 0 && gap <= 32 * 86_400, "{gap}");
        }
    }
}
