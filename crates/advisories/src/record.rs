//! One record of one feed.

use std::collections::BTreeSet;
use std::fmt;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::range::Range;
use crate::{Products, Version};

/// Where a record comes from, in the order of precedence: what OpenStack's own vulnerability
/// managers say outweighs the CVE record, and that one the conversions of others. (PYSEC-2026-1490
/// turns `==27.0.0, ==28.0.0` of OSSA-2025-002 into versions that are fixed.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feed {
    /// An OpenStack Security Advisory. Source of the format: openstack/ossa, `ossa/*.yaml`.
    Ossa,
    /// A record of the CVE program. Source of the format: CVEProject/cve-schema, version 5.
    Cve,
    /// A record in OSV's format, such as PYSEC's and GHSA's. Source: ossf/osv-schema.
    Osv,
}

impl fmt::Display for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ossa => "OSSA",
            Self::Cve => "CVE",
            Self::Osv => "OSV",
        })
    }
}

/// One record, as it was understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its own id: `OSSA-2026-012`, `CVE-2026-42999`, `PYSEC-2026-1490`.
    pub id: String,
    /// Where it comes from.
    pub feed: Feed,
    /// Other ids of the same.
    pub aliases: BTreeSet<String>,
    /// When it was published, where it says so.
    pub date: Option<Date>,
    /// Its title.
    pub title: String,
    /// What is affected.
    pub affected: Vec<Affected>,
    /// Whether it was corrected after it had been published.
    #[serde(default)]
    pub errata: bool,
    /// What its authors add: preconditions in the configuration, branches without a release.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Whether it was taken back by whoever published it.
    #[serde(default)]
    pub withdrawn: bool,
    /// The file or address that it was read from.
    pub source: String,
}

/// Which versions of one distribution are affected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredAffected", into = "StoredAffected")]
pub struct Affected {
    /// The product as the record calls it.
    pub product: String,
    /// The distribution that this is.
    pub distribution: String,
    /// The versions, as the record words them.
    pub text: String,
    /// The ranges that are affected, one or another.
    pub ranges: Vec<Range>,
    /// Ranges that are not, though one of the others contains them.
    pub except: Vec<Range>,
    /// Parts that were not understood.
    pub unread: Vec<String>,
    /// Where the ranges are from, when not from the record itself.
    pub corrected_by: Option<String>,
}

/// The form in which [`Affected`] is kept.
#[derive(Serialize, Deserialize)]
struct StoredAffected {
    product: String,
    distribution: String,
    text: String,
    #[serde(default)]
    renumbered: bool,
    ranges: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    except: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unread: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    corrected_by: Option<String>,
}

impl From<Affected> for StoredAffected {
    fn from(affected: Affected) -> Self {
        let texts = |ranges: &[Range]| ranges.iter().map(ToString::to_string).collect();
        let bounds = affected.ranges.iter().chain(&affected.except);
        let mut versions = bounds.flat_map(|range| range.lower.iter().chain(&range.upper));
        Self {
            renumbered: versions.any(|bound| bound.version.is_of_years()),
            ranges: texts(&affected.ranges),
            except: texts(&affected.except),
            product: affected.product,
            distribution: affected.distribution,
            text: affected.text,
            unread: affected.unread,
            corrected_by: affected.corrected_by,
        }
    }
}

impl TryFrom<StoredAffected> for Affected {
    type Error = String;
    fn try_from(stored: StoredAffected) -> Result<Self, Self::Error> {
        let ranges = |texts: &[String]| -> Result<Vec<Range>, String> {
            let range = |text: &String| {
                Range::parse(text, stored.renumbered).ok_or_else(|| format!("`{text}` is not a range"))
            };
            texts.iter().map(range).collect()
        };
        Ok(Self {
            ranges: ranges(&stored.ranges)?,
            except: ranges(&stored.except)?,
            product: stored.product,
            distribution: stored.distribution,
            text: stored.text,
            unread: stored.unread,
            corrected_by: stored.corrected_by,
        })
    }
}

/// What a record says of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "judged", rename_all = "kebab-case")]
pub enum Judgement {
    /// It is not affected.
    NotAffected,
    /// It is affected.
    Affected,
    /// It cannot be told, and why.
    Unjudged {
        /// Why.
        why: String,
    },
}

impl Affected {
    /// Judges a version as a package's metadata gives it.
    #[must_use]
    pub fn judge(&self, version: &str, products: &Products) -> Judgement {
        let unjudged = |why: String| Judgement::Unjudged { why };
        let Some(version) = Version::parse(version, products.renumbered(&self.distribution)) else {
            return unjudged(format!("`{version}` is not a version that can be compared"));
        };
        let version = version.public();
        let within = self.ranges.iter().any(|range| range.contains(&version))
            && !self.except.iter().any(|range| range.contains(&version));
        if version.is_development()
            && let Some(why) = self.development(&version)
        {
            return unjudged(why);
        }
        match (within, self.unread.is_empty()) {
            (true, _) => Judgement::Affected,
            (false, true) => Judgement::NotAffected,
            (false, false) => unjudged(format!("its range is not understood: {}", self.unread.join(" | "))),
        }
    }

    /// Whether a version that was built between two releases lies just where the fix does: then its
    /// number does not tell whether the fix is in.
    fn development(&self, version: &Version) -> Option<String> {
        for bound in self.ranges.iter().filter_map(|range| range.upper.as_ref()) {
            let at_fix = !bound.inclusive && bound.version.same_release(version);
            let after_last = bound.inclusive && bound.version < *version && bound.version.same_line(version);
            if at_fix || after_last {
                return Some(format!(
                    "{version} was built between releases, and the fix came about there: its number \
                     does not tell whether it has it"
                ));
            }
        }
        None
    }

    /// Judges what a fix would be: the upper end of the range that contains a version, where that
    /// end is itself not affected.
    #[must_use]
    pub fn fixed_after(&self, version: &Version) -> Option<&Version> {
        let range = self.ranges.iter().find(|range| range.contains(&version.public()))?;
        let upper = range.upper.as_ref().filter(|upper| !upper.inclusive)?;
        Some(&upper.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::{Subject, parse};

    fn affected(distribution: &str, text: &str) -> (Affected, Products) {
        let products = Products::builtin().unwrap();
        let read = parse(text, &Subject { products: &products, distribution, date: None });
        let affected = Affected {
            product: distribution.to_owned(),
            distribution: distribution.to_owned(),
            text: text.to_owned(),
            ranges: read.ranges,
            except: Vec::new(),
            unread: read.unread,
            corrected_by: None,
        };
        (affected, products)
    }

    #[test]
    fn versions_are_compared_and_not_looked_up() {
        // OSSA-2026-012: 32.0.2 was never published; 32.1.0 follows 32.0.1.
        let (affected, products) = affected("ironic", ">=30.0.0 <32.0.2, >=33.0.0 <35.0.2");
        assert_eq!(affected.judge("32.0.1", &products), Judgement::Affected);
        assert_eq!(affected.judge("32.1.0", &products), Judgement::NotAffected);
        assert_eq!(affected.judge("32.0.1+vendor3", &products), Judgement::Affected);
    }

    #[test]
    fn what_counts_by_years_does_not_concern_what_came_after() {
        let (affected, products) = affected("nova", "<=2015.1.3, >=12.0.0 <=12.0.2");
        assert_eq!(affected.judge("32.1.0", &products), Judgement::NotAffected);
        assert_eq!(affected.judge("2014.2.1", &products), Judgement::Affected);
    }

    #[test]
    fn a_development_version_at_the_fix_is_not_judged() {
        let (affected, products) = affected("keystone", "<26.1.1, ==28.0.0");
        assert!(matches!(affected.judge("28.0.1.dev3", &products), Judgement::Unjudged { .. }));
        assert!(matches!(affected.judge("26.1.1.dev1", &products), Judgement::Unjudged { .. }));
        assert_eq!(affected.judge("25.0.0.dev9", &products), Judgement::Affected);
        assert_eq!(affected.judge("30.0.0.dev9", &products), Judgement::NotAffected);
        assert!(matches!(affected.judge("unknown", &products), Judgement::Unjudged { .. }));
    }

    #[test]
    fn the_stored_form_gives_the_same_back() {
        for (distribution, text) in [
            ("nova", "<=2015.1.3, >=12.0.0 <=12.0.2"),
            ("keystone", "<26.1.1, ==28.0.0"),
            ("swift", "everything"),
        ] {
            let (affected, _) = affected(distribution, text);
            let stored = serde_json::to_string(&affected).unwrap();
            assert_eq!(serde_json::from_str::<Affected>(&stored).unwrap(), affected, "{stored}");
        }
    }
}
