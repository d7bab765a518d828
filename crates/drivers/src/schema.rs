//! Schema commands and upgrade checks: commands of a release, run on a host as units.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use serde_json::json;
use volutus_model::name::{HostName, ServiceName};
use volutus_model::outcome::Outcome;
use volutus_model::plan::SchemaPhase;

use crate::attempt::{Attempt, Attempted, command, last_line, permanent, transient};
use crate::channel::{ASK, Channel, standalone};
use crate::work::{Program, perform, safe};

/// Passes of a command that says "more is to be done" each time. With 50 rows per pass, the
/// smallest batch in use, this converts half a million rows; beyond that something does not end.
const PASSES_MAX: u32 = 10_000;
/// The exit code of the loop around such a command when it gives up; no command uses it.
const STUCK_CODE: i32 = 97;

/// Where the files are that make batched work wait; a host that reboots forgets them.
const HOLD_DIRECTORY: &str = "/run/volutus-hold";
/// Seconds that one word to wait holds. A Volutus that is gone cannot say that it may go on.
const HOLD_S: u32 = 15;
/// How often the word is given anew: often enough that a lost one does not matter.
const HOLD_RENEWAL: Duration = Duration::from_secs(4);

/// One schema command.
pub(crate) struct Command<'a> {
    /// The service.
    pub service: &'a ServiceName,
    /// What it does to the schema.
    pub phase: SchemaPhase,
    /// The command.
    pub argv: &'a [String],
    /// Exit codes that mean success.
    pub success: &'a BTreeSet<i32>,
    /// Exit codes that mean "run it again".
    pub rerun: &'a BTreeSet<i32>,
}

/// Runs a schema command, again as long as it says that more is to be done.
pub(crate) async fn migrate(attempt: &Attempt<'_>, host: &HostName, schema: &Command<'_>) -> Attempted {
    // Only what converts rows behind the users' backs can wait: old code waits for an expand.
    let hold = (schema.phase == SchemaPhase::OnlineDataMigrations).then(|| hold_path(attempt));
    let request = json!({
        "argv": schema.argv, "rerun": schema.rerun, "passes_max": PASSES_MAX, "stuck_code": STUCK_CODE,
        "hold": hold,
    });
    let program = Program::Python(standalone(&request, &[include_str!("host/schema.py")]));
    // Two commands on one schema must never run at once, so the slot names the service alone.
    let slot = format!("schema of {}", safe(schema.service.as_str()));
    let work = perform(attempt, host, &slot, &program);
    let finished = match &hold {
        None => work.await?,
        Some(path) => tokio::select! {
            finished = work => finished?,
            never = keep_held(attempt, host, path) => match never {},
        },
    };
    if schema.success.contains(&finished.exit_code) {
        return Ok(Outcome::done(format!(
            "exit {}: {}",
            finished.exit_code,
            shorten(said(&finished.output))
        )));
    }
    let what = match schema.phase {
        SchemaPhase::Expand => "expand",
        SchemaPhase::OnlineDataMigrations => "online data migrations",
        SchemaPhase::Contract => "contract",
    };
    Err(permanent(
        format!(
            "{what} of {}'s schema on {host} ended with exit code {} ({})",
            schema.service,
            finished.exit_code,
            shorten(said(&finished.output))
        ),
        "read the output below; what runs is not touched by it. Mend the cause and resume: schema commands \
         go on where they stopped",
        vec![command(host, schema.argv, Some(finished.exit_code), &finished.output)],
    ))
}

fn hold_path(attempt: &Attempt<'_>) -> String {
    format!("{HOLD_DIRECTORY}/{}", safe(attempt.order.attempt.as_str()))
}

/// Keeps the file beside the work that makes it wait, as long as the cloud is slow.
async fn keep_held(attempt: &Attempt<'_>, host: &HostName, path: &str) -> Infallible {
    loop {
        if let Some(why) = attempt.cloud.held() {
            attempt.say(format!("waiting between two batches: {why}"));
            let touched = async {
                let mut channel = Channel::to_host(&attempt.cloud.hosts, host).await?;
                channel.ask::<()>("hold", json!({"path": path, "seconds": HOLD_S}), ASK).await
            };
            if let Err(trouble) = touched.await {
                tracing::info!(%host, ?trouble, "batches could not be told to wait");
            }
        }
        tokio::time::sleep(HOLD_RENEWAL).await;
    }
}

/// Runs a service's upgrade check. Exit codes are those of oslo.upgradecheck.
pub(crate) async fn check_upgrade(
    attempt: &Attempt<'_>,
    service: &ServiceName,
    host: &HostName,
    argv: &[String],
) -> Attempted {
    let slot = format!("upgrade check of {}", safe(service.as_str()));
    let finished = perform(attempt, host, &slot, &Program::Argv(argv.to_vec())).await?;
    match finished.exit_code {
        0 => Ok(Outcome::done(format!("{service}: all upgrade checks passed"))),
        1 => Ok(Outcome::done(format!("{service}: warning: {}", concerns(&finished.output, "Warning")))),
        // A check reads rows that users are changing: cinder's "Service UUIDs" fails for as long as any
        // volume is being created, and a moment later it passes.
        2 => Err(transient(
            format!(
                "the upgrade check of {service} on {host} failed: {}",
                concerns(&finished.output, "Failure")
            ),
            "it is tried again by itself, because what users are making just now can fail it. Where it goes on failing, do \
             what its details say, then resume; nothing has been changed yet",
            vec![command(host, argv, Some(2), &finished.output)],
        )),
        code => Ok(Outcome::done(format!(
            "{service}: the check itself broke (exit {code}), so it says nothing about the cloud: {}",
            shorten(said(&finished.output))
        ))),
    }
}

/// The last line that a command said itself, without what the loop around it adds.
fn said(output: &str) -> &str {
    let of_the_loop = |line: &str| line.starts_with("pass ") && line.contains(": exit ");
    // Frames of tables say nothing either.
    let own = |line: &&str| line.contains(char::is_alphanumeric) && !of_the_loop(line);
    output.lines().rev().find(own).map_or("no output", str::trim)
}

fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}

/// The checks with this result, with their details, from the table that oslo.upgradecheck prints.
fn concerns(output: &str, result: &str) -> String {
    let mut found = Vec::new();
    let mut check = String::new();
    let mut taken = false;
    for line in output.lines() {
        let Some(cell) = line.strip_prefix("| ").and_then(|rest| rest.strip_suffix('|')) else {
            continue;
        };
        let cell = cell.trim();
        if let Some(name) = cell.strip_prefix("Check: ") {
            check = name.to_owned();
            taken = false;
        } else if cell.strip_prefix("Result: ") == Some(result) {
            taken = true;
            found.push(check.clone());
        } else if taken && let Some(last) = found.last_mut() {
            let detail = cell.strip_prefix("Details: ").unwrap_or(cell);
            last.push_str(if cell.starts_with("Details: ") { ": " } else { " " });
            last.push_str(detail);
        }
    }
    if found.is_empty() { shorten(last_line(output)) } else { found.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
+----------------------------------------+
| Upgrade Check Results                  |
+----------------------------------------+
| Check: Cells v2                        |
| Result: Success                        |
| Details: None                          |
+----------------------------------------+
| Check: hw_machine_type unset           |
| Result: Warning                        |
| Details: Some instances have no        |
|   machine type.                        |
+----------------------------------------+
| Check: Service User Token              |
| Result: Failure                        |
| Details: Service user token required.  |
+----------------------------------------+
";

    #[test]
    fn concerns_are_read_from_the_table() {
        assert_eq!(concerns(TABLE, "Warning"), "hw_machine_type unset: Some instances have no machine type.");
        assert_eq!(concerns(TABLE, "Failure"), "Service User Token: Service user token required.");
        assert_eq!(concerns("Traceback\nKeyError: x\n", "Failure"), "KeyError: x");
    }

    #[test]
    fn the_loops_own_lines_are_not_taken_for_the_commands() {
        assert_eq!(said("INFO upgraded\npass 1: exit 0\n"), "INFO upgraded");
        assert_eq!(said("pass 1: exit 0\n"), "no output");
    }
}
