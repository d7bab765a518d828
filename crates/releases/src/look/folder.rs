//! Looks at a folder of wheels and source distributions.

use std::collections::BTreeMap;
use std::path::Path;

use volutus_model::name::PackageVersion;

use super::requirements::of_series;
use super::{Found, Request};
use crate::choose::distribution_of;
use crate::contents::{contents_of_wheel, sha256};
use crate::document::{File, Package};
use crate::error::Error;

/// Takes every wheel and source distribution of a folder, or those of the packages that the request names.
///
/// # Errors
/// [`Error::Malformed`] where a file cannot be read or there are two versions of a package;
/// [`Error::NoVersion`] for a service of another series, or where a package that is wanted is not there.
pub fn folder(path: &Path, request: &Request<'_>) -> Result<Found, Error> {
    let place = path.display().to_string();
    let unread = |error: std::io::Error| Error::malformed(place.clone(), error.to_string());
    let mut all: BTreeMap<String, Package> = BTreeMap::new();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unread)? {
        let file = entry.map_err(unread)?.file_name().to_string_lossy().into_owned();
        names.extend(distribution_of(&file, None).map(|(name, version)| (file, name, version)));
    }
    names.sort();
    for (file, name, version) in names {
        let bytes = std::fs::read(path.join(&file))
            .map_err(|error| Error::malformed(format!("{place}/{file}"), error.to_string()))?;
        let contents = match file.ends_with("-none-any.whl") {
            true => Some(
                contents_of_wheel(&bytes).map_err(|why| Error::malformed(format!("{place}/{file}"), why))?,
            ),
            false => None,
        };
        let version = PackageVersion::new(version);
        let package = all.entry(name.clone()).or_insert_with(|| Package {
            version: version.clone(),
            source: None,
            files: Vec::new(),
            contents: None,
            published: None,
        });
        if package.version != version {
            let why = format!("it has {name} in {} and in {}", package.version.as_str(), version.as_str());
            return Err(Error::malformed(place, why));
        }
        package.contents = package.contents.take().or(contents);
        package.files.push(File { name: file, sha256: sha256(&bytes) });
    }
    of_series(all, &place, request)
}
