//! Two contracts compared: every difference, classed under the interoperability guideline, with whom
//! it concerns and what a client would see.
//!
//! Source: API SIG, "API Interoperability Guidelines". At a microversion that both releases serve,
//! both must be alike; services without microversions may grow and must not shrink.

mod audience;
mod configuration;
mod operations;
mod policies;
mod published;
mod resources;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::canonical;
use crate::document::{Document, OriginKind, Service};
use crate::error::Error;
use crate::microversion::Range;
use crate::rules::{Class, DocumentRules};

/// Who notices a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Audience {
    /// Users who may look.
    Reader,
    /// Users who own what they make.
    Member,
    /// Those who run the cloud through its APIs.
    Admin,
    /// Those who configure and start the daemons.
    Operator,
}

impl Audience {
    /// All users of APIs.
    pub const USERS: [Self; 3] = [Self::Reader, Self::Member, Self::Admin];

    /// As it is written in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Operator => "operator",
        }
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Names it in a file of waivers: the hash of all that tells it apart, 12 hexadecimal digits.
    pub id: String,
    /// The service.
    pub service: String,
    /// How much it matters.
    pub class: Class,
    /// Who notices.
    pub audience: BTreeSet<Audience>,
    /// The rule that found it.
    pub rule: String,
    /// What it is about: an operation, a policy, an alias.
    pub subject: String,
    /// Which part of that: `response keypairs[].keypair`.
    pub location: String,
    /// At which microversions, where the service has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Range>,
    /// What was there.
    #[serde(skip_serializing_if = "Value::is_null", default)]
    pub before: Value,
    /// What is there.
    #[serde(skip_serializing_if = "Value::is_null", default)]
    pub after: Value,
    /// What a client would see.
    pub sees: String,
    /// Why it does not count, where somebody has waived it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub waived: Option<String>,
}

impl Difference {
    /// Whether it stands in the way.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.class == Class::Breaking && self.waived.is_none()
    }
}

/// What a new microversion brings to one operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// The service.
    pub service: String,
    /// The microversion.
    pub microversion: crate::Microversion,
    /// The operation.
    pub operation: String,
    /// What is new: `exists`, `request`, `query`, `response`, `success`, `errors`, `gone`.
    pub what: BTreeSet<String>,
}

/// How much of a service was compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Operations of the old and the new side.
    pub operations: (usize, usize),
    /// Schemas, each once.
    pub schemas: (usize, usize),
    /// Microversions at which both were compared.
    pub microversions: usize,
    /// Extensions.
    pub extensions: (usize, usize),
    /// Policy rules.
    pub policies: (usize, usize),
    /// Configuration options.
    pub options: (usize, usize),
}

/// One side of a comparison, in a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// The document's hash.
    pub hash: String,
    /// Where it is from.
    pub of: String,
    /// Versions of the packages.
    pub versions: BTreeMap<String, String>,
}

impl Side {
    fn of(document: &Document) -> Self {
        let versions = document.services.iter();
        Self {
            hash: document.hash.clone(),
            of: document.origin.of.clone(),
            versions: versions.filter_map(|(name, s)| Some((name.clone(), s.version.clone()?))).collect(),
        }
    }
}

/// Two contracts compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The old side.
    pub old: Side,
    /// The new side.
    pub new: Side,
    /// What was compared, by service.
    pub counts: BTreeMap<String, Counts>,
    /// The differences, by service, the worst first.
    pub differences: Vec<Difference>,
    /// What new microversions bring.
    pub news: Vec<News>,
}

impl Comparison {
    /// Breaking differences that nobody waived.
    pub fn standing(&self) -> impl Iterator<Item = &Difference> {
        self.differences.iter().filter(|difference| difference.stands())
    }

    /// How many differences of that class there are, waived ones left out.
    #[must_use]
    pub fn count(&self, class: Class) -> usize {
        self.differences.iter().filter(|d| d.class == class && d.waived.is_none()).count()
    }
}

/// Compares two contracts. The old one is what clients rely on.
///
/// # Errors
/// [`Error::Rules`] where the built-in rules do not load.
pub fn compare(old: &Document, new: &Document) -> Result<Comparison, Error> {
    let rules = DocumentRules::builtin()?;
    let mut differences = Vec::new();
    let mut news = Vec::new();
    let mut counts = BTreeMap::new();
    let minor = |document: &Document| -> Option<String> {
        let python = document.origin.python.as_ref()?;
        Some(python.rsplit_once('.').map_or(python.as_str(), |(minor, _)| minor).to_owned())
    };
    let same_python = minor(old) == minor(new);
    let names: BTreeSet<&String> = old.services.keys().chain(new.services.keys()).collect();
    for name in names {
        let mut pair = Pair {
            name,
            old: old.services.get(name),
            new: new.services.get(name),
            kinds: (old.origin.kind, new.origin.kind),
            same_python,
            rules,
            found: Vec::new(),
        };
        match (pair.old, pair.new) {
            (Some(a), Some(b)) => {
                counts.insert(name.clone(), pair.counts(a, b));
                pair.versions(a, b);
                pair.unobserved(a, b);
                news.extend(operations::compare(&mut pair, a, b));
                resources::compare(&mut pair, a, b);
                policies::compare(&mut pair, a, b);
                configuration::compare(&mut pair, a, b);
                published::compare(&mut pair, a, b);
            }
            (Some(_), None) => pair.add(Found::about("service-removed", name)),
            (None, _) => pair.add(Found::about("service-added", name)),
        }
        differences.extend(pair.found);
    }
    differences.sort_by(|a, b| {
        (&a.service, a.class, &a.subject, &a.location, &a.rule, &a.id).cmp(&(
            &b.service,
            b.class,
            &b.subject,
            &b.location,
            &b.rule,
            &b.id,
        ))
    });
    Ok(Comparison { old: Side::of(old), new: Side::of(new), counts, differences, news })
}

/// A difference before it is classed.
pub(crate) struct Found {
    rule: String,
    subject: String,
    location: String,
    at: Option<Range>,
    before: Value,
    after: Value,
    audience: BTreeSet<Audience>,
    /// A class that is no worse than this, where what is known is not enough for more.
    at_most: Option<Class>,
}

impl Found {
    /// About something, for all users.
    pub(crate) fn about(rule: impl Into<String>, subject: impl Into<String>) -> Self {
        Self {
            rule: rule.into(),
            subject: subject.into(),
            location: String::new(),
            at: None,
            before: Value::Null,
            after: Value::Null,
            audience: Audience::USERS.into(),
            at_most: None,
        }
    }

    pub(crate) fn location(mut self, location: impl Into<String>) -> Self {
        self.location = location.into();
        self
    }

    pub(crate) fn at(mut self, at: Option<Range>) -> Self {
        self.at = at;
        self
    }

    pub(crate) fn values(mut self, before: impl Into<Value>, after: impl Into<Value>) -> Self {
        (self.before, self.after) = (before.into(), after.into());
        self
    }

    pub(crate) fn audience(mut self, audience: impl Into<BTreeSet<Audience>>) -> Self {
        self.audience = audience.into();
        self
    }

    pub(crate) fn at_most(mut self, class: Class) -> Self {
        self.at_most = Some(class);
        self
    }
}

/// One service on both sides.
pub(crate) struct Pair<'a> {
    name: &'a str,
    old: Option<&'a Service>,
    new: Option<&'a Service>,
    kinds: (OriginKind, OriginKind),
    same_python: bool,
    rules: &'static DocumentRules,
    found: Vec<Difference>,
}

impl Pair<'_> {
    /// Whether both sides were read in the same way; live services know less than packages.
    fn alike(&self) -> bool {
        self.kinds.0 == self.kinds.1
    }

    /// Whether both sides were read from packages.
    fn installed(&self) -> bool {
        self.kinds == (OriginKind::Installed, OriginKind::Installed)
    }

    /// Whether both sides know that part.
    fn knows(&self, part: &str) -> bool {
        let known = |service: Option<&Service>| service.is_some_and(|s| !s.unobserved.contains_key(part));
        known(self.old) && known(self.new)
    }

    fn versioned(&self) -> bool {
        let has = |service: Option<&Service>| service.is_some_and(|s| s.microversions.is_some());
        has(self.old) && has(self.new)
    }

    fn add(&mut self, found: Found) {
        let Found { rule, subject, location, at, before, after, audience, at_most } = found;
        // A rule without an entry is a bug that a test excludes; until then somebody has to look.
        let (class, sees) = match self.rules.get(&rule) {
            Some(entry) if !self.versioned() => {
                (entry.unversioned.unwrap_or(entry.class), entry.sees.clone())
            }
            Some(entry) => (entry.class, entry.sees.clone()),
            None => (Class::Review, "not known".to_owned()),
        };
        let class = at_most.map_or(class, |most| class.max(most));
        let mut place = location.as_str();
        for direction in ["request ", "query ", "response "] {
            place = place.strip_prefix(direction).unwrap_or(place);
        }
        let names: Vec<&str> = audience.iter().map(|audience| audience.name()).collect();
        let sees = sees
            .replace("{subject}", &subject)
            .replace("{location}", place)
            .replace("{before}", &plain(&before))
            .replace("{after}", &plain(&after))
            .replace("{audience}", &names.join(", "));
        let tells_apart = json!([self.name, rule, subject, location, before, after, at]);
        let id = canonical::hash(&tells_apart)[..12].to_owned();
        let service = self.name.to_owned();
        self.found.push(Difference {
            id,
            service,
            class,
            audience,
            rule,
            subject,
            location,
            at,
            before,
            after,
            sees,
            waived: None,
        });
    }

    fn counts(&self, a: &Service, b: &Service) -> Counts {
        let common = a.microversions.zip(b.microversions).and_then(|(a, b)| a.common(b));
        Counts {
            operations: (a.operations.len(), b.operations.len()),
            schemas: (a.schemas.len(), b.schemas.len()),
            microversions: common.map_or(0, |range| range.all().count()),
            extensions: (a.extensions.len(), b.extensions.len()),
            policies: (a.policies.len(), b.policies.len()),
            options: (a.options.len(), b.options.len()),
        }
    }

    /// Versions, microversions and extensions.
    fn versions(&mut self, a: &Service, b: &Service) {
        match (a.microversions, b.microversions) {
            (Some(old), Some(new)) => {
                for (raised, old, new, up, down) in [
                    (new.min > old.min, old.min, new.min, "minimum-raised", "minimum-lowered"),
                    (new.max > old.max, old.max, new.max, "maximum-raised", "maximum-lowered"),
                ] {
                    if old != new {
                        let rule = if raised { up } else { down };
                        self.add(
                            Found::about(rule, "microversions").values(old.to_string(), new.to_string()),
                        );
                    }
                }
            }
            (Some(old), None) if self.knows("microversions") => {
                self.add(
                    Found::about("microversions-dropped", "microversions")
                        .values(old.max.to_string(), Value::Null),
                );
            }
            (None, Some(new)) if self.knows("microversions") => {
                self.add(
                    Found::about("microversions-gained", "microversions")
                        .values(Value::Null, new.max.to_string()),
                );
            }
            _ => {}
        }
        if self.knows("api_versions") && !(a.api_versions.is_empty() || b.api_versions.is_empty()) {
            for (rule, version) in
                changed(&a.api_versions, &b.api_versions, "api-version-removed", "api-version-added")
            {
                let found = Found::about(rule, version);
                // Which ones a live service lists depends on its configuration.
                self.add(if self.alike() { found } else { found.at_most(Class::Review) });
            }
        }
        // neutron loads what its plugins support: of installed ones, a live service has some.
        let lists = !(a.extensions.is_empty() || b.extensions.is_empty());
        if self.knows("extensions") && (self.alike() || lists) {
            let (old, new): (Vec<_>, Vec<_>) = (a.extensions.keys().collect(), b.extensions.keys().collect());
            let fewer = self.kinds == (OriginKind::Installed, OriginKind::Live);
            let removed = if fewer { "extension-not-loaded" } else { "extension-removed" };
            let more = self.kinds == (OriginKind::Live, OriginKind::Installed);
            for (rule, alias) in changed(&old, &new, removed, "extension-added") {
                // That packages can serve more than this cloud does is no news.
                if !(more && rule == "extension-added") {
                    self.add(Found::about(rule, alias.as_str()));
                }
            }
        }
    }

    fn unobserved(&mut self, a: &Service, b: &Service) {
        for (side, service) in [("old", a), ("new", b)] {
            for (part, why) in &service.unobserved {
                let found = Found::about("unobserved", part.as_str())
                    .location(side)
                    .values(why.as_str(), Value::Null);
                self.add(found.audience([Audience::Operator]));
            }
        }
    }
}

/// What is in one list only, with the rule for either.
fn changed<'a, T: PartialEq>(
    old: &'a [T],
    new: &'a [T],
    removed: &'static str,
    added: &'static str,
) -> impl Iterator<Item = (&'static str, &'a T)> {
    let gone = old.iter().filter(|item| !new.contains(item)).map(move |item| (removed, item));
    gone.chain(new.iter().filter(|item| !old.contains(item)).map(move |item| (added, item)))
}

/// A value in a sentence.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            items.iter().map(plain).collect::<Vec<_>>().join(", ")
        }
        other => canonical::text(other),
    }
}
