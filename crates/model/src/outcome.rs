//! How an attempt at an action turned out. Outcomes are data: they go into the journal.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::contract::{AskedAgain, ContractSeen};
use crate::gate::GateSeen;
use crate::name::HostName;

/// How an attempt turned out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done, and seen to be done.
    Done {
        /// What was seen, in one line.
        detail: String,
        /// What was seen in detail, where that matters later.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        evidence: Vec<Evidence>,
    },
    /// It was so already; nothing was changed.
    FoundNoChangesNeeded {
        /// What was seen, in one line.
        detail: String,
    },
    /// It was not done, or not seen to be done.
    Failed(Failure),
    /// Nobody knows: the connection went, or Volutus died. Only looking again resolves it.
    Unknown {
        /// What cut the knowledge off.
        why: String,
    },
}

impl Outcome {
    /// Done, with what was seen.
    pub fn done(detail: impl Into<String>) -> Self {
        Self::Done { detail: detail.into(), evidence: Vec::new() }
    }

    /// Nothing to do, with what was seen.
    pub fn unchanged(detail: impl Into<String>) -> Self {
        Self::FoundNoChangesNeeded { detail: detail.into() }
    }

    /// Whether the action's effect is there now.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::FoundNoChangesNeeded { .. })
    }
}

/// Why an action failed, with what there is to show for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Whether a repetition may help.
    pub class: FailureClass,
    /// What was attempted, on what, and what was seen.
    pub message: String,
    /// What an operator can do about it.
    pub hint: String,
    /// What was seen in detail.
    pub evidence: Vec<Evidence>,
    /// Hosts that did not take an instance, which another host may take.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub refused_by: BTreeSet<HostName>,
    /// Instances that came after the plan was made and are still there, where nothing else is wrong.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub newcomers: BTreeSet<String>,
}

/// Whether a repetition may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureClass {
    /// Something in between was in the way (connection refused, HTTP 503): may be repeated.
    Transient,
    /// The same again would fail again.
    Permanent,
}

/// One piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Evidence {
    /// A command that ran.
    Command {
        /// Where.
        host: String,
        /// The command, secrets excluded.
        command: String,
        /// Its exit code; `None` where a signal ended it or it did not end.
        exit_code: Option<i32>,
        /// Its last lines of output.
        output: String,
    },
    /// The last lines of a daemon's log.
    Log {
        /// The host.
        host: String,
        /// The unit.
        unit: String,
        /// The lines.
        lines: String,
    },
    /// An API answer.
    Http {
        /// Method and URL.
        request: String,
        /// The status code; `None` where no answer came.
        status: Option<u16>,
        /// The beginning of the body, or the error.
        body: String,
    },
    /// How the answers of old and new code compare.
    Contract(ContractSeen),
    /// How the answers that users get now compare with those of the old code.
    AskedAgain(AskedAgain),
    /// What came of a client gate.
    Gate(GateSeen),
    /// An instance that came after the plan was made, and was moved all the same.
    NewcomerMoved {
        /// The instance.
        instance: String,
        /// The host that was emptied.
        from: HostName,
        /// Where it is now.
        to: HostName,
    },
    /// A state that was read.
    State {
        /// What was read.
        what: String,
        /// What it said.
        value: String,
    },
}

/// At most this many characters of output go into one piece of evidence: enough for a traceback,
/// and a bound on what one failure adds to the journal.
pub const EVIDENCE_CHARS_MAX: usize = 4_000;

/// The last [`EVIDENCE_CHARS_MAX`] characters of `text`, because the end of an output is where
/// its error stands.
#[must_use]
pub fn tail_for_evidence(text: &str) -> String {
    let count = text.chars().count();
    text.chars().skip(count.saturating_sub(EVIDENCE_CHARS_MAX)).collect()
}
