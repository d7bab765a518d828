//! What the lab writes down about itself before it makes anything, so that everything can be
//! found again.

use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, IoContext as _, Result};
use crate::paths::{self, StateDir};
use crate::topology::{Host, Options, Role, plan_hosts};

/// How far a lab is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Being made, or left half way.
    Making,
    /// Made and populated.
    Ready,
}

/// The lab's own description, `lab.toml` in its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this file's format.
    pub format: u32,
    /// How far the lab is.
    pub phase: Phase,
    /// Third byte of the lab's network, and the number that names all it has on the machine.
    pub subnet: u8,
    /// The one password of all its users; made for this lab alone.
    pub password: String,
    /// What was asked for.
    pub options: Options,
    /// Its hosts, infrastructure first.
    pub hosts: Vec<Host>,
}

const FORMAT: u32 = 1;

impl Record {
    pub(crate) fn new(options: Options, subnet: u8, password: String) -> Result<Self> {
        let hosts = plan_hosts(&options, subnet)?;
        Ok(Self { format: FORMAT, phase: Phase::Making, subnet, password, options, hosts })
    }

    pub(crate) fn load(state: &StateDir) -> Result<Self> {
        let path = state.record();
        if !path.exists() {
            return Err(Error::refused(
                format!("there is no lab named {}", state.name()),
                format!(
                    "bring it up with `volutus-lab up --name {}`, or see `volutus-lab list`",
                    state.name()
                ),
            ));
        }
        let record: Self = toml::from_str(&paths::read(&path)?)
            .map_err(|error| Error::Damaged { path: path.clone(), seen: error.to_string() })?;
        if record.format != FORMAT {
            let seen = format!("format {} instead of {FORMAT}", record.format);
            return Err(Error::Damaged { path, seen });
        }
        Ok(record)
    }

    pub(crate) fn save(&self, state: &StateDir) -> Result<()> {
        let path = state.record();
        let text = toml::to_string(self)
            .map_err(|error| Error::Damaged { path: path.clone(), seen: error.to_string() })?;
        paths::replace(&path, text, 0o600)
    }

    /// The infrastructure host.
    pub fn infra(&self) -> &Host {
        // plan_hosts puts it first, and a lab without it cannot be planned.
        &self.hosts[0]
    }

    /// The hosts with a role.
    pub fn hosts_with(&self, role: Role) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(move |host| host.role == role)
    }

    /// Looks a host up.
    ///
    /// # Errors
    /// Refuses a name that no host has, and lists those that exist.
    pub fn host(&self, name: &str) -> Result<&Host> {
        self.hosts.iter().find(|host| host.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.hosts.iter().map(|host| host.name.as_str()).collect();
            Error::refused(
                format!("the lab {} has no host {name}", self.options.name),
                format!("choose one of {}", known.join(", ")),
            )
        })
    }
}

/// Bytes from the system's source of randomness.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; N];
    let mut file = std::fs::File::open(path).on("opening", path)?;
    file.read_exact(&mut bytes).on("reading", path)?;
    Ok(bytes)
}

/// Base64 with the alphabet for URLs, as Fernet keys have it.
pub(crate) fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
        let group = group << (8 * (3 - chunk.len()));
        for position in 0..4 {
            let index = (group >> (18 - 6 * position) & 63) as usize;
            text.push(if position <= chunk.len() { char::from(ALPHABET[index]) } else { '=' });
        }
    }
    text
}

/// A new password of letters and digits only, so that it needs no quoting in URLs and files.
pub(crate) fn new_password() -> Result<String> {
    Ok(random_bytes::<12>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_pads_like_the_standard() {
        assert_eq!(base64url(b"f"), "Zg==");
        assert_eq!(base64url(b"fo"), "Zm8=");
        assert_eq!(base64url(b"foobar"), "Zm9vYmFy");
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8=");
    }

    #[test]
    fn a_record_survives_its_file() {
        let record = Record::new(Options::default(), 7, "secret".into()).expect("valid");
        let text = toml::to_string(&record).expect("written");
        assert_eq!(toml::from_str::<Record>(&text).expect("read"), record);
    }

    #[test]
    fn an_unknown_host_is_refused_with_the_known_ones() {
        let record = Record::new(Options::default(), 7, "secret".into()).expect("valid");
        assert!(record.host("ctl9").expect_err("unknown").hint().contains("ctl1, ctl2"));
    }
}
