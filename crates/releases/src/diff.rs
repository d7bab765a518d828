//! What changes from one release to another.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use volutus_advisories::Version;
use volutus_model::name::PackageVersion;

use crate::document::{File, Package, Release};

/// What is different between two releases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Packages that the second has and the first has not, with their versions.
    pub added: BTreeMap<String, PackageVersion>,
    /// Packages that the first has and the second has not.
    pub removed: BTreeMap<String, PackageVersion>,
    /// Packages that both have, otherwise.
    pub changed: BTreeMap<String, Change>,
}

/// How a package differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The version in the first.
    pub from: PackageVersion,
    /// The version in the second.
    pub to: PackageVersion,
    /// Whether it goes back to an older version.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub older: bool,
    /// Files of one version that have another hash in the second, by name: what was published under a name
    /// was replaced. It needs an explanation.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub replaced: BTreeSet<String>,
    /// Whether one version has other files, beyond those that were replaced.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub other_files: bool,
}

impl Diff {
    /// Whether both hold the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// Compares two releases.
#[must_use]
pub fn diff(first: &Release, second: &Release) -> Diff {
    let only = |here: &Release, there: &Release| {
        let only = here.packages.iter().filter(|(name, _)| !there.packages.contains_key(*name));
        only.map(|(name, package)| (name.clone(), package.version.clone())).collect()
    };
    let both = first.packages.iter().filter_map(|(name, before)| {
        let after = second.packages.get(name)?;
        Some((name.clone(), change(before, after)?))
    });
    Diff { added: only(second, first), removed: only(first, second), changed: both.collect() }
}

fn change(before: &Package, after: &Package) -> Option<Change> {
    let (from, to) = (before.version.clone(), after.version.clone());
    if from != to {
        let older = older(from.as_str(), to.as_str());
        return Some(Change { from, to, older, replaced: BTreeSet::new(), other_files: false });
    }
    if before.files == after.files && before.contents == after.contents {
        return None;
    }
    let names = |files: &[File]| -> BTreeMap<String, String> {
        files.iter().map(|file| (file.name.clone(), file.sha256.to_string())).collect()
    };
    let (old, new) = (names(&before.files), names(&after.files));
    let replaced = old
        .iter()
        .filter(|(name, hash)| new.get(*name).is_some_and(|new| new != *hash))
        .map(|(name, _)| name);
    let replaced: BTreeSet<String> = replaced.cloned().collect();
    let other_files = old.keys().ne(new.keys());
    Some(Change { from, to, older: false, replaced, other_files })
}

/// Whether `to` comes before `from`: by PEP 440 where both can be read so, else by Debian's order.
fn older(from: &str, to: &str) -> bool {
    match (Version::parse(from, false), Version::parse(to, false)) {
        (Some(from), Some(to)) => to < from,
        _ => crate::debian::compare(to, from).is_lt(),
    }
}

#[cfg(test)]
mod tests {
    use volutus_model::lock::Sha256;

    use super::*;
    use crate::document::{Source, SourceKind};

    /// Names of files, each with the digit that its hash is made of.
    type Files<'a> = &'a [(&'a str, &'a str)];

    fn release(packages: &[(&str, &str, Files<'_>)]) -> Release {
        let packages = packages.iter().map(|(name, version, files)| {
            let file = |(name, digit): &(&str, &str)| File {
                name: (*name).to_owned(),
                sha256: Sha256::new(&digit.repeat(64)).unwrap(),
            };
            let package = Package {
                version: PackageVersion::new(*version),
                source: None,
                files: files.iter().map(file).collect(),
                contents: None,
                published: None,
            };
            ((*name).to_owned(), package)
        });
        let source = Source { kind: SourceKind::File, at: "x".to_owned() };
        Release::new(None, "2026.1".parse().unwrap(), source, packages.collect())
    }

    #[test]
    fn every_kind_of_change_is_told() {
        let old = release(&[
            ("glance", "32.0.0", &[("g", "1")]),
            ("keystone", "29.1.0", &[("k", "1"), ("k.tar", "2")]),
            ("neutron", "28.0.10", &[("n", "1")]),
            ("nova", "33.0.2", &[("v", "1")]),
        ]);
        let new = release(&[
            ("cinder", "28.0.0", &[("c", "1")]),
            ("keystone", "29.1.0", &[("k", "3")]),
            ("neutron", "28.0.9", &[("n", "2")]),
            ("nova", "33.0.2", &[("v", "1")]),
        ]);
        let found = diff(&old, &new);
        assert_eq!(found.added.keys().collect::<Vec<_>>(), ["cinder"]);
        assert_eq!(found.removed.keys().collect::<Vec<_>>(), ["glance"]);
        assert_eq!(found.changed.keys().collect::<Vec<_>>(), ["keystone", "neutron"]);
        let keystone = &found.changed["keystone"];
        assert_eq!(keystone.replaced, ["k".to_owned()].into());
        assert!(keystone.other_files);
        assert!(found.changed["neutron"].older, "10 comes after 9");
        assert!(diff(&new, &new).is_empty());
        assert!(older("2:33.0.2-1", "2:33.0.1-9"));
    }
}
