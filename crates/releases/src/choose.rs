//! Which of the files that a source offers are taken.

use std::collections::BTreeMap;

use jiff::Timestamp;
use volutus_advisories::{Version, normal};
use volutus_model::lock::Sha256;

use crate::error::Error;
use crate::specifier::admits;
use crate::wanted::Wanted;

/// Versions that an error names: enough to see what is there.
const SHOWN_MAX: usize = 8;

/// A file that a source offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offered {
    /// Its name.
    pub name: String,
    /// Its address, or its path.
    pub address: String,
    /// Its hash, where the source tells.
    pub sha256: Option<Sha256>,
    /// The Pythons that it is for.
    pub requires_python: Option<String>,
    /// Why it was withdrawn; empty where no reason is given. Source: PEP 592.
    pub yanked: Option<String>,
    /// When it was published.
    pub published: Option<Timestamp>,
}

/// What was taken.
#[derive(Debug)]
pub(crate) struct Choice {
    pub version: Version,
    pub files: Vec<Offered>,
    /// Higher versions that were not taken, and why.
    pub notes: Vec<String>,
}

/// Name and version that a file's name tells of a wheel or a source distribution; nothing for other
/// files. Sources: the binary distribution format; PEP 625, and what was usual before it.
pub(crate) fn distribution_of(file: &str, known: Option<&str>) -> Option<(String, String)> {
    if let Some(stem) = file.strip_suffix(".whl") {
        let parts: Vec<&str> = stem.split('-').collect();
        return matches!(parts.len(), 5 | 6).then(|| (normal(parts[0]), parts[1].to_owned()));
    }
    let stem = file.strip_suffix(".tar.gz").or_else(|| file.strip_suffix(".zip"))?;
    // The name may have dashes too: the last one before a version divides, or the one behind the known name.
    let mut found = None;
    for (at, _) in stem.match_indices('-') {
        let (name, version) = (normal(&stem[..at]), &stem[at + 1..]);
        if Version::parse(version, false).is_none() {
            continue;
        }
        match known {
            Some(known) if known != name => {}
            _ => found = Some((name, version.to_owned())),
        }
    }
    found
}

/// Takes the highest version that is wanted and of which something may be installed, with all such files.
pub(crate) fn choose(
    package: &str,
    offered: Vec<Offered>,
    wanted: &Wanted<'_>,
    python: &Version,
    place: &str,
) -> Result<Choice, Error> {
    let mut by_version: BTreeMap<Version, Vec<Offered>> = BTreeMap::new();
    for file in offered {
        let version = distribution_of(&file.name, Some(package))
            .filter(|(name, _)| name == package)
            .and_then(|(_, version)| Version::parse(&version, false));
        if let Some(version) = version {
            by_version.entry(version).or_default().push(file);
        }
    }
    let mut notes = Vec::new();
    let known: Vec<String> = by_version.keys().rev().take(SHOWN_MAX).map(ToString::to_string).collect();
    for (version, files) in by_version.into_iter().rev().filter(|(version, _)| wanted.admits(version)) {
        let mut reasons: Vec<String> = Vec::new();
        let mut taken = Vec::new();
        for file in files {
            match refusal(&file, python) {
                None => taken.push(file),
                Some(why) if reasons.contains(&why) => {}
                Some(why) => reasons.push(why),
            }
        }
        if !taken.is_empty() {
            return Ok(Choice { version, files: taken, notes });
        }
        notes.push(format!("{package} {version} was not taken: {}", reasons.join(", ")));
    }
    let seen = match (notes.is_empty(), known.is_empty()) {
        (false, _) => notes.join("; "),
        (true, false) => format!("the highest there are {}", known.join(", ")),
        (true, true) => "no wheel or source distribution is there".to_owned(),
    };
    let (package, wanted, place) = (package.to_owned(), wanted.to_string(), place.to_owned());
    Err(Error::NoVersion { package, wanted, place, seen })
}

/// Why a file is not taken.
fn refusal(file: &Offered, python: &Version) -> Option<String> {
    if let Some(why) = &file.yanked {
        return Some(if why.is_empty() {
            "it was yanked".to_owned()
        } else {
            format!("it was yanked: {why}")
        });
    }
    if let Some(specifier) = &file.requires_python {
        match admits(specifier, python) {
            Some(true) => {}
            Some(false) => return Some(format!("it needs Python {specifier}, not {python}")),
            None => return Some(format!("which Python it needs is not understood: `{specifier}`")),
        }
    }
    file.sha256.is_none().then(|| "no SHA-256 is given for it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Version {
        Version::parse(text, false).unwrap()
    }

    fn file(name: &str) -> Offered {
        Offered {
            name: name.to_owned(),
            address: String::new(),
            sha256: Some(Sha256::new(&"a".repeat(64)).unwrap()),
            requires_python: Some(">=3.10".to_owned()),
            yanked: None,
            published: None,
        }
    }

    fn nova() -> Wanted<'static> {
        Wanted::Line { series: "2026.1".parse().unwrap(), majors: [33].into(), of: None }
    }

    #[test]
    fn names_of_files_tell_name_and_version() {
        for (name, wanted) in [
            ("nova-33.0.2-py3-none-any.whl", Some(("nova", "33.0.2"))),
            ("openstack_placement-15.0.0-1-py3-none-any.whl", Some(("openstack-placement", "15.0.0"))),
            ("python-novaclient-18.9.0.tar.gz", Some(("python-novaclient", "18.9.0"))),
            ("oslo.config-9.7.1.tar.gz", Some(("oslo-config", "9.7.1"))),
            ("nova-33.0.2.tar.gz.asc", None),
            ("nova-33.0.2.whl", None),
            ("nova-33.0.2-py3.11.egg", None),
        ] {
            let found = distribution_of(name, None);
            let found = found.as_ref().map(|(name, version)| (name.as_str(), version.as_str()));
            assert_eq!(found, wanted, "{name}");
        }
        // With the name known, a part of the version that looks like one is none.
        let found = distribution_of("x-1-2.tar.gz", Some("x"));
        assert_eq!(found, Some(("x".to_owned(), "1-2".to_owned())));
    }

    #[test]
    fn the_highest_that_may_be_installed_is_taken() {
        let mut yanked = file("nova-33.0.4-py3-none-any.whl");
        yanked.yanked = Some("broken".to_owned());
        let mut newer_python = file("nova-33.0.3-py3-none-any.whl");
        newer_python.requires_python = Some(">=3.13".to_owned());
        let offered = vec![
            file("nova-34.0.0-py3-none-any.whl"),
            file("nova-33.0.9rc1.tar.gz"),
            yanked.clone(),
            newer_python,
            file("nova-33.0.2-py3-none-any.whl"),
            file("nova-33.0.2.tar.gz"),
            file("nova-33.0.10.tar.gz.asc"),
            file("novaclient-33.0.8.tar.gz"),
        ];
        let choice = choose("nova", offered, &nova(), &v("3.11"), "it").unwrap();
        assert_eq!((choice.version, choice.files.len()), (v("33.0.2"), 2));
        assert_eq!(choice.notes.len(), 2, "{:?}", choice.notes);
        assert!(choice.notes[0].contains("yanked: broken"));
        // One file of a version that is not yanked is enough.
        let offered = vec![yanked, file("nova-33.0.4.tar.gz")];
        assert_eq!(choose("nova", offered, &nova(), &v("3.11"), "it").unwrap().files.len(), 1);
    }

    #[test]
    fn where_nothing_will_do_it_is_said_why() {
        let error = choose("nova", vec![file("nova-32.1.0.tar.gz")], &nova(), &v("3.11"), "it").unwrap_err();
        assert!(error.to_string().contains("32.1.0"), "{error}");
        let mut bare = file("nova-33.0.1.tar.gz");
        bare.sha256 = None;
        let error = choose("nova", vec![bare], &nova(), &v("3.11"), "it").unwrap_err();
        assert!(error.to_string().contains("no SHA-256"), "{error}");
        let error = choose("nova", Vec::new(), &nova(), &v("3.11"), "it").unwrap_err();
        assert!(error.to_string().contains("no wheel"), "{error}");
    }
}
