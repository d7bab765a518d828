//! Calls to neutron about its own agents, and about the networks and routers that they serve.
//!
//! Sources: neutron, `extensions/agent.py`, `extensions/dhcpagentscheduler.py`,
//! `extensions/l3agentscheduler.py`, `extensions/tagging.py` and what they call in `db/`.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::catalog::ServiceType;
use crate::client::Request;
use crate::compute::quote;
use crate::error::Error;
use crate::network::Networking;

/// The type of agents that answer DHCP. Source: neutron-lib, `constants.AGENT_TYPE_DHCP`.
pub const DHCP_AGENT: &str = "DHCP agent";
/// The type of agents that carry routers. Source: neutron-lib, `constants.AGENT_TYPE_L3`.
pub const L3_AGENT: &str = "L3 agent";
/// What a DHCP port belongs to whose agent was taken off the network: the next agent takes the port with
/// its address. Source: neutron-lib, `constants.DEVICE_ID_RESERVED_DHCP_PORT`.
pub const RESERVED_DHCP_PORT: &str = "reserved_dhcp_port";
/// Whose ports DHCP ports are. Source: neutron-lib, `constants.DEVICE_OWNER_DHCP`.
const DHCP_OWNER: &str = "network:dhcp";

/// Ids that one request asks for: 40 of them are less than 2 KiB of address.
const IDS: usize = 40;
/// Records per page, and pages that are read: 2,000,000 records.
const PAGE: usize = 1000;
const PAGES_MAX: usize = 2000;

/// One of neutron's agents.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Agent {
    /// Its id.
    pub id: String,
    /// What it is, for example [`DHCP_AGENT`].
    pub agent_type: String,
    /// Its host.
    pub host: String,
    /// Whether it reported within `agent_down_time`, 75 s by default.
    pub alive: bool,
    /// Whether it is enabled. An L3 agent that is not lets go of all its routers, and a DHCP agent of all
    /// its networks *with their ports*, unless `enable_services_on_agents_with_admin_state_down` is set.
    pub admin_state_up: bool,
    /// Free text, which no report of the agent touches; 255 characters at the most.
    #[serde(default)]
    pub description: Option<String>,
    /// Its availability zone; only DHCP and L3 agents have one.
    #[serde(default)]
    pub availability_zone: Option<String>,
    /// Its last report, by the server's clock.
    #[serde(default)]
    pub heartbeat_timestamp: Option<String>,
    /// What it says of itself.
    #[serde(default)]
    pub configurations: BTreeMap<String, Value>,
}

impl Agent {
    /// A number that it reports, for example how many `networks` it serves at the moment; 0 where it
    /// reports none.
    #[must_use]
    pub fn count(&self, key: &str) -> u64 {
        self.configurations.get(key).and_then(Value::as_u64).unwrap_or(0)
    }

    /// A text that it reports; empty where it reports none.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        self.configurations.get(key).and_then(Value::as_str).unwrap_or("")
    }
}

/// An agent that carries a router.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Carrier {
    /// The agent.
    #[serde(flatten)]
    pub agent: Agent,
    /// What it is to the router where that is an HA router: `active`, `standby`, `unknown`. Neutron tells
    /// `standby` of an agent that is down or disabled, whatever it does.
    #[serde(default)]
    pub ha_state: Option<String>,
}

/// A network, as far as it matters who serves it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ServedNetwork {
    /// Its id.
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Whether it is enabled; agents serve no other.
    #[serde(default = "yes")]
    pub admin_state_up: bool,
    /// The zones that its agents have to be in; any where empty.
    #[serde(default)]
    pub availability_zone_hints: Vec<String>,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeSet<String>,
    /// Its only segment, where it has one.
    #[serde(flatten)]
    pub segment: Segment,
    /// Its segments, where it has several.
    #[serde(default)]
    pub segments: Vec<Segment>,
}

/// How a network is carried; only administrators see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Segment {
    /// `flat`, `vlan`, `vxlan`, ...
    #[serde(default, rename = "provider:network_type")]
    pub network_type: Option<String>,
    /// The physical network, where one carries it.
    #[serde(default, rename = "provider:physical_network")]
    pub physical_network: Option<String>,
}

/// A router.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Router {
    /// Its id.
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Whether it is enabled; agents carry no other.
    #[serde(default = "yes")]
    pub admin_state_up: bool,
    /// Whether several agents carry it, of which one is active (VRRP).
    #[serde(default)]
    pub ha: bool,
    /// Whether it is on every host that has its instances, and only its source NAT on an agent of its own.
    #[serde(default)]
    pub distributed: bool,
    /// Its gateway.
    #[serde(default)]
    pub external_gateway_info: Option<Gateway>,
    /// The zones that its agents have to be in; any where empty.
    #[serde(default)]
    pub availability_zone_hints: Vec<String>,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeSet<String>,
}

/// The gateway of a router.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Gateway {
    /// The external network.
    pub network_id: String,
}

/// A port that an agent serves by.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AgentPort {
    /// Its id.
    pub id: String,
    /// Its network.
    pub network_id: String,
    /// What it belongs to: of a DHCP port what stands for agent and network, of a router's port the router.
    #[serde(default)]
    pub device_id: String,
    /// For example `network:dhcp`, `network:router_ha_interface`.
    #[serde(default)]
    pub device_owner: String,
    /// `ACTIVE` where it is wired on its host.
    pub status: String,
    /// The host that it is bound to.
    #[serde(default, rename = "binding:host_id")]
    pub host: Option<String>,
}

impl AgentPort {
    /// Whether it is wired on a host.
    #[must_use]
    pub fn is_active_on(&self, host: &str) -> bool {
        self.status == "ACTIVE" && self.host.as_deref() == Some(host)
    }
}

/// What carries tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tagged {
    /// Networks.
    Networks,
    /// Routers.
    Routers,
}

impl Tagged {
    fn path(self) -> &'static str {
        match self {
            Self::Networks => "networks",
            Self::Routers => "routers",
        }
    }
}

fn yes() -> bool {
    true
}

fn query(pairs: impl IntoIterator<Item = (&'static str, String)>) -> String {
    pairs.into_iter().map(|(key, value)| format!("{key}={}", quote(&value))).collect::<Vec<_>>().join("&")
}

impl Networking<'_> {
    /// The agents of certain types, on all hosts; for administrators. A cloud without the extension has
    /// none.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn agents_of(self, types: &[&str]) -> Result<Vec<Agent>, Error> {
        self.agents(query(types.iter().map(|kind| ("agent_type", (*kind).to_owned())))).await
    }

    /// The agents of all types on certain hosts.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn agents_on(self, hosts: &BTreeSet<String>) -> Result<Vec<Agent>, Error> {
        let mut found = Vec::new();
        for part in hosts.iter().collect::<Vec<_>>().chunks(IDS) {
            found.extend(self.agents(query(part.iter().map(|host| ("host", (*host).clone())))).await?);
        }
        Ok(found)
    }

    /// Agents are not asked for in pages: neutron's listing of them takes no page's limit.
    async fn agents(self, query: String) -> Result<Vec<Agent>, Error> {
        self.listed(format!("/agents?{query}"), "agents").await
    }

    /// Enables or disables an agent, where that is wanted, and writes its description, in one request.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn update_agent(
        self,
        agent: &str,
        admin_state_up: Option<bool>,
        description: Option<&str>,
    ) -> Result<(), Error> {
        let mut fields = json!({ "description": description });
        if let Some(up) = admin_state_up {
            fields["admin_state_up"] = Value::from(up);
        }
        let path = format!("/agents/{}", quote(agent));
        self.ask(Method::PUT, path, Some(json!({ "agent": fields })), &[200]).await.map(|_| ())
    }

    /// The networks that a DHCP agent serves; none where there is no such agent any more.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn dhcp_networks(self, agent: &str) -> Result<Vec<ServedNetwork>, Error> {
        self.listed(format!("/agents/{}/dhcp-networks", quote(agent)), "networks").await
    }

    /// The routers that an L3 agent carries; of distributed ones those whose source NAT it does. None where
    /// there is no such agent any more.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn l3_routers(self, agent: &str) -> Result<Vec<Router>, Error> {
        self.listed(format!("/agents/{}/l3-routers", quote(agent)), "routers").await
    }

    /// What a path lists; nothing where there is no such path, or no such object any more.
    async fn listed<T: DeserializeOwned>(self, path: String, key: &str) -> Result<Vec<T>, Error> {
        let answer = self.ask(Method::GET, path, None, &[200, 404]).await?;
        if answer.status == 404 { Ok(Vec::new()) } else { answer.part(key) }
    }

    /// The DHCP agents that serve a network; none where the network is gone.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn dhcp_agents_of(self, network: &str) -> Result<Vec<Agent>, Error> {
        self.listed(format!("/networks/{}/dhcp-agents", quote(network)), "agents").await
    }

    /// The L3 agents that carry a router; none where the router is gone.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn l3_agents_of(self, router: &str) -> Result<Vec<Carrier>, Error> {
        self.listed(format!("/routers/{}/l3-agents", quote(router)), "agents").await
    }

    /// Has a DHCP agent serve a network; `false` where it did. Neutron lets an administrator go beyond
    /// `dhcp_agents_per_network`.
    ///
    /// # Errors
    /// See [`Error`]; 404 where agent or network is gone, and where the agent is disabled.
    pub async fn add_dhcp_network(self, agent: &str, network: &str) -> Result<bool, Error> {
        let path = format!("/agents/{}/dhcp-networks", quote(agent));
        let answer = self.ask(Method::POST, path, Some(json!({"network_id": network})), &[201, 409]).await?;
        Ok(answer.status == 201)
    }

    /// Takes a DHCP agent off a network; `false` where it did not serve it. Its port stays as
    /// [`RESERVED_DHCP_PORT`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remove_dhcp_network(self, agent: &str, network: &str) -> Result<bool, Error> {
        let path = format!("/agents/{}/dhcp-networks/{}", quote(agent), quote(network));
        Ok(self.ask(Method::DELETE, path, None, &[204, 404, 409]).await?.status == 204)
    }

    /// Has an L3 agent carry a router; `true` where it does now, `false` where neutron says that it must
    /// not: another one carries it, or it is not fit for it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn add_l3_router(self, agent: &str, router: &str) -> Result<bool, Error> {
        let path = format!("/agents/{}/l3-routers", quote(agent));
        let body = json!({"router_id": router});
        Ok(self.ask(Method::POST, path, Some(body), &[201, 404, 409]).await?.status == 201)
    }

    /// Takes a router off an L3 agent; whether it was there is no matter to neutron.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remove_l3_router(self, agent: &str, router: &str) -> Result<(), Error> {
        let path = format!("/agents/{}/l3-routers/{}", quote(agent), quote(router));
        self.ask(Method::DELETE, path, None, &[204, 404]).await.map(|_| ())
    }

    /// The networks that carry a tag.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn networks_tagged(self, tag: &str) -> Result<Vec<ServedNetwork>, Error> {
        self.pages("/networks", &query([("tags", tag.to_owned())]), "networks").await
    }

    /// Networks by their ids; those that are gone are left out.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn networks_by_id(self, ids: &BTreeSet<String>) -> Result<Vec<ServedNetwork>, Error> {
        self.by_ids("/networks", "id", ids, &[], "networks").await
    }

    /// The routers that carry a tag.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn routers_tagged(self, tag: &str) -> Result<Vec<Router>, Error> {
        self.pages("/routers", &query([("tags", tag.to_owned())]), "routers").await
    }

    /// Of these networks those that have a subnet with DHCP: agents serve no others.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn with_dhcp(self, networks: &BTreeSet<String>) -> Result<BTreeSet<String>, Error> {
        #[derive(Deserialize)]
        struct Subnet {
            id: String,
            network_id: String,
        }
        impl HasId for Subnet {
            fn id(&self) -> &str {
                &self.id
            }
        }
        let only = [("enable_dhcp", "true".to_owned())];
        let found: Vec<Subnet> = self.by_ids("/subnets", "network_id", networks, &only, "subnets").await?;
        Ok(found.into_iter().map(|subnet| subnet.network_id).collect())
    }

    /// The DHCP ports of networks, reserved ones among them.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn dhcp_ports(self, networks: &BTreeSet<String>) -> Result<Vec<AgentPort>, Error> {
        let only = [("device_owner", DHCP_OWNER.to_owned())];
        self.by_ids("/ports", "network_id", networks, &only, "ports").await
    }

    /// The ports of routers, those among them by which HA routers speak to each other.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn router_ports(self, routers: &BTreeSet<String>) -> Result<Vec<AgentPort>, Error> {
        self.by_ids("/ports", "device_id", routers, &[], "ports").await
    }

    /// Puts a tag on a network or router; one that is there stays.
    ///
    /// # Errors
    /// See [`Error`]; 404 where it is gone.
    pub async fn add_tag(self, what: Tagged, id: &str, tag: &str) -> Result<(), Error> {
        let path = format!("/{}/{}/tags/{}", what.path(), quote(id), quote(tag));
        self.ask(Method::PUT, path, None, &[200, 201]).await.map(|_| ())
    }

    /// Takes a tag off a network or router, where it is there.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remove_tag(self, what: Tagged, id: &str, tag: &str) -> Result<(), Error> {
        let path = format!("/{}/{}/tags/{}", what.path(), quote(id), quote(tag));
        self.ask(Method::DELETE, path, None, &[204, 404]).await.map(|_| ())
    }

    async fn by_ids<T: DeserializeOwned + HasId>(
        self,
        path: &str,
        key: &'static str,
        ids: &BTreeSet<String>,
        only: &[(&'static str, String)],
        part: &str,
    ) -> Result<Vec<T>, Error> {
        let mut found = Vec::new();
        for some in ids.iter().collect::<Vec<_>>().chunks(IDS) {
            let pairs = some.iter().map(|id| (key, (*id).clone())).chain(only.iter().cloned());
            found.extend(self.pages(path, &query(pairs), part).await?);
        }
        Ok(found)
    }

    /// A whole list: a site may limit how much of one is answered at once (`pagination_max_limit`).
    async fn pages<T: DeserializeOwned + HasId>(
        self,
        path: &str,
        query: &str,
        part: &str,
    ) -> Result<Vec<T>, Error> {
        let mut found: Vec<T> = Vec::new();
        for _ in 0..PAGES_MAX {
            let marker = found.last().map(|last| format!("&marker={}", quote(last.id()))).unwrap_or_default();
            let path = format!("{path}?{query}&sort_key=id&sort_dir=asc&limit={PAGE}{marker}");
            let page: Vec<T> = self.ask(Method::GET, path, None, &[200]).await?.part(part)?;
            if page.is_empty() {
                return Ok(found);
            }
            found.extend(page);
        }
        Err(Error::Body {
            request: format!("GET {path}?{query}"),
            why: format!("the list does not end after {PAGES_MAX} pages"),
            beginning: "(left out)".to_owned(),
        })
    }

    async fn ask(
        self,
        method: Method,
        path: String,
        body: Option<Value>,
        expected: &[u16],
    ) -> Result<crate::answer::Answer, Error> {
        let request = Request::new(method, ServiceType::Network, path);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        self.0.request(&request).await?.expect_status(expected)
    }
}

/// What lists are read page by page by.
trait HasId {
    fn id(&self) -> &str;
}

impl HasId for ServedNetwork {
    fn id(&self) -> &str {
        &self.id
    }
}

impl HasId for Router {
    fn id(&self) -> &str {
        &self.id
    }
}

impl HasId for AgentPort {
    fn id(&self) -> &str {
        &self.id
    }
}
