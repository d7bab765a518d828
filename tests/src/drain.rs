//! Hosts that are emptied, by hand and in a rolling reboot, and everything that goes otherwise than
//! planned: each ends as the policy says, and no instance is lost.

pub mod hooks;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use volutus_e2e::guests::Guests;

use crate::bad_input::text_at;
use crate::upgrade::bring_back_silent_daemons;
use crate::world::{Lab, Ran, World, run, wait_until};

/// Containers restart in seconds, and nothing is measured here.
const POLICY: &str = "\
baseline_s = 0
soak_s = 0

[reboot.moves]
overhead_s = 5

[reboot.act]
reboot_s = 30
prove_s = 10
reboot_limit_s = 75
";

/// A lab, and what the scenarios want to know of it.
pub struct Scene<'a> {
    world: &'a World,
    lab: &'a Lab<'a>,
    pub guests: Guests,
    policy: PathBuf,
    /// Where every instance was at the beginning.
    pub before: BTreeMap<String, String>,
}

impl<'a> Scene<'a> {
    /// With these tables of the policy besides.
    pub fn new(world: &'a World, lab: &'a Lab<'a>, tables: &str) -> anyhow::Result<Self> {
        let policy = lab.folder().join("drain.toml");
        let (act, others) = tables.split_once("\n\n").unwrap_or((tables, ""));
        std::fs::write(&policy, format!("{POLICY}{act}\n\n{others}"))?;
        let guests = Guests::of(&lab.cloud())?;
        let before = guests.places()?;
        Ok(Self { world, lab, guests, policy, before })
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.world.volutus(&self.lab.cloud());
        command.arg("--policy").arg(&self.policy).args(arguments);
        command
    }

    pub fn volutus(&self, arguments: &[&str]) -> anyhow::Result<Ran> {
        println!("  volutus {}", arguments.join(" "));
        run(&mut self.command(arguments))
    }

    /// The same, while this goes on.
    fn start(&self, arguments: &[&str]) -> anyhow::Result<Child> {
        println!("  volutus {} ...", arguments.join(" "));
        let mut command = self.command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().context("volutus does not start")
    }

    /// The same; what it says is in a file.
    fn start_saying(&self, arguments: &[&str]) -> anyhow::Result<(Child, PathBuf)> {
        println!("  volutus {} ...", arguments.join(" "));
        let file = self.lab.folder().join("said.txt");
        let mut command = self.command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(std::fs::File::create(&file)?);
        Ok((command.spawn().context("volutus does not start")?, file))
    }

    /// What `volutus hosts` tells of every host.
    fn hosts(&self) -> anyhow::Result<BTreeMap<String, Value>> {
        let rows = run(&mut self.command(&["hosts", "--output", "json"]))?.expect(0, &[])?.json()?;
        let rows = rows.as_array().context("no hosts")?;
        rows.iter().map(|row| Ok((text_at(row, &["host"])?.to_owned(), row.clone()))).collect()
    }

    pub fn host(&self, name: &str) -> anyhow::Result<Value> {
        self.hosts()?.remove(name).with_context(|| format!("`volutus hosts` does not list {name}"))
    }

    pub fn ensure_enabled(&self, enabled: bool, host: &str) -> anyhow::Result<()> {
        let row = self.host(host)?;
        ensure!(row["enabled"] == enabled, "scheduling is not as it should be: {row}");
        Ok(())
    }

    /// The host with the fewest instances, but some.
    pub fn carrying(&self) -> anyhow::Result<String> {
        let mut count: BTreeMap<&String, usize> = BTreeMap::new();
        for host in self.before.values() {
            *count.entry(host).or_default() += 1;
        }
        let fewest = count.into_iter().min_by_key(|(_, count)| *count);
        Ok(fewest.context("there are no instances")?.0.clone())
    }

    pub fn on(&self, host: &str) -> impl Iterator<Item = &String> {
        self.before.iter().filter(move |(_, on)| *on == host).map(|(id, _)| id)
    }

    /// Every instance of the beginning runs. Where each is now.
    pub fn all_run(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let after = self.guests.places()?;
        let gone: Vec<&String> = self.before.keys().filter(|id| !after.contains_key(*id)).collect();
        ensure!(gone.is_empty(), "instances are gone or do not run: {gone:?}");
        Ok(after)
    }

    /// Plans a reboot and approves it; the plan.
    fn plan(&self, selection: &[&str]) -> anyhow::Result<Value> {
        let made = self.volutus(&[&["plan", "--reboot", "--output", "json"], selection].concat())?;
        let plan = made.expect(0, &[])?.json()?;
        self.volutus(&["approve", text_at(&plan, &["id"])?])?.expect(0, &[])?;
        Ok(plan)
    }

    /// Waits until a run empties its first host; another one that has yet to wait.
    fn wait_for_waiting(&self, child: &mut Child, hosts: &[String]) -> anyhow::Result<String> {
        let mut waits = None;
        wait_until("the first host is emptied", 300, || {
            if let Some(status) = child.try_wait()? {
                bail!("`volutus run` ended by itself ({status}): {}", self.lab.volutus(&["status"])?.stdout);
            }
            if let Ok(status) = self.lab.volutus(&["status", "--output", "json"])?.json() {
                waits = last_waiting(hosts, &status["state"]["steps"]);
            }
            Ok(waits.is_some())
        })?;
        waits.context("no host waits")
    }

    /// Waits until the run of a plan is at a step.
    fn wait_for_step(&self, child: &mut Child, step: &str) -> anyhow::Result<()> {
        wait_until(&format!("step {step} runs"), 300, || {
            if let Some(status) = child.try_wait()? {
                bail!("`volutus run` ended by itself ({status}): {}", self.lab.volutus(&["status"])?.stdout);
            }
            let Ok(status) = self.lab.volutus(&["status", "--output", "json"])?.json() else {
                return Ok(false);
            };
            Ok(status["state"]["steps"][step]["status"] == "running")
        })
    }
}

/// The last of these hosts whose turn has not come while another one has its turn.
fn last_waiting(hosts: &[String], steps: &Value) -> Option<String> {
    let status = |host: &String| steps[format!("reboot/{host}")]["status"].as_str().map(str::to_owned);
    hosts.iter().find(|host| status(host).as_deref() == Some("running"))?;
    hosts.iter().rev().find(|host| matches!(status(host).as_deref(), None | Some("pending"))).cloned()
}

/// The hosts of a plan, in the order in which they are emptied.
fn order(plan: &Value) -> anyhow::Result<Vec<String>> {
    let drains = plan["content"]["drains"].as_array().context("the plan has no hosts")?;
    drains.iter().map(|drain| Ok(text_at(drain, &["host"])?.to_owned())).collect()
}

pub fn by_hand(world: &World, lab: &Lab) -> anyhow::Result<()> {
    bring_back_silent_daemons(lab)?;
    let scene = Scene::new(world, lab, "")?;
    let host = scene.carrying()?;
    scene.volutus(&["drain", &host])?.expect(3, &["no-consent", "--yes"])?;
    scene.volutus(&["drain", "nowhere", "--yes"])?.expect(3, &["unknown-host"])?;
    scene.ensure_enabled(true, &host)?;
    scene.volutus(&["drain", &host, "--yes"])?.expect(0, &[])?;
    let row = scene.host(&host)?;
    ensure!(row["instances"] == 0 && row["disabled_by"] == "volutus", "{row}");
    ensure!(row["standing"] == "drained", "{row}");
    let after = scene.all_run()?;
    ensure!(after.values().all(|on| *on != host), "something is left on {host}: {after:?}");
    // Nobody else's decision is undone.
    let other = after.values().next().context("there are no instances")?.clone();
    scene.volutus(&["undrain", &other, "--yes"])?.expect(3, &["not-disabled"])?;
    scene.guests.disable(&other, Some("memory errors"))?;
    scene.volutus(&["undrain", &other, "--yes"])?.expect(3, &["disabled-by-others", "memory errors"])?;
    scene.ensure_enabled(false, &other)?;
    scene.guests.disable(&other, None)?;
    scene.volutus(&["undrain", &host, "--yes"])?.expect(0, &[])?;
    scene.ensure_enabled(true, &host)
}

pub fn killed_in_a_drain(world: &World, lab: &Lab) -> anyhow::Result<()> {
    let scene = Scene::new(world, lab, "")?;
    let host = scene.carrying()?;
    let here: BTreeMap<String, String> = scene.on(&host).map(|id| (id.clone(), host.clone())).collect();
    let moved = scene.guests.moves(&here)?;
    let mut first = scene.start(&["drain", &host, "--yes"])?;
    wait_until("the first instance moves", 300, || {
        if let Some(status) = first.try_wait()? {
            bail!("`volutus drain` ended by itself ({status}): {}", lab.volutus(&["status"])?.stdout);
        }
        Ok(scene.guests.moves(&here)? != moved)
    })?;
    first.kill()?;
    first.wait()?;
    // The next process may go on once the dead one's lease has run out.
    wait_until("the run is taken up", 120, || {
        let resumed = scene.volutus(&["resume"])?;
        if resumed.code == 3 && resumed.stderr.contains("lease") {
            return Ok(false);
        }
        resumed.expect(0, &[])?;
        Ok(true)
    })?;
    let after = scene.all_run()?;
    ensure!(after.values().all(|on| *on != host), "something is left on {host}: {after:?}");
    for (id, times) in scene.guests.moves(&here)? {
        ensure!(times == moved[&id] + 1, "{id} was moved {} times", times - moved[&id]);
    }
    scene.volutus(&["journal", "verify"])?.expect(0, &[])?;
    scene.volutus(&["undrain", &host, "--yes"])?.expect(0, &[])?;
    Ok(())
}

pub fn stopped_with_consent(world: &World, lab: &Lab) -> anyhow::Result<()> {
    bring_back_silent_daemons(lab)?;
    let places = Guests::of(&lab.cloud())?.places()?;
    let host = places.values().next().context("there are no instances")?.clone();
    let made = Guests::of(&lab.cloud())?;
    let (agrees, asleep) = (made.boot_on(&host, None)?, made.boot_on(&host, None)?);
    made.choose(&agrees, "stop")?;
    made.stop(&asleep)?;
    let scene = Scene::new(world, lab, "")?;
    let plan = scene.plan(&["--hosts", &host])?;
    scene.volutus(&["run", text_at(&plan, &["id"])?])?.expect(0, &[])?;
    let after = scene.all_run()?;
    for id in scene.on(&host) {
        let stays = *id == agrees;
        ensure!((after[id] == host) == stays, "{id} is on {}, and agreed to be stopped: {stays}", after[id]);
    }
    let only = |id: &String| BTreeMap::from([(id.clone(), host.clone())]);
    ensure!(scene.guests.moves(&only(&agrees))?[&agrees] == 0, "what agreed to be stopped was moved");
    let server = scene.guests.look(&agrees)?;
    ensure!(server.tags.is_empty(), "the mark is left: {:?}", server.tags);
    let done = scene.guests.actions(&agrees)?;
    ensure!(done == ["start", "stop", "create"], "{done:?}");
    // What its owner switched off is not switched on.
    let server = scene.guests.look(&asleep)?;
    ensure!(server.status == "SHUTOFF" && server.host.as_deref() == Some(&host), "{server:?}");
    // By hand: it stays off as long as the host is out, and comes back with it.
    scene.volutus(&["drain", &host, "--yes"])?.expect(0, &[])?;
    let server = scene.guests.look(&agrees)?;
    ensure!(server.status == "SHUTOFF" && server.tags == ["volutus:stopped"], "{server:?}");
    scene.volutus(&["undrain", &host, "--yes"])?.expect(0, &[])?;
    let server = scene.guests.look(&agrees)?;
    ensure!(server.status == "ACTIVE" && server.tags.is_empty(), "{server:?}");
    scene.ensure_enabled(true, &host)?;
    scene.guests.delete(&agrees)?;
    scene.guests.delete(&asleep)
}

pub fn group_as_large_as_the_hosts(world: &World, lab: &Lab) -> anyhow::Result<()> {
    let scene = Scene::new(world, lab, "")?;
    let hosts: Vec<String> = scene.hosts()?.into_keys().collect();
    let group = scene.guests.make_group("as-large-as-hosts")?;
    let members: Vec<String> =
        hosts.iter().map(|host| scene.guests.boot_on(host, Some(&group))).collect::<Result<_, _>>()?;
    let plan = scene.plan(&[])?;
    let left = plan["content"]["left"].as_array().context("no list of hosts that are left")?;
    ensure!(left.len() == hosts.len() && order(&plan)?.is_empty(), "{plan}");
    ensure!(left.iter().all(|one| one["code"] == "group-as-large-as-hosts"), "{left:?}");
    let told = ["cannot-be-emptied", "as-large-as-hosts", "Add one host"];
    scene.volutus(&["drain", &hosts[0], "--yes"])?.expect(3, &told)?;
    scene.ensure_enabled(true, &hosts[0])?;
    for member in &members {
        scene.guests.delete(member)?;
    }
    scene.guests.delete_group(&group)
}

pub fn never_converges(world: &World, lab: &Lab) -> anyhow::Result<()> {
    let patient = "\n\n[reboot.drain]\nlive_timeout_s_per_gib = 5\nladder = [\"live\", \"skip\"]\n";
    let scene = Scene::new(world, lab, patient)?;
    let host = scene.carrying()?;
    lab.fault(&["hold-migrations", &host])?;
    bring_back_silent_daemons(lab)?;
    let told = ["did not converge", "broken off", "volutus resume"];
    scene.volutus(&["drain", &host, "--yes"])?.expect(5, &told)?;
    let after = scene.all_run()?;
    ensure!(scene.on(&host).all(|id| after[id] == host), "what was broken off has moved: {after:?}");
    scene.volutus(&["abort"])?.expect(0, &[])?;
    scene.ensure_enabled(true, &host)?;
    let forceful = patient.replace("\"skip\"", "\"force-complete\", \"skip\"");
    let scene = Scene::new(world, lab, &forceful)?;
    scene.volutus(&["drain", &host, "--yes"])?.expect(0, &[])?;
    let after = scene.all_run()?;
    ensure!(after.values().all(|on| *on != host), "something is left on {host}: {after:?}");
    lab.fault(&["hold-migrations", "--undo", &host])?;
    scene.volutus(&["undrain", &host, "--yes"])?.expect(0, &[])?;
    Ok(())
}

pub fn refused_by_the_destination(world: &World, lab: &Lab) -> anyhow::Result<()> {
    let scene = Scene::new(world, lab, "")?;
    let host = scene.carrying()?;
    let plan = scene.plan(&["--hosts", &host])?;
    let moves = plan["content"]["moves"].as_array().context("the plan moves nothing")?;
    let refusing = text_at(moves.first().context("the plan moves nothing")?, &["to"])?.to_owned();
    lab.fault(&["refuse-migrations", &refusing])?;
    bring_back_silent_daemons(lab)?;
    let ran = scene.volutus(&["run", text_at(&plan, &["id"])?])?;
    ran.expect(0, &["goes on from run"])?;
    let after = scene.all_run()?;
    for id in scene.on(&host) {
        ensure!(after[id] != host, "{id} was not moved off {host}");
        ensure!(after[id] != refusing, "{id} is on {refusing}, which refuses");
    }
    lab.fault(&["refuse-migrations", "--undo", &refusing])?;
    scene.ensure_enabled(true, &host)
}

pub fn another_kernel(world: &World, lab: &Lab) -> anyhow::Result<()> {
    let scene = Scene::new(world, lab, "kernel = \"6.99.0-never\"")?;
    // The one that carries nothing, if any does: nothing has to be moved then.
    let host = order(&scene.plan(&[])?)?.into_iter().next().context("no host is rebooted")?;
    let plan = scene.plan(&["--hosts", &host])?;
    let ran = scene.volutus(&["run", text_at(&plan, &["id"])?])?;
    ran.expect(5, &["has come back with kernel", "6.99.0-never", "resume --without-failed"])?;
    scene.ensure_enabled(false, &host)?;
    scene.volutus(&["resume", "--without-failed"])?.expect(5, &["hosts-failed", &host])?;
    let row = scene.host(&host)?;
    ensure!(row["enabled"] == false, "{row}");
    ensure!(text_at(&row, &["standing"])?.contains("has come back with kernel"), "{row}");
    scene.all_run()?;
    scene.volutus(&["undrain", &host, "--yes"])?.expect(0, &[])?;
    scene.ensure_enabled(true, &host)
}

pub fn changed_meanwhile(world: &World, lab: &Lab) -> anyhow::Result<()> {
    let scene = Scene::new(world, lab, "")?;
    let plan = scene.plan(&[])?;
    let hosts = order(&plan)?;
    let (first, second) = (&hosts[0], &hosts[1]);
    let mut running = scene.start(&["run", text_at(&plan, &["id"])?])?;
    scene.wait_for_step(&mut running, &format!("reboot/{first}"))?;
    scene.guests.disable(second, Some("I am at it"))?;
    let ended = running.wait()?;
    ensure!(ended.code() == Some(5), "the run ended with {ended}");
    scene.volutus(&["status"])?.expect(0, &["disabled by somebody else", "I am at it"])?;
    let after = scene.all_run()?;
    ensure!(scene.on(second).all(|id| after[id] == *second), "a person's host was emptied: {after:?}");
    scene.volutus(&["abort"])?.expect(0, &[])?;
    let row = scene.host(second)?;
    ensure!(row["enabled"] == false && row["reason"] == "I am at it", "{row}");
    scene.ensure_enabled(true, first)?;
    scene.guests.disable(second, None)
}

pub fn new_instance_in_between(world: &World, lab: &Lab) -> anyhow::Result<()> {
    bring_back_silent_daemons(lab)?;
    let scene = Scene::new(world, lab, "")?;
    let plan = scene.plan(&[])?;
    let (id, hosts) = (text_at(&plan, &["id"])?, order(&plan)?);
    // Between the plan and its run: what is run is a new plan that has it.
    let early = scene.guests.boot_on(&hosts[1], None)?;
    scene.volutus(&["check", id])?.expect(0, &["instances-since", "1 came"])?;
    let (mut running, said) = scene.start_saying(&["run", id])?;
    // In the run, before the host's turn: it moves to a host that is done.
    let waits = scene.wait_for_waiting(&mut running, &hosts)?;
    let late = scene.guests.boot_on(&waits, None)?;
    let ended = running.wait()?;
    let said = std::fs::read_to_string(said)?;
    ensure!(ended.success(), "the run ended with {ended}:\n{said}");
    ensure!(said.contains("1 came") && said.contains("is run instead"), "the new plan is not told:\n{said}");
    ensure!(!said.contains("goes on from run"), "another plan was made for {late}:\n{said}");
    scene.volutus(&["status"])?.expect(0, &["came since the plan was made", &late])?;
    let after = scene.all_run()?;
    let came = BTreeMap::from([(early.clone(), hosts[1].clone()), (late.clone(), waits)]);
    for (instance, times) in scene.guests.moves(&came)? {
        let on = after.get(&instance).with_context(|| format!("{instance} does not run: {after:?}"))?;
        ensure!(times == 1 && *on != came[&instance], "{instance} was moved {times} times and is on {on}");
        scene.ensure_enabled(true, on)?;
    }
    scene.guests.delete(&early)?;
    scene.guests.delete(&late)
}

pub fn new_instance_that_nobody_moves(world: &World, lab: &Lab) -> anyhow::Result<()> {
    bring_back_silent_daemons(lab)?;
    let scene = Scene::new(world, lab, "\n\n[reboot.drain]\nnewcomers = \"halt\"\n")?;
    let plan = scene.plan(&[])?;
    let (id, hosts) = (text_at(&plan, &["id"])?, order(&plan)?);
    // Between the plan and its run: it is told before anything is touched.
    let early = scene.guests.boot_on(&hosts[1], None)?;
    scene.volutus(&["run", id])?.expect(4, &["error[blocked]", "fleet-coverage"])?;
    scene.guests.delete(&early)?;
    // In the run, before the host's turn: it is seen once the host is disabled, and stays untouched.
    let mut running = scene.start(&["run", id])?;
    scene.wait_for_step(&mut running, &format!("reboot/{}", hosts[0]))?;
    let late = scene.guests.boot_on(&hosts[1], None)?;
    let ended = running.wait()?;
    ensure!(ended.code() == Some(5), "the run ended with {ended}");
    scene.volutus(&["status"])?.expect(0, &["is not empty", &late])?;
    let after = scene.all_run()?;
    ensure!(after.get(&late) == Some(&hosts[1]), "the new instance was touched: {after:?}");
    scene.volutus(&["abort"])?.expect(0, &[])?;
    scene.ensure_enabled(true, &hosts[1])?;
    scene.guests.delete(&late)
}

pub fn does_not_come_back(world: &World, lab: &Lab) -> anyhow::Result<()> {
    let scene = Scene::new(world, lab, "\n\n[reboot.hosts]\nfailed_max = 1\n")?;
    let plan = scene.plan(&[])?;
    let hosts = order(&plan)?;
    let (lost, others) = hosts.split_first().context("no host is rebooted")?;
    // It boots, and nobody reaches it.
    lab.exec(lost, "systemctl mask ssh")?.expect(0, &[])?;
    let ran = scene.volutus(&["run", text_at(&plan, &["id"])?])?;
    ran.expect(5, &["has not come back", "goes on from run", "hosts-failed", lost])?;
    scene.all_run()?;
    let row = scene.host(lost)?;
    ensure!(row["enabled"] == false && row["disabled_by"] == "volutus", "{row}");
    ensure!(text_at(&row, &["standing"])?.contains("has not come back"), "{row}");
    let status = lab.volutus(&["status", "--output", "json"])?.expect(0, &[])?.json()?;
    for host in others {
        scene.ensure_enabled(true, host)?;
        ensure!(status["state"]["steps"][format!("reboot/{host}")]["status"] == "completed", "{status}");
    }
    lab.exec(lost, "systemctl unmask ssh && systemctl start ssh")?.expect(0, &[])?;
    bring_back_silent_daemons(lab)?;
    scene.volutus(&["undrain", lost, "--yes"])?.expect(0, &[])?;
    scene.ensure_enabled(true, lost)
}
