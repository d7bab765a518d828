//! `cargo xtask crash`: Volutus is killed again and again (SIGKILL) while it upgrades a real lab
//! and takes the upgrade back, and every time it has to go on where it was. The same is done once
//! undisturbed, and both have to end in the same cloud.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::demo::make_plan;
use crate::lab::{Hop, Lab, Programs, build};
use crate::process::{must, output};

/// Journal entries between two kills: so that they spread over all of a run, from its first to its
/// last steps.
const ENTRIES_BETWEEN_KILLS: u64 = 10;
/// What a run may take in all, kills included, before it counts as hanging.
const RUN_LIMIT: Duration = Duration::from_secs(1_500);
/// Fewer kills than this say too little.
const KILLS_MIN: u32 = 25;

/// What a run that was killed and resumed came to.
#[derive(Debug, Default)]
struct Outcome {
    kills: u32,
    failed: u64,
    total: u64,
}

/// Runs it, prints the figures, and judges.
pub fn run(hop: &Hop) -> anyhow::Result<()> {
    let started = Instant::now();
    let programs = build()?;
    let lab = programs.up("crash", hop, &[])?;
    let result = both(&programs, &lab, &hop.to);
    lab.down()?;
    let (up, back) = result?;
    let kills = up.kills + back.kills;
    println!(
        "{kills} kills: {} in the upgrade ({} of {} requests failed), {} in the rollback ({} of {} failed); every \
         one resumed, both ends equal to the undisturbed ones | {} s in all",
        up.kills,
        up.failed,
        up.total,
        back.kills,
        back.failed,
        back.total,
        started.elapsed().as_secs()
    );
    ensure!(up.failed + back.failed == 0, "requests failed; the goal is none");
    ensure!(kills >= KILLS_MIN, "{kills} kills; the goal is at least {KILLS_MIN}");
    Ok(())
}

fn both(programs: &Programs, lab: &Lab, to: &str) -> anyhow::Result<(Outcome, Outcome)> {
    let cloud = lab.cloud();
    let start = state_of(programs, &cloud)?;
    let plan = make_plan(programs, &cloud, to, None)?;
    must(programs.volutus(&cloud).args(["run", &plan, "--no-progress"]))?;
    let upgraded = state_of(programs, &cloud)?;
    must(programs.volutus(&cloud).args(["rollback", "--yes", "--no-progress"]))?;
    let taken_back = state_of(programs, &cloud)?;
    differ(
        "the undisturbed rollback left another cloud than the start",
        &start.daemons,
        &taken_back.daemons,
    )?;

    let plan = make_plan(programs, &cloud, to, None)?;
    let up = disturbed(programs, &cloud, &["run", &plan])?;
    let now = state_of(programs, &cloud)?;
    differ("the killed upgrade ended in another cloud than the undisturbed one", &upgraded, &now)?;
    let back = disturbed(programs, &cloud, &["rollback", "--yes"])?;
    let now = state_of(programs, &cloud)?;
    differ("the killed rollback ended in another cloud than the undisturbed one", &taken_back, &now)?;
    Ok((up, back))
}

fn differ<T: PartialEq + std::fmt::Debug>(what: &str, wanted: &T, seen: &T) -> anyhow::Result<()> {
    ensure!(wanted == seen, "{what}:\n{wanted:#?}\n{seen:#?}");
    Ok(())
}

/// Starts a run, kills it whenever its journal has grown, and resumes it, until it has ended.
fn disturbed(programs: &Programs, cloud: &Path, arguments: &[&str]) -> anyhow::Result<Outcome> {
    let begun = Instant::now();
    let mut outcome = Outcome::default();
    let before = entries(programs, cloud).map(|(run, _)| run).ok();
    let mut child = start(programs, cloud, arguments)?;
    // Nothing is to be resumed before the run exists; the first kill waits for it.
    let mut run = None;
    let mut seen = 0;
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(
                status.success(),
                "after {} kills Volutus ended with {status}; `volutus status` said:\n{}",
                outcome.kills,
                output(programs.volutus(cloud).arg("status"))?
            );
            break;
        }
        ensure!(begun.elapsed() < RUN_LIMIT, "not at an end after {} s", RUN_LIMIT.as_secs());
        std::thread::sleep(Duration::from_millis(300));
        let Ok((id, count)) = entries(programs, cloud) else { continue };
        if run.is_none() && Some(&id) != before.as_ref() {
            run = Some(id);
        }
        if run.is_some() && count >= seen + ENTRIES_BETWEEN_KILLS {
            seen = count;
            child.kill()?;
            child.wait()?;
            outcome.kills += 1;
            child = start(programs, cloud, &["resume"])?;
        }
    }
    let verdict = output(programs.volutus(cloud).args(["verdict", "--output", "json"]))?;
    let verdict: Value = serde_json::from_str(&verdict)?;
    outcome.failed = verdict["requests_failed"].as_u64().context("no requests_failed")?;
    outcome.total = verdict["requests_total"].as_u64().context("no requests_total")?;
    Ok(outcome)
}

pub fn start(programs: &Programs, cloud: &Path, arguments: &[&str]) -> anyhow::Result<Child> {
    quiet(programs.volutus(cloud).args(arguments).arg("--no-progress"))
        .spawn()
        .context("could not start `volutus`")
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

/// The latest run, and how many entries its journal has.
pub fn entries(programs: &Programs, cloud: &Path) -> anyhow::Result<(String, u64)> {
    let status =
        programs.volutus(cloud).args(["status", "--output", "json"]).stderr(Stdio::null()).output()?;
    let status: Value = serde_json::from_slice(&status.stdout)?;
    let run = status["run"].as_str().context("no run")?.to_owned();
    let attempts = status["state"]["attempts"].as_object().context("no attempts")?;
    let finished = attempts.values().filter(|attempt| !attempt["finished_at"].is_null()).count();
    Ok((run, u64::try_from(attempts.len() + finished)?))
}

/// What of a cloud has to be the same however it was reached.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    /// Daemon to running version.
    pub daemons: BTreeMap<String, String>,
    /// Service to schema heads.
    pub schemas: BTreeMap<String, String>,
    /// Load balancer's servers to their state.
    pub servers: BTreeMap<String, String>,
    /// Service records to version and whether they are disabled.
    pub records: BTreeMap<String, String>,
}

pub fn state_of(programs: &Programs, cloud: &Path) -> anyhow::Result<State> {
    let seen = output(programs.volutus(cloud).args(["observe", "--output", "json"]))?;
    let seen: Value = serde_json::from_str(&seen)?;
    let mut state = State {
        daemons: BTreeMap::new(),
        schemas: BTreeMap::new(),
        servers: BTreeMap::new(),
        records: BTreeMap::new(),
    };
    for (daemon, fact) in seen["daemons"].as_object().context("no daemons")? {
        let version = &fact["observed"]["value"]["version"]["observed"]["value"];
        let version = version.as_str().with_context(|| format!("{daemon} was not seen: {fact}"))?;
        state.daemons.insert(daemon.clone(), version.to_owned());
    }
    for (service, fact) in seen["schemas"].as_object().context("no schemas")? {
        state.schemas.insert(service.clone(), fact["observed"]["value"].to_string());
    }
    for (backend, fact) in seen["backends"].as_object().context("no backends")? {
        for server in fact["observed"]["value"].as_array().context("no servers")? {
            let name = server["name"].as_str().context("a server without a name")?;
            state.servers.insert(format!("{backend}/{name}"), server["status"].to_string());
        }
    }
    for (service, fact) in seen["records"].as_object().context("no records")? {
        for record in fact["observed"]["value"].as_array().context("no records")? {
            let (Some(binary), Some(host)) = (record["binary"].as_str(), record["host"].as_str()) else {
                bail!("a record without binary and host: {record}");
            };
            let told = format!("{} disabled {}", record["version"], record["disabled"]);
            state.records.insert(format!("{service}: {binary} on {host}"), told);
        }
    }
    Ok(state)
}
