//! Calls to keystone.

use reqwest::Method;
use serde::Deserialize;

use crate::catalog::ServiceType;
use crate::client::{Client, Request};
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
}
