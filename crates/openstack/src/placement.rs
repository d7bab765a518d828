//! Calls to placement.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::Deserialize;

use crate::catalog::ServiceType;
use crate::client::{Client, Request};
use crate::error::Error;

/// The microversion of all calls here, served since Xena.
pub const MICROVERSION: &str = "1.38";

/// One way to place what was asked for: amounts by resource class, by resource provider.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AllocationRequest {
    /// By resource provider's id.
    pub allocations: BTreeMap<String, Allocation>,
}

/// What one resource provider would give.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Allocation {
    /// Amounts by resource class.
    pub resources: BTreeMap<String, u64>,
}

/// The calls; see [`Client::placement`].
#[derive(Debug, Clone, Copy)]
pub struct Placement<'a>(&'a Client);

impl Client {
    /// Calls to placement.
    #[must_use]
    pub fn placement(&self) -> Placement<'_> {
        Placement(self)
    }
}

impl Placement<'_> {
    /// Where these amounts could be placed, at most `limit` ways; for administrators.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn allocation_candidates(
        self,
        resources: &BTreeMap<String, u64>,
        limit: u32,
    ) -> Result<Vec<AllocationRequest>, Error> {
        let amounts: Vec<String> =
            resources.iter().map(|(class, amount)| format!("{class}:{amount}")).collect();
        let path = format!("/allocation_candidates?resources={}&limit={limit}", amounts.join(","));
        let request = Request::new(Method::GET, ServiceType::Placement, path).microversion(MICROVERSION);
        self.0.request(&request).await?.expect_status(&[200])?.part("allocation_requests")
    }
}

/// A resource provider: a compute node, as placement knows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Provider {
    uuid: String,
    name: String,
}

impl Placement<'_> {
    /// Who holds resources of a compute node, by consumer: instances and migrations. `None` where
    /// placement knows no node of that name.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn consumers_on(self, node: &str) -> Result<Option<Vec<String>>, Error> {
        let build =
            |path: String| Request::new(Method::GET, ServiceType::Placement, path).microversion(MICROVERSION);
        let path = format!("/resource_providers?name={}", crate::compute::quote(node));
        let answer = self.0.request(&build(path)).await?.expect_status(&[200])?;
        let providers: Vec<Provider> = answer.part("resource_providers")?;
        let Some(provider) = providers.into_iter().find(|provider| provider.name == node) else {
            return Ok(None);
        };
        let path = format!("/resource_providers/{}/allocations", provider.uuid);
        let answer = self.0.request(&build(path)).await?.expect_status(&[200])?;
        let allocations: BTreeMap<String, serde_json::Value> = answer.part("allocations")?;
        Ok(Some(allocations.into_keys().collect()))
    }
}
