//! Keeps new instances off a compute host while its daemon is replaced, and lets them on again.

use std::collections::BTreeSet;
use std::time::Duration;

use volutus_model::fleet::REASON_TOKEN as TOKEN;
use volutus_model::name::{HostName, ServiceName};
use volutus_model::outcome::Outcome;
use volutus_openstack::compute::Service;
use volutus_openstack::{Error, Method, Request, ServiceType};

use crate::attempt::{Attempt, Attempted, permanent, state, transient};
use crate::channel::Trouble;
use crate::database;

/// Between two looks at what is under way: boots take seconds.
const LOOK: Duration = Duration::from_millis(400);

/// The outcome of an attempt that an API call ended. Answers of 5xx and missing answers may be
/// different the next time.
pub(crate) fn api_outcome(doing: &str, error: &Error) -> Outcome {
    let message = format!("{doing}: {error}");
    let evidence = vec![state("OpenStack's API", error.to_string())];
    let passing = match error {
        Error::Unreachable { .. } => true,
        Error::Status { status, .. } => *status >= 500,
        _ => false,
    };
    if passing {
        transient(message, error.hint(), evidence)
    } else {
        permanent(message, error.hint(), evidence)
    }
}

/// The record of nova-compute on a host.
async fn record(attempt: &Attempt<'_>, host: &HostName) -> Result<Service, Outcome> {
    let doing = format!("reading the compute service of {host}");
    let path = format!("/os-services?binary=nova-compute&host={host}");
    let request = Request::new(Method::GET, ServiceType::Compute, path)
        .microversion(volutus_openstack::compute::MICROVERSION);
    let read = async {
        let answer = attempt.cloud.operator.request(&request).await?;
        answer.expect_status(&[200])?.part::<Vec<Service>>("services")
    };
    let services = read.await.map_err(|error| api_outcome(&doing, &error))?;
    services.into_iter().find(|service| service.host == host.as_str()).ok_or_else(|| {
        permanent(
            format!("nova knows no nova-compute on {host}"),
            "the name of the host in the cloud description must be the one that nova's service list shows",
            vec![],
        )
    })
}

/// Why somebody else than Volutus disabled a host, where it is so.
pub(crate) async fn disabled_by_others(
    attempt: &Attempt<'_>,
    host: &HostName,
) -> Result<Option<String>, Outcome> {
    let service = record(attempt, host).await?;
    let reason = service.disabled_reason.unwrap_or_default();
    Ok((service.status == "disabled" && !reason.starts_with(TOKEN)).then_some(reason))
}

/// Disables the compute service, and waits until nothing is under way that was scheduled to it.
pub(crate) async fn disable(attempt: &Attempt<'_>, host: &HostName, unless_others_did: bool) -> Attempted {
    let service = record(attempt, host).await?;
    let reason = format!("{TOKEN}{}", attempt.order.run);
    let found = service.disabled_reason.clone().unwrap_or_default();
    let (changed, told) = if service.status != "disabled" {
        let done = attempt.cloud.operator.compute().disable_service(&service.id, &reason).await;
        done.map_err(|error| api_outcome(&format!("disabling nova-compute on {host}"), &error))?;
        (true, format!("nova-compute on {host} is disabled ({reason})"))
    } else if found.starts_with(TOKEN) {
        (false, format!("nova-compute on {host} is disabled already ({found})"))
    } else if unless_others_did {
        return Err(permanent(
            format!("nova-compute on {host} was disabled by somebody else ({found}); it is left to them"),
            "nothing was done there, and its instances run on. When whoever did it has enabled it again, \
             resume; or abort, and plan anew without it",
            vec![state(format!("nova-compute on {host}"), format!("disabled: {found}"))],
        ));
    } else {
        (false, format!("nova-compute on {host} was disabled by somebody else ({found}) and is left so"))
    };
    settle(attempt, host).await?;
    let detail = format!("{told}; nothing is under way there");
    Ok(if changed { Outcome::done(detail) } else { Outcome::unchanged(detail) })
}

/// Waits until no instance of the host is being changed, and until every build that may have been
/// scheduled before the service was disabled has found its host.
async fn settle(attempt: &Attempt<'_>, host: &HostName) -> Result<(), Outcome> {
    let nova = attempt.cloud.service(&nova_name())?;
    let mut channel = None;
    // Builds that no host had taken at the first look; later ones are not scheduled here.
    let mut earlier: Option<BTreeSet<String>> = None;
    loop {
        let seen = async {
            let mut open = match channel.take() {
                Some(open) => open,
                None => database::open(attempt.cloud, nova).await?,
            };
            let seen = database::under_way(&mut open, attempt.cloud, nova, host).await?;
            channel = Some(open);
            Ok::<_, Trouble>(seen)
        }
        .await;
        let last = match seen {
            Ok(seen) => {
                let unplaced: BTreeSet<String> = seen.unplaced.into_iter().collect();
                let waiting = match &mut earlier {
                    Some(earlier) => {
                        earlier.retain(|id| unplaced.contains(id));
                        earlier.len()
                    }
                    None => earlier.insert(unplaced).len(),
                };
                if seen.busy.is_empty() && waiting == 0 {
                    return Ok(());
                }
                let busy = seen.busy.join(", ");
                format!(
                    "{} instances change there ({busy}), {waiting} builds have no host yet",
                    seen.busy.len()
                )
            }
            Err(trouble) if attempt.is_over() => return Err(trouble.outcome(true)),
            Err(trouble) => trouble.to_string(),
        };
        if attempt.is_over() {
            return Err(permanent(
                format!("nova-compute on {host} is disabled, and does not come to rest"),
                "see what holds these instances up (`openstack server show`); let it end, or reset their state; then \
                 resume",
                vec![state(format!("work under way on {host}"), last)],
            ));
        }
        attempt
            .say(format!("waiting until {host} is at rest: {}", last.chars().take(120).collect::<String>()));
        attempt.pause(LOOK).await;
    }
}

/// Enables a compute service that Volutus disabled; others' are left as they are.
pub(crate) async fn enable(attempt: &Attempt<'_>, host: &HostName) -> Attempted {
    let service = record(attempt, host).await?;
    if service.status != "disabled" {
        return Ok(Outcome::unchanged(format!("nova-compute on {host} is enabled already")));
    }
    let reason = service.disabled_reason.clone().unwrap_or_default();
    if !reason.starts_with(TOKEN) {
        return Ok(Outcome::unchanged(format!(
            "nova-compute on {host} was disabled by somebody else ({reason}) and stays so"
        )));
    }
    let done = attempt.cloud.operator.compute().enable_service(&service.id).await;
    let after = done.map_err(|error| api_outcome(&format!("enabling nova-compute on {host}"), &error))?;
    Ok(Outcome::done(format!("nova-compute on {host} is {}", after.status)))
}

/// The service that computes belong to.
pub(crate) fn nova_name() -> ServiceName {
    ServiceName::new("nova").expect("it is a valid name")
}
