//! Instances that are put to rest while their host restarts: stopped with consent, and started again.
//! What Volutus stopped carries its mark; what carries no mark is somebody else's to start.

use std::time::Duration;

use futures::StreamExt as _;
use volutus_model::fleet::STOPPED_TAG;
use volutus_model::name::HostName;
use volutus_model::outcome::Outcome;
use volutus_openstack::Error;
use volutus_openstack::compute::Server;

use crate::attempt::{Attempt, Attempted, permanent, state, transient};
use crate::compute::api_outcome;

/// Between two looks at an instance: nova needs seconds to stop or start one.
const LOOK: Duration = Duration::from_millis(700);
/// How many are stopped or started at once: each is a call to one compute, and what starts at once
/// reads its disks at once.
const AT_ONCE: usize = 8;
/// How often it is asked for: nova refuses while something else is being done with the instance.
const ASKED_MAX: u32 = 3;

/// What came of one instance.
enum Rested {
    /// It is as it was to be; `changed` by this attempt.
    Well { detail: String, changed: bool },
    /// It is not, and by itself will not be.
    Stays(String),
    /// The time is up.
    Late(String),
}

/// What is wanted of instances.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Off,
    On,
}

/// Stops instances, marked before anything is asked of nova, so that no crash leaves one unmarked.
pub(crate) async fn stop(attempt: &Attempt<'_>, host: &HostName, instances: &[String]) -> Attempted {
    all(attempt, host, instances, Wanted::Off).await
}

/// Starts what carries the mark.
pub(crate) async fn start(attempt: &Attempt<'_>, host: &HostName, instances: &[String]) -> Attempted {
    all(attempt, host, instances, Wanted::On).await
}

async fn all(attempt: &Attempt<'_>, host: &HostName, instances: &[String], wanted: Wanted) -> Attempted {
    let each: Vec<_> = instances
        .iter()
        .map(|id| async move {
            match wanted {
                Wanted::Off => stop_one(attempt, host, id).await,
                Wanted::On => start_one(attempt, id).await,
            }
            .map(|rested| (id, rested))
        })
        .collect();
    let results: Vec<_> = futures::stream::iter(each).buffer_unordered(AT_ONCE).collect().await;
    let (mut details, mut stay, mut late, mut changes) = (Vec::new(), Vec::new(), Vec::new(), 0_usize);
    let doing = match wanted {
        Wanted::Off => "stopped",
        Wanted::On => "started",
    };
    for result in results {
        match result {
            Ok((id, Rested::Well { detail, changed })) => {
                changes += usize::from(changed);
                details.push(format!("{id} {detail}"));
            }
            Ok((id, Rested::Stays(why))) => stay.push(format!("{id}: {why}")),
            Ok((id, Rested::Late(why))) => late.push(format!("{id}: {why}")),
            // The others have come to their end; this one is looked at again.
            Err(error) => return Err(api_outcome(&format!("having instances on {host} {doing}"), &error)),
        }
    }
    details.sort();
    if stay.is_empty() && late.is_empty() {
        let detail = format!("{changes} of {} instances {doing}: {}", instances.len(), details.join("; "));
        return Ok(if changes > 0 { Outcome::done(detail) } else { Outcome::unchanged(detail) });
    }
    let left = [stay.as_slice(), late.as_slice()].concat();
    let message = format!(
        "{} of {} instances on {host} are not {doing}, the first {}",
        left.len(),
        instances.len(),
        left[0]
    );
    let hint = match wanted {
        Wanted::Off => {
            "they run on, untouched. Stop them as their owners would, or have them moved, and resume; or abort: \
             what was stopped is started again"
        }
        Wanted::On => {
            "see the instance's actions (`openstack server event list`) and nova-compute's log; mend the cause and \
             resume. What is still marked `volutus:stopped` is started by `resume`, `abort` or `volutus undrain`"
        }
    };
    let evidence = vec![state(format!("instances on {host} that are not {doing}"), left.join("\n"))];
    // What is late may come; what nova refuses or has given up does not.
    Err(if stay.is_empty() { transient(message, hint, evidence) } else { permanent(message, hint, evidence) })
}

/// An instance once nothing is being done with it; or what is to be said of it without that.
async fn at_rest(attempt: &Attempt<'_>, id: &str) -> Result<Result<Server, Rested>, Error> {
    loop {
        match attempt.cloud.operator.compute().server(id).await {
            Ok(None) => return Ok(Err(well("was deleted by its owner", false))),
            Ok(Some(server)) if server.task_state.is_none() && server.status != "UNKNOWN" => {
                return Ok(Ok(server));
            }
            Ok(Some(server)) => {
                // nova tells no state of an instance whose cell is down.
                let doing = server.task_state.unwrap_or_else(|| "its cell does not answer".to_owned());
                if attempt.is_over() {
                    return Ok(Err(Rested::Late(format!("the time is up while it is {doing}"))));
                }
                attempt.say(format!("waiting for instance {id}: {doing}"));
            }
            // One answer that does not come is no verdict; the time limit is.
            Err(error) if attempt.is_over() => return Err(error),
            Err(error) => attempt.say(format!("instance {id} is not seen: {error}")),
        }
        attempt.pause(LOOK).await;
    }
}

async fn stop_one(attempt: &Attempt<'_>, host: &HostName, id: &str) -> Result<Rested, Error> {
    let calls = attempt.cloud.operator.migration();
    let mut asked = 0;
    loop {
        let server = match at_rest(attempt, id).await? {
            Ok(server) => server,
            Err(rested) => return Ok(rested),
        };
        let marked = server.tags.iter().any(|tag| tag == STOPPED_TAG);
        if server.host.as_deref() != Some(host.as_str()) {
            return Ok(well("is on another host by now", false));
        }
        match server.status.as_str() {
            "SHUTOFF" if marked => return Ok(well("is off", asked > 0)),
            "SHUTOFF" => return Ok(well("was off by its owner's doing, and stays so", false)),
            "ACTIVE" if asked >= ASKED_MAX => {
                return Ok(Rested::Stays(format!("nova was asked {asked} times to stop it, and it runs")));
            }
            "ACTIVE" if attempt.is_over() => {
                return Ok(Rested::Late("the time is up while it runs".to_owned()));
            }
            "ACTIVE" => {
                if !marked {
                    calls.tag(id, STOPPED_TAG).await?;
                }
                if let Some(refusal) = refused(calls.stop(id).await)? {
                    attempt.say(format!("instance {id} is not stopped yet: {refusal}"));
                }
                asked += 1;
            }
            // nova stops what runs, and nothing else.
            other => {
                return Ok(Rested::Stays(format!("its state is {other}, from which nova does not stop it")));
            }
        }
        attempt.pause(LOOK).await;
    }
}

async fn start_one(attempt: &Attempt<'_>, id: &str) -> Result<Rested, Error> {
    let calls = attempt.cloud.operator.migration();
    let mut asked = 0;
    loop {
        let server = match at_rest(attempt, id).await? {
            Ok(server) => server,
            Err(rested) => return Ok(rested),
        };
        if !server.tags.iter().any(|tag| tag == STOPPED_TAG) {
            return Ok(well("is not marked as stopped by Volutus, and is left as it is", false));
        }
        match server.status.as_str() {
            "SHUTOFF" if asked >= ASKED_MAX => {
                return Ok(Rested::Stays(format!("nova was asked {asked} times to start it, and it is off")));
            }
            "SHUTOFF" if attempt.is_over() => {
                return Ok(Rested::Late("the time is up while it is off".to_owned()));
            }
            "SHUTOFF" => {
                if let Some(refusal) = refused(calls.start(id).await)? {
                    attempt.say(format!("instance {id} is not started yet: {refusal}"));
                }
                asked += 1;
            }
            "ERROR" => {
                let fault = server.fault.map(|fault| fault.message).unwrap_or_default();
                return Ok(Rested::Stays(format!("it is in state ERROR: {fault}")));
            }
            other => {
                calls.untag(id, STOPPED_TAG).await?;
                let detail = if other == "ACTIVE" { "runs" } else { "was taken up by its owner" };
                return Ok(well(detail, asked > 0));
            }
        }
        attempt.pause(LOOK).await;
    }
}

fn well(detail: &str, changed: bool) -> Rested {
    Rested::Well { detail: detail.to_owned(), changed }
}

/// What nova says where it does not do something at the moment, because something else is being done.
fn refused(result: Result<(), Error>) -> Result<Option<String>, Error> {
    match result {
        Ok(()) => Ok(None),
        Err(error @ Error::Status { status: 404 | 409, .. }) => Ok(Some(error.to_string())),
        Err(error) => Err(error),
    }
}
