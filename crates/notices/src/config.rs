//! `notices.toml`: who is told what, and by which way.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The moments of a run's life that people can be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// Days ahead.
    Before,
    /// It begins.
    Start,
    /// It has ended well.
    End,
    /// It was taken back.
    RolledBack,
    /// It stands still and waits for a person.
    Halted,
    /// It was due by a schedule, and was not done.
    Missed,
    /// Nothing more is begun by a schedule, because what it did last did not go well.
    Held,
    /// New versions were found and locked; nothing is done with them.
    NewRelease,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Before,
        Self::Start,
        Self::End,
        Self::RolledBack,
        Self::Halted,
        Self::Missed,
        Self::Held,
        Self::NewRelease,
    ];

    /// Whether it concerns those who run the cloud, and not those who use it.
    #[must_use]
    pub const fn is_of_operators(self) -> bool {
        matches!(self, Self::Halted | Self::Missed | Self::Held | Self::NewRelease)
    }

    /// Whether it is told of a schedule, and not of a run or a plan.
    #[must_use]
    pub const fn is_of_schedule(self) -> bool {
        matches!(self, Self::Missed | Self::Held)
    }

    /// Its name in files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Start => "start",
            Self::End => "end",
            Self::RolledBack => "rolled-back",
            Self::Halted => "halted",
            Self::Missed => "missed",
            Self::Held => "held",
            Self::NewRelease => "new-release",
        }
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Users are not told of a halt, say: it is the operators' to end.
fn of_users() -> BTreeSet<Moment> {
    Moment::ALL.into_iter().filter(|moment| !moment.is_of_operators()).collect()
}

fn of_all() -> BTreeSet<Moment> {
    Moment::ALL.into()
}

fn utc() -> String {
    "UTC".to_owned()
}

/// Everything of `notices.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The time zone of those who say none (IANA name).
    #[serde(default = "utc")]
    pub time_zone: String,
    /// A folder with texts in place of the built-in ones, relative to this file.
    #[serde(default)]
    pub templates: Option<PathBuf>,
    /// How many days ahead what a schedule will begin is told; where absent, nothing is told ahead by
    /// itself.
    #[serde(default)]
    pub before_days: Option<u16>,
    /// Where owners reach this cloud's `volutus serve` to answer, such as `https://maintenance.example.org`;
    /// where absent, nobody is asked.
    #[serde(default)]
    pub confirm_url: Option<String>,
    /// How e-mail is sent; needed where a recipient has an address.
    #[serde(default)]
    pub smtp: Option<Smtp>,
    /// People.
    #[serde(default, rename = "recipient")]
    pub recipients: Vec<Recipient>,
    /// Programs.
    #[serde(default, rename = "webhook")]
    pub webhooks: Vec<Webhook>,
}

/// A mail server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smtp {
    /// Its name or address.
    pub host: String,
    /// Its port; by default 587 with `starttls`, 465 with `tls`, 25 with `none`.
    #[serde(default)]
    pub port: Option<u16>,
    /// How the connection is protected.
    #[serde(default)]
    pub encryption: Encryption,
    /// Whom messages come from, such as `Cloud operations <ops@example.org>`.
    pub sender: String,
    /// The user to log in as; nobody logs in without it.
    #[serde(default)]
    pub user: Option<String>,
    /// The file that holds the password and nothing else, relative to this file.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
}

/// How a connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encryption {
    /// It begins in the clear and must be encrypted before anything is said.
    #[default]
    Starttls,
    /// It is encrypted from its beginning.
    Tls,
    /// It is not: for a server on this host.
    None,
}

/// Somebody, or a group of people, that is told by e-mail.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipient {
    /// What the configuration calls them.
    pub name: String,
    /// Their addresses.
    pub email: Vec<String>,
    /// The ids of their projects: they are told of their own instances only, and of reboots only if
    /// one of theirs is concerned. Without it they are told of everything, and of nobody's instances.
    #[serde(default)]
    pub projects: Option<BTreeSet<String>>,
    /// The services that they use; all where absent.
    #[serde(default)]
    pub services: Option<BTreeSet<String>>,
    /// What they are told.
    #[serde(default = "of_users")]
    pub moments: BTreeSet<Moment>,
    /// Their time zone.
    #[serde(default)]
    pub time_zone: Option<String>,
}

/// An address that gets JSON.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// What the configuration calls it.
    pub name: String,
    /// Where it is; or `url_file`.
    #[serde(default)]
    pub url: Option<String>,
    /// The file that holds the address and nothing else, where the address itself is a secret;
    /// relative to this file.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// What it expects.
    #[serde(default)]
    pub shape: Shape,
    /// What it is told.
    #[serde(default = "of_all")]
    pub moments: BTreeSet<Moment>,
}

/// The shapes of JSON that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// All facts, for programs.
    #[default]
    Json,
    /// `{"text": ...}`, as Slack's and Mattermost's incoming webhooks take it.
    Slack,
    /// A message event of Matrix; the address ends in the transaction's place:
    /// `.../rooms/ROOM/send/m.room.message/` with `access_token` behind `?`.
    Matrix,
}

impl Config {
    /// Reads `notices.toml`.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key, what was seen and what was expected.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let config: Self = toml::from_str(text).map_err(|error| Error::Config(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), Error> {
        let wrong = |what: String| Err(Error::Config(what));
        zone(&self.time_zone)?;
        if let Some(url) = &self.confirm_url {
            let fits = reqwest::Url::parse(url).is_ok_and(|url| {
                url.scheme() == "https" && url.query().is_none() && url.fragment().is_none()
            });
            // Whoever reads a link on its way can answer in its owner's place.
            if !fits {
                return wrong(format!("confirm_url `{url}` has to be `https://HOST` or `https://HOST/PATH`"));
            }
        }
        let mut names = BTreeSet::new();
        let all = self.recipients.iter().map(|r| &r.name).chain(self.webhooks.iter().map(|w| &w.name));
        for name in all {
            if name.is_empty() || name.contains('/') {
                return wrong(format!("`{name}` is no name: it must not be empty or contain `/`"));
            }
            if !names.insert(name) {
                return wrong(format!("two are called `{name}`; give each a name of its own"));
            }
        }
        for recipient in &self.recipients {
            let name = &recipient.name;
            if recipient.email.is_empty() {
                return wrong(format!("recipient `{name}` has no address: give `email`"));
            }
            for address in &recipient.email {
                if let Err(error) = address.parse::<lettre::message::Mailbox>() {
                    return wrong(format!("recipient `{name}`: `{address}` is no e-mail address ({error})"));
                }
            }
            if let Some(text) = &recipient.time_zone {
                zone(text)?;
            }
        }
        if !self.recipients.is_empty() && self.smtp.is_none() {
            return wrong(
                "recipients have e-mail addresses, and no [smtp] says how to reach them".to_owned(),
            );
        }
        if let Some(smtp) = &self.smtp {
            if let Err(error) = smtp.sender.parse::<lettre::message::Mailbox>() {
                return wrong(format!("[smtp] sender `{}` is no e-mail address ({error})", smtp.sender));
            }
            if smtp.user.is_some() != smtp.password_file.is_some() {
                return wrong("[smtp] needs both `user` and `password_file`, or none of them".to_owned());
            }
            if smtp.user.is_some() && smtp.encryption == Encryption::None {
                return wrong("[smtp] would send a password unencrypted: use `starttls` or `tls`".to_owned());
            }
        }
        for webhook in &self.webhooks {
            if webhook.url.is_some() == webhook.url_file.is_some() {
                return wrong(format!("webhook `{}` needs `url` or `url_file`, and not both", webhook.name));
            }
            if let Some(url) = &webhook.url {
                reqwest::Url::parse(url).map_err(|error| {
                    Error::Config(format!("webhook `{}`: `{url}` is no address ({error})", webhook.name))
                })?;
            }
        }
        Ok(())
    }

    /// The time zone of a recipient.
    ///
    /// # Errors
    /// Where the system's time zones have gone since it was checked.
    pub fn zone_of(&self, recipient: Option<&Recipient>) -> Result<TimeZone, Error> {
        zone(recipient.and_then(|one| one.time_zone.as_deref()).unwrap_or(&self.time_zone))
    }
}

fn zone(name: &str) -> Result<TimeZone, Error> {
    TimeZone::get(name)
        .map_err(|_| Error::Config(format!("there is no time zone `{name}`; write it as in `Europe/Berlin`")))
}

/// The content of a file that holds one secret.
pub(crate) fn secret(base: &Path, path: &Path) -> Result<String, Error> {
    let path = base.join(path);
    let text = std::fs::read_to_string(&path).map_err(|source| Error::Read { path, source })?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
        time_zone = "Europe/Berlin"
        confirm_url = "https://cloud.example.org"
        [smtp]
        host = "mail.example.org"
        sender = "Cloud operations <ops@example.org>"
        user = "volutus"
        password_file = "smtp-password"
        [[recipient]]
        name = "team-a"
        email = ["a@example.org"]
        projects = ["p1"]
        time_zone = "America/New_York"
        [[webhook]]
        name = "chat"
        url = "https://chat.example.org/hook"
        shape = "slack"
        moments = ["start", "halted"]
    "#;

    #[test]
    fn a_whole_file_is_read() {
        let config = Config::parse(WHOLE).unwrap();
        assert_eq!(config.recipients[0].moments, of_users());
        assert_eq!(config.webhooks[0].shape, Shape::Slack);
        let zone = config.zone_of(config.recipients.first()).unwrap();
        assert_eq!(zone.iana_name(), Some("America/New_York"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (old, new, says) in [
            ("a@example.org", "a example org", "is no e-mail address"),
            ("https://cloud", "http://cloud", "has to be `https://HOST`"),
            ("Europe/Berlin", "Europe/Bonn", "no time zone `Europe/Bonn`"),
            ("name = \"chat\"", "name = \"team-a\"", "two are called `team-a`"),
            ("user = \"volutus\"", "", "both `user` and `password_file`"),
            (
                "password_file = \"smtp-password\"",
                "encryption = \"none\"\npassword_file = \"x\"",
                "unencrypted",
            ),
            ("url = \"https://chat.example.org/hook\"", "", "needs `url` or `url_file`"),
            ("https://chat.example.org/hook", "chat", "is no address"),
            ("\"halted\"", "\"never\"", "unknown variant"),
            ("shape", "shap", "unknown field"),
        ] {
            let text = WHOLE.replace(old, new);
            assert_ne!(text, WHOLE, "{old} is in the file");
            let error = Config::parse(&text).unwrap_err().to_string();
            assert!(error.contains(says), "{old} -> {new}: {error}");
        }
    }

    #[test]
    fn recipients_need_a_server() {
        let error = Config::parse("[[recipient]]\nname = \"a\"\nemail = [\"a@b.c\"]").unwrap_err();
        assert!(error.to_string().contains("no [smtp]"), "{error}");
    }
}
