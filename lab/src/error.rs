//! What can go wrong in the lab, told so that a person can act on it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An error of the lab.
///
/// The message is a lower-case fragment without its source; [`Error::report`] joins message,
/// source and hint for people.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was asked for cannot be done as asked; nothing was changed.
    #[error("{what}")]
    Refused {
        /// What was refused and what was seen.
        what: String,
        /// What to do instead.
        hint: String,
    },
    /// A command ended badly.
    #[error("{what}: `{command}` ended with {status}")]
    Command {
        /// What the command was to achieve.
        what: String,
        /// The command line.
        command: String,
        /// Exit status or signal.
        status: String,
        /// The last lines that it printed.
        seen: String,
    },
    /// A command could not be started at all.
    #[error("{what}: `{command}` cannot be started")]
    Spawn {
        /// What the command was to achieve.
        what: String,
        /// The command line.
        command: String,
        /// Why the system refused.
        #[source]
        source: std::io::Error,
    },
    /// Something did not happen in time.
    #[error("{what}: not within {} s", limit.as_secs())]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// What was seen instead.
        seen: String,
    },
    /// A file or folder could not be read or written.
    #[error("{what} {}", path.display())]
    Io {
        /// What was attempted, as a verb: "reading".
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        source: std::io::Error,
    },
    /// A file of the lab holds something else than the lab wrote there.
    #[error("{} is damaged: {seen}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What was found.
        seen: String,
    },
    /// A step ended badly; `source` tells why.
    #[error("step \"{step}\" failed")]
    Step {
        /// Name of the step.
        step: String,
        /// What went wrong in it.
        #[source]
        source: Box<Error>,
    },
}

/// Result with the lab's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A refusal with its hint.
    pub fn refused(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), hint: hint.into() }
    }

    /// Stable name of the kind of error, for scripts.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::Command { .. } => "command-failed",
            Self::Spawn { .. } => "command-missing",
            Self::TimedOut { .. } => "timed-out",
            Self::Io { .. } => "io",
            Self::Damaged { .. } => "damaged",
            Self::Step { source, .. } => source.kind(),
        }
    }

    /// What was seen, where there is more to show than the message.
    fn seen(&self) -> Option<&str> {
        match self {
            Self::Command { seen, .. } | Self::TimedOut { seen, .. } => Some(seen.trim_end()),
            Self::Step { source, .. } => source.seen(),
            Self::Refused { .. } | Self::Spawn { .. } | Self::Io { .. } | Self::Damaged { .. } => None,
        }
    }

    /// What the user can do.
    pub fn hint(&self) -> String {
        match self {
            Self::Refused { hint, .. } => hint.clone(),
            Self::Command { .. } => "read the lines above; `volutus-lab down` removes what was \
                                     made so far, and `up` can then be repeated"
                .into(),
            Self::Spawn { .. } => "install the program, or run `volutus-lab up`, which installs \
                                   what the lab needs"
                .into(),
            Self::TimedOut { .. } => "look into the host with `volutus-lab exec HOST journalctl \
                                      -n 50 --no-pager`; a machine busy with other work can be \
                                      too slow"
                .into(),
            Self::Io { .. } => "check that the path exists, that its disk has space, and that \
                                you are root"
                .into(),
            Self::Damaged { .. } => "remove the lab with `volutus-lab down` and bring it up again".into(),
            Self::Step { source, .. } => source.hint(),
        }
    }

    /// The whole report for a person: message, causes, what was seen, what to do.
    pub fn report(&self) -> String {
        let mut text = format!("error[{}]: {self}\n", self.kind());
        let mut cause = std::error::Error::source(self);
        while let Some(source) = cause {
            let _ = writeln!(text, "  because: {source}");
            cause = source.source();
        }
        if let Some(seen) = self.seen().filter(|seen| !seen.is_empty()) {
            for line in seen.lines() {
                let _ = writeln!(text, "  | {line}");
            }
        }
        let _ = writeln!(text, "  what to do: {}", self.hint());
        text
    }
}

/// Adds to an I/O error what was attempted on which path.
pub(crate) trait IoContext<T> {
    fn on(self, what: &'static str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn on(self, what: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io { what, path: path.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_tells_step_command_output_and_hint() {
        let error = Error::Step {
            step: "build release 2025.2".into(),
            source: Box::new(Error::Command {
                what: "installing the release".into(),
                command: "pip install".into(),
                status: "exit status: 1".into(),
                seen: "no space left\n".into(),
            }),
        };
        let report = error.report();
        assert!(report.starts_with("error[command-failed]: step \"build release 2025.2\" failed\n"));
        assert!(report.contains("because: installing the release: `pip install` ended with exit status: 1"));
        assert!(report.contains("  | no space left"));
        assert!(report.contains("what to do: read the lines above"));
    }
}
