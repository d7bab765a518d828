//! clouds.yaml, as OpenStack's own clients read it.

use std::fs;
use std::path::{Path, PathBuf};

use reqwest::Url;
use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::error::Error;

/// The largest clouds.yaml that is read; real ones are a few kilobytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// One entry of a clouds.yaml: where a cloud is, and as whom to speak to it.
/// Source: openstacksdk, "Configuring OpenStack SDK Applications".
#[derive(Debug, Clone)]
pub struct CloudConfig {
    /// The entry's name.
    pub entry: String,
    /// The file it is from.
    pub file: PathBuf,
    /// Keystone's address, as published (with or without `/v3`).
    pub auth_url: Url,
    /// As whom.
    pub auth: Auth,
    /// For what.
    pub scope: Scope,
    /// The region; the first one that the catalog has where absent.
    pub region: Option<String>,
    /// Which of the catalog's addresses are used: public, internal or admin.
    pub interface: String,
    /// Whether certificates are verified.
    pub verify: bool,
    /// A file of certificates that are trusted besides the system's.
    pub cacert: Option<PathBuf>,
}

/// As whom to authenticate. Secrets never show in `Debug`.
#[derive(Debug, Clone)]
pub enum Auth {
    /// A user with a password.
    Password {
        /// The user's name.
        username: String,
        /// The user's domain.
        user_domain: Domain,
        /// The password.
        password: SecretString,
    },
    /// An application credential by its id.
    ApplicationCredentialId {
        /// Its id.
        id: String,
        /// Its secret.
        secret: SecretString,
    },
    /// An application credential by its name and user.
    ApplicationCredentialName {
        /// Its name.
        name: String,
        /// The name of its user.
        username: String,
        /// The domain of that user.
        user_domain: Domain,
        /// Its secret.
        secret: SecretString,
    },
}

/// What a token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// What the application credential is for.
    OfCredential,
    /// A project by name.
    ProjectName {
        /// Its name.
        name: String,
        /// Its domain.
        domain: Domain,
    },
    /// A project by id.
    ProjectId(String),
}

/// A keystone domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Domain {
    /// By id.
    Id(String),
    /// By name.
    Name(String),
}

impl CloudConfig {
    /// Reads the entry `entry` of the clouds.yaml at `path`; where `path` is `None`, of the
    /// first one found in the usual places: `$OS_CLIENT_CONFIG_FILE`, the working directory,
    /// `~/.config/openstack`, `/etc/openstack`. A `secure.yaml` beside it adds what it has.
    ///
    /// # Errors
    /// [`Error::NoConfig`] where there is no file, [`Error::Config`] where it cannot be read,
    /// has no such entry (the known ones are named), or the entry lacks something. No message
    /// quotes the file, because there are passwords in it.
    pub fn load(path: Option<&Path>, entry: &str) -> Result<Self, Error> {
        let file = match path {
            Some(path) => path.to_owned(),
            None => find_file(entry)?,
        };
        let refuse = |why: String| Error::Config { file: file.clone(), entry: entry.to_owned(), why };
        let mut clouds = read_clouds(&file).map_err(refuse)?;
        let secure = file.with_file_name("secure.yaml");
        if secure.is_file() {
            let more = read_clouds(&secure).map_err(|why| refuse(format!("secure.yaml beside it: {why}")))?;
            merge(&mut clouds, more);
        }
        let known: Vec<&str> = clouds.keys().map(String::as_str).collect();
        let Some(settings) = clouds.get(entry).and_then(Value::as_object) else {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(refuse(format!("there is no such entry; the file has: {known}")));
        };
        Self::from_settings(&file, entry, settings).map_err(refuse)
    }

    fn from_settings(file: &Path, entry: &str, settings: &Map<String, Value>) -> Result<Self, String> {
        let empty = Map::new();
        let auth_settings = match settings.get("auth") {
            Some(auth) => auth.as_object().ok_or("`auth` is not a mapping")?,
            None => &empty,
        };
        let auth_url = text(auth_settings, "auth_url")?.ok_or(
            "auth.auth_url is missing (entries that only name a `profile` or `vendor` are not supported)",
        )?;
        let auth_url =
            Url::parse(&auth_url).map_err(|error| format!("auth.auth_url `{auth_url}`: {error}"))?;
        if !matches!(auth_url.scheme(), "http" | "https") {
            return Err(format!("auth.auth_url `{auth_url}` is neither http nor https"));
        }
        let (auth, scope) = read_auth(settings, auth_settings)?;
        let mut verify = flag(settings, "verify")?.unwrap_or(true);
        if flag(settings, "insecure")?.unwrap_or(false) {
            verify = false;
        }
        let folder = file.parent().unwrap_or(Path::new("."));
        let cacert = text(settings, "cacert")?.map(|path| folder.join(path));
        if let Some(path) = &cacert
            && !path.is_file()
        {
            return Err(format!("cacert {} is not a file", path.display()));
        }
        let interface = text(settings, "interface")?
            .or(text(settings, "endpoint_type")?)
            .unwrap_or_else(|| "public".to_owned());
        let interface = interface.trim_end_matches("URL").to_owned();
        if !matches!(interface.as_str(), "public" | "internal" | "admin") {
            return Err(format!("interface `{interface}` is none of public, internal, admin"));
        }
        Ok(Self {
            entry: entry.to_owned(),
            file: file.to_owned(),
            auth_url,
            auth,
            scope,
            region: text(settings, "region_name")?.filter(|region| !region.is_empty()),
            interface,
            verify,
            cacert,
        })
    }

    /// User and scope in a few words, without secrets, for messages.
    #[must_use]
    pub fn who(&self) -> String {
        let user = match &self.auth {
            Auth::Password { username, user_domain, .. } => {
                format!("user {username} of domain {}", user_domain.as_str())
            }
            Auth::ApplicationCredentialId { id, .. } => format!("application credential {id}"),
            Auth::ApplicationCredentialName { name, username, .. } => {
                format!("application credential {name} of user {username}")
            }
        };
        match &self.scope {
            Scope::OfCredential => user,
            Scope::ProjectName { name, .. } => format!("{user} for project {name}"),
            Scope::ProjectId(id) => format!("{user} for project {id}"),
        }
    }
}

impl Domain {
    /// The id or the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Id(text) | Self::Name(text) => text,
        }
    }
}

fn find_file(entry: &str) -> Result<PathBuf, Error> {
    let mut places: Vec<PathBuf> = Vec::new();
    if let Some(file) = std::env::var_os("OS_CLIENT_CONFIG_FILE") {
        places.push(file.into());
    }
    places.push("clouds.yaml".into());
    if let Some(home) = std::env::home_dir() {
        places.push(home.join(".config/openstack/clouds.yaml"));
    }
    places.push("/etc/openstack/clouds.yaml".into());
    match places.iter().find(|place| place.is_file()) {
        Some(place) => Ok(place.clone()),
        None => Err(Error::NoConfig {
            entry: entry.to_owned(),
            searched: places.iter().map(|place| place.display().to_string()).collect(),
        }),
    }
}

/// The `clouds` of a file, by entry.
fn read_clouds(file: &Path) -> Result<Map<String, Value>, String> {
    let size = fs::metadata(file).map_err(|error| format!("the file cannot be read: {error}"))?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("the file has {size} bytes; a clouds.yaml is never that large"));
    }
    let yaml = fs::read_to_string(file).map_err(|error| format!("the file cannot be read: {error}"))?;
    // The parser's own messages would quote the lines around a mistake, passwords included.
    let options = serde_saphyr::options! { with_snippet: false };
    let mut whole: Value = serde_saphyr::from_str_with_options(&yaml, options).map_err(|error| {
        let place = error.location().map(|at| format!("line {}, column {}: ", at.line(), at.column()));
        format!("{}it is not YAML that makes sense", place.unwrap_or_default())
    })?;
    match whole.get_mut("clouds").map(Value::take) {
        Some(Value::Object(clouds)) => Ok(clouds),
        Some(_) => Err("`clouds` is not a mapping".to_owned()),
        None => Err("the file has no `clouds`".to_owned()),
    }
}

/// Adds what `more` has, mapping by mapping; what both have is taken from `more`.
fn merge(base: &mut Map<String, Value>, more: Map<String, Value>) {
    for (key, value) in more {
        match (base.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn read_auth(settings: &Map<String, Value>, auth: &Map<String, Value>) -> Result<(Auth, Scope), String> {
    let kind = text(settings, "auth_type")?.unwrap_or_else(|| {
        let credential = auth.keys().any(|key| key.starts_with("application_credential"));
        if credential { "v3applicationcredential".to_owned() } else { "password".to_owned() }
    });
    let need = |key: &str| text(auth, key)?.ok_or_else(|| format!("auth.{key} is missing"));
    let user_domain = domain(auth, "user_domain")?;
    match kind.as_str() {
        "password" | "v3password" => {
            let scope = match text(auth, "project_id")? {
                Some(id) => Scope::ProjectId(id),
                None => Scope::ProjectName {
                    name: text(auth, "project_name")?
                        .or(text(auth, "tenant_name")?)
                        .ok_or("auth.project_name is missing")?,
                    domain: domain(auth, "project_domain")?,
                },
            };
            let password = SecretString::from(need("password")?);
            Ok((Auth::Password { username: need("username")?, user_domain, password }, scope))
        }
        "v3applicationcredential" => {
            let secret = SecretString::from(need("application_credential_secret")?);
            let auth = match text(auth, "application_credential_id")? {
                Some(id) => Auth::ApplicationCredentialId { id, secret },
                None => Auth::ApplicationCredentialName {
                    name: need("application_credential_name")?,
                    username: need("username")?,
                    user_domain,
                    secret,
                },
            };
            Ok((auth, Scope::OfCredential))
        }
        other => {
            Err(format!("auth_type `{other}` is not supported; use password or v3applicationcredential"))
        }
    }
}

/// A domain given as `PREFIX_id` or `PREFIX_name`, or for user and project together as
/// `domain_id` or `domain_name`; keystone's own default domain where absent.
fn domain(auth: &Map<String, Value>, prefix: &str) -> Result<Domain, String> {
    for prefix in [prefix, "domain"] {
        if let Some(id) = text(auth, &format!("{prefix}_id"))? {
            return Ok(Domain::Id(id));
        }
        if let Some(name) = text(auth, &format!("{prefix}_name"))? {
            return Ok(Domain::Name(name));
        }
    }
    Ok(Domain::Id("default".to_owned()))
}

/// A scalar as text: YAML reads `password: 12345` as a number, and it is meant as text.
fn text(settings: &Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match settings.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(Value::Bool(value)) => Ok(Some(value.to_string())),
        Some(Value::Array(_) | Value::Object(_)) => Err(format!("`{key}` is not a single value")),
    }
}

fn flag(settings: &Map<String, Value>, key: &str) -> Result<Option<bool>, String> {
    match text(settings, key)?.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None => Ok(None),
        Some("true" | "yes" | "on" | "1") => Ok(Some(true)),
        Some("false" | "no" | "off" | "0") => Ok(Some(false)),
        Some(_) => Err(format!("`{key}` is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn load(yaml: &str, entry: &str) -> Result<CloudConfig, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clouds.yaml");
        fs::write(&file, yaml).unwrap();
        CloudConfig::load(Some(&file), entry)
            .map_err(|error| error.to_string().replace(&folder.path().display().to_string(), "DIR"))
    }

    const GOOD: &str = "
clouds:
  lab-admin:
    auth:
      auth_url: http://198.18.0.10:5000/v3
      username: admin
      password: 12345
      project_name: admin
      user_domain_name: Default
      project_domain_id: default
    region_name: RegionOne
    interface: internalURL
    verify: false
  ci:
    auth_type: v3applicationcredential
    auth:
      auth_url: https://cloud.example:5000
      application_credential_id: abc
      application_credential_secret: hush
";

    #[test]
    fn a_password_entry_is_read() {
        let config = load(GOOD, "lab-admin").unwrap();
        assert_eq!(config.who(), "user admin of domain Default for project admin");
        assert_eq!(config.region.as_deref(), Some("RegionOne"));
        assert_eq!(config.interface, "internal");
        assert!(!config.verify);
        let Auth::Password { password, .. } = &config.auth else { panic!("{config:?}") };
        assert_eq!(password.expose_secret(), "12345");
        assert!(!format!("{config:?}").contains("12345"));
    }

    #[test]
    fn an_application_credential_needs_no_scope() {
        let config = load(GOOD, "ci").unwrap();
        assert_eq!(config.scope, Scope::OfCredential);
        assert_eq!(config.interface, "public");
        assert!(!format!("{config:?}").contains("hush"));
    }

    #[test]
    fn what_is_wrong_is_said_with_file_and_entry() {
        insta::assert_snapshot!(load(GOOD, "lab").unwrap_err(), @"cloud entry `lab` of DIR/clouds.yaml: there is no such entry; the file has: ci, lab-admin");
        insta::assert_snapshot!(load("clouds:\n  a:\n    auth: {username: x}\n", "a").unwrap_err(), @"cloud entry `a` of DIR/clouds.yaml: auth.auth_url is missing (entries that only name a `profile` or `vendor` are not supported)");
        insta::assert_snapshot!(load("clouds:\n  a:\n    auth: {auth_url: 'http://h', username: x, project_name: p}\n", "a").unwrap_err(), @"cloud entry `a` of DIR/clouds.yaml: auth.password is missing");
        insta::assert_snapshot!(load("other: 1\n", "a").unwrap_err(), @"cloud entry `a` of DIR/clouds.yaml: the file has no `clouds`");
    }

    #[test]
    fn a_mistake_in_the_file_is_placed_without_quoting_it() {
        let message = load("clouds:\n  a:\n    auth: {password: hush\n  b: [\n", "a").unwrap_err();
        assert!(message.contains("line "), "{message}");
        assert!(!message.contains("hush"), "{message}");
    }

    #[test]
    fn secure_yaml_beside_it_adds_the_password() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clouds.yaml");
        let open = "clouds: {a: {auth: {auth_url: 'http://h', username: u, project_name: p}}}";
        fs::write(&file, open).unwrap();
        fs::write(folder.path().join("secure.yaml"), "clouds: {a: {auth: {password: s}}}").unwrap();
        let config = CloudConfig::load(Some(&file), "a").unwrap();
        assert!(matches!(config.auth, Auth::Password { .. }));
    }
}
