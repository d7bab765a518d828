//! Calls to keystone.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use reqwest::Method;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use crate::catalog::ServiceType;
use crate::client::{Client, Request};
use crate::config::{Auth, CloudConfig, Scope};
use crate::error::Error;

/// A service of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Service {
    /// Its id.
    pub id: String,
    /// Its type, for example `compute`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name, for example `nova`.
    #[serde(default)]
    pub name: String,
    /// Whether catalogs show it.
    pub enabled: bool,
}

/// An application credential as keystone tells of it once.
#[derive(Deserialize)]
struct Credential {
    id: String,
    #[serde(default)]
    secret: String,
}

/// The calls; see [`Client::identity`].
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a>(&'a Client);

impl Client {
    /// Calls to keystone.
    #[must_use]
    pub fn identity(&self) -> Identity<'_> {
        Identity(self)
    }
}

impl Identity<'_> {
    /// All services; for administrators.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn services(self) -> Result<Vec<Service>, Error> {
        let request = Request::new(Method::GET, ServiceType::Identity, "/services");
        self.0.request(&request).await?.expect_status(&[200])?.part("services")
    }

    /// The same user in the same project, with this one of its roles only: by an application credential
    /// of this name, which ends by itself. One of the same name is replaced. The user needs no
    /// right but that to make such for itself, which every user has by default.
    ///
    /// # Errors
    /// See [`Error`]; a user who has come by an application credential may not make another.
    pub async fn narrowed(self, name: &str, role: &str, until: Timestamp) -> Result<Client, Error> {
        self.forget_credential(name).await?;
        // Without a fraction of a second, which keystone's database does not keep.
        let until = until.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S").to_string();
        let body = json!({"application_credential": {
            "name": name, "roles": [{"name": role}], "expires_at": until,
            "description": "Volutus asks with it what a user of one role is answered",
        }});
        let request = Request::new(Method::POST, ServiceType::Identity, self.credentials().await?).json(body);
        let made: Credential =
            self.0.request(&request).await?.expect_status(&[201])?.part("application_credential")?;
        let config = CloudConfig {
            auth: Auth::ApplicationCredentialId { id: made.id, secret: SecretString::from(made.secret) },
            scope: Scope::OfCredential,
            ..self.0.config().clone()
        };
        Client::new(config, self.0.timeout())
    }

    /// Removes the user's application credential of a name; whether there was one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn forget_credential(self, name: &str) -> Result<bool, Error> {
        let path = self.credentials().await?;
        let request = Request::new(Method::GET, ServiceType::Identity, format!("{path}?name={name}"));
        let found: Vec<Credential> =
            self.0.request(&request).await?.expect_status(&[200])?.part("application_credentials")?;
        for credential in &found {
            let path = format!("{path}/{}", credential.id);
            let request = Request::new(Method::DELETE, ServiceType::Identity, path);
            self.0.request(&request).await?.expect_status(&[204, 404])?;
        }
        Ok(!found.is_empty())
    }

    async fn credentials(self) -> Result<String, Error> {
        Ok(format!("/users/{}/application_credentials", self.0.token().await?.user_id))
    }
}
