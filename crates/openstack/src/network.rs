//! Calls to neutron.

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use crate::catalog::ServiceType;
use crate::client::{Client, Request};
use crate::compute::quote;
use crate::error::Error;

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Network {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The project that owns it.
    #[serde(default)]
    pub project_id: String,
    /// Whether it is for all projects.
    #[serde(default)]
    pub shared: bool,
    /// Its subnets' ids.
    #[serde(default)]
    pub subnets: Vec<String>,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Port {
    /// Its id.
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// `ACTIVE`, `DOWN`, `BUILD`, ...
    pub status: String,
    /// What it belongs to: an instance's id, for example.
    #[serde(default)]
    pub device_id: String,
    /// Its network.
    pub network_id: String,
    /// The project that owns it.
    #[serde(default)]
    pub project_id: String,
    /// How it is bound; only administrators see it. `binding_failed` and `unbound` are not
    /// bound.
    #[serde(default, rename = "binding:vif_type")]
    pub vif_type: Option<String>,
    /// The host that it is bound to; only administrators see it.
    #[serde(default, rename = "binding:host_id")]
    pub host: Option<String>,
}

/// Which ports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortFilter {
    /// Of this device, for example an instance's id.
    pub device_id: Option<String>,
    /// Bound to this host.
    pub host: Option<String>,
    /// Of this network.
    pub network_id: Option<String>,
    /// Of this project.
    pub project_id: Option<String>,
}

/// The calls; see [`Client::network`].
#[derive(Debug, Clone, Copy)]
pub struct Networking<'a>(pub(crate) &'a Client);

impl Client {
    /// Calls to neutron.
    #[must_use]
    pub fn network(&self) -> Networking<'_> {
        Networking(self)
    }
}

/// What a port plugs into its instance.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PortKind {
    /// Its id.
    pub id: String,
    /// What it belongs to: an instance's id, for example.
    #[serde(default)]
    pub device_id: String,
    /// `normal`, `direct`, ...; the administrator sees it of all projects.
    #[serde(default, rename = "binding:vnic_type")]
    pub vnic_type: String,
}

/// Ports per page, and pages that are read: 2,000,000 ports.
const PAGE: usize = 1000;
const PAGES_MAX: usize = 2000;

impl Networking<'_> {
    fn build(method: Method, path: impl Into<String>) -> Request {
        Request::new(method, ServiceType::Network, path)
    }

    /// The network of that name among those that the user sees.
    ///
    /// # Errors
    /// [`Error::Name`] where there is not exactly one; else see [`Error`].
    pub async fn network(self, name: &str) -> Result<Network, Error> {
        self.0.only("network", name, self.networks(Some(name)).await?)
    }

    /// The networks that the user sees, all or those of one name.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn networks(self, name: Option<&str>) -> Result<Vec<Network>, Error> {
        let path = match name {
            Some(name) => format!("/networks?name={}", quote(name)),
            None => "/networks".to_owned(),
        };
        let answer = self.0.request(&Self::build(Method::GET, path)).await?;
        answer.expect_status(&[200])?.part("networks")
    }

    /// Deletes a network; `false` where there was none.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_network(self, id: &str) -> Result<bool, Error> {
        let request = Self::build(Method::DELETE, format!("/networks/{}", quote(id)));
        Ok(self.0.request(&request).await?.expect_status(&[204, 404])?.status == 204)
    }

    /// What every port plugs into its instance; neutron cannot be asked for those of one kind.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn port_kinds(self) -> Result<Vec<PortKind>, Error> {
        const PATH: &str =
            "/ports?fields=id&fields=device_id&fields=binding:vnic_type&sort_key=id&sort_dir=asc";
        let mut ports: Vec<PortKind> = Vec::new();
        for _ in 0..PAGES_MAX {
            let mut path = format!("{PATH}&limit={PAGE}");
            if let Some(last) = ports.last() {
                path.push_str(&format!("&marker={}", quote(&last.id)));
            }
            let answer = self.0.request(&Self::build(Method::GET, path)).await?;
            let page: Vec<PortKind> = answer.expect_status(&[200])?.part("ports")?;
            if page.is_empty() {
                return Ok(ports);
            }
            ports.extend(page);
        }
        Err(Error::Body {
            request: format!("GET {PATH}"),
            why: format!("the list does not end after {PAGES_MAX} pages"),
            beginning: "(left out)".to_owned(),
        })
    }

    /// What every port of one instance plugs into it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn port_kinds_of(self, device: &str) -> Result<Vec<PortKind>, Error> {
        let device = quote(device);
        let path = format!("/ports?device_id={device}&fields=id&fields=device_id&fields=binding:vnic_type");
        let answer = self.0.request(&Self::build(Method::GET, path)).await?;
        answer.expect_status(&[200])?.part("ports")
    }

    /// The ports that a filter lets through.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ports(self, filter: &PortFilter) -> Result<Vec<Port>, Error> {
        let wanted = [
            ("device_id", &filter.device_id),
            ("binding:host_id", &filter.host),
            ("network_id", &filter.network_id),
            ("project_id", &filter.project_id),
        ];
        let query: Vec<String> = wanted
            .into_iter()
            .filter_map(|(key, value)| Some(format!("{key}={}", quote(value.as_deref()?))))
            .collect();
        let path = format!("/ports?{}", query.join("&"));
        let answer = self.0.request(&Self::build(Method::GET, path)).await?;
        answer.expect_status(&[200])?.part("ports")
    }

    /// Creates a port on a network.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_port(self, network_id: &str, name: &str) -> Result<Port, Error> {
        let body = json!({"port": {"network_id": network_id, "name": name}});
        let request = Self::build(Method::POST, "/ports").json(body);
        self.0.request(&request).await?.expect_status(&[201])?.part("port")
    }

    /// A port; `None` where there is none of that id.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn port(self, id: &str) -> Result<Option<Port>, Error> {
        let request = Self::build(Method::GET, format!("/ports/{}", quote(id)));
        let answer = self.0.request(&request).await?.expect_status(&[200, 404])?;
        if answer.status == 404 { Ok(None) } else { answer.part("port").map(Some) }
    }

    /// Deletes a port; `false` where there was none.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_port(self, id: &str) -> Result<bool, Error> {
        let request = Self::build(Method::DELETE, format!("/ports/{}", quote(id)));
        Ok(self.0.request(&request).await?.expect_status(&[204, 404])?.status == 204)
    }
}
