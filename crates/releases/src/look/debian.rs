//! Looks versions up in a Debian repository.

use std::io::Read as _;

use flate2::read::GzDecoder;
use volutus_model::name::PackageVersion;

use super::{Found, Request};
use crate::contents::sha256;
use crate::debian::{self as format, Offered};
use crate::document::{File, Package};
use crate::error::Error;
use crate::fetch::{Answer, Ask, FILE_TIME, PAGE_TIME, Web, address, shown};

/// A `Release` file lists a few hundred files.
const RELEASE_BYTES_MAX: usize = 16 << 20;

/// The list of packages of the largest component there is, Debian's own main, has some 50 MiB unpacked.
const PACKAGES_BYTES_MAX: usize = 256 << 20;

/// A repository, and the part of it that is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Its address: what holds `dists`.
    pub base: String,
    /// The suite, such as `bookworm-gazpacho-backports`.
    pub suite: String,
    /// The component, such as `main`.
    pub component: String,
    /// The architecture, such as `amd64`.
    pub architecture: String,
}

/// Looks packages up in a Debian repository: by the names of sources, of which every binary package is taken, or
/// by names of binary packages.
///
/// The list of packages is held against the hash in the suite's `Release`. Whose signature that has is not
/// looked at: apt does that, on the hosts that install from it.
///
/// # Errors
/// [`Error`]: the repository did not answer, is not as it should be, or a package cannot be locked.
pub async fn debian(web: &Web, repository: &Repository, request: &Request<'_>) -> Result<Found, Error> {
    let Repository { base, suite, component, architecture } = repository;
    let base = address(&format!("{}/", base.trim_end_matches('/')))?;
    let below = |path: &str| {
        base.join(&format!("dists/{suite}/{path}"))
            .map_err(|error| Error::Address { address: shown(&base), why: error.to_string() })
    };
    let url = below("Release")?;
    let doing = format!("looking at the suite {suite}");
    let ask = Ask { doing: &doing, url: &url, accept: "*/*", bytes_max: RELEASE_BYTES_MAX, time: PAGE_TIME };
    let release = web.get(&ask).await?.text()?;
    let plain = format!("{component}/binary-{architecture}/Packages");
    let packed = format!("{plain}.gz");
    let listed =
        [&packed, &plain].into_iter().find_map(|path| Some((path, format::hash_of(&release, path)?)));
    let (path, said) = listed.ok_or_else(|| {
        Error::malformed(
            shown(&url),
            format!(
                "it names no SHA-256 of {plain} or {packed}: is there such a component and architecture?"
            ),
        )
    })?;
    let url = below(path)?;
    let doing = format!("reading the packages of {suite} {component}");
    let ask = Ask { doing: &doing, url: &url, accept: "*/*", bytes_max: PACKAGES_BYTES_MAX, time: FILE_TIME };
    let Answer { body, .. } = web.get(&ask).await?;
    let found = sha256(&body);
    if found != said {
        return Err(Error::Hash {
            what: shown(&url),
            found: found.to_string(),
            said_by: "the suite's Release (a mirror is between two states for minutes: try again)".to_owned(),
            said: said.to_string(),
        });
    }
    let text = unpack(body, path.ends_with(".gz"), &shown(&url))?;
    choose(&format::read(&text, &shown(&url))?, request, &format!("{suite} {component}"))
}

fn unpack(body: Vec<u8>, packed: bool, place: &str) -> Result<String, Error> {
    let bytes = if packed {
        let mut bytes = Vec::new();
        let limit = PACKAGES_BYTES_MAX as u64 + 1;
        let read = GzDecoder::new(body.as_slice()).take(limit).read_to_end(&mut bytes);
        read.map_err(|error| Error::malformed(place, error.to_string()))?;
        bytes
    } else {
        body
    };
    if bytes.len() > PACKAGES_BYTES_MAX {
        return Err(Error::malformed(place, format!("it unpacks to more than {PACKAGES_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| Error::malformed(place, "it is no text"))
}

/// Takes the highest version of each binary package that is wanted.
fn choose(offered: &[Offered], request: &Request<'_>, place: &str) -> Result<Found, Error> {
    let mut found = Found::default();
    for name in &request.packages {
        let built = offered.iter().any(|one| one.source == *name);
        let own = |one: &&Offered| if built { one.source == *name } else { one.package == *name };
        // What no series is known of is taken as the suite has it: whoever names a suite has chosen.
        let line = request.lines.of(name, request.series);
        let majors = line.as_ref().map(crate::wanted::Wanted::majors);
        let admitted = |one: &&Offered| {
            let major = format::final_major(&one.version);
            majors.as_ref().is_none_or(|majors| major.is_some_and(|major| majors.contains(&major)))
        };
        let mut taken = false;
        for one in offered.iter().filter(own).filter(admitted) {
            let Some(sha256) = one.sha256.clone() else {
                let why = format!("{} {} has no SHA256", one.package, one.version);
                return Err(Error::malformed(place, why));
            };
            let known = found.packages.get(&one.package);
            if known.is_some_and(|known| format::compare(known.version.as_str(), &one.version).is_ge()) {
                continue;
            }
            taken = true;
            let file = one.file.rsplit('/').next().unwrap_or_default().to_owned();
            let package = Package {
                version: PackageVersion::new(one.version.clone()),
                source: Some(one.source.clone()),
                files: vec![File { name: file, sha256 }],
                contents: None,
                published: None,
            };
            found.packages.insert(one.package.clone(), package);
        }
        if !taken && !found.packages.contains_key(name) {
            let mut versions: Vec<&str> =
                offered.iter().filter(own).map(|one| one.version.as_str()).collect();
            versions.sort_by(|a, b| format::compare(b, a));
            versions.dedup();
            let seen = match versions.is_empty() {
                true => "no package and no source goes by that name".to_owned(),
                false => format!("there are {}", versions.join(", ")),
            };
            let wanted = line.map_or_else(|| "any series".to_owned(), |line| line.to_string());
            return Err(Error::NoVersion { package: name.clone(), wanted, place: place.to_owned(), seen });
        }
    }
    Ok(found)
}
