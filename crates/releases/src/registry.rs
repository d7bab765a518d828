//! Container registries: what their answers say.
//!
//! Source: OCI Distribution Specification 1.1; the token authentication of Docker's registry.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::Url;
use serde::Deserialize;

use crate::error::Error;
use crate::fetch::Credentials;

/// The manifests that are asked for: those of many platforms first, so that the digest of a tag is that of the
/// whole image.
pub(crate) const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
                                    application/vnd.docker.distribution.manifest.list.v2+json, \
                                    application/vnd.oci.image.manifest.v1+json, \
                                    application/vnd.docker.distribution.manifest.v2+json";

#[derive(Deserialize)]
struct Tags {
    /// `null` of a repository that has none.
    tags: Option<Vec<String>>,
}

/// The tags of a repository that one page names.
pub(crate) fn tags(body: &str, place: &str) -> Result<Vec<String>, Error> {
    let read: Tags =
        serde_json::from_str(body).map_err(|error| Error::malformed(place, error.to_string()))?;
    Ok(read.tags.unwrap_or_default())
}

/// The next page, by the header `Link`. Source: RFC 8288.
pub(crate) fn next(link: &str, page: &Url) -> Option<Url> {
    link.split(',').find_map(|one| {
        let (target, parameters) = one.trim().strip_prefix('<')?.split_once('>')?;
        let next = parameters.split(';').any(|parameter| parameter.trim().replace('"', "") == "rel=next");
        next.then(|| page.join(target).ok())?
    })
}

/// How a registry wants to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// With user and password.
    Basic,
    /// With a token of the server at this address.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// Reads the header `WWW-Authenticate`; nothing where it asks for something else.
pub(crate) fn challenge(header: &str) -> Option<Challenge> {
    let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let mut parameters = parameters(rest);
    let realm = parameters.remove("realm")?;
    let (service, scope) = (parameters.remove("service"), parameters.remove("scope"));
    Some(Challenge::Bearer { realm, service, scope })
}

/// `name="value"` parts; a value may have commas, as scopes have.
fn parameters(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.insert(name, value.to_owned());
        rest = left;
    }
    found
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// The token of a token server's answer.
pub(crate) fn token(body: &str) -> Option<String> {
    let read: Token = serde_json::from_str(body).ok()?;
    read.token.or(read.access_token)
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize)]
struct DockerAuth {
    auth: Option<String>,
}

/// The credentials that Docker's and Podman's configuration (`config.json`, `auth.json`) has for a registry; nothing
/// where it has none, or keeps them in a program of its own.
///
/// # Errors
/// [`Error::Malformed`] where the text is no such configuration. What is in it is not quoted.
pub fn docker_credentials(text: &str, registry: &str, place: &str) -> Result<Option<Credentials>, Error> {
    let config: DockerConfig = serde_json::from_str(text)
        .map_err(|error| Error::malformed(place, format!("line {} is not as it should be", error.line())))?;
    let host = |address: &str| {
        let bare = address.split("://").last().unwrap_or_default();
        bare.split('/').next().unwrap_or_default().rsplit('@').next().unwrap_or_default().to_owned()
    };
    let wanted = host(registry);
    let found = config.auths.iter().find(|(address, _)| host(address) == wanted);
    let Some(auth) = found.and_then(|(_, auth)| auth.auth.as_deref()).filter(|auth| !auth.is_empty()) else {
        return Ok(None);
    };
    let decoded = BASE64_STANDARD.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    let (user, password) = pair.ok_or_else(|| {
        Error::malformed(place, format!("what it has for {wanted} is no user and password"))
    })?;
    Ok(Some(Credentials::new(user, password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let header = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:kolla/nova-api:pull,push""#;
        assert_eq!(
            challenge(header),
            Some(Challenge::Bearer {
                realm: "https://auth.example/token".to_owned(),
                service: Some("registry.example".to_owned()),
                scope: Some("repository:kolla/nova-api:pull,push".to_owned()),
            })
        );
        assert_eq!(challenge("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(challenge("Negotiate"), None);
        assert_eq!(challenge("Bearer service=x"), None);
        assert_eq!(token(r#"{"access_token": "t"}"#).as_deref(), Some("t"));
        assert_eq!(token("{}"), None);
    }

    #[test]
    fn pages_follow_each_other() {
        let page: Url = "https://r.example/v2/a/tags/list".parse().unwrap();
        let next_of = |link| next(link, &page).map(String::from);
        assert_eq!(
            next_of("</v2/a/tags/list?last=x>; rel=\"next\"").as_deref(),
            Some("https://r.example/v2/a/tags/list?last=x")
        );
        assert_eq!(next_of("</v2/a>; rel=\"prev\""), None);
        assert_eq!(tags(r#"{"name": "a", "tags": null}"#, "it").unwrap(), Vec::<String>::new());
        assert!(tags("[]", "it").is_err());
    }

    #[test]
    fn credentials_are_found_by_host() {
        let text = r#"{"auths": {"https://r.example:5000/v2/": {"auth": "dXNlcjpwYTpzcw=="}, "other": {}}}"#;
        let found = docker_credentials(text, "https://r.example:5000", "it").unwrap().unwrap();
        assert_eq!(found, Credentials::new("user", "pa:ss"));
        assert!(!format!("{found:?}").contains("pa:ss"), "a password is not printed");
        assert!(docker_credentials(text, "https://r.example", "it").unwrap().is_none());
        assert!(docker_credentials(text, "other", "it").unwrap().is_none());
        assert!(docker_credentials("{\"auths\": 1}", "x", "it").is_err());
    }
}
