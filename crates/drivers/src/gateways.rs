//! A host's duties as a gateway of OVN's routers: moved to other hosts before it restarts, and given back.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use volutus_model::inventory::Ovn;
use volutus_model::name::HostName;
use volutus_model::outcome::Outcome;

use crate::attempt::{Attempt, Attempted, permanent, state};
use crate::channel::{ASK, Channel, Trouble};

/// Between two looks at where the gateways are: OVN moves one within a second.
const LOOK: Duration = Duration::from_millis(500);
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

/// Puts the host behind all others, and waits until it is the gateway of no router.
pub(crate) async fn lower(attempt: &Attempt<'_>, ovn: &Ovn, host: &HostName) -> Attempted {
    let all = json!({"nbctl": ovn.nbctl, "sbctl": ovn.sbctl, "host": host});
    let lowered: Changed =
        ask(attempt, ovn, "ovn_lower", all).await.map_err(|trouble| trouble.outcome(false))?;
    let Some(chassis) = lowered.chassis else {
        return Ok(Outcome::unchanged(format!("OVN knows no chassis on {host}")));
    };
    let begun = std::time::Instant::now();
    loop {
        let here = json!({"sbctl": ovn.sbctl, "host": host});
        let active: Vec<String> =
            ask(attempt, ovn, "ovn_active", here).await.map_err(|trouble| trouble.outcome(true))?;
        if active.is_empty() {
            let detail =
                format!("{chassis} is the gateway of no router; {} places were lowered", lowered.changed);
            return Ok(if lowered.changed > 0 { Outcome::done(detail) } else { Outcome::unchanged(detail) });
        }
        if attempt.is_over() || begun.elapsed() > MOVE_MAX {
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
        attempt.say(format!("waiting until {} routers have another gateway than {host}", active.len()));
        attempt.pause(LOOK).await;
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

/// Gives the host back the places that were lowered, once it would serve them.
pub(crate) async fn restore(attempt: &Attempt<'_>, ovn: &Ovn, host: &HostName) -> Attempted {
    catch_up(attempt, ovn, host).await?;
    let all = json!({"nbctl": ovn.nbctl, "host": host});
    let restored: u32 =
        ask(attempt, ovn, "ovn_restore", all).await.map_err(|trouble| trouble.outcome(false))?;
    Ok(if restored > 0 {
        Outcome::done(format!("{restored} places of {host} as a gateway were given back"))
    } else {
        Outcome::unchanged(format!(
            "{host} has no lowered place: it had none, or neutron has given it new ones"
        ))
    })
}

/// Waits until the host's switch has what OVN's databases have. Its tunnels answer as soon as the switch runs,
/// so that OVN would take it for a gateway before it knows of the routers. A host that is no chassis is taken
/// for none, and gets its places back all the same.
async fn catch_up(attempt: &Attempt<'_>, ovn: &Ovn, host: &HostName) -> Result<(), Outcome> {
    let begun = std::time::Instant::now();
    let mut goal = None;
    loop {
        let all = json!({"nbctl": ovn.nbctl, "sbctl": ovn.sbctl, "host": host, "goal": goal});
        let behind: Behind =
            ask(attempt, ovn, "ovn_behind", all).await.map_err(|trouble| trouble.outcome(false))?;
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

async fn ask<T: DeserializeOwned>(
    attempt: &Attempt<'_>,
    ovn: &Ovn,
    operation: &str,
    arguments: Value,
) -> Result<T, Trouble> {
    let mut channel = Channel::to_host(&attempt.cloud.hosts, &ovn.host).await?;
    channel.ask(operation, arguments, ASK).await
}
