//! One release note, as people write them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// The sections of reno's default configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Section {
    /// What the release is about.
    Prelude,
    /// What can be done now.
    Features,
    /// What goes away.
    Deprecations,
    /// Security fixes.
    Security,
    /// Fixes of defects that lose or break something.
    Critical,
    /// What is known not to work.
    Issues,
    /// What an operator has to do, or to know, for the upgrade.
    Upgrade,
    /// Fixes.
    Fixes,
    /// The rest.
    Other,
}

/// Whom a section is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Audience {
    /// Those who use the cloud.
    Users,
    /// Those who run it.
    Operators,
}

impl Section {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 9] = [
        Self::Prelude,
        Self::Features,
        Self::Deprecations,
        Self::Security,
        Self::Critical,
        Self::Issues,
        Self::Upgrade,
        Self::Fixes,
        Self::Other,
    ];

    /// Its heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Prelude => "In short",
            Self::Features => "New features",
            Self::Deprecations => "Deprecations",
            Self::Security => "Security fixes",
            Self::Critical => "Critical fixes",
            Self::Issues => "Known issues",
            Self::Upgrade => "Upgrade notes",
            Self::Fixes => "Bug fixes",
            Self::Other => "Other notes",
        }
    }

    /// Whom it is for.
    #[must_use]
    pub const fn audience(self) -> Audience {
        match self {
            Self::Prelude
            | Self::Features
            | Self::Deprecations
            | Self::Security
            | Self::Critical
            | Self::Issues => Audience::Users,
            Self::Upgrade | Self::Fixes | Self::Other => Audience::Operators,
        }
    }

    /// The section that a key means, and whether it is misspelt. The released sources of the six core
    /// services have `feature`, `upgrades`, `others`, `Features` and `Deprecations`.
    fn of_key(key: &str) -> Option<(Self, bool)> {
        let exact = match key {
            "prelude" => Self::Prelude,
            "features" => Self::Features,
            "deprecations" => Self::Deprecations,
            "security" => Self::Security,
            "critical" => Self::Critical,
            "issues" => Self::Issues,
            "upgrade" => Self::Upgrade,
            "fixes" => Self::Fixes,
            "other" => Self::Other,
            _ => {
                let meant = match key.trim().to_ascii_lowercase().trim_end_matches('s') {
                    "prelude" => Self::Prelude,
                    "feature" => Self::Features,
                    "deprecation" => Self::Deprecations,
                    "security" => Self::Security,
                    "critical" => Self::Critical,
                    "issue" => Self::Issues,
                    "upgrade" => Self::Upgrade,
                    "fixe" | "fix" => Self::Fixes,
                    "other" => Self::Other,
                    _ => return None,
                };
                return Some((meant, true));
            }
        };
        Some((exact, false))
    }
}

/// Something that is not as reno wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// What is wrong.
    pub what: String,
    /// Whether something of the note is missing for it.
    pub left_out: bool,
}

/// One note.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Note {
    /// What it says, in reStructuredText, by section.
    pub sections: BTreeMap<Section, Vec<String>>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// Reads one note. What cannot be read is a problem of the note, and no end of the work.
#[must_use]
pub fn read_note(file: &str, text: &str) -> Note {
    let mut note = Note::default();
    let problem = |what: String, left_out: bool| Problem { file: file.to_owned(), what, left_out };
    let parsed: Value = match serde_saphyr::from_str(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            let first = error.to_string().lines().next().unwrap_or_default().to_owned();
            note.problems.push(problem(format!("it is no YAML: {first}"), true));
            return note;
        }
    };
    let Value::Object(keys) = parsed else {
        note.problems.push(problem("it has no sections".to_owned(), true));
        return note;
    };
    for (key, value) in keys {
        let Some((section, misspelt)) = Section::of_key(&key) else {
            note.problems.push(problem(format!("there is no section `{key}`"), true));
            continue;
        };
        if misspelt {
            note.problems.push(problem(format!("section `{key}` is taken for `{}`", section.title()), false));
        }
        let mut texts = Vec::new();
        let unread = collect(&value, &mut texts);
        if unread > 0 {
            note.problems.push(problem(format!("{unread} entries of `{key}` are no text"), true));
        }
        note.sections.entry(section).or_default().append(&mut texts);
    }
    note
}

/// The texts of a section: a list of them, or one alone. An unquoted colon makes a mapping of what was
/// meant as a sentence: it is put together again. Returns how many were no text.
fn collect(value: &Value, texts: &mut Vec<String>) -> usize {
    match value {
        Value::String(text) => {
            if !text.trim().is_empty() {
                texts.push(text.trim().to_owned());
            }
            0
        }
        Value::Array(entries) => entries.iter().map(|entry| collect(entry, texts)).sum(),
        Value::Object(pairs) => {
            let mut unread = 0;
            for (before, after) in pairs {
                match after {
                    Value::String(after) => texts.push(format!("{}: {}", before.trim(), after.trim())),
                    _ => unread += 1,
                }
            }
            unread
        }
        Value::Null => 0,
        Value::Bool(_) | Value::Number(_) => 1,
    }
}
