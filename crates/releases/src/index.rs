//! Pages of an index of Python packages.
//!
//! Sources: PEP 503 (HTML), PEP 691 (JSON), PEP 592 (yanked), PEP 700 (upload times).

use jiff::Timestamp;
use reqwest::Url;
use serde::Deserialize;
use volutus_model::lock::Sha256;

use crate::anchors;
use crate::choose::Offered;
use crate::error::Error;

/// What an index is asked for: JSON, and HTML of those that have none.
pub(crate) const ACCEPT: &str = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, \
                                 text/html;q=0.1";

/// What one is asked for that refuses to choose.
pub(crate) const ACCEPT_HTML: &str = "text/html";

#[derive(Deserialize)]
struct Page {
    meta: Meta,
    files: Vec<PageFile>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "api-version")]
    api_version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct PageFile {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    requires_python: Option<String>,
    #[serde(default)]
    yanked: Yanked,
    #[serde(default)]
    upload_time: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Yanked {
    Is(bool),
    Because(String),
}

impl Default for Yanked {
    fn default() -> Self {
        Self::Is(false)
    }
}

impl Yanked {
    fn reason(self) -> Option<String> {
        match self {
            Self::Is(false) => None,
            Self::Is(true) => Some(String::new()),
            Self::Because(why) => Some(why),
        }
    }
}

/// Reads the page of one package. `page` is where it was found, which its addresses are relative to.
pub(crate) fn read(body: &str, content_type: &str, page: &Url) -> Result<Vec<Offered>, Error> {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/vnd.pypi.simple.v1+json" | "application/json" => json(body, page),
        "application/vnd.pypi.simple.v1+html" | "text/html" | "" => Ok(html(body, page)),
        _ => Err(Error::malformed(page.as_str(), format!("it is {kind}, no page of an index of packages"))),
    }
}

fn json(body: &str, page: &Url) -> Result<Vec<Offered>, Error> {
    let read: Page =
        serde_json::from_str(body).map_err(|error| Error::malformed(page.as_str(), error.to_string()))?;
    let version = &read.meta.api_version;
    if version.split('.').next() != Some("1") {
        let why = format!("its version {version} of the index's API is not known to this Volutus");
        return Err(Error::malformed(page.as_str(), why));
    }
    let files = read.files.into_iter().filter_map(|file| {
        Some(Offered {
            address: page.join(&file.url).ok()?.into(),
            sha256: file.hashes.get("sha256").and_then(|text| Sha256::new(text).ok()),
            requires_python: file.requires_python.filter(|text| !text.trim().is_empty()),
            yanked: file.yanked.reason(),
            published: file.upload_time.and_then(|text| text.parse::<Timestamp>().ok()),
            name: file.filename,
        })
    });
    Ok(files.collect())
}

fn html(body: &str, page: &Url) -> Vec<Offered> {
    let (anchors, base) = anchors::read(body);
    let base = base.and_then(|base| page.join(&base).ok()).unwrap_or_else(|| page.clone());
    let files = anchors.into_iter().filter_map(|anchor| {
        let mut address = base.join(anchor.attributes.get("href")?).ok()?;
        let hash = address.fragment().and_then(|fragment| {
            let digits = fragment.split('&').find_map(|part| part.strip_prefix("sha256="))?;
            Sha256::new(digits).ok()
        });
        address.set_fragment(None);
        Some(Offered {
            name: anchor.text,
            address: address.into(),
            sha256: hash,
            requires_python: anchor.attributes.get("data-requires-python").cloned().filter(|t| !t.is_empty()),
            yanked: anchor.attributes.get("data-yanked").cloned(),
            published: None,
        })
    });
    files.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Url {
        "https://index.example/simple/nova/".parse().unwrap()
    }

    #[test]
    fn json_and_html_say_the_same() {
        let a = "a".repeat(64);
        let json = format!(
            r#"{{"meta": {{"api-version": "1.3"}}, "name": "nova", "files": [
                {{"filename": "nova-33.0.2.tar.gz", "url": "../../f/nova-33.0.2.tar.gz", "hashes": {{"sha256": "{a}"}},
                  "requires-python": ">=3.10", "yanked": "bad", "upload-time": "2026-05-01T10:00:00.5Z"}},
                {{"filename": "nova-33.0.1.tar.gz", "url": "nova-33.0.1.tar.gz", "hashes": {{}}, "yanked": true}},
                {{"filename": "nova-33.0.0.tar.gz", "url": "nova-33.0.0.tar.gz", "hashes": {{"sha256": "{a}"}},
                  "requires-python": null}}]}}"#
        );
        let html = format!(
            "<a href='../../f/nova-33.0.2.tar.gz#sha256={a}' data-requires-python='&gt;=3.10' \
             data-yanked='bad'>nova-33.0.2.tar.gz</a>
             <a href='nova-33.0.1.tar.gz#md5=x' data-yanked>nova-33.0.1.tar.gz</a>
             <a href='nova-33.0.0.tar.gz#sha256={a}'>nova-33.0.0.tar.gz</a>"
        );
        let mut from_json = read(&json, "application/vnd.pypi.simple.v1+json", &page()).unwrap();
        assert!(from_json[0].published.take().is_some());
        let from_html = read(&html, "text/html; charset=utf-8", &page()).unwrap();
        assert_eq!(from_json, from_html);
        assert_eq!(from_html[0].address, "https://index.example/f/nova-33.0.2.tar.gz");
        assert_eq!(from_html[1].sha256, None);
    }

    #[test]
    fn what_is_no_page_is_refused() {
        let json = "application/vnd.pypi.simple.v1+json";
        assert!(read(r#"{"meta": {"api-version": "2.0"}, "files": []}"#, json, &page()).is_err());
        assert!(read("{}", json, &page()).is_err());
        assert!(read("x", "image/png", &page()).is_err());
    }
}
