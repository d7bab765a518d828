//! A host's duties as a gateway of OVN's routers: moved to other hosts before it restarts, and given back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use volutus_model::inventory::Ovn;
use volutus_model::name::HostName;
use volutus_model::outcome::Outcome;

use crate::announce::{Announcer, RouterPort};
use crate::attempt::{Attempt, Attempted, permanent, state};
use crate::channel::{ASK, Channel, Trouble};

/// Between two looks at where the gateways are.
const LOOK: Duration = Duration::from_millis(500);
/// The same while they move, which takes OVN some milliseconds each: what moved is to be announced at once.
const QUICK_LOOK: Duration = Duration::from_millis(50);
/// By then OVN has moved what it moves at once, and a claim that is still missing is not waited for.
const QUICK_MAX: Duration = Duration::from_secs(5);
/// A gateway that no other host has taken after so long has no other host.
const MOVE_MAX: Duration = Duration::from_secs(30);

/// An ovn-controller that has started a while ago is through with what changed meanwhile within seconds; one
/// that is not after so long hangs.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Deserialize)]
struct Changed {
    chassis: Option<String>,
    changed: u32,
}

/// A router port, and its gateway.
#[derive(Debug, Deserialize)]
struct Gateway {
    /// Whether the host in question is it.
    here: bool,
    /// Whether that comes first.
    due: bool,
    /// OVN's name of the host that is it, of one that OVN has.
    at: Option<String>,
    /// OVN's name of the host that comes first of all others.
    next: Option<String>,
}

/// Puts the host behind all others, and waits until it is the gateway of no router. What has moved is announced.
pub(crate) async fn lower(attempt: &Attempt<'_>, ovn: &Ovn, host: &HostName) -> Attempted {
    let mut databases = Databases { attempt, ovn, channel: None };
    let before = databases.gateways(host).await.map_err(|trouble| trouble.outcome(false))?;
    let here: BTreeMap<&String, &Gateway> = before.iter().filter(|(_, gateway)| gateway.here).collect();
    let next = here.values().filter_map(|gateway| gateway.next.clone()).collect();
    let (mut announcer, mut trouble) = databases.announcer(here.keys().copied().collect(), next).await;
    let all = json!({"nbctl": ovn.nbctl, "sbctl": ovn.sbctl, "host": host});
    let lowered: Changed = databases.ask("ovn_lower", all).await.map_err(|trouble| trouble.outcome(false))?;
    let Some(chassis) = lowered.chassis else {
        return Ok(Outcome::unchanged(format!("OVN knows no chassis on {host}")));
    };
    let begun = Instant::now();
    loop {
        let now = databases.gateways(host).await.map_err(|trouble| trouble.outcome(true))?;
        for (port, gateway) in now.iter().filter(|(_, gateway)| !gateway.here) {
            if let Some(at) = &gateway.at {
                announcer.seen(port, at);
            }
        }
        announcer.announce().await;
        let active: Vec<&str> =
            now.iter().filter(|(_, gateway)| gateway.here).map(|(port, _)| port.as_str()).collect();
        let quick = begun.elapsed() < QUICK_MAX;
        let claimed = !quick || here.keys().all(|port| announcer.has_moved(port));
        if active.is_empty() && claimed && announcer.is_done() {
            trouble.insert_str(0, &announcer.told());
            let detail = format!(
                "{chassis} is the gateway of no router; {} places were lowered{trouble}",
                lowered.changed
            );
            return Ok(if lowered.changed > 0 { Outcome::done(detail) } else { Outcome::unchanged(detail) });
        }
        if !active.is_empty() && (attempt.is_over() || begun.elapsed() > MOVE_MAX) {
            return Err(permanent(
                format!(
                    "{host} is still the gateway of {} routers, the first {}: no other host takes them",
                    active.len(),
                    active[0]
                ),
                "give these routers a second gateway (`ovn-nbctl lrp-get-gateway-chassis`, neutron's \
                 `[ovn] ... enable-chassis-as-gw`) and resume; or abort, which gives the host its place back",
                vec![state(format!("gateways on {host}"), active.join("\n"))],
            ));
        }
        if !active.is_empty() {
            attempt.say(format!("waiting until {} routers have another gateway than {host}", active.len()));
        }
        attempt.pause(if quick { QUICK_LOOK } else { LOOK }).await;
    }
}

/// How far the host's ovn-controller is.
#[derive(Debug, Deserialize)]
struct Behind {
    /// The generation of OVN's configuration that it has to have.
    goal: u64,
    /// The one that it has; none where OVN knows no chassis on the host.
    seen: Option<u64>,
}

/// Gives the host back the places that were lowered, once it would serve them. What comes back is announced.
pub(crate) async fn restore(attempt: &Attempt<'_>, ovn: &Ovn, host: &HostName) -> Attempted {
    let mut databases = Databases { attempt, ovn, channel: None };
    catch_up(&mut databases, host).await?;
    let before = databases.gateways(host).await.map_err(|trouble| trouble.outcome(false))?;
    let away: Vec<&String> =
        before.iter().filter(|(_, gateway)| !gateway.here).map(|(port, _)| port).collect();
    let (mut announcer, mut trouble) = databases.announcer(away, BTreeSet::from([host.to_string()])).await;
    let all = json!({"nbctl": ovn.nbctl, "host": host});
    let restored: u32 = databases.ask("ovn_restore", all).await.map_err(|trouble| trouble.outcome(false))?;
    if restored == 0 {
        return Ok(Outcome::unchanged(format!(
            "{host} has no lowered place: it had none, or neutron has given it new ones"
        )));
    }
    let begun = Instant::now();
    loop {
        let now = match databases.gateways(host).await {
            Ok(now) => now,
            Err(unseen) => {
                // They were given back; what cannot be seen is not announced, and OVN does that itself.
                trouble = format!("; what came back was not looked at: {unseen}");
                break;
            }
        };
        for (port, _) in now.iter().filter(|(_, gateway)| gateway.here) {
            announcer.seen(port, host.as_str());
        }
        announcer.announce().await;
        let returned = !now.values().any(|gateway| gateway.due && !gateway.here);
        if attempt.is_over() || announcer.is_done() && (returned || begun.elapsed() > QUICK_MAX) {
            break;
        }
        attempt.pause(QUICK_LOOK).await;
    }
    trouble.insert_str(0, &announcer.told());
    Ok(Outcome::done(format!("{restored} places of {host} as a gateway were given back{trouble}")))
}

/// Waits until the host's switch has what OVN's databases have. Its tunnels answer as soon as the switch runs,
/// so that OVN would take it for a gateway before it knows of the routers. A host that is no chassis is taken
/// for none, and gets its places back all the same.
async fn catch_up(databases: &mut Databases<'_>, host: &HostName) -> Result<(), Outcome> {
    let (attempt, ovn) = (databases.attempt, databases.ovn);
    let begun = Instant::now();
    let mut goal = None;
    loop {
        let all = json!({"nbctl": ovn.nbctl, "sbctl": ovn.sbctl, "host": host, "goal": goal});
        let behind: Behind =
            databases.ask("ovn_behind", all).await.map_err(|trouble| trouble.outcome(false))?;
        let Some(seen) = behind.seen.filter(|seen| *seen < behind.goal) else { return Ok(()) };
        if attempt.is_over() || begun.elapsed() > CATCH_UP_MAX {
            return Err(permanent(
                format!("{host} is not given its places as a gateway: its ovn-controller has not caught up"),
                "see `systemctl status ovn-controller` and its log on the host; restart it and resume. Other \
                 hosts are the gateways meanwhile",
                vec![state(
                    format!("ovn-controller of {host}"),
                    format!("is at generation {seen} of {} (`ovn-sbctl list Chassis_Private`)", behind.goal),
                )],
            ));
        }
        goal = Some(behind.goal);
        attempt.say(format!("waiting until the ovn-controller of {host} has caught up"));
        attempt.pause(LOOK).await;
    }
}

/// The conversation with OVN's databases: kept, because where gateways are is asked many times in a second.
struct Databases<'a> {
    attempt: &'a Attempt<'a>,
    ovn: &'a Ovn,
    channel: Option<Channel>,
}

impl<'a> Databases<'a> {
    async fn ask<T: DeserializeOwned>(&mut self, operation: &str, arguments: Value) -> Result<T, Trouble> {
        let mut channel = match self.channel.take() {
            Some(channel) => channel,
            None => Channel::to_host(&self.attempt.cloud.hosts, &self.ovn.host).await?,
        };
        let answer = channel.ask(operation, arguments, ASK).await;
        // One that broke is opened anew by the next question.
        if !matches!(answer, Err(Trouble::Connection(_))) {
            self.channel = Some(channel);
        }
        answer
    }

    /// The router ports whose gateway the host is or may be, by OVN's names of them.
    async fn gateways(&mut self, host: &HostName) -> Result<BTreeMap<String, Gateway>, Trouble> {
        self.ask("ovn_gateways", json!({"sbctl": self.ovn.sbctl, "host": host})).await
    }

    /// Who announces these ports once they have moved, most likely to hosts that OVN calls `likely`; and, to be
    /// told with the outcome, why it will announce none.
    async fn announcer(&mut self, ports: Vec<&String>, likely: BTreeSet<String>) -> (Announcer<'a>, String) {
        let asked = json!({"sbctl": self.ovn.sbctl, "ports": ports});
        let found: Result<Vec<RouterPort>, _> = self.ask("ovn_router_ports", asked).await;
        let (ports, trouble) = match found {
            Ok(ports) => (ports, String::new()),
            Err(trouble) => (Vec::new(), format!("; nothing was announced: {trouble}")),
        };
        (Announcer::new(self.attempt.cloud, self.ovn, ports, likely).await, trouble)
    }
}
