//! Real upgrades: with computes that die, with a Volutus that is killed, of other shapes.

use std::process::Stdio;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::bad_input::{make_plan, text_at};
use crate::way_back::{WATCHED, approved_under};
use crate::world::{Lab, World, wait_until};

pub fn observe_sees_everything(_: &World, lab: &Lab) -> anyhow::Result<()> {
    let observation = lab.volutus(&["observe", "--output", "json"])?.expect(0, &[])?.json()?;
    let daemons = observation["daemons"].as_object().context("no daemons")?;
    ensure!(daemons.len() >= 3 * 13 + 3, "only {} daemons", daemons.len());
    for (daemon, fact) in daemons {
        let version = &fact["observed"]["value"]["version"]["observed"]["value"];
        ensure!(version.is_string(), "{daemon} was not seen: {fact}");
    }
    let instances = observation["instances"]["observed"]["value"].as_object().context("no instances")?;
    let count: u64 = instances.values().filter_map(Value::as_u64).sum();
    ensure!(count >= 20, "only {count} instances");
    Ok(())
}

/// Does what an operator would before an upgrade: brings back daemons whose reports have stopped.
/// A daemon of the lab now and then hangs while it starts on a busy machine; `check` finds it and
/// `run` refuses to start, so it is mended here as the finding says.
pub fn bring_back_silent_daemons(lab: &Lab) -> anyhow::Result<()> {
    const SILENT_S: u64 = 30;
    let mut restarted = std::collections::BTreeSet::new();
    wait_until("every daemon that keeps a record reports", 240, || {
        let observation = lab.volutus(&["observe", "--output", "json"])?.expect(0, &[])?.json()?;
        let mut silent = false;
        for service in ["nova", "cinder"] {
            let records = observation["records"][service]["observed"]["value"].as_array();
            for record in records.with_context(|| format!("no records of {service}"))? {
                if record["host"] == "volutus-anchor" {
                    continue;
                }
                if record["age_s"].as_u64().is_none_or(|age| age <= SILENT_S) {
                    continue;
                }
                silent = true;
                let binary = text_at(record, &["binary"])?.to_owned();
                let host = text_at(record, &["host"])?.split('@').next().unwrap_or_default().to_owned();
                if restarted.insert((binary.clone(), host.clone())) {
                    println!("{binary} on {host} is silent; it is restarted");
                    lab.exec(&host, &format!("systemctl restart {binary}"))?.expect(0, &[])?;
                }
            }
        }
        Ok(!silent)
    })
}

/// The file without which a nova-compute that starts again dies inside a living process.
const IDENTITY: &str = "/var/lib/nova/compute_id";

pub fn dead_computes_halt(_: &World, lab: &Lab) -> anyhow::Result<()> {
    bring_back_silent_daemons(lab)?;
    let plan = make_plan(lab, "2026.1")?;
    lab.volutus(&["approve", &plan])?.expect(0, &[])?;
    for host in ["cmp1", "cmp2", "cmp3"] {
        lab.exec(host, &format!("mv {IDENTITY} {IDENTITY}.away"))?.expect(0, &[])?;
    }
    let ran = lab.volutus(&["run", &plan])?.expect(5, &["nova-compute@cmp", "volutus resume"])?;
    ensure!(!ran.stdout.contains("verdict: zero"), "a dead compute was called a success");
    let status = lab.volutus(&["status", "--output", "json"])?.expect(0, &[])?.json()?;
    ensure!(text_at(&status, &["state", "status"])? == "halted", "{status}");
    // Only the canary was touched: the other computes still run the old release.
    let observation = lab.volutus(&["observe", "--output", "json"])?.expect(0, &[])?.json()?;
    let old = ["cmp1", "cmp2", "cmp3"].iter().filter(|host| {
        let fact = &observation["daemons"][format!("nova-compute@{host}")];
        fact["observed"]["value"]["version"]["observed"]["value"]
            .as_str()
            .is_some_and(|v| v.starts_with("32."))
    });
    ensure!(old.count() == 2, "more than the canary was touched: {}", observation["daemons"]);
    Ok(())
}

pub fn mended_run_resumes(_: &World, lab: &Lab) -> anyhow::Result<()> {
    for host in ["cmp1", "cmp2", "cmp3"] {
        lab.exec(host, &format!("mv {IDENTITY}.away {IDENTITY}"))?.expect(0, &[])?;
    }
    lab.volutus(&["resume"])?.expect(0, &["verdict: "])?;
    let verdict = runs_everywhere(lab, "2026.1", "33.")?;
    // Nobody measured while the run stood halted, and a user who wanted to delete an instance on
    // the dead compute may have waited in vain. Everybody else must have noticed nothing.
    for (service, seen) in verdict["requests"].as_object().context("no requests")? {
        ensure!(service == "nova" || seen["failed"] == 0, "requests to {service} failed: {verdict}");
    }
    nothing_left_drained(lab)
}

pub fn finalize(_: &World, lab: &Lab) -> anyhow::Result<()> {
    lab.volutus(&["finalize"])?.expect(3, &["--yes"])?;
    lab.volutus(&["finalize", "--yes"])?.expect(0, &[])?;
    let status = lab.volutus(&["status", "--output", "json"])?.expect(0, &[])?.json()?;
    ensure!(text_at(&status, &["state", "status"])? == "succeeded", "{status}");
    lab.volutus(&["journal", "verify"])?.expect(0, &[])?;
    Ok(())
}

/// The run that halted goes on, is killed on its way, and goes on again to its end.
pub fn killed_run_resumes(world: &World, lab: &Lab) -> anyhow::Result<()> {
    let status = lab.volutus(&["status", "--output", "json"])?.expect(0, &[])?.json()?;
    let plan = text_at(&status, &["state", "plan"])?;
    let mut first = world
        .volutus(&lab.cloud())
        .arg("resume")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let completed = |lab: &Lab| -> anyhow::Result<usize> {
        let status = lab.volutus(&["status", "--output", "json"])?;
        if status.code != 0 {
            return Ok(0);
        }
        let status = status.json()?;
        if text_at(&status, &["state", "plan"])? != plan {
            return Ok(0);
        }
        let steps = status["state"]["steps"].as_object().context("no steps")?;
        Ok(steps.values().filter(|step| step["status"] == "completed").count())
    };
    wait_until("25 steps are complete", 600, || {
        if let Some(status) = first.try_wait()? {
            bail!("`volutus resume` ended by itself ({status}): {}", lab.volutus(&["status"])?.stdout);
        }
        Ok(completed(lab)? >= 25)
    })?;
    // While one runs, a second is refused and told who holds the cloud.
    lab.volutus(&["run", plan])?.expect(3, &["lease"])?;
    first.kill()?;
    first.wait()?;
    lab.volutus(&["resume"])?.expect(0, &["verdict: "])?;
    all_on(lab, "2026.2", "34.")?;
    lab.volutus(&["journal", "verify"])?.expect(0, &[])?;
    nothing_left_drained(lab)
}

/// With the API contract as a gate, on a way on which nova mends what it shows of images.
pub fn slurp_upgrade(_: &World, lab: &Lab) -> anyhow::Result<()> {
    bring_back_silent_daemons(lab)?;
    let (policy, plan) = approved_under(lab, WATCHED)?;
    let run = ["--policy", &policy, "run", &plan];
    lab.volutus(&run)?.expect(0, &["verdict: zero-", "API contract: held"])?;
    println!("API contract: {}", runs_everywhere(lab, "2026.1", "33.")?["api_contract"]);
    all_on(lab, "2026.1", "33.")?;
    nothing_left_drained(lab)
}

/// Fails unless everything runs the series, and not one request failed on the way.
pub fn all_on(lab: &Lab, series: &str, nova: &str) -> anyhow::Result<()> {
    let verdict = runs_everywhere(lab, series, nova)?;
    ensure!(verdict["requests_failed"] == 0, "{verdict}");
    Ok(())
}

/// Fails unless everything runs the series; the verdict on the way there.
pub fn runs_everywhere(lab: &Lab, series: &str, nova: &str) -> anyhow::Result<Value> {
    let verdict = lab.volutus(&["verdict", "--output", "json"])?.expect(0, &[])?.json()?;
    ensure!(text_at(&verdict, &["to"])? == series, "{verdict}");
    let observation = lab.volutus(&["observe", "--output", "json"])?.expect(0, &[])?.json()?;
    for (daemon, fact) in observation["daemons"].as_object().context("no daemons")? {
        let version = fact["observed"]["value"]["version"]["observed"]["value"].as_str();
        ensure!(version.is_some(), "{daemon} was not seen: {fact}");
        if daemon.starts_with("nova-") {
            ensure!(version.is_some_and(|v| v.starts_with(nova)), "{daemon} runs {version:?}");
        }
    }
    Ok(verdict)
}

pub fn nothing_left_drained(lab: &Lab) -> anyhow::Result<()> {
    let observation = lab.volutus(&["observe", "--output", "json"])?.expect(0, &[])?.json()?;
    for (backend, fact) in observation["backends"].as_object().context("no backends")? {
        for server in fact["observed"]["value"].as_array().context("no servers")? {
            ensure!(server["status"] == "UP", "{backend} has {server}");
        }
    }
    for record in observation["records"]["nova"]["observed"]["value"].as_array().context("no records")? {
        // The anchor is disabled on purpose until finalize.
        if record["host"] == "volutus-anchor" {
            continue;
        }
        ensure!(record["disabled"].is_null(), "left disabled: {record}");
    }
    Ok(())
}
