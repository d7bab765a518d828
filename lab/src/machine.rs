//! A running host: a systemd-nspawn container with a root file system, a cgroup and a network of
//! its own.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::command::{Cmd, Output, wait_for};
use crate::error::{Error, IoContext as _, Result};
use crate::network;
use crate::paths::{self, StateDir};
use crate::record::Record;
use crate::topology::{Host, Role};

/// Size of a host's disk. It lives in memory, so it is what a full disk can cost at most.
const DISK_MIB: u32 = 768;
/// The same of the infrastructure host, whose databases keep the rows of deleted instances.
const INFRA_DISK_MIB: u32 = 2048;
/// Size of a host's file system for instances. Only what guests write takes memory, and they write
/// next to nothing.
const INSTANCES_MIB: u32 = 8192;
/// Size of the folder that all hosts share: keys, images, volumes.
const SHARED_MIB: u32 = 1024;
/// A host boots in three to ten seconds; twelve of them at once on two busy cores need minutes.
pub(crate) const BOOT_LIMIT: Duration = Duration::from_secs(600);

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A host of a lab, seen from the machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine<'a> {
    pub(crate) state: &'a StateDir,
    pub(crate) record: &'a Record,
    pub(crate) host: &'a Host,
}

/// Hierarchies of control groups in which a lab's hosts get groups: the one of the second
/// version, wherever it is mounted, and systemd's own of the first.
fn hierarchies() -> Vec<PathBuf> {
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"]
        .into_iter()
        .map(PathBuf::from)
        .filter(|path| path.join("cgroup.procs").exists())
        .collect()
}

/// The control groups of one lab, one in each hierarchy. They exist while it has hosts.
pub(crate) fn lab_groups(subnet: u8) -> Vec<PathBuf> {
    hierarchies().into_iter().map(|path| path.join(format!("volutus-lab-{subnet}"))).collect()
}

/// All processes in a control group and below it.
pub(crate) fn processes_in(group: &Path) -> Vec<u32> {
    // Groups and processes come and go while they are listed; what has gone is not there.
    let mut processes: Vec<u32> = fs::read_to_string(group.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect();
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            processes.extend(processes_in(&entry.path()));
        }
    }
    processes.sort_unstable();
    processes.dedup();
    processes
}

/// Starts a script in a session of its own, with no file open but its standard ones. A host outlives
/// the program that started it, and whoever waits for the end of that program's output (a pipe that
/// was handed down under any number) would otherwise wait for the end of the host.
const LAUNCHER: &str = "for fd in /proc/$$/fd/*; do\n\
                          fd=${fd##*/}\n\
                          [ $fd -le 2 ] || eval \"exec $fd>&-\"\n\
                        done\n\
                        exec setsid --fork sh \"$1\"";

impl Machine<'_> {
    fn folder(&self) -> PathBuf {
        self.state.host(&self.host.name)
    }

    /// While this file exists, the host does not come back from a reboot.
    pub(crate) fn stay_off(&self) -> PathBuf {
        self.folder().join("stay-off")
    }

    /// The file system for instances, apart from the host's own, as operators have it.
    fn instances(&self) -> PathBuf {
        self.folder().join("instances")
    }

    /// Where the host's root file system is mounted on the machine.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder().join("root")
    }

    /// Mounts the host's root: the shared base below, a small disk of its own on top.
    pub(crate) fn mount(&self, base: &Path) -> Result<()> {
        let disk = self.folder().join("disk");
        let root = self.root();
        for folder in [&disk, &root] {
            paths::create_dir(folder)?;
        }
        let size = if self.host.role == Role::Infra { INFRA_DISK_MIB } else { DISK_MIB };
        mount_memory(&disk, size)?;
        for folder in ["upper", "work"] {
            paths::create_dir(&disk.join(folder))?;
        }
        if self.host.runs_guests() {
            paths::create_dir(&self.instances())?;
            mount_memory(&self.instances(), INSTANCES_MIB)?;
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            base.display(),
            disk.join("upper").display(),
            disk.join("work").display()
        );
        Cmd::new(format!("mounting the root of {}", self.host.name), "mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(root)
            .run()
            .map(drop)
    }

    /// Starts the host. It goes on without this process, and comes back after a reboot.
    pub(crate) fn start(&self, releases: &[(String, PathBuf)]) -> Result<()> {
        let script = self.folder().join("supervise.sh");
        paths::write(&script, self.supervisor(releases), 0o755)?;
        self.launch(&script)
    }

    fn launch(&self, script: &Path) -> Result<()> {
        let console = self.folder().join("console.log");
        let log = fs::OpenOptions::new().create(true).append(true).open(&console).on("opening", &console)?;
        let copy = log.try_clone().on("opening", &console)?;
        let mut command = Command::new("bash");
        command
            .args(["-c", LAUNCHER, "bash"])
            .arg(script)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(copy);
        let status = command.status().map_err(|source| Error::Spawn {
            what: format!("starting the host {}", self.host.name),
            command: "bash".into(),
            source,
        })?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Command {
            what: format!("starting the host {}", self.host.name),
            command: format!("setsid --fork sh {}", script.display()),
            status: status.to_string(),
            seen: String::new(),
        })
    }

    /// The shell script that keeps the host running. It is a script so that the host needs
    /// neither this program nor the process that brought it up.
    fn supervisor(&self, releases: &[(String, PathBuf)]) -> String {
        let subnet = self.record.subnet;
        let name = network::namespace(subnet, self.host);
        let groups: Vec<String> = lab_groups(subnet)
            .iter()
            .map(|group| format!("{}/{}", group.display(), self.host.name))
            .collect();
        let mut binds = String::new();
        for (series, path) in releases {
            let _ = write!(binds, " --bind-ro='{}:{}/{series}'", path.display(), crate::release::STORE);
        }
        let _ = write!(binds, " --bind='{}:/srv/shared'", self.state.shared().display());
        if self.host.has_switch() {
            binds.push_str(" --bind=/dev/net/tun");
        }
        if self.host.runs_guests() {
            let _ = write!(binds, " --bind='{}:/var/lib/nova/instances'", self.instances().display());
        }
        format!(
            "#!/bin/sh\n\
             # Keeps one host of a lab running. systemd-nspawn ends with 133 when the host\n\
             # reboots, because of --keep-unit.\n\
             groups=\"{groups}\"\n\
             for group in $groups; do\n  mkdir -p \"$group/outer\" \"$group/inner\"\n  \
             echo $$ > \"$group/outer/cgroup.procs\"\ndone\n\
             # The lab may have been taken down meanwhile.\n\
             [ -e \"$0\" ] || exit 0\n\
             while :; do\n  sh -c 'for group in '\"$groups\"'; do \
             echo $$ > \"$group/inner/cgroup.procs\"; done; exec \"$@\"' sh \\\n    \
             systemd-nspawn --quiet --boot --directory='{root}' --machine={name} \
             --hostname={host} --register=no --keep-unit --capability=all \
             --network-namespace-path=/run/netns/{name} --resolv-conf=off{binds} </dev/null\n  \
             status=$?\n  [ $status = 133 ] || exit $status\n  \
             [ ! -e '{stay_off}' ] || exit 0\ndone\n",
            groups = groups.join(" "),
            root = self.root().display(),
            host = self.host.name,
            stay_off = self.stay_off().display(),
        )
    }

    /// The process that is number 1 inside the host, if the host runs.
    pub(crate) fn leader(&self) -> Option<u32> {
        lab_groups(self.record.subnet)
            .iter()
            .flat_map(|group| processes_in(&group.join(&self.host.name)))
            .find(|pid| {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
                ids.is_some_and(|ids| ids.split_whitespace().last() == Some("1"))
            })
    }

    fn running_leader(&self) -> Result<u32> {
        self.leader().ok_or_else(|| {
            Error::refused(
                format!("the host {} does not run", self.host.name),
                format!(
                    "its console is in {}; boot it with `volutus-lab fault power-off --name {} \
                     --undo {}`",
                    self.folder().join("console.log").display(),
                    self.state.name(),
                    self.host.name
                ),
            )
        })
    }

    /// A command inside the host, in a session of its own: a process of the host whose group is one
    /// of the machine outside has no group that it can name, which oslo.messaging wants to know.
    pub(crate) fn command<I, A>(&self, what: impl Into<String>, arguments: I) -> Result<Cmd>
    where
        I: IntoIterator<Item = A>,
        A: Into<std::ffi::OsString>,
    {
        let leader = self.running_leader()?;
        Ok(Cmd::new(what, "nsenter").args(entry(leader)).args(["setsid", "--wait"]).args(arguments))
    }

    /// A command inside the host that has this process' own terminal.
    pub(crate) fn interactive(&self, arguments: &[String]) -> Result<Command> {
        let leader = self.running_leader()?;
        let mut command = Command::new("nsenter");
        let term = std::env::var("TERM").unwrap_or_else(|_| "dumb".into());
        command.args(entry(leader)).arg(format!("TERM={term}")).args(arguments);
        Ok(command)
    }

    /// Runs a shell script inside the host; anything but exit status 0 is an error.
    pub(crate) fn script(&self, what: &str, script: &str, limit: Duration) -> Result<String> {
        self.command(format!("{what} on {}", self.host.name), ["sh", "-ec", script])?.limit(limit).run()
    }

    /// Runs a command inside the host and returns whatever it did.
    pub(crate) fn output(&self, arguments: &[String], limit: Duration) -> Result<Output> {
        let what = format!("running a command on {}", self.host.name);
        self.command(what, arguments.iter().cloned())?.limit(limit).output()
    }

    /// Waits until the host's systemd has finished booting.
    pub(crate) fn wait_booted(&self) -> Result<()> {
        let what = format!("booting the host {}", self.host.name);
        wait_for(&what, BOOT_LIMIT, Duration::from_millis(200), || {
            if self.leader().is_none() {
                return Ok(Err(self.console_tail()));
            }
            let asked = self.command(&what, ["systemctl", "is-system-running"])?.output();
            let seen = asked.map(|output| output.stdout.trim().to_owned()).unwrap_or_default();
            // Degraded means that some unit failed; what the lab needs is asked for by name.
            Ok(if matches!(seen.as_str(), "running" | "degraded") { Ok(()) } else { Err(seen) })
        })
    }

    fn console_tail(&self) -> String {
        let console = paths::read(&self.folder().join("console.log")).unwrap_or_default();
        let lines: Vec<&str> = console.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

/// Arguments of nsenter that lead into a host, up to the command.
fn entry(leader: u32) -> Vec<String> {
    let leader = leader.to_string();
    ["-t", &leader, "-m", "-u", "-i", "-n", "-p", "-C"]
        .into_iter()
        .chain(["env", "-i", PATH, "HOME=/root", "LANG=C.UTF-8", "TERM=dumb"])
        .map(str::to_owned)
        .collect()
}

/// Mounts a file system in memory of a given size.
fn mount_memory(path: &Path, size_mib: u32) -> Result<()> {
    Cmd::new("mounting a disk in memory", "mount")
        .args(["-t", "tmpfs", "-o", &format!("size={size_mib}m,mode=755"), "tmpfs"])
        .arg(path)
        .run()
        .map(drop)
}

/// Makes the folder that all hosts of a lab share.
pub(crate) fn mount_shared(state: &StateDir) -> Result<()> {
    let shared = state.shared();
    paths::create_dir(&shared)?;
    mount_memory(&shared, SHARED_MIB)?;
    for folder in ["keystone", "glance", "cinder"] {
        paths::create_dir(&shared.join(folder))?;
    }
    Ok(())
}

impl Machine<'_> {
    /// The control groups of this host.
    fn groups(&self) -> Vec<PathBuf> {
        let groups = lab_groups(self.record.subnet);
        groups.into_iter().map(|group| group.join(&self.host.name)).collect()
    }

    /// Ends the host and its supervisor at once, as a power cut would.
    pub(crate) fn kill(&self) -> Result<()> {
        wait_for(
            &format!("cutting the power of {}", self.host.name),
            Duration::from_secs(30),
            Duration::from_millis(100),
            || {
                let mut left: Vec<u32> = self.groups().iter().flat_map(|group| processes_in(group)).collect();
                left.sort_unstable();
                left.dedup();
                if left.is_empty() {
                    return Ok(Ok(()));
                }
                let pids = left.iter().map(u32::to_string);
                Cmd::new("ending a host", "kill").arg("-KILL").args(pids).output()?;
                Ok(Err(format!("{} processes are left", left.len())))
            },
        )
    }

    /// Starts a host again that was powered off, with the releases it had.
    pub(crate) fn restart(&self) -> Result<()> {
        self.launch(&self.folder().join("supervise.sh"))
    }
}
