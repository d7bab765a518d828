//! Rules, windows and calendars: an answer or an error, and no time before the one asked for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use volutus_schedule::{Facts, Interval, Next, Openings, Rule, Scope, Windows, read_ics};

fuzz_target!(|text: &str| {
    let zones = jiff::tz::db();
    let after: jiff::Timestamp = "2026-11-25T00:00:00Z".parse().expect("it is a time");
    let horizon = Interval { start: after, end: "2027-02-25T00:00:00Z".parse().expect("it is a time") };
    if let Ok(rule) = Rule::parse(text) {
        assert_eq!(Rule::parse(&rule.to_string()).as_ref(), Ok(&rule));
        if let Ok(Next::At(due)) = rule.next(after, &Facts::default(), zones) {
            assert!(due.at.timestamp() > after);
        }
    }
    if let Ok(windows) = Windows::parse(text, zones) {
        let _openings = Openings::of(&windows, &Scope::default(), horizon, zones);
    }
    if let Ok(freezes) = read_ics(text, &Scope::default(), horizon, zones) {
        assert!(freezes.iter().all(|freeze| freeze.interval.start < freeze.interval.end));
    }
});
