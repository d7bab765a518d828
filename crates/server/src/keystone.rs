//! Tokens, which keystone says the owner and the roles of.

use std::time::Duration;

use axum::http::StatusCode;
use reqwest::Url;
use serde::Deserialize;
use volutus_model::event::Actor;

use crate::access::Way;
use crate::{Caller, Problem, Role};

/// How long keystone may take; a person waits for the answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks keystone about tokens.
#[derive(Debug, Clone)]
pub struct Keystone {
    tokens: Url,
    client: reqwest::Client,
}

#[derive(Deserialize)]
struct Answer {
    token: Token,
}

#[derive(Deserialize)]
struct Token {
    user: User,
    #[serde(default)]
    roles: Vec<Named>,
}

#[derive(Deserialize)]
struct User {
    name: String,
    domain: Named,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

impl Keystone {
    /// Keystone at its `auth_url` (with or without `/v3`), trusting `cacert` (PEM) besides the
    /// system's authorities.
    ///
    /// # Errors
    /// Where the certificate cannot be read as one.
    pub fn new(auth_url: &Url, cacert: Option<&[u8]>) -> Result<Self, reqwest::Error> {
        let mut client =
            reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
        if let Some(pem) = cacert {
            for certificate in reqwest::Certificate::from_pem_bundle(pem)? {
                client = client.add_root_certificate(certificate);
            }
        }
        let mut tokens = auth_url.clone();
        let base = auth_url.path().trim_end_matches('/').trim_end_matches("/v3");
        tokens.set_path(&format!("{base}/v3/auth/tokens"));
        tokens.set_query(Some("nocatalog"));
        Ok(Self { tokens, client: client.build()? })
    }

    /// Who a token belongs to. The token itself is what allows to ask: keystone tells every owner
    /// of a token about it, so that the server needs no rights of its own.
    /// Source: Identity API v3, "Validate and show information for token".
    ///
    /// # Errors
    /// `unauthorized` where keystone does not know it; `keystone` where keystone does not answer.
    pub async fn identify(&self, token: &str) -> Result<Caller, Problem> {
        let silent = |why: &str| {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "keystone",
                format!("keystone could not be asked: {why}"),
            )
            .hint("At the Unix socket nobody has to be asked.")
        };
        let request = self.client.get(self.tokens.clone()).header("X-Auth-Token", token);
        let answer = request
            .header("X-Subject-Token", token)
            .send()
            .await
            .map_err(|error| silent(&error.without_url().to_string()))?;
        match answer.status().as_u16() {
            200 => {}
            401 | 403 | 404 => {
                return Err(Problem::new(
                    StatusCode::UNAUTHORIZED,
                    "unauthorized",
                    "keystone does not accept the token",
                ));
            }
            status => return Err(silent(&format!("it answered {status}"))),
        }
        let answer: Answer = answer.json().await.map_err(|error| silent(&error.without_url().to_string()))?;
        let has = |role: &Role| answer.token.roles.iter().any(|named| named.name == role.name());
        Ok(Caller {
            actor: Actor(format!("{}@{}", answer.token.user.name, answer.token.user.domain.name)),
            roles: [Role::Reader, Role::Operator, Role::Approver].into_iter().filter(has).collect(),
            way: Way::Network,
        })
    }
}
