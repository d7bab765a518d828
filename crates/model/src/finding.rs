//! What a check found: a severity, a stable code, an explanation, and the action that mends it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Good to know; nothing has to be done.
    Info,
    /// The run may go on; somebody should look.
    Warning,
    /// The promise of the plan (for example zero downtime) cannot be kept, yet an upgrade is
    /// possible; going on needs an explicit consent.
    Serious,
    /// The run must not start.
    Blocking,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Serious => "serious",
            Self::Blocking => "blocking",
        })
    }
}

/// One finding of a check.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// A stable code, `kebab-case`, that documentation and waivers refer to.
    pub code: String,
    /// What it concerns: a host, a daemon, a service, a step.
    pub subject: String,
    /// What was seen, and why it matters.
    pub explanation: String,
    /// What to do about it; empty only for [`Severity::Info`].
    pub action: String,
}

impl Finding {
    /// Makes a finding.
    pub fn new(
        severity: Severity,
        code: &str,
        subject: impl fmt::Display,
        explanation: impl Into<String>,
        action: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            code: code.to_owned(),
            subject: subject.to_string(),
            explanation: explanation.into(),
            action: action.into(),
        }
    }
}
