//! Real guests that write their memory faster than a live migration sends it, and each way that the ladder has
//! for them: as Volutus tells it, as nova wrote it down, as QEMU showed it, and what the guest felt.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};

use crate::bad_input::text_at;
use crate::drain::Scene;
use crate::upgrade::bring_back_silent_daemons;
use crate::world::{Lab, Ran, World, wait_until};

/// MiB that the guest writes again and again. On a busy machine a guest in software converges by itself with that at
/// the lab's 32 MiB/s, so that less is sent here.
const DIRTIED_MIB: &str = "48";
/// A guest that is asked answers within seconds, on however busy a machine.
const ANSWER: Duration = Duration::from_secs(20);
/// Where a host writes down, twice a second, what libvirt tells of its guest and of its migration.
const SAMPLES: &str = "/run/volutus-converge";

/// What became of a guest that was to leave its host.
struct Ended<'a> {
    scene: Scene<'a>,
    /// The host that it was to leave, and the one that it is on.
    from: String,
    on: String,
    /// What `volutus drain` did.
    ran: Ran,
    /// What was done to the instance in nova's record meanwhile, oldest first, and what became of its migration.
    actions: Vec<String>,
    migration: String,
    /// What nova-compute of the source logged, and what libvirt told there.
    log: String,
    samples: String,
    /// The longest time in which the guest did not answer over a connection that held.
    gap: Duration,
}

impl Ended<'_> {
    /// The guest is on the other host, and the host that it left is given back.
    fn is_away(&self) -> anyhow::Result<()> {
        ensure!(self.on != self.from, "the guest is still on {}", self.from);
        ensure!(self.migration == "completed", "nova calls the migration {}", self.migration);
        self.scene.volutus(&["undrain", &self.from, "--yes"])?.expect(0, &[])?;
        self.scene.ensure_enabled(true, &self.from)
    }

    /// `volutus drain` ended with this exit code and told all of these.
    fn ended_with(&self, code: i32, texts: &[&str]) -> anyhow::Result<()> {
        let Ran { code: seen, stdout, stderr } = &self.ran;
        ensure!(*seen == code, "exit code {seen} instead of {code}:\n{stdout}\n{stderr}");
        let missing = texts.iter().find(|text| !stdout.contains(**text) && !stderr.contains(**text));
        ensure!(missing.is_none(), "{missing:?} is not told:\n{stdout}\n{stderr}");
        Ok(())
    }

    /// Whether nova wrote down that it was told to do this with the migration.
    fn was_told(&self, action: &str) -> bool {
        self.actions.iter().any(|done| done == action)
    }

    /// The greatest number that libvirt told of the migration under a name; 0 where it told none.
    fn greatest(&self, name: &str) -> u64 {
        let told = self.samples.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        told.filter_map(|value| value.split_whitespace().next()?.parse().ok()).max().unwrap_or(0)
    }

    fn figure(&self, what: &str) {
        println!("figures: {what}: gap {:.1} s", self.gap.as_secs_f64());
    }
}

/// How a guest is moved.
struct Way {
    /// What nova permits of `live_migration_permit_*`; nothing else of that kind.
    permitted: &'static [&'static str],
    /// What its migration may send, in MiB/s.
    bandwidth: u32,
    ladder: &'static str,
    /// Seconds for each GiB, of which nova reckons three.
    per_gib_s: u32,
}

/// Has a guest write its memory and drains its host.
fn drained<'a>(world: &'a World, lab: &'a Lab<'a>, way: &Way) -> anyhow::Result<Ended<'a>> {
    for host in ["cmp1", "cmp2"] {
        permit(lab, host, way)?;
    }
    bring_back_silent_daemons(lab)?;
    let Way { ladder, per_gib_s, .. } = way;
    let tables = format!("\n\n[reboot.drain]\nlive_timeout_s_per_gib = {per_gib_s}\nladder = [{ladder}]\n");
    let scene = Scene::new(world, lab, &tables)?;
    let from = scene.carrying()?;
    let id = scene.on(&from).next().context("there is no guest")?.clone();
    let known = scene.guests.actions(&id)?.len();
    let watch = lab.watch_guests()?;
    lab.fault(&["dirty-memory", &from, &id, "--mib", DIRTIED_MIB])?;
    let begun = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    sample(lab, &from)?;
    let ran = scene.volutus(&["drain", &from, "--yes"]);
    let samples = lab.exec(&from, &format!("kill $(cat {SAMPLES}.pid); cat {SAMPLES}"))?.stdout;
    let watched = watch.end()?;
    let ran = ran?;
    let log = format!("journalctl --unit nova-compute --since @{begun} --output cat --no-pager");
    let log = lab.exec(&from, &log)?.expect(0, &[])?.stdout;
    let mut actions = scene.guests.actions(&id)?;
    actions.truncate(actions.len() - known);
    actions.reverse();
    let migration = scene.guests.last_live_migration(&id)?;
    let on = scene.all_run()?.remove(&id).context("the instance is not ACTIVE")?;
    let guest =
        watched.iter().find(|seen| seen["guest"]["uuid"] == id.as_str()).context("it was not watched")?;
    ensure!(guest["held"]["broken"].is_null(), "the guest did not keep its connection: {}", guest["held"]);
    ensure!(guest["held"]["answers"].as_u64() > Some(0), "the guest never answered: {}", guest["held"]);
    let gap = guest["held"]["longest_gap_ms"].as_u64().context("no gap was measured")?;
    let outer = text_at(guest, &["guest", "outer"])?;
    let state = ask(outer, "state")?;
    ensure!(state == "dirtying", "the guest is not the one that it was: it says {state}");
    lab.fault(&["dirty-memory", "--undo", &on, &id])?;
    let gap = Duration::from_millis(gap);
    Ok(Ended { scene, from, on, ran, actions, migration, log, samples, gap })
}

/// Writes nova.conf of a compute host anew, and waits until nova-compute runs with it.
fn permit(lab: &Lab, host: &str, way: &Way) -> anyhow::Result<()> {
    let added: String = way
        .permitted
        .iter()
        .map(|option| format!(" -e '/^\\[libvirt\\]$/a live_migration_permit_{option} = true'"))
        .collect();
    let change = format!(
        "sed -i -e '/^live_migration_permit_/d' -e 's/^live_migration_bandwidth = .*/live_migration_bandwidth = {}/'\
         {added} /etc/nova/nova.conf && date +%s && systemctl restart nova-compute",
        way.bandwidth
    );
    let since = lab.exec(host, &change)?.expect(0, &[])?.stdout;
    // The first of its periodic tasks, with which it serves.
    let look = format!(
        "journalctl --unit nova-compute --since @{} --output cat --no-pager | \
         grep --quiet 'Looking for unclaimed instances'",
        since.trim()
    );
    wait_until(&format!("nova-compute on {host} has started"), 240, || Ok(lab.exec(host, &look)?.code == 0))
}

/// Begins to write down what libvirt tells of the one guest of a host, and of the job that it has.
fn sample(lab: &Lab, host: &str) -> anyhow::Result<()> {
    let script = format!(
        "guest=$(virsh list --name | head -n 1); test \"$guest\"; \
         setsid sh -c \"while :; do virsh domstate --reason $guest; virsh domjobinfo $guest; sleep 0.5; done\" \
         >{SAMPLES} 2>&1 </dev/null & echo $! >{SAMPLES}.pid"
    );
    lab.exec(host, &script)?.expect(0, &[])?;
    Ok(())
}

/// Gives a guest an order; its answer.
fn ask(address: &str, order: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&format!("{address}:8").parse()?, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(format!("{order}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("the guest at {address} does not answer"))?;
    Ok(answer.trim().to_owned())
}

pub fn post_copy(world: &World, lab: &Lab) -> anyhow::Result<()> {
    let ended = drained(
        world,
        lab,
        &Way {
            permitted: &["post_copy"],
            bandwidth: 8,
            ladder: "\"live\", \"post-copy\", \"skip\"",
            per_gib_s: 20,
        },
    )?;
    ended.ended_with(0, &["switched to post-copy"])?;
    // A look that comes while it runs there already says so; one that comes too late, what nova was told.
    ended.scene.volutus(&["journal", "show"])?.expect(0, &["post-copy"])?;
    ensure!(ended.was_told("live_migration_force_complete"), "nova was told {:?}", ended.actions);
    ensure!(ended.log.contains("Switching to post-copy migration mode"), "nova-compute says\n{}", ended.log);
    // What libvirt told of it; the guest stays in that state for less than one look takes.
    ensure!(ended.log.contains("VM Postcopy started (Lifecycle Event)"), "nova-compute says\n{}", ended.log);
    ended.is_away()?;
    ended.figure("post-copy");
    Ok(())
}

pub fn auto_converge(world: &World, lab: &Lab) -> anyhow::Result<()> {
    // QEMU takes a step every second round, and a round takes as long as the 48 MiB: at 8 MiB/s it was at half after
    // two minutes.
    let ended = drained(
        world,
        lab,
        &Way {
            permitted: &["auto_converge"],
            bandwidth: 16,
            ladder: "\"live\", \"auto-converge\", \"skip\"",
            per_gib_s: 60,
        },
    )?;
    ended.ended_with(0, &["slowed down by QEMU"])?;
    ensure!(ended.actions == ["live-migration"], "nova was told {:?}", ended.actions);
    let throttle = ended.greatest("Auto converge throttle");
    ensure!(throttle > 0, "QEMU did not slow the guest down:\n{}", ended.samples);
    ended.is_away()?;
    ended.figure(&format!("auto-converge: slowed down by {throttle} %"));
    Ok(())
}

pub fn force_complete(world: &World, lab: &Lab) -> anyhow::Result<()> {
    let ended = drained(
        world,
        lab,
        &Way {
            permitted: &[],
            bandwidth: 8,
            ladder: "\"live\", \"force-complete\", \"skip\"",
            per_gib_s: 20,
        },
    )?;
    ended.ended_with(0, &["completed by nova, which pauses it"])?;
    ended.scene.volutus(&["journal", "show"])?.expect(0, &["after nova was told to complete it"])?;
    ensure!(ended.was_told("live_migration_force_complete"), "nova was told {:?}", ended.actions);
    ensure!(!ended.log.contains("post-copy"), "nova-compute says\n{}", ended.log);
    ensure!(ended.samples.contains("paused (migrating)"), "libvirt told of no pause:\n{}", ended.samples);
    ended.is_away()?;
    ended.figure("force-complete");
    Ok(())
}

pub fn none_of_the_rungs(world: &World, lab: &Lab) -> anyhow::Result<()> {
    let ended = drained(
        world,
        lab,
        &Way { permitted: &[], bandwidth: 8, ladder: "\"live\", \"skip\"", per_gib_s: 10 },
    )?;
    ended.ended_with(5, &["did not converge", "broken off", "volutus resume"])?;
    let Ended { scene, from, .. } = &ended;
    ensure!(ended.on == *from, "what was broken off is on {}", ended.on);
    ensure!(
        ended.actions.starts_with(&["live-migration".to_owned(), "live_migration_cancel".to_owned()]),
        "nova was told {:?}",
        ended.actions
    );
    // nova from 2025.2 on takes it for failed too late, and calls the instance ERROR until Volutus mends that
    // (`resetState`, behind those two).
    ensure!(
        matches!(ended.migration.as_str(), "cancelled" | "error"),
        "nova calls the migration {}",
        ended.migration
    );
    ensure!(!ended.samples.contains("paused"), "the guest was paused:\n{}", ended.samples);
    scene.ensure_enabled(false, from)?;
    scene.volutus(&["abort"])?.expect(0, &[])?;
    scene.ensure_enabled(true, from)?;
    ended.figure("broken off");
    Ok(())
}
