//! What can be typed. The texts here are the tool's first documentation: each command says what
//! it does, what it changes, and how to go on.

mod advisories;
mod contract;
mod news;
mod notice;
mod release;
mod schedule;
mod serve;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use advisories::{AdvisoriesArgs, AdvisoriesCommand, ExposureArgs, PatchArgs};
pub use contract::{
    ContractCommand, DiffArgs, DiffFormat, ExtractArgs, TempestArgs, TempestFormat, TrafficArgs,
};
pub use news::{NewsArgs, NewsAudience, NewsForm};
pub use notice::{AnnounceArgs, NoticeCommand, NoticeMoment, PreviewArgs, PublishForm};
pub use release::{
    ARCHITECTURE, COMPONENT, LockArgs, LookArgs, Origin, REPOSITORY, ReleaseArgs, ReleaseCommand,
    ReleaseFormat,
};
pub use schedule::{CalendarArgs, CalendarFormat, ScheduleAddArgs, ScheduleArgs, ScheduleCommand};
pub use serve::ServeArgs;

/// Rolling upgrades of OpenStack that their users do not notice.
///
/// Volutus looks at a cloud, writes a plan, lets you read and approve it, carries it out step by
/// step under the eyes of a synthetic user, and says at the end what users noticed: measured, not
/// assumed. Nothing is changed by any command but `run`, `resume`, `rollback`, `finalize`, `abort`,
/// `drain`, `undrain`, `snapshot restore` and `patch --run`.
#[derive(Debug, Parser)]
#[command(
    name = "volutus",
    version,
    after_help = "The usual way:\n  \
        volutus observe                 what runs now\n  \
        volutus check --to 2026.1       what stands in the way\n  \
        volutus plan --to 2026.1        what would be done, step by step\n  \
        volutus approve PLAN            bound to the plan's hash\n  \
        volutus run PLAN                halts by itself on any surprise\n  \
        volutus rollback                any time before finalize: back, and nothing is lost\n  \
        volutus finalize                later: takes away the way back\n\n\
        PLAN and RUN may be shortened to any unambiguous beginning; RUN defaults to the latest."
)]
pub struct Cli {
    /// The cloud description.
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "VOLUTUS_CLOUD",
        default_value = "cloud.toml"
    )]
    pub cloud: PathBuf,

    /// Where plans, journals and samples are kept [default: `.volutus` beside the cloud
    /// description]
    #[arg(long, global = true, value_name = "DIR", env = "VOLUTUS_STATE")]
    pub state: Option<PathBuf>,

    /// Limits of a run (TOML); see docs/operating/policy.md.
    #[arg(long, global = true, value_name = "FILE", env = "VOLUTUS_POLICY")]
    pub policy: Option<PathBuf>,

    /// Who is told of runs (TOML) [default: `notices.toml` beside the cloud description, where there
    /// is one]; see docs/operating/notices.md.
    #[arg(long, global = true, value_name = "FILE", env = "VOLUTUS_NOTICES")]
    pub notices: Option<PathBuf>,

    /// Tell more, on stderr (-v: what is asked of whom; -vv: everything).
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// No progress display: one line per event, as without a terminal.
    #[arg(long, global = true)]
    pub no_progress: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a first cloud description from an Ansible inventory.
    Init(InitArgs),
    /// Look at the cloud: what runs where, in which version, on which schema.
    Observe(ObserveArgs),
    /// Look for what stands in the way of an upgrade; every finding says what mends it.
    Check(CheckArgs),
    /// Write a plan, or show, list and compare plans.
    Plan(PlanArgs),
    /// Say what a policy does to a cloud.
    Policy(PolicyArgs),
    /// Show the compute hosts: their state, and who disabled them and why.
    Hosts(HostsArgs),
    /// Empty one compute host by live migration, and leave it disabled. Shows the plan and asks first.
    Drain(ByHandArgs),
    /// Give back a compute host that Volutus disabled: proves it well, enables it, and has an instance
    /// boot there. Shows the plan and asks first.
    Undrain(ByHandArgs),
    /// Carry the plan out many times in a simulated twin of the cloud, with things going wrong, and
    /// tell what came of it. Changes nothing.
    Rehearse(RehearseArgs),
    /// Allow a plan to be run. The approval is bound to the plan's content.
    Approve(ApproveArgs),
    /// Carry out an approved plan, up to the point where the way back would be taken.
    Run(RunArgs),
    /// Follow a run that another process carries out.
    Watch(RunRef),
    /// Show where a run stands, and what can be done next.
    Status(StatusArgs),
    /// Let running steps end and start no new ones.
    Pause(RunRef),
    /// Go on with a paused or halted run, or with one whose process died.
    Resume(ResumeArgs),
    /// Give a run up: running steps end, and what is drained or disabled is given back.
    Abort(TakeUpArgs),
    /// Unpin, migrate data, contract: takes the way back. Asks first.
    Finalize(FinalizeArgs),
    /// Take a run back: the versions from before, with everything that users created since. Shows
    /// the plan and asks first. Possible until finalize, from any state of the run.
    Rollback(RollbackArgs),
    /// List, verify or restore the copies of databases that runs took.
    Snapshot(SnapshotArgs),
    /// Show what users noticed of a run.
    Verdict(VerdictArgs),
    /// Show a run's journal, or verify its chain of hashes.
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Work through the endpoints as the synthetic user, without a run, and count.
    Probe(ProbeArgs),
    /// Bring in security advisories, or list them.
    Advisories(AdvisoriesArgs),
    /// Show which running daemons and libraries are vulnerable to what, on which hosts.
    Exposure(ExposureArgs),
    /// Plan the smallest set of version changes that closes a vulnerability within the series, touching only
    /// the daemons that run what is vulnerable.
    Patch(PatchArgs),
    /// Lock the versions that a series is to be installed in, from an index, a repository, a registry or files; show
    /// and compare locked releases. Changes nothing in the cloud.
    Release(ReleaseArgs),
    /// Tell whether what users of the APIs rely on still holds in another release. Changes nothing.
    #[command(subcommand)]
    Contract(ContractCommand),
    /// Say when something is due, in words: `second Tuesday 02:00 Europe/Berlin`.
    Schedule(ScheduleArgs),
    /// Show what is due in the coming months, whether it fits its window, and what was missed.
    Calendar(CalendarArgs),
    /// Run as a service: answer over HTTP, and carry out approved plans when they are due.
    Serve(ServeArgs),
    /// Tell what is new between two releases, from the release notes in their sources.
    News(NewsArgs),
    /// Tell the people concerned of a run: preview, announce, list, send, publish.
    #[command(subcommand)]
    Notice(NoticeCommand),
    /// List what owners answered to notices of reboots.
    Confirmations {
        /// How to print it.
        #[arg(long, value_enum, default_value = "table")]
        output: Format,
    },
}

/// How to print data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// How to print a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    /// For people, in a terminal.
    Table,
    /// For programs.
    Json,
    /// Markdown, for a change request.
    Md,
    /// Graphviz.
    Dot,
}

/// `volutus init`
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The inventory: the output of `ansible-inventory --list`, or an INI or YAML file, with the
    /// group names of kolla-ansible or OpenStack-Ansible.
    #[arg(long, value_name = "FILE")]
    pub from_ansible: PathBuf,
    /// The cloud's name.
    #[arg(long, default_value = "cloud")]
    pub name: String,
    /// Replace an existing cloud description.
    #[arg(long)]
    pub force: bool,
}

/// `volutus observe`
#[derive(Debug, Args)]
pub struct ObserveArgs {
    /// Look at compute hosts and instances instead, through the APIs: what a reboot is planned upon.
    #[arg(long)]
    pub fleet: bool,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    pub output: Format,
}

/// `volutus check`
#[derive(Debug, Args)]
#[command(after_help = "Exit code 4 where a finding blocks the run.")]
pub struct CheckArgs {
    /// A plan to check against the cloud as it is now.
    #[arg(required_unless_present = "to")]
    pub plan: Option<String>,
    /// The series to go to, where there is no plan yet.
    #[arg(long, value_name = "SERIES", conflicts_with = "plan")]
    pub to: Option<String>,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    pub output: Format,
}

/// `volutus plan`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct PlanArgs {
    /// Show, list or compare plans instead of making one.
    #[command(subcommand)]
    pub command: Option<PlanCommand>,
    /// The series to go to, for example 2026.1.
    #[arg(long, value_name = "SERIES", required_unless_present = "reboot")]
    pub to: Option<String>,
    /// Plan a rolling reboot of compute hosts, by the table [reboot] of the policy. With --to both in one pass:
    /// every compute host is emptied, upgraded while it is empty, restarted, and given back.
    #[arg(long)]
    pub reboot: bool,
    /// Restart the hosts of the control plane as well, one after another, behind the compute hosts.
    #[arg(long, requires = "reboot")]
    pub control: bool,
    /// The versions to install (TOML: `nova = "33.0.2"` ...), where they are not the latest ones
    /// that this Volutus knows.
    #[arg(long, value_name = "FILE", requires = "to")]
    pub versions: Option<PathBuf>,
    /// The locked release to install, by its name or as a file: its versions are taken, and what is staged on
    /// hosts is held against it.
    #[arg(long, value_name = "RELEASE", requires = "to", conflicts_with = "versions")]
    pub release: Option<String>,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    pub output: PlanFormat,
    /// The hosts that are to be rebooted, where not all are.
    #[command(flatten)]
    pub selected: SelectedHosts,
    /// The fleet to plan for, where it is not your cloud's as it is now.
    #[command(flatten)]
    pub subject: FleetSubject,
}

/// Hosts that are meant; what is named together must hold together.
#[derive(Debug, Args)]
#[command(next_help_heading = "Hosts of a reboot")]
pub struct SelectedHosts {
    /// Only hosts whose name matches: `c07`, `c0*`.
    #[arg(long, value_name = "GLOB", requires = "reboot")]
    pub hosts: Option<String>,
    /// Only hosts of this availability zone.
    #[arg(long, value_name = "ZONE", requires = "reboot")]
    pub zone: Option<String>,
    /// Only hosts of this host aggregate.
    #[arg(long, value_name = "NAME", requires = "reboot")]
    pub aggregate: Option<String>,
}

/// A fleet that is not looked at now.
#[derive(Debug, Args)]
#[command(next_help_heading = "Fleets that are not looked at now; such plans are shown and not kept")]
pub struct FleetSubject {
    /// A fleet as it was seen before (`volutus observe --fleet --output json`).
    #[arg(long, value_name = "FILE")]
    pub fleet: Option<PathBuf>,
    /// A described fleet of so many hosts in three zones.
    #[arg(long, value_name = "HOSTS", conflicts_with = "fleet", value_parser = described_hosts)]
    pub described: Option<usize>,
    /// How full the described fleet is, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 80, requires = "described",
          value_parser = clap::value_parser!(u32).range(10..=97))]
    pub fill: u32,
}

/// `volutus policy`
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// What to do with the policy.
    #[command(subcommand)]
    pub command: PolicyCommand,
}

/// What can be done with a policy.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Say in words what the table [reboot] does to the hosts and instances of a fleet.
    Explain {
        /// Where the fleet is not your cloud's as it is now.
        #[command(flatten)]
        subject: FleetSubject,
    },
    /// Read the policy and say whether it can be kept; asks no cloud.
    Check,
}

/// `volutus hosts`
#[derive(Debug, Args)]
pub struct HostsArgs {
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    pub output: Format,
}

/// `volutus drain` and `volutus undrain`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 0: done. 5: it halted, and its evidence and the choices are printed; `volutus \
        resume` goes on, `volutus abort` gives the host back."
)]
pub struct ByHandArgs {
    /// The host, as nova's service list has it.
    pub host: volutus_model::HostName,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
}

/// What can be done with plans that exist.
#[derive(Debug, Subcommand)]
pub enum PlanCommand {
    /// Show a plan.
    Show {
        /// The plan.
        plan: String,
        /// How to print it.
        #[arg(long, value_enum, default_value = "table")]
        output: PlanFormat,
    },
    /// List the plans.
    List,
    /// Show what differs between two plans.
    Diff {
        /// The one.
        a: String,
        /// The other.
        b: String,
    },
}

/// `volutus approve`
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// The plan.
    pub plan: String,
    /// The code of a `serious` finding that is consented to, for example `single-replica`; may
    /// be given several times.
    #[arg(long = "accept", value_name = "CODE")]
    pub accepted: Vec<String>,
}

/// `volutus run`
#[derive(Debug, Args)]
#[command(after_help = "Exit code 0: everything is on the target, and the cloud awaits `volutus \
        finalize`. 5: the run halted or was paused; its evidence and the choices are printed. 7: it did \
        not go well, and the policy had it rolled back. \
        Ctrl-C once: running steps end, then the run pauses. Twice: stop at once; `volutus \
        resume` finds what was under way.")]
pub struct RunArgs {
    /// The approved plan.
    pub plan: String,
}

/// A run, the latest where absent.
#[derive(Debug, Args)]
pub struct RunRef {
    /// The run.
    pub run: Option<String>,
}

/// `volutus status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The run.
    pub run: Option<String>,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    pub output: Format,
}

/// A run to be taken up.
#[derive(Debug, Args)]
pub struct TakeUpArgs {
    /// The run.
    pub run: Option<String>,
}

/// `volutus resume`
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// The run.
    pub run: Option<String>,
    /// Of a halted reboot: leave out the hosts that failed, and go on with the others under a new plan. A
    /// host that was acted upon stays out of service.
    #[arg(long)]
    pub without_failed: bool,
}

/// `volutus finalize`
#[derive(Debug, Args)]
pub struct FinalizeArgs {
    /// The run.
    pub run: Option<String>,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
}

/// `volutus rehearse`
#[derive(Debug, Args)]
#[command(
    after_help = "The same planner and engine as in a real run; hosts, daemons, load balancers and users are \
        simulated, in virtual time. The same seed gives the same rehearsal."
)]
pub struct RehearseArgs {
    /// The series to go to, for example 2026.1.
    #[arg(long, value_name = "SERIES")]
    pub to: String,
    /// How many times the plan is carried out.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub runs: u32,
    /// What goes wrong.
    #[arg(long, value_enum, default_value = "mild")]
    pub profile: RehearseProfile,
    /// How many faults a run meets on average, instead of as many as the profile says.
    #[arg(long, value_name = "N")]
    pub faults: Option<f64>,
    /// The same seed gives the same rehearsal.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// An observation (`volutus observe --output json`) instead of looking now.
    #[arg(long, value_name = "FILE")]
    pub observation: Option<PathBuf>,
    /// In a real OpenStack instead: a lab on this machine in the shape of the cloud, scaled down.
    /// Takes some minutes, and root.
    #[arg(long, conflicts_with_all = ["runs", "profile", "faults", "seed", "output"])]
    pub real: bool,
    /// Leave the lab of --real as it is.
    #[arg(long, requires = "real")]
    pub keep: bool,
    /// A described cloud of so many hosts instead of yours.
    #[arg(long, value_name = "HOSTS", conflicts_with = "observation", value_parser = described_hosts)]
    pub described: Option<usize>,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    pub output: Format,
}

/// Fewer hosts than a controller and a compute are no cloud; more than this need minutes and
/// gigabytes.
fn described_hosts(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(hosts) if (2..=20_000).contains(&hosts) => Ok(hosts),
        _ => Err("a number from 2 to 20000".to_owned()),
    }
}

/// What goes wrong in a rehearsal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RehearseProfile {
    /// Nothing; only durations vary.
    None,
    /// A well kept cloud.
    Mild,
    /// A bad day.
    Harsh,
}

/// `volutus rollback`
#[derive(Debug, Args)]
#[command(
    after_help = "A run that has not ended is given up first. Once finalize was allowed, what is left is \
        the restore of the run's snapshot, which loses what was written since: it is said what, and the run's \
        id has to be typed. Refused where a schema change took away what old code needs; the plan said so \
        beforehand. Interrupted, it goes on with `volutus resume`."
)]
pub struct RollbackArgs {
    /// The run.
    pub run: Option<String>,
    /// Do not ask. Not enough for a restore after finalize.
    #[arg(long)]
    pub yes: bool,
    /// After finalize: the run's id in full, which consents to the loss that is stated.
    #[arg(long, value_name = "TEXT")]
    pub confirm: Option<String>,
}

/// `volutus snapshot`
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: SnapshotCommand,
}

/// What can be done with snapshots.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// List the snapshots on the database hosts.
    List {
        /// How to print it.
        #[arg(long, value_enum, default_value = "table")]
        output: Format,
    },
    /// Check a snapshot's files, restore them in a scratch server, and compare. Changes nothing.
    #[command(after_help = "Exit code 4 where a copy could not be verified.")]
    Verify {
        /// The snapshot.
        id: String,
        /// Only of this service; may be given several times.
        #[arg(long = "service", value_name = "SERVICE")]
        services: Vec<String>,
        /// How to print it.
        #[arg(long, value_enum, default_value = "table")]
        output: Format,
    },
    /// Put databases back to what a snapshot holds, and start the daemons that fit. Says what is
    /// lost, and asks.
    #[command(
        after_help = "Databases are restored beside those in use first. Then the services' daemons stop, \
        tables are exchanged, and daemons start from the release that the databases belong to. What was in use \
        is kept under other names. Interrupted, the same command goes on."
    )]
    Restore {
        /// The snapshot.
        id: String,
        /// Only of this service; may be given several times.
        #[arg(long = "service", value_name = "SERVICE")]
        services: Vec<String>,
        /// The run's id in full (or, of a single service, its name), which consents to the loss.
        #[arg(long, value_name = "TEXT")]
        confirm: Option<String>,
        /// Take a restore from this snapshot back: what was in use before is put in place again.
        #[arg(long)]
        undo: bool,
        /// How to print it.
        #[arg(long, value_enum, default_value = "table")]
        output: Format,
    },
}

/// `volutus verdict`
#[derive(Debug, Args)]
pub struct VerdictArgs {
    /// The run.
    pub run: Option<String>,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    pub output: Format,
}

/// `volutus journal`
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Show the entries of a run, all or those that are asked for.
    Show(JournalShowArgs),
    /// See whether the chain of hashes over a run's entries is whole.
    Verify(JournalVerifyArgs),
}

/// `volutus journal verify`
#[derive(Debug, Args)]
pub struct JournalVerifyArgs {
    /// The run; the latest where none is named.
    pub run: Option<String>,
}

/// `volutus journal show`
#[derive(Debug, Args)]
pub struct JournalShowArgs {
    /// The run; the latest where none is named.
    pub run: Option<String>,
    /// Only entries of steps on this host.
    #[arg(long)]
    pub host: Option<String>,
    /// Only entries of steps whose id contains this: `roll/nova-api`.
    #[arg(long, value_name = "TEXT")]
    pub step: Option<String>,
    /// Only entries from this time on: 2026-11-25T19:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub since: Option<jiff::Timestamp>,
    /// Only entries before this time.
    #[arg(long, value_name = "TIME")]
    pub until: Option<jiff::Timestamp>,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    pub output: Format,
}

/// `volutus probe`
#[derive(Debug, Args)]
#[command(
    after_help = "Ends by itself after --seconds, or with Ctrl-C; then removes what it made, and prints. \
        Exit code 0 whatever it saw."
)]
pub struct ProbeArgs {
    /// Seconds to work.
    #[arg(long, default_value_t = 60)]
    pub seconds: u32,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    pub output: Format,
}
