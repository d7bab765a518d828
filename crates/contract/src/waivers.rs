//! Differences that somebody has reviewed: a file of waivers, each with a reason and an end.
//!
//! ```toml
//! [[waiver]]
//! difference = "3f2a90c1d5e7"
//! reason = "none of our users has os-volumes_boot actions; asked on 2026-11-20"
//! expires = "2027-01-31"
//! ```

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::Deserialize;

use crate::diff::Difference;
use crate::error::Error;

/// One waiver.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// The difference's id.
    pub difference: String,
    /// Why it does not count; not empty.
    pub reason: String,
    /// The last day on which it is waived.
    pub expires: Date,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    waiver: Vec<Waiver>,
}

/// The waivers of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waivers {
    what: String,
    waivers: Vec<Waiver>,
}

impl Waivers {
    /// Reads a file of waivers. `what` names it in errors.
    ///
    /// # Errors
    /// [`Error::Waivers`] where it is not as documented, a reason is empty, or a difference is waived
    /// twice.
    pub fn parse(what: &str, text: &str) -> Result<Self, Error> {
        let refuse = |why: String| Error::Waivers { what: what.to_owned(), why };
        let file: File = toml::from_str(text).map_err(|error| refuse(error.to_string()))?;
        let mut seen = BTreeMap::new();
        for waiver in &file.waiver {
            if waiver.reason.trim().is_empty() {
                return Err(refuse(format!("the waiver of {} has no reason", waiver.difference)));
            }
            if seen.insert(&waiver.difference, ()).is_some() {
                return Err(refuse(format!("{} is waived twice", waiver.difference)));
            }
        }
        Ok(Self { what: what.to_owned(), waivers: file.waiver })
    }

    /// Waives what the waivers name and are not expired for on `today`. Hands back the expired ones,
    /// which do not count.
    ///
    /// # Errors
    /// [`Error::Waivers`] where a waiver names a difference that there is not: it was written for
    /// another comparison, or has a mistake, and must not be taken for one that works.
    pub fn apply(&self, differences: &mut [Difference], today: Date) -> Result<Vec<Waiver>, Error> {
        let mut expired = Vec::new();
        for waiver in &self.waivers {
            let found = differences.iter_mut().find(|difference| difference.id == waiver.difference);
            let difference = found.ok_or_else(|| Error::Waivers {
                what: self.what.clone(),
                why: format!("there is no difference {} between these two contracts", waiver.difference),
            })?;
            if waiver.expires < today {
                expired.push(waiver.clone());
            } else {
                difference.waived = Some(format!("{} (until {})", waiver.reason.trim(), waiver.expires));
            }
        }
        Ok(expired)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::rules::Class;

    fn difference(id: &str) -> Difference {
        Difference {
            id: id.to_owned(),
            service: "nova".to_owned(),
            class: Class::Breaking,
            audience: BTreeSet::new(),
            rule: "operation-removed".to_owned(),
            subject: "GET /a".to_owned(),
            location: String::new(),
            at: None,
            before: Value::Null,
            after: Value::Null,
            sees: String::new(),
            waived: None,
        }
    }

    fn file(difference: &str, expires: &str) -> String {
        format!("[[waiver]]\ndifference = \"{difference}\"\nreason = \"seen\"\nexpires = \"{expires}\"\n")
    }

    fn today() -> Date {
        "2026-11-25".parse().unwrap()
    }

    #[test]
    fn a_waiver_takes_out_its_difference_only() {
        let mut all = [difference("a"), difference("b")];
        let expired =
            Waivers::parse("w", &file("a", "2026-11-25")).unwrap().apply(&mut all, today()).unwrap();
        assert_eq!(expired, []);
        assert!(!all[0].stands() && all[1].stands());
        assert_eq!(all[0].waived.as_deref(), Some("seen (until 2026-11-25)"));
    }

    #[test]
    fn an_expired_waiver_does_not_count() {
        let mut all = [difference("a")];
        let expired =
            Waivers::parse("w", &file("a", "2026-11-24")).unwrap().apply(&mut all, today()).unwrap();
        assert_eq!(expired.len(), 1);
        assert!(all[0].stands());
    }

    #[test]
    fn a_waiver_of_nothing_is_an_error() {
        let waivers = Waivers::parse("w", &file("zz", "2027-01-01")).unwrap();
        let error = waivers.apply(&mut [difference("a")], today()).unwrap_err().to_string();
        assert_eq!(error, "w: there is no difference zz between these two contracts");
    }

    #[test]
    fn mistakes_in_the_file_are_named() {
        for (text, why) in [
            ("[[waiver]]\ndifference = \"a\"\nexpires = \"2027-01-01\"", "missing field `reason`"),
            ("[[waiver]]\ndifference = \"a\"\nreason = \" \"\nexpires = \"2027-01-01\"", "has no reason"),
            ("[[waiver]]\ndifference = \"a\"\nreason = \"x\"\nexpires = \"soon\"", "expires"),
            ("[[waivers]]\n", "unknown field"),
            (&(file("a", "2027-01-01") + &file("a", "2027-01-02")), "waived twice"),
        ] {
            let error = Waivers::parse("w", text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
