//! Versions of Python distributions, in the order of PEP 440.

use std::cmp::Ordering;
use std::fmt;

/// A version that can be compared.
///
/// Source of grammar and order: PEP 440 (packaging.python.org, "Version specifiers"). The one thing
/// beside it is the era: versions that count by years (2015.1.3) of a product which later began
/// anew (12.0.0) come before all others; see [`crate::Product::renumbered`].
#[derive(Debug, Clone)]
pub struct Version {
    era: Era,
    epoch: u64,
    /// Without trailing zeros, so that 1.0 and 1.0.0 are the same.
    release: Vec<u64>,
    pre: Option<(Pre, u64)>,
    post: Option<u64>,
    dev: Option<u64>,
    local: Option<String>,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Era {
    Years,
    Semantic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pre {
    Alpha,
    Beta,
    Candidate,
}

/// The years by which integrated projects numbered their releases: Bexar to Kilo.
const YEARS: std::ops::RangeInclusive<u64> = 2011..=2015;

/// Longer texts are no versions; the longest on the package index are far shorter.
const LENGTH_MAX: usize = 128;

impl Version {
    /// Reads a version; `renumbered` tells whether the product counted by years before.
    ///
    /// Returns `None` for what is no version by PEP 440.
    #[must_use]
    pub fn parse(text: &str, renumbered: bool) -> Option<Self> {
        let text = text.trim();
        if text.len() > LENGTH_MAX {
            return None;
        }
        let lower = text.to_ascii_lowercase();
        let rest = lower.strip_prefix('v').unwrap_or(&lower);
        let (public, local) = match rest.split_once('+') {
            Some((public, local)) => (public, Some(local)),
            None => (rest, None),
        };
        if local.is_some_and(|l| {
            l.is_empty() || !l.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
        }) {
            return None;
        }
        let mut cursor = Cursor { rest: public };
        let mut epoch = 0;
        if let Some((before, after)) = public.split_once('!') {
            epoch = before.parse().ok()?;
            cursor.rest = after;
        }
        let mut release = vec![cursor.number()?];
        while let Some(after) = cursor.rest.strip_prefix('.') {
            if !after.starts_with(|c: char| c.is_ascii_digit()) {
                break;
            }
            cursor.rest = after;
            release.push(cursor.number()?);
        }
        let era = match YEARS.contains(&release[0]) && renumbered {
            true => Era::Years,
            false => Era::Semantic,
        };
        while release.len() > 1 && release.last() == Some(&0) {
            release.pop();
        }
        let pre = cursor.pre();
        let post = cursor.post();
        let dev = cursor.tagged(&["dev"]);
        if !cursor.rest.is_empty() {
            return None;
        }
        let local = local.map(|local| local.replace(['-', '_'], "."));
        Some(Self { era, epoch, release, pre, post, dev, local, text: text.to_owned() })
    }

    /// Where the versions that count by years end: before every other one.
    pub(crate) fn end_of_years() -> Self {
        Self {
            era: Era::Semantic,
            epoch: 0,
            release: vec![0],
            pre: None,
            post: None,
            dev: Some(0),
            local: None,
            text: "0.dev0".to_owned(),
        }
    }

    /// The version without its local part: what a vendor made of 28.0.1 (28.0.1+vendor2) is judged
    /// as 28.0.1, since only its vendor knows what was changed.
    #[must_use]
    pub fn public(&self) -> Self {
        let text = self.text.split('+').next().unwrap_or_default().to_owned();
        Self { local: None, text, ..self.clone() }
    }

    /// Whether it was built between two releases.
    #[must_use]
    pub fn is_development(&self) -> bool {
        self.dev.is_some()
    }

    /// Whether it is neither a pre-release nor a development version.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.dev.is_none() && self.pre.is_none()
    }

    /// The first number.
    #[must_use]
    pub fn major(&self) -> u64 {
        self.release[0]
    }

    /// Whether its first `places` numbers are those of another one; missing ones are zero.
    #[must_use]
    pub fn begins_with(&self, other: &Self, places: usize) -> bool {
        let at = |version: &Self, i: usize| version.release.get(i).copied().unwrap_or(0);
        (self.era, self.epoch) == (other.era, other.epoch) && (0..places).all(|i| at(self, i) == at(other, i))
    }

    /// Whether it counts by years, of a product that began anew later.
    pub(crate) fn is_of_years(&self) -> bool {
        self.era == Era::Years
    }

    /// Whether two versions have the same release numbers, whatever follows these.
    pub(crate) fn same_release(&self, other: &Self) -> bool {
        (self.era, self.epoch, &self.release) == (other.era, other.epoch, &other.release)
    }

    /// Whether the numbers differ in the third place at the most: the same line of stable releases.
    pub(crate) fn same_line(&self, other: &Self) -> bool {
        self.begins_with(other, 2)
    }

    fn key(&self) -> impl Ord + '_ {
        // A development version comes before every other of its release; a pre-release before the
        // final one; an absent post-release before one.
        let pre = match (self.pre, self.post, self.dev) {
            (Some((kind, number)), ..) => (1, Some(kind), number),
            (None, None, Some(_)) => (0, None, 0),
            (None, ..) => (2, None, 0),
        };
        let dev = self.dev.map_or((1, 0), |number| (0, number));
        (self.era, self.epoch, &self.release, pre, self.post, dev)
    }

    fn local_cmp(&self, other: &Self) -> Ordering {
        let parts = |text: &Option<String>| -> Vec<(bool, u64, String)> {
            let text = text.as_deref().unwrap_or_default();
            text.split('.')
                .filter(|part| !part.is_empty())
                .map(|part| match part.parse() {
                    Ok(number) => (true, number, String::new()),
                    Err(_) => (false, 0, part.to_owned()),
                })
                .collect()
        };
        parts(&self.local).cmp(&parts(&other.local))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key()).then_with(|| self.local_cmp(other))
    }
}

/// Two ways to write the same version are equal.
impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

struct Cursor<'a> {
    rest: &'a str,
}

impl Cursor<'_> {
    fn number(&mut self) -> Option<u64> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let number = self.rest[..end].parse().ok()?;
        self.rest = &self.rest[end..];
        Some(number)
    }

    /// A separator, a word and a number (0 where none follows), as in `.dev3` or `_post`.
    fn tagged(&mut self, words: &[&str]) -> Option<u64> {
        let after = self.rest.strip_prefix(['.', '-', '_']).unwrap_or(self.rest);
        let after = words.iter().find_map(|word| after.strip_prefix(word))?;
        self.rest = after;
        let spaced = after.strip_prefix(['.', '-', '_']).unwrap_or(after);
        if spaced.starts_with(|c: char| c.is_ascii_digit()) {
            self.rest = spaced;
            return self.number();
        }
        Some(0)
    }

    fn pre(&mut self) -> Option<(Pre, u64)> {
        // Longer words first, so that `alpha` is not read as `a` with something behind it.
        for (words, kind) in [
            (&["alpha", "a"][..], Pre::Alpha),
            (&["beta", "b"], Pre::Beta),
            (&["preview", "pre", "rc", "c"], Pre::Candidate),
        ] {
            if let Some(number) = self.tagged(words) {
                return Some((kind, number));
            }
        }
        None
    }

    fn post(&mut self) -> Option<u64> {
        // `1.0-1` is a post-release without a word.
        if let Some(after) = self.rest.strip_prefix('-')
            && after.starts_with(|c: char| c.is_ascii_digit())
        {
            self.rest = after;
            return self.number();
        }
        self.tagged(&["post", "rev", "r"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Version {
        Version::parse(text, false).unwrap_or_else(|| panic!("{text} was refused"))
    }

    #[test]
    fn the_order_is_that_of_pep_440() {
        let ordered = [
            "0.9",
            "1.0.dev456",
            "1.0a1",
            "1.0a2.dev456",
            "1.0a12.dev456",
            "1.0a12",
            "1.0b1.dev456",
            "1.0b2",
            "1.0b2.post345.dev456",
            "1.0b2.post345",
            "1.0rc1.dev456",
            "1.0rc1",
            "1.0",
            "1.0+abc.5",
            "1.0+abc.7",
            "1.0+5",
            "1.0.post456.dev34",
            "1.0.post456",
            "1.0.15",
            "1.1.dev1",
            "1.10",
            "1!0.1",
        ];
        for pair in ordered.windows(2) {
            assert!(v(pair[0]) < v(pair[1]), "{} is not before {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn ways_to_write_the_same() {
        for (a, b) in [("1.0", "1.0.0"), ("v1.0RC1", "1.0c1"), ("1.0-1", "1.0.post1"), ("1.0alpha", "1.0a0")]
        {
            assert_eq!(v(a), v(b));
        }
        // The milestones of the cycle as pbr wrote them.
        assert!(v("15.0.0.0rc1") < v("15.0.0"));
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for bad in
            ["", "abc", "1..2", "1.0+", "1.0 beta x", "Grizzly", "1.0-", "99999999999999999999999", "1!x"]
        {
            assert!(Version::parse(bad, false).is_none(), "{bad:?} was accepted");
        }
        assert!(Version::parse(&"1.".repeat(100), false).is_none());
    }

    #[test]
    fn years_come_before_what_was_numbered_anew() {
        let year = Version::parse("2015.1.3", true).unwrap();
        assert!(year < Version::parse("12.0.0", true).unwrap());
        assert!(year < Version::end_of_years());
        assert!(Version::end_of_years() < Version::parse("0.0.1", true).unwrap());
        // Others count by years all the time.
        assert!(v("2015.4.28") > v("12.0.0"));
    }
}
