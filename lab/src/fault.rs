//! Faults: real ones, done to a running lab, each with its opposite.

use std::time::Duration;

use crate::daemon::{SERVICES, Start};
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::network;
use crate::paths;
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
    /// Makes the host not come back from its next reboot. Undone by booting it.
    StayOff,
    /// Makes the host come back from its next reboot with the kernel that it has, whatever is
    /// staged. Undone by letting the next reboot take what is staged.
    OldKernel,
    /// Makes the host refuse instances that are to be moved here: their ports cannot be bound, so
    /// nova's check before the migration fails, while scheduler and services still look well.
    /// Instances that are here go on. Undone by naming the host's switch right again.
    RefuseInstances,
    /// Makes a guest on this host write memory faster than a live migration can copy it. Undone
    /// by letting it rest.
    DirtyMemory {
        /// The instance's name or id.
        instance: String,
        /// How much memory is written again and again.
        mib: u32,
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
            Self::StayOff => paths::write(&machine.stay_off(), "", 0o644),
            Self::OldKernel => {
                machine.script("keeping the kernel", &format!("touch {KEEP_KERNEL}"), LIMIT).map(drop)
            }
            Self::RefuseInstances => name_switch(machine, &format!("{}-renamed", machine.host.name)),
            Self::DirtyMemory { instance, mib } => {
                let answer = order(machine, instance, &format!("dirty {mib}"))?;
                expect_answer(&answer, "dirtying")
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
            Self::StayOff => {
                paths::remove_file(&machine.stay_off())?;
                Self::PowerOff.undo(machine)
            }
            Self::OldKernel => {
                machine.script("letting the kernel go", &format!("rm -f {KEEP_KERNEL}"), LIMIT).map(drop)
            }
            Self::RefuseInstances => name_switch(machine, &machine.host.name),
            Self::DirtyMemory { instance, .. } => {
                let answer = order(machine, instance, "calm")?;
                expect_answer(&answer, "calm")
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

/// A guest on busy cores answers within seconds.
const ORDER_LIMIT: Duration = Duration::from_secs(20);
/// While this file exists on a host, a reboot does not take the kernel that is staged.
const KEEP_KERNEL: &str = "/etc/volutus-lab/keep-kernel";

fn require_guests(machine: Machine<'_>) -> Result<()> {
    if machine.host.runs_guests() {
        return Ok(());
    }
    Err(Error::refused(
        format!("no guests run on the host {}", machine.host.name),
        "choose a compute with guests, of a lab that was brought up with --virt qemu",
    ))
}

/// Names the host's switch after another host, the way a changed domain name does: neutron then
/// knows no switch of the host and binds no port to it. What is bound goes on, because OVN knows
/// the switch by another name.
fn name_switch(machine: Machine<'_>, name: &str) -> Result<()> {
    require_guests(machine)?;
    let script = format!("ovs-vsctl --timeout=30 set Open_vSwitch . external_ids:hostname={name}");
    machine.script("naming the host's switch", &script, LIMIT)?;
    let infra = Machine { host: machine.record.infra(), ..machine };
    let ask = format!("ovn-sbctl --timeout=30 --bare --columns=hostname list Chassis {}", machine.host.name);
    crate::command::wait_for(
        &format!("waiting until OVN knows the switch of {} as {name}", machine.host.name),
        LIMIT,
        Duration::from_millis(500),
        || {
            let seen = infra.script("asking OVN for the switch", &ask, LIMIT)?;
            Ok(if seen.trim() == name { Ok(()) } else { Err(seen) })
        },
    )
}

/// Gives an order to a guest, from the machine through the outer network, and returns its answer.
fn order(machine: Machine<'_>, instance: &str, order: &str) -> Result<String> {
    use std::io::{Read as _, Write as _};
    require_guests(machine)?;
    let guests = crate::data_plane::guests(machine.state, machine.record)?;
    let here: Vec<_> = guests.iter().filter(|guest| guest.host == machine.host.name).collect();
    let guest = here.iter().find(|guest| guest.name == instance || guest.uuid == instance);
    let guest = guest.ok_or_else(|| {
        let names: Vec<&str> = here.iter().map(|guest| guest.name.as_str()).collect();
        Error::refused(
            format!("no guest {instance} runs on the host {}", machine.host.name),
            format!("these run there: {}", names.join(", ")),
        )
    })?;
    let failed = |source: std::io::Error| Error::TimedOut {
        what: format!("giving an order to the guest {} at {}", guest.name, guest.outer),
        limit: ORDER_LIMIT,
        seen: source.to_string(),
    };
    let address = format!("{}:8", guest.outer).parse().map_err(|error| Error::Damaged {
        path: "neutron.floatingips".into(),
        seen: format!("{error}: {}", guest.outer),
    })?;
    let mut stream = std::net::TcpStream::connect_timeout(&address, ORDER_LIMIT).map_err(failed)?;
    stream.set_read_timeout(Some(ORDER_LIMIT)).map_err(failed)?;
    stream.write_all(format!("{order}\n").as_bytes()).map_err(failed)?;
    let mut answer = [0; 256];
    let length = stream.read(&mut answer).map_err(failed)?;
    Ok(String::from_utf8_lossy(&answer[..length]).trim().to_owned())
}

fn expect_answer(answer: &str, wanted: &str) -> Result<()> {
    if answer.starts_with(wanted) {
        return Ok(());
    }
    Err(Error::Damaged {
        path: "the guest".into(),
        seen: format!("it answered \"{answer}\" instead of \"{wanted}\""),
    })
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
    if machine.host.daemons().any(|known| known.kind == daemon) {
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
    let known = machine.host.daemons().find(|known| known.kind == daemon);
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
    let known: Vec<&str> = machine.host.daemons().map(|known| known.kind).collect();
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
    let runs = machine.host.daemons().any(|daemon| daemon.service == service);
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
    if machine.stay_off().exists() {
        return Err(Error::refused(
            format!("the host {} is told not to come back from a reboot", machine.host.name),
            "reboot it from inside (`volutus-lab exec HOST systemctl reboot`), or undo stay-off first",
        ));
    }
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

/// The host's own boot identifier: systemd-nspawn gives every start of a container a new one,
/// where the kernel has the machine's.
fn boot_id(machine: Machine<'_>) -> Result<String> {
    machine.script("reading the boot identifier", "cat /proc/sys/kernel/random/boot_id", LIMIT)
}

fn power_off(machine: Machine<'_>) -> Result<()> {
    machine.kill()
}
