//! The clock that schedules are decided by.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::context::Context;
use crate::error::{CliError, Result};

/// The bits of a file's mode that let others than its owner write it.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The clock that schedules are decided by, and nothing else: journals, leases, commands and notices
/// have the times of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clock {
    /// The machine's.
    Machine,
    /// A file that says what time it is; it stands still until the file says another.
    File(PathBuf),
}

impl Clock {
    /// The machine's clock, or the one that a file says, which is told.
    pub fn new(file: Option<PathBuf>) -> Result<Self> {
        let Some(file) = file else { return Ok(Self::Machine) };
        let clock = Self::File(file);
        let now = clock.now()?;
        anstream::eprintln!("schedules are decided as if it were {now}: this server is for tests");
        Ok(clock)
    }

    /// What time it is for schedules.
    pub fn now(&self) -> Result<Timestamp> {
        match self {
            Self::Machine => Ok(Context::now()),
            Self::File(file) => read(file),
        }
    }

    /// Seconds by which it is ahead of the machine's clock.
    pub fn ahead_s(&self) -> Result<i64> {
        Ok(match self {
            Self::Machine => 0,
            Self::File(_) => self.now()?.as_second() - Context::now().as_second(),
        })
    }
}

/// The time that a file says. Whoever can write it says when upgrades begin, so nobody may but the user
/// that the server runs as.
fn read(file: &Path) -> Result<Timestamp> {
    let refuse = |why: String| {
        CliError::refused("clock", format!("the clock of schedules {} is not used: {why}", file.display()))
            .hint("It holds one time such as 2026-12-08T01:00:00Z; only the user that the server runs as may write it.")
    };
    let about =
        std::fs::metadata(file).map_err(|error| refuse("it cannot be read".to_owned()).because(&error))?;
    let own = std::fs::metadata("/proc/self")
        .map_err(|error| refuse("/proc is not there".to_owned()).because(&error))?;
    if about.uid() != own.uid() || about.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(refuse(format!(
            "mode {:o} of user {} lets others write it",
            about.mode() & 0o7777,
            about.uid()
        )));
    }
    let text = std::fs::read_to_string(file)
        .map_err(|error| refuse("it cannot be read".to_owned()).because(&error))?;
    text.trim()
        .parse()
        .map_err(|error: jiff::Error| refuse(format!("`{}` is no time", text.trim())).because(&error))
}
