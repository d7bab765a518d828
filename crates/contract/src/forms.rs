//! Texts that stand for an object or a time, whichever service writes them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use uuid::Uuid;

/// A UUID, with its hyphens or without: keystone writes ids of projects and users without.
pub(crate) fn is_id(text: &str) -> bool {
    matches!(text.len(), 32 | 36) && Uuid::try_parse(text).is_ok()
}

/// A day, or a time with a zone or without, with a `T` before the hour or a space.
pub(crate) fn is_time(text: &str) -> bool {
    text.parse::<Timestamp>().is_ok() || text.parse::<DateTime>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_times_are_told_from_other_texts() {
        for id in ["86aaab89-8687-47fd-aab6-bab723b2536f", "9a04a082a0bf4af5a156dc5974786a38"] {
            assert!(is_id(id) && !is_time(id), "{id}");
        }
        for time in [
            "2026-11-26",
            "2026-11-26T08:00:00Z",
            "2026-11-26 08:00:00",
            "2026-11-26T08:00:00.123456",
            "2026-11-26T08:00:00+00:00",
        ] {
            assert!(is_time(time) && !is_id(time), "{time}");
        }
        for other in ["", "ctl1", "2026.1", "20261126", "86aaab898687-47fd-aab6-bab723b2536f0", "deadbeef"] {
            assert!(!is_id(other), "{other}");
        }
        for other in ["", "2026-11", "2026.1", "2026-11-26x", "12:00"] {
            assert!(!is_time(other), "{other}");
        }
    }
}
