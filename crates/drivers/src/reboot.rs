//! Restarts a host exactly once, and sees it come back.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use volutus_model::name::HostName;
use volutus_model::outcome::Outcome;

use crate::attempt::{Attempt, Attempted, command, last_line, permanent, state};
use crate::channel::{ASK, Channel, Trouble};
use crate::work::{Program, perform, safe};

/// Between two tries to reach a host that restarts: servers take minutes, virtual ones seconds.
const LOOK: Duration = Duration::from_secs(1);
/// Where the host remembers, over its restart, what it was before.
const DIRECTORY: &str = "/var/lib/volutus";

/// A host's boot, and what it was when the restart was ordered.
#[derive(Debug, Deserialize)]
struct Boot {
    /// Differs after every boot.
    boot: String,
    /// `uname -r`.
    kernel: String,
    /// The boot in which the restart was ordered; absent where it has not been.
    before: Option<String>,
    /// systemd's word: `running`, `degraded`, `starting`, ...
    system: String,
}

/// Orders the restart, unless that was done, and waits until the host is up in another boot.
pub(crate) async fn reboot(attempt: &Attempt<'_>, host: &HostName, kernel: Option<&str>) -> Attempted {
    // The same for every attempt at this step of this run: the restart is ordered once.
    let name = format!("{}-{}", safe(attempt.order.run.as_str()), safe(attempt.order.step.as_str()));
    let marker = format!("{DIRECTORY}/reboot-{name}");
    let begun = Instant::now();
    let mut ordered = false;
    loop {
        let last = match ask(attempt, host, "boot", &marker).await {
            Ok(seen) => match &seen.before {
                Some(before) if *before != seen.boot => {
                    if matches!(seen.system.as_str(), "running" | "degraded") {
                        return back(attempt, host, kernel, &seen, ordered.then(|| begun.elapsed())).await;
                    }
                    format!("it is up again, and systemd is {}", seen.system)
                }
                Some(_) if ordered => "it has not gone down yet".to_owned(),
                // Not ordered, or by an attempt that ended before the host went down.
                _ => {
                    // Opened anew from here on: the connection dies with the host.
                    ask(attempt, host, "boot_again", &marker)
                        .await
                        .map_err(|trouble| trouble.outcome(true))?;
                    ordered = true;
                    "its restart was ordered".to_owned()
                }
            },
            Err(Trouble::Connection(error)) if ordered || attempt.order.taken_up || attempt.order.retried => {
                error.to_string()
            }
            Err(trouble) => return Err(trouble.outcome(false)),
        };
        if attempt.is_over() {
            let what = if ordered {
                "has not come back from its restart"
            } else {
                "does not answer, and an earlier attempt may have restarted it"
            };
            return Err(permanent(
                format!("{host} {what}: {last}"),
                "look at its console. It stays disabled and carries nothing; when it is up, resume. To go on \
                 without it, abort: what was moved stays where it is",
                vec![state(format!("restart of {host}"), last)],
            ));
        }
        attempt.say(format!("waiting for {host}: {}", last.chars().take(120).collect::<String>()));
        attempt.pause(LOOK).await;
    }
}

async fn back(
    attempt: &Attempt<'_>,
    host: &HostName,
    kernel: Option<&str>,
    seen: &Boot,
    took: Option<Duration>,
) -> Attempted {
    if let Some(wanted) = kernel.filter(|wanted| *wanted != seen.kernel) {
        return Err(permanent(
            format!("{host} has come back with kernel {}; {wanted} was to run", seen.kernel),
            "see why the wanted kernel was not chosen (`grub-reboot`, /boot, the package's state). The host stays \
             disabled. Restart it by hand into the wanted one and resume, or abort and give it back as it is",
            vec![state(format!("kernel of {host}"), &seen.kernel)],
        ));
    }
    let detail = match took {
        Some(took) => format!("{host} was restarted in {:.0} s, kernel {}", took.as_secs_f64(), seen.kernel),
        None => format!("{host} has been restarted already, kernel {}", seen.kernel),
    };
    attempt.cloud.hosts.close(host).await;
    Ok(if took.is_some() { Outcome::done(detail) } else { Outcome::unchanged(detail) })
}

async fn ask(attempt: &Attempt<'_>, host: &HostName, operation: &str, marker: &str) -> Result<Boot, Trouble> {
    let mut channel = Channel::to_host(&attempt.cloud.hosts, host).await?;
    channel.ask(operation, json!({"marker": marker}), ASK).await
}

/// Runs a command of the operator's on a host, as a unit that outlives the connection.
pub(crate) async fn run_command(
    attempt: &Attempt<'_>,
    host: &HostName,
    what: &str,
    argv: &[String],
    unchanged_exit: i32,
) -> Attempted {
    let finished = perform(attempt, host, &format!("command {what}"), &Program::Argv(argv.to_vec())).await?;
    match finished.exit_code {
        0 => Ok(Outcome::done(format!("{what}: {}", last_line(&finished.output)))),
        code if code == unchanged_exit => {
            Ok(Outcome::unchanged(format!("{what}: nothing to do (exit {code})")))
        }
        code => Err(permanent(
            format!("the command `{what}` on {host} ended with exit code {code}"),
            "read its output below; the host stays out of service. Mend the cause and resume: the command runs again",
            vec![command(host, argv, Some(code), &finished.output)],
        )),
    }
}
