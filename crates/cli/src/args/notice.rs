//! What is said to `volutus notice`.

use clap::{Args, Subcommand, ValueEnum};

use super::Format;

/// What can be done with notices.
#[derive(Debug, Subcommand)]
pub enum NoticeCommand {
    /// Show what would be sent to whom, and send nothing.
    Preview(PreviewArgs),
    /// Tell the people concerned what will be done and when, days ahead. Given again, it sends nothing
    /// twice.
    Announce(AnnounceArgs),
    /// Show what was sent, what waits and what was not taken.
    List {
        /// How many of the latest ones.
        #[arg(long, default_value_t = 50, value_name = "N")]
        last: u32,
        /// How to print it.
        #[arg(long, value_enum, default_value = "table")]
        output: Format,
    },
    /// Send what is due now. A run does so by itself while it lasts.
    Deliver,
    /// Queue one again that was refused, or of which it is not known whether it left.
    Retry {
        /// Its number, of `volutus notice list`.
        id: i64,
    },
    /// Print what everybody may read: an Atom feed, or a status page.
    Publish {
        /// What to print.
        form: PublishForm,
    },
}

/// `volutus notice preview`
#[derive(Debug, Args)]
pub struct PreviewArgs {
    /// The plan that it would be about.
    pub plan: String,
    /// The moment.
    #[arg(long, value_enum, default_value = "before")]
    pub moment: NoticeMoment,
    /// When it would begin [default: now].
    #[arg(long, value_name = "TIME")]
    pub at: Option<jiff::Timestamp>,
}

/// `volutus notice announce`
#[derive(Debug, Args)]
pub struct AnnounceArgs {
    /// The plan.
    pub plan: String,
    /// When it begins, such as `2026-12-01T02:00+01:00`.
    #[arg(long, value_name = "TIME")]
    pub at: jiff::Timestamp,
}

/// The moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NoticeMoment {
    /// Days ahead.
    Before,
    /// It begins.
    Start,
    /// It has ended well.
    End,
    /// It was taken back.
    RolledBack,
    /// It stands still and waits for a person.
    Halted,
    /// It was due by a schedule, and was not done.
    Missed,
    /// Its schedule is held.
    Held,
    /// New versions were found and locked.
    NewRelease,
}

/// What can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PublishForm {
    /// An Atom feed.
    Atom,
    /// A page.
    Html,
}
