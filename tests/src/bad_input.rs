//! Bad input: each is refused with a clear error and a non-zero exit, and nothing is changed.

use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::world::{Lab, World, altered, run};

/// Makes a plan and returns its id.
pub fn make_plan(lab: &Lab, to: &str) -> anyhow::Result<String> {
    let ran = lab.volutus(&["plan", "--to", to, "--output", "json"])?.expect(0, &[])?;
    let plan = ran.json()?;
    Ok(plan["id"].as_str().context("the plan has no id")?.to_owned())
}

pub fn unknown_series(_: &World, lab: &Lab) -> anyhow::Result<()> {
    lab.volutus(&["plan", "--to", "2031.1"])?.expect(3, &["2031.1", "2026.1"])?;
    lab.volutus(&["plan", "--to", "gaspacho"])?.expect(3, &["gaspacho"])?;
    Ok(())
}

pub fn forbidden_path(_: &World, lab: &Lab) -> anyhow::Result<()> {
    lab.volutus(&["plan", "--to", "2026.2"])?.expect(3, &["2025.2", "2026.2", "2026.1"])?;
    Ok(())
}

pub fn malformed_description(world: &World, lab: &Lab) -> anyhow::Result<()> {
    let folder = altered(lab, |text| Ok(text.replacen("name = ", "name == ", 1)))?;
    run(world.volutus(&folder.path().join("cloud.toml")).arg("observe"))?
        .expect(3, &["cloud.toml", "line 2", "column"])?;
    Ok(())
}

pub fn unreachable_host(world: &World, lab: &Lab) -> anyhow::Result<()> {
    // An address of the lab's own range that no host has.
    let folder = altered(lab, |text| {
        let line = text
            .lines()
            .find(|line| line.starts_with("address = ") && line.contains(".2"))
            .context("no compute address")?;
        let (head, _) = line.rsplit_once('.').context("no address")?;
        Ok(text.replacen(line, &format!("{head}.250\""), 1))
    })?;
    let cloud = folder.path().join("cloud.toml");
    run(world.volutus(&cloud).args(["check", "--to", "2026.1"]))?.expect(4, &["unreachable"])?;
    Ok(())
}

pub fn changed_host_key(world: &World, lab: &Lab) -> anyhow::Result<()> {
    let folder = altered(lab, |text| Ok(format!("{text}\n# same hosts, other keys\n")))?;
    let path = folder.path().join("known_hosts");
    let known = std::fs::read_to_string(&path)?;
    // The keys of two hosts are exchanged: each host then shows a key that is not its own.
    let lines: Vec<&str> = known.lines().filter(|line| !line.trim().is_empty()).collect();
    let key = |line: &str| line.split_once(' ').map(|(_, key)| key.to_owned());
    let keys: Vec<String> = lines.iter().filter_map(|line| key(line)).collect();
    ensure!(keys.len() == lines.len() && keys.len() > 1, "known_hosts is not as expected:\n{known}");
    let swapped: Vec<String> = lines
        .iter()
        .enumerate()
        .filter_map(|(index, line)| {
            let (host, _) = line.split_once(' ')?;
            Some(format!("{host} {}", keys[(index + 1) % keys.len()]))
        })
        .collect();
    std::fs::write(&path, swapped.join("\n") + "\n")?;
    run(world.volutus(&folder.path().join("cloud.toml")).args(["check", "--to", "2026.1"]))?
        .expect(4, &["host key"])?;
    Ok(())
}

pub fn wrong_password(world: &World, lab: &Lab) -> anyhow::Result<()> {
    let folder = altered(lab, |text| Ok(format!("{text}\n# wrong password\n")))?;
    let path = folder.path().join("clouds.yaml");
    let text = std::fs::read_to_string(&path)?;
    let wrong: String = text
        .lines()
        .map(|line| match line.split_once("password:") {
            Some((head, _)) => format!("{head}password: not-the-password\n"),
            None => format!("{line}\n"),
        })
        .collect();
    ensure!(wrong != text, "clouds.yaml holds no password:\n{text}");
    std::fs::write(&path, wrong)?;
    let ran = run(world.volutus(&folder.path().join("cloud.toml")).args(["check", "--to", "2026.1"]))?;
    ensure!(
        !ran.stderr.contains("not-the-password") && !ran.stdout.contains("not-the-password"),
        "a secret is shown"
    );
    ran.expect(4, &["401", "-admin", "credentials"])?;
    Ok(())
}

/// A small disk of its own, gone when this is dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(folder.path()))?
            .expect(0, &[])?;
        Ok(Self(folder))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg(self.0.path())).and_then(|ran| ran.expect(0, &[]))
        {
            println!("{} is left mounted: {error:#}", self.0.path().display());
        }
    }
}

/// The state's disk has become full, and then can only be read: both are named, and what was
/// recorded before is still there.
pub fn spent_disk(world: &World, lab: &Lab) -> anyhow::Result<()> {
    let disk = Disk::mount()?;
    let folder = disk.0.path();
    let volutus = |words: &[&str]| run(world.volutus(&lab.cloud()).arg("--state").arg(folder).args(words));
    let plan = ["plan", "--to", "2026.1", "--output", "json"];
    let made = volutus(&plan)?.expect(0, &[])?.json()?;
    let id = text_at(&made, &["id"])?;
    run(Command::new("dd").args(["if=/dev/zero", "bs=4k"]).arg(format!("of={}/filler", folder.display())))?
        .expect(1, &[])?;
    volutus(&["approve", id])?.expect(1, &["error[", "the disk is full", "make room"])?;
    run(Command::new("rm").arg(folder.join("filler")))?.expect(0, &[])?;
    volutus(&["run", id])?.expect(3, &["not-approved"])?;
    run(Command::new("mount").args(["-o", "remount,ro"]).arg(folder))?.expect(0, &[])?;
    volutus(&["approve", id])?.expect(1, &["error[", "only be read"])?;
    run(Command::new("mount").args(["-o", "remount,rw"]).arg(folder))?.expect(0, &[])?;
    volutus(&["approve", id])?.expect(0, &[])?;
    Ok(())
}

/// The API's name does not resolve: the check says so, and names it.
pub fn name_without_address(world: &World, lab: &Lab) -> anyhow::Result<()> {
    let folder = altered(lab, |text| Ok(format!("{text}\n# a name that nobody knows\n")))?;
    let path = folder.path().join("clouds.yaml");
    let text = std::fs::read_to_string(&path)?;
    let unknown: String = text
        .lines()
        .map(|line| match line.split_once("auth_url:") {
            Some((head, _)) => format!("{head}auth_url: http://keystone.invalid:5000/v3\n"),
            None => format!("{line}\n"),
        })
        .collect();
    ensure!(unknown != text, "clouds.yaml holds no auth_url:\n{text}");
    std::fs::write(&path, unknown)?;
    run(world.volutus(&folder.path().join("cloud.toml")).args(["check", "--to", "2026.1"]))?
        .expect(4, &["keystone.invalid"])?;
    Ok(())
}

pub fn missing_backend(world: &World, lab: &Lab) -> anyhow::Result<()> {
    let folder =
        altered(lab, |text| Ok(text.replacen("backend = \"glance\"", "backend = \"glance-elsewhere\"", 1)))?;
    run(world.volutus(&folder.path().join("cloud.toml")).args(["check", "--to", "2026.1"]))?
        .expect(4, &["glance-elsewhere"])?;
    Ok(())
}

pub fn unapproved_plan(_: &World, lab: &Lab) -> anyhow::Result<()> {
    let plan = make_plan(lab, "2026.1")?;
    lab.volutus(&["run", &plan])?.expect(3, &["approve"])?;
    Ok(())
}

pub fn edited_plan(_: &World, lab: &Lab) -> anyhow::Result<()> {
    let plan = make_plan(lab, "2026.1")?;
    lab.volutus(&["approve", &plan])?.expect(0, &[])?;
    let database = lab.folder().join(".volutus/volutus.db");
    let script = "import sqlite3,sys\nc=sqlite3.connect(sys.argv[1])\n\
        n=c.execute(\"update plan set body=replace(body,'\\\"parallel_max\\\":1','\\\"parallel_max\\\":9') where id=?\",(sys.argv[2],)).rowcount\n\
        c.commit()\nassert n==1\n";
    run(Command::new("/usr/bin/python3").args(["-c", script]).arg(&database).arg(&plan))?.expect(0, &[])?;
    lab.volutus(&["run", &plan])?.expect(3, &["approve"])?;
    Ok(())
}

pub fn changed_cloud(_: &World, lab: &Lab) -> anyhow::Result<()> {
    let plan = make_plan(lab, "2026.1")?;
    lab.volutus(&["approve", &plan])?.expect(0, &[])?;
    let text = std::fs::read_to_string(lab.cloud())?;
    std::fs::write(lab.cloud(), text.replacen("volume_type = \"lab\"", "", 1))?;
    let ran = lab.volutus(&["run", &plan]);
    std::fs::write(lab.cloud(), &text)?;
    ran?.expect(3, &["changed"])?;
    let status = lab.volutus(&["status"])?;
    ensure!(status.code != 0, "a run was created: {}", status.stdout);
    Ok(())
}

/// The value at a path of keys in JSON, as text.
pub fn text_at<'v>(value: &'v Value, path: &[&str]) -> anyhow::Result<&'v str> {
    let mut at = value;
    for key in path {
        at = &at[*key];
    }
    at.as_str().with_context(|| format!("no text at {path:?}"))
}
