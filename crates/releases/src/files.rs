//! Holds files against a locked release.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use volutus_model::lock::Sha256;

use crate::choose::distribution_of;
use crate::document::Release;

/// Something that is not as locked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "difference", rename_all = "kebab-case")]
pub enum Difference {
    /// A file has the name of a locked one and another hash.
    Replaced {
        /// The file.
        file: String,
        /// What it has.
        found: Sha256,
        /// What is locked.
        locked: Sha256,
    },
    /// A file is of a package that is locked, and is none of its files.
    NotOfIt {
        /// The file.
        file: String,
        /// The package, with the locked version.
        locked: String,
    },
    /// A file is of no locked package.
    NotLocked {
        /// The file.
        file: String,
    },
    /// No file of a locked package is there.
    Missing {
        /// The package, with its version.
        package: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replaced { file, found, locked } => {
                write!(f, "{file} has the SHA-256 {}..., locked is {}...", found.short(), locked.short())
            }
            Self::NotOfIt { file, locked } => {
                write!(f, "{file} is none of the files that are locked of {locked}")
            }
            Self::NotLocked { file } => write!(f, "{file} is of no package that is locked"),
            Self::Missing { package } => write!(f, "no file of {package} is there"),
        }
    }
}

/// What is different between files, given by name and SHA-256, and a locked release. Of the files of one
/// package one is enough: nobody needs both a wheel and its source.
#[must_use]
pub fn compare_files(release: &Release, files: &[(String, Sha256)]) -> Vec<Difference> {
    let mut by_hash: BTreeMap<&Sha256, BTreeSet<&str>> = BTreeMap::new();
    let mut by_name: BTreeMap<&str, &Sha256> = BTreeMap::new();
    for (name, package) in &release.packages {
        for file in &package.files {
            by_hash.entry(&file.sha256).or_default().insert(name);
            by_name.insert(&file.name, &file.sha256);
        }
    }
    let mut found = Vec::new();
    let mut there: BTreeSet<&str> = BTreeSet::new();
    for (file, sha256) in files {
        if let Some(packages) = by_hash.get(sha256) {
            there.extend(packages);
            continue;
        }
        let of = distribution_of(file, None).map(|(name, _)| name);
        // Debian's files are PACKAGE_VERSION_ARCHITECTURE.deb.
        let of = of.or_else(|| file.strip_suffix(".deb")?.split_once('_').map(|(name, _)| name.to_owned()));
        let package = of.as_ref().and_then(|name| release.packages.get_key_value(name));
        let file = file.clone();
        found.push(match (by_name.get(file.as_str()), package) {
            (Some(locked), _) => {
                Difference::Replaced { file, found: sha256.clone(), locked: (*locked).clone() }
            }
            (None, Some((name, package))) => {
                Difference::NotOfIt { file, locked: format!("{name} {}", package.version.as_str()) }
            }
            (None, None) => Difference::NotLocked { file },
        });
    }
    let missing = release.packages.iter().filter(|(name, _)| !there.contains(name.as_str()));
    found.extend(missing.map(|(name, package)| Difference::Missing {
        package: format!("{name} {}", package.version.as_str()),
    }));
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use volutus_model::name::PackageVersion;

    use super::*;
    use crate::document::{File, Package, Source, SourceKind};

    fn hash(digit: &str) -> Sha256 {
        Sha256::new(&digit.repeat(64)).unwrap()
    }

    #[test]
    fn every_difference_is_told() {
        let package = |version: &str, files: &[(&str, &str)]| Package {
            version: PackageVersion::new(version),
            source: None,
            files: files.iter().map(|(name, h)| File { name: (*name).to_owned(), sha256: hash(h) }).collect(),
            contents: None,
            published: None,
        };
        let packages = [
            (
                "nova".to_owned(),
                package("33.0.2", &[("nova-33.0.2-py3-none-any.whl", "1"), ("nova-33.0.2.tar.gz", "2")]),
            ),
            ("glance".to_owned(), package("32.0.0", &[("glance-32.0.0.tar.gz", "3")])),
            ("nova-common".to_owned(), package("2:33.0.2-1", &[("nova-common_33.0.2-1_all.deb", "4")])),
        ];
        let source = Source { kind: SourceKind::File, at: "x".to_owned() };
        let release = Release::new(None, "2026.1".parse().unwrap(), source, packages.into());
        let named = |files: &[(&str, &str)]| {
            let files: Vec<_> = files.iter().map(|(name, h)| ((*name).to_owned(), hash(h))).collect();
            compare_files(&release, &files).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let whole =
            [("nova-33.0.2.tar.gz", "2"), ("renamed.tar.gz", "3"), ("nova-common_33.0.2-1_all.deb", "4")];
        assert_eq!(named(&whole), Vec::<String>::new());
        let found = named(&[
            ("nova-33.0.2.tar.gz", "9"),
            ("glance-31.0.0.tar.gz", "8"),
            ("evil-1.0.tar.gz", "7"),
            ("nova-common_33.0.1-1_all.deb", "6"),
        ]);
        let text = found.join("\n");
        for part in [
            "nova-33.0.2.tar.gz has",
            "glance-31.0.0.tar.gz is none",
            "evil-1.0.tar.gz is of no package",
            "nova-common_33.0.1-1_all.deb is none",
            "no file of nova 33.0.2",
            "no file of glance 32.0.0",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
