//! Microversions, and the ranges of them in which something holds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A microversion, `major.minor`. The minor part counts up and is no decimal fraction: 2.100 comes
/// after 2.99.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Microversion {
    /// Major part.
    pub major: u32,
    /// Minor part.
    pub minor: u32,
}

impl Microversion {
    /// The one after this, of the same major version.
    #[must_use]
    pub fn next(self) -> Self {
        Self { minor: self.minor.saturating_add(1), ..self }
    }
}

impl fmt::Display for Microversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Microversion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts =
            text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        let (major, minor) = parts.ok_or_else(|| format!("`{text}` is no microversion (like 2.104)"))?;
        Ok(Self { major, minor })
    }
}

impl Serialize for Microversion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Microversion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// From which to which microversion a service answers, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Lowest.
    pub min: Microversion,
    /// Highest.
    pub max: Microversion,
}

/// Microversions this range may hold at most; nova, the longest, has 104 after ten years.
const RANGE_MAX: u32 = 10_000;

impl Range {
    /// Every microversion from lowest to highest. All of OpenStack's ranges have one major version;
    /// of a range that had two, those of the lower one are not known, and only the bounds come.
    pub fn all(self) -> impl Iterator<Item = Microversion> {
        let one_major = self.min.major == self.max.major;
        let last = if one_major {
            self.max.minor.min(self.min.minor.saturating_add(RANGE_MAX))
        } else {
            self.min.minor
        };
        let major = self.min.major;
        let inner = (self.min.minor..=last).map(move |minor| Microversion { major, minor });
        inner.chain((!one_major).then_some(self.max))
    }

    /// What both have.
    #[must_use]
    pub fn common(self, other: Self) -> Option<Self> {
        let both = Self { min: self.min.max(other.min), max: self.max.min(other.max) };
        (both.min <= both.max).then_some(both)
    }
}

/// Where something holds; a missing bound is open. A service without microversions has neither.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// From this one on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Microversion>,
    /// To this one, included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Microversion>,
}

impl Span {
    /// Whether it holds at a microversion; `None` stands for a service without them.
    #[must_use]
    pub fn holds(&self, at: Option<Microversion>) -> bool {
        at.is_none_or(|at| self.min.is_none_or(|min| min <= at) && self.max.is_none_or(|max| at <= max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minor_parts_are_counted() {
        let parse = |text: &str| text.parse::<Microversion>();
        assert!(parse("2.100").unwrap() > parse("2.99").unwrap());
        for wrong in ["2", "2.x", "", ".", "v2.1", "2.1.0"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let range = Range { min: parse("2.1").unwrap(), max: parse("2.104").unwrap() };
        assert_eq!(range.all().count(), 104);
    }

    #[test]
    fn open_bounds_hold_everywhere_beyond() {
        let at = |minor| Some(Microversion { major: 2, minor });
        let span = Span { min: at(35), max: None };
        assert!(!span.holds(at(34)) && span.holds(at(35)) && span.holds(at(104)) && span.holds(None));
    }
}
