//! Answers of old and new code to the same request, compared.
//!
//! Statuses, headers that matter, and bodies. What differs between two identical requests to the
//! *old* code varies by itself: it is learnt as noise ([`Noise`]) and left out. The two are best
//! asked before and after the new code, so that what time changed is learnt as well. What matters,
//! and how much, is data (`data/answers.toml`).

mod body;
mod noise;
mod outline;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use noise::Noise;
pub use outline::Outline;

use crate::Microversion;
use crate::error::Error;
use crate::rules::{AnswerRules, Class, Expected, When};

/// What was asked, as far as the comparison needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The project: nova.
    pub service: String,
    /// The operation: `GET /servers/{server_id}`.
    pub operation: String,
    /// The path that was asked.
    pub path: String,
    /// The microversion, for services that have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub microversion: Option<Microversion>,
    /// As whom.
    pub audience: crate::diff::Audience,
}

/// What stands for the status of a request that was taken and never answered: uWSGI hangs up where an
/// application fails before it answers.
pub const UNANSWERED: u16 = 0;

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// The status; [`UNANSWERED`] where none came.
    pub status: u16,
    /// Headers, their names in small letters.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body.
    #[serde(default)]
    pub body: Body,
}

/// The body of an answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// None.
    #[default]
    Empty,
    /// JSON.
    Json(Value),
    /// Anything else.
    Text(String),
}

impl Body {
    /// A body from its bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::Empty;
        }
        match serde_json::from_slice(bytes) {
            Ok(value) => Self::Json(value),
            Err(_) => Self::Text(String::from_utf8_lossy(bytes).into_owned()),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Json(_) => "JSON",
            Self::Text(_) => "text",
        }
    }
}

/// One difference between two answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerDifference {
    /// The rule that found it.
    pub rule: String,
    /// How much it matters.
    pub class: Class,
    /// Where: `status`, `header vary`, `servers[].status`.
    pub location: String,
    /// What the old code said.
    pub old: Value,
    /// What the new code said.
    pub new: Value,
    /// Why it matters, or does not.
    pub why: String,
}

/// What came of comparing two answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// The differences.
    pub differences: Vec<AnswerDifference>,
    /// How many more there were that the old code's answers have among themselves.
    pub noise: usize,
}

impl Compared {
    /// Of what was seen now, what was seen in this round already. An object that changed between two answers is
    /// another one in another round.
    #[must_use]
    pub fn standing(&self, mut now: Self) -> Self {
        let place = |one: &AnswerDifference| (one.rule.clone(), one.location.clone());
        let before: BTreeSet<_> = self.differences.iter().map(place).collect();
        now.differences.retain(|difference| before.contains(&place(difference)));
        now
    }

    /// Whether any difference is breaking.
    #[must_use]
    pub fn broken(&self) -> bool {
        self.differences.iter().any(|difference| difference.class == Class::Breaking)
    }
}

/// A difference before it is classed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Raw {
    pub(crate) rule: &'static str,
    pub(crate) location: String,
    pub(crate) old: Value,
    pub(crate) new: Value,
}

/// Compares answers by the built-in rules.
#[derive(Debug)]
pub struct Comparator {
    rules: &'static AnswerRules,
    headers: BTreeSet<&'static str>,
    /// Addresses that are the same to a client: those of the load balancer and of single replicas.
    origins: Vec<String>,
}

/// What stands for any of the addresses that are the same to a client.
const ORIGIN: &str = "{origin}";

impl Comparator {
    /// `origins` are the addresses (`http://198.51.100.10:8774`) that links in answers may begin with
    /// and that are the same to a client: old and new daemon, and the load balancer before them.
    ///
    /// # Errors
    /// [`Error::Rules`] where the built-in rules do not load.
    pub fn new(mut origins: Vec<String>) -> Result<Self, Error> {
        let rules = AnswerRules::builtin()?;
        // The longest first, so that `http://a:87` does not take the beginning of `http://a:8774`.
        origins.sort_by_key(|origin| std::cmp::Reverse(origin.len()));
        Ok(Self { rules, headers: rules.headers.iter().map(String::as_str).collect(), origins })
    }

    /// Compares the answers of old and new code to one request.
    #[must_use]
    pub fn compare(&self, asked: &Asked, old: &Recorded, new: &Recorded, noise: &Noise) -> Compared {
        self.judge(asked, old.status, self.raw(old, new), noise)
    }

    /// Classes differences, and leaves out those that are noise. `status` is that of the old answer.
    fn judge(&self, asked: &Asked, status: u16, found: Vec<Raw>, noise: &Noise) -> Compared {
        let mut compared = Compared::default();
        for raw in found {
            if noise.covers(asked, &raw) {
                compared.noise += 1;
            } else if let Some(difference) = self.classed(asked, status, raw) {
                compared.differences.push(difference);
            }
        }
        compared
    }

    /// Every difference, unclassed.
    pub(crate) fn raw(&self, old: &Recorded, new: &Recorded) -> Vec<Raw> {
        let mut found = Vec::new();
        if let Some(rule) = status_rule(old.status, new.status) {
            let (old, new) = (old.status.into(), new.status.into());
            found.push(Raw { rule, location: "status".to_owned(), old, new });
            // An answer of another status has other headers and another body by right.
            return found;
        }
        self.compare_headers(old, new, &mut found);
        match (&old.body, &new.body) {
            (Body::Empty, Body::Empty) => {}
            (Body::Json(old), Body::Json(new)) => body::Walk::new(self, &mut found).value(old, new),
            (Body::Text(old), Body::Text(new)) => {
                if self.neutral(old) != self.neutral(new) {
                    let short = |text: &str| Value::from(text.chars().take(200).collect::<String>());
                    found.push(Raw {
                        rule: "text-changed",
                        location: "body".to_owned(),
                        old: short(old),
                        new: short(new),
                    });
                }
            }
            (old, new) => {
                let (old, new) = (old.kind().into(), new.kind().into());
                found.push(Raw { rule: "body-kind-changed", location: "body".to_owned(), old, new });
            }
        }
        found
    }

    fn compare_headers(&self, old: &Recorded, new: &Recorded, found: &mut Vec<Raw>) {
        for name in &self.headers {
            let (a, b) = (old.headers.get(*name), new.headers.get(*name));
            let rule = match (a, b) {
                (Some(_), None) => "header-missing",
                (None, Some(_)) => "header-added",
                (Some(a), Some(b)) if self.header(name, a) != self.header(name, b) => "header-changed",
                _ => continue,
            };
            let value = |value: Option<&String>| value.map_or(Value::Null, |value| value.as_str().into());
            found.push(Raw { rule, location: format!("header {name}"), old: value(a), new: value(b) });
        }
    }

    /// What of a header's value matters. Lists of names have no order.
    fn header(&self, name: &str, value: &str) -> BTreeSet<String> {
        let value = self.neutral(value);
        if self.rules.headers_first_word.iter().any(|first| first == name) {
            let first = value.split([';', ' ']).next().unwrap_or_default();
            return [first.to_ascii_lowercase()].into();
        }
        if matches!(name, "vary" | "allow" | "cache-control") {
            return value.split(',').map(|part| part.trim().to_ascii_lowercase()).collect();
        }
        [value.into_owned()].into()
    }

    /// Text with the addresses that are the same to a client made alike.
    pub(crate) fn neutral<'t>(&self, text: &'t str) -> std::borrow::Cow<'t, str> {
        let mut out = std::borrow::Cow::Borrowed(text);
        for origin in &self.origins {
            if out.contains(origin.as_str()) {
                out = std::borrow::Cow::Owned(out.replace(origin.as_str(), ORIGIN));
            }
        }
        out
    }

    pub(crate) fn identities(&self) -> &'static [String] {
        &self.rules.identities
    }

    /// The difference as a rule classes it; `None` where it is expected and of no interest.
    fn classed(&self, asked: &Asked, status: u16, raw: Raw) -> Option<AnswerDifference> {
        let Raw { rule, location, old: before, new: after } = raw;
        let value_only = matches!(rule, "value-changed" | "became-null" | "was-null" | "text-changed");
        let expected = self.rules.expected.iter().find(|expected| {
            expected.rule.as_ref().map_or(value_only, |only| only == rule)
                && expected_here(expected, asked, status, &location)
                && applies(expected.when, &before, &after)
        });
        if let Some(expected) = expected {
            let class = expected.class?;
            let why = expected.why.clone();
            return Some(AnswerDifference {
                rule: "expected".to_owned(),
                class,
                location,
                old: before,
                new: after,
                why,
            });
        }
        // A rule without an entry is a bug that a test excludes; until then somebody has to look.
        let (class, why) = match self.rules.rules.get(rule) {
            Some(entry) if asked.microversion.is_none() => {
                (entry.unversioned.unwrap_or(entry.class), entry.why.clone())
            }
            Some(entry) => (entry.class, entry.why.clone()),
            None => (Class::Review, "not known".to_owned()),
        };
        Some(AnswerDifference { rule: rule.to_owned(), class, location, old: before, new: after, why })
    }
}

/// The rule for two statuses; `None` where they are the same.
fn status_rule(old: u16, new: u16) -> Option<&'static str> {
    Some(match (old, new) {
        (old, new) if old == new => return None,
        (500.. | UNANSWERED, 500.. | UNANSWERED) => "status-changed",
        (500.. | UNANSWERED, _) => "server-error-mended",
        (_, 500.. | UNANSWERED) => "server-error",
        (..400, 400..) => "success-became-error",
        (403, 404) | (404, 403) => "refusal-changed",
        (400.., ..400) => "error-became-success",
        _ => "status-changed",
    })
}

fn expected_here(expected: &Expected, asked: &Asked, status: u16, location: &str) -> bool {
    let operation = expected.operation.as_ref().is_none_or(|operation| *operation == asked.operation);
    operation && (!expected.of_errors || status >= 400) && place_matches(&expected.location, location)
}

/// Whether a pattern (`**.message`, `version.version`, `server.metadata.**`) means a place.
fn place_matches(pattern: &str, place: &str) -> bool {
    if let Some(above) = pattern.strip_suffix(".**") {
        return place.strip_prefix(above).is_some_and(|below| below.starts_with('.'));
    }
    match pattern.strip_prefix("**.") {
        None => pattern == place,
        Some(end) => place.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.')),
    }
}

fn applies(when: When, old: &Value, new: &Value) -> bool {
    let version = |value: &Value| -> Option<Microversion> {
        let text = value.as_str()?;
        text.strip_prefix('v').unwrap_or(text).parse().ok()
    };
    match (when, version(old), version(new)) {
        (When::Always, ..) => true,
        (When::Grown, Some(old), Some(new)) => new > old,
        (When::Shrunk, Some(old), Some(new)) => new < old,
        _ => false,
    }
}

/// What came of a whole set of requests: the part of a verdict that is about the contract.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Whether no breaking difference was seen.
    pub held: bool,
    /// Operations of which at least one request was compared.
    pub operations_compared: usize,
    /// Requests of which the answers were compared.
    pub requests_compared: usize,
    /// Differences by class: breaking, review, correction, additive.
    pub differences: BTreeMap<Class, usize>,
}

impl Tally {
    /// Counts.
    pub fn of<'a>(all: impl IntoIterator<Item = (&'a Asked, &'a Compared)>) -> Self {
        let mut tally = Self { held: true, ..Self::default() };
        let mut operations = BTreeSet::new();
        for (asked, compared) in all {
            operations.insert((&asked.service, &asked.operation));
            tally.requests_compared += 1;
            tally.held &= !compared.broken();
            for difference in &compared.differences {
                *tally.differences.entry(difference.class).or_default() += 1;
            }
        }
        tally.operations_compared = operations.len();
        tally
    }
}
