//! Commands of the operator's for other systems than the host that is rebooted: `[[reboot.hook]]`.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::gate::carries_secret;
use crate::name::HostName;

/// Commands that run around what is done to each host, on Volutus's own machine or on a certain host.
/// They have to bear being run again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Its name, which becomes part of a file's name.
    pub name: String,
    /// Where its commands run.
    #[serde(default)]
    pub on: HookPlace,
    /// Run once the host is empty, before anything is done to it. No shell reads it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<String>,
    /// Run once every daemon of the host proved itself, before the host is enabled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// Seconds after which one of them is ended and counts as failed.
    #[serde(default = "usual_limit_s")]
    pub limit_s: u32,
    /// Whether `after` also runs when the host failed behind `before`: when the run is given up, or goes
    /// on without that host.
    #[serde(default)]
    pub always: bool,
    /// Names of variables that it gets from Volutus's own environment. Their values are in no plan.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub environment: BTreeSet<String>,
    /// The entry of clouds.yaml that it is told in `OS_CLOUD`; the operator's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<String>,
}

/// Where the commands of a hook run: `volutus`, or the name of a host of the cloud description.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HookPlace {
    /// The machine where Volutus runs, as its user.
    #[default]
    Volutus,
    /// That host, as root, as a unit that outlives a lost connection.
    Host(HostName),
}

/// What stands for Volutus's own machine in a policy.
const VOLUTUS: &str = "volutus";

impl TryFrom<String> for HookPlace {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == VOLUTUS {
            return Ok(Self::Volutus);
        }
        HostName::new(text).map(Self::Host).map_err(|error| error.to_string())
    }
}

impl From<HookPlace> for String {
    fn from(place: HookPlace) -> Self {
        place.to_string()
    }
}

impl fmt::Display for HookPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volutus => f.write_str(VOLUTUS),
            Self::Host(host) => host.fmt(f),
        }
    }
}

/// Which of a hook's commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookMoment {
    /// Before anything is done to the empty host.
    Before,
    /// After the host proved itself; or after it failed.
    After,
}

impl fmt::Display for HookMoment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Before => "before",
            Self::After => "after",
        })
    }
}

/// One command of a hook for one host, as a plan has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookCall {
    /// The host that is rebooted.
    pub host: HostName,
    /// The hook's name.
    pub hook: String,
    /// Which of its commands.
    pub moment: HookMoment,
    /// Where it runs.
    pub on: HookPlace,
    /// The command and its arguments.
    pub argv: Vec<String>,
    /// The exit code by which it says that there was nothing to do.
    pub unchanged_exit: i32,
    /// Seconds after which it counts as failed.
    pub limit_s: u32,
    /// See [`Hook::always`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub always: bool,
    /// See [`Hook::environment`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub environment: BTreeSet<String>,
    /// See [`Hook::cloud`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<String>,
}

impl HookCall {
    /// Whether this is the `before` of that `after`.
    #[must_use]
    pub fn begins(&self, after: &Self) -> bool {
        self.moment == HookMoment::Before
            && after.moment == HookMoment::After
            && (&self.host, &self.hook, &self.on) == (&after.host, &after.hook, &after.on)
    }
}

/// Five minutes: a request to another system takes seconds, and Ceph is well again after some minutes.
const LIMIT_S: u32 = 300;
/// A day, as for gates.
const LIMIT_S_MAX: u32 = 86_400;

fn usual_limit_s() -> u32 {
    LIMIT_S
}

/// What is wrong with a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookMistake {
    /// Its key.
    pub key: &'static str,
    /// What was seen.
    pub seen: String,
    /// What is allowed.
    pub allowed: &'static str,
}

impl Hook {
    /// What is wrong with it; none where it can be kept.
    #[must_use]
    pub fn mistake(&self) -> Option<HookMistake> {
        let mistake = |key, seen: String, allowed| Some(HookMistake { key, seen, allowed });
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let first = self.name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        if !first || self.name.len() > 100 || !self.name.chars().all(plain) {
            let allowed = "at most 100 ASCII letters, digits and . _ -, a letter or digit first";
            return mistake("name", format!("`{}`", self.name), allowed);
        }
        if self.after.is_empty() {
            let seen = if self.before.is_empty() { "no command" } else { "`before` without `after`" };
            let allowed = "a command that ends what `before` began; [\"true\"] where that ends by itself";
            return mistake("after", seen.to_owned(), allowed);
        }
        if !(1..=LIMIT_S_MAX).contains(&self.limit_s) {
            return mistake("limit_s", self.limit_s.to_string(), "1 to 86400, in seconds");
        }
        for (key, argv) in [("before", &self.before), ("after", &self.after)] {
            if argv.first().is_some_and(String::is_empty) {
                return mistake(key, "an empty program".to_owned(), "a command and its arguments");
            }
            if let Some(word) = argv.iter().find(|word| carries_secret(word)) {
                // The word itself may hold the secret, so that only its beginning is told.
                let seen = format!("`{}`", word.split('=').next().unwrap_or_default());
                let allowed = "no secret, because a plan is stored and shown: name an entry of clouds.yaml in \
                               `cloud`, or a variable in `environment`";
                return mistake(key, seen, allowed);
            }
        }
        let local = self.on == HookPlace::Volutus;
        if !local && !self.environment.is_empty() {
            return mistake(
                "environment",
                format!("variables for {}", self.on),
                "none but with on = \"volutus\"",
            );
        }
        if !local && self.cloud.is_some() {
            return mistake("cloud", format!("an entry for {}", self.on), "none but with on = \"volutus\"");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_run_or_would_leak_is_a_mistake() {
        let hook = |text: &str| -> Hook { toml::from_str(text).unwrap() };
        let key = |text: &str| hook(text).mistake().map(|mistake| mistake.key);
        let good = hook("name = \"ceph\"\non = \"admin1\"\nbefore = [\"a\"]\nafter = [\"b\"]");
        assert_eq!((good.mistake(), good.limit_s, good.always), (None, 300, false));
        assert_eq!(good.on, HookPlace::Host("admin1".parse().unwrap()));
        assert_eq!(hook("name = \"x\"\nafter = [\"b\"]").on, HookPlace::Volutus);
        assert_eq!(key("name = \"../x\"\nafter = [\"b\"]"), Some("name"));
        assert_eq!(key("name = \"x\""), Some("after"));
        assert_eq!(key("name = \"x\"\nbefore = [\"a\"]"), Some("after"), "nothing would end it");
        assert_eq!(key("name = \"x\"\nafter = [\"b\"]\nlimit_s = 0"), Some("limit_s"));
        assert_eq!(key("name = \"x\"\nbefore = [\"\"]\nafter = [\"b\"]"), Some("before"));
        assert_eq!(key("name = \"x\"\non = \"h\"\nafter = [\"b\"]\ncloud = \"c\""), Some("cloud"));
        assert_eq!(
            key("name = \"x\"\non = \"h\"\nafter = [\"b\"]\nenvironment = [\"E\"]"),
            Some("environment")
        );
        let leaks = hook("name = \"x\"\nafter = [\"b\", \"--token=abc\"]").mistake().unwrap();
        assert!(leaks.key == "after" && !leaks.seen.contains("abc"), "{leaks:?}");
        assert!(toml::from_str::<Hook>("name = \"x\"\non = \"a b\"\nafter = [\"b\"]").is_err());
        // A plan is read again as it was written.
        let text = serde_json::to_string(&good).unwrap();
        assert_eq!(serde_json::from_str::<Hook>(&text).unwrap(), good);
    }
}
