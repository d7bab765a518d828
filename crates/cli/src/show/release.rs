//! Locked releases, as an operator reads them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use volutus_releases::{Change, Diff, Release, SourceKind};

use super::{some, table};

/// All that are kept, with when they were locked.
pub fn render_list(releases: &[(Timestamp, Release)]) -> String {
    if releases.is_empty() {
        return "nothing is locked: `volutus release lock --series SERIES`\n".to_owned();
    }
    let mut rows = table(&["release", "series", "packages", "locked at", "from"]);
    for (at, release) in releases {
        rows.add_row([
            release.name.to_string(),
            release.series.to_string(),
            release.packages.len().to_string(),
            at.to_string(),
            format!("{} {}", release.source.kind, release.source.at),
        ]);
    }
    format!("{rows}\n")
}

/// One release.
pub fn render(release: &Release) -> String {
    let mut rows = table(&["package", "version", "files", "sha256", "compared on hosts"]);
    for (name, package) in &release.packages {
        let compared = match (release.source.kind.is_python(), &package.contents) {
            (false, _) => "-",
            (true, Some(_)) => "version and files",
            (true, None) => "version",
        };
        let hashes: Vec<&str> = package.files.iter().map(|file| file.sha256.short()).collect();
        let version = match (release.source.kind, package.files.first()) {
            // As a container runtime takes it.
            (SourceKind::Registry, Some(manifest)) => {
                format!("{}@sha256:{}", package.version.as_str(), manifest.sha256)
            }
            _ => package.version.as_str().to_owned(),
        };
        rows.add_row([
            name.clone(),
            version,
            package.files.len().to_string(),
            some(&hashes),
            compared.to_owned(),
        ]);
    }
    format!(
        "{} of {}, from {} {}\nsha256 {}\n\n{rows}\n",
        release.name, release.series, release.source.kind, release.source.at, release.digest
    )
}

/// What changes from one release to another; `services` are the names of packages that are services.
pub fn render_diff(diff: &Diff, services: &BTreeSet<String>) -> String {
    if diff.is_empty() {
        return "both hold the same\n".to_owned();
    }
    let mut rows = table(&["", "package", "is", "from", "to", "note"]);
    let kind = |name: &String| if services.contains(name) { "service" } else { "library" };
    let mut add = |sign: &str, name: &String, from: &str, to: &str, note: String| {
        rows.add_row([
            sign.to_owned(),
            name.clone(),
            kind(name).to_owned(),
            from.to_owned(),
            to.to_owned(),
            note,
        ]);
    };
    for wanted in ["service", "library"] {
        for (name, version) in diff.added.iter().filter(|(name, _)| kind(name) == wanted) {
            add("+", name, "-", version.as_str(), String::new());
        }
        for (name, version) in diff.removed.iter().filter(|(name, _)| kind(name) == wanted) {
            add("-", name, version.as_str(), "-", String::new());
        }
        for (name, change) in diff.changed.iter().filter(|(name, _)| kind(name) == wanted) {
            add("~", name, change.from.as_str(), change.to.as_str(), note(change));
        }
    }
    format!("{rows}\n")
}

fn note(change: &Change) -> String {
    if change.older {
        return "an OLDER version".to_owned();
    }
    if change.from != change.to {
        return String::new();
    }
    if change.replaced.is_empty() {
        return "the same version, other files".to_owned();
    }
    let files: Vec<&str> = change.replaced.iter().map(String::as_str).collect();
    format!("the same version, files REPLACED: {}", some(&files))
}
