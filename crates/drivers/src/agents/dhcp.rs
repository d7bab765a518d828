//! DHCP: a network that only the host's agent serves gets a second one, and loses it again.
//!
//! The host's own agent stays on its networks, and stays enabled: taken off, or disabled, it would give its
//! ports up, and with them addresses that instances know as their DHCP server, resolver and way to the
//! metadata (neutron, `destroy` in `agent/linux/dhcp.py`).

use std::collections::{BTreeMap, BTreeSet};

use volutus_openstack::agents::{Agent, AgentPort, RESERVED_DHCP_PORT, ServedNetwork, Tagged};

use super::marks::{Duty, Loan, mark_of};
use super::reach::Agents;
use super::{Halt, Looks, Moved, alone, disabled_by_others, named, reported, some, unless_gone};
use crate::attempt::{Attempt, permanent, state};

/// What is done about a network.
enum Need<'a> {
    /// Another agent has it, and is not ready yet.
    Wait,
    /// This one is to have it.
    Lend(&'a Agent),
    /// There is none.
    Alone,
}

/// Sees that another agent answers in every network that this one serves.
pub(super) async fn move_off(attempt: &Attempt<'_>, own: &Agent) -> Result<Moved, Halt> {
    let network = attempt.cloud.operator.network();
    // Who was found or asked to serve a network, by the network's id.
    let mut placed: BTreeMap<String, String> = BTreeMap::new();
    let (mut changed, mut lent_in_all) = (0, BTreeSet::new());
    let mut looks: Option<Looks> = None;
    loop {
        let agents = Agents::look(network).await?;
        let (networks, ports) = served(attempt, own).await?;
        let looks = looks.get_or_insert_with(|| Looks::for_many(networks.len()));
        let mut lent: BTreeMap<String, u64> = BTreeMap::new();
        let (mut waiting, mut lone, mut orders) = (Vec::new(), Vec::new(), Vec::new());
        for one in &networks {
            if agents.is_served(one, own, &ports) {
                changed += hand_on(attempt, &agents, own, one).await?;
                continue;
            }
            match need(attempt, &agents, own, one, &lent, &mut placed).await? {
                Need::Wait => waiting.push(named(&one.name, &one.id)),
                Need::Alone => lone.push(named(&one.name, &one.id)),
                Need::Lend(to) => {
                    *lent.entry(to.id.clone()).or_default() += 1;
                    orders.push((one, to));
                }
            }
        }
        if !lone.is_empty() {
            let hint = "start a second DHCP agent that reaches these networks, in a zone that they may be in";
            return Err(alone(&own.host, "networks", &lone, hint).into());
        }
        for (one, to) in &orders {
            changed += lend(attempt, own, one, to, &ports).await?;
            placed.insert(one.id.clone(), to.id.clone());
            lent_in_all.insert(one.id.clone());
        }
        if waiting.is_empty() && orders.is_empty() {
            let told = format!(
                "all {} networks of its DHCP agent have another one, {} of them since now",
                networks.len(),
                lent_in_all.len()
            );
            return Ok(Moved { changed, told });
        }
        waiting.extend(orders.iter().map(|(one, _)| named(&one.name, &one.id)));
        if looks.are_over(attempt) {
            return Err(permanent(
                format!("{} networks are still served by {} alone: {}", waiting.len(), own.host, some(&waiting)),
                "their other DHCP agents have no ACTIVE port there: see the logs of these agents and of the layer 2 \
                 agents beside them, and resume; or abort, which takes them off again",
                vec![state(format!("networks that only {} serves", own.host), waiting.join("\n"))],
            )
            .into());
        }
        let told =
            format!("waiting until {} networks have another DHCP agent than {}", waiting.len(), own.host);
        looks.pause(attempt, told).await;
    }
}

/// The networks that an agent answers in, and all DHCP ports there.
async fn served(attempt: &Attempt<'_>, own: &Agent) -> Result<(Vec<ServedNetwork>, Vec<AgentPort>), Halt> {
    let network = attempt.cloud.operator.network();
    let mut networks = network.dhcp_networks(&own.id).await?;
    networks.retain(|one| one.admin_state_up);
    let ids = networks.iter().map(|one| one.id.clone()).collect();
    let with_dhcp = network.with_dhcp(&ids).await?;
    networks.retain(|one| with_dhcp.contains(&one.id));
    let ports = network.dhcp_ports(&with_dhcp).await?;
    Ok((networks, ports))
}

async fn need<'a>(
    attempt: &Attempt<'_>,
    agents: &'a Agents,
    own: &Agent,
    one: &ServedNetwork,
    lent: &BTreeMap<String, u64>,
    placed: &mut BTreeMap<String, String>,
) -> Result<Need<'a>, Halt> {
    let candidates = agents.for_network(one, own, lent);
    let is_candidate = |id: &String| candidates.iter().any(|agent| agent.id == *id);
    if placed.get(&one.id).is_some_and(is_candidate) {
        return Ok(Need::Wait);
    }
    let hosting = attempt.cloud.operator.network().dhcp_agents_of(&one.id).await?;
    if let Some(there) = hosting.iter().find(|agent| is_candidate(&agent.id)) {
        placed.insert(one.id.clone(), there.id.clone());
        return Ok(Need::Wait);
    }
    // Whoever takes this up goes on with the agent that was chosen, if that still may be.
    let chosen: BTreeSet<String> = Duty::Dhcp.loans(&one.tags).into_iter().map(|loan| loan.to).collect();
    let again = candidates.iter().find(|agent| chosen.contains(&agent.id));
    Ok(again.or(candidates.first()).map_or(Need::Alone, |agent| Need::Lend(agent)))
}

/// What a network is lent to this agent for: it is handed on, and not lent a second time.
fn borrowed(one: &ServedNetwork, own: &Agent) -> Vec<Loan> {
    Duty::Dhcp.loans(&one.tags).into_iter().filter(|loan| loan.to == own.id).collect()
}

async fn lend(
    attempt: &Attempt<'_>,
    own: &Agent,
    one: &ServedNetwork,
    to: &Agent,
    ports: &[AgentPort],
) -> Result<u64, Halt> {
    let network = attempt.cloud.operator.network();
    // A port that is kept for the next agent was there before, and is there afterwards.
    let new = !ports.iter().any(|port| port.network_id == one.id && port.device_id == RESERVED_DHCP_PORT);
    let mut owners: Vec<String> = borrowed(one, own).into_iter().map(|loan| loan.owner).collect();
    if owners.is_empty() {
        owners.push(own.id.clone());
    }
    for owner in &owners {
        let loans = Duty::Dhcp.loans(&one.tags);
        let known = loans.iter().any(|loan| loan.owner == *owner && loan.to == to.id);
        if unless_gone(network.add_tag(Tagged::Networks, &one.id, &Duty::Dhcp.from(owner)).await)?.is_none() {
            return Ok(0);
        }
        if !known {
            let tag = Duty::Dhcp.to(owner, &to.id, new);
            unless_gone(network.add_tag(Tagged::Networks, &one.id, &tag).await)?;
        }
    }
    // Where the network or the agent has gone in this moment, the next look tells.
    Ok(unless_gone(network.add_dhcp_network(&to.id, &one.id).await)?.map_or(0, u64::from))
}

/// A network that this agent serves only for others, and that one more serves now, is not its business any more.
async fn hand_on(
    attempt: &Attempt<'_>,
    agents: &Agents,
    own: &Agent,
    one: &ServedNetwork,
) -> Result<u64, Halt> {
    let mut changed = 0;
    for loan in borrowed(one, own) {
        changed += take_back(attempt, agents, one, &loan).await?;
    }
    Ok(changed)
}

/// Takes the agent off that had a network for another one, with all that it left there.
async fn take_back(
    attempt: &Attempt<'_>,
    agents: &Agents,
    one: &ServedNetwork,
    loan: &Loan,
) -> Result<u64, Halt> {
    let network = attempt.cloud.operator.network();
    let removed = network.remove_dhcp_network(&loan.to, &one.id).await?;
    if let Some(agent) = agents.get(&loan.to).filter(|_| loan.new) {
        let ports = network.dhcp_ports(&BTreeSet::from([one.id.clone()])).await?;
        let left = |port: &&AgentPort| {
            port.device_id == RESERVED_DHCP_PORT && port.host.as_deref() == Some(agent.host.as_str())
        };
        for port in ports.iter().filter(left) {
            network.delete_port(&port.id).await?;
        }
    }
    network.remove_tag(Tagged::Networks, &one.id, &loan.tag).await?;
    Ok(u64::from(removed))
}

/// Waits until the agent answers in its networks again, and takes those off that did so for it.
pub(super) async fn give_back(attempt: &Attempt<'_>, own: &Agent) -> Result<Moved, Halt> {
    let network = attempt.cloud.operator.network();
    let tag = Duty::Dhcp.from(&own.id);
    let marked = network.networks_tagged(&tag).await?;
    if marked.is_empty() && (mark_of(own).0.is_none() || !own.admin_state_up) {
        return Ok(Moved { changed: 0, told: "its DHCP agent has nothing to get back".to_owned() });
    }
    if !own.admin_state_up {
        return Err(disabled_by_others(own, marked.len()).into());
    }
    // Neutron takes networks off an agent that is away for long (`allow_automatic_dhcp_failover`).
    let there: BTreeSet<String> =
        network.dhcp_networks(&own.id).await?.into_iter().map(|one| one.id).collect();
    let mut changed = 0;
    for one in marked.iter().filter(|one| !there.contains(&one.id)) {
        changed += unless_gone(network.add_dhcp_network(&own.id, &one.id).await)?.map_or(0, u64::from);
    }
    let served = serving(attempt, own, &marked).await?;
    let agents = Agents::look(network).await?;
    for one in &marked {
        for loan in Duty::Dhcp.loans(&one.tags).iter().filter(|loan| loan.owner == own.id) {
            changed += take_back(attempt, &agents, one, loan).await?;
        }
        network.remove_tag(Tagged::Networks, &one.id, &tag).await?;
        changed += 1;
    }
    let told = format!("its DHCP agent serves {served} networks again, {} of them alone", marked.len());
    Ok(Moved { changed, told })
}

/// Waits until the agent has reported, and what it reports is as many networks as have its port, those among
/// them that are to be given back. How many it serves.
async fn serving(attempt: &Attempt<'_>, own: &Agent, marked: &[ServedNetwork]) -> Result<usize, Halt> {
    let network = attempt.cloud.operator.network();
    reported(attempt, own).await?;
    let mut looks: Option<Looks> = None;
    loop {
        let (networks, ports) = served(attempt, own).await?;
        let looks = looks.get_or_insert_with(|| Looks::for_many(networks.len()));
        let wired: BTreeSet<&str> = ports
            .iter()
            .filter(|port| port.device_id != RESERVED_DHCP_PORT && port.is_active_on(&own.host))
            .map(|port| port.network_id.as_str())
            .collect();
        let missing: Vec<String> = networks
            .iter()
            .filter(|one| marked.iter().any(|marked| marked.id == one.id) && !wired.contains(one.id.as_str()))
            .map(|one| named(&one.name, &one.id))
            .collect();
        let agents = Agents::look(network).await?;
        let serves = agents.get(&own.id).map_or(0, |agent| agent.count("networks"));
        let serves = usize::try_from(serves).unwrap_or(usize::MAX);
        if missing.is_empty() && serves >= wired.len() {
            return Ok(serves);
        }
        if looks.are_over(attempt) {
            return Err(permanent(
                format!(
                    "the DHCP agent on {} serves {serves} of {} networks{}",
                    own.host,
                    wired.len() + missing.len(),
                    if missing.is_empty() { String::new() } else { format!(", not {}", some(&missing)) }
                ),
                "see its log and that of the layer 2 agent beside it, and resume; the agents that were put in for it go \
                 on serving until then",
                vec![state(format!("networks without a wired DHCP port on {}", own.host), missing.join("\n"))],
            )
            .into());
        }
        let told = format!(
            "waiting until the DHCP agent on {} serves {} networks, now {serves}",
            own.host,
            wired.len()
        );
        looks.pause(attempt, told).await;
    }
}
