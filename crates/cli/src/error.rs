//! Errors as the operator sees them: what was attempted, what was seen, what to do, a stable
//! code, and an exit code.

use std::fmt;

/// Exit codes; stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A bug, or a machine that does not let Volutus work: 1.
    Internal,
    /// Something in what was given can be mended by the operator: 3.
    Refused,
    /// A finding stands in the way: 4.
    Blocked,
    /// A run halted, paused or was aborted: 5.
    Stopped,
    /// The cloud did not answer, or not as it should: 6.
    Cloud,
    /// A run did not go well and was taken back, by the policy: 7. The cloud is as before.
    RolledBack,
}

impl Kind {
    /// The process's exit code; 2 is clap's, for wrong usage.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Refused => 3,
            Self::Blocked => 4,
            Self::Stopped => 5,
            Self::Cloud => 6,
            Self::RolledBack => 7,
        }
    }
}

/// An error on its way to the operator.
#[derive(Debug)]
pub struct CliError {
    /// Decides the exit code.
    pub kind: Kind,
    /// Stable code, `kebab-case`; see docs/reference/errors.md.
    pub code: &'static str,
    /// What was attempted, on what, and what was seen.
    pub message: String,
    /// Causes, outermost first.
    pub causes: Vec<String>,
    /// What to do.
    pub hint: Option<String>,
}

/// The result of a command.
pub type Result<T, E = CliError> = std::result::Result<T, E>;

impl CliError {
    /// An error without a cause.
    pub fn new(kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into(), causes: Vec::new(), hint: None }
    }

    /// Something that the operator can mend.
    pub fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, code, message)
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds an error and its own causes. A cause that an outer message already contains is left
    /// out, so that nothing is said twice.
    #[must_use]
    pub fn because(mut self, error: &dyn std::error::Error) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            let text = error.to_string();
            if !self.message.contains(&text) && !self.causes.iter().any(|c| c.contains(&text)) {
                self.causes.push(text);
            }
            cause = error.source();
        }
        self
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error[{}]: {}", self.code, self.message)?;
        for cause in &self.causes {
            writeln!(f, "  because: {cause}")?;
        }
        if let Some(hint) = &self.hint {
            writeln!(f, "Hint: {hint}")?;
        }
        Ok(())
    }
}
