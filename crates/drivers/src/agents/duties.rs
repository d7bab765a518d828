//! What neutron's own agents have to do on each host, for plans and whoever reads them.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _};
use volutus_model::fleet::Duties;
use volutus_model::name::HostName;
use volutus_openstack::Error;
use volutus_openstack::agents::{Agent, Carrier, DHCP_AGENT, Router, ServedNetwork};
use volutus_openstack::network::Networking;

use super::marks::mark_of;
use super::reach::Agents;
use super::{l3, named};

/// Agents that are asked for their networks or routers at once.
const ASKED_AT_ONCE: usize = 16;

/// Looks at the duties of all hosts that have any.
pub(crate) async fn observe(network: Networking<'_>) -> Result<BTreeMap<HostName, Duties>, Error> {
    let agents = Agents::look(network).await?;
    // What somebody disabled serves nothing.
    let serving: Vec<&Agent> =
        agents.all().filter(|agent| agent.admin_state_up || mark_of(agent).0.is_some()).collect();
    let asks: Vec<_> = serving
        .into_iter()
        .map(|agent| async move {
            Ok::<_, Error>(if agent.agent_type == DHCP_AGENT {
                (agent, network.dhcp_networks(&agent.id).await?, Vec::new())
            } else {
                (agent, Vec::new(), network.l3_routers(&agent.id).await?)
            })
        })
        .collect();
    let mut carried: Vec<(&Agent, Vec<ServedNetwork>, Vec<Router>)> =
        futures::stream::iter(asks).buffered(ASKED_AT_ONCE).try_collect().await?;
    for (_, networks, routers) in &mut carried {
        networks.retain(|one| one.admin_state_up);
        routers.retain(|one| one.admin_state_up);
    }
    let ids = carried.iter().flat_map(|(_, networks, _)| networks).map(|one| one.id.clone()).collect();
    let with_dhcp = network.with_dhcp(&ids).await?;
    let by_id: BTreeMap<&str, &Router> =
        carried.iter().flat_map(|(_, _, routers)| routers).map(|one| (one.id.as_str(), one)).collect();
    let ha: Vec<&Router> = by_id.values().copied().filter(|one| one.ha).collect();
    let single: Vec<Router> = by_id.values().filter(|one| !one.ha).map(|one| (*one).clone()).collect();
    let carriers: BTreeMap<&str, Vec<Carrier>> = l3::carriers_of(network, &ha)
        .await?
        .into_iter()
        .map(|(one, there)| (one.id.as_str(), there))
        .collect();
    let connected = l3::networks_of(network, &single).await?;
    let seen = Seen { agents: &agents, carried: &carried, with_dhcp, carriers, connected };
    let mut found: BTreeMap<HostName, Duties> = BTreeMap::new();
    for (agent, networks, routers) in &carried {
        // A host whose name is none of Volutus's has no part in a plan.
        let Ok(host) = HostName::new(agent.host.clone()) else { continue };
        let duties = found.entry(host).or_default();
        duties.aside |= mark_of(agent).0.is_some();
        seen.add_networks(agent, networks, duties);
        seen.add_routers(agent, routers, duties);
    }
    found.retain(|_, duties| *duties != Duties::default());
    Ok(found)
}

struct Seen<'a> {
    agents: &'a Agents,
    carried: &'a [(&'a Agent, Vec<ServedNetwork>, Vec<Router>)],
    with_dhcp: BTreeSet<String>,
    /// By HA router.
    carriers: BTreeMap<&'a str, Vec<Carrier>>,
    /// By router on one agent only: its networks.
    connected: BTreeMap<String, Vec<ServedNetwork>>,
}

impl Seen<'_> {
    fn add_networks(&self, own: &Agent, networks: &[ServedNetwork], duties: &mut Duties) {
        for one in networks.iter().filter(|one| self.with_dhcp.contains(&one.id)) {
            duties.networks += 1;
            let fit = self.agents.for_network(one, own, &BTreeMap::new());
            let served = self.carried.iter().any(|(agent, networks, _)| {
                fit.iter().any(|fit| fit.id == agent.id) && networks.iter().any(|other| other.id == one.id)
            });
            if !served {
                duties.networks_alone += 1;
                if fit.is_empty() {
                    duties.stuck.push(format!("network {}", named(&one.name, &one.id)));
                }
            }
        }
    }

    fn add_routers(&self, own: &Agent, routers: &[Router], duties: &mut Duties) {
        for one in routers {
            let movable = if one.ha {
                duties.ha_routers += 1;
                let carriers = self.carriers.get(one.id.as_str()).map(Vec::as_slice).unwrap_or_default();
                let is_active = |carrier: &&Carrier| carrier.ha_state.as_deref() == Some("active");
                let active = carriers.iter().filter(is_active).any(|carrier| carrier.agent.id == own.id);
                duties.ha_active += u32::from(active);
                carriers.iter().any(|carrier| {
                    self.agents.serves(&carrier.agent.id, own)
                        && matches!(carrier.ha_state.as_deref(), Some("active" | "standby"))
                })
            } else {
                duties.routers += 1;
                let networks = self.connected.get(&one.id).map(Vec::as_slice).unwrap_or_default();
                let networks: Vec<&ServedNetwork> = networks.iter().collect();
                !self.agents.for_router(one, &networks, own, &BTreeMap::new()).is_empty()
            };
            if !movable {
                duties.stuck.push(format!("router {}", named(&one.name, &one.id)));
            }
        }
    }
}
