//! `volutus-lab`: the command line of the lab.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use clap::{Args, Parser, Subcommand};
use volutus_lab::{
    CACHE_VARIABLE, Error, Fault, Lab, Ml2, Offer, Options, Result, STATE_VARIABLE, Virt, for_stderr,
    guests_table, is_root,
};

/// A real OpenStack in miniature on this machine: real hosts with systemd and sshd, real
/// services, real upgrades.
#[derive(Debug, Parser)]
#[command(name = "volutus-lab", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

const EXAMPLES: &str = "\
Examples:
  volutus-lab up                                  3 controllers, 3 computes, series 2025.2
  volutus-lab up --name small --controllers 2 --computes 5 --series 2026.1
  volutus-lab up --name guests --computes 3 --virt qemu     guests that run, answer and move
  volutus-lab check-data-plane --name guests
  volutus-lab status
  volutus-lab exec ctl1 journalctl -u nova-api -n 20 --no-pager
  volutus-lab fault hang-daemon cmp1 nova-compute   and with --undo it goes on
  eval \"$(volutus-lab env)\"                       OS_* and VOLUTUS_CLOUD for your shell
  volutus-lab down

A first `up` on a machine downloads and builds for some minutes; the result is kept in
/var/cache/volutus-lab (VOLUTUS_LAB_CACHE moves it), and later ones take two to three minutes.
State of the labs is in /var/lib/volutus-lab (VOLUTUS_LAB_STATE moves it).";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Brings a lab up and fills it with projects, networks, images, volumes and instances.
    Up(Up),
    /// Removes a lab and everything it has on this machine.
    Down {
        #[command(flatten)]
        lab: LabName,
        /// Removes all labs.
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
    /// Shows hosts, daemons and releases of a lab.
    Status {
        #[command(flatten)]
        lab: LabName,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Lists the labs of this machine.
    List,
    /// Runs a command on a host, with your terminal, and ends with its exit status.
    #[command(after_help = "Example: volutus-lab exec cmp1 systemctl status nova-compute")]
    Exec {
        #[command(flatten)]
        lab: LabName,
        /// The host.
        host: String,
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Does something bad to a host, or undoes it.
    Fault(FaultArgs),
    /// Asks every guest from inside its network and from outside, and live-migrates some while
    /// they are pinged. Ends with 1 if anything is not well.
    CheckDataPlane {
        #[command(flatten)]
        lab: LabName,
        /// Live migrations to make, one after another.
        #[arg(long, default_value_t = 1)]
        migrations: u32,
        /// The longest gap between two answers that is well, in milliseconds.
        #[arg(long, default_value_t = 1000, value_name = "MS")]
        longest_gap: u32,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Pings every guest from inside its network and from outside, and keeps a connection to each
    /// open, until standard input ends. Ends with 1 if any guest restarted.
    #[command(after_help = "Example: sleep 60 | volutus-lab watch-guests")]
    WatchGuests {
        #[command(flatten)]
        lab: LabName,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Prints shell lines that point the OpenStack client and Volutus at a lab.
    Env {
        #[command(flatten)]
        lab: LabName,
    },
    /// Builds and caches the hosts' file system and releases, without making a lab.
    Build {
        /// Series to build; all, if none is given.
        #[arg(long = "series", value_name = "SERIES")]
        series: Vec<String>,
        /// For labs of this kind.
        #[arg(long, value_enum, default_value_t = VirtArg::Fake)]
        virt: VirtArg,
    },
}

#[derive(Debug, Clone, Args)]
struct LabName {
    /// Name of the lab.
    #[arg(long, default_value = "lab")]
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A table for people.
    Table,
    /// JSON for programs.
    Json,
}

/// What carries the instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum VirtArg {
    /// Nothing: instances without guests, for many hosts.
    Fake,
    /// libvirt and QEMU, Open vSwitch and OVN: guests that run, answer and move.
    Qemu,
}

/// What wires the instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Ml2Arg {
    /// OVN.
    Ovn,
    /// neutron's own agents on every compute: Open vSwitch, DHCP, L3 with HA routers.
    Openvswitch,
}

impl From<Ml2Arg> for Ml2 {
    fn from(ml2: Ml2Arg) -> Self {
        match ml2 {
            Ml2Arg::Ovn => Self::Ovn,
            Ml2Arg::Openvswitch => Self::Openvswitch,
        }
    }
}

impl From<VirtArg> for Virt {
    fn from(virt: VirtArg) -> Self {
        match virt {
            VirtArg::Fake => Self::Fake,
            VirtArg::Qemu => Self::Qemu,
        }
    }
}

#[derive(Debug, Args)]
struct Up {
    #[command(flatten)]
    lab: LabName,
    /// OpenStack series to start with.
    #[arg(long, default_value = "2025.2")]
    series: String,
    /// Series that the hosts can be upgraded to; repeatable. [default: the next one]
    #[arg(long = "offer", value_name = "SERIES")]
    offered: Vec<String>,
    /// Another version of a package than the series' lock has, in the release that it starts with;
    /// repeatable.
    #[arg(long = "pin", value_name = "PACKAGE==VERSION")]
    pins: Vec<String>,
    /// A patched release of the start series, which hosts can stage as SERIES+NAME; repeatable.
    #[arg(long = "offer-patched", value_name = "NAME=PACKAGE==VERSION[,...]")]
    patched: Vec<String>,
    /// Number of controllers.
    #[arg(long, default_value_t = 3)]
    controllers: u8,
    /// Number of computes.
    #[arg(long, default_value_t = 3)]
    computes: u8,
    /// Availability zones that the hosts are spread over.
    #[arg(long, default_value_t = 1)]
    zones: u8,
    /// Instances to boot. [default: 20, with --virt qemu 6]
    #[arg(long)]
    instances: Option<u32>,
    /// What carries the instances.
    #[arg(long, value_enum, default_value_t = VirtArg::Fake)]
    virt: VirtArg,
    /// With --virt qemu: what wires the instances.
    #[arg(long, value_enum, default_value_t = Ml2Arg::Ovn)]
    ml2: Ml2Arg,
    /// With --virt qemu: how many of the computes run guests, the first ones; the others carry
    /// instances without guests. [default: all]
    #[arg(long, value_name = "NUMBER")]
    qemu_computes: Option<u8>,
    /// Computes that are left empty, the last ones: what a rolling reboot begins with.
    #[arg(long, default_value_t = 0)]
    spare: u8,
    /// Names of the controllers; {n} becomes 1, 2, ...
    #[arg(long, default_value = "ctl{n}")]
    controller_name: String,
    /// Names of the computes; {n} becomes 1, 2, ...
    #[arg(long, default_value = "cmp{n}")]
    compute_name: String,
    /// Name of the host with databases and load balancer.
    #[arg(long, default_value = "infra1")]
    infra_name: String,
    /// Type of the ports' bindings. `bridge` shows what happens on the way to 2026.2.
    #[arg(long, default_value = "ovs", value_parser = ["ovs", "tap", "bridge"])]
    vif_type: String,
}

#[derive(Debug, Args)]
struct FaultArgs {
    #[command(subcommand)]
    fault: FaultVerb,
}

#[derive(Debug, Args)]
struct Target {
    #[command(flatten)]
    lab: LabName,
    /// Undoes the fault instead.
    #[arg(long)]
    undo: bool,
    /// The host.
    host: String,
}

#[derive(Debug, Args)]
struct DaemonTarget {
    #[command(flatten)]
    target: Target,
    /// The daemon, such as nova-api, or any unit, such as mariadb.
    daemon: String,
}

#[derive(Debug, Subcommand)]
enum FaultVerb {
    /// Stops a daemon.
    StopDaemon(DaemonTarget),
    /// Freezes a daemon: active for systemd, dead for everybody else.
    HangDaemon(DaemonTarget),
    /// Kills a daemon without grace.
    KillDaemon(DaemonTarget),
    /// Pulls the host's network cable.
    CutNetwork(Target),
    /// Reboots the host and waits until it is back.
    Reboot(Target),
    /// Cuts the host's power; --undo boots it.
    PowerOff(Target),
    /// Fills the host's disk.
    FillDisk(Target),
    /// Makes a service's configuration unreadable.
    BreakConfig {
        #[command(flatten)]
        target: Target,
        /// The service, such as nova.
        service: String,
    },
    /// Makes a daemon of one release start, be active, and do nothing.
    BadRelease {
        #[command(flatten)]
        to: DaemonTarget,
        /// The release, such as 2026.1.
        series: String,
    },
    /// Makes the host not come back from its next reboot; --undo boots it.
    StayOff(Target),
    /// Makes the next reboot keep the kernel that the host has, whatever is staged.
    OldKernel(Target),
    /// Makes the host refuse instances that are to be moved there, in nova's check beforehand.
    RefuseInstances(Target),
    /// Makes a guest on the host write memory faster than a live migration can copy it.
    DirtyMemory {
        #[command(flatten)]
        target: Target,
        /// The instance, by name or id.
        instance: String,
        /// How much memory is written again and again, in MiB.
        #[arg(long, default_value_t = 48)]
        mib: u32,
    },
    /// Keeps live migrations off a compute from converging.
    HoldMigrations(Target),
    /// Makes a compute refuse what comes by live migration.
    RefuseMigrations(Target),
}

impl FaultVerb {
    fn split(self) -> (Target, Fault) {
        match self {
            Self::StopDaemon(to) => (to.target, Fault::StopDaemon { daemon: to.daemon }),
            Self::HangDaemon(to) => (to.target, Fault::HangDaemon { daemon: to.daemon }),
            Self::KillDaemon(to) => (to.target, Fault::KillDaemon { daemon: to.daemon }),
            Self::CutNetwork(target) => (target, Fault::CutNetwork),
            Self::Reboot(target) => (target, Fault::Reboot),
            Self::PowerOff(target) => (target, Fault::PowerOff),
            Self::FillDisk(target) => (target, Fault::FillDisk),
            Self::HoldMigrations(target) => (target, Fault::HoldMigrations),
            Self::RefuseMigrations(target) => (target, Fault::RefuseMigrations),
            Self::BreakConfig { target, service } => (target, Fault::BreakConfig { service }),
            Self::StayOff(target) => (target, Fault::StayOff),
            Self::OldKernel(target) => (target, Fault::OldKernel),
            Self::RefuseInstances(target) => (target, Fault::RefuseInstances),
            Self::DirtyMemory { target, instance, mib } => (target, Fault::DirtyMemory { instance, mib }),
            Self::BadRelease { to, series } => (to.target, Fault::BadRelease { daemon: to.daemon, series }),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            talk(error.report().trim_end());
            // A refusal is the user's to mend, like a wrong option, which clap ends with 2.
            ExitCode::from(if error.kind() == "refused" { 2 } else { 1 })
        }
    }
}

/// Writes a line of talk. A closed standard error must not end the work.
fn talk(line: &str) {
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

/// Writes data to standard output. A reader that has seen enough may close it.
fn data(text: &str) {
    drop(writeln!(std::io::stdout().lock(), "{}", text.trim_end()));
}

fn run(verb: Verb) -> Result<ExitCode> {
    if !is_root()? {
        return Err(as_root());
    }
    match verb {
        Verb::Up(up) => bring_up(up)?,
        Verb::Down { lab, all } => {
            let names = if all { Lab::list()? } else { vec![lab.name] };
            let progress = for_stderr();
            for name in names {
                Lab::down(&name, progress.as_ref())?;
            }
        }
        Verb::Status { lab, output } => {
            let status = Lab::open(&lab.name)?.status()?;
            match output {
                Format::Table => data(&status.table()),
                Format::Json => data(&serde_json::json!(status).to_string()),
            }
        }
        Verb::List => data(&Lab::list()?.join("\n")),
        Verb::Exec { lab, host, command } => return exec(&lab.name, &host, &command),
        Verb::Fault(FaultArgs { fault }) => {
            let (target, fault) = fault.split();
            let lab = Lab::open(&target.lab.name)?;
            if target.undo {
                lab.undo(&target.host, &fault)?;
            } else {
                lab.fault(&target.host, &fault)?;
            }
        }
        Verb::CheckDataPlane { lab, migrations, longest_gap, output } => {
            let seen = Lab::open(&lab.name)?.check_data_plane(migrations)?;
            match output {
                Format::Table => data(&seen.table()),
                Format::Json => data(&serde_json::json!(seen).to_string()),
            }
            return Ok(if seen.is_well(longest_gap) { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Verb::WatchGuests { lab, output } => return watch_guests(&lab.name, output),
        Verb::Env { lab } => data(&Lab::open(&lab.name)?.environment()),
        Verb::Build { series, virt } => Lab::build(&series, virt.into(), for_stderr().as_ref())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn bring_up(up: Up) -> Result<()> {
    let options = Options {
        name: up.lab.name,
        series: up.series,
        controllers: up.controllers,
        computes: up.computes,
        zones: up.zones,
        instances: up.instances.unwrap_or(if up.virt == VirtArg::Qemu { 6 } else { 20 }),
        spare: up.spare,
        controller_name: up.controller_name,
        compute_name: up.compute_name,
        infra_name: up.infra_name,
        vif_type: up.vif_type,
        virt: up.virt.into(),
        ml2: up.ml2.into(),
        qemu_computes: up.qemu_computes,
    };
    let began = std::time::Instant::now();
    let offer = Offer { series: up.offered, pins: up.pins, patched: up.patched };
    let lab = Lab::up(&options, &offer, for_stderr().as_ref())?;
    let name = &options.name;
    talk(&format!("The lab {name} is up after {} s.", began.elapsed().as_secs()));
    talk(&format!("  cloud description  {}", lab.cloud_toml().display()));
    talk(&format!("  credentials        {}", lab.clouds_yaml().display()));
    talk(&format!("  look at it         volutus-lab status --name {name}"));
    talk(&format!("  remove it          volutus-lab down --name {name}"));
    Ok(())
}

fn exec(name: &str, host: &str, command: &[String]) -> Result<ExitCode> {
    let lab = Lab::open(name)?;
    let status = lab.exec_command(host, command)?.status().map_err(|source| Error::Spawn {
        what: format!("running a command on {host}"),
        command: command.join(" "),
        source,
    })?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

fn watch_guests(name: &str, output: Format) -> Result<ExitCode> {
    let seen = Lab::open(name)?.watch_guests(|| {
        // Whatever ends standard input, an error too, ends the watch.
        drop(std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()));
    })?;
    match output {
        Format::Table => data(&guests_table(&seen)),
        Format::Json => data(&serde_json::json!(seen).to_string()),
    }
    let well = seen.iter().all(volutus_lab::Watched::same_boot);
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Starts this program again as root. Returns only when that cannot be done.
fn as_root() -> Error {
    let failed = |source| Error::Spawn {
        what: "becoming root, which the lab needs to make containers".into(),
        command: "sudo volutus-lab".into(),
        source,
    };
    match std::env::current_exe() {
        Ok(program) => failed(
            Command::new("sudo")
                .arg(format!("--preserve-env={CACHE_VARIABLE},{STATE_VARIABLE}"))
                .arg(program)
                .args(std::env::args_os().skip(1))
                .exec(),
        ),
        Err(source) => failed(source),
    }
}
