//! What is said to `volutus advisories`, `exposure` and `patch`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Format;

/// `volutus advisories`
#[derive(Debug, Args)]
pub struct AdvisoriesArgs {
    /// Bring in or list.
    #[command(subcommand)]
    pub command: AdvisoriesCommand,
}

/// What can be done with advisories.
#[derive(Debug, Subcommand)]
pub enum AdvisoriesCommand {
    /// Read OSSA files, CVE 5 records, OSV records or collections, and keep them beside the
    /// built-in ones. What is read again replaces what was there.
    Sync {
        /// A directory (read with all below it), a file, or an http(s) address of one document.
        #[arg(long, value_name = "DIR|FILE|URL")]
        from: String,
    },
    /// List what is known, the latest first.
    List {
        /// Only of this product or package.
        #[arg(long)]
        product: Option<String>,
        /// How to print it.
        #[arg(long, value_enum, default_value = "table")]
        output: Format,
    },
}

/// `volutus exposure`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 0: nothing that runs is vulnerable, and everything was seen and judged. 4: \
        something is vulnerable. 6: nothing is known to be, but something was not seen or could not be \
        judged."
)]
pub struct ExposureArgs {
    /// The operator's statements [default: `statements.toml` beside the cloud description, where
    /// there is one]
    #[arg(long, value_name = "FILE", env = "VOLUTUS_STATEMENTS")]
    pub statements: Option<PathBuf>,
    /// An observation (`volutus observe --output json`) instead of looking now.
    #[arg(long, value_name = "FILE")]
    pub observation: Option<PathBuf>,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    pub output: Format,
}

/// `volutus patch`
#[derive(Debug, Args)]
#[command(
    after_help = "Changes nothing without --run. The limits are those of the policy's table [patch]. Exit code 4 \
        where something exposed has no fixed release in its series, and after a run that leaves it exposed; 6 \
        where a run cannot prove that it is closed. After a mitigation the versions stay vulnerable, and the \
        verdict says `mitigated`."
)]
pub struct PatchArgs {
    /// Any name of the vulnerability: CVE-2026-42999, OSSA-2026-012, PYSEC-2026-2678.
    pub vulnerability: String,
    /// Take the later version of the series that closes more vulnerabilities besides.
    #[arg(long)]
    pub better: bool,
    /// Take this version of a distribution, whatever is known to be published: a package with a patch of
    /// your vendor or of your own; repeatable.
    #[arg(long, value_name = "DISTRIBUTION=VERSION")]
    pub take: Vec<String>,
    /// What the patched release is called: its directory is that of the series with `+NAME` behind the
    /// series [default: the vulnerability's name as given, in lower case]
    #[arg(long, value_name = "NAME")]
    pub release: Option<String>,
    /// Plan a mitigation that the policy declares (`[[patch.mitigation]]`): the versions stay, and the way to the
    /// vulnerability is closed [default: the least disruptive that is declared against it]
    #[arg(
        long,
        value_name = "NAME",
        num_args = 0..=1,
        require_equals = true,
        conflicts_with_all = ["better", "take", "release", "report", "observation"]
    )]
    pub mitigate: Option<Option<String>>,
    /// With --mitigate: take it back, by the command that the policy declares as `undo`.
    #[arg(long, requires = "mitigate")]
    pub undo: bool,
    /// Only show what closes it; make no plan.
    #[arg(long)]
    pub report: bool,
    /// Approve the plan and carry it out at once. Shows it and asks first.
    #[arg(long, conflicts_with_all = ["report", "observation"])]
    pub run: bool,
    /// With --run: do not ask.
    #[arg(long, requires = "run")]
    pub yes: bool,
    /// With --run: consent to a serious finding, by its code; repeatable.
    #[arg(long = "accept", value_name = "CODE", requires = "run")]
    pub accepted: Vec<String>,
    /// The operator's statements; see `volutus exposure`.
    #[arg(long, value_name = "FILE", env = "VOLUTUS_STATEMENTS")]
    pub statements: Option<PathBuf>,
    /// An observation (`volutus observe --output json`) instead of looking now; no plan is made.
    #[arg(long, value_name = "FILE")]
    pub observation: Option<PathBuf>,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    pub output: Format,
}
