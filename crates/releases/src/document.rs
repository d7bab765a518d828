//! The document of a locked release.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use volutus_model::Series;
use volutus_model::lock::{LockName, LockedPackage, LockedRelease, Sha256};
use volutus_model::name::PackageVersion;

use crate::contents::sha256;
use crate::error::Error;

/// The format that this Volutus writes and reads.
const FORMAT: u32 = 1;

/// A locked release: versions, and the hashes of their files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Format version.
    pub format: u32,
    /// Its name.
    pub name: LockName,
    /// The series that it is of.
    pub series: Series,
    /// The SHA-256 of what it holds; its name, and where it was looked up, do not count.
    pub digest: Sha256,
    /// Where it was looked up.
    pub source: Source,
    /// Its packages: by a distribution's normal name, a Debian binary package's name, or the repository
    /// of an image.
    pub packages: BTreeMap<String, Package>,
}

/// Where versions were looked up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// What it is.
    pub kind: SourceKind,
    /// The address or path, without credentials; of a Debian repository with suite and component.
    pub at: String,
}

/// The kinds of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// An index of Python packages (PEP 691 or PEP 503).
    Index,
    /// A Debian repository.
    Debian,
    /// A container registry.
    Registry,
    /// A file of requirements with hashes, or a folder of packages.
    File,
}

/// One package of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its version; of an image its tag.
    pub version: PackageVersion,
    /// The source package that a Debian package was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Its files, by name; of an image its manifest.
    pub files: Vec<File>,
    /// The digest of what its wheel installs; see [`LockedPackage::contents`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<Sha256>,
    /// When the first of its files was published, where the source tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Timestamp>,
}

/// One file of a package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its name; of an image's manifest `manifest`.
    pub name: String,
    /// Its SHA-256.
    pub sha256: Sha256,
}

impl SourceKind {
    /// Whether its packages are distributions of Python.
    #[must_use]
    pub fn is_python(self) -> bool {
        matches!(self, Self::Index | Self::File)
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Index => "index",
            Self::Debian => "debian",
            Self::Registry => "registry",
            Self::File => "file",
        })
    }
}

impl Release {
    /// Makes a release of what was looked up. Without a name it is called `SERIES-DIGEST`, by what it holds.
    #[must_use]
    pub fn new(
        name: Option<LockName>,
        series: Series,
        source: Source,
        mut packages: BTreeMap<String, Package>,
    ) -> Self {
        for package in packages.values_mut() {
            package.files.sort();
            package.files.dedup();
        }
        let digest = digest(series, &packages);
        let name = name.unwrap_or_else(|| {
            let name = format!("{series}-{}", digest.short());
            LockName::new(name).expect("digits, a dot and a dash make a name")
        });
        Self { format: FORMAT, name, series, digest, source, packages }
    }

    /// Reads a document, and holds it against its digest. `place` names where it is from.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Hash`].
    pub fn parse(text: &str, place: &str) -> Result<Self, Error> {
        let release: Self =
            serde_json::from_str(text).map_err(|error| Error::malformed(place, error.to_string()))?;
        release.check(place)?;
        Ok(release)
    }

    /// Holds a release against its digest.
    ///
    /// # Errors
    /// [`Error::Malformed`] where its format is not known, [`Error::Hash`] where it was altered.
    pub fn check(&self, place: &str) -> Result<(), Error> {
        if self.format != FORMAT {
            let why = format!("format {} is not known to this Volutus, which reads {FORMAT}", self.format);
            return Err(Error::malformed(place, why));
        }
        let found = digest(self.series, &self.packages);
        if found != self.digest {
            return Err(Error::Hash {
                what: place.to_owned(),
                found: found.to_string(),
                said_by: "the document".to_owned(),
                said: self.digest.to_string(),
            });
        }
        Ok(())
    }

    /// The document, as it is kept.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("texts and ordered maps serialise")
    }

    /// What a release on a host is held against; nothing where the packages are none of Python.
    #[must_use]
    pub fn lock(&self) -> Option<LockedRelease> {
        let packages = self.packages.iter().map(|(name, package)| {
            let locked =
                LockedPackage { version: package.version.clone(), contents: package.contents.clone() };
            (name.clone(), locked)
        });
        self.source
            .kind
            .is_python()
            .then(|| LockedRelease { name: self.name.clone(), packages: packages.collect() })
    }
}

/// The digest of what a release holds.
fn digest(series: Series, packages: &BTreeMap<String, Package>) -> Sha256 {
    // When something was published is told, and is no part of what it is: mirrors tell other times.
    let told = packages.iter().map(|(name, package)| (name, Package { published: None, ..package.clone() }));
    let content = (series, told.collect::<BTreeMap<_, _>>());
    sha256(&serde_json::to_vec(&content).expect("texts and ordered maps serialise"))
}

/// The release as pip's file of requirements, with the hashes of all files: an installer that is given it
/// installs nothing else. Packages that are none of Python are left out.
#[must_use]
pub fn requirements(release: &Release) -> String {
    let mut text = String::new();
    if !release.source.kind.is_python() {
        return text;
    }
    for (name, package) in &release.packages {
        write!(text, "{name}=={}", package.version.as_str()).expect("a text takes text");
        for file in &package.files {
            write!(text, " \\\n    --hash=sha256:{}", file.sha256).expect("a text takes text");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release() -> Release {
        let file = |name: &str, digit: &str| File {
            name: name.to_owned(),
            sha256: Sha256::new(&digit.repeat(64)).unwrap(),
        };
        let package = Package {
            version: PackageVersion::new("33.0.2"),
            source: None,
            files: vec![file("nova-33.0.2.tar.gz", "b"), file("nova-33.0.2-py3-none-any.whl", "a")],
            contents: None,
            published: Some("2026-05-01T00:00:00Z".parse().unwrap()),
        };
        let source = Source { kind: SourceKind::Index, at: "https://index.example/simple".to_owned() };
        Release::new(None, "2026.1".parse().unwrap(), source, [("nova".to_owned(), package)].into())
    }

    #[test]
    fn a_release_is_known_by_what_it_holds() {
        let one = release();
        assert_eq!(one.name.as_str(), format!("2026.1-{}", one.digest.short()));
        let mut other = release();
        let nova = other.packages.get_mut("nova").unwrap();
        nova.published = None;
        nova.files.reverse();
        let source = Source { kind: SourceKind::File, at: "elsewhere".to_owned() };
        let other = Release::new(None, other.series, source, other.packages);
        assert_eq!(other.digest, one.digest);
    }

    #[test]
    fn an_altered_document_is_refused() {
        let text = release().to_json();
        assert_eq!(Release::parse(&text, "it").unwrap(), release());
        let altered = text.replace("33.0.2\"", "33.0.1\"");
        assert!(matches!(Release::parse(&altered, "it"), Err(Error::Hash { .. })));
        let later = text.replace("\"format\": 1", "\"format\": 2");
        assert!(matches!(Release::parse(&later, "it"), Err(Error::Malformed { .. })));
    }

    #[test]
    fn requirements_name_every_hash() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let wanted = format!("nova==33.0.2 \\\n    --hash=sha256:{a} \\\n    --hash=sha256:{b}\n");
        assert_eq!(requirements(&release()), wanted);
    }
}
