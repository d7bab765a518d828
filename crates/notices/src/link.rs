//! Links by which owners answer: signed, so that whoever holds one may answer for that project and plan and for
//! nothing else, and nobody can make one.

use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The file of the state directory that holds the key: 32 random bytes. Without it all links are void.
const FILE: &str = "confirm.key";
/// Bytes of the key: as many as SHA-256 has, which RFC 2104 recommends.
const KEY_LEN: usize = 32;
/// What is signed begins with it, so that a signature for something else is never one for a link.
const PURPOSE: &[u8] = b"volutus confirmation 1\n";
/// The longest token that is looked at. Names of clouds and ids take some hundred bytes.
const TOKEN_MAX: usize = 2_048;

/// What a link is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The cloud.
    pub cloud: String,
    /// The plan that was announced.
    pub plan: String,
    /// Whose instances are asked about: the id of a project.
    pub project: String,
    /// When it is announced to begin; from then on it is too late to answer.
    pub begins: Timestamp,
}

/// What signs links, and says of a link whether it signed it.
pub struct Key(hmac::Key);

impl Key {
    /// The key of a state directory; `None` where none was ever made.
    ///
    /// # Errors
    /// [`Error::Read`] where it cannot be read, or is not one.
    pub fn read(state: &Path) -> Result<Option<Self>, Error> {
        let path = state.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) if bytes.len() == KEY_LEN => Ok(Some(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))),
            Ok(bytes) => {
                let what = format!(
                    "it has {} bytes instead of {KEY_LEN}; delete it, which voids all links",
                    bytes.len()
                );
                Err(Error::Read { path, source: io::Error::other(what) })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Read { path, source }),
        }
    }

    /// The same, and where there is none, one is made for good.
    ///
    /// # Errors
    /// As [`Key::read`]; [`Error::Key`] where it cannot be made.
    pub fn make(state: &Path) -> Result<Self, Error> {
        if let Some(key) = Self::read(state)? {
            return Ok(key);
        }
        let path = state.join(FILE);
        let written = || -> io::Result<()> {
            let mut bytes = [0; KEY_LEN];
            SystemRandom::new()
                .fill(&mut bytes)
                .map_err(|_| io::Error::other("no random bytes are to be had"))?;
            let mut file = tempfile::NamedTempFile::new_in(state)?;
            file.as_file().set_permissions(std::fs::Permissions::from_mode(0o600))?;
            file.write_all(&bytes)?;
            file.as_file().sync_all()?;
            match file.persist_noclobber(&path) {
                Ok(_) => std::fs::File::open(state)?.sync_all(),
                // Another process was first, and its key holds.
                Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                Err(error) => Err(error.error),
            }
        };
        written().map_err(|source| Error::Key { path: path.clone(), source })?;
        let gone = || Error::Key { path, source: io::Error::other("it was deleted right after it was made") };
        Self::read(state)?.ok_or_else(gone)
    }

    /// The token of a link: what it is for and the signature, in characters that need no escaping in a path.
    #[must_use]
    pub fn sign(&self, link: &Link) -> String {
        let said = serde_json::to_vec(link).unwrap_or_default();
        let said = BASE64.encode(said);
        let tag = hmac::sign(&self.0, &signed(&said));
        format!("{said}.{}", BASE64.encode(tag))
    }

    /// What a token is for; `None` where this key did not sign it, letter for letter.
    #[must_use]
    pub fn verify(&self, token: &str) -> Option<Link> {
        if token.len() > TOKEN_MAX {
            return None;
        }
        let (said, tag) = token.split_once('.')?;
        // In constant time; nothing of what is said is read before.
        hmac::verify(&self.0, &signed(said), &BASE64.decode(tag).ok()?).ok()?;
        serde_json::from_slice(&BASE64.decode(said).ok()?).ok()
    }
}

fn signed(said: &str) -> Vec<u8> {
    [PURPOSE, said.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_nobody_elses_business() {
        let state = tempfile::tempdir().unwrap();
        assert!(Key::read(state.path()).unwrap().is_none());
        let link = Link {
            cloud: "north".to_owned(),
            plan: "p".to_owned(),
            project: "team".to_owned(),
            begins: Timestamp::UNIX_EPOCH,
        };
        let token = Key::make(state.path()).unwrap().sign(&link);
        let again = Key::make(state.path()).unwrap();
        assert_eq!(again.verify(&token), Some(link));
        let mode = std::fs::metadata(state.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 1, "nothing else is left");

        let other = tempfile::tempdir().unwrap();
        assert_eq!(Key::make(other.path()).unwrap().verify(&token), None, "another key");
        std::fs::write(other.path().join(FILE), "short").unwrap();
        assert!(Key::make(other.path()).is_err());
        // Every letter counts.
        for at in 0..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert_eq!(again.verify(&altered), None, "{altered}");
        }
        let (said, tag) = token.split_once('.').unwrap();
        for wrong in ["", ".", said, tag, &format!("{token}="), &format!("{said}."), &"x.".repeat(2_000)] {
            assert_eq!(again.verify(wrong), None, "{wrong}");
        }
    }
}
