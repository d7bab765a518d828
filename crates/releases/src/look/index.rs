//! Looks versions up at an index of Python packages.

use volutus_model::lock::Sha256;
use volutus_model::name::PackageVersion;

use super::{Found, Request};
use crate::choose::{Offered, choose};
use crate::contents::{contents_of_wheel, sha256};
use crate::document::{File, Package};
use crate::error::Error;
use crate::fetch::{Answer, Ask, FILE_TIME, PAGE_TIME, Web, address, shown};
use crate::index::{ACCEPT, ACCEPT_HTML, read};

/// The page of one package: those with the longest histories come to some 10 MiB.
const PAGE_BYTES_MAX: usize = 64 << 20;

/// The largest wheel whose contents are looked at; those of OpenStack stay below 10 MiB.
const WHEEL_BYTES_MAX: usize = 256 << 20;

/// Looks packages up at an index; `base` is what pip calls its index-url.
///
/// The wheel of each, where it is one for every platform, is fetched to tell what it installs.
///
/// # Errors
/// [`Error`]: the first package that cannot be locked.
pub async fn index(web: &Web, base: &str, request: &Request<'_>) -> Result<Found, Error> {
    let base = address(&format!("{}/", base.trim_end_matches('/')))?;
    let mut found = Found::default();
    for name in request.distributions() {
        let wanted = request.wanted(&name)?;
        let page = base
            .join(&format!("{name}/"))
            .map_err(|error| Error::Address { address: shown(&base), why: error.to_string() })?;
        let doing = format!("looking up {name}");
        let answer = ask(web, &doing, &page).await?;
        let (content_type, place) = (answer.header("content-type").to_owned(), answer.url.clone());
        let offered = read(&answer.text()?, &content_type, &place)?;
        let choice = choose(&name, offered, &wanted, &request.python, &shown(&page))?;
        found.notes.extend(choice.notes);
        let contents = match choice.files.iter().find(|file| file.name.ends_with("-none-any.whl")) {
            Some(wheel) => Some(contents(web, &name, wheel).await?),
            None => {
                found.notes.push(format!(
                    "{name} {} has no wheel for every platform: on hosts its version alone will be compared",
                    choice.version
                ));
                None
            }
        };
        let package = Package {
            version: PackageVersion::new(choice.version.to_string()),
            source: None,
            contents,
            published: choice.files.iter().filter_map(|file| file.published).min(),
            files: choice
                .files
                .into_iter()
                .filter_map(|file| Some(File { name: file.name, sha256: file.sha256? }))
                .collect(),
        };
        found.packages.insert(name, package);
    }
    Ok(found)
}

async fn ask(web: &Web, doing: &str, page: &reqwest::Url) -> Result<Answer, Error> {
    let ask = Ask { doing, url: page, accept: ACCEPT, bytes_max: PAGE_BYTES_MAX, time: PAGE_TIME };
    let answer = web.ask(&ask, None).await?;
    // An index that has HTML alone and refuses to be asked for anything else besides.
    if answer.status == reqwest::StatusCode::NOT_ACCEPTABLE {
        return web.get(&Ask { accept: ACCEPT_HTML, ..ask }).await;
    }
    ask.succeeded(answer)
}

/// What a wheel installs, once it is known to be the file that the index names.
async fn contents(web: &Web, name: &str, wheel: &Offered) -> Result<Sha256, Error> {
    let url = address(&wheel.address)?;
    let doing = format!("fetching {}", wheel.name);
    let ask = Ask { doing: &doing, url: &url, accept: "*/*", bytes_max: WHEEL_BYTES_MAX, time: FILE_TIME };
    let body = web.get(&ask).await?.body;
    let digest = sha256(&body);
    if let Some(said) = wheel.sha256.as_ref().filter(|said| **said != digest) {
        return Err(Error::Hash {
            what: wheel.name.clone(),
            found: digest.to_string(),
            said_by: format!("the index's page of {name}"),
            said: said.to_string(),
        });
    }
    contents_of_wheel(&body).map_err(|why| Error::malformed(wheel.name.clone(), why))
}
