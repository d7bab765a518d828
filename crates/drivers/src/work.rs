//! Work on a host that must outlive the connection: it runs as a transient systemd unit named by
//! the attempt, and leaves its exit code and output in `/run/volutus-work` until they are reported.
//!
//! Whoever comes later, this process or another one after a crash, finds the unit or its result
//! by that name instead of doing the thing twice.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use volutus_model::name::{AttemptId, HostName, RunId};
use volutus_model::outcome::Outcome;

use crate::attempt::{Attempt, command, last_line, permanent, state, transient};
use crate::channel::{ASK, Channel, Trouble};

/// What is to run.
pub(crate) enum Program {
    /// A command.
    Argv(Vec<String>),
    /// A Python program, made by [`crate::channel::standalone`], and what it does in short.
    Python(String),
}

/// How remote work ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Its exit code; above 128 where a signal ended it.
    pub exit_code: i32,
    /// The end of its output, both streams together.
    pub output: String,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
enum WorkState {
    Absent,
    Running { output: String },
    Finished { exit_code: i32, output: String },
    Died { output: String },
}

/// Remote results are files, so an end is seen within one of these.
const POLL: Duration = Duration::from_millis(150);
/// Between two tries to reach a host whose connection was lost while work ran there.
const RECONNECT: Duration = Duration::from_secs(1);

/// A name as a part of unit names and paths: `/` and `@` mean something there.
pub(crate) fn safe(name: &str) -> String {
    name.replace(['/', '@'], "_")
}

struct Names {
    run: String,
    attempt: String,
    description: String,
}

/// Runs `program` on `host` as the attempt's unit, or finds that it runs or ran already, and
/// waits for its end. `slot` names what is done, so that two attempts at the same thing never run
/// at the same time on a host.
///
/// # Errors
/// The outcome of the attempt, where the end was not seen.
pub(crate) async fn perform(
    attempt: &Attempt<'_>,
    host: &HostName,
    slot: &str,
    program: &Program,
) -> Result<Finished, Outcome> {
    let names = Names {
        run: safe(attempt.order.run.as_str()),
        attempt: safe(attempt.order.attempt.as_str()),
        description: format!("Volutus: {slot}"),
    };
    let mut begun = false;
    loop {
        match converse(attempt, host, &names, program, &mut begun).await {
            Ok(finished) => return finished,
            Err(Trouble::Connection(error)) if begun && !attempt.is_over() => {
                // The work goes on without the connection.
                attempt
                    .say(format!("the connection to {host} is lost; the work there goes on, trying again"));
                tracing::info!(%host, %error, "reconnecting to remote work");
                attempt.pause(RECONNECT).await;
            }
            Err(trouble) => return Err(trouble.outcome(begun || attempt.order.taken_up)),
        }
    }
}

async fn converse(
    attempt: &Attempt<'_>,
    host: &HostName,
    names: &Names,
    program: &Program,
    begun: &mut bool,
) -> Result<Result<Finished, Outcome>, Trouble> {
    let hosts = &attempt.cloud.hosts;
    let mut channel = Channel::to_host(hosts, host).await?;
    attempt.cloud.forget_reported(&mut channel, host, attempt.order).await?;
    let since = Instant::now();
    loop {
        let seen: WorkState =
            channel.ask("work_state", json!({"run_id": names.run, "attempt": names.attempt}), ASK).await?;
        match seen {
            WorkState::Finished { exit_code, output } => return Ok(Ok(Finished { exit_code, output })),
            WorkState::Died { output } if *begun => {
                return Ok(Err(permanent(
                    format!("unit volutus-{} on {host} ended without a result: it was killed", names.attempt),
                    format!(
                        "see `journalctl -u volutus-{}` on {host} (out of memory?), then resume",
                        names.attempt
                    ),
                    vec![command(host, &describe(program), None, &output)],
                )));
            }
            WorkState::Absent if *begun => {
                return Ok(Err(Outcome::Unknown {
                    why: format!("{host} no longer knows of the work that it was given: it was rebooted"),
                }));
            }
            WorkState::Absent | WorkState::Died { .. } => {
                if let Some(rival) = rival(&mut channel, names).await? {
                    if attempt.is_over() {
                        return Ok(Err(transient(
                            format!("{rival} on {host}, an earlier attempt at the same, still runs"),
                            format!(
                                "wait for it, or stop it with `systemctl stop {rival}` on {host}; then resume"
                            ),
                            vec![],
                        )));
                    }
                    attempt.say(format!("waiting for an earlier attempt ({rival}) on {host}"));
                    attempt.pause(RECONNECT).await;
                    continue;
                }
                begin(&mut channel, names, program, begun).await?;
            }
            WorkState::Running { output } => {
                // An attempt that was taken up is under way although this process did not begin it.
                *begun = true;
                if attempt.is_over() {
                    return Ok(Err(still_running(host, names, program, &output)));
                }
                let line = last_line(&output);
                // What ends within a second needs no word.
                if !line.is_empty() && since.elapsed() > Duration::from_secs(1) {
                    attempt.say(line.chars().take(160).collect::<String>());
                }
            }
        }
        attempt.pause(POLL).await;
    }
}

async fn rival(channel: &mut Channel, names: &Names) -> Result<Option<String>, Trouble> {
    let question = json!({"attempt": names.attempt, "description": names.description});
    channel.ask("work_rival", question, ASK).await
}

async fn begin(
    channel: &mut Channel,
    names: &Names,
    program: &Program,
    begun: &mut bool,
) -> Result<(), Trouble> {
    let (argv, text) = match program {
        Program::Argv(argv) => (json!(argv), Value::Null),
        Program::Python(text) => (Value::Null, json!(text)),
    };
    let question = json!({
        "run_id": names.run, "attempt": names.attempt, "description": names.description,
        "argv": argv, "program": text,
    });
    // From here on a lost connection leaves open whether the host got to it.
    let result = channel.ask("work_begin", question, ASK).await;
    *begun = !matches!(result, Err(Trouble::Refused { .. }));
    result
}

fn describe(program: &Program) -> Vec<String> {
    match program {
        Program::Argv(argv) => argv.clone(),
        Program::Python(_) => vec!["(a program of Volutus)".to_owned()],
    }
}

fn still_running(host: &HostName, names: &Names, program: &Program, output: &str) -> Outcome {
    let unit = format!("volutus-{}", names.attempt);
    permanent(
        format!("{} on {host} has not ended in time", names.description),
        format!(
            "it still runs there as unit {unit} and is left to end by itself, since cutting it could leave \
             things half done; a resumed run waits for it (`systemctl status {unit}`)"
        ),
        vec![command(host, &describe(program), None, output), state("unit", format!("{unit} is active"))],
    )
}

/// Removes results of attempts of `run` from a host, and all that other runs left there.
///
/// # Errors
/// Where the host could not be asked; then they stay in `/run` until it reboots.
pub(crate) async fn forget(
    channel: &mut Channel,
    run: &RunId,
    attempts: &[AttemptId],
) -> Result<(), Trouble> {
    let attempts: Vec<String> = attempts.iter().map(|attempt| safe(attempt.as_str())).collect();
    channel.ask("work_forget", json!({"run_id": safe(run.as_str()), "attempts": attempts}), ASK).await
}
