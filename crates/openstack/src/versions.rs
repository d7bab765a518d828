//! Version documents: what an endpoint says of itself.

use serde::Deserialize;

use crate::answer::Answer;
use crate::catalog::ServiceType;
use crate::client::Client;
use crate::error::Error;

/// The versions that an endpoint serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionDocument {
    /// The service's address as the catalog has it.
    pub url: String,
    /// Lowest microversion; empty for services without them.
    pub min_version: String,
    /// Highest microversion; for services without them the version that is current, for
    /// example `v3.14` of keystone.
    pub max_version: String,
}

/// The highest microversion that a version document tells; for services without them the version that
/// is current. None where it is no such document.
#[must_use]
pub fn highest_of(answer: &Answer) -> Option<String> {
    bounds(answer.json().ok()?).map(|(_, highest)| highest)
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    version: Option<Entry>,
    #[serde(default)]
    versions: Option<Entries>,
}

/// Keystone's root has `{"versions": {"values": [...]}}`, all others a plain list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entries {
    List(Vec<Entry>),
    Values { values: Vec<Entry> },
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    max_version: Option<String>,
    #[serde(default)]
    min_version: Option<String>,
}

impl Client {
    /// The version document of a service as it came, through its endpoint.
    ///
    /// # Errors
    /// Why no document came.
    pub async fn version_answer(&self, service: ServiceType) -> Result<Answer, Error> {
        let token = self.token().await?;
        let published = self.published(&token, service)?;
        let answer = self.get_url(service.version_root(&published)).await?;
        // A list of versions comes with status 300 from nova, glance and keystone.
        answer.expect_status(&[200, 300])
    }

    /// Reads the version document of a service, through its endpoint.
    ///
    /// # Errors
    /// Why no document came, or [`Error::Body`] where it is none.
    pub async fn version_document(&self, service: ServiceType) -> Result<VersionDocument, Error> {
        let token = self.token().await?;
        let published = self.published(&token, service)?;
        let answer = self.version_answer(service).await?;
        let document: Document = answer.json()?;
        let (min_version, max_version) = bounds(document).ok_or_else(|| Error::Body {
            request: answer.request.clone(),
            why: "the document names no version".to_owned(),
            beginning: answer.beginning(),
        })?;
        Ok(VersionDocument { url: published.to_string(), min_version, max_version })
    }
}

fn bounds(document: Document) -> Option<(String, String)> {
    let mut entries = match document.versions {
        Some(Entries::List(list) | Entries::Values { values: list }) => list,
        None => Vec::new(),
    };
    entries.extend(document.version);
    let current = |entry: &Entry| matches!(entry.status.as_str(), "CURRENT" | "stable");
    let position = entries.iter().position(current).unwrap_or(0);
    let entry = entries.into_iter().nth(position)?;
    let known = |text: Option<String>| text.filter(|text| !text.is_empty());
    let max = known(entry.max_version).or(known(entry.version)).unwrap_or(entry.id);
    Some((known(entry.min_version).unwrap_or_default(), max))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, String)> {
        bounds(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn documents_of_every_service_are_read() {
        let pair = |min: &str, max: &str| Some((min.to_owned(), max.to_owned()));
        let nova =
            r#"{"version": {"id": "v2.1", "status": "CURRENT", "version": "2.100", "min_version": "2.1"}}"#;
        assert_eq!(read(nova), pair("2.1", "2.100"));
        let placement = r#"{"versions": [{"id": "v1.0", "max_version": "1.39", "min_version": "1.0", "status": "CURRENT"}]}"#;
        assert_eq!(read(placement), pair("1.0", "1.39"));
        let cinder =
            r#"{"versions": [{"id": "v3.0", "status": "CURRENT", "version": "3.71", "min_version": "3.0"}]}"#;
        assert_eq!(read(cinder), pair("3.0", "3.71"));
        let keystone = r#"{"version": {"id": "v3.14", "status": "stable"}}"#;
        assert_eq!(read(keystone), pair("", "v3.14"));
        let glance =
            r#"{"versions": [{"id": "v2.15", "status": "SUPPORTED"}, {"id": "v2.17", "status": "CURRENT"}]}"#;
        assert_eq!(read(glance), pair("", "v2.17"));
        let neutron = r#"{"versions": [{"id": "v2.0", "status": "CURRENT"}]}"#;
        assert_eq!(read(neutron), pair("", "v2.0"));
        assert_eq!(read("{}"), None);
    }
}
