//! When something is due, whether it fits where it falls, and what the coming months look like.
//!
//! Pure: the time, the database of time zones and the facts (releases, the last success) come in as
//! values. Rules are read by [`Rule::parse`], asked by [`Rule::next`]; [`Openings`] are the times in
//! which work may be done, made of maintenance windows less freezes; [`decide`] holds an occurrence
//! against them. Calendars are read and written in iCalendar's form (RFC 5545).

mod calendar;
mod decide;
mod error;
mod ics_read;
mod ics_write;
mod openings;
mod parse;
mod rule;
mod windows;

pub use calendar::{Entry, Schedule, calendar, not_done};
pub use decide::{Decision, decide};
pub use error::Error;
pub use ics_read::read_ics;
pub use ics_write::write_ics;
pub use openings::{Interval, Openings};
pub use rule::{Due, Facts, MonthDay, Next, Nth, Rule, Span};
pub use windows::{Freeze, Scope, Window, Windows};
