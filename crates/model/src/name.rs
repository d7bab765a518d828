//! Names and identifiers: small types, parsed once, compared by type.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name that was refused, with the rule that it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{text}` is not valid: {rule}")]
pub struct InvalidName {
    /// What the text was meant to be, for example "host name".
    pub what: &'static str,
    /// The text as it was given.
    pub text: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and wraps a name.
            ///
            /// # Errors
            /// Refuses an empty text, one of over 200 characters, and any character other than
            /// ASCII letters, digits, `.`, `_`, `-`, `:`, `@` and `/`, because names become
            /// parts of unit names, paths and commands.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                let allowed = |c: char| c.is_ascii_alphanumeric() || "._-:@/".contains(c);
                let rule = if text.is_empty() {
                    Some("it is empty")
                } else if text.len() > 200 {
                    Some("it is longer than 200 characters")
                } else if text.starts_with('-') {
                    Some("it starts with a dash")
                } else if !text.chars().all(allowed) {
                    Some("only ASCII letters, digits and . _ - : @ / are allowed")
                } else {
                    None
                };
                match rule {
                    None => Ok(Self(text)),
                    Some(rule) => Err(InvalidName { what: $what, text, rule }),
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(
    /// A host of the cloud, as the cloud description calls it.
    HostName,
    "host name"
);
name_type!(
    /// An OpenStack service: `nova`, `keystone`. Not a process; see [`DaemonKind`].
    ServiceName,
    "service name"
);
name_type!(
    /// One kind of process: `nova-compute`, `keystone-api`.
    DaemonKind,
    "daemon kind"
);
name_type!(
    /// A backend of a load balancer, by its name there.
    BackendName,
    "backend name"
);
name_type!(
    /// A stage of a plan; unique within the plan.
    StageId,
    "stage id"
);
name_type!(
    /// A step of a plan; unique within the plan.
    StepId,
    "step id"
);
name_type!(
    /// A plan: the hash of its content, in hexadecimal. See [`crate::plan::Plan::compute_id`].
    PlanId,
    "plan id"
);
name_type!(
    /// A run of a plan.
    RunId,
    "run id"
);
name_type!(
    /// One attempt at one action. It is the idempotency key: remote work is named by it, so
    /// that after a crash it can be found again instead of being done twice.
    AttemptId,
    "attempt id"
);

/// One process kind on one host; shown as `nova-compute@c07`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DaemonId {
    /// The process kind.
    pub kind: DaemonKind,
    /// The host that it runs on.
    pub host: HostName,
}

impl DaemonId {
    /// Names the daemon of `kind` on `host`.
    #[must_use]
    pub fn new(kind: DaemonKind, host: HostName) -> Self {
        Self { kind, host }
    }
}

impl fmt::Display for DaemonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}@{}", self.kind, self.host))
    }
}

impl From<DaemonId> for String {
    fn from(id: DaemonId) -> String {
        id.to_string()
    }
}

impl TryFrom<String> for DaemonId {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for DaemonId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, host) = text.split_once('@').ok_or(InvalidName {
            what: "daemon",
            text: text.to_owned(),
            rule: "expected kind@host, for example nova-compute@c07",
        })?;
        Ok(Self { kind: kind.parse()?, host: host.parse()? })
    }
}

/// An OpenStack release series, such as `2025.2`: the year and the half of the year.
///
/// Ordering is the order of release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Series {
    year: u16,
    half: u8,
}

/// The years that a series may be of: they were called by words before.
const YEARS: std::ops::RangeInclusive<u16> = 2023..=2099;

impl Series {
    /// Whether this is a SLURP series ("skip level upgrade release process"), which are the
    /// first of each year. Source: OpenStack TC resolution 2022-02-10, release cadence.
    #[must_use]
    pub fn is_slurp(self) -> bool {
        self.half == 1
    }

    /// The series after this one: two come out each year. `None` after the last that a series is read for.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        let (year, half) = if self.half == 1 { (self.year, 2) } else { (self.year + 1, 1) };
        YEARS.contains(&year).then_some(Self { year, half })
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.year, self.half))
    }
}

impl FromStr for Series {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidName {
            what: "release series",
            text: text.to_owned(),
            rule: "expected a year and 1 or 2, for example 2026.1",
        };
        let (year, half) = text.split_once('.').ok_or_else(invalid)?;
        let year: u16 = year.parse().map_err(|_| invalid())?;
        let half: u8 = half.parse().map_err(|_| invalid())?;
        if !YEARS.contains(&year) || !(1..=2).contains(&half) {
            return Err(invalid());
        }
        Ok(Self { year, half })
    }
}

impl TryFrom<String> for Series {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Series> for String {
    fn from(series: Series) -> String {
        series.to_string()
    }
}

/// The version of a Python distribution, such as `32.2.1`.
///
/// Ordering compares the dotted numbers of the release part, which is all that OpenStack's
/// final releases use; what follows the numbers is compared as text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PackageVersion(String);

impl PackageVersion {
    /// Wraps a version as a package's metadata gives it.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The version as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first number of the version; for services of the coordinated cycle it names the
    /// series (nova 32 is 2025.2).
    #[must_use]
    pub fn major(&self) -> Option<u64> {
        self.0.split('.').next().and_then(|n| n.parse().ok())
    }

    fn key(&self) -> (Vec<u64>, &str) {
        let digits_end = self.0.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(self.0.len());
        let (release, rest) = self.0.split_at(digits_end);
        let numbers = release.split('.').filter_map(|n| n.parse().ok()).collect();
        (numbers, rest)
    }
}

impl PartialOrd for PackageVersion {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PackageVersion {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key()).then_with(|| self.0.cmp(&other.0))
    }
}

impl fmt::Display for PackageVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_parse_and_order() {
        let a: Series = "2025.2".parse().unwrap();
        let b: Series = "2026.1".parse().unwrap();
        assert!(a < b);
        assert!(b.is_slurp() && !a.is_slurp());
        assert_eq!((a.next(), b.next().map(|next| next.to_string())), (Some(b), Some("2026.2".to_owned())));
        assert_eq!("2099.2".parse::<Series>().unwrap().next(), None);
        for bad in ["2025", "2025.3", "epoxy", "2025.2.1", ""] {
            assert!(bad.parse::<Series>().is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn daemon_id_round_trip() {
        let id: DaemonId = "nova-compute@c07".parse().unwrap();
        assert_eq!(id.to_string(), "nova-compute@c07");
        assert!("nova-compute".parse::<DaemonId>().is_err());
    }

    #[test]
    fn names_refuse_what_a_shell_would_read() {
        for bad in ["", "a b", "a;b", "-rf", "$(x)", "a\nb"] {
            assert!(HostName::new(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn versions_compare_by_number() {
        let v = PackageVersion::new;
        assert!(v("9.0.0") < v("32.2.1"));
        assert!(v("33.0.0") < v("33.0.2"));
        assert_eq!(v("33.0.2").major(), Some(33));
    }
}
