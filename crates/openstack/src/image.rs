//! Calls to glance.

use reqwest::Method;
use serde::Deserialize;

use crate::catalog::ServiceType;
use crate::client::{Client, Request};
use crate::compute::quote;
use crate::error::Error;

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Image {
    /// Its id.
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// `active`, `queued`, ...
    pub status: String,
}

/// The calls; see [`Client::image`].
#[derive(Debug, Clone, Copy)]
pub struct Images<'a>(&'a Client);

impl Client {
    /// Calls to glance.
    #[must_use]
    pub fn image(&self) -> Images<'_> {
        Images(self)
    }
}

impl Images<'_> {
    fn build(method: Method, path: impl Into<String>) -> Request {
        Request::new(method, ServiceType::Image, path)
    }

    /// The active image of that name among those that the user sees.
    ///
    /// # Errors
    /// [`Error::Name`] where there is not exactly one; else see [`Error`].
    pub async fn image(self, name: &str) -> Result<Image, Error> {
        let path = format!("/images?name={}&status=active", quote(name));
        let answer = self.0.request(&Self::build(Method::GET, path)).await?;
        let images: Vec<Image> = answer.expect_status(&[200])?.part("images")?;
        self.0.only("image", name, images)
    }

    /// The images that a project owns, newest first, up to glance's own page.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn images_of(self, project_id: &str) -> Result<Vec<Image>, Error> {
        let path = format!("/images?owner={}&limit=1000", quote(project_id));
        let answer = self.0.request(&Self::build(Method::GET, path)).await?;
        answer.expect_status(&[200])?.part("images")
    }

    /// Deletes an image; `false` where there was none.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_image(self, id: &str) -> Result<bool, Error> {
        let request = Self::build(Method::DELETE, format!("/images/{}", quote(id)));
        Ok(self.0.request(&request).await?.expect_status(&[204, 404])?.status == 204)
    }
}
