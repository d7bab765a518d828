//! Takes servers out of HAProxy's backends and gives them back, by its runtime API.
//!
//! Every load balancer of the cloud description is told, and all of them have to agree: with
//! several HAProxies in front of the same replicas, requests may come through each.

mod exchange;
mod stat;

use std::time::Duration;

use serde_json::json;
use volutus_model::inventory::LoadBalancer;
use volutus_model::name::BackendName;
use volutus_model::outcome::{Evidence, Outcome};

pub(crate) use exchange::{Settling, exchange, settle};
pub(crate) use stat::Server;
use stat::{parse_admin, parse_stat};

use crate::CloudDriver;
use crate::attempt::{Attempt, Attempted, permanent, state, transient};
use crate::channel::{ASK, Channel, Trouble};

/// Between two looks at a server: sessions of API requests last tens of milliseconds.
const LOOK: Duration = Duration::from_millis(150);
/// How long other servers may take to come up before a drain is put off: a few rounds of health
/// checks at HAProxy's default interval of 2 s and rise of 2.
const OTHERS_UP_WAIT: Duration = Duration::from_secs(30);

/// A conversation with one load balancer.
struct Balancer<'a> {
    declared: &'a LoadBalancer,
    channel: Channel,
}

impl<'a> Balancer<'a> {
    /// The load balancers that have the backend: a site may keep internal and external ones on
    /// load balancers of their own.
    async fn open(cloud: &'a CloudDriver, backend: &BackendName) -> Result<Vec<Self>, Trouble> {
        let mut all = Vec::new();
        for declared in &cloud.inventory.load_balancers {
            let channel = Channel::to_host(&cloud.hosts, &declared.host).await?;
            let mut balancer = Self { declared, channel };
            if !balancer.servers(backend).await?.is_empty() {
                all.push(balancer);
            }
        }
        Ok(all)
    }

    async fn tell(&mut self, command: &str) -> Result<String, Trouble> {
        let question = json!({"path": self.declared.socket, "command": command});
        self.channel.ask("haproxy", question, ASK).await
    }

    /// A command that answers nothing when it was done.
    async fn order(&mut self, command: &str) -> Result<(), Trouble> {
        let said = self.tell(command).await?;
        if said.trim().is_empty() {
            return Ok(());
        }
        Err(Trouble::Refused {
            host: self.declared.host.clone(),
            why: format!("HAProxy refused `{command}`: {}", said.trim()),
        })
    }

    async fn servers(&mut self, backend: &BackendName) -> Result<Vec<Server>, Trouble> {
        let text = self.tell("show stat -1 4 -1").await?;
        let stat = parse_stat(&text).map_err(|why| self.refused(why))?;
        let mut servers: Vec<Server> =
            stat.into_iter().filter(|server| server.backend == backend.as_str()).collect();
        if !servers.is_empty() {
            let text = self.tell(&format!("show servers state {backend}")).await?;
            let admin = parse_admin(&text).map_err(|why| self.refused(why))?;
            for server in &mut servers {
                server.admin = admin.get(&server.name).copied().unwrap_or(0);
            }
        }
        Ok(servers)
    }

    fn refused(&self, why: String) -> Trouble {
        Trouble::Refused { host: self.declared.host.clone(), why }
    }

    /// Who drained the server, where Volutus did.
    async fn owner(&mut self, backend: &BackendName, server: &str) -> Result<Option<String>, Trouble> {
        self.channel.ask("drain_owner", json!({"backend": backend, "server": server}), ASK).await
    }

    async fn note(
        &mut self,
        backend: &BackendName,
        server: &str,
        owner: Option<&str>,
    ) -> Result<(), Trouble> {
        let question = json!({"backend": backend, "server": server, "owner": owner});
        self.channel.ask("drain_note", question, ASK).await
    }
}

fn show(servers: &[Server]) -> String {
    servers
        .iter()
        .map(|server| format!("{}={}", server.name, server.describe()))
        .collect::<Vec<_>>()
        .join(" ")
}

fn evidence(balancer: &Balancer<'_>, backend: &BackendName, servers: &[Server]) -> Evidence {
    state(format!("backend {backend} at {}", balancer.declared.host), show(servers))
}

/// The server's own row.
fn own<'a>(
    servers: &'a [Server],
    balancer: &Balancer<'_>,
    backend: &BackendName,
    server: &str,
) -> Result<&'a Server, Outcome> {
    servers.iter().find(|row| row.name == server).ok_or_else(|| {
        permanent(
            format!("HAProxy at {} has no server {backend}/{server}", balancer.declared.host),
            "correct `backend` and `server` in the cloud description, or HAProxy's configuration; then plan again",
            vec![evidence(balancer, backend, servers)],
        )
    })
}

fn nowhere(attempt: &Attempt<'_>, backend: &BackendName, server: &str) -> Outcome {
    let declared = &attempt.cloud.inventory.load_balancers;
    let asked: Vec<String> = declared.iter().map(|balancer| balancer.host.to_string()).collect();
    permanent(
        format!(
            "{backend}/{server}: no load balancer has a backend of that name (asked: {})",
            asked.join(", ")
        ),
        "correct [[load_balancer]] or `backend` in the cloud description; then plan again",
        vec![],
    )
}

/// Takes a server out of its backend, everywhere, and waits until its sessions have ended.
pub(crate) async fn drain(
    attempt: &Attempt<'_>,
    backend: &BackendName,
    server: &str,
    others_up_min: u32,
) -> Attempted {
    let mut balancers = Balancer::open(attempt.cloud, backend)
        .await
        .map_err(|trouble| trouble.outcome(attempt.order.taken_up))?;
    if balancers.is_empty() {
        return Err(nowhere(attempt, backend, server));
    }
    let mut drained_before = true;
    for balancer in &mut balancers {
        drained_before &= may_be_drained(attempt, balancer, backend, server, others_up_min).await?;
    }
    let owner = attempt.order.run.to_string();
    for balancer in &mut balancers {
        let told = async {
            // The note comes first: a drained server without one would be taken for somebody else's.
            balancer.note(backend, server, Some(&owner)).await?;
            balancer.order(&format!("set server {backend}/{server} state drain")).await
        }
        .await;
        told.map_err(|trouble| trouble.outcome(true))?;
    }
    loop {
        let mut open = 0;
        let mut rows = Vec::new();
        for balancer in &mut balancers {
            let servers = balancer.servers(backend).await.map_err(|trouble| trouble.outcome(true))?;
            let row = own(&servers, balancer, backend, server)?;
            open += row.sessions + row.queued;
            rows.push(evidence(balancer, backend, &servers));
        }
        if open == 0 {
            return Ok(if drained_before {
                Outcome::unchanged(format!("{backend}/{server} is drained already, with no open session"))
            } else {
                Outcome::done(format!("{backend}/{server} is drained, with no open session"))
            });
        }
        if attempt.is_over() {
            return Err(give_up(balancers, backend, server, open, rows).await);
        }
        attempt.say(format!("{open} sessions of {backend}/{server} are open"));
        attempt.pause(LOOK).await;
    }
}

/// The outcome where somebody else took the server out.
fn somebody_elses(
    balancer: &Balancer<'_>,
    backend: &BackendName,
    server: &str,
    row: &Server,
    servers: &[Server],
) -> Outcome {
    permanent(
        format!("{backend}/{server} is {} at {}, and not by Volutus", row.describe(), balancer.declared.host),
        format!(
            "find out who took it out and why; give it back with `set server {backend}/{server} state ready`, \
             then resume"
        ),
        vec![evidence(balancer, backend, servers)],
    )
}

/// Sees that the server may be drained here; says whether Volutus has drained it already.
async fn may_be_drained(
    attempt: &Attempt<'_>,
    balancer: &mut Balancer<'_>,
    backend: &BackendName,
    server: &str,
    others_up_min: u32,
) -> Result<bool, Outcome> {
    let patience = std::time::Instant::now() + OTHERS_UP_WAIT.min(attempt.left());
    loop {
        let servers = balancer.servers(backend).await.map_err(|trouble| trouble.outcome(false))?;
        let row = own(&servers, balancer, backend, server)?;
        if row.is_administratively_out() {
            let owner = balancer.owner(backend, server).await.map_err(|trouble| trouble.outcome(false))?;
            if owner.is_some() && !row.is_in_maintenance() {
                return Ok(true);
            }
            return Err(somebody_elses(balancer, backend, server, row, &servers));
        }
        let others = servers.iter().filter(|other| other.name != server && other.serves()).count();
        if others >= others_up_min as usize {
            return Ok(false);
        }
        if std::time::Instant::now() >= patience {
            return Err(transient(
                format!(
                    "{backend}/{server} was not drained: only {others} other servers of {backend} are up at {}, \
                     and {others_up_min} must be",
                    balancer.declared.host
                ),
                format!("bring the other servers of {backend} up, then resume"),
                vec![evidence(balancer, backend, &servers)],
            ));
        }
        attempt
            .say(format!("waiting until {others_up_min} other servers of {backend} are up ({others} are)"));
        attempt.pause(Duration::from_millis(500)).await;
    }
}

/// Gives the server back: nothing has been done to the daemon yet, and a halted run must not
/// leave a working replica out.
async fn give_up(
    balancers: Vec<Balancer<'_>>,
    backend: &BackendName,
    server: &str,
    open: u64,
    rows: Vec<Evidence>,
) -> Outcome {
    let mut given_back = true;
    for mut balancer in balancers {
        let ready = balancer.order(&format!("set server {backend}/{server} state ready")).await;
        given_back &= ready.is_ok() && balancer.note(backend, server, None).await.is_ok();
    }
    permanent(
        format!(
            "{backend}/{server} still has {open} open sessions; {}",
            if given_back { "it was given back" } else { "it could not be given back and stays drained" }
        ),
        "see who holds these sessions (`show sess` at HAProxy's socket): end them, or raise the policy's \
         drain_timeout_s; then resume",
        rows,
    )
}

/// Gives a server back to its backend, everywhere, and waits until it is up.
pub(crate) async fn undrain(attempt: &Attempt<'_>, backend: &BackendName, server: &str) -> Attempted {
    let mut balancers = Balancer::open(attempt.cloud, backend)
        .await
        .map_err(|trouble| trouble.outcome(attempt.order.taken_up))?;
    if balancers.is_empty() {
        return Err(nowhere(attempt, backend, server));
    }
    let mut changed = false;
    for balancer in &mut balancers {
        let servers = balancer.servers(backend).await.map_err(|trouble| trouble.outcome(changed))?;
        let row = own(&servers, balancer, backend, server)?;
        if row.is_administratively_out() {
            let owner = balancer.owner(backend, server).await.map_err(|trouble| trouble.outcome(changed))?;
            if owner.is_none() || row.is_in_maintenance() {
                return Err(somebody_elses(balancer, backend, server, row, &servers));
            }
            changed = true;
            let command = format!("set server {backend}/{server} state ready");
            balancer.order(&command).await.map_err(|trouble| trouble.outcome(true))?;
        }
    }
    loop {
        let mut waiting = Vec::new();
        for balancer in &mut balancers {
            let servers = balancer.servers(backend).await.map_err(|trouble| trouble.outcome(true))?;
            let row = own(&servers, balancer, backend, server)?;
            if !row.serves() {
                waiting.push((row.describe(), evidence(balancer, backend, &servers)));
            }
        }
        let Some((status, _)) = waiting.first() else { break };
        if attempt.is_over() {
            return Err(permanent(
                format!("{backend}/{server} does not come up at the load balancer: it is {status}"),
                format!("see why HAProxy's health check of {backend}/{server} fails, then resume"),
                waiting.into_iter().map(|(_, evidence)| evidence).collect(),
            ));
        }
        attempt.say(format!("waiting until {backend}/{server} is up ({status})"));
        attempt.pause(LOOK).await;
    }
    for balancer in &mut balancers {
        balancer.note(backend, server, None).await.map_err(|trouble| trouble.outcome(true))?;
    }
    Ok(if changed {
        Outcome::done(format!("{backend}/{server} is up"))
    } else {
        Outcome::unchanged(format!("{backend}/{server} is up, and was not drained"))
    })
}

/// The servers of all backends at one load balancer, for observation.
pub(crate) async fn observe(cloud: &CloudDriver, declared: &LoadBalancer) -> Result<Vec<Server>, Trouble> {
    let channel = Channel::to_host(&cloud.hosts, &declared.host).await?;
    let mut balancer = Balancer { declared, channel };
    let text = balancer.tell("show stat -1 4 -1").await?;
    parse_stat(&text).map_err(|why| balancer.refused(why))
}
