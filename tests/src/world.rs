//! The programs under test, and labs made with them.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use volutus_e2e::watch::GuestWatch;

/// The programs under test.
pub struct World {
    volutus: PathBuf,
    lab: PathBuf,
    /// Whether labs that are up are taken as they are, and left.
    pub reuse: bool,
}

/// What a program did.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; -1 where a signal ended it.
    pub code: i32,
    /// What it printed as data.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl Ran {
    /// Fails unless the exit code is `code` and stderr or stdout contains each of `texts`.
    pub fn expect(self, code: i32, texts: &[&str]) -> anyhow::Result<Self> {
        ensure!(
            self.code == code,
            "exit code {} instead of {code}:\n{}\n{}",
            self.code,
            self.stdout,
            self.stderr
        );
        for text in texts {
            ensure!(
                self.stdout.contains(text) || self.stderr.contains(text),
                "`{text}` is not in the output:\n{}\n{}",
                self.stdout,
                self.stderr
            );
        }
        Ok(self)
    }

    /// The data as JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("no JSON:\n{}\n{}", self.stdout, self.stderr))
    }
}

/// The longest that any one command may take. An upgrade of a lab takes three to five minutes,
/// bringing one up with releases to build five; what takes longer than this hangs, and the test
/// has to say so with what was printed until then, rather than wait for ever.
const COMMAND_LIMIT: Duration = Duration::from_secs(900);

/// Runs a command to its end.
pub fn run(command: &mut Command) -> anyhow::Result<Ran> {
    // Files and not pipes: a command that leaves a process behind with its output open (sshd does)
    // would otherwise keep the test waiting for the end of a pipe.
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        .spawn()
        .with_context(|| format!("could not start {command:?}"))?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if start.elapsed() > COMMAND_LIMIT {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let ran = Ran {
        code: status.and_then(|status| status.code()).unwrap_or(-1),
        stdout: whole(&mut stdout)?,
        stderr: whole(&mut stderr)?,
    };
    ensure!(
        status.is_some(),
        "{command:?} was killed after {} s; until then it said:\n{}\n{}",
        COMMAND_LIMIT.as_secs(),
        ran.stdout,
        ran.stderr
    );
    Ok(ran)
}

fn whole(file: &mut File) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Waits for something to become true; the bound is for a machine that is many times slower than
/// any seen.
pub fn wait_until(
    what: &str,
    limit_s: u64,
    mut holds: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > Duration::from_secs(limit_s) {
            bail!("{what}: not so after {limit_s} s");
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    Ok(())
}

impl World {
    /// The programs that `cargo xtask test` built.
    pub fn from_environment() -> anyhow::Result<Self> {
        let program = |name: &str| {
            let path = std::env::var_os(name)
                .with_context(|| format!("{name} is not set; run `cargo xtask test`"))?;
            std::path::absolute(path).with_context(|| format!("{name} is not a path"))
        };
        let reuse = std::env::var_os("VOLUTUS_E2E_REUSE").is_some();
        Ok(Self { volutus: program("VOLUTUS")?, lab: program("VOLUTUS_LAB")?, reuse })
    }

    /// Brings a lab up, with what a crashed earlier run may have left of it removed first.
    pub fn up<'a>(&'a self, name: &str, arguments: &[&str]) -> anyhow::Result<Lab<'a>> {
        if self.reuse {
            return Ok(Lab { world: self, name: name.to_owned() });
        }
        run(Command::new(&self.lab).args(["down", "--name", name]))?.expect(0, &[])?;
        let up = run(Command::new(&self.lab).args(["up", "--name", name]).args(arguments))?;
        let lab = Lab { world: self, name: name.to_owned() };
        if up.code != 0 {
            lab.down_and_gone()?;
            bail!("volutus-lab up ended with exit code {}:\n{}", up.code, up.stderr);
        }
        Ok(lab)
    }

    /// `volutus` on a cloud description.
    pub fn volutus(&self, cloud: &Path) -> Command {
        let mut command = Command::new(&self.volutus);
        command.arg("--cloud").arg(cloud).arg("--no-progress");
        command.env("VOLUTUS_POLICY", concat!(env!("CARGO_MANIFEST_DIR"), "/policy.toml"));
        command
    }
}

/// A lab that is up.
pub struct Lab<'a> {
    world: &'a World,
    name: String,
}

impl Lab<'_> {
    /// The folder that holds its cloud description and keys.
    pub fn folder(&self) -> PathBuf {
        let state = std::env::var_os("VOLUTUS_LAB_STATE")
            .map_or_else(|| "/var/lib/volutus-lab".into(), PathBuf::from);
        state.join(&self.name)
    }

    /// Its cloud description.
    pub fn cloud(&self) -> PathBuf {
        self.folder().join("cloud.toml")
    }

    /// `volutus` on this lab.
    pub fn volutus(&self, arguments: &[&str]) -> anyhow::Result<Ran> {
        run(self.world.volutus(&self.cloud()).args(arguments))
    }

    /// Runs a shell command on one of its hosts.
    pub fn exec(&self, host: &str, shell: &str) -> anyhow::Result<Ran> {
        run(Command::new(&self.world.lab).args(["exec", "--name", &self.name, host, "--", "sh", "-c", shell]))
    }

    /// Does something bad to one of its hosts; the words are those of `volutus-lab fault`.
    pub fn fault(&self, words: &[&str]) -> anyhow::Result<()> {
        let (kind, rest) = words.split_first().context("no fault is named")?;
        let mut command = Command::new(&self.world.lab);
        run(command.args(["fault", kind, "--name", &self.name]).args(rest))?.expect(0, &[])?;
        Ok(())
    }

    /// Every guest of it answers, from inside its network and from outside.
    pub fn check_guests(&self) -> anyhow::Result<()> {
        let arguments = ["check-data-plane", "--migrations", "0", "--name", &self.name];
        run(Command::new(&self.world.lab).args(arguments))?.expect(0, &[]).map(drop)
    }

    /// Begins to watch its guests, which have to be real.
    pub fn watch_guests(&self) -> anyhow::Result<GuestWatch> {
        GuestWatch::start(Command::new(&self.world.lab).args(["watch-guests", "--name", &self.name]))
    }

    /// Takes it down, and fails if anything of it is still there: a process, a mount, a bridge.
    pub fn down_and_gone(&self) -> anyhow::Result<()> {
        run(Command::new(&self.world.lab).args(["down", "--name", &self.name]))?.expect(0, &[])?;
        let folder = self.folder();
        let folder = folder.to_string_lossy();
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        ensure!(!mounts.contains(&format!("{folder}/")), "a mount of {folder} is left:\n{mounts}");
        for entry in std::fs::read_dir("/proc")? {
            let path = entry?.path().join("cmdline");
            let Ok(command) = std::fs::read(&path) else { continue };
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            ensure!(!command.contains(&format!("{folder}/")), "a process of the lab is left: {command}");
        }
        let list = run(Command::new(&self.world.lab).args(["list"]))?.expect(0, &[])?;
        ensure!(!list.stdout.contains(&self.name), "the lab is still listed:\n{}", list.stdout);
        Ok(())
    }
}

/// A copy of a lab's cloud description, in a folder of its own, changed by `change`; its state is
/// its own too, so that nothing of the lab's is touched.
pub fn altered(
    lab: &Lab,
    change: impl FnOnce(String) -> anyhow::Result<String>,
) -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    for file in ["clouds.yaml", "id_ed25519", "known_hosts"] {
        std::fs::copy(lab.folder().join(file), folder.path().join(file))?;
    }
    let text = std::fs::read_to_string(lab.cloud())?;
    let changed = change(text.clone())?;
    ensure!(changed != text || text.is_empty(), "the change changed nothing");
    std::fs::write(folder.path().join("cloud.toml"), changed)?;
    Ok(folder)
}
