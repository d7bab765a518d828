//! `volutus contract`: what can be typed.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// What can be done with API contracts.
#[derive(Debug, Subcommand)]
pub enum ContractCommand {
    /// Read the contract out of the installed packages of a release. Starts no service and asks no
    /// network.
    Extract(ExtractArgs),
    /// Read what the live endpoints of a cloud publish.
    Fetch(FetchArgs),
    /// Compare two contracts, and class every difference under the interoperability guideline.
    Diff(DiffArgs),
    /// Show what would be asked of the log of a load balancer: what the site's own clients ask. Asks nobody.
    Traffic(TrafficArgs),
    /// Run OpenStack's own tests against the cloud, and list what differs from an earlier run.
    Tempest(TempestArgs),
}

/// `volutus contract extract`
#[derive(Debug, Args)]
pub struct ExtractArgs {
    /// The virtual environment of a release on this machine.
    #[arg(long, value_name = "PATH", required_unless_present = "from_host")]
    pub from_installed: Option<PathBuf>,
    /// A host of the cloud description, over ssh.
    #[arg(long, value_name = "HOST", conflicts_with = "from_installed")]
    pub from_host: Option<String>,
    /// Of a host: the release of this series, instead of those that its daemons run.
    #[arg(long, value_name = "SERIES", conflicts_with = "from_installed")]
    pub series: Option<String>,
    /// Where to write the document; standard output where absent.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `volutus contract fetch`
#[derive(Debug, Args)]
pub struct FetchArgs {
    /// Where to write the document; standard output where absent.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// How to print a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DiffFormat {
    /// For people, in a terminal.
    Table,
    /// For programs: everything.
    Json,
    /// For a change request.
    Markdown,
    /// For a browser.
    Html,
}

/// `volutus contract diff`
#[derive(Debug, Args)]
#[command(after_help = "Exit code 4 where a breaking difference stands that no waiver takes out.")]
pub struct DiffArgs {
    /// The contract that clients rely on: a document of `extract` or `fetch`.
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// The contract that is to hold.
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    pub output: DiffFormat,
    /// Differences that somebody has reviewed (TOML); see docs/operating/contract.md.
    #[arg(long, value_name = "FILE")]
    pub waivers: Option<PathBuf>,
}

/// `volutus contract traffic`
#[derive(Debug, Args)]
pub struct TrafficArgs {
    /// HAProxy's HTTP log, or lines of JSON; see docs/operating/contract.md.
    #[arg(value_name = "FILE")]
    pub log: PathBuf,
    /// The contract of the release that clients use: a document of `extract`.
    #[arg(long, value_name = "FILE")]
    pub contract: PathBuf,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    pub output: TempestFormat,
}

/// How to print results of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TempestFormat {
    /// For people, in a terminal.
    Table,
    /// For programs: the whole document.
    Json,
}

/// `volutus contract tempest`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 4 where a test that passed in --before FILE fails now, also when it is run again. \
                        Tests make users, projects, instances and more, with names that begin with `tempest-`, and \
                        remove them."
)]
pub struct TempestArgs {
    /// The smoke set.
    #[arg(long, required_unless_present = "matching")]
    pub smoke: bool,
    /// Tests whose names this regular expression finds.
    #[arg(long, value_name = "REGEX", conflicts_with = "smoke")]
    pub matching: Option<String>,
    /// What an earlier run wrote with --write: what passed there has to pass now.
    #[arg(long, value_name = "FILE")]
    pub before: Option<PathBuf>,
    /// Where to write the results.
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// How to print them.
    #[arg(long, value_enum, default_value = "table")]
    pub output: TempestFormat,
    /// Users that are made already, in Tempest's own form; else Tempest makes its own as the operator.
    #[arg(long, value_name = "FILE")]
    pub accounts: Option<PathBuf>,
    /// Log in to instances, which have to run and be reachable from here.
    #[arg(long)]
    pub validation: bool,
    /// Processes at once.
    #[arg(long, value_name = "NUMBER", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub concurrency: u32,
    /// Seconds for all tests together; what has not ended by then counts as not run.
    #[arg(long, value_name = "SECONDS", default_value_t = 1500, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub limit: u64,
    /// Where Tempest's Python environment is kept; below ~/.cache/volutus where absent.
    #[arg(long, value_name = "PATH")]
    pub cache: Option<PathBuf>,
    /// The Python that the environment is made with.
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub python: String,
}
