//! Faults: real ones, done to a running lab, each with its opposite.

use std::time::Duration;

use crate::daemon::{SERVICES, Start};
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::network;
use crate::release::{Release, STORE};
use crate::topology::Role;

/// What is done to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Stops a daemon. Undone by starting it.
    StopDaemon {
        /// Kind of the daemon, or the name of any unit.
        daemon: String,
    },
    /// Freezes a daemon: its unit stays active, its ports stay open, nothing answers. Undone by
    /// letting it go on.
    HangDaemon {
        /// Kind of the daemon, or the name of any unit.
        daemon: String,
    },
    /// Kills a daemon at once, without any grace. systemd may start it again by itself. Undone
    /// by starting it.
    KillDaemon {
        /// Kind of the daemon, or the name of any unit.
        daemon: String,
    },
    /// Pulls the host's network cable. Undone by plugging it in.
    CutNetwork,
    /// Reboots the host in an orderly way, and waits until it is back. Needs no undoing.
    Reboot,
    /// Takes the power from the host at once. Undone by booting it.
    PowerOff,
    /// Fills the host's disk to the last byte. Undone by removing the filling.
    FillDisk,
    /// Makes the configuration of a service unreadable, so that its daemons cannot start again;
    /// those that run go on. Undone by putting the file back.
    BreakConfig {
        /// The service, such as `nova`.
        service: String,
    },
    /// Makes a daemon of one release bad on this host: it starts, loads its code, is active for
    /// systemd, and does nothing. What runs from another release goes on. Undone by taking the
    /// good program back; the daemon has to be started again then.
    BadRelease {
        /// Kind of the daemon, one that is a program of its own (not under uWSGI).
        daemon: String,
        /// The release, such as `2026.1`.
        series: String,
    },
    /// Keeps live migrations off a compute from converging: they go on until they are completed by
    /// force or broken off, or this is undone. nova-compute is restarted when it is first done.
    HoldMigrations,
    /// Makes a compute refuse every instance that comes by live migration. As above.
    RefuseMigrations,
}

const LIMIT: Duration = Duration::from_secs(60);
const FILLING: &str = "/var/lib/volutus-lab-filling";

impl Fault {
    /// Does it.
    pub(crate) fn apply(&self, machine: Machine<'_>) -> Result<()> {
        match self {
            Self::StopDaemon { daemon } => unit(machine, daemon, "stop"),
            Self::HangDaemon { daemon } => signal(machine, daemon, "STOP"),
            Self::KillDaemon { daemon } => signal(machine, daemon, "KILL"),
            Self::CutNetwork => network::set_cable(machine.record.subnet, machine.host, false),
            Self::Reboot => reboot(machine),
            Self::PowerOff => power_off(machine),
            Self::FillDisk => machine.script("filling the disk", &filling(), LIMIT).map(drop),
            Self::BreakConfig { service } => {
                let file = config_file(machine, service)?;
                // The copy is made once, so that breaking twice does not lose the original. The
                // file keeps owner and permissions.
                let script = format!(
                    "test -e {file}.lab-original || cp -p {file} {file}.lab-original\n\
                     printf '[broken by the lab\\n' > {file}"
                );
                machine.script("breaking a configuration", &script, LIMIT).map(drop)
            }
            Self::BadRelease { daemon, series } => {
                let (program, service) = program_of(machine, daemon, series)?;
                let script = format!(
                    "umount {program} 2>/dev/null || true\ntest -x {program}\n\
                     cat > {BAD}-{daemon} <<'END'\n{}\nEND\n\
                     chmod 755 {BAD}-{daemon}\nmount --bind {BAD}-{daemon} {program}",
                    idle_program(service, series)
                );
                machine.script("making a release bad", &script, LIMIT).map(drop)
            }
            Self::HoldMigrations => trouble_migrations(machine, HELD),
            Self::RefuseMigrations => trouble_migrations(machine, REFUSED),
        }
    }

    /// Undoes it. Undoing what was not done is fine.
    pub(crate) fn undo(&self, machine: Machine<'_>) -> Result<()> {
        match self {
            Self::StopDaemon { daemon } | Self::KillDaemon { daemon } => unit(machine, daemon, "start"),
            Self::HangDaemon { daemon } => signal(machine, daemon, "CONT"),
            Self::CutNetwork => network::set_cable(machine.record.subnet, machine.host, true),
            Self::Reboot => machine.wait_booted(),
            Self::PowerOff => {
                if machine.leader().is_none() {
                    machine.restart()?;
                }
                machine.wait_booted()
            }
            Self::FillDisk => {
                machine.script("emptying the disk", &format!("rm -f {FILLING}"), LIMIT).map(drop)
            }
            Self::BreakConfig { service } => {
                let file = config_file(machine, service)?;
                let script = format!("test ! -e {file}.lab-original || mv {file}.lab-original {file}");
                machine.script("mending a configuration", &script, LIMIT).map(drop)
            }
            Self::BadRelease { daemon, series } => {
                let (program, _) = program_of(machine, daemon, series)?;
                let script =
                    format!("! grep -q ' {program} ' /proc/mounts || umount {program}\nrm -f {BAD}-{daemon}");
                machine.script("making a release good", &script, LIMIT).map(drop)
            }
            Self::HoldMigrations => {
                machine.script("letting live migrations go", &format!("rm -f {HELD}"), LIMIT).map(drop)
            }
            Self::RefuseMigrations => {
                machine.script("taking live migrations again", &format!("rm -f {REFUSED}"), LIMIT).map(drop)
            }
        }
    }
}

/// The daemon that carries instances.
const COMPUTE: &str = "nova-compute";

/// While this file exists on a host, live migrations off it do not converge.
const HELD: &str = "/var/lib/volutus-lab-held-migrations";
/// While this file exists on a host, it takes no instance by live migration.
const REFUSED: &str = "/var/lib/volutus-lab-refused-migrations";

/// What is appended to the lab's virt driver; it looks for [`HELD`] and [`REFUSED`].
const TROUBLE: &str = include_str!("../python/troubled_migrations.py");

/// Lays a longer driver over the releases' own, which all labs share, and makes the file that it
/// looks for.
fn trouble_migrations(machine: Machine<'_>, file: &str) -> Result<()> {
    has_daemon(machine, COMPUTE)?;
    let script = format!(
        "touch {file}\n\
         for driver in {STORE}/*/lib/python3*/site-packages/nova/virt/volutus_lab.py; do\n\
         if ! grep -q {HELD} $driver; then\n\
         copy=/var/lib/volutus-lab-driver$(echo $driver | tr / -)\n\
         cat $driver - > $copy <<'END'\n{TROUBLE}\nEND\n\
         mount --bind $copy $driver\nlaid=yes\nfi\ndone\n\
         test -z \"$laid\" || systemctl restart {COMPUTE}"
    );
    machine.script("troubling live migrations", &script, LIMIT).map(drop)
}

fn has_daemon(machine: Machine<'_>, daemon: &str) -> Result<()> {
    if machine.host.role.daemons().iter().any(|known| known.kind == daemon) {
        return Ok(());
    }
    Err(Error::refused(
        format!("the host {} has no daemon {daemon}", machine.host.name),
        "`volutus-lab status` shows what runs where",
    ))
}

/// Where the bad program lies, without the daemon's name.
const BAD: &str = "/var/lib/volutus-lab-bad";

/// The path of a daemon's program in a release, and its service.
fn program_of(machine: Machine<'_>, daemon: &str, series: &str) -> Result<(String, &'static str)> {
    let release = Release::find(series)?;
    let known = machine.host.role.daemons().iter().find(|known| known.kind == daemon);
    match known {
        Some(known) if matches!(known.start, Start::Program(_)) => {
            Ok((format!("{STORE}/{}/bin/{daemon}", release.series), known.service))
        }
        Some(_) => Err(Error::refused(
            format!("{daemon} runs under uWSGI, whose program all APIs share"),
            "choose a daemon that is a program of its own, such as nova-conductor",
        )),
        None => Err(Error::refused(
            format!("the host {} has no daemon {daemon}", machine.host.name),
            "`volutus-lab status` shows what runs where",
        )),
    }
}

/// A program that looks like a daemon of the release from outside, and does nothing.
fn idle_program(service: &str, series: &str) -> String {
    format!(
        "#!{STORE}/{series}/bin/python3\n\
         import time\nimport {service}\nimport lxml.etree\nimport msgpack\n\
         while True:\n    time.sleep(3600)"
    )
}

/// The disk is full when a last single byte does not fit any more.
fn filling() -> String {
    format!(
        "free=$(df --output=avail --block-size=1K / | tail -n 1)\n\
         fallocate --length $((free * 1024)) {FILLING}\n\
         ! dd if=/dev/zero of={FILLING}.rest bs=4096 count=1024 2>/dev/null\n\
         rm -f {FILLING}.rest\n\
         dd if=/dev/zero of={FILLING} bs=4096 seek=$((free / 4)) 2>/dev/null || true"
    )
}

fn known_unit(machine: Machine<'_>, daemon: &str) -> Result<String> {
    let known: Vec<&str> = machine.host.role.daemons().iter().map(|known| known.kind).collect();
    if known.contains(&daemon) {
        return Ok(format!("{daemon}.service"));
    }
    // The distribution's own daemons (mariadb, haproxy, ssh) are worth stopping, too.
    let loaded =
        machine.command("looking for a daemon", ["systemctl", "cat", "--no-pager", daemon])?.succeeds()?;
    if loaded {
        return Ok(daemon.to_owned());
    }
    let has = if known.is_empty() { "no OpenStack daemon".to_owned() } else { known.join(", ") };
    Err(Error::refused(
        format!("the host {} has no daemon {daemon}", machine.host.name),
        format!("it has {has}; any unit of systemd can be named as well"),
    ))
}

fn unit(machine: Machine<'_>, daemon: &str, verb: &str) -> Result<()> {
    let unit = known_unit(machine, daemon)?;
    machine.script(&format!("{verb} of {daemon}"), &format!("systemctl {verb} '{unit}'"), LIMIT).map(drop)
}

fn signal(machine: Machine<'_>, daemon: &str, signal: &str) -> Result<()> {
    let unit = known_unit(machine, daemon)?;
    let script = format!("systemctl kill --kill-whom=all --signal={signal} '{unit}'");
    machine.script(&format!("signal {signal} to {daemon}"), &script, LIMIT).map(drop)
}

fn config_file(machine: Machine<'_>, service: &str) -> Result<&'static str> {
    let wanted = SERVICES.iter().find(|(name, _)| *name == service);
    let runs = machine.host.role.daemons().iter().any(|daemon| daemon.service == service);
    match wanted {
        Some((_, files)) if runs => Ok(files[0]),
        _ => Err(Error::refused(
            format!("the host {} has no configuration of {service}", machine.host.name),
            match machine.host.role {
                Role::Infra => "choose a controller or a compute".to_owned(),
                Role::Compute => "choose nova".to_owned(),
                Role::Controller => {
                    let names: Vec<&str> = SERVICES.iter().map(|(name, _)| *name).collect();
                    format!("choose one of {}", names.join(", "))
                }
            },
        )),
    }
}

fn reboot(machine: Machine<'_>) -> Result<()> {
    let before = boot_id(machine)?;
    machine.script("rebooting", "systemctl --no-block reboot", LIMIT)?;
    crate::command::wait_for(
        &format!("rebooting the host {}", machine.host.name),
        crate::machine::BOOT_LIMIT,
        Duration::from_millis(200),
        || {
            // While the host is away there is nobody to ask; only a new boot counts.
            let now = machine.leader().and_then(|_| boot_id(machine).ok());
            Ok(if now.as_ref().is_some_and(|now| *now != before) {
                Ok(())
            } else {
                Err("the host has not come back".to_owned())
            })
        },
    )?;
    machine.wait_booted()
}

/// When the host's first process started, in the machine's own ticks. The kernel's boot
/// identifier would be the machine's, because containers share the kernel.
fn boot_id(machine: Machine<'_>) -> Result<String> {
    let leader = machine.leader().map(|leader| leader.to_string()).unwrap_or_default();
    let path = std::path::PathBuf::from(format!("/proc/{leader}/stat"));
    let stat = crate::paths::read(&path)?;
    let started = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(19));
    Ok(format!("{leader}-{}", started.unwrap_or_default()))
}

fn power_off(machine: Machine<'_>) -> Result<()> {
    machine.kill()
}
