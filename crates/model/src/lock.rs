//! Locked releases: which versions a release holds, and how it is told that it holds them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{InvalidName, PackageVersion};

/// A SHA-256, written as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(String);

impl Sha256 {
    /// Checks and wraps a digest; capital letters are made small.
    ///
    /// # Errors
    /// Refuses anything but 64 hexadecimal digits.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(InvalidName { what: "SHA-256", text: text.to_owned(), rule: "64 hexadecimal digits" })
    }

    /// The digest of 32 bytes.
    #[must_use]
    pub fn of_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Enough of it to tell two apart by eye.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for Sha256 {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text)
    }
}

impl From<Sha256> for String {
    fn from(digest: Sha256) -> Self {
        digest.0
    }
}

/// What a locked release is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LockName(String);

/// Longer names are no names but descriptions.
const CHARS_MAX: usize = 60;

impl LockName {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// Refuses anything but up to 60 letters, digits, dots, dashes and underscores that begin with a letter
    /// or digit: it is typed, and becomes the name of a file.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
        let text = text.into();
        let fit = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let first = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        if first && text.len() <= CHARS_MAX && text.chars().all(fit) {
            return Ok(Self(text));
        }
        let rule = "up to 60 letters, digits, dots, dashes and underscores, beginning with a letter or digit";
        Err(InvalidName { what: "name of a locked release", text, rule })
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for LockName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl TryFrom<String> for LockName {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl From<LockName> for String {
    fn from(name: LockName) -> Self {
        name.0
    }
}

/// What a release on a host is held against after staging.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedRelease {
    /// The locked release's name.
    pub name: LockName,
    /// Its packages, by the distribution's normal name.
    pub packages: BTreeMap<String, LockedPackage>,
}

/// One package of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedPackage {
    /// Its version.
    pub version: PackageVersion,
    /// The digest of what it installs: of the lines `PATH NUL SHA256 LF` of its files, in the order of their
    /// paths below the package directory. Its metadata, scripts and compiled modules do not count, which
    /// installers write anew. Absent where no wheel was published that would tell it: then the
    /// version alone is compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<Sha256>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_64_digits() {
        let digest = Sha256::new(&"AB".repeat(32)).unwrap();
        assert_eq!(digest.as_str(), "ab".repeat(32));
        assert_eq!(Sha256::of_bytes([0xab; 32]), digest);
        for wrong in ["", "ab", &"g".repeat(64), &"a".repeat(65)] {
            assert!(Sha256::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_can_be_a_file_name() {
        assert!(LockName::new("2026.1-autumn_2").is_ok());
        for wrong in ["", ".", "..", "-x", "a/b", "a b", "ä"] {
            assert!(LockName::new(wrong).is_err(), "{wrong}");
        }
    }
}
