//! What is said to `volutus release`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};

use super::Format;

/// `volutus release`
#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// Lock, list, show, compare, verify or remove.
    #[command(subcommand)]
    pub command: ReleaseCommand,
}

/// What can be done with locked releases.
#[derive(Debug, Subcommand)]
pub enum ReleaseCommand {
    /// Look versions up, and keep them with the hashes of their files.
    Lock(Box<LockArgs>),
    /// List what is locked.
    List {
        /// How to print it.
        #[arg(long, value_enum, default_value = "table")]
        output: Format,
    },
    /// Show a locked release.
    Show {
        /// Its name, or a file that `--output json` wrote.
        release: String,
        /// How to print it.
        #[arg(long, value_enum, default_value = "table")]
        output: ReleaseFormat,
    },
    /// Show what changes from one release to another. Exit code 4 where anything does.
    Diff {
        /// The first, by its name or as a file.
        first: String,
        /// The second.
        second: String,
        /// How to print it.
        #[arg(long, value_enum, default_value = "table")]
        output: Format,
    },
    /// Hold the files of a folder against a locked release. Exit code 4 where anything is otherwise.
    Verify {
        /// The release, by its name or as a file.
        release: String,
        /// The folder: of wheels and source distributions, or of Debian packages.
        #[arg(long, value_name = "DIR")]
        files: PathBuf,
        /// How to print it.
        #[arg(long, value_enum, default_value = "table")]
        output: Format,
    },
    /// Forget a locked release. Plans that were made with it have what they need of it.
    Remove {
        /// Its name.
        name: String,
    },
}

/// `volutus release lock`
#[derive(Debug, Args)]
#[command(after_help = "For example:\n  \
        volutus release lock --series 2026.1                                 from the index that pip is configured for\n  \
        volutus release lock --series 2026.1 --from index=https://INDEX/simple --constraints upper-constraints.txt --package oslo.messaging\n  \
        volutus release lock --series 2026.1 --from debian=https://MIRROR/debian --suite SUITE\n  \
        volutus release lock --series 2026.1 --from registry=https://REGISTRY --repository 'kolla/{package}' --tag '{series}-debian-bookworm'\n  \
        volutus release lock --series 2026.1 --from file=requirements.txt    with hashes; or a folder of wheels")]
pub struct LockArgs {
    /// The series, for example 2026.1.
    #[arg(long, value_name = "SERIES")]
    pub series: String,
    /// What it is called [default: the series and the first digits of what it holds]
    #[arg(long)]
    pub name: Option<volutus_model::LockName>,
    /// What is looked up, and where.
    #[command(flatten)]
    pub look: LookArgs,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    pub output: ReleaseFormat,
}

/// The component of a Debian repository that is looked at where none is named.
pub const COMPONENT: &str = "main";

/// The architecture that is looked for where none is named.
pub const ARCHITECTURE: &str = "amd64";

/// How images are called where nothing is said.
pub const REPOSITORY: &str = "{package}";

/// What is looked up, and where: by `volutus release lock`, and by a server of its own accord.
#[derive(Debug, Clone, Args)]
pub struct LookArgs {
    /// Where versions are looked up [default: the index that pip uses: PIP_INDEX_URL, or its configuration files]
    #[arg(long, value_name = "index=URL|debian=URL|registry=URL|file=PATH", value_parser = str::parse::<Origin>)]
    pub from: Option<Origin>,
    /// Only this package; may be given several times. Of an index a distribution, of a Debian repository a source
    /// or binary package, of a registry an image [default: of the services of the cloud description; of files
    /// all that are there]
    #[arg(long = "package", value_name = "NAME")]
    pub packages: Vec<String>,
    /// A file of constraints, such as upper-constraints: what it names is taken in that version.
    #[arg(long, value_name = "FILE")]
    pub constraints: Option<PathBuf>,
    /// The Python that the packages are for [default: the lowest that the series runs on]
    #[arg(long, value_name = "VERSION")]
    pub python: Option<String>,
    /// The suite of a Debian repository.
    #[arg(long, help_heading = "Debian repositories")]
    pub suite: Option<String>,
    /// Its component.
    #[arg(long, default_value = COMPONENT, help_heading = "Debian repositories")]
    pub component: String,
    /// The architecture.
    #[arg(long, default_value = ARCHITECTURE, help_heading = "Debian repositories")]
    pub architecture: String,
    /// How images are called: `{package}` is replaced.
    #[arg(long, default_value = REPOSITORY, help_heading = "Container registries")]
    pub repository: String,
    /// Their tag: `{series}` is replaced [default: the highest that is of the series, where that is clear]
    #[arg(long, help_heading = "Container registries")]
    pub tag: Option<String>,
}

/// Where versions are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An index of Python packages.
    Index(String),
    /// A Debian repository.
    Debian(String),
    /// A container registry.
    Registry(String),
    /// A file of requirements, or a folder of packages.
    File(PathBuf),
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read =
            text.split_once('=').filter(|(_, rest)| !rest.is_empty()).and_then(|(kind, rest)| match kind {
                "index" => Some(Self::Index(rest.to_owned())),
                "debian" => Some(Self::Debian(rest.to_owned())),
                "registry" => Some(Self::Registry(rest.to_owned())),
                "file" => Some(Self::File(rest.into())),
                _ => None,
            });
        read.ok_or_else(|| "it is none of index=URL, debian=URL, registry=URL, file=PATH".to_owned())
    }
}

/// How to print a locked release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReleaseFormat {
    /// For people.
    Table,
    /// The document itself: can be given as a file wherever a release is named.
    Json,
    /// For pip: a file of requirements with hashes, which admits no other files.
    Requirements,
}
