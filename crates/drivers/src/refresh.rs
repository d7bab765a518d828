//! Lets a daemon forget what it has cached of its peers' versions.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use volutus_model::name::{DaemonId, ServiceName};
use volutus_model::outcome::Outcome;
use volutus_model::plan::Refresh;

use crate::attempt::{Attempt, Attempted, command, permanent};
use crate::channel::{ASK, Channel, standalone};
use crate::prove::{self, Unit};
use crate::release::log;
use crate::work::{Program, perform};

/// How long the process is watched after the signal. A service of oslo.service that cannot reload
/// its configuration ends at once; the proofs of the next step see the rest.
const WATCHED: Duration = Duration::from_secs(3);

#[derive(Deserialize)]
struct Signalled {
    code: i32,
    output: String,
}

/// Refreshes a daemon, and sees that it still runs.
pub(crate) async fn refresh(
    attempt: &Attempt<'_>,
    daemon: &DaemonId,
    service: &ServiceName,
    unit: &str,
    how: Refresh,
) -> Attempted {
    match how {
        Refresh::Hangup => hangup(attempt, daemon, service, unit).await,
        Refresh::Restart => restart(attempt, daemon, service, unit).await,
    }
}

async fn hangup(attempt: &Attempt<'_>, daemon: &DaemonId, service: &ServiceName, unit: &str) -> Attempted {
    let host = &daemon.host;
    let mut channel = Channel::to_host(&attempt.cloud.hosts, host)
        .await
        .map_err(|error| error.outcome(attempt.order.taken_up))?;
    let unit_now = Unit { cloud: attempt.cloud, daemon, service, unit };
    let before = unit_now.look(&mut channel).await.map_err(|trouble| trouble.outcome(false))?;
    if before.active != "active" || before.pid == 0 {
        return Err(permanent(
            format!("{daemon} does not run ({}), so there is nothing to refresh", before.active),
            format!("start {unit} on {host}, then resume"),
            vec![log(attempt, host, unit).await],
        ));
    }
    let sent: Signalled =
        channel.ask("hangup", json!({"unit": unit}), ASK).await.map_err(|trouble| trouble.outcome(true))?;
    if sent.code != 0 {
        let argv = ["systemctl", "kill", "-s", "HUP", unit].map(str::to_owned);
        return Err(permanent(
            format!("SIGHUP to {daemon} was refused"),
            format!("see the output below; mend it on {host}, then resume"),
            vec![command(host, &argv, Some(sent.code), &sent.output)],
        ));
    }
    let end = tokio::time::Instant::now() + WATCHED.min(attempt.left());
    while tokio::time::Instant::now() < end {
        let now = unit_now.look(&mut channel).await.map_err(|trouble| trouble.outcome(true))?;
        if now.pid != before.pid || now.restarts != before.restarts || now.active != "active" {
            return Err(permanent(
                format!(
                    "{daemon} did not live through SIGHUP: process {} became {}, the unit is {}",
                    before.pid, now.pid, now.active
                ),
                format!("read the log below; see that {unit} runs on {host}, then resume"),
                vec![log(attempt, host, unit).await],
            ));
        }
        attempt.pause(Duration::from_millis(300)).await;
    }
    Ok(Outcome::done(format!("process {} of {unit} got SIGHUP and runs on", before.pid)))
}

async fn restart(attempt: &Attempt<'_>, daemon: &DaemonId, service: &ServiceName, unit: &str) -> Attempted {
    let host = &daemon.host;
    let argv = ["systemctl", "restart", unit].map(str::to_owned).to_vec();
    // Restarting twice does no harm, and the unit that does it survives a lost connection.
    let program = Program::Python(standalone(
        &json!({"argv": argv, "rerun": [], "passes_max": 1, "stuck_code": 97}),
        &[include_str!("host/schema.py")],
    ));
    let finished = perform(attempt, host, &format!("restart of {}", daemon.kind), &program).await?;
    if finished.exit_code != 0 {
        return Err(permanent(
            format!("restarting {daemon} ended with exit code {}", finished.exit_code),
            format!("read the log below; mend the cause on {host}, then resume"),
            vec![
                command(host, &argv, Some(finished.exit_code), &finished.output),
                log(attempt, host, unit).await,
            ],
        ));
    }
    let claim = prove::Claim { daemon, service, unit, version: None, proofs: &[] };
    prove::prove(attempt, &claim).await?;
    Ok(Outcome::done(format!("{unit} was restarted and runs")))
}
