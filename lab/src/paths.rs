//! Where the lab keeps things: a cache that survives labs, and the state of each lab.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, IoContext as _, Result};
use crate::progress::Progress;
use crate::topology::check_name;

/// Environment variable that moves the cache.
pub const CACHE_VARIABLE: &str = "VOLUTUS_LAB_CACHE";
/// Environment variable that moves the state of the labs.
pub const STATE_VARIABLE: &str = "VOLUTUS_LAB_STATE";

fn root(variable: &str, default: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(value) if !value.is_empty() => PathBuf::from(value),
        _ => PathBuf::from(default),
    }
}

/// Folder with base file systems, releases and schemas. Deleting it costs time, nothing else.
pub fn cache_root() -> PathBuf {
    root(CACHE_VARIABLE, "/var/cache/volutus-lab")
}

/// Folder with one folder for every lab.
pub fn state_root() -> PathBuf {
    root(STATE_VARIABLE, "/var/lib/volutus-lab")
}

/// The files of one lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    root: PathBuf,
    name: String,
}

impl StateDir {
    /// The folder of the lab with this name, whether it exists or not.
    ///
    /// # Errors
    /// Refuses a name that is no plain folder name.
    pub fn of(name: &str) -> Result<Self> {
        check_name("the lab", name, 20)?;
        Ok(Self { root: state_root(), name: name.to_owned() })
    }

    /// Name of the lab.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The folder itself.
    pub fn path(&self) -> PathBuf {
        self.root.join(&self.name)
    }
    /// Description of the cloud for Volutus.
    pub fn cloud_toml(&self) -> PathBuf {
        self.path().join("cloud.toml")
    }
    /// Credentials of operator and prober.
    pub fn clouds_yaml(&self) -> PathBuf {
        self.path().join("clouds.yaml")
    }
    /// Private key that every host accepts for root.
    pub fn identity_file(&self) -> PathBuf {
        self.path().join("id_ed25519")
    }
    /// Host keys of all hosts.
    pub fn known_hosts(&self) -> PathBuf {
        self.path().join("known_hosts")
    }
    pub(crate) fn record(&self) -> PathBuf {
        self.path().join("lab.toml")
    }
    pub(crate) fn shared(&self) -> PathBuf {
        self.path().join("shared")
    }
    pub(crate) fn host(&self, host: &str) -> PathBuf {
        self.path().join("hosts").join(host)
    }
    /// The lock that `up` and `down` of this lab take. It lies beside the folder, so that it can
    /// be held while the folder is removed.
    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join(format!(".{}.lock", self.name))
    }
}

/// A lock between processes; released when it is dropped or its process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, and says so when it has to wait for another process.
    pub(crate) fn wait(path: &Path, progress: &dyn Progress, why: &str) -> Result<Self> {
        let file = Self::open(path)?;
        if file.try_lock().is_err() {
            progress.detail(why, "waiting for another volutus-lab");
            file.lock().on("locking", path)?;
        }
        Ok(Self { _file: file })
    }

    /// Takes the lock or refuses.
    pub(crate) fn now(path: &Path, what: &str) -> Result<Self> {
        let file = Self::open(path)?;
        file.try_lock().map_err(|_| {
            Error::refused(format!("another volutus-lab is working on {what}"), "wait until it has ended")
        })?;
        Ok(Self { _file: file })
    }

    fn open(path: &Path) -> Result<File> {
        if let Some(parent) = path.parent() {
            create_dir(parent)?;
        }
        OpenOptions::new().create(true).truncate(false).write(true).open(path).on("opening", path)
    }
}

pub(crate) fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).on("creating the folder", path)
}

pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).on("reading", path)
}

/// Writes a file and its folder, with the given permissions from the first byte on.
pub(crate) fn write(path: &Path, text: impl AsRef<[u8]>, mode: u32) -> Result<()> {
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(mode)
        .open(path)
        .on("creating", path)?;
    // The mode above holds for new files only.
    file.set_permissions(fs::Permissions::from_mode(mode)).on("setting permissions of", path)?;
    file.write_all(text.as_ref()).on("writing", path)
}

/// Writes a file in one move, so that a crash leaves the old text or the new.
pub(crate) fn replace(path: &Path, text: impl AsRef<[u8]>, mode: u32) -> Result<()> {
    let unfinished = path.with_extension("new");
    write(&unfinished, text, mode)?;
    fs::rename(&unfinished, path).on("replacing", path)
}

pub(crate) fn symlink(target: &str, link: &Path) -> Result<()> {
    if let Some(parent) = link.parent() {
        create_dir(parent)?;
    }
    match fs::remove_file(link) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).on("replacing", link),
    }
    std::os::unix::fs::symlink(target, link).on("linking", link)
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).on("renaming to", to)
}

/// Removes a file. One that is not there is fine.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).on("removing", path),
        _ => Ok(()),
    }
}

pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).on("removing", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_refused_to_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.lock");
        let held = Lock::now(&path, "x").expect("free");
        assert_eq!(Lock::now(&path, "x").expect_err("held").kind(), "refused");
        drop(held);
        Lock::now(&path, "x").expect("free again");
    }

    #[test]
    fn replace_leaves_no_unfinished_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lab.toml");
        replace(&path, "one", 0o600).expect("written");
        replace(&path, "two", 0o600).expect("written");
        assert_eq!(read(&path).expect("read"), "two");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
