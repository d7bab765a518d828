//! `cargo xtask faults`: while Volutus upgrades a real lab, what it stands on is taken away from
//! it, one thing after another. Every time it has to go on, or to halt with the evidence and go on
//! when it is told to; and in the end everything is upgraded and nothing is left drained.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::crash::{entries, start, state_of};
use crate::demo::make_plan;
use crate::lab::{Hop, Lab, Programs, build};
use crate::process::{must, output, privileged};

/// Journal entries between two faults: so that they spread over the whole run.
const ENTRIES_BETWEEN: u64 = 22;
/// What the run may take in all before it counts as hanging.
const RUN_LIMIT: Duration = Duration::from_secs(2_400);
/// How long the cloud may need until it answers again after a fault.
const BACK_LIMIT: Duration = Duration::from_secs(300);

/// What is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    SshMasters,
    MariaDb,
    RabbitMq,
    Controller,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::SshMasters => "all ssh connections killed",
            Self::MariaDb => "MariaDB restarted",
            Self::RabbitMq => "RabbitMQ restarted",
            Self::Controller => "ctl2 rebooted",
        }
    }

    fn happen(self, lab: &Lab) -> anyhow::Result<()> {
        match self {
            Self::SshMasters => kill_masters(&lab.folder()),
            Self::MariaDb => lab.exec("infra1", "systemctl restart mariadb"),
            Self::RabbitMq => lab.exec("infra1", "systemctl restart rabbitmq-server"),
            Self::Controller => lab.fault(&["reboot", "ctl2"]),
        }
    }
}

/// OpenSSH's masters are known by the lab's key in their command lines.
fn kill_masters(folder: &Path) -> anyhow::Result<()> {
    let pattern = format!("^ssh .*{}", folder.display());
    let status = privileged(Path::new("/usr/bin/pkill")).args(["-KILL", "-f", &pattern]).status()?;
    ensure!(status.success(), "no ssh connection to the lab's hosts was there to be killed ({status})");
    Ok(())
}

/// Runs it, prints the figures, and judges.
pub fn run(hop: &Hop) -> anyhow::Result<()> {
    let started = Instant::now();
    let programs = build()?;
    let lab = programs.up("faults", hop, &[])?;
    let result = disturbed(&programs, &lab, &hop.to);
    lab.down()?;
    let told = result?;
    println!(
        "{} faults in one upgrade: {} | everything on {}, nothing left drained | {} s in all",
        told.len(),
        told.join("; "),
        hop.to,
        started.elapsed().as_secs()
    );
    Ok(())
}

fn disturbed(programs: &Programs, lab: &Lab, to: &str) -> anyhow::Result<Vec<String>> {
    let cloud = lab.cloud();
    let plan = make_plan(programs, &cloud, to, None)?;
    let begun = Instant::now();
    let mut child = start(programs, &cloud, &["run", &plan])?;
    let mut wanted = vec![Fault::Controller, Fault::RabbitMq, Fault::MariaDb, Fault::SshMasters];
    let mut told: Vec<String> = Vec::new();
    let mut next = ENTRIES_BETWEEN;
    let mut known = false;
    loop {
        ensure!(begun.elapsed() < RUN_LIMIT, "not at an end after {} s: {told:?}", RUN_LIMIT.as_secs());
        if let Some(status) = child.try_wait()? {
            if status.success() {
                break;
            }
            let seen = output(programs.volutus(&cloud).arg("status"))?;
            ensure!(
                status.code() == Some(5) && seen.contains("What you can do now"),
                "Volutus ended with {status} and no choices: {seen}"
            );
            let Some(last) = told.last_mut() else {
                bail!("the run halted before anything was done to it: {seen}");
            };
            eprintln!("{seen}");
            last.push_str(", halted and resumed");
            wait_until_well(programs, &cloud)?;
            child = start(programs, &cloud, &["resume"])?;
        }
        std::thread::sleep(Duration::from_millis(300));
        let Ok((_, count)) = entries(programs, &cloud) else { continue };
        // The journal of the run is there once it has grown from nothing.
        known |= count < next;
        if known
            && count >= next
            && let Some(fault) = wanted.pop()
        {
            eprintln!("{} at {count} journal entries", fault.name());
            fault.happen(lab)?;
            told.push(fault.name().to_owned());
            next = count + ENTRIES_BETWEEN;
        }
    }
    ensure!(wanted.is_empty(), "the run was over before all was done to it: {wanted:?} are left");
    let end = state_of(programs, &cloud)?;
    end.is_upgraded(to)?;
    must(programs.volutus(&cloud).args(["journal", "verify"]))?;
    Ok(told)
}

/// Waits, as an operator would, until the cloud can be observed whole.
fn wait_until_well(programs: &Programs, cloud: &Path) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let seen = Command::output(programs.volutus(cloud).args(["observe", "--output", "json"]))?;
        let seen: Value = serde_json::from_slice(&seen.stdout).unwrap_or_default();
        let whole = seen["daemons"].as_object().is_some_and(|daemons| {
            !daemons.is_empty()
                && daemons.values().all(|fact| fact["observed"]["value"]["active_state"] == "active")
        });
        let reports = ["nova", "cinder"].iter().all(|service| {
            let records = seen["records"][service]["observed"]["value"].as_array();
            records.is_some_and(|records| {
                // APIs and anchors do not report; their records have no age.
                records.iter().all(|record| record["age_s"].as_u64().is_none_or(|age| age < 30))
            })
        });
        if whole && reports {
            return Ok(());
        }
        ensure!(begun.elapsed() < BACK_LIMIT, "the cloud has not come back");
        std::thread::sleep(Duration::from_secs(2));
    }
}

impl crate::crash::State {
    /// Fails unless nova's daemons run the series, and no server is drained and no record disabled.
    fn is_upgraded(&self, to: &str) -> anyhow::Result<()> {
        let nova: std::collections::BTreeSet<&str> = self
            .daemons
            .iter()
            .filter(|(daemon, _)| daemon.starts_with("nova-"))
            .filter_map(|(_, version)| version.split('.').next())
            .collect();
        ensure!(nova.len() == 1, "nova runs {nova:?} after the upgrade to {to}");
        let drained: Vec<_> = self.servers.iter().filter(|(_, state)| !state.contains("UP")).collect();
        ensure!(drained.is_empty(), "left drained: {drained:?}");
        let disabled = self
            .records
            .iter()
            .filter(|(name, told)| !name.contains("volutus-anchor") && !told.ends_with("disabled null"))
            .collect::<Vec<_>>();
        ensure!(disabled.is_empty(), "left disabled: {disabled:?}");
        self.daemons.keys().next().context("nothing was observed")?;
        Ok(())
    }
}
