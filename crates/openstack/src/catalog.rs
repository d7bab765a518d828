//! The service catalog of a token: which service is where.

use std::fmt;

use reqwest::Url;
use serde::Deserialize;

/// A service as the catalog calls it, with its historical names.
/// Source: the service types authority (service-types.openstack.org).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceType {
    /// keystone.
    Identity,
    /// glance.
    Image,
    /// nova.
    Compute,
    /// neutron.
    Network,
    /// cinder.
    Volume,
    /// placement.
    Placement,
}

impl ServiceType {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Identity, Self::Image, Self::Compute, Self::Network, Self::Volume, Self::Placement];

    /// The names under which catalogs have it, the official one first.
    #[must_use]
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Identity => &["identity"],
            Self::Image => &["image"],
            Self::Compute => &["compute"],
            Self::Network => &["network"],
            Self::Volume => &["block-storage", "volumev3", "block-store", "volume"],
            Self::Placement => &["placement"],
        }
    }

    /// The project that implements it.
    #[must_use]
    pub fn project(self) -> &'static str {
        match self {
            Self::Identity => "keystone",
            Self::Image => "glance",
            Self::Compute => "nova",
            Self::Network => "neutron",
            Self::Volume => "cinder",
            Self::Placement => "placement",
        }
    }

    /// The service that a project implements.
    #[must_use]
    pub fn of_project(project: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.project() == project)
    }

    /// The name in the header `OpenStack-API-Version`; `None` for services without
    /// microversions.
    #[must_use]
    pub fn microversion_name(self) -> Option<&'static str> {
        match self {
            Self::Compute => Some("compute"),
            Self::Volume => Some("volume"),
            Self::Placement => Some("placement"),
            Self::Identity | Self::Image | Self::Network => None,
        }
    }

    /// The first part of the path of its one API that is in use; `None` for placement, which
    /// has only a root.
    fn version_part(self) -> Option<&'static str> {
        match self {
            Self::Identity => Some("v3"),
            Self::Image => Some("v2"),
            Self::Compute => Some("v2.1"),
            Self::Network => Some("v2.0"),
            Self::Volume => Some("v3"),
            Self::Placement => None,
        }
    }

    /// The address under which resources are, from the address in a catalog, which may or may
    /// not have the version in it: neutron, glance and keystone are usually without.
    pub(crate) fn resource_root(self, published: &Url) -> Url {
        let mut root = published.clone();
        let trimmed = root.path().trim_end_matches('/').to_owned();
        let path = match self.version_part() {
            Some(part) if !trimmed.split('/').any(is_version) => format!("{trimmed}/{part}"),
            _ => trimmed,
        };
        root.set_path(&path);
        root
    }

    /// The address of the document that tells the versions that are served: the resource root
    /// up to its version, without a project's id.
    pub(crate) fn version_root(self, published: &Url) -> Url {
        let mut root = self.resource_root(published);
        let mut kept: Vec<&str> = Vec::new();
        for part in root.path().trim_matches('/').split('/') {
            kept.push(part);
            if is_version(part) {
                // glance and neutron tell their versions only above the version.
                if matches!(self, Self::Image | Self::Network) {
                    kept.pop();
                }
                break;
            }
        }
        let path = format!("/{}/", kept.join("/")).replace("//", "/");
        root.set_path(&path);
        root
    }
}

/// Whether a part of a path is a version: `v3`, `v2.1`.
fn is_version(part: &str) -> bool {
    part.strip_prefix('v').is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_digit()) && rest.chars().all(|c| c.is_ascii_digit() || c == '.')
    })
}

impl fmt::Display for ServiceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.names()[0])
    }
}

/// One service of a catalog.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct CatalogEntry {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub endpoints: Vec<CatalogEndpoint>,
}

/// One endpoint of a catalog.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct CatalogEndpoint {
    pub interface: String,
    pub url: String,
    #[serde(default)]
    pub region: Option<String>,
    #[serde(default)]
    pub region_id: Option<String>,
}

/// The address of a service in a catalog: by the first of its names that has an endpoint of
/// that interface and region.
pub(crate) fn find<'a>(
    catalog: &'a [CatalogEntry],
    service: ServiceType,
    interface: &str,
    region: Option<&str>,
) -> Option<&'a str> {
    service.names().iter().find_map(|name| {
        catalog.iter().filter(|entry| entry.kind == *name).find_map(|entry| {
            let endpoint = entry.endpoints.iter().find(|endpoint| {
                let here = endpoint.region_id.as_deref().or(endpoint.region.as_deref());
                endpoint.interface == interface && (region.is_none() || region == here)
            })?;
            Some(endpoint.url.as_str())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots(service: ServiceType, published: &str) -> (String, String) {
        let url = Url::parse(published).unwrap();
        (service.resource_root(&url).to_string(), service.version_root(&url).to_string())
    }

    #[test]
    fn roots_come_from_addresses_with_and_without_a_version() {
        for (service, published, resources, versions) in [
            (ServiceType::Network, "http://h:9696", "http://h:9696/v2.0", "http://h:9696/"),
            (ServiceType::Image, "http://h:9292/v2/", "http://h:9292/v2", "http://h:9292/"),
            (
                ServiceType::Compute,
                "http://h/compute/v2.1/abc",
                "http://h/compute/v2.1/abc",
                "http://h/compute/v2.1/",
            ),
            (ServiceType::Identity, "http://h/identity", "http://h/identity/v3", "http://h/identity/v3/"),
            (ServiceType::Volume, "http://h:8776/v3/abc", "http://h:8776/v3/abc", "http://h:8776/v3/"),
            (ServiceType::Placement, "http://h:8778", "http://h:8778/", "http://h:8778/"),
            (ServiceType::Placement, "http://h/placement", "http://h/placement", "http://h/placement/"),
        ] {
            assert_eq!(roots(service, published), (resources.to_owned(), versions.to_owned()));
        }
    }

    #[test]
    fn historical_names_are_found_and_regions_kept_apart() {
        let endpoint = |url: &str, region: &str| CatalogEndpoint {
            interface: "public".to_owned(),
            url: url.to_owned(),
            region: Some(region.to_owned()),
            region_id: Some(region.to_owned()),
        };
        let catalog = vec![CatalogEntry {
            kind: "volumev3".to_owned(),
            endpoints: vec![endpoint("http://one", "one"), endpoint("http://two", "two")],
        }];
        assert_eq!(find(&catalog, ServiceType::Volume, "public", Some("two")), Some("http://two"));
        assert_eq!(find(&catalog, ServiceType::Volume, "public", None), Some("http://one"));
        assert_eq!(find(&catalog, ServiceType::Volume, "admin", None), None);
        assert_eq!(find(&catalog, ServiceType::Compute, "public", None), None);
    }
}
