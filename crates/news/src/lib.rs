//! What is new between two releases of OpenStack's services, from the release notes in their source
//! distributions (`releasenotes/notes/*.yaml`, written for reno).
//!
//! A note is new where the later source has it and the earlier has not. What was backported is in
//! both, and so is no news. Start at [`news`]; [`render`] draws it.

mod note;
mod render;
mod rst;

use std::collections::BTreeMap;

use serde::Serialize;

pub use note::{Audience, Note, Problem, Section, read_note};
pub use render::{Form, render};

/// The release notes of one source distribution: text by file name, without its folder.
pub type Files = BTreeMap<String, String>;

/// The notes of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The distribution, such as `nova`.
    pub distribution: String,
    /// Its version.
    pub version: String,
    /// Its notes.
    pub files: Files,
}

/// What is new in one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceNews {
    /// The distribution.
    pub distribution: String,
    /// The earlier version.
    pub from: String,
    /// The later version.
    pub to: String,
    /// What is said, by section, in the order of the files' names.
    pub sections: BTreeMap<Section, Vec<String>>,
    /// How many notes are new.
    pub notes: usize,
    /// What could not be read, or was read in spite of a mistake.
    pub problems: Vec<Problem>,
}

/// What is new in one service between two of its sources.
#[must_use]
pub fn news(from: &Source, to: &Source) -> ServiceNews {
    let known: std::collections::BTreeSet<&str> = from.files.keys().map(|name| identity(name)).collect();
    let mut found = ServiceNews {
        distribution: to.distribution.clone(),
        from: from.version.clone(),
        to: to.version.clone(),
        sections: BTreeMap::new(),
        notes: 0,
        problems: Vec::new(),
    };
    for (name, text) in to.files.iter().filter(|(name, _)| !known.contains(identity(name))) {
        let note = read_note(name, text);
        found.notes += 1;
        for (section, texts) in note.sections {
            found.sections.entry(section).or_default().extend(texts);
        }
        found.problems.extend(note.problems);
    }
    found
}

/// What stays the same of a note when its file is renamed: the sixteen hexadecimal digits at the end,
/// which reno gives it; the whole name where somebody made it by hand. Source: reno, "Creating new
/// release notes".
fn identity(name: &str) -> &str {
    let stem = name.strip_suffix(".yaml").unwrap_or(name);
    match stem.rsplit_once('-') {
        Some((_, uid)) if uid.len() == 16 && uid.bytes().all(|b| b.is_ascii_hexdigit()) => uid,
        _ => stem,
    }
}
