//! `cargo xtask demo --reboot`: every compute and every controller of a real lab is emptied,
//! restarted and given back under load, and no instance is lost or moved twice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use serde_json::Value;
use volutus_e2e::guests::Guests;
use volutus_e2e::watch::GuestWatch;

use crate::demo::verdict_of;
use crate::lab::{Lab, Programs};
use crate::process::{exit_code, must, output};

/// What the lab restarts in: containers are up in seconds, and the machine may be busy.
const POLICY: &str = "\
baseline_s = 20
soak_s = 10

[reboot.act]
reboot_s = 60
prove_s = 30

[reboot.hosts]
at_once = 1
settle_s = 1

[reboot.moves]
per_source = 2
overhead_s = 15
";

/// The longest time in which a guest may not answer, in milliseconds.
const GAP_GOAL_MS: u64 = 1_000;

/// How it went.
pub struct Rebooted {
    /// What the run says.
    pub verdict: Value,
    /// What became of hosts and instances.
    pub told: String,
    /// The longest time in which any guest did not answer, in milliseconds, where guests were watched.
    longest_gap_ms: Option<u64>,
}

impl Rebooted {
    /// Fails where a guest was longer without an answer than the goal is.
    pub fn judge(&self) -> anyhow::Result<()> {
        let longest = self.longest_gap_ms.unwrap_or(0);
        ensure!(longest < GAP_GOAL_MS, "a guest did not answer for {longest} ms; the goal is {GAP_GOAL_MS}");
        Ok(())
    }
}

/// Reboots a lab as an operator would.
pub fn reboot(programs: &Programs, lab: &Lab, real_guests: bool) -> anyhow::Result<Rebooted> {
    let cloud = lab.cloud();
    let policy = lab.folder().join("reboot.toml");
    std::fs::write(&policy, POLICY)?;
    let volutus = || {
        let mut command = programs.volutus(&cloud);
        command.arg("--policy").arg(&policy);
        command
    };
    if real_guests {
        // Volutus asks each from outside, too: one that falls silent halts the run.
        lab.reach_guests()?;
    }
    let boots = boots(programs, &cloud)?;
    let guests = Guests::of(&cloud)?;
    let before = guests.places()?;
    must(volutus().args(["hosts"]))?;
    must(volutus().args(["policy", "explain"]))?;
    let plan = output(volutus().args(["plan", "--reboot", "--control", "--output", "json"]))?;
    let plan: Value = serde_json::from_str(&plan).context("`volutus plan --reboot` printed no JSON")?;
    let id = plan["id"].as_str().context("the plan has no id")?;
    must(volutus().args(["plan", "show", id]))?;
    must(volutus().args(["approve", id]))?;
    let watch = real_guests.then(|| lab.watch_guests()).transpose()?;
    let begun = Instant::now();
    let code = exit_code(volutus().args(["run", id]));
    let took = begun.elapsed().as_secs();
    let watched = watch.map(GuestWatch::end).transpose()?;
    let code = code?;
    let verdict = verdict_of(programs, &cloud)?;
    ensure!(code == 0, "`volutus run` ended with exit code {code}");
    let after = guests.places()?;
    let moves = guests.moves(&before)?;
    let mut told = judge(&before, &after, &moves)?;
    let mut longest_gap_ms = None;
    if let Some(watched) = watched {
        let (longest, guests) = judge_guests(&watched, before.len())?;
        told = format!("{told}, {guests}");
        longest_gap_ms = Some(longest);
    }
    let restarted = restarted(&boots, &self::boots(programs, &cloud)?)?;
    Ok(Rebooted { verdict, told: format!("{restarted} hosts restarted in {took} s, {told}"), longest_gap_ms })
}

/// Every instance is there and runs, and none was moved more than once.
fn judge(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
    moves: &BTreeMap<String, usize>,
) -> anyhow::Result<String> {
    let gone: BTreeSet<&String> = before.keys().filter(|id| !after.contains_key(*id)).collect();
    ensure!(gone.is_empty(), "instances are gone or do not run: {gone:?}");
    let most = moves.values().max().copied().unwrap_or(0);
    ensure!(most <= 1, "instances were moved more than once: {moves:?}");
    let moved = moves.values().filter(|count| **count > 0).count();
    Ok(format!("{} instances alive, {moved} moved, each at most once", before.len()))
}

/// Every guest answered and never restarted; the longest gap of any, of all sides in milliseconds, and of each
/// side in words.
fn judge_guests(watched: &[Value], instances: usize) -> anyhow::Result<(u64, String)> {
    ensure!(watched.len() == instances, "{} guests of {instances} were watched", watched.len());
    let mut worst = [("inside", 0, ""), ("outside", 0, ""), ("held", 0, "")];
    for seen in watched {
        let name = seen["guest"]["name"].as_str().context("a guest without a name")?;
        if let Some(broken) = seen["held"]["broken"].as_str() {
            let console = seen["held"]["console"].as_str().unwrap_or_default();
            bail!("the guest {name} restarted or dropped its connection: {broken}\n{console}");
        }
        for (side, longest, whose) in &mut worst {
            let answers = if *side == "held" { "answers" } else { "answered" };
            ensure!(seen[*side][answers].as_u64() > Some(0), "the guest {name} never answered ({side})");
            let gap = seen[*side]["longest_gap_ms"].as_u64().context("no gap was measured")?;
            let began = seen[*side]["longest_gap_from"].as_f64().map_or_else(String::new, |at| {
                Timestamp::from_second(at as i64)
                    .map_or_else(|_| String::new(), |at| format!(" from {at} on"))
            });
            eprintln!("guest {name}: longest gap {gap} ms ({side}){began}, {} answers", seen[*side][answers]);
            if gap > *longest {
                (*longest, *whose) = (gap, name);
            }
        }
    }
    let longest = worst.iter().map(|(_, longest, _)| *longest).max().unwrap_or(0);
    let [inside, outside, held] =
        worst.map(|(_, longest, whose)| format!("{:.1} s ({whose})", longest as f64 / 1000.0));
    let told = format!(
        "no guest restarted, longest gap of any guest {inside} inside, {outside} outside, {held} over TCP"
    );
    Ok((longest, told))
}

/// The boot of every host.
fn boots(programs: &Programs, cloud: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let seen = output(programs.volutus(cloud).args(["observe", "--output", "json"]))?;
    let seen: Value = serde_json::from_str(&seen)?;
    let hosts = seen["hosts"].as_object().context("no hosts")?;
    hosts
        .iter()
        .map(|(host, fact)| {
            let boot = fact["observed"]["value"]["boot_id"].as_str();
            Ok((host.clone(), boot.with_context(|| format!("{host} was not seen"))?.to_owned()))
        })
        .collect()
}

/// How many hosts are in another boot; the one that holds database and load balancer is not.
fn restarted(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> anyhow::Result<usize> {
    let same: Vec<&String> =
        before.iter().filter(|(host, boot)| after.get(*host) == Some(boot)).map(|(host, _)| host).collect();
    ensure!(
        same.iter().all(|host| host.starts_with("infra")),
        "hosts that were to be restarted were not: {same:?}"
    );
    Ok(before.len() - same.len())
}
