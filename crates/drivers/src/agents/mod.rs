//! A host's duties as one of neutron's own network nodes: networks that its DHCP agent serves, routers that
//! its L3 agent carries. They are moved before the host restarts, and given back.
//!
//! What is done stands in neutron itself ([`marks`]): an agent is marked before anything is looked at, so
//! that of two hosts that are prepared at once neither counts on the other; a network or router is marked
//! before it is touched. Whoever takes an attempt up reads the marks and goes on.

mod dhcp;
mod duties;
mod l3;
mod marks;
mod reach;

use std::time::{Duration, Instant};

use volutus_model::name::HostName;
use volutus_model::outcome::Outcome;
use volutus_openstack::Error;
use volutus_openstack::agents::{Agent, DHCP_AGENT};

use crate::attempt::{Attempt, Attempted, permanent, state};
use crate::compute::api_outcome;

pub(crate) use duties::observe;
use marks::{Mark, mark_of};
use reach::Agents;

/// The first pause between two looks at what agents do, and the longest: an agent that has nothing else to do
/// takes a second for a network, and one with much to do is not to be asked all the time.
const LOOK_FIRST: Duration = Duration::from_millis(50);
const LOOK_MOST: Duration = Duration::from_secs(2);
/// What an agent may take to report: neutron takes it for dead after `agent_down_time`, 75 s by default.
const REPORT_MAX: Duration = Duration::from_secs(90);
/// What an agent may take for one network or router: neutron's own allowance for DHCP agents that start
/// (`agent_starting_up` in `db/agentschedulers_db.py`) is 2 s.
const EACH_MAX: Duration = Duration::from_secs(2);

/// Why it does not go on.
enum Halt {
    Api(Error),
    Told(Outcome),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Api(error)
    }
}

impl From<Outcome> for Halt {
    fn from(outcome: Outcome) -> Self {
        Self::Told(outcome)
    }
}

impl Halt {
    fn outcome(self, doing: &str) -> Outcome {
        match self {
            Self::Api(error) => api_outcome(doing, &error),
            Self::Told(outcome) => outcome,
        }
    }
}

/// Looks that become rarer, until the time is up.
struct Looks {
    pause: Duration,
    begun: Instant,
    limit: Duration,
}

impl Looks {
    /// For so many networks or routers.
    fn for_many(count: usize) -> Self {
        let each = EACH_MAX.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        Self { pause: LOOK_FIRST, begun: Instant::now(), limit: REPORT_MAX.saturating_add(each) }
    }

    fn are_over(&self, attempt: &Attempt<'_>) -> bool {
        attempt.is_over() || self.begun.elapsed() > self.limit
    }

    async fn pause(&mut self, attempt: &Attempt<'_>, text: String) {
        attempt.say(text);
        attempt.pause(self.pause).await;
        self.pause = (self.pause * 2).min(LOOK_MOST);
    }
}

/// Whether something that was asked for could be done; not where it has gone meanwhile.
fn unless_gone<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Status { status: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Names in a message: the first ones, and how many more there are.
fn some(names: &[String]) -> String {
    const TOLD_MAX: usize = 5;
    let told = names.iter().take(TOLD_MAX).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(TOLD_MAX) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

/// As people know a network or router.
fn named(name: &str, id: &str) -> String {
    if name.is_empty() { id.to_owned() } else { format!("{name} ({id})") }
}

/// The outcome where something of a host has no other agent that could take it.
fn alone(host: &str, what: &str, names: &[String], hint: &str) -> Outcome {
    permanent(
        format!("{} {what} of {host} have no other agent: {}", names.len(), some(names)),
        format!("{hint}; then resume. Or abort, which gives back what was moved"),
        vec![state(format!("{what} that only {host} looks after"), names.join("\n"))],
    )
}

/// Sees that the host is not needed: its networks have another DHCP agent, its routers are elsewhere.
pub(crate) async fn move_off(attempt: &Attempt<'_>, host: &HostName) -> Attempted {
    let doing = format!("moving the duties of neutron's agents off {host}");
    moved_off(attempt, host).await.map_err(|halt| halt.outcome(&doing))
}

async fn moved_off(attempt: &Attempt<'_>, host: &HostName) -> Result<Outcome, Halt> {
    let network = attempt.cloud.operator.network();
    let agents = Agents::look(network).await?;
    // What somebody else disabled serves nothing, and is left to them.
    let own: Vec<&Agent> =
        agents.on(host.as_str()).filter(|agent| agent.admin_state_up || mark_of(agent).0.is_some()).collect();
    let mut changed = 0;
    for agent in &own {
        changed += u64::from(put_aside(attempt, agent).await?);
    }
    let mut told = Vec::new();
    for agent in own {
        let moved = if agent.agent_type == DHCP_AGENT {
            dhcp::move_off(attempt, agent).await?
        } else {
            l3::move_off(attempt, agent).await?
        };
        changed += moved.changed;
        told.push(moved.told);
    }
    let detail = if told.is_empty() {
        format!("{host} has no DHCP agent, and no L3 agent with routers of more than its own instances")
    } else {
        format!("{host}: {}", told.join("; "))
    };
    Ok(if changed > 0 { Outcome::done(detail) } else { Outcome::unchanged(detail) })
}

/// What was done with an agent.
struct Moved {
    /// Requests that changed something.
    changed: u64,
    /// In words.
    told: String,
}

/// Marks an agent, so that nothing counts on it any more.
async fn put_aside(attempt: &Attempt<'_>, agent: &Agent) -> Result<bool, Halt> {
    if mark_of(agent).0.is_some() {
        return Ok(false);
    }
    write_mark(attempt, agent, Mark::Aside, None).await?;
    Ok(true)
}

async fn write_mark(
    attempt: &Attempt<'_>,
    agent: &Agent,
    mark: Mark,
    admin_state_up: Option<bool>,
) -> Result<(), Halt> {
    let before = mark_of(agent).1;
    let Some(text) = marks::marked(mark, before) else {
        return Err(permanent(
            format!(
                "the description of the {} on {} leaves no room for Volutus's mark",
                agent.agent_type, agent.host
            ),
            format!(
                "shorten it by 20 characters (`openstack network agent set --description ... {}`)",
                agent.id
            ),
            vec![state("its description", before.unwrap_or_default())],
        )
        .into());
    };
    let network = attempt.cloud.operator.network();
    Ok(network.update_agent(&agent.id, admin_state_up, Some(&text)).await?)
}

/// Gives the host its duties back: what is marked, and nothing else.
pub(crate) async fn give_back(attempt: &Attempt<'_>, host: &HostName) -> Attempted {
    let doing = format!("giving {host} the duties of its neutron agents back");
    given_back(attempt, host).await.map_err(|halt| halt.outcome(&doing))
}

async fn given_back(attempt: &Attempt<'_>, host: &HostName) -> Result<Outcome, Halt> {
    let network = attempt.cloud.operator.network();
    let agents = Agents::look(network).await?;
    let (mut changed, mut told) = (0, Vec::new());
    for agent in agents.on(host.as_str()) {
        let moved = if agent.agent_type == DHCP_AGENT {
            dhcp::give_back(attempt, agent).await?
        } else {
            l3::give_back(attempt, agent).await?
        };
        if let (Some(_), before) = mark_of(agent) {
            network.update_agent(&agent.id, None, before).await?;
            changed += 1;
        }
        changed += moved.changed;
        told.push(moved.told);
    }
    let detail = match told.is_empty() {
        true => format!("{host} has no agents whose duties are moved"),
        false => format!("{host}: {}", told.join("; ")),
    };
    Ok(if changed > 0 { Outcome::done(detail) } else { Outcome::unchanged(detail) })
}

/// Waits until an agent reports anew, so that it is there now and not only was: its record outlives it by
/// `agent_down_time`. The agent as it reported.
async fn reported(attempt: &Attempt<'_>, agent: &Agent) -> Result<Agent, Halt> {
    let network = attempt.cloud.operator.network();
    let mut looks = Looks::for_many(0);
    loop {
        let now = Agents::look(network).await?.get(&agent.id).cloned();
        if let Some(now) = now.filter(|now| now.alive && now.heartbeat_timestamp != agent.heartbeat_timestamp)
        {
            return Ok(now);
        }
        let what = format!("the {} on {}", agent.agent_type, agent.host);
        if looks.are_over(attempt) {
            return Err(permanent(
                format!("{what} does not report"),
                "look at its log and start it; then resume. What it did is done by other agents until then",
                vec![state(
                    format!("last report of {what}"),
                    agent.heartbeat_timestamp.clone().unwrap_or_default(),
                )],
            )
            .into());
        }
        looks.pause(attempt, format!("waiting until {what} reports")).await;
    }
}

/// The outcome where somebody disabled an agent that has something to get back.
fn disabled_by_others(agent: &Agent, what: usize) -> Outcome {
    permanent(
        format!(
            "somebody disabled the {} on {}, which {what} networks or routers were to be given back to",
            agent.agent_type, agent.host
        ),
        format!("enable it (`openstack network agent set --enable {}`), and resume", agent.id),
        vec![state("the agent", "admin_state_up is false, and not by Volutus")],
    )
}
