//! Who holds a lease: one process, told apart from every other that ever was.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A process that may hold leases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The host's name, for people.
    pub host: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// The PID namespace, because process numbers mean nothing outside of it.
    pub pid_namespace: String,
    /// The process number.
    pub pid: u32,
    /// When the process started, in the kernel's clock ticks since boot: process numbers are
    /// used again.
    pub started: u64,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)
    }
}

impl Holder {
    /// This process.
    ///
    /// # Errors
    /// [`Error::Io`] where /proc does not tell.
    pub fn this_process() -> Result<Self, Error> {
        let read = |path: &str| {
            fs::read_to_string(path)
                .map(|text| text.trim().to_owned())
                .map_err(|source| unreadable(path.into(), source))
        };
        let pid = std::process::id();
        let stat = PathBuf::from(format!("/proc/{pid}/stat"));
        let started = start_ticks(&stat).map_err(|source| unreadable(stat, source))?;
        Ok(Self {
            host: read("/proc/sys/kernel/hostname")?,
            boot_id: read("/proc/sys/kernel/random/boot_id")?,
            pid_namespace: pid_namespace()
                .map_err(|source| unreadable("/proc/self/ns/pid".into(), source))?,
            pid,
            started,
        })
    }

    /// Whether the process is known to have ended. Only somebody in the same boot and the same
    /// PID namespace can know; everybody else has to wait for the lease to run out.
    pub(crate) fn is_dead(&self) -> bool {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let same_boot = boot_id.is_ok_and(|id| id.trim() == self.boot_id);
        let same_namespace = pid_namespace().is_ok_and(|namespace| namespace == self.pid_namespace);
        if !same_boot || !same_namespace {
            return false;
        }
        match start_ticks(Path::new(&format!("/proc/{}/stat", self.pid))) {
            Ok(started) => started != self.started,
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }
}

fn unreadable(path: PathBuf, source: std::io::Error) -> Error {
    Error::Io { what: "read", path, source }
}

fn pid_namespace() -> std::io::Result<String> {
    Ok(fs::read_link("/proc/self/ns/pid")?.to_string_lossy().into_owned())
}

/// Field 22 of /proc/PID/stat. The second field is the command in parentheses, which may hold
/// blanks and parentheses itself, so fields are counted from the last one. Source: proc(5).
fn start_ticks(path: &Path) -> std::io::Result<u64> {
    let text = fs::read_to_string(path)?;
    let after_command = text.rfind(')').map(|end| &text[end + 1..]);
    after_command
        .and_then(|fields| fields.split_whitespace().nth(19))
        .and_then(|ticks| ticks.parse().ok())
        .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidData, "not a process's stat"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_others_do_not() {
        let this = Holder::this_process().unwrap();
        assert!(!this.is_dead());
        let reused = Holder { started: this.started + 1, ..this.clone() };
        assert!(reused.is_dead(), "another process of the same number was taken for this one");
        let gone = Holder { pid: u32::MAX, ..this.clone() };
        assert!(gone.is_dead());
        let elsewhere = Holder { boot_id: "other".to_owned(), pid: u32::MAX, ..this };
        assert!(!elsewhere.is_dead(), "the end of a process elsewhere cannot be known");
    }
}
