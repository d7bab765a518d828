//! Rules as data: how each kind of difference is classed, and what a client sees of it.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::error::Error;

const DOCUMENTS: &str = include_str!("../data/documents.toml");
const ANSWERS: &str = include_str!("../data/answers.toml");

/// How much a difference matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A client that works today may fail.
    Breaking,
    /// The guideline does not settle it, or what is known does not; somebody has to look.
    Review,
    /// Something was wrong, or described wrongly, and is mended.
    Correction,
    /// Something new beside what there was.
    Additive,
}

impl Class {
    /// All of them, the worst first.
    pub const ALL: [Self; 4] = [Self::Breaking, Self::Review, Self::Correction, Self::Additive];

    /// As it is written in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Breaking => "breaking",
            Self::Review => "to review",
            Self::Correction => "correction",
            Self::Additive => "additive",
        }
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// One rule for differences of documents.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The class.
    pub class: Class,
    /// The class for services without microversions, where it is another.
    #[serde(default)]
    pub unversioned: Option<Class>,
    /// What a client sees, with `{subject}`, `{location}`, `{before}`, `{after}`, `{audience}`.
    pub sees: String,
}

/// The rules for differences of documents, by name.
#[derive(Debug)]
pub struct DocumentRules(BTreeMap<String, Rule>);

impl DocumentRules {
    /// The built-in ones.
    ///
    /// # Errors
    /// [`Error::Rules`] where they do not load, which a test excludes.
    pub fn builtin() -> Result<&'static Self, Error> {
        static RULES: OnceLock<Result<DocumentRules, String>> = OnceLock::new();
        RULES.get_or_init(|| Self::parse(DOCUMENTS)).as_ref().map_err(|why| Error::Rules(why.clone()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        // A name with a direction, `closed.request`, is a table in a table.
        let tables: BTreeMap<String, toml::Value> =
            toml::from_str(text).map_err(|error| error.to_string())?;
        let mut rules = BTreeMap::new();
        for (name, table) in tables {
            if table.get("class").is_some() {
                let rule = table.try_into().map_err(|error| format!("{name}: {error}"))?;
                rules.insert(name, rule);
                continue;
            }
            let directions: BTreeMap<String, Rule> =
                table.try_into().map_err(|error| format!("{name}: {error}"))?;
            rules.extend(
                directions.into_iter().map(|(direction, rule)| (format!("{name}.{direction}"), rule)),
            );
        }
        Ok(Self(rules))
    }

    /// The rule of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Rule> {
        self.0.get(name)
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// One rule for differences of answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerRule {
    /// The class.
    pub class: Class,
    /// The class for services without microversions, where it is another.
    #[serde(default)]
    pub unversioned: Option<Class>,
    /// Why.
    pub why: String,
}

/// Something in an answer that may change, or may not matter.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Only answers to this operation, `GET /`; every operation where absent.
    #[serde(default)]
    pub operation: Option<String>,
    /// Where in the body, in dots and brackets: `versions[].max_version`; `**.message` is every
    /// `message` at any depth, `server.metadata.**` everything below.
    pub location: String,
    /// Only differences by this rule; where absent, those in which a value is another one.
    #[serde(default)]
    pub rule: Option<String>,
    /// Only in answers of status 400 and above.
    #[serde(default)]
    pub of_errors: bool,
    /// What it is classed as; left out of the report where absent.
    #[serde(default)]
    pub class: Option<Class>,
    /// How a change is judged before that.
    #[serde(default)]
    pub when: When,
    /// Why.
    pub why: String,
}

/// When an expectation applies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Always.
    #[default]
    Always,
    /// Where the new value is a higher version than the old one.
    Grown,
    /// Where the new value is a lower version than the old one.
    Shrunk,
}

/// The rules for differences of answers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerRules {
    /// Headers that matter, in small letters; all others are left out.
    pub headers: Vec<String>,
    /// Of these headers only the part before the first `;` or space matters.
    pub headers_first_word: Vec<String>,
    /// Headers whose value is none of an object's, and no secret.
    pub headers_plain: Vec<String>,
    /// Fields that hold maps whose keys are data of users or of the cloud: names of networks,
    /// resource classes.
    pub data_keys: Vec<String>,
    /// Fields that are there or not there by what users do, as places of [`Expected::location`].
    pub comes_and_goes: Vec<String>,
    /// Keys that tell the elements of a list apart, the best first.
    pub identities: Vec<String>,
    /// By kind of difference.
    pub rules: BTreeMap<String, AnswerRule>,
    /// What may change.
    pub expected: Vec<Expected>,
}

impl AnswerRules {
    /// The built-in ones.
    ///
    /// # Errors
    /// [`Error::Rules`] where they do not load, which a test excludes.
    pub fn builtin() -> Result<&'static Self, Error> {
        static RULES: OnceLock<Result<AnswerRules, String>> = OnceLock::new();
        let rules = RULES.get_or_init(|| toml::from_str(ANSWERS).map_err(|error| error.to_string()));
        rules.as_ref().map_err(|why| Error::Rules(why.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_rules_load() {
        let rules = DocumentRules::builtin().unwrap();
        assert_eq!(rules.get("minimum-raised").unwrap().class, Class::Breaking);
        assert_eq!(rules.get("property-added.request").unwrap().unversioned, Some(Class::Additive));
        let answers = AnswerRules::builtin().unwrap();
        assert!(answers.headers.contains(&"openstack-api-version".to_owned()));
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(DocumentRules::parse("[a]\nclass = \"breaking\"\nsees = \"x\"\nother = 1").is_err());
        assert!(DocumentRules::parse("[a]\nclass = \"worse\"\nsees = \"x\"").is_err());
    }
}
