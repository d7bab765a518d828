//! Taking upgrades back: by hand while the way back is open, and by policy when a release is bad.

use std::process::Stdio;

use anyhow::{Context as _, ensure};
use volutus_e2e::witness::Witness;

use crate::bad_input::text_at;
use crate::mutations::last_attempt;
use crate::told::Told;
use crate::upgrade::{all_on, bring_back_silent_daemons, nothing_left_drained, runs_everywhere};
use crate::world::{Lab, World, wait_until};

/// As long as is enough where latencies are not what is looked at.
pub const WATCHED: &str = "baseline_s = 10\nsoak_s = 10\n";
/// The host of the lab's load balancer.
const BALANCED_ON: &str = "infra1";

/// Everything was upgraded and nothing finalized: it is taken back, and what a user made under the
/// new release is all there under the old one.
pub fn taken_back_by_hand(_: &World, lab: &Lab) -> anyhow::Result<()> {
    // The verdict on a rollback is of both runs; what failed before it is not its doing.
    let before = runs_everywhere(lab, "2026.1", "33.")?;
    let failed_before = before["requests_failed"].as_u64().context("no requests_failed")?;
    let witness = Witness::make(&lab.cloud(), "made-under-the-new-release")?;
    lab.volutus(&["rollback"])?.expect(3, &["--yes"])?;
    lab.volutus(&["rollback", "--yes"])?.expect(0, &["verdict: "])?;
    is_back(lab, "2025.2", "32.", failed_before)?;
    witness.is_whole()?;
    witness.remove()
}

/// What was taken back goes forward again, on the schema that stayed as it was.
pub fn upgraded_again(_: &World, lab: &Lab) -> anyhow::Result<()> {
    bring_back_silent_daemons(lab)?;
    // The answers of old and new code are compared on the way, also to what users have asked so far.
    let log = lab.folder().join("haproxy.log");
    let asked = lab.exec(BALANCED_ON, "journalctl --unit haproxy --output cat --no-pager")?.expect(0, &[])?;
    std::fs::write(&log, asked.stdout)?;
    let policy = format!("{WATCHED}contract.traffic = {:?}\n", log.display().to_string());
    let (policy, plan) = approved_under(lab, &policy)?;
    let told = Told::begin(lab)?;
    lab.volutus(&["--policy", &policy, "run", &plan])?.expect(0, &["verdict: zero-", "API contract: "])?;
    let status = lab.volutus(&["status", "--output", "json"])?.expect(0, &[])?.json()?;
    for service in ["keystone", "glance", "placement", "nova", "neutron", "cinder"] {
        let (_, outcome) = last_attempt(&status, service)?.context("its answers were not compared")?;
        // "12 requests stand for 345 of clients in 4,000 lines of the log"
        let detail = text_at(&outcome, &["detail"])?;
        let stand = detail.split("; ").find(|part| part.contains(" requests stand for "));
        let own = stand.and_then(|part| part.split(' ').next()?.parse().ok()).unwrap_or(0);
        ensure!(own > 0, "nothing was asked of {service} that users ask: {detail}");
        println!("of users: {service}: {}", stand.unwrap_or_default());
    }
    all_on(lab, "2026.1", "33.")?;
    let contract = &runs_everywhere(lab, "2026.1", "33.")?["api_contract"];
    println!("API contract: {contract}");
    let compared = contract["requests_compared"].as_u64().context("no requests_compared")?;
    ensure!(compared >= 500 && contract["not_measured"] == serde_json::json!([]), "{contract}");
    ensure!(contract["result"] == "held" && contract["writes_compared"].as_u64() > Some(0), "{contract}");
    let again = contract["after"]["requests_compared"].as_u64().context("nothing was asked again")?;
    ensure!(again + contract["after"]["gone"].as_u64().unwrap_or(0) >= 500, "{contract}");
    told.exactly(&["upgrade to OpenStack 2026.1 has begun", "upgrade to OpenStack 2026.1 has ended"])?;
    nothing_left_drained(lab)
}

/// A new nova-conductor that starts, is active, and does not serve: the policy takes all of it
/// back, and what a user made meanwhile is there.
pub fn bad_release_is_taken_back(world: &World, lab: &Lab) -> anyhow::Result<()> {
    const HOSTS: [&str; 2] = ["control-1", "control-2"];
    bring_back_silent_daemons(lab)?;
    for host in HOSTS {
        lab.fault(&["bad-release", host, "nova-conductor", "2026.1"])?;
    }
    let policy = "on_failure = \"roll-back\"\nprove_timeout_s = 120\ncontract.gate = \"off\"\n";
    let (_, plan) = approved_under(lab, &format!("{WATCHED}{policy}"))?;
    let told = Told::begin(lab)?;
    let mut run = world
        .volutus(&lab.cloud())
        .args(["run", &plan])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // The new conductor is under way: what is made now is made under both releases.
    let rolling = wait_until("a conductor is being replaced", 600, || {
        let status = lab.volutus(&["status", "--output", "json"])?;
        Ok(status.code == 0 && status.stdout.contains("roll/nova-conductor@"))
    });
    let witness = rolling.and_then(|()| Witness::make(&lab.cloud(), "made-meanwhile"));
    let ended = wait_until("the run is at its end", 900, || Ok(run.try_wait()?.is_some()));
    if ended.is_err() {
        run.kill()?;
        run.wait()?;
    }
    ended?;
    let witness = witness?;
    // Where it is not back, the run's own words tell why.
    let status = lab.volutus(&["status"])?.stdout;
    is_back(lab, "2025.1", "31.", 0).with_context(|| format!("`volutus status` says:\n{status}"))?;
    told.exactly(&["upgrade to OpenStack 2026.1 has begun", "upgrade to OpenStack 2026.1 was taken back"])?;
    witness.is_whole()?;
    witness.remove()?;
    for host in HOSTS {
        lab.fault(&["bad-release", "--undo", host, "nova-conductor", "2026.1"])?;
    }
    Ok(())
}

/// A plan to 2026.1 under a policy of its own, approved: the policy's file, and the plan's id.
pub fn approved_under(lab: &Lab, policy: &str) -> anyhow::Result<(String, String)> {
    let file = lab.folder().join("policy.toml");
    std::fs::write(&file, policy)?;
    let file = file.to_str().context("the lab's folder has no plain name")?.to_owned();
    let made = lab.volutus(&["--policy", &file, "plan", "--to", "2026.1", "--output", "json"])?;
    let made = made.expect(0, &[])?.json()?;
    let plan = text_at(&made, &["id"])?.to_owned();
    lab.volutus(&["approve", &plan])?.expect(0, &[])?;
    Ok((file, plan))
}

/// The latest verdict is of an upgrade that was taken back with no more than so many failed
/// requests, everything runs the old release, and nothing of the run is left.
pub fn is_back(lab: &Lab, series: &str, nova: &str, failed_max: u64) -> anyhow::Result<()> {
    let verdict = runs_everywhere(lab, series, nova)?;
    ensure!(verdict["rolled_back"] == true, "{verdict}");
    let failed = verdict["requests_failed"].as_u64().context("no requests_failed")?;
    ensure!(failed <= failed_max, "{failed} requests failed, at most {failed_max} may have: {verdict}");
    for (service, seen) in verdict["requests"].as_object().context("no requests")? {
        ensure!(service == "nova" || seen["failed"] == 0, "requests to {service} failed: {verdict}");
    }
    nothing_left_drained(lab)?;
    let observation = lab.volutus(&["observe", "--output", "json"])?.expect(0, &[])?.json()?;
    let records = observation["records"]["nova"]["observed"]["value"].as_array().context("no records")?;
    let anchor = records.iter().find(|record| record["host"] == "volutus-anchor");
    ensure!(anchor.is_none(), "an anchor is left: {anchor:?}");
    lab.volutus(&["journal", "verify"])?.expect(0, &[])?;
    Ok(())
}
