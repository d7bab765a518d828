//! Reads versions from a file of requirements with hashes, as pip takes it and `pip-compile --generate-hashes`
//! writes it.

use std::collections::BTreeMap;

use volutus_advisories::{Version, normal};
use volutus_model::lock::Sha256;
use volutus_model::name::PackageVersion;

use super::{Found, Request};
use crate::document::{File, Package};
use crate::error::Error;
use crate::wanted::applies;

/// Reads every requirement of a file, or those of the packages that the request names. `place` names the file.
///
/// A service has to be in a version of the series; libraries are taken as they stand there.
///
/// # Errors
/// [`Error::Malformed`] with the line: what is not pinned, or has no hash. [`Error::NoVersion`] for a service of
/// another series, or where a package that is wanted is not there.
pub fn requirements(text: &str, place: &str, request: &Request<'_>) -> Result<Found, Error> {
    let mut all: BTreeMap<String, Package> = BTreeMap::new();
    for (line, requirement) in joined(text) {
        let wrong = |why: &str| Error::malformed(place, format!("line {line}: {why}"));
        // Options of the whole file, such as the index, say nothing of versions.
        if requirement.starts_with('-') {
            continue;
        }
        let (pin, hashes) = requirement.split_once("--hash").unwrap_or((&requirement, ""));
        let (pin, marker) =
            pin.split_once(';').map_or((pin, None), |(pin, marker)| (pin, Some(marker.trim())));
        let pin = pin.trim();
        let (name, version) = pin.split_once("==").ok_or_else(|| wrong("it is not NAME==VERSION"))?;
        let version = version.trim_start_matches('=').trim();
        let name = normal(name.split('[').next().unwrap_or_default());
        if name.is_empty() || Version::parse(version, false).is_none() {
            return Err(wrong("it is not NAME==VERSION"));
        }
        match marker.map(|marker| applies(marker, &request.python)) {
            None | Some(Some(true)) => {}
            Some(Some(false)) => continue,
            Some(None) => return Err(wrong("its environment marker is not understood")),
        }
        let mut files = Vec::new();
        for word in hashes.split_whitespace() {
            let word = word.trim_start_matches("--hash").trim_start_matches('=');
            let digits =
                word.strip_prefix("sha256:").ok_or_else(|| wrong("a hash that is not of SHA-256"))?;
            let sha256 = Sha256::new(digits).map_err(|error| wrong(&error.to_string()))?;
            // Such files name no files, so each goes by its hash.
            files.push(File { name: format!("sha256-{}", sha256.short()), sha256 });
        }
        if files.is_empty() {
            return Err(wrong("it has no --hash=sha256:..., and a release is locked by hashes"));
        }
        let version = PackageVersion::new(version);
        let package = Package { version, source: None, files, contents: None, published: None };
        if all.get(&name).is_some_and(|other| other.version != package.version) {
            return Err(wrong("another version of it is named before"));
        }
        all.insert(name, package);
    }
    of_series(all, place, request)
}

/// Requirements with the lines that go on in the next one made one, each with the number of its first line.
fn joined(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (i, line) in text.lines().enumerate() {
        let line = line.split(" #").next().unwrap_or_default().trim();
        let line = if line.starts_with('#') { "" } else { line };
        let (content, more) = line.strip_suffix('\\').map_or((line, false), |content| (content.trim(), true));
        match found.last_mut().filter(|_| goes_on) {
            Some((_, whole)) => *whole = format!("{whole} {content}"),
            None if content.is_empty() => {}
            None => found.push((i + 1, content.to_owned())),
        }
        goes_on = more;
    }
    found
}

/// What of packages is wanted, with services held against the series.
pub(super) fn of_series(
    mut all: BTreeMap<String, Package>,
    place: &str,
    request: &Request<'_>,
) -> Result<Found, Error> {
    let missing = |package: &str| Error::NoVersion {
        package: package.to_owned(),
        wanted: request.series.to_string(),
        place: place.to_owned(),
        seen: "it is not there".to_owned(),
    };
    if !request.packages.is_empty() {
        let wanted: Vec<String> = request.distributions().collect();
        if let Some(absent) = wanted.iter().find(|name| !all.contains_key(*name)) {
            return Err(missing(absent));
        }
        all.retain(|name, _| wanted.contains(name));
    }
    if all.is_empty() {
        return Err(Error::malformed(place, "no package is there"));
    }
    for (name, package) in all.iter().filter(|(name, _)| request.lines.is_service(name)) {
        let wanted = request.wanted(name)?;
        let version = package.version.as_str();
        if !Version::parse(version, false).is_some_and(|version| wanted.admits(&version)) {
            return Err(Error::NoVersion {
                package: name.clone(),
                wanted: wanted.to_string(),
                place: place.to_owned(),
                seen: format!("it has {version}"),
            });
        }
    }
    let without = all.values().filter(|package| package.contents.is_none()).count();
    let notes = (without > 0).then(|| {
        format!("of {without} packages there is no wheel to look into: on hosts their versions alone will be compared")
    });
    Ok(Found { packages: all, notes: notes.into_iter().collect() })
}
