//! Which agents there are, and which of them may look after a network or router of another one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use volutus_openstack::Error;
use volutus_openstack::agents::{
    Agent, AgentPort, DHCP_AGENT, L3_AGENT, RESERVED_DHCP_PORT, Router, Segment, ServedNetwork,
};
use volutus_openstack::network::Networking;

use super::marks::mark_of;

/// The DHCP and L3 agents of a cloud, and what the hosts of those that serve for others are wired to.
pub(crate) struct Agents {
    all: Vec<Agent>,
    wiring: BTreeMap<String, Wiring>,
}

/// What a host is wired to, by what its layer 2 agents report.
#[derive(Default)]
struct Wiring {
    physical: BTreeSet<String>,
    tunnels: BTreeSet<String>,
    alive: bool,
}

impl Agents {
    /// Asks for them.
    pub(crate) async fn look(network: Networking<'_>) -> Result<Self, Error> {
        let all = network.agents_of(&[DHCP_AGENT, L3_AGENT]).await?;
        let hosts = all.iter().filter(|agent| !is_local(agent)).map(|agent| agent.host.clone()).collect();
        let mut wiring: BTreeMap<String, Wiring> = BTreeMap::new();
        for agent in network.agents_on(&hosts).await? {
            let physical = ["bridge_mappings", "interface_mappings"].map(|key| agent.configurations.get(key));
            let tunnels = agent.configurations.get("tunnel_types").and_then(Value::as_array);
            if physical.iter().all(Option::is_none) && tunnels.is_none() {
                continue;
            }
            let wired = wiring.entry(agent.host.clone()).or_default();
            wired.alive |= agent.alive;
            let names = physical.into_iter().flatten().filter_map(Value::as_object);
            wired.physical.extend(names.flat_map(|names| names.keys().cloned()));
            let types = tunnels.into_iter().flatten().filter_map(Value::as_str);
            wired.tunnels.extend(types.map(str::to_owned));
        }
        Ok(Self { all, wiring })
    }

    /// The agents of a host whose duties may be moved.
    pub(crate) fn on(&self, host: &str) -> impl Iterator<Item = &Agent> {
        self.all.iter().filter(move |agent| agent.host == host && !is_local(agent))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Agent> {
        self.all.iter().filter(|agent| !is_local(agent))
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Agent> {
        self.all.iter().find(|agent| agent.id == id)
    }

    /// Whether an agent other than `own` serves, and goes on serving as far as Volutus knows.
    pub(crate) fn serves(&self, id: &str, own: &Agent) -> bool {
        self.get(id).is_some_and(|agent| is_fit(agent, own))
    }

    /// Whether another agent than `own` answers DHCP in a network: wired, enabled, reporting, and reaching
    /// what `own` reaches.
    pub(crate) fn is_served(&self, network: &ServedNetwork, own: &Agent, ports: &[AgentPort]) -> bool {
        let here = ports.iter().filter(|port| port.network_id == network.id);
        here.filter(|port| port.device_id != RESERVED_DHCP_PORT).any(|port| {
            self.all.iter().any(|agent| {
                agent.agent_type == DHCP_AGENT
                    && port.is_active_on(&agent.host)
                    && is_fit(agent, own)
                    && self.covers(&agent.host, &own.host, network)
            })
        })
    }

    /// The agents that may serve a network for `own`, those first that are nearest and have least to do.
    /// `lent` is what was given to them since they reported. Source of the conditions: neutron,
    /// `scheduler/dhcp_agent_scheduler.py`.
    pub(crate) fn for_network(
        &self,
        network: &ServedNetwork,
        own: &Agent,
        lent: &BTreeMap<String, u64>,
    ) -> Vec<&Agent> {
        let fit = self.all.iter().filter(|agent| {
            agent.agent_type == DHCP_AGENT
                && is_fit(agent, own)
                && is_in_zone(agent, &network.availability_zone_hints)
                && self.covers(&agent.host, &own.host, network)
        });
        ordered(fit, own, "networks", lent)
    }

    /// The agents that may carry a router for `own`. `networks` are those that it is connected to. Source of
    /// the conditions: neutron, `get_l3_agent_candidates` in `db/l3_agentschedulers_db.py`.
    pub(crate) fn for_router(
        &self,
        router: &Router,
        networks: &[&ServedNetwork],
        own: &Agent,
        lent: &BTreeMap<String, u64>,
    ) -> Vec<&Agent> {
        let fit = self.all.iter().filter(|agent| {
            let only = agent.text("router_id");
            let internal = agent.configurations.get("handle_internal_only_routers");
            agent.agent_type == L3_AGENT
                && !is_local(agent)
                && is_fit(agent, own)
                && is_in_zone(agent, &router.availability_zone_hints)
                && (!router.distributed || agent.text("agent_mode") == "dvr_snat")
                && (only.is_empty() || only == router.id)
                && (router.external_gateway_info.is_some()
                    || internal.and_then(Value::as_bool).unwrap_or(true))
                && networks.iter().all(|network| self.covers(&agent.host, &own.host, network))
        });
        ordered(fit, own, "routers", lent)
    }

    /// Whether a host reaches all of a network that another one reaches. What the other one's layer 2 agents
    /// do not tell is no condition.
    fn covers(&self, host: &str, own: &str, network: &ServedNetwork) -> bool {
        let reach = |host: &str| -> BTreeSet<&Segment> {
            let Some(wired) = self.wiring.get(host) else { return BTreeSet::new() };
            let segments = network.segments.iter().chain([&network.segment]);
            segments
                .filter(|segment| match (&segment.physical_network, &segment.network_type) {
                    (Some(name), _) => wired.physical.contains(name),
                    (None, Some(kind)) => wired.tunnels.contains(kind),
                    (None, None) => false,
                })
                .collect()
        };
        let wired = self.wiring.get(host).is_none_or(|wired| wired.alive);
        wired && reach(own).is_subset(&reach(host))
    }
}

/// Whether an agent has only what belongs to the instances of its own host: these modes take no router that is
/// not on all hosts, and neutron refuses to put one there or to take one off.
pub(crate) fn is_local(agent: &Agent) -> bool {
    agent.agent_type == L3_AGENT && matches!(agent.text("agent_mode"), "dvr" | "dvr_no_external")
}

fn is_fit(agent: &Agent, own: &Agent) -> bool {
    agent.host != own.host && agent.alive && agent.admin_state_up && mark_of(agent).0.is_none()
}

fn is_in_zone(agent: &Agent, hints: &[String]) -> bool {
    hints.is_empty() || agent.availability_zone.as_ref().is_some_and(|zone| hints.contains(zone))
}

fn ordered<'a>(
    agents: impl Iterator<Item = &'a Agent>,
    own: &Agent,
    what: &str,
    lent: &BTreeMap<String, u64>,
) -> Vec<&'a Agent> {
    let mut found: Vec<&Agent> = agents.collect();
    found.sort_by_key(|agent| {
        let load = agent.count(what) + lent.get(&agent.id).copied().unwrap_or(0);
        (agent.availability_zone != own.availability_zone, load, agent.host.clone())
    });
    found
}
