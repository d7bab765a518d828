//! Client gates: commands of the operator's that judge the cloud at certain moments of a run.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::StepId;

/// A command that a run asks at a certain moment whether it may go on: `[[gates]]` of the policy.
///
/// It runs on the machine where Volutus runs, and ends with 0 where all is well. What it does to the
/// cloud is the operator's affair; it may be run again, so that it has to bear that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientGate {
    /// Its name, which becomes part of a step's id and of a file's name.
    pub name: String,
    /// The command and its arguments. No shell reads them.
    pub argv: Vec<String>,
    /// When it runs.
    pub when: Moment,
    /// Seconds after which it is killed with everything that it started, and counts as failed.
    #[serde(default = "usual_timeout_s")]
    pub timeout_s: u32,
    /// What its failure does.
    #[serde(default)]
    pub on_failure: GateFailure,
    /// The entry of clouds.yaml that it is told in `OS_CLOUD`; that of the synthetic user where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<String>,
    /// Names of variables that it gets from Volutus's own environment. Their values are in no plan.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub environment: BTreeSet<String>,
}

/// When a gate runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// Before anything is touched, after the baseline.
    Before,
    /// When schemas are widened and all code is old. Schemas whose widening closes the way back are
    /// widened later.
    AfterExpand,
    /// When everything runs the target, before the soak.
    AfterRoll,
    /// After the soak, before anything that takes the way back.
    BeforeFinalize,
    /// After finalize.
    After,
}

impl Moment {
    /// All, in the order in which they come.
    pub const ALL: [Self; 5] =
        [Self::Before, Self::AfterExpand, Self::AfterRoll, Self::BeforeFinalize, Self::After];
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Before => "before",
            Self::AfterExpand => "after-expand",
            Self::AfterRoll => "after-roll",
            Self::BeforeFinalize => "before-finalize",
            Self::After => "after",
        })
    }
}

/// What the failure of a gate does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateFailure {
    /// The run halts, or what the policy says for the phase `gate` follows.
    #[default]
    Block,
    /// The run goes on, and its verdict tells of it.
    Warn,
}

/// What came of one gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateSeen {
    /// Its name.
    pub gate: String,
    /// When it ran.
    pub when: Moment,
    /// Whether it ended with 0 within its time.
    pub passed: bool,
    /// What a failure does.
    pub on_failure: GateFailure,
    /// Its exit code; `None` where a signal ended it, its time was up, or it did not start.
    pub exit_code: Option<i32>,
    /// Why it counts as failed, or its last line.
    pub detail: String,
    /// The file on Volutus's machine with its whole output; empty where it did not start.
    pub output: String,
}

/// Half an hour: Tempest's smoke set takes minutes against most clouds.
const TIMEOUT_S: u32 = 1_800;
/// A day. Whoever needs longer does not wait for it within a run.
const TIMEOUT_S_MAX: u32 = 86_400;

fn usual_timeout_s() -> u32 {
    TIMEOUT_S
}

/// Words in arguments that announce a secret. The plan is stored, shown and mailed.
const SECRETS: &[&str] = &["password", "passwd", "secret", "token"];

impl ClientGate {
    /// Why a gate cannot be kept, in a sentence; `None` where it can.
    #[must_use]
    pub fn mistake(&self) -> Option<String> {
        let name = &self.name;
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) || !self.has_step_id() {
            return Some(format!(
                "the gate `{name}` needs a name of at most 100 ASCII letters, digits and . _ -, which does \
                 not start with a dot or a dash"
            ));
        }
        if self.argv.first().is_none_or(String::is_empty) {
            return Some(format!("the gate {name} has no command: argv is empty"));
        }
        if self.timeout_s == 0 || self.timeout_s > TIMEOUT_S_MAX {
            return Some(format!(
                "the gate {name} has timeout_s = {}; it is 1 to {TIMEOUT_S_MAX}",
                self.timeout_s
            ));
        }
        if let Some(word) = self.argv.iter().find(|word| carries_secret(word)) {
            // The word itself may hold the secret, so that only its beginning is told.
            let option = word.split('=').next().unwrap_or_default();
            return Some(format!(
                "the gate {name} is given `{option}`: a plan is stored and shown, so that no secret may be in \
                 it. Name an entry of clouds.yaml in `cloud`, or a variable in `environment`"
            ));
        }
        None
    }

    fn has_step_id(&self) -> bool {
        self.name.len() <= 100 && !self.name.starts_with('-') && StepId::new(self.step_id()).is_ok()
    }

    /// The id of the step that runs it, as text.
    #[must_use]
    pub fn step_id(&self) -> String {
        format!("gate/{}/{}", self.when, self.name)
    }
}

/// Whether an argument assigns something that is called a secret (`--os-password=…`, `TOKEN=…`), or
/// is an option that the next argument would answer with one.
pub(crate) fn carries_secret(word: &str) -> bool {
    let (name, assigned) = word.split_once('=').map_or((word, false), |(name, _)| (name, true));
    let name = name.to_ascii_lowercase();
    let option = name.starts_with('-');
    let bare = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    // A path or a file of a secret is none.
    let names_file = name.ends_with("file") || name.ends_with("path");
    (option || assigned) && bare && !names_file && SECRETS.iter().any(|secret| name.contains(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(name: &str, argv: &[&str]) -> ClientGate {
        ClientGate {
            name: name.to_owned(),
            argv: argv.iter().map(ToString::to_string).collect(),
            when: Moment::AfterRoll,
            timeout_s: TIMEOUT_S,
            on_failure: GateFailure::Block,
            cloud: None,
            environment: BTreeSet::new(),
        }
    }

    #[test]
    fn what_cannot_be_run_or_would_leak_is_a_mistake() {
        assert_eq!(gate("terraform-plan", &["terraform", "plan", "-detailed-exitcode"]).mistake(), None);
        assert_eq!(gate("a", &["x", "--password-file", "/etc/secret", "--verbose"]).mistake(), None);
        for name in ["", "a b", "../up", "-x", ".hidden", &"x".repeat(101)] {
            assert!(gate(name, &["true"]).mistake().is_some(), "{name}");
        }
        for argv in [
            &[][..],
            &[""],
            &["x", "--os-password", "p"],
            &["env", "OS_TOKEN=abc", "x"],
            &["x", "--secret=s"],
        ] {
            let mistake = gate("g", argv).mistake().unwrap();
            assert!(!mistake.contains("abc") && !mistake.contains("=s"), "{mistake}");
        }
        assert!(ClientGate { timeout_s: 0, ..gate("g", &["x"]) }.mistake().is_some());
    }
}
