//! Calls to cinder.

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use crate::catalog::ServiceType;
use crate::client::{Client, Request};
use crate::compute::quote;
use crate::error::Error;

/// The microversion of all calls here, served since Yoga.
pub const MICROVERSION: &str = "3.68";

/// A record of cinder's services.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Service {
    /// For example `cinder-volume`.
    pub binary: String,
    /// The host; for cinder-volume `host@backend`.
    pub host: String,
    /// Its availability zone.
    pub zone: String,
    /// `enabled` or `disabled`.
    pub status: String,
    /// `up` or `down`.
    pub state: String,
    /// Why it is disabled.
    #[serde(default)]
    pub disabled_reason: Option<String>,
    /// When its record changed last, in UTC.
    #[serde(default)]
    pub updated_at: Option<String>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Volume {
    /// Its id.
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// `creating`, `available`, `error`, ...
    #[serde(default)]
    pub status: String,
    /// Its size in GiB.
    #[serde(default)]
    pub size: u64,
}

/// The calls; see [`Client::volume`].
#[derive(Debug, Clone, Copy)]
pub struct Volumes<'a>(&'a Client);

impl Client {
    /// Calls to cinder.
    #[must_use]
    pub fn volume(&self) -> Volumes<'_> {
        Volumes(self)
    }
}

impl Volumes<'_> {
    fn build(method: Method, path: impl Into<String>) -> Request {
        Request::new(method, ServiceType::Volume, path).microversion(MICROVERSION)
    }

    /// All service records; for administrators.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn services(self) -> Result<Vec<Service>, Error> {
        let answer = self.0.request(&Self::build(Method::GET, "/os-services")).await?;
        answer.expect_status(&[200])?.part("services")
    }

    /// The own project's volumes, up to cinder's own page.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn volumes(self) -> Result<Vec<Volume>, Error> {
        let answer = self.0.request(&Self::build(Method::GET, "/volumes/detail")).await?;
        answer.expect_status(&[200])?.part("volumes")
    }

    /// Asks for a volume; it is not available yet.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_volume(
        self,
        name: &str,
        size_gib: u64,
        volume_type: Option<&str>,
    ) -> Result<Volume, Error> {
        let body = json!({"volume": {"name": name, "size": size_gib, "volume_type": volume_type}});
        let request = Self::build(Method::POST, "/volumes").json(body);
        self.0.request(&request).await?.expect_status(&[202])?.part("volume")
    }

    /// A volume; `None` where there is none of that id.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn volume(self, id: &str) -> Result<Option<Volume>, Error> {
        let request = Self::build(Method::GET, format!("/volumes/{}", quote(id)));
        let answer = self.0.request(&request).await?.expect_status(&[200, 404])?;
        if answer.status == 404 { Ok(None) } else { answer.part("volume").map(Some) }
    }

    /// Asks for the deletion of a volume; `false` where there was none.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_volume(self, id: &str) -> Result<bool, Error> {
        let request = Self::build(Method::DELETE, format!("/volumes/{}", quote(id)));
        Ok(self.0.request(&request).await?.expect_status(&[202, 404])?.status == 202)
    }
}
