//! Tokens of keystone.

use std::fmt;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::catalog::CatalogEntry;
use crate::config::{Auth, CloudConfig, Domain, Scope};
use crate::error::Error;

/// A token with what keystone said about it.
pub struct Token {
    pub(crate) secret: SecretString,
    pub(crate) catalog: Vec<CatalogEntry>,
    /// When it was issued, by this machine's clock.
    pub issued_at: Timestamp,
    /// When it ends, by keystone's clock.
    pub expires_at: Timestamp,
    /// The id of the project that it is for.
    pub project_id: Option<String>,
    /// The id of its user.
    pub user_id: String,
    /// The names of the roles that it carries.
    pub roles: Vec<String>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("user_id", &self.user_id)
            .field("project_id", &self.project_id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Issued {
    expires_at: Timestamp,
    user: Named,
    #[serde(default)]
    project: Option<Named>,
    #[serde(default)]
    roles: Vec<Named>,
    #[serde(default)]
    catalog: Vec<CatalogEntry>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
    #[serde(default)]
    name: String,
}

impl Token {
    /// Whether the catalog has a service of this very type.
    #[must_use]
    pub fn has_service(&self, kind: &str) -> bool {
        self.catalog.iter().any(|entry| entry.kind == kind)
    }

    /// Reads keystone's answer to `POST /v3/auth/tokens`.
    ///
    /// # Errors
    /// [`Error::Status`] for any status but 201; [`Error::Body`] where header or body is not a
    /// token's.
    pub fn from_answer(answer: Answer) -> Result<Self, Error> {
        let answer = answer.expect_status(&[201])?;
        let issued: Issued = answer.part("token")?;
        let secret = answer.header("x-subject-token").ok_or_else(|| Error::Body {
            request: answer.request.clone(),
            why: "the answer has no header X-Subject-Token".to_owned(),
            // The body of an issued token names users and endpoints, which help nobody here.
            beginning: "(left out)".to_owned(),
        })?;
        Ok(Self {
            secret: SecretString::from(secret.to_owned()),
            catalog: issued.catalog,
            issued_at: Timestamp::now(),
            expires_at: issued.expires_at,
            project_id: issued.project.map(|project| project.id),
            user_id: issued.user.id,
            roles: issued.roles.into_iter().map(|role| role.name).collect(),
        })
    }

    /// Whether it should be replaced at `now`: in the last tenth of its life, and at least a
    /// minute before its end, so that a request that begins with it also ends with it, on
    /// clocks that differ a little.
    pub(crate) fn is_stale(&self, now: Timestamp) -> bool {
        let life_s = self.expires_at.as_second() - self.issued_at.as_second();
        let margin_s = (life_s / 10).max(60).min(life_s / 2);
        now.as_second() >= self.expires_at.as_second() - margin_s
    }
}

/// The body of a request for a token.
/// Source: Identity API v3, "Password authentication with scoped authorization" and
/// "Authenticating with an Application Credential".
pub(crate) fn request_body(config: &CloudConfig) -> Value {
    let identity = match &config.auth {
        Auth::Password { username, user_domain, password } => json!({
            "methods": ["password"],
            "password": {"user": {
                "name": username,
                "domain": domain(user_domain),
                "password": password.expose_secret(),
            }},
        }),
        Auth::ApplicationCredentialId { id, secret } => json!({
            "methods": ["application_credential"],
            "application_credential": {"id": id, "secret": secret.expose_secret()},
        }),
        Auth::ApplicationCredentialName { name, username, user_domain, secret } => json!({
            "methods": ["application_credential"],
            "application_credential": {
                "name": name,
                "user": {"name": username, "domain": domain(user_domain)},
                "secret": secret.expose_secret(),
            },
        }),
    };
    let mut auth = json!({"identity": identity});
    match &config.scope {
        // An application credential carries its own scope, and keystone refuses another one.
        Scope::OfCredential => {}
        Scope::ProjectName { name, domain: of } => {
            auth["scope"] = json!({"project": {"name": name, "domain": domain(of)}});
        }
        Scope::ProjectId(id) => auth["scope"] = json!({"project": {"id": id}}),
    }
    json!({"auth": auth})
}

fn domain(domain: &Domain) -> Value {
    match domain {
        Domain::Id(id) => json!({"id": id}),
        Domain::Name(name) => json!({"name": name}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(issued_s: i64, expires_s: i64) -> Token {
        Token {
            secret: SecretString::from("gAAAA-secret"),
            catalog: Vec::new(),
            issued_at: Timestamp::from_second(issued_s).unwrap(),
            expires_at: Timestamp::from_second(expires_s).unwrap(),
            project_id: None,
            user_id: "u".to_owned(),
            roles: Vec::new(),
        }
    }

    #[test]
    fn a_token_is_stale_in_the_last_tenth_of_its_life() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let hour = token(0, 3600);
        assert!(!hour.is_stale(at(3239)));
        assert!(hour.is_stale(at(3240)));
        let short = token(0, 60);
        assert!(!short.is_stale(at(29)), "a token of a minute must not be stale at birth");
        assert!(short.is_stale(at(30)));
    }

    #[test]
    fn a_token_does_not_print_its_secret() {
        assert!(!format!("{:?}", token(0, 1)).contains("gAAAA"));
    }
}
