//! Boots an instance with a port on a compute host, sees it work, and deletes it. Some faults show
//! in nothing else: a compute that takes no port of the cloud's kind reports in as ever.

use std::time::{Duration, Instant};

use volutus_model::name::HostName;
use volutus_model::outcome::{Evidence, Outcome};
use volutus_openstack::compute::{Attachment, Destination, NewServer, Server, ServerFilter};
use volutus_openstack::network::{Port, PortFilter};

use crate::attempt::{Attempt, Attempted, permanent, state, transient};
use crate::compute::{api_outcome, disabled_by_others};
use crate::work::safe;

/// Between two looks at the instance.
const LOOK: Duration = Duration::from_millis(500);
/// How long a deletion may take, after the attempt's own time if need be: an instance left behind
/// is a burden on somebody's cloud.
const DELETE_TIME: Duration = Duration::from_secs(40);
/// How long nova may find no place on a host that was just enabled. nova-compute tells placement that it is, by the
/// trait COMPUTE_STATUS_DISABLED, and where that collides with its own periodic report it is left to the next one:
/// `update_resources_interval`, a minute by default (nova, `_update_compute_provider_status` in compute/manager.py).
const PLACED_WITHIN: Duration = Duration::from_secs(150);
/// Before it is asked for a place again.
const NOT_PLACED: Duration = Duration::from_secs(5);
/// How nova's fault begins where the scheduler found no host; one that was found and did not build it has another.
const NO_VALID_HOST: &str = "No valid host was found";

/// How a canary instance went wrong.
struct Wrong {
    outcome: Outcome,
    /// Whether nova found no place for it, so that the host has not been asked at all.
    unplaced: bool,
}

impl From<Outcome> for Wrong {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, unplaced: false }
    }
}

/// Boots the canary, and deletes it however it went.
pub(crate) async fn boot(attempt: &Attempt<'_>, host: &HostName) -> Attempted {
    if let Some(reason) = disabled_by_others(attempt, host).await? {
        return Ok(Outcome::unchanged(format!(
            "{host} was disabled by somebody else ({reason}), so that no instance can boot there"
        )));
    }
    let begun = Instant::now();
    loop {
        match boot_one(attempt, host).await {
            Ok(done) => return Ok(done),
            Err(wrong) if !wrong.unplaced || begun.elapsed() > PLACED_WITHIN || attempt.is_over() => {
                return Err(wrong.outcome);
            }
            Err(_) => {
                attempt.say(format!(
                    "nova finds no place on {host} yet, which was just enabled; its nova-compute reports that within \
                     a minute"
                ));
                attempt.pause(NOT_PLACED).await;
            }
        }
    }
}

/// Boots one, and deletes it however it went.
async fn boot_one(attempt: &Attempt<'_>, host: &HostName) -> Result<Outcome, Wrong> {
    let name = format!("volutus-canary-{}", safe(attempt.order.attempt.as_str()));
    let doing = format!("booting a canary instance on {host}");
    let id = match find(attempt, &name).await.map_err(|error| api_outcome(&doing, &error))? {
        Some(server) => server.id,
        None => create(attempt, host, &name).await.map_err(|error| api_outcome(&doing, &error))?,
    };
    let seen = watch(attempt, host, &id).await;
    let deleted = delete(attempt, &id).await;
    match (seen, deleted) {
        (Ok(detail), Ok(())) => Ok(Outcome::done(format!("{detail}; it is deleted again"))),
        (Ok(detail), Err(why)) => Err(transient(
            format!("{detail}, but instance {name} could not be deleted: {why}"),
            format!("delete it with `openstack server delete {id}`, then resume"),
            vec![state(format!("instance {id}"), why)],
        )
        .into()),
        (Err(wrong), Ok(())) => Err(wrong),
        (Err(Wrong { outcome: Outcome::Failed(mut failure), .. }), Err(why)) => {
            failure.hint.push_str(&format!(
                "; besides, delete the instance {name} ({id}), which could not be deleted: {why}"
            ));
            Err(Outcome::Failed(failure).into())
        }
        (Err(wrong), Err(_)) => Err(wrong),
    }
}

/// The canary of this very attempt, if an earlier process has made it already.
async fn find(attempt: &Attempt<'_>, name: &str) -> Result<Option<Server>, volutus_openstack::Error> {
    if !attempt.order.taken_up {
        return Ok(None);
    }
    let filter = ServerFilter { name: Some(name.replace('.', "\\.")), ..ServerFilter::default() };
    let servers = attempt.cloud.operator.compute().servers(&filter).await?;
    Ok(servers.into_iter().find(|server| server.name == name))
}

async fn create(
    attempt: &Attempt<'_>,
    host: &HostName,
    name: &str,
) -> Result<String, volutus_openstack::Error> {
    let operator = &attempt.cloud.operator;
    let resources = &attempt.cloud.inventory.prober;
    let image = operator.image().image(&resources.image).await?;
    let flavor = operator.compute().flavor(&resources.flavor).await?;
    let network = operator.network().network(&resources.network).await?;
    let server = NewServer {
        name: name.to_owned(),
        image: image.id,
        flavor: flavor.id,
        attachments: vec![Attachment::Network(network.id)],
        destination: Destination::Host(host.to_string()),
    };
    Ok(operator.compute().create_server(&server).await?.id)
}

/// Watches the instance until it is ACTIVE on the host with a bound, active port.
async fn watch(attempt: &Attempt<'_>, host: &HostName, id: &str) -> Result<String, Wrong> {
    let operator = &attempt.cloud.operator;
    let begun = Instant::now();
    loop {
        let seen = match operator.compute().server(id).await {
            Ok(None) => {
                return Err(
                    failed(host, format!("instance {id} is gone before it was ACTIVE"), vec![]).into()
                );
            }
            Ok(Some(server)) if server.status == "ERROR" => return Err(fault(attempt, host, &server).await),
            Ok(Some(server)) if server.status == "ACTIVE" => {
                if server.host.as_deref().is_some_and(|on| on != host.as_str()) {
                    let on = server.host.unwrap_or_default();
                    return Err(failed(host, format!("instance {id} was put on {on} instead"), vec![]).into());
                }
                let filter = PortFilter { device_id: Some(id.to_owned()), ..PortFilter::default() };
                match operator.network().ports(&filter).await.map(|ports| port_state(&ports)) {
                    Ok(Ok(vif_type)) => {
                        return Ok(format!(
                            "an instance with a port of type {vif_type} is ACTIVE on {host} after {:.1} s",
                            begun.elapsed().as_secs_f64()
                        ));
                    }
                    Ok(Err(why)) => why,
                    Err(error) => error.to_string(),
                }
            }
            Ok(Some(server)) => match server.task_state.as_deref() {
                Some(doing) => format!("{} ({doing})", server.status),
                None => server.status,
            },
            // One answer that does not come is no verdict on the compute; the time limit is.
            Err(error) => error.to_string(),
        };
        if attempt.is_over() {
            let evidence = vec![state(format!("instance {id}"), &seen), log(attempt, host).await];
            return Err(failed(host, format!("the instance does not become ACTIVE: {seen}"), evidence).into());
        }
        attempt.say(format!("canary instance on {host}: {seen}"));
        attempt.pause(LOOK).await;
    }
}

/// The VIF type of the instance's port, where it is bound and active; else what is wrong.
fn port_state(ports: &[Port]) -> Result<String, String> {
    let Some(port) = ports.first() else { return Err("the instance has no port".to_owned()) };
    match port.vif_type.as_deref() {
        None | Some("" | "unbound" | "binding_failed") => {
            Err(format!("port {} is not bound ({})", port.id, port.vif_type.as_deref().unwrap_or("no type")))
        }
        Some(_) if port.status != "ACTIVE" => Err(format!("port {} is {}", port.id, port.status)),
        Some(vif_type) => Ok(vif_type.to_owned()),
    }
}

async fn fault(attempt: &Attempt<'_>, host: &HostName, server: &Server) -> Wrong {
    let (message, details) = server.fault.as_ref().map_or_else(
        || ("nova gives no fault".to_owned(), String::new()),
        |fault| (fault.message.clone(), fault.details.clone().unwrap_or_default()),
    );
    let evidence = vec![
        state(format!("fault of instance {}", server.id), format!("{message}\n{details}")),
        log(attempt, host).await,
    ];
    let unplaced = message.starts_with(NO_VALID_HOST);
    Wrong { outcome: failed(host, format!("the instance is in state ERROR: {message}"), evidence), unplaced }
}

fn failed(host: &HostName, seen: String, evidence: Vec<Evidence>) -> Outcome {
    permanent(
        format!("a canary instance does not work on {host}: {seen}"),
        format!(
            "read the fault below; no other compute has been touched. Mend {host} and resume, or abort and put \
             its nova-compute back"
        ),
        evidence,
    )
}

/// The end of nova-compute's log there, as evidence.
async fn log(attempt: &Attempt<'_>, host: &HostName) -> Evidence {
    let compute = attempt
        .cloud
        .inventory
        .daemons()
        .find(|(id, _, _)| id.host == *host && id.kind.as_str() == "nova-compute")
        .map_or_else(|| "nova-compute.service".to_owned(), |(_, _, declared)| declared.unit.clone());
    crate::release::log(attempt, host, &compute).await
}

/// Deletes the instance and waits until it is gone.
async fn delete(attempt: &Attempt<'_>, id: &str) -> Result<(), String> {
    let compute = attempt.cloud.operator.compute();
    let end = Instant::now() + DELETE_TIME;
    let mut asked = false;
    loop {
        // Asking for it may fail while a daemon of the control plane is being replaced.
        let seen = if asked {
            match compute.server(id).await {
                Ok(None) => return Ok(()),
                Ok(Some(server)) => {
                    let fault = server.fault.map(|fault| format!(": {}", fault.message)).unwrap_or_default();
                    format!("it is still there, in state {}{fault}", server.status)
                }
                Err(error) => error.to_string(),
            }
        } else {
            match compute.delete_server(id).await {
                Ok(true) => {
                    asked = true;
                    "its deletion was asked for".to_owned()
                }
                Ok(false) => return Ok(()),
                Err(error) => error.to_string(),
            }
        };
        if Instant::now() >= end {
            return Err(format!("after {} s {seen}", DELETE_TIME.as_secs()));
        }
        attempt.say("waiting until the canary instance is gone");
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(vif_type: Option<&str>, status: &str) -> Port {
        let text = serde_json::json!({
            "id": "p", "status": status, "device_id": "i", "network_id": "n", "binding:vif_type": vif_type,
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn only_a_bound_and_active_port_counts() {
        assert_eq!(port_state(&[port(Some("ovs"), "ACTIVE")]), Ok("ovs".to_owned()));
        for bad in [port(Some("binding_failed"), "DOWN"), port(Some("ovs"), "DOWN"), port(None, "ACTIVE")] {
            assert!(port_state(&[bad]).is_err());
        }
        assert!(port_state(&[]).is_err());
    }
}
