//! Calls to nova.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::catalog::ServiceType;
use crate::client::{Client, Request};
use crate::error::Error;

pub use crate::new_server::{Attachment, Destination, NewServer};

/// The microversion of all calls here: the newest one whose answers have the shapes below
/// (2.53: service ids are UUIDs; 2.74: `host` at creation), served since Train.
pub const MICROVERSION: &str = "2.79";

/// The microversion of reads of whole fleets, served since 2025.1 (Epoxy). It is the lowest whose
/// answers tell all that the destination of an instance depends on: 2.47 the flavor with its extra
/// specs, 2.64 a group's policy and rules, 2.26 tags, 2.96 the zone that an instance is pinned to,
/// 2.98 the properties of its image, 2.100 its scheduler hints. Source: nova,
/// `api/openstack/compute/rest_api_version_history.rst`.
pub const FLEET_MICROVERSION: &str = "2.100";

/// Servers per page; nova's own default limit is 1,000.
const PAGE: usize = 500;
/// Pages that are read of one list: 500,000 servers, beyond any cell of nova.
const PAGES_MAX: usize = 1000;

/// A record of nova's services.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Service {
    /// Its UUID.
    pub id: String,
    /// For example `nova-compute`.
    pub binary: String,
    /// The host as nova calls it.
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
    /// Whether somebody forced it down.
    #[serde(default)]
    pub forced_down: bool,
    /// When its record changed last, in UTC.
    #[serde(default)]
    pub updated_at: Option<String>,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Server {
    /// Its UUID.
    pub id: String,
    /// Its name; empty in answers that have none.
    #[serde(default)]
    pub name: String,
    /// `ACTIVE`, `BUILD`, `ERROR`, ...; empty in the answer to a creation.
    #[serde(default)]
    pub status: String,
    /// Its project.
    #[serde(default)]
    pub tenant_id: String,
    /// Its compute host; only administrators see it.
    #[serde(default, rename = "OS-EXT-SRV-ATTR:host")]
    pub host: Option<String>,
    /// What is being done with it.
    #[serde(default, rename = "OS-EXT-STS:task_state")]
    pub task_state: Option<String>,
    /// Its state as nova's cells see it: `active`, `building`, `error`, ...
    #[serde(default, rename = "OS-EXT-STS:vm_state")]
    pub vm_state: Option<String>,
    /// Its hypervisor's word: 1 where it runs (`nova/objects/fields.py`, `InstancePowerState`).
    #[serde(default, rename = "OS-EXT-STS:power_state")]
    pub power_state: Option<u8>,
    /// Its tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Why it is in state ERROR.
    #[serde(default)]
    pub fault: Option<Fault>,
    /// When it was created.
    #[serde(default)]
    pub created: String,
}

/// An instance with all that its place depends on, by [`FLEET_MICROVERSION`]. Of instances in a cell
/// that does not answer, nova tells the id and little more.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FleetServer {
    /// Its UUID.
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// `ACTIVE`, ...; `UNKNOWN` in a cell that does not answer.
    #[serde(default)]
    pub status: String,
    /// Its project.
    #[serde(default)]
    pub tenant_id: String,
    /// Its compute host; none before it is scheduled and when it is shelved and offloaded.
    #[serde(default, rename = "OS-EXT-SRV-ATTR:host")]
    pub host: Option<String>,
    /// What is being done with it.
    #[serde(default, rename = "OS-EXT-STS:task_state")]
    pub task_state: Option<String>,
    /// `active`, `stopped`, ...
    #[serde(default, rename = "OS-EXT-STS:vm_state")]
    pub vm_state: Option<String>,
    /// Its flavor as it was when the instance was made or last resized.
    #[serde(default)]
    pub flavor: Option<ServerFlavor>,
    /// Its image; nova writes an empty text for one that boots from a volume.
    #[serde(default)]
    pub image: ServerImage,
    /// Its owner's words to it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Its tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The zone that it is pinned to.
    #[serde(default)]
    pub pinned_availability_zone: Option<String>,
}

/// The flavor that is kept with an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct ServerFlavor {
    /// Its name.
    #[serde(default)]
    pub original_name: String,
    /// Virtual processors.
    #[serde(default)]
    pub vcpus: u64,
    /// MiB of memory.
    #[serde(default)]
    pub ram: u64,
    /// GiB of root disk.
    #[serde(default)]
    pub disk: u64,
    /// GiB of further local disk.
    #[serde(default)]
    pub ephemeral: u64,
    /// MiB of swap disk.
    #[serde(default)]
    pub swap: u64,
    /// Extra specs; none where the cloud's policy hides them.
    #[serde(default)]
    pub extra_specs: Option<BTreeMap<String, String>>,
}

/// What an instance was made from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum ServerImage {
    /// An image, with the properties that it had then.
    Image {
        /// Its properties.
        #[serde(default)]
        properties: BTreeMap<String, Value>,
    },
    /// A volume: nova writes an empty text.
    Volume(String),
}

impl Default for ServerImage {
    fn default() -> Self {
        Self::Volume(String::new())
    }
}

/// A hypervisor. Its capacity is placement's business; nova stopped telling it with 2.88.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Hypervisor {
    /// Its UUID, which is also that of its resource provider.
    pub id: String,
    /// Its name.
    pub hypervisor_hostname: String,
    /// For example `QEMU`.
    #[serde(default)]
    pub hypervisor_type: String,
    /// The version as one number: 8002004 is 8.2.4.
    #[serde(default)]
    pub hypervisor_version: u64,
    /// The compute service that manages it.
    pub service: HypervisorService,
}

/// The compute service of a hypervisor.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct HypervisorService {
    /// Its host.
    pub host: String,
}

/// A host aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Aggregate {
    /// Its name.
    pub name: String,
    /// Its hosts.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Its metadata.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// A server group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ServerGroup {
    /// Its UUID.
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// `affinity`, `anti-affinity`, `soft-affinity` or `soft-anti-affinity`.
    #[serde(default)]
    pub policy: String,
    /// What refines the policy.
    #[serde(default)]
    pub rules: ServerGroupRules,
    /// UUIDs of the instances in it.
    #[serde(default)]
    pub members: Vec<String>,
}

/// What refines a server group's policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct ServerGroupRules {
    /// Members of an anti-affinity group that one host may have.
    #[serde(default)]
    pub max_server_per_host: Option<u32>,
}

/// One NUMA cell of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TopologyNode {
    /// The host's cell that it is on; only administrators see it.
    #[serde(default)]
    pub host_node: Option<u32>,
    /// MiB of memory there.
    #[serde(default)]
    pub memory_mb: u64,
    /// Its processors, each on the host's; empty where they are not pinned.
    #[serde(default)]
    pub cpu_pinning: BTreeMap<String, u64>,
}

/// Why an instance is in state ERROR.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Fault {
    /// A number like an HTTP status.
    pub code: i64,
    /// The short message.
    pub message: String,
    /// The traceback; only administrators see it.
    #[serde(default)]
    pub details: Option<String>,
}

/// A flavor.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Flavor {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Virtual processors.
    pub vcpus: u64,
    /// MiB of memory.
    pub ram: u64,
    /// GiB of root disk.
    pub disk: u64,
}

/// Which instances of all projects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerFilter {
    /// On this compute host.
    pub host: Option<String>,
    /// In this status, for example `BUILD`.
    pub status: Option<String>,
    /// Whose name matches this pattern (a regular expression of the database, unanchored).
    pub name: Option<String>,
}

/// The calls; see [`Client::compute`].
#[derive(Debug, Clone, Copy)]
pub struct Compute<'a>(&'a Client);

impl Client {
    /// Calls to nova.
    #[must_use]
    pub fn compute(&self) -> Compute<'_> {
        Compute(self)
    }
}

/// How the next page of a list is asked for.
enum Page<'m, T> {
    /// By the last one of the page before.
    Marker(&'m (dyn Fn(&T) -> String + Sync)),
    /// By how many there were.
    Offset,
}

impl Compute<'_> {
    fn build(method: Method, path: impl Into<String>) -> Request {
        Request::new(method, ServiceType::Compute, path).microversion(MICROVERSION)
    }

    /// All service records, or those of one binary.
    ///
    /// # Errors
    /// As for every call of this crate: see [`Error`].
    pub async fn services(self, binary: Option<&str>) -> Result<Vec<Service>, Error> {
        let path = match binary {
            Some(binary) => format!("/os-services?binary={}", quote(binary)),
            None => "/os-services".to_owned(),
        };
        let answer = self.0.request(&Self::build(Method::GET, path)).await?;
        answer.expect_status(&[200])?.part("services")
    }

    /// Keeps new instances off a compute host, for this reason.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn disable_service(self, id: &str, reason: &str) -> Result<Service, Error> {
        self.update_service(id, json!({"status": "disabled", "disabled_reason": reason})).await
    }

    /// Lets new instances onto a compute host again.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn enable_service(self, id: &str) -> Result<Service, Error> {
        self.update_service(id, json!({"status": "enabled"})).await
    }

    async fn update_service(self, id: &str, body: Value) -> Result<Service, Error> {
        let request = Self::build(Method::PUT, format!("/os-services/{}", quote(id))).json(body);
        self.0.request(&request).await?.expect_status(&[200])?.part("service")
    }

    /// The instances of all projects that a filter lets through; for administrators.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Body`] where there are more than can be read.
    pub async fn servers_of_all(self, filter: &ServerFilter) -> Result<Vec<Server>, Error> {
        self.list(true, filter).await
    }

    /// The own project's instances that a filter lets through.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn servers(self, filter: &ServerFilter) -> Result<Vec<Server>, Error> {
        self.list(false, filter).await
    }

    async fn list(self, all: bool, filter: &ServerFilter) -> Result<Vec<Server>, Error> {
        let mut servers: Vec<Server> = Vec::new();
        for _ in 0..PAGES_MAX {
            let mut path = format!("/servers/detail?limit={PAGE}");
            if all {
                path.push_str("&all_tenants=1");
            }
            let wanted = [("host", &filter.host), ("status", &filter.status), ("name", &filter.name)];
            for (key, value) in wanted {
                if let Some(value) = value {
                    path.push_str(&format!("&{key}={}", quote(value)));
                }
            }
            if let Some(last) = servers.last() {
                path.push_str(&format!("&marker={}", quote(&last.id)));
            }
            let answer = self.0.request(&Self::build(Method::GET, path)).await?;
            let page: Vec<Server> = answer.expect_status(&[200])?.part("servers")?;
            // nova's own limit may be lower than ours: only an empty page is the end.
            if page.is_empty() {
                return Ok(servers);
            }
            servers.extend(page);
        }
        Err(Error::Body {
            request: "GET /servers/detail".to_owned(),
            why: format!("the list does not end after {PAGES_MAX} pages"),
            beginning: "(left out)".to_owned(),
        })
    }

    /// The instances of all projects, on one host where it is named, with all that their place depends on; for
    /// administrators.
    ///
    /// # Errors
    /// See [`Error`]; status 406 from a nova older than 2025.1.
    pub async fn fleet_servers(self, host: Option<&str>) -> Result<Vec<FleetServer>, Error> {
        let marker = |server: &FleetServer| server.id.clone();
        let on = host.map_or(String::new(), |host| format!("&host={}", quote(host)));
        let path = format!("/servers/detail?all_tenants=1{on}");
        let mut servers = self.pages(&path, "servers", Page::Marker(&marker)).await?;
        // nova's filter takes part of a name for the name.
        servers.retain(|server| host.is_none() || server.host.as_deref() == host);
        Ok(servers)
    }

    /// All hypervisors. Asked with 2.79, because from 2.88 on nova asks every host for its uptime
    /// within this one request.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn hypervisors(self) -> Result<Vec<Hypervisor>, Error> {
        let answer = self.0.request(&Self::build(Method::GET, "/os-hypervisors/detail")).await?;
        answer.expect_status(&[200])?.part("hypervisors")
    }

    /// All host aggregates.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn aggregates(self) -> Result<Vec<Aggregate>, Error> {
        let answer = self.0.request(&Self::build(Method::GET, "/os-aggregates")).await?;
        answer.expect_status(&[200])?.part("aggregates")
    }

    /// The server groups of all projects; for administrators.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn server_groups_of_all(self) -> Result<Vec<ServerGroup>, Error> {
        self.pages("/os-server-groups?all_projects=True", "server_groups", Page::Offset).await
    }

    /// The NUMA cells of an instance (2.78); none where it has no topology.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn topology(self, id: &str) -> Result<Vec<TopologyNode>, Error> {
        let request = Self::build(Method::GET, format!("/servers/{}/topology", quote(id)));
        let answer = self.0.request(&request).await?.expect_status(&[200, 404])?;
        if answer.status == 404 { Ok(Vec::new()) } else { answer.part("nodes") }
    }

    /// All pages of a list, by [`FLEET_MICROVERSION`].
    async fn pages<T: DeserializeOwned>(
        self,
        path: &str,
        key: &str,
        by: Page<'_, T>,
    ) -> Result<Vec<T>, Error> {
        let mut all: Vec<T> = Vec::new();
        for _ in 0..PAGES_MAX {
            let mut page_path = format!("{path}&limit={PAGE}");
            match (&by, all.last()) {
                (Page::Marker(marker), Some(last)) => {
                    page_path.push_str(&format!("&marker={}", quote(&marker(last))));
                }
                (Page::Offset, Some(_)) => page_path.push_str(&format!("&offset={}", all.len())),
                (_, None) => {}
            }
            let request =
                Request::new(Method::GET, ServiceType::Compute, page_path).microversion(FLEET_MICROVERSION);
            let page: Vec<T> = self.0.request(&request).await?.expect_status(&[200])?.part(key)?;
            // nova's own limit may be lower than ours: only an empty page is the end.
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
        Err(Error::Body {
            request: format!("GET {path}"),
            why: format!("the list does not end after {PAGES_MAX} pages"),
            beginning: "(left out)".to_owned(),
        })
    }

    /// Asks for an instance; the answer has its id, and it is not ACTIVE yet.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_server(self, server: &NewServer) -> Result<Server, Error> {
        let request = Self::build(Method::POST, "/servers").json(server.body());
        self.0.request(&request).await?.expect_status(&[202])?.part("server")
    }

    /// An instance; `None` where there is none of that id.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn server(self, id: &str) -> Result<Option<Server>, Error> {
        let request = Self::build(Method::GET, format!("/servers/{}", quote(id)));
        let answer = self.0.request(&request).await?.expect_status(&[200, 404])?;
        if answer.status == 404 { Ok(None) } else { answer.part("server").map(Some) }
    }

    /// Asks for the deletion of an instance; `false` where there was none.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_server(self, id: &str) -> Result<bool, Error> {
        let request = Self::build(Method::DELETE, format!("/servers/{}", quote(id)));
        Ok(self.0.request(&request).await?.expect_status(&[204, 404])?.status == 204)
    }

    /// The flavor of that name.
    ///
    /// # Errors
    /// [`Error::Name`] where there is not exactly one; else see [`Error`].
    pub async fn flavor(self, name: &str) -> Result<Flavor, Error> {
        let answer = self.0.request(&Self::build(Method::GET, "/flavors/detail")).await?;
        let mut flavors: Vec<Flavor> = answer.expect_status(&[200])?.part("flavors")?;
        flavors.retain(|flavor| flavor.name == name);
        self.0.only("flavor", name, flavors)
    }

    /// How many instances the own project may have; `None` where there is no limit.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn instances_max(self) -> Result<Option<u64>, Error> {
        let answer = self.0.request(&Self::build(Method::GET, "/limits")).await?;
        let limits: Value = answer.expect_status(&[200])?.part("limits")?;
        // nova says -1 for no limit.
        Ok(limits["absolute"]["maxTotalInstances"].as_u64())
    }

    /// The microversions that nova serves.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn versions(self) -> Result<crate::VersionDocument, Error> {
        self.0.version_document(ServiceType::Compute).await
    }
}

impl Client {
    /// The one thing of that name.
    pub(crate) fn only<T>(&self, what: &'static str, name: &str, mut found: Vec<T>) -> Result<T, Error> {
        match (found.pop(), found.len()) {
            (Some(one), 0) => Ok(one),
            (popped, rest) => Err(Error::Name {
                what,
                name: name.to_owned(),
                count: rest + usize::from(popped.is_some()),
                entry: self.config().entry.clone(),
            }),
        }
    }
}

/// Text as a part of a path or query.
#[must_use]
pub(crate) fn quote(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_server_asks_for_what_was_given() {
        let mut server = NewServer {
            name: "volutus-canary-1".to_owned(),
            image: "i".to_owned(),
            flavor: "f".to_owned(),
            attachments: vec![Attachment::Port("p".to_owned())],
            destination: Destination::Zone("az1:cmp1".to_owned()),
        };
        insta::assert_snapshot!(server.body(), @r#"{"server":{"availability_zone":"az1:cmp1","flavorRef":"f","imageRef":"i","name":"volutus-canary-1","networks":[{"port":"p"}]}}"#);
        server.attachments.clear();
        server.destination = Destination::Host("cmp1".to_owned());
        insta::assert_snapshot!(server.body(), @r#"{"server":{"flavorRef":"f","host":"cmp1","imageRef":"i","name":"volutus-canary-1","networks":"none"}}"#);
    }

    #[test]
    fn servers_of_administrators_and_of_members_are_read() {
        let server: Server = serde_json::from_str(
            r#"{"id": "s", "name": "n", "status": "ERROR", "tenant_id": "t", "created": "2026-01-01T00:00:00Z",
                "OS-EXT-SRV-ATTR:host": "cmp1", "OS-EXT-STS:task_state": null, "OS-EXT-STS:vm_state": "error",
                "fault": {"code": 500, "message": "No valid host was found."}}"#,
        )
        .unwrap();
        assert_eq!(server.host.as_deref(), Some("cmp1"));
        assert_eq!(server.fault.unwrap().message, "No valid host was found.");
        let created: Server = serde_json::from_str(r#"{"id": "s", "links": []}"#).unwrap();
        assert_eq!((created.status.as_str(), created.host), ("", None));
    }

    #[test]
    fn images_and_volumes_are_told_apart() {
        let read = |image: &str| -> FleetServer {
            serde_json::from_str(&format!(
                r#"{{"id": "s", "image": {image}, "flavor": {{"vcpus": 1, "ram": 512,
                "disk": 1, "ephemeral": 0, "swap": 0, "original_name": "m1", "extra_specs": {{"a": "b"}}}}}}"#
            ))
            .unwrap()
        };
        assert_eq!(read("\"\"").image, ServerImage::Volume(String::new()));
        let ServerImage::Image { properties } =
            read(r#"{"id": "i", "links": [], "properties": {"hw_tpm_version": "2.0"}}"#).image
        else {
            panic!("an image was read as a volume");
        };
        assert_eq!(properties["hw_tpm_version"], "2.0");
        // What nova tells of an instance in a cell that does not answer.
        let unknown: FleetServer =
            serde_json::from_str(r#"{"id": "s", "status": "UNKNOWN", "tenant_id": "t", "created": "x"}"#)
                .unwrap();
        assert_eq!((unknown.flavor, unknown.host), (None, None));
    }

    #[test]
    fn text_is_quoted_for_paths() {
        assert_eq!(quote("a b/ü&c"), "a%20b%2F%C3%BC%26c");
    }
}
