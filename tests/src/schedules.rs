//! Schedules that a server carries out: what is due is begun in its window, people are told once each, and
//! what does not go well holds the schedule. The clock of schedules is the test's.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde_json::Value;

use crate::told::Told;
use crate::upgrade::{all_on, bring_back_silent_daemons, nothing_left_drained, runs_everywhere};
use crate::way_back::{approved_under, is_back};
use crate::world::{Lab, World, run, wait_until};

/// Nights of UTC, in which everything of these scenarios is due.
const WINDOWS: &str = "[[window]]\nname = \"nights\"\ndays = [\"daily\"]\nfrom = \"01:00\"\nto = \"05:00\"\ntime_zone = \"UTC\"\n";

/// A week ahead people are told what a schedule will begin.
const AHEAD: &str = "before_days = 7\n";

/// How long an upgrade, or one that is taken back, may take: twice what it does in a lab on a busy machine.
const RUN_LIMIT_S: u64 = 1_200;

/// A request that is not answered for this long has failed.
const ANSWER: Duration = Duration::from_secs(60);

/// `volutus serve` on a lab, under a clock of the test's. It is told to end when it is dropped.
struct Server<'a> {
    lab: &'a Lab<'a>,
    child: Child,
}

impl<'a> Server<'a> {
    /// Starts it as if it were that time, and waits until it answers.
    fn start(world: &World, lab: &'a Lab<'a>, time: Timestamp) -> anyhow::Result<Self> {
        let folder = lab.folder();
        std::fs::write(folder.join("clock"), time.to_string())?;
        let log = File::create(folder.join("serve.log"))?;
        let mut command = world.volutus(&lab.cloud());
        command.arg("serve").arg("--socket").arg(folder.join("serve.sock"));
        command.arg("--schedule-clock").arg(folder.join("clock"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().context("`volutus serve` does not start")?;
        let mut server = Self { lab, child };
        wait_until("the server answers", 60, || {
            if let Some(status) = server.child.try_wait()? {
                bail!("`volutus serve` ended by itself ({status}):\n{}", server.log());
            }
            Ok(server.schedules().is_ok())
        })?;
        Ok(server)
    }

    /// From now on it is that time.
    fn time(&self, time: Timestamp) -> anyhow::Result<()> {
        println!("  it is {time}");
        // At once, so that a half-written time is never read.
        let folder = self.lab.folder();
        std::fs::write(folder.join("clock.new"), time.to_string())?;
        std::fs::rename(folder.join("clock.new"), folder.join("clock"))?;
        Ok(())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.lab.folder().join("serve.log")).unwrap_or_default()
    }

    /// What `GET /schedules` answers.
    fn schedules(&self) -> anyhow::Result<Value> {
        let mut stream = UnixStream::connect(self.lab.folder().join("serve.sock"))?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(b"GET /schedules HTTP/1.1\r\nHost: volutus\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{head}\n{body}");
        Ok(serde_json::from_str(body)?)
    }

    /// Waits until the run that a schedule began has ended, and the server says what is expected of it.
    fn wait(
        &self,
        what: &str,
        limit_s: u64,
        holds: impl Fn(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        wait_until(what, limit_s, || holds(self)).with_context(|| format!("the server said:\n{}", self.log()))
    }

    /// When a schedule is due next.
    fn next(&self, schedule: &str) -> anyhow::Result<Timestamp> {
        let schedules = self.schedules()?;
        let entries = schedules["entries"].as_array().context("no entries")?;
        let entry = entries.iter().find(|entry| entry["schedule"] == schedule).context("it is never due")?;
        Ok(entry["due"].as_str().context("it is not due")?.parse()?)
    }

    /// Ends it in good order.
    fn end(mut self) -> anyhow::Result<()> {
        self.stop()
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        run(Command::new("kill").arg(self.child.id().to_string()))?.expect(0, &[])?;
        let ended = wait_until("the server ends", 60, || Ok(self.child.try_wait()?.is_some()));
        if ended.is_err() {
            self.child.kill()?;
            self.child.wait()?;
        }
        ended
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            println!("the server did not end: {error:#}");
        }
    }
}

/// Ten days from now, at two at night: before the 29th, so that every month has that day.
fn first_due() -> anyhow::Result<Timestamp> {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let mut day = today.checked_add(10.days())?;
    while day.day() > 28 {
        day = day.checked_add(1.day())?;
    }
    Ok(day.at(2, 0, 0, 0).to_zoned(TimeZone::UTC)?.timestamp())
}

fn a_month_after(due: Timestamp) -> anyhow::Result<Timestamp> {
    Ok(due.to_zoned(TimeZone::UTC).checked_add(1.month())?.timestamp())
}

fn add(lab: &Lab, schedule: &str, due: Timestamp) -> anyhow::Result<()> {
    let rule = format!("day {} 02:00 UTC", due.to_zoned(TimeZone::UTC).day());
    lab.volutus(&["schedule", "add", schedule, &rule, "--to", "2026.1", "--expect", "30m"])?
        .expect(0, &[])?;
    Ok(())
}

/// A release whose conductor does not serve: begun when it is due and not before, taken back by policy, people are
/// told once each, and the schedule is held.
pub fn bad_release_holds_the_schedule(world: &World, lab: &Lab) -> anyhow::Result<()> {
    const HOSTS: [&str; 3] = ["ctl1", "ctl2", "ctl3"];
    bring_back_silent_daemons(lab)?;
    for host in HOSTS {
        lab.fault(&["bad-release", host, "nova-conductor", "2026.1"])?;
    }
    approved_under(lab, "on_failure = \"roll-back\"\nprove_timeout_s = 120\n")?;
    std::fs::write(lab.folder().join("windows.toml"), WINDOWS)?;
    let due = first_due()?;
    add(lab, "bad", due)?;
    let told = Told::with(lab, AHEAD)?;
    let server = Server::start(world, lab, due.checked_sub(48.hours())?)?;
    // That people were told ahead means that it was looked; nothing was due.
    server.wait("people are told ahead", 60, |_| Ok(told.counts() == (1, 1)))?;
    ensure!(!server.log().contains("due since"), "a run was begun two days early:\n{}", server.log());
    server.time(due)?;
    server.wait("the run begins", 120, |server| Ok(server.log().contains("bad: due since")))?;
    // What is held is told once all of it was taken back.
    server.wait("people are told of all of it", RUN_LIMIT_S, |_| Ok(told.counts() >= (3, 4)))?;
    let held = server.schedules()?["held"].clone();
    ensure!(held["bad"].is_string(), "{held}");
    is_back(lab, "2025.2", "32.", 0).with_context(|| format!("the server said:\n{}", server.log()))?;
    server.end()?;
    let (ahead, start, back, held) = (
        "upgrade to OpenStack 2026.1 on ",
        "upgrade to OpenStack 2026.1 has begun",
        "upgrade to OpenStack 2026.1 was taken back",
        "schedule bad is held",
    );
    told.exactly_each(&[ahead, start, back], &[ahead, start, back, held])?;
    for host in HOSTS {
        lab.fault(&["bad-release", "--undo", host, "nova-conductor", "2026.1"])?;
    }
    let verdict = runs_everywhere(lab, "2025.2", "32.")?;
    println!(
        "figures: bad release: taken back, {} of {} requests failed, 1 start, 1 end and 1 hold told",
        verdict["requests_failed"], verdict["requests_total"]
    );
    Ok(())
}

/// A month later the schedule that is held begins nothing, and another one that is due at the same time does: the
/// upgrade, which no request notices, and the next a month after it.
pub fn due_in_its_window_and_again_a_month_later(world: &World, lab: &Lab) -> anyhow::Result<()> {
    bring_back_silent_daemons(lab)?;
    approved_under(lab, "prove_timeout_s = 180\n")?;
    let due = a_month_after(first_due()?)?;
    // Names are gone through in order: `bad`, which is held, would have the plan before `good` has.
    add(lab, "good", due)?;
    let told = Told::with(lab, AHEAD)?;
    let server = Server::start(world, lab, due.checked_sub(48.hours())?)?;
    server.wait("people are told ahead", 60, |_| Ok(told.counts() == (1, 1)))?;
    server.time(due)?;
    server.wait("the run begins", 120, |server| Ok(server.log().contains("good: due since")))?;
    // Whatever its end is, programs are told.
    server.wait("programs are told of the end", RUN_LIMIT_S, |_| Ok(told.counts().1 >= 3))?;
    let next = server.next("good")?;
    ensure!(next == a_month_after(due)?, "it was due {due}, and is due next {next}");
    let held = server.schedules()?["held"].clone();
    ensure!(held["bad"].is_string() && held["good"].is_null(), "{held}");
    ensure!(
        server.schedules()?["missed"]
            .as_array()
            .is_some_and(|missed| missed.iter().all(|entry| entry["due"] != due.to_string())),
        "{}",
        server.log()
    );
    server.end()?;
    all_on(lab, "2026.1", "33.")?;
    nothing_left_drained(lab)?;
    told.exactly(&[
        "upgrade to OpenStack 2026.1 on ",
        "upgrade to OpenStack 2026.1 has begun",
        "upgrade to OpenStack 2026.1 has ended",
    ])?;
    let verdict = runs_everywhere(lab, "2026.1", "33.")?;
    println!(
        "figures: good release: begun when due, {} of {} requests failed, 1 start and 1 end told, next {next}",
        verdict["requests_failed"], verdict["requests_total"]
    );
    for schedule in ["bad", "good"] {
        lab.volutus(&["schedule", "remove", schedule])?.expect(0, &[])?;
    }
    for file in ["windows.toml", "clock", "serve.log"] {
        std::fs::remove_file(lab.folder().join(file))?;
    }
    Ok(())
}
