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
