//! Calls to placement.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde::Deserialize;

use crate::catalog::ServiceType;
use crate::client::{Client, Request};
use crate::compute::quote;
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

/// A resource provider: a compute host, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Provider {
    /// Its UUID; that of a hypervisor where it is one.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// The provider at the top of its tree, itself where it is the top.
    pub root_provider_uuid: String,
}

/// What a provider has of one resource class.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Inventory {
    /// What there is.
    pub total: u64,
    /// What is kept from allocation.
    #[serde(default)]
    pub reserved: u64,
    /// How many times the rest may be given away.
    pub allocation_ratio: f64,
    /// The most that one allocation may take.
    pub max_unit: u64,
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
    async fn get<T: serde::de::DeserializeOwned>(self, path: String, key: &str) -> Result<T, Error> {
        let request = Request::new(Method::GET, ServiceType::Placement, path).microversion(MICROVERSION);
        self.0.request(&request).await?.expect_status(&[200])?.part(key)
    }

    /// All resource providers; for administrators.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn providers(self) -> Result<Vec<Provider>, Error> {
        self.get("/resource_providers".to_owned(), "resource_providers").await
    }

    /// A compute host's provider, by its hypervisor's id, and all below it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn providers_in_tree(self, root: &str) -> Result<Vec<Provider>, Error> {
        self.get(format!("/resource_providers?in_tree={}", quote(root)), "resource_providers").await
    }

    /// What a provider has, by resource class.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn inventories(self, provider: &str) -> Result<BTreeMap<String, Inventory>, Error> {
        self.get(format!("/resource_providers/{}/inventories", quote(provider)), "inventories").await
    }

    /// The traits of a provider.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn traits(self, provider: &str) -> Result<BTreeSet<String>, Error> {
        self.get(format!("/resource_providers/{}/traits", quote(provider)), "traits").await
    }

    /// What is allocated of a provider, by consumer: instances, migrations, and what was left over.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn allocations(self, provider: &str) -> Result<BTreeMap<String, Allocation>, Error> {
        self.get(format!("/resource_providers/{}/allocations", quote(provider)), "allocations").await
    }

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
