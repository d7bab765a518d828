//! An upgrade in which every compute host is emptied, upgraded and restarted in one pass.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use volutus_e2e::guests::Guests;

use crate::bad_input::text_at;
use crate::upgrade::{all_on, bring_back_silent_daemons, finalize, nothing_left_drained};
use crate::world::{Lab, Ran, World, run};

/// Containers restart in seconds, and answers are compared elsewhere. Each host says in a file of its own that it was
/// worked on, and how often.
const POLICY: &str = r#"
baseline_s = 10
soak_s = 10

[reboot.moves]
overhead_s = 5

[reboot.act]
reboot_s = 30
prove_s = 10
reboot_limit_s = 75
before = ["/bin/sh", "-c", "echo before >> /var/tmp/volutus-pass"]
after = ["/bin/sh", "-c", "echo after >> /var/tmp/volutus-pass"]

[contract]
gate = "off"
"#;

fn volutus(world: &World, lab: &Lab, arguments: &[&str]) -> anyhow::Result<Ran> {
    let policy: PathBuf = lab.folder().join("upgrade-drains.toml");
    std::fs::write(&policy, POLICY)?;
    println!("  volutus {}", arguments.join(" "));
    run(world.volutus(&lab.cloud()).arg("--policy").arg(&policy).args(arguments))
}

pub fn refusals(world: &World, lab: &Lab) -> anyhow::Result<()> {
    bring_back_silent_daemons(lab)?;
    let joined = ["plan", "--to", "2026.1", "--reboot"];
    volutus(world, lab, &[&joined[..], &["--control"]].concat())?
        .expect(3, &["control-in-upgrade", "volutus plan --reboot --control"])?;
    volutus(world, lab, &[&joined[..], &["--described", "10"]].concat())?.expect(3, &["fleet-elsewhere"])?;
    let plan = volutus(world, lab, &[&joined[..], &["--output", "json"]].concat())?.expect(0, &[])?.json()?;
    // The reboot that is a part of it is never run by itself.
    let part = text_at(&plan, &["drains", "of"])?;
    volutus(world, lab, &["approve", part])?.expect(0, &[])?;
    volutus(world, lab, &["run", part])?.expect(3, &["part-of-upgrade"])?;
    Ok(())
}

pub fn one_pass(world: &World, lab: &Lab) -> anyhow::Result<()> {
    bring_back_silent_daemons(lab)?;
    let guests = Guests::of(&lab.cloud())?;
    let before = guests.places()?;
    ensure!(!before.is_empty(), "there are no instances");
    let (moved, boots) = (guests.moves(&before)?, boots(lab)?);
    let made = volutus(world, lab, &["plan", "--to", "2026.1", "--reboot", "--output", "json"])?;
    let plan = made.expect(0, &[])?.json()?;
    let id = text_at(&plan, &["id"])?;
    volutus(world, lab, &["check", id])?.expect(0, &[])?;
    volutus(world, lab, &["approve", id])?.expect(0, &[])?;
    volutus(world, lab, &["run", id])?.expect(0, &["verdict: zero-"])?;
    all_on(lab, "2026.1", "33.")?;
    nothing_left_drained(lab)?;
    let after = guests.places()?;
    for (instance, times) in guests.moves(&before)? {
        ensure!(after.contains_key(&instance), "instance {instance} is gone or does not run");
        let times = times - moved[&instance];
        ensure!(times <= 1, "instance {instance} was moved {times} times");
    }
    for (host, boot) in self::boots(lab)? {
        let restarted = boots.get(&host) != Some(&boot);
        ensure!(restarted == host.starts_with("cmp"), "{host} was restarted: {restarted}");
        if host.starts_with("cmp") {
            let told = lab.exec(&host, "cat /var/tmp/volutus-pass; rm /var/tmp/volutus-pass")?;
            let told = told.expect(0, &[])?.stdout;
            ensure!(told.lines().eq(["before", "after"]), "{host} was worked on otherwise than once: {told}");
        }
    }
    finalize(world, lab)
}

/// The boot that each host is in.
fn boots(lab: &Lab) -> anyhow::Result<BTreeMap<String, String>> {
    let seen: Value = lab.volutus(&["observe", "--output", "json"])?.expect(0, &[])?.json()?;
    let hosts = seen["hosts"].as_object().context("no hosts")?;
    hosts
        .iter()
        .map(|(host, fact)| Ok((host.clone(), text_at(fact, &["observed", "value", "boot_id"])?.to_owned())))
        .collect()
}
