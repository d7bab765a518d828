//! A vulnerability without a fixed release: a declared mitigation is put in force on every host that is exposed,
//! under load, and taken back again.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::bad_input::text_at;
use crate::upgrade::bring_back_silent_daemons;
use crate::world::{Lab, World};

/// Made up: no release of 2025.2 is free of it.
const VULNERABILITY: &str = "CVE-2026-99901";

const HOSTS: [&str; 3] = ["ctl1", "ctl2", "ctl3"];

/// What the command leaves on a host: a file of options that keystone does not read, so that nothing changes for
/// its users.
const MARKER: &str = "/etc/keystone/mitigated.conf";

fn policy() -> String {
    format!(
        r#"
[[patch.mitigation]]
vulnerability = "{VULNERABILITY}"
name = "marked"
method = "restart"
argv = ["/bin/sh", "-c", "test -e {MARKER} && exit 70; echo '[DEFAULT]' > {MARKER}"]
unchanged_exit = 70
check = ["/usr/bin/test", "-s", "{MARKER}"]
undo = ["/bin/rm", "-f", "{MARKER}"]
"#
    )
}

/// The process of every daemon.
fn processes(lab: &Lab) -> anyhow::Result<BTreeMap<String, u64>> {
    let seen = lab.volutus(&["observe", "--output", "json"])?.expect(0, &[])?.json()?;
    let daemons = seen["daemons"].as_object().context("no daemons")?;
    let pid = |fact: &Value| fact["observed"]["value"]["main_pid"].as_u64();
    daemons
        .iter()
        .map(|(id, fact)| Ok((id.clone(), pid(fact).with_context(|| format!("{id} was not seen"))?)))
        .collect()
}

/// Keystone's daemons were restarted in between, and no others.
fn only_keystone_restarted(
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
) -> anyhow::Result<()> {
    ensure!(before.keys().eq(after.keys()), "{before:?} became {after:?}");
    for (id, pid) in before {
        let restarted = after[id] != *pid;
        ensure!(restarted == id.starts_with("keystone-"), "{id}: {pid} became {}", after[id]);
    }
    Ok(())
}

fn marked(lab: &Lab, wanted: bool) -> anyhow::Result<()> {
    for host in HOSTS {
        let there = lab.exec(host, &format!("test -s {MARKER}"))?.code == 0;
        ensure!(there == wanted, "{MARKER} on {host}: {there}");
    }
    Ok(())
}

pub fn mitigated_and_taken_back(_: &World, lab: &Lab) -> anyhow::Result<()> {
    bring_back_silent_daemons(lab)?;
    let folder = tempfile::tempdir()?;
    let advisory = folder.path().join("advisory.json");
    let made_up = json!({"advisories": [{
        "id": VULNERABILITY, "date": "2026-11-01", "title": "made up for a test",
        "affected": [{"product": "keystone", "versions": ">=28.0.0 <29.0.0"}],
        "source": "a test",
    }]});
    std::fs::write(&advisory, made_up.to_string())?;
    lab.volutus(&["advisories", "sync", "--from", &advisory.to_string_lossy()])?.expect(0, &[])?;
    // Without a declaration it is said what can be declared.
    let told = lab.volutus(&["patch", VULNERABILITY])?;
    told.expect(4, &["no-fix", "No fixed release", "[[patch.mitigation]]", "check = "])?;
    lab.volutus(&["patch", VULNERABILITY, "--mitigate"])?.expect(3, &["no-mitigation"])?;

    let file = folder.path().join("policy.toml");
    std::fs::write(&file, policy())?;
    let file = file.to_string_lossy();
    lab.volutus(&["--policy", &file, "patch", VULNERABILITY])?.expect(4, &["--mitigate=marked", "no-fix"])?;
    marked(lab, false)?;
    let before = processes(lab)?;
    let made = lab.volutus(&["--policy", &file, "patch", VULNERABILITY, "--mitigate", "--output", "json"])?;
    let made = made.expect(0, &[])?.json()?;
    let id = text_at(&made["plan"], &["id"])?;
    lab.volutus(&["--policy", &file, "check", id])?.expect(0, &[])?;
    lab.volutus(&["--policy", &file, "approve", id])?.expect(0, &[])?;
    let ran = lab.volutus(&["--policy", &file, "run", id])?;
    let ran = ran.expect(0, &["mitigated", "the versions stay vulnerable", "[[statement]]"])?;
    println!("{}", ran.stdout);
    let verdict = lab.volutus(&["verdict", "--output", "json"])?.expect(0, &[])?.json()?;
    let proof = &verdict["exposure"];
    ensure!(proof["result"] == "mitigated" && proof["mitigated"]["checked"] == json!(HOSTS), "{proof}");
    ensure!(proof["after"].as_array().is_some_and(|after| after.len() == 1), "{proof}");
    ensure!(verdict["requests_failed"] == 0, "{} requests failed", verdict["requests_failed"]);
    marked(lab, true)?;
    let mitigated = processes(lab)?;
    only_keystone_restarted(&before, &mitigated)?;
    lab.volutus(&["rollback", "--yes"])?.expect(3, &["way-back-closed", "undo"])?;

    // What runs is still vulnerable, until it is stated that the way to it is closed.
    lab.volutus(&["exposure"])?.expect(4, &[VULNERABILITY])?;
    let from = ran.stdout.find("[[statement]]").context("no statement is proposed")?;
    let statements = folder.path().join("statements.toml");
    std::fs::write(&statements, &ran.stdout[from..])?;
    let told = lab.volutus(&["exposure", "--statements", &statements.to_string_lossy()])?;
    told.expect(0, &["Stated not to concern", VULNERABILITY, "marked"])?;

    let undone = lab.volutus(&[
        "--policy",
        &file,
        "patch",
        VULNERABILITY,
        "--mitigate=marked",
        "--undo",
        "--run",
        "--yes",
    ])?;
    undone.expect(0, &["opens again"])?;
    let undone = lab.volutus(&["verdict", "--output", "json"])?.expect(0, &[])?.json()?;
    ensure!(undone["requests_failed"] == 0, "{} requests failed", undone["requests_failed"]);
    marked(lab, false)?;
    only_keystone_restarted(&mitigated, &processes(lab)?)?;
    println!(
        "figures: {VULNERABILITY} mitigated and taken back on 3 hosts, {} and {} of {} and {} requests failed",
        verdict["requests_failed"],
        undone["requests_failed"],
        verdict["requests_total"],
        undone["requests_total"]
    );
    Ok(())
}
