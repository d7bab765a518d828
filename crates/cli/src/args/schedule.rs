//! What is said to `volutus schedule` and `calendar`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Format;

/// `volutus schedule`
#[derive(Debug, Args)]
pub struct ScheduleArgs {
    /// Add, list or remove.
    #[command(subcommand)]
    pub command: ScheduleCommand,
}

/// What can be done with schedules.
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// Add one, and show what is due by it next.
    Add(ScheduleAddArgs),
    /// List them, with what is due next and what was not done.
    List {
        /// Windows and freezes [default: `windows.toml` beside the cloud description, where there is
        /// one]
        #[arg(long, value_name = "FILE", env = "VOLUTUS_WINDOWS")]
        windows: Option<PathBuf>,
        /// How to print it.
        #[arg(long, value_enum, default_value = "table")]
        output: Format,
    },
    /// Remove one.
    Remove {
        /// Its name.
        name: String,
    },
}

/// `volutus schedule add`
#[derive(Debug, Args)]
#[command(
    after_help = "Rules: `once 2026-12-01 02:00 Europe/Berlin`, `second Tuesday 02:00 Europe/Berlin`, `day 15 \
        22:00 UTC`, `last day 22:00 UTC`, `30 days after 2026.2 02:00 UTC`, `one month after the last success 02:00 \
        UTC`. The zone must be given. A schedule starts nothing by itself."
)]
pub struct ScheduleAddArgs {
    /// Its name.
    pub name: String,
    /// When it is due, in words.
    pub rule: String,
    /// The series to go to; without it the newest packages of the series that runs.
    #[arg(long, value_name = "SERIES")]
    pub to: Option<String>,
    /// Only this availability zone; may be given several times.
    #[arg(long = "zone", value_name = "ZONE")]
    pub zones: Vec<String>,
    /// Only this project; may be given several times.
    #[arg(long = "project", value_name = "PROJECT")]
    pub projects: Vec<String>,
    /// How long it takes, such as `2h 30m`, where you know better than the past runs.
    #[arg(long, value_name = "DURATION")]
    pub expect: Option<String>,
    /// Windows and freezes; see `volutus schedule list`.
    #[arg(long, value_name = "FILE", env = "VOLUTUS_WINDOWS")]
    pub windows: Option<PathBuf>,
}

/// `volutus calendar`
#[derive(Debug, Args)]
pub struct CalendarArgs {
    /// How many months to look ahead.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=12))]
    pub months: u8,
    /// Windows and freezes; see `volutus schedule list`.
    #[arg(long, value_name = "FILE", env = "VOLUTUS_WINDOWS")]
    pub windows: Option<PathBuf>,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    pub output: CalendarFormat,
}

/// How to print a calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CalendarFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For calendar programs: iCalendar (RFC 5545).
    Ics,
}
