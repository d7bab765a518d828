//! What closes the way to a vulnerability without other code: a command on the hosts that run it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::gate::carries_secret;
use crate::name::PackageVersion;

/// One mitigation, as the operator declares it under `[[patch.mitigation]]` of the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mitigation {
    /// Any name of the vulnerability.
    pub vulnerability: String,
    /// What it is called, in a word; a verdict names it.
    pub name: String,
    /// What has to be done around the command.
    pub method: MitigationMethod,
    /// The command, with its full path; it is run once on every host with an exposed daemon.
    pub argv: Vec<String>,
    /// The exit code besides 0 by which it says that there was nothing to do.
    #[serde(default)]
    pub unchanged_exit: i32,
    /// Seconds after which any of its commands counts as failed.
    #[serde(default = "usual_limit_s")]
    pub limit_s: u32,
    /// The command that tells by exit code 0 that the mitigation is in force on the host it runs on. It
    /// has to be given: without it nothing is known after the run but that a command ended well.
    pub check: Vec<String>,
    /// The command that takes it back; empty where nothing does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undo: Vec<String>,
}

/// What `[[patch.mitigation]]` looks like, for those who have none yet.
pub const EXAMPLE: &str = r#"[[patch.mitigation]]
vulnerability = "{vulnerability}"
name = "no-federation"
method = "restart"                                  # or "none", "restart-without-drain"
argv = ["/usr/local/sbin/mitigate", "on"]           # run once on every host with an exposed daemon
check = ["/usr/local/sbin/mitigate", "is-on"]       # exit code 0: it is in force on this host
undo = ["/usr/local/sbin/mitigate", "off"]          # optional
"#;

/// Writing a file takes seconds; two minutes are for a command that has to wait for the lock of
/// a package database, or for a busy disk.
fn usual_limit_s() -> u32 {
    120
}

/// What a mitigation needs besides its command, the least disruptive first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum MitigationMethod {
    /// Nothing: the command does all, in the running daemons or before them. No daemon restarts.
    None,
    /// The exposed daemons restart, APIs drained at the load balancer.
    Restart,
    /// The exposed daemons restart, and APIs are not drained: what they are asked meanwhile fails.
    RestartWithoutDrain,
}

impl MitigationMethod {
    /// Whether the exposed daemons restart.
    #[must_use]
    pub fn restarts(self) -> bool {
        self != Self::None
    }
}

impl fmt::Display for MitigationMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Restart => "restart",
            Self::RestartWithoutDrain => "restart-without-drain",
        })
    }
}

impl TryFrom<String> for MitigationMethod {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "none" => Ok(Self::None),
            "restart" => Ok(Self::Restart),
            "restart-without-drain" => Ok(Self::RestartWithoutDrain),
            "reboot" => Err("a mitigation that needs a reboot is a plan of its own: put the command under \
                             `before` of [reboot.act] of the policy, its check under `after`, and plan with \
                             `volutus plan --reboot`"
                .to_owned()),
            _ => Err(format!("method `{text}` is none of none, restart, restart-without-drain")),
        }
    }
}

impl From<MitigationMethod> for String {
    fn from(method: MitigationMethod) -> Self {
        method.to_string()
    }
}

impl Mitigation {
    /// What is wrong with it, in a sentence; `None` where nothing is.
    #[must_use]
    pub fn mistake(&self) -> Option<String> {
        let (name, vulnerability) = (&self.name, &self.vulnerability);
        if name.trim().is_empty() || vulnerability.trim().is_empty() {
            return Some(format!(
                "a mitigation needs a name and a vulnerability, and has `{name}` and `{vulnerability}`"
            ));
        }
        let commands =
            [("argv", &self.argv, true), ("check", &self.check, true), ("undo", &self.undo, false)];
        for (key, argv, needed) in commands {
            if argv.is_empty() && !needed {
                continue;
            }
            if !argv.first().is_some_and(|program| program.starts_with('/')) {
                return Some(format!(
                    "`{key}` of mitigation {name} has to begin with the full path of a program"
                ));
            }
            if let Some(word) = argv.iter().find(|word| carries_secret(word)) {
                let option = word.split('=').next().unwrap_or_default();
                return Some(format!(
                    "`{key}` of mitigation {name} is given `{option}`: a plan is stored and shown, so that no \
                     secret may be in it. Let the command read it on the host"
                ));
            }
        }
        (self.limit_s == 0).then(|| format!("limit_s of mitigation {name} is 0; it must be at least 1"))
    }
}

/// Versions of one distribution that are exposed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExposedPackage {
    /// The distribution, by its normal name.
    pub distribution: String,
    /// The versions.
    pub versions: BTreeSet<PackageVersion>,
}

/// What the commands of a mitigation are called in plans and journals.
pub mod command {
    /// The one that mitigates.
    pub const MITIGATE: &str = "mitigate";
    /// The one that takes it back.
    pub const UNDO: &str = "undo";
    /// The one that tells whether it is in force.
    pub const CHECK: &str = "check";
}
