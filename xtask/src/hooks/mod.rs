//! `cargo xtask hooks`: the hooks for other systems (`contrib/hooks`) against these systems themselves.
//!
//! Debian's packages of Ceph and Alertmanager and a virtual environment with Masakari are installed, some
//! 600 MB in all; their daemons run in a temporary folder on loopback, and end with this command.

mod alertmanager;
mod ceph;
mod masakari;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::process::{root, shown};
use crate::setup;

const PACKAGES: &[(&str, &str)] = &[
    ("/usr/bin/ceph", "ceph-common"),
    ("/usr/bin/ceph-mon", "ceph-mon"),
    ("/usr/bin/ceph-mgr", "ceph-mgr"),
    ("/usr/bin/ceph-osd", "ceph-osd"),
    ("/usr/bin/prometheus-alertmanager", "prometheus-alertmanager"),
    ("/usr/bin/python3", "python3"),
];
/// The run that hooks are told of.
const RUN: &str = "run-of-hooks";
/// Daemons start within seconds on a free core; this is for a machine that is many times slower.
const START_LIMIT: Duration = Duration::from_secs(120);
/// What a daemon gets to end by itself: an OSD writes down what it has.
const END_LIMIT: Duration = Duration::from_secs(20);
/// A hook that is told to wait for a minute at most has ended by then, or hangs.
const HOOK_LIMIT_S: &str = "180";

/// The checks of one system.
type Checks = fn(&mut Tally) -> anyhow::Result<()>;

/// Checks everything, and ends with one line that counts.
pub fn run() -> anyhow::Result<()> {
    let start = Instant::now();
    setup::install(PACKAGES)?;
    let mut tally = Tally::default();
    let systems: [(&str, Checks); 3] =
        [("ceph", ceph::check), ("alertmanager", alertmanager::check), ("masakari", masakari::check)];
    for (system, checks) in systems {
        // What follows a failure would prove nothing of the same system.
        if let Err(error) = checks(&mut tally) {
            println!("{system}: FAILED\n{error:#}");
            tally.failed += 1;
        }
    }
    let Tally { passed, failed, figures } = tally;
    println!(
        "{passed} passed, {failed} failed | {} | {} s in all",
        figures.join(" | "),
        start.elapsed().as_secs()
    );
    ensure!(failed == 0, "{failed} checks failed");
    Ok(())
}

/// What was checked.
#[derive(Debug, Default)]
struct Tally {
    passed: u32,
    failed: u32,
    figures: Vec<String>,
}

impl Tally {
    /// Counts a check that holds; one that does not ends the list.
    fn check(&mut self, name: &str, check: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let start = Instant::now();
        check().with_context(|| name.to_owned())?;
        println!("{name}: ok ({:.1} s)", start.elapsed().as_secs_f64());
        self.passed += 1;
        Ok(())
    }
}

/// A hook, as Volutus calls it.
struct Hook {
    program: PathBuf,
    environment: Vec<(&'static str, String)>,
    arguments: Vec<String>,
    /// Where it runs: Volutus has a folder for each run.
    folder: PathBuf,
}

impl Hook {
    fn new(name: &str, folder: &Path) -> Self {
        let program = root().join("contrib/hooks").join(name);
        Self { program, environment: Vec::new(), arguments: Vec::new(), folder: folder.to_owned() }
    }

    fn command(&self, moment: &str, host: &str, more: &[&str]) -> Command {
        let mut command = Command::new("/usr/bin/timeout");
        command.args(["--kill-after=5", HOOK_LIMIT_S]).arg(&self.program).arg(moment);
        // It gets no more of the environment than Volutus gives it.
        command
            .env_clear()
            .envs(["PATH", "HOME"].map(|name| (name, std::env::var_os(name).unwrap_or_default())));
        command.env("VOLUTUS_HOST", host).env("VOLUTUS_RUN", RUN).envs(self.environment.iter().cloned());
        command.current_dir(&self.folder).stdin(Stdio::null());
        command.args(&self.arguments).args(more);
        command
    }

    /// Runs it; it has to end with that exit code, and to say each of `texts`.
    fn expect(
        &self,
        moment: &str,
        host: &str,
        more: &[&str],
        code: i32,
        texts: &[&str],
    ) -> anyhow::Result<()> {
        let ended = self.command(moment, host, more).output()?;
        judge(&format!("{moment} {host} {}", more.join(" ")), ended.status.code(), &said(&ended), code, texts)
    }

    /// Starts it, and does something once it says that it waits; then it has to succeed.
    fn expect_to_wait(
        &self,
        (moment, host): (&str, &str),
        more: &[&str],
        reason: &str,
        then: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut child = self.command(moment, host, more).stdout(Stdio::piped()).spawn()?;
        let mut output = BufReader::new(child.stdout.take().context("no output of the hook")?);
        let mut text = String::new();
        while output.read_line(&mut text)? > 0 && !(text.contains("waiting: ") && text.contains(reason)) {}
        let done = match text.contains(reason) {
            true => then(),
            false => Err(anyhow::anyhow!("it does not wait because of {reason:?}")),
        };
        output.read_to_string(&mut text)?;
        let code = child.wait()?.code();
        done.with_context(|| format!("{moment} {host} said:\n{text}"))?;
        judge(&format!("{moment} {host}"), code, &text, 0, &[])
    }
}

fn said(ended: &std::process::Output) -> String {
    String::from_utf8_lossy(&[ended.stdout.as_slice(), ended.stderr.as_slice()].concat()).into_owned()
}

fn judge(what: &str, ended: Option<i32>, said: &str, code: i32, texts: &[&str]) -> anyhow::Result<()> {
    println!("  {what} -> {}: {}", ended.unwrap_or(-1), said.trim().lines().last().unwrap_or_default());
    ensure!(ended == Some(code), "{what} ended with {ended:?} instead of {code}:\n{said}");
    for text in texts {
        ensure!(said.contains(text), "{what} does not say {text:?}:\n{said}");
    }
    Ok(())
}

/// A daemon, which ends with this value, or with this process, however that ends.
struct Daemon(Child);

impl Daemon {
    /// Starts it; what it prints goes into a file.
    fn start(command: &[&str], environment: &[(&str, &str)], log: &Path) -> anyhow::Result<Self> {
        let file = std::fs::File::options().create(true).append(true).open(log)?;
        let mut whole = Command::new("setpriv");
        whole.args(["--pdeathsig", "TERM"]).args(command).envs(environment.iter().copied());
        whole.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        Ok(Self(whole.spawn().with_context(|| format!("could not start `{}`", shown(&whole)))?))
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|status| status.is_some())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // By its id, and by force where it does not end; either way it is gone afterwards.
        let _asked = Command::new("kill").arg(self.0.id().to_string()).status();
        let until = Instant::now() + END_LIMIT;
        while !self.has_ended() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// What a program printed, within half a minute; it has to succeed.
fn ask(
    program: impl AsRef<std::ffi::OsStr>,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> anyhow::Result<String> {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "30"]).arg(program).args(arguments).envs(environment.iter().copied());
    let ended = command.stdin(Stdio::null()).output()?;
    ensure!(ended.status.success(), "`{}` ended with {}:\n{}", shown(&command), ended.status, said(&ended));
    Ok(String::from_utf8(ended.stdout)?)
}

/// Waits until something holds; the last reason why it did not is told.
fn wait_for(what: &str, mut holds: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let until = Instant::now() + START_LIMIT;
    while let Err(error) = holds() {
        if Instant::now() > until {
            bail!("{what}: not so after {} s: {error:#}", START_LIMIT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    Ok(())
}
