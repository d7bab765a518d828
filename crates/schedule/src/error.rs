//! What is refused.

/// Why something was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A rule.
    #[error(
        "`{text}` is not understood: {why}. Write `once 2026-12-01 02:00 Europe/Berlin`, `second Tuesday \
         02:00 Europe/Berlin`, `day 15 22:00 UTC`, `last day 02:00 UTC`, `30 days after 2026.2 02:00 UTC` or \
         `one month after the last success 02:00 UTC`"
    )]
    Rule {
        /// The text.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// A time zone that the system's database does not have.
    #[error(
        "time zone `{0}` is not known; names are those of the IANA database, such as Europe/Berlin or UTC"
    )]
    Zone(String),
    /// A file of windows.
    #[error("{0}")]
    Windows(String),
    /// A calendar.
    #[error("line {line}: {why}")]
    Calendar {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}
