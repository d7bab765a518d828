//! The emergency lane: a vulnerable keystone is found, patched by a plan that touches nothing else, and
//! proved to be closed; twice, so that the second patch begins where the first one left.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::bad_input::text_at;
use crate::upgrade::bring_back_silent_daemons;
use crate::world::{Lab, World};

/// keystone 28.0.1 is exposed to it, 28.0.2 is not.
const FIRST: &str = "CVE-2026-42999";
/// keystone 28.0.2 is exposed to it, 28.1.0 is not.
const SECOND: &str = "CVE-2026-90460";
/// ironic 39.0.0 is exposed to it, and its series has no release without it.
const UNFIXED: &str = "CVE-2026-90458";

const KEYSTONES: [&str; 3] = ["keystone-api@ctl1", "keystone-api@ctl2", "keystone-api@ctl3"];

pub fn exposure_is_seen(_: &World, lab: &Lab) -> anyhow::Result<()> {
    bring_back_silent_daemons(lab)?;
    let told =
        lab.volutus(&["exposure"])?.expect(4, &["exposed", FIRST, "28.0.1", "ctl1", "ctl2", "ctl3"])?;
    println!("{}", told.stdout);
    let found = lab.volutus(&["exposure", "--output", "json"])?.expect(4, &[])?.json()?;
    let exposed = found["exposed"].as_array().context("nothing is exposed")?;
    let one = exposed.iter().find(|one| one["vulnerability"] == FIRST).context("it is not exposed")?;
    ensure!(one["daemons"] == json!(KEYSTONES), "{one}");
    ensure!(exposed.iter().all(|one| one["distribution"] == "keystone"), "{exposed:?}");
    Ok(())
}

pub fn no_fix_is_said(_: &World, lab: &Lab) -> anyhow::Result<()> {
    let mut described = lab.volutus(&["observe", "--output", "json"])?.expect(0, &[])?.json()?;
    let mut daemon = described["daemons"]["cinder-scheduler@ctl1"].clone();
    daemon["observed"]["value"]["version"]["observed"]["value"] = json!("39.0.0");
    described["daemons"]["ironic-conductor@ctl1"] = daemon;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("observation.json");
    std::fs::write(&file, described.to_string())?;
    let file = file.to_string_lossy();
    let told = lab.volutus(&["patch", UNFIXED, "--observation", &file])?;
    let told = told.expect(4, &["no-fix", "ironic", "39.0.0", "No fixed release", "--take"])?;
    println!("{}\n{}", told.stdout, told.stderr);
    Ok(())
}

/// The processes of all daemons but keystone's.
fn others(lab: &Lab) -> anyhow::Result<BTreeMap<String, u64>> {
    let seen = lab.volutus(&["observe", "--output", "json"])?.expect(0, &[])?.json()?;
    let daemons = seen["daemons"].as_object().context("no daemons")?;
    let others = daemons.iter().filter(|(id, _)| !id.starts_with("keystone-"));
    let pid = |fact: &Value| fact["observed"]["value"]["main_pid"].as_u64();
    others
        .map(|(id, fact)| Ok((id.clone(), pid(fact).with_context(|| format!("{id} was not seen"))?)))
        .collect()
}

/// What a plan does to daemons, in order.
fn touched(plan: &Value) -> Vec<String> {
    let stages = plan["stages"].as_array().into_iter().flatten();
    let actions = stages
        .flat_map(|stage| stage["steps"].as_array().into_iter().flatten())
        .flat_map(|step| step["actions"].as_array().into_iter().flatten());
    actions
        .filter_map(|action| Some(format!("{} {}", action["action"].as_str()?, action["daemon"].as_str()?)))
        .collect()
}

/// Plans a patch, approves and runs it, and sees that it did what it was for and nothing else.
fn patch(lab: &Lab, vulnerability: &str, from: &str, to: &str) -> anyhow::Result<()> {
    bring_back_silent_daemons(lab)?;
    let before = others(lab)?;
    let start = Instant::now();
    let policy = lab.folder().join("policy.toml");
    std::fs::write(&policy, "")?;
    let policy = policy.to_str().context("the lab's folder has no plain name")?;
    let patch = ["--policy", policy, "patch", vulnerability, "--output", "json"];
    let made = lab.volutus(&patch)?.expect(0, &[])?.json()?;
    let plan = &made["plan"];
    ensure!(made["changes"].as_array().is_some_and(|changes| changes.len() == 1), "{made}");
    ensure!(made["changes"][0]["from"] == from && made["changes"][0]["to"] == to, "{}", made["changes"]);
    let wanted = KEYSTONES.iter().flat_map(|id| {
        ["drain-backend", "switch-daemon", "prove-daemon", "undrain-backend"]
            .map(|what| format!("{what} {id}"))
    });
    let mut touched = touched(plan);
    // The contract is proved in an emergency, too, and once more of what users are served by then.
    ensure!(touched.remove(0) == format!("shadow-api {}", KEYSTONES[0]), "{touched:?}");
    ensure!(touched.pop() == Some(format!("ask-again {}", KEYSTONES[0])), "{touched:?}");
    ensure!(touched == wanted.collect::<Vec<_>>(), "{touched:?}");
    let id = text_at(plan, &["id"])?;
    lab.volutus(&["check", id])?.expect(0, &[])?;
    lab.volutus(&["run", id])?.expect(3, &["not-approved"])?;
    lab.volutus(&["approve", id])?.expect(0, &[])?;
    let run = ["--policy", policy, "run", id];
    let ran = lab.volutus(&run)?.expect(0, &["closed", vulnerability, "API contract: held"])?;
    println!("{}", ran.stdout);
    let seconds = start.elapsed().as_secs();
    let verdict = lab.volutus(&["verdict", "--output", "json"])?.expect(0, &[])?.json()?;
    let proof = &verdict["exposure"];
    ensure!(proof["result"] == "closed" && proof["vulnerability"] == vulnerability, "{proof}");
    ensure!(
        proof["before"][0]["daemons"] == json!(KEYSTONES) && proof["before"][0]["version"] == from,
        "{proof}"
    );
    ensure!(proof["after"] == json!([]) && proof["unproved"] == json!([]), "{proof}");
    for daemon in KEYSTONES {
        ensure!(verdict["versions_observed"][daemon] == to, "{}", verdict["versions_observed"]);
    }
    ensure!(verdict["requests_failed"] == 0, "{} requests failed", verdict["requests_failed"]);
    ensure!(verdict["status"] == "succeeded", "{}", verdict["status"]);
    let after = others(lab)?;
    ensure!(after == before, "other daemons were restarted: {before:?} became {after:?}");
    println!(
        "figures: {vulnerability} closed: keystone {from} -> {to} on 3 daemons in {seconds} s from `patch` to verdict, \
         {} of {} requests failed, {} other daemons untouched",
        verdict["requests_failed"],
        verdict["requests_total"],
        after.len()
    );
    Ok(())
}

pub fn patched(_: &World, lab: &Lab) -> anyhow::Result<()> {
    patch(lab, FIRST, "28.0.1", "28.0.2")?;
    let left = lab.volutus(&["exposure", "--output", "json"])?.expect(4, &[])?.json()?;
    let exposed = left["exposed"].as_array().context("no list of what is exposed")?;
    ensure!(exposed.iter().all(|one| one["vulnerability"] != FIRST), "{exposed:?}");
    // There is nothing left to do, and it can be said at any time.
    lab.volutus(&["patch", FIRST])?.expect(0, &["Nothing that runs is exposed"])?;
    lab.volutus(&["rollback", "--yes"])?.expect(3, &["way-back-closed", "patch"])?;
    Ok(())
}

pub fn patched_again(_: &World, lab: &Lab) -> anyhow::Result<()> {
    patch(lab, SECOND, "28.0.2", "28.1.0")?;
    lab.volutus(&["exposure"])?.expect(0, &[])?;
    Ok(())
}

/// The next upgrade begins where the patches left: keystone's daemons in one directory, all others in
/// another.
pub fn upgrade_is_planned_from_there(_: &World, lab: &Lab) -> anyhow::Result<()> {
    let plan = lab.volutus(&["plan", "--to", "2026.1", "--output", "json"])?.expect(0, &[])?.json()?;
    let from = |daemon: &str| {
        let stages = plan["stages"].as_array().into_iter().flatten();
        let mut actions = stages
            .flat_map(|stage| stage["steps"].as_array().into_iter().flatten())
            .flat_map(|step| step["actions"].as_array().into_iter().flatten());
        let found = actions.find(|a| a["action"] == "switch-daemon" && a["daemon"] == daemon);
        found.and_then(|action| action["from"].as_str())
    };
    let release = format!("/opt/openstack/2025.2+{}", SECOND.to_lowercase());
    ensure!(from(KEYSTONES[0]) == Some(&release), "{:?}", from(KEYSTONES[0]));
    ensure!(from("glance-api@ctl1") == Some("/opt/openstack/2025.2"), "{:?}", from("glance-api@ctl1"));
    lab.volutus(&["check", text_at(&plan, &["id"])?])?.expect(0, &[])?;
    Ok(())
}
