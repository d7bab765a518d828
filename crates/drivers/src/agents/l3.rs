//! Routers: HA routers become active elsewhere, all others are moved to another agent and back.
//!
//! An HA router is on several agents, and VRRP has one of them active. The host's agent is disabled: it then
//! lets go of its routers in order, keepalived says farewell, and another agent takes over at once instead of
//! after three lost advertisements. Nothing about who carries the router changes in neutron, and nothing is
//! rescheduled from an agent that is disabled (`get_down_router_bindings`). A router that is on one agent only
//! is taken off it and put on another one, and is away until that one has built it.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _};
use volutus_openstack::Error;
use volutus_openstack::agents::{Agent, AgentPort, Carrier, Router, ServedNetwork, Tagged};
use volutus_openstack::network::Networking;

use super::marks::{Duty, Mark, mark_of};
use super::reach::Agents;
use super::{Halt, Looks, Moved, alone, disabled_by_others, named, reported, some, unless_gone, write_mark};
use crate::attempt::{Attempt, permanent, state};

/// Routers that are moved at once: each is away until its new agent, which takes some at a time, has built it.
const AT_ONCE: usize = 4;
/// Routers whose agents are asked for at once.
const ASKED_AT_ONCE: usize = 16;
/// The port by which an HA router's agents speak to each other. Source: neutron-lib,
/// `constants.DEVICE_OWNER_ROUTER_HA_INTF`.
const HA_PORT: &str = "network:router_ha_interface";
/// A router's ports that are where the router is. Source: neutron-lib, `constants.DEVICE_OWNER_ROUTER_*`.
const INNER_PORTS: [&str; 2] = ["network:router_interface", "network:router_centralized_snat"];
const GATEWAY_PORT: &str = "network:router_gateway";

/// What one look finds.
#[derive(Default)]
struct Seen {
    /// Routers on this agent only, and those that may carry them, best first.
    single: Vec<(Router, Vec<Agent>)>,
    /// HA routers.
    ha: Vec<Router>,
    /// HA routers that no other agent is active for.
    pending: Vec<String>,
    /// Routers that no other agent can carry.
    lone: Vec<String>,
}

/// Sees that no router needs this agent.
pub(super) async fn move_off(attempt: &Attempt<'_>, own: &Agent) -> Result<Moved, Halt> {
    let network = attempt.cloud.operator.network();
    let mut changed = settle(attempt, own).await?;
    let (mut moved, mut disabled, mut looks): (usize, bool, Option<Looks>) = (0, false, None);
    // HA routers that were seen active elsewhere with this agent disabled: it cannot take them back.
    let mut away = BTreeSet::new();
    loop {
        let agents = Agents::look(network).await?;
        let Some(now) = agents.get(&own.id) else {
            return Ok(Moved { changed, told: "its L3 agent is gone".to_owned() });
        };
        let seen = look(attempt, &agents, now, &mut away).await?;
        let count = seen.single.len() + seen.ha.len();
        if !now.alive && count > 0 {
            return Err(permanent(
                format!("the L3 agent on {} does not report, and has {count} routers", own.host),
                "start it, so that it can let go of them, and resume; or abort",
                vec![state("its last report", now.heartbeat_timestamp.clone().unwrap_or_default())],
            )
            .into());
        }
        if !seen.lone.is_empty() {
            let hint = "put them on a second agent (`openstack network agent add router --l3 AGENT ROUTER` for HA \
                        routers; for others start an L3 agent that reaches their networks), and see that it has them \
                        as `standby` and wired";
            return Err(alone(&own.host, "routers", &seen.lone, hint).into());
        }
        for some in seen.single.chunks(AT_ONCE) {
            move_some(attempt, &agents, now, some).await?;
            moved += some.len();
            changed += 1;
        }
        if now.admin_state_up && disabled {
            return Err(permanent(
                format!("somebody enabled the L3 agent on {} again, which Volutus had disabled", own.host),
                "see who works on it; then resume, or abort",
                vec![state("the agent", "admin_state_up is true")],
            )
            .into());
        }
        if now.admin_state_up {
            disabled = true;
            write_mark(attempt, now, Mark::Down, Some(false)).await?;
            changed += 1;
            continue;
        }
        if seen.pending.is_empty() && seen.single.is_empty() {
            let told = format!(
                "{moved} routers were moved off its L3 agent, {} HA routers are active elsewhere",
                seen.ha.len()
            );
            return Ok(Moved { changed, told });
        }
        let looks = looks.get_or_insert_with(|| Looks::for_many(count));
        if looks.are_over(attempt) {
            return Err(permanent(
                format!(
                    "no other agent became active for {} HA routers of {}: {}",
                    seen.pending.len(),
                    own.host,
                    some(&seen.pending)
                ),
                "see keepalived of these routers on their other hosts, and resume. Where neutron is told to serve on \
                 disabled agents (`enable_services_on_agents_with_admin_state_down`) they never leave: move them by \
                 hand. Or abort, which enables the agent again",
                vec![state("HA routers that are active nowhere else", seen.pending.join("\n"))],
            )
            .into());
        }
        let told = format!(
            "waiting until {} HA routers are active elsewhere than on {}",
            seen.pending.len(),
            own.host
        );
        looks.pause(attempt, told).await;
    }
}

async fn look(
    attempt: &Attempt<'_>,
    agents: &Agents,
    own: &Agent,
    away: &mut BTreeSet<String>,
) -> Result<Seen, Halt> {
    let network = attempt.cloud.operator.network();
    let mut routers = network.l3_routers(&own.id).await?;
    routers.retain(|router| router.admin_state_up);
    let (ha, single): (Vec<Router>, Vec<Router>) = routers.into_iter().partition(|router| router.ha);
    let mut seen = Seen::default();
    let open: Vec<&Router> = ha.iter().filter(|router| !away.contains(&router.id)).collect();
    let ids = open.iter().map(|router| router.id.clone()).collect();
    let ports = network.router_ports(&ids).await?;
    for (router, carriers) in carriers_of(network, &open).await? {
        let others = carriers.iter().filter(|carrier| {
            agents.serves(&carrier.agent.id, own) && is_wired(&ports, &router.id, &carrier.agent.host)
        });
        let states: BTreeSet<&str> = others.filter_map(|carrier| carrier.ha_state.as_deref()).collect();
        if states.contains("active") {
            if !own.admin_state_up {
                away.insert(router.id.clone());
            }
        } else if states.contains("standby") {
            seen.pending.push(named(&router.name, &router.id));
        } else {
            seen.lone.push(named(&router.name, &router.id));
        }
    }
    seen.ha = ha;
    let networks = networks_of(network, &single).await?;
    let mut lent: BTreeMap<String, u64> = BTreeMap::new();
    for router in single {
        let reached = networks.get(&router.id).map(Vec::as_slice).unwrap_or_default();
        let fit = agents.for_router(&router, &reached.iter().collect::<Vec<_>>(), own, &lent);
        let fit: Vec<Agent> = fit.into_iter().cloned().collect();
        match fit.first() {
            Some(first) => {
                *lent.entry(first.id.clone()).or_default() += 1;
                seen.single.push((router, fit));
            }
            None => seen.lone.push(named(&router.name, &router.id)),
        }
    }
    Ok(seen)
}

/// Whether an HA router is wired on a host, so that its keepalived is heard: what neutron knows of its state
/// there may be older than the host's last restart.
fn is_wired(ports: &[AgentPort], router: &str, host: &str) -> bool {
    ports
        .iter()
        .any(|port| port.device_owner == HA_PORT && port.device_id == router && port.is_active_on(host))
}

pub(super) async fn carriers_of<'a>(
    network: Networking<'_>,
    routers: &[&'a Router],
) -> Result<Vec<(&'a Router, Vec<Carrier>)>, Error> {
    let asks: Vec<_> = routers
        .iter()
        .map(|router| async move { Ok::<_, Error>((*router, network.l3_agents_of(&router.id).await?)) })
        .collect();
    futures::stream::iter(asks).buffered(ASKED_AT_ONCE).try_collect().await
}

/// By router: the networks that it is connected to.
pub(super) async fn networks_of(
    network: Networking<'_>,
    routers: &[Router],
) -> Result<BTreeMap<String, Vec<ServedNetwork>>, Error> {
    let ports = network.router_ports(&routers.iter().map(|router| router.id.clone()).collect()).await?;
    let ids = ports.iter().map(|port| port.network_id.clone()).collect();
    let networks = network.networks_by_id(&ids).await?;
    let mut found: BTreeMap<String, Vec<ServedNetwork>> = BTreeMap::new();
    for port in ports {
        let one = networks.iter().find(|one| one.id == port.network_id);
        found.entry(port.device_id).or_default().extend(one.cloned());
    }
    Ok(found)
}

/// Routers that an attempt that was cut off took off the agent, and put nowhere.
async fn settle(attempt: &Attempt<'_>, own: &Agent) -> Result<u64, Halt> {
    let network = attempt.cloud.operator.network();
    let marked = network.routers_tagged(&Duty::Router.from(&own.id)).await?;
    let mut lost: Vec<Router> = Vec::new();
    for (router, carriers) in carriers_of(network, &marked.iter().collect::<Vec<_>>()).await? {
        if carriers.is_empty() && router.admin_state_up {
            lost.push(router.clone());
        }
    }
    if lost.is_empty() {
        return Ok(0);
    }
    let agents = Agents::look(network).await?;
    let networks = networks_of(network, &lost).await?;
    let mut found = Vec::new();
    for router in lost {
        let reached = networks.get(&router.id).map(Vec::as_slice).unwrap_or_default();
        let fit = agents.for_router(&router, &reached.iter().collect::<Vec<_>>(), own, &BTreeMap::new());
        found.push((router.clone(), fit.into_iter().cloned().collect()));
    }
    for some in found.chunks(AT_ONCE) {
        move_some(attempt, &agents, own, some).await?;
    }
    Ok(1)
}

/// Moves some routers that this agent alone carries, and waits until they are built on their new agents.
async fn move_some(
    attempt: &Attempt<'_>,
    agents: &Agents,
    own: &Agent,
    routers: &[(Router, Vec<Agent>)],
) -> Result<(), Halt> {
    let network = attempt.cloud.operator.network();
    let mut placed = Vec::new();
    for (router, candidates) in routers {
        let loans = Duty::Router.loans(&router.tags);
        // What is here for another agent is handed on, and stays that one's.
        let borrowed = loans.iter().find(|loan| loan.to == own.id);
        let owner = borrowed.map_or(own.id.as_str(), |loan| loan.owner.as_str());
        // Whoever takes this up goes on with the agent that was chosen, if that still may be.
        let chosen = |agent: &&Agent| loans.iter().any(|loan| loan.owner == owner && loan.to == agent.id);
        let again = candidates.iter().filter(chosen);
        let others = candidates.iter().filter(|agent| !chosen(agent));
        let order: Vec<&Agent> = again.chain(others).collect();
        // By this one it is found again, should it be on no agent when this attempt is cut off.
        let passing = Duty::Router.from(&own.id);
        if borrowed.is_some() {
            unless_gone(network.add_tag(Tagged::Routers, &router.id, &passing).await)?;
        }
        let now = place(attempt, router, owner, &own.id, &order).await?;
        if borrowed.is_some() {
            network.remove_tag(Tagged::Routers, &router.id, &passing).await?;
        }
        if now == own.id {
            return Err(permanent(
                format!("no other agent takes router {} of {}", named(&router.name, &router.id), own.host),
                "neutron refused every agent that looked fit (see its log); the router is where it was. Mend it and \
                 resume; or abort",
                vec![state("agents that were asked", order.iter().map(|agent| agent.host.clone()).collect::<Vec<_>>().join("\n"))],
            )
            .into());
        }
        if let Some(agent) = agents.get(&now) {
            placed.push((router.id.clone(), agent.host.clone()));
        }
    }
    built(attempt, &placed).await
}

/// Takes a router off an agent and puts it on the first of others that takes it, back where it was if none
/// does. The id of the agent that has it then.
async fn place(
    attempt: &Attempt<'_>,
    router: &Router,
    owner: &str,
    off: &str,
    candidates: &[&Agent],
) -> Result<String, Halt> {
    let network = attempt.cloud.operator.network();
    let tag = async |to: &str| {
        let tag = Duty::Router.to(owner, to, false);
        unless_gone(network.add_tag(Tagged::Routers, &router.id, &tag).await).map(|_| ())
    };
    unless_gone(network.add_tag(Tagged::Routers, &router.id, &Duty::Router.from(owner)).await)?;
    let mut now = None;
    for (at, to) in candidates.iter().map(|agent| agent.id.as_str()).chain([off]).enumerate() {
        // It is written down where it goes before it leaves.
        if to != owner && to != off {
            tag(to).await?;
        }
        if at == 0 {
            network.remove_l3_router(off, &router.id).await?;
        }
        if network.add_l3_router(to, &router.id).await? {
            now = Some(to.to_owned());
            break;
        }
        // Neutron may have put it somewhere in the meantime: it looks for routers without an agent.
        if let Some(there) = network.l3_agents_of(&router.id).await?.into_iter().next() {
            now = Some(there.agent.id);
            break;
        }
    }
    let Some(now) = now else {
        return Err(permanent(
            format!("router {} is on no agent: none takes it", named(&router.name, &router.id)),
            "see neutron's log for why it refuses, and resume at once: its networks are cut off until then",
            vec![state(
                "agents that were asked",
                candidates.iter().map(|agent| agent.host.clone()).collect::<Vec<_>>().join("\n"),
            )],
        )
        .into());
    };
    if now != owner && now != off {
        tag(&now).await?;
    }
    let loans = Duty::Router.loans(&router.tags);
    let tried = candidates.iter().map(|agent| Duty::Router.to(owner, &agent.id, false));
    let stale = loans.into_iter().filter(|loan| loan.owner == owner).map(|loan| loan.tag).chain(tried);
    let stale: BTreeSet<String> = stale.filter(|tag| *tag != Duty::Router.to(owner, &now, false)).collect();
    let known =
        |tag: &&String| router.tags.contains(*tag) || candidates.first().is_none_or(|first| first.id != now);
    for tag in stale.iter().filter(known) {
        network.remove_tag(Tagged::Routers, &router.id, tag).await?;
    }
    Ok(now)
}

/// Waits until routers are built on the hosts that they were put on.
async fn built(attempt: &Attempt<'_>, placed: &[(String, String)]) -> Result<(), Halt> {
    let network = attempt.cloud.operator.network();
    let ids: BTreeSet<String> = placed.iter().map(|(router, _)| router.clone()).collect();
    let mut looks = Looks::for_many(placed.len());
    loop {
        let ports = network.router_ports(&ids).await?;
        let open: Vec<String> = placed
            .iter()
            .filter(|(router, host)| {
                let mut own = ports.iter().filter(|port| port.device_id == *router);
                own.any(|port| {
                    let inner = INNER_PORTS.contains(&port.device_owner.as_str());
                    let elsewhere = port.host.as_deref() != Some(host.as_str());
                    (inner && !port.is_active_on(host)) || (port.device_owner == GATEWAY_PORT && elsewhere)
                })
            })
            .map(|(router, host)| format!("{router} on {host}"))
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        if looks.are_over(attempt) {
            return Err(permanent(
                format!("{} routers were put on another agent, and are not built there: {}", open.len(), some(&open)),
                "see the logs of the L3 agents and of the layer 2 agents on these hosts, and resume; or abort, which \
                 puts the routers back",
                vec![state("routers that are not built", open.join("\n"))],
            )
            .into());
        }
        looks.pause(attempt, format!("waiting until {} routers are built on other hosts", open.len())).await;
    }
}

/// Enables the agent where Volutus disabled it, and gives it its routers back.
pub(super) async fn give_back(attempt: &Attempt<'_>, own: &Agent) -> Result<Moved, Halt> {
    let network = attempt.cloud.operator.network();
    let tag = Duty::Router.from(&own.id);
    let marked = network.routers_tagged(&tag).await?;
    let mark = mark_of(own).0;
    let mut changed = 0;
    if mark == Some(Mark::Down) && !own.admin_state_up {
        // It is not counted on before it has proved itself: the mark stays until the end.
        write_mark(attempt, own, Mark::Aside, Some(true)).await?;
        changed += 1;
    } else if marked.is_empty() && (mark.is_none() || !own.admin_state_up) {
        return Ok(Moved { changed, told: "its L3 agent has nothing to get back".to_owned() });
    } else if !own.admin_state_up {
        return Err(disabled_by_others(own, marked.len()).into());
    }
    reported(attempt, own).await?;
    let mut back = 0;
    for some in marked.chunks(AT_ONCE) {
        back += back_some(attempt, own, some).await?;
        changed += 1;
    }
    let ha = wired(attempt, own).await?;
    let told = format!("its L3 agent has {back} routers back, and is wired for {ha} HA routers");
    Ok(Moved { changed, told })
}

async fn back_some(attempt: &Attempt<'_>, own: &Agent, routers: &[Router]) -> Result<usize, Halt> {
    let network = attempt.cloud.operator.network();
    let mut placed = Vec::new();
    for (router, carriers) in carriers_of(network, &routers.iter().collect::<Vec<_>>()).await? {
        let loans = Duty::Router.loans(&router.tags);
        let at = carriers.first().map(|carrier| carrier.agent.id.as_str());
        let lent = |id: &str| loans.iter().any(|loan| loan.owner == own.id && loan.to == id);
        match at {
            Some(id) if id == own.id => {}
            // Whoever put it elsewhere meanwhile has decided that.
            Some(id) if !lent(id) => continue,
            _ => {
                let now = place(attempt, router, &own.id, at.unwrap_or(&own.id), &[own]).await?;
                if now != own.id {
                    return Err(permanent(
                        format!("the L3 agent on {} does not take router {} back", own.host, named(&router.name, &router.id)),
                        "see neutron's log for why it refuses; the router is where it was. Mend it and resume",
                        vec![state("the router is on agent", now)],
                    )
                    .into());
                }
            }
        }
        placed.push((router.id.clone(), own.host.clone()));
    }
    built(attempt, &placed).await?;
    for router in routers {
        let loans = Duty::Router.loans(&router.tags).into_iter().filter(|loan| loan.owner == own.id);
        let tags: BTreeSet<String> = loans.map(|loan| loan.tag).chain([Duty::Router.from(&own.id)]).collect();
        // The tag by which the router is found goes last.
        for tag in tags.iter().rev() {
            network.remove_tag(Tagged::Routers, &router.id, tag).await?;
        }
    }
    Ok(placed.len())
}

/// Waits until the HA routers of an agent are wired on its host: keepalived starts there when they are, and from
/// then on another host may count on this one.
async fn wired(attempt: &Attempt<'_>, own: &Agent) -> Result<usize, Halt> {
    let network = attempt.cloud.operator.network();
    let mut looks: Option<Looks> = None;
    loop {
        let mut routers = network.l3_routers(&own.id).await?;
        routers.retain(|router| router.ha && router.admin_state_up);
        let ports = network.router_ports(&routers.iter().map(|router| router.id.clone()).collect()).await?;
        let open: Vec<String> = routers
            .iter()
            .filter(|router| !is_wired(&ports, &router.id, &own.host))
            .map(|router| named(&router.name, &router.id))
            .collect();
        if open.is_empty() {
            return Ok(routers.len());
        }
        let looks = looks.get_or_insert_with(|| Looks::for_many(routers.len()));
        if looks.are_over(attempt) {
            return Err(permanent(
                format!("{} HA routers are not wired on {}: {}", open.len(), own.host, some(&open)),
                "see the logs of the L3 agent and of the layer 2 agent there, and resume; the routers are active \
                 elsewhere, and have one agent less until then",
                vec![state("HA routers that are not wired", open.join("\n"))],
            )
            .into());
        }
        looks
            .pause(attempt, format!("waiting until {} HA routers are wired on {}", open.len(), own.host))
            .await;
    }
}
