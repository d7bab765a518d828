//! What is said to `volutus news`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `volutus news`
#[derive(Debug, Args)]
#[command(
    after_help = "FROM and TO are each a source distribution (nova-33.0.0.tar.gz), an unpacked one, or a folder of \
        several; services are matched by name. Notes that were backported are in both, and are no news."
)]
pub struct NewsArgs {
    /// The sources of the earlier release.
    pub from: PathBuf,
    /// The sources of the later release.
    pub to: PathBuf,
    /// For whom.
    #[arg(long = "for", value_enum, default_value = "all", value_name = "WHOM")]
    pub audience: NewsAudience,
    /// How to print it.
    #[arg(long, value_enum, default_value = "md")]
    pub output: NewsForm,
}

/// For whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NewsAudience {
    /// Features, deprecations, security fixes, known issues.
    Users,
    /// Upgrade notes, fixes, the rest.
    Operators,
    /// Both.
    All,
}

/// How to print news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NewsForm {
    /// Markdown.
    Md,
    /// A page.
    Html,
    /// Plain text.
    Text,
    /// For programs.
    Json,
}
