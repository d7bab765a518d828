//! Ranges of versions.

use std::fmt;

use crate::Version;

/// One end of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The version at the end.
    pub version: Version,
    /// Whether that version itself is within.
    pub inclusive: bool,
}

/// Versions from one to another; everything where neither end is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Range {
    /// The lower end.
    pub lower: Option<Bound>,
    /// The upper end.
    pub upper: Option<Bound>,
}

impl Range {
    /// One version alone.
    #[must_use]
    pub fn exactly(version: Version) -> Self {
        let bound = Bound { version, inclusive: true };
        Self { lower: Some(bound.clone()), upper: Some(bound) }
    }

    /// Whether a version is within.
    #[must_use]
    pub fn contains(&self, version: &Version) -> bool {
        let above = self.lower.as_ref().is_none_or(|lower| match lower.inclusive {
            true => lower.version <= *version,
            false => lower.version < *version,
        });
        let below = self.upper.as_ref().is_none_or(|upper| match upper.inclusive {
            true => *version <= upper.version,
            false => *version < upper.version,
        });
        above && below
    }

    /// Whether it is a single version.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.lower.is_some() && self.lower == self.upper
    }

    /// Whether no version can be within: the lower end is above the upper one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match (&self.lower, &self.upper) {
            (Some(lower), Some(upper)) => {
                lower.version > upper.version
                    || lower.version == upper.version && !(lower.inclusive && upper.inclusive)
            }
            _ => false,
        }
    }

    /// Narrows the range by one comparison; `None` for an operator that is not known.
    pub(crate) fn narrow(&mut self, operator: &str, version: Version) -> Option<()> {
        let bound = |inclusive| Some(Bound { version: version.clone(), inclusive });
        match operator {
            ">=" => self.lower = bound(true),
            ">" => self.lower = bound(false),
            "<=" => self.upper = bound(true),
            "<" => self.upper = bound(false),
            "==" | "=" | "" => *self = Self::exactly(version),
            _ => return None,
        }
        Some(())
    }

    /// Reads what [`Range`] shows itself as.
    #[must_use]
    pub fn parse(text: &str, renumbered: bool) -> Option<Self> {
        let mut range = Self::default();
        if text.trim() == "*" {
            return Some(range);
        }
        for part in text.split_whitespace() {
            let end = part.find(|c: char| !"<>=".contains(c))?;
            range.narrow(&part[..end], Version::parse(&part[end..], renumbered)?)?;
        }
        Some(range)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_exact()
            && let Some(bound) = &self.lower
        {
            return write!(f, "=={}", bound.version);
        }
        let mut parts = Vec::new();
        if let Some(lower) = &self.lower {
            parts.push(format!("{}{}", if lower.inclusive { ">=" } else { ">" }, lower.version));
        }
        if let Some(upper) = &self.upper {
            parts.push(format!("{}{}", if upper.inclusive { "<=" } else { "<" }, upper.version));
        }
        match parts.is_empty() {
            true => f.write_str("*"),
            false => f.write_str(&parts.join(" ")),
        }
    }
}
