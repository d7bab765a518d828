//! The commands, one a file. They parse, call and show; they decide nothing.

pub mod advisories;
pub mod approve;
pub mod by_hand;
pub mod check;
mod consent;
pub mod contract;
pub mod control;
pub mod drains;
pub mod exposure;
pub mod fleet;
pub mod glances;
pub mod go_on;
pub mod hosts;
pub mod init;
pub mod journal;
pub mod mitigate;
pub mod news;
pub mod notice;
pub mod observe;
pub mod patch;
pub mod plan;
pub mod policy;
pub mod probe;
pub mod rehearse;
mod rehearse_real;
pub mod release;
mod replan;
pub mod rollback;
pub mod run;
pub mod schedule;
pub mod serve;
pub mod snapshot;
pub mod verdict;
pub mod watch;

use serde::Serialize;

use crate::error::{CliError, Kind, Result};

/// Prints a value as JSON on stdout.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| {
        CliError::new(Kind::Internal, "serialize", "the result could not be written as JSON").because(&error)
    })?;
    anstream::println!("{text}");
    Ok(())
}
