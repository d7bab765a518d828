//! Patched releases: a series in which some packages are newer, beside the series' own release.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{InvalidName, PackageVersion};

/// What a patched release is called: its directory is that of the series, with `{series}+{name}` in the
/// place of `{series}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PatchName(String);

/// Longer names make paths that `#!` lines of scripts cannot hold (128 bytes on older kernels).
const CHARS_MAX: usize = 60;

impl PatchName {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// Refuses anything but up to 60 lower-case letters, digits, dots and dashes that begin with a letter
    /// or digit: the name becomes one part of a path, and `{series}+{name}` is to be a version's local
    /// part as PEP 440 wants it.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
        let text = text.into();
        let fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
        let first = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        if first && text.len() <= CHARS_MAX && text.chars().all(fit) {
            return Ok(Self(text));
        }
        let rule = "up to 60 lower-case letters, digits, dots and dashes, beginning with a letter or digit";
        Err(InvalidName { what: "name of a patched release", text, rule })
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PatchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for PatchName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl TryFrom<String> for PatchName {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl From<PatchName> for String {
    fn from(name: PatchName) -> Self {
        name.0
    }
}

/// One package whose vulnerable versions are replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionChange {
    /// The distribution, by its normal name.
    pub distribution: String,
    /// The versions that are exposed.
    pub from: BTreeSet<PackageVersion>,
    /// The version that takes their place.
    pub to: PackageVersion,
}

/// What a patched release must hold besides its services' own versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchedRelease {
    /// Its name.
    pub name: PatchName,
    /// Packages that must be there, by the distribution's normal name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub packages: BTreeMap<String, PackageVersion>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_a_path() {
        assert!(PatchName::new("cve-2026-42999").is_ok());
        for wrong in ["", "-a", ".", "..", "a/b", "A", "a*", "a+b", "a b"] {
            assert!(PatchName::new(wrong).is_err(), "{wrong}");
        }
    }
}
