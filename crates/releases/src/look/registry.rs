//! Looks images up in a container registry.

use volutus_advisories::Version;
use volutus_model::lock::Sha256;
use volutus_model::name::PackageVersion;

use super::{Found, Request};
use crate::contents::sha256;
use crate::document::{File, Package};
use crate::error::Error;
use crate::fetch::{Ask, Credentials, PAGE_TIME, Web, address, shown};
use crate::registry::{MANIFESTS, next, tags};
use crate::wanted::Wanted;

/// A manifest is at most 4 MiB, by the specification; a page of tags has a thousand of them.
const BYTES_MAX: usize = 4 << 20;

/// Pages of tags that are read: a hundred thousand tags in one repository are none of releases.
const PAGES_MAX: usize = 100;

/// Tags that an error names.
const SHOWN_MAX: usize = 8;

/// A registry, and how images are called in it.
#[derive(Debug, Clone)]
pub struct Images {
    /// Its address.
    pub base: String,
    /// The repository of an image, in which `{package}` is replaced: `kolla/{package}`.
    pub repository: String,
    /// The tag, in which `{series}` is replaced; chosen among those that are there where absent.
    pub tag: Option<String>,
    /// Who asks; nobody where absent.
    pub credentials: Option<Credentials>,
}

/// Looks images up in a registry: the tag of each, and the digest of the manifest that it stands for.
///
/// # Errors
/// [`Error`]: the registry did not answer or not as it should, or which tag is meant is not clear.
pub async fn registry(web: &Web, images: &Images, request: &Request<'_>) -> Result<Found, Error> {
    let base = address(&format!("{}/", images.base.trim_end_matches('/')))?;
    let mut found = Found::default();
    for name in &request.packages {
        let repository = images.repository.replace("{package}", name);
        let mut token = None;
        let below = |path: &str| {
            base.join(&format!("v2/{repository}/{path}"))
                .map_err(|error| Error::Address { address: shown(&base), why: error.to_string() })
        };
        let tag = match &images.tag {
            Some(tag) => tag.replace("{series}", &request.series.to_string()),
            None => {
                let mut url = below("tags/list")?;
                let mut all = Vec::new();
                for _ in 0..PAGES_MAX {
                    let doing = format!("listing the tags of {repository}");
                    let ask = Ask {
                        doing: &doing,
                        url: &url,
                        accept: "application/json",
                        bytes_max: BYTES_MAX,
                        time: PAGE_TIME,
                    };
                    let answer = web.ask_registry(&ask, images.credentials.as_ref(), &mut token).await?;
                    let following = next(answer.header("link"), &answer.url);
                    all.extend(tags(&answer.text()?, &shown(&url))?);
                    match following {
                        Some(following) => url = following,
                        None => break,
                    }
                }
                choose(&all, name, request, &format!("{}{repository}", shown(&base)))?
            }
        };
        let url = below(&format!("manifests/{tag}"))?;
        let doing = format!("looking up {repository}:{tag}");
        let ask = Ask { doing: &doing, url: &url, accept: MANIFESTS, bytes_max: BYTES_MAX, time: PAGE_TIME };
        let answer = web.ask_registry(&ask, images.credentials.as_ref(), &mut token).await?;
        let digest = sha256(&answer.body);
        let said = answer.header("docker-content-digest").strip_prefix("sha256:").map(Sha256::new);
        if let Some(Ok(said)) = said.filter(|said| said.as_ref().is_ok_and(|said| *said != digest)) {
            return Err(Error::Hash {
                what: format!("the manifest of {repository}:{tag}"),
                found: digest.to_string(),
                said_by: "the registry".to_owned(),
                said: said.to_string(),
            });
        }
        let package = Package {
            version: PackageVersion::new(tag),
            source: None,
            files: vec![File { name: "manifest".to_owned(), sha256: digest }],
            contents: None,
            published: None,
        };
        found.packages.insert(repository, package);
    }
    Ok(found)
}

/// The tag that is meant: the highest that is a version of the series, or else the series' own name, or else the only
/// one that begins with it.
fn choose(tags: &[String], name: &str, request: &Request<'_>, place: &str) -> Result<String, Error> {
    let series = request.series.to_string();
    let service = request.lines.catalog.daemons();
    let service = service.iter().find(|(kind, _)| kind.as_str() == name).map(|(_, (service, _))| service);
    let line = request.lines.of(service.map_or(name, |service| service.name.as_str()), request.series);
    let versions = tags.iter().filter_map(|tag| Some((Version::parse(tag, false)?, tag)));
    let highest =
        versions.filter(|(version, _)| line.as_ref().is_some_and(|line| line.admits(version))).max();
    if let Some((_, tag)) = highest {
        return Ok(tag.clone());
    }
    if tags.contains(&series) {
        return Ok(series);
    }
    let begin: Vec<&String> = tags.iter().filter(|tag| tag.starts_with(&format!("{series}-"))).collect();
    if let [only] = begin.as_slice() {
        return Ok((*only).clone());
    }
    let shown = |tags: &mut dyn Iterator<Item = &String>| {
        tags.take(SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join(", ")
    };
    let seen = match (begin.is_empty(), tags.is_empty()) {
        (false, _) => {
            format!("which of {} is meant is not clear: name the tag", shown(&mut begin.into_iter()))
        }
        (true, false) => format!("{} tags are there, the last {}", tags.len(), shown(&mut tags.iter().rev())),
        (true, true) => "no tag is there".to_owned(),
    };
    let wanted = line.as_ref().map_or(series, Wanted::to_string);
    Err(Error::NoVersion { package: name.to_owned(), wanted, place: place.to_owned(), seen })
}
