//! Snapshots of a finalized run: verified, and one really restored, and taken back.

use anyhow::{Context as _, ensure};
use serde_json::Value;
use volutus_e2e::witness::Witness;

use crate::bad_input::text_at;
use crate::upgrade::{nothing_left_drained, runs_everywhere};
use crate::world::{Lab, World, wait_until};

/// The run is finalized. Its snapshots are verified; neutron's is put in place, with the older
/// neutron on it, which knows nothing of what was made since; taken back, everything is there.
pub fn restored_and_taken_back(_: &World, lab: &Lab) -> anyhow::Result<()> {
    let listed = lab.volutus(&["snapshot", "list", "--output", "json"])?.expect(0, &[])?.json()?;
    let snapshots = listed["snapshots"].as_array().context("no snapshots")?;
    let newest = snapshots.last().context("no snapshot")?;
    let id = text_at(newest, &["id"])?;
    let copies = newest["copies"].as_array().context("no copies")?;
    for copy in copies {
        ensure!(copy["present"] == true && copy["verified_at"].is_string(), "not verified: {copy}");
    }
    let of = |name: &str| copies.iter().any(|copy| copy["service"] == name);
    ensure!(of("keystone") && of("neutron"), "a copy is missing: {newest}");
    lab.volutus(&["snapshot", "verify", id])?.expect(0, &["neutron: restored in a scratch server"])?;

    // The way back is a restore now; it says what is lost, and does nothing by itself.
    let run = text_at(&copies[0], &["run"])?;
    lab.volutus(&["rollback", "--yes"])?.expect(3, &["LOST", "neutron: from", "no-consent", run])?;
    lab.volutus(&["snapshot", "restore", id, "--confirm", "neutron"])?.expect(3, &["no-consent"])?;

    let witness = Witness::make(&lab.cloud(), "made-after-the-snapshot")?;
    let restore = ["snapshot", "restore", id, "--service", "neutron", "--confirm", "neutron"];
    let restored = lab.volutus(&[&restore[..], &["--output", "json"]].concat())?.expect(0, &[])?.json()?;
    let ports = restored["services"][0]["made"]["ports"].as_u64();
    ensure!(ports.is_some_and(|count| count >= 1), "the loss of a port was not stated: {restored}");
    neutron_runs(lab, "27.")?;
    ensure!(witness.is_whole().is_err(), "a port that was made after the snapshot outlived its restore");

    lab.volutus(&[&restore[..], &["--undo"]].concat())?.expect(0, &[])?;
    runs_everywhere(lab, "2026.1", "33.")?;
    neutron_runs(lab, "28.")?;
    wait_until("what was made after the snapshot is there again", 120, || Ok(witness.is_whole().is_ok()))?;
    witness.remove()?;
    nothing_left_drained(lab)
}

fn neutron_runs(lab: &Lab, beginning: &str) -> anyhow::Result<()> {
    let observation = lab.volutus(&["observe", "--output", "json"])?.expect(0, &[])?.json()?;
    let daemons: &serde_json::Map<String, Value> =
        observation["daemons"].as_object().context("no daemons")?;
    for (daemon, fact) in daemons.iter().filter(|(daemon, _)| daemon.starts_with("neutron-")) {
        let version = fact["observed"]["value"]["version"]["observed"]["value"].as_str();
        ensure!(version.is_some_and(|version| version.starts_with(beginning)), "{daemon} runs {version:?}");
    }
    Ok(())
}
