//! Releases in which some packages have other versions than in the lock of their series: one that is
//! vulnerable, and the one that mends it. Each is made of the release in the cache, so that it takes
//! seconds and nothing else differs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::{Cmd, retried};
use crate::error::{Error, IoContext as _, Result};
use crate::paths::{self, Lock};
use crate::progress::{Progress, step};
use crate::release::{Release, STORE};
use crate::setup::DOWNLOAD_ATTEMPTS;

/// Changes to this module that change what is built must change this number.
const RECIPE: u32 = 1;

/// A release with pins of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variant {
    base: Release,
    /// What hosts know it as: the series, or `{series}+{name}`.
    name: String,
    pins: Vec<String>,
}

impl Variant {
    /// The start release with other versions of some packages: `keystone==28.0.1`.
    pub(crate) fn start(base: Release, pins: &[String]) -> Result<Option<Self>> {
        let pins: Vec<String> = pins.iter().map(|pin| pinned(pin)).collect::<Result<_>>()?;
        Ok((!pins.is_empty()).then(|| Self { base, name: base.series.to_owned(), pins }))
    }

    /// A patched release of the series beside it: `cve-2026-42999=keystone==28.0.2,nova==32.2.1`.
    pub(crate) fn patched(base: Release, text: &str) -> Result<Self> {
        let refused = || {
            Error::refused(
                format!("`{text}` names no patched release"),
                "write NAME=PACKAGE==VERSION, with further packages behind commas",
            )
        };
        let (name, pins) = text.split_once('=').ok_or_else(refused)?;
        let fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(fit) {
            return Err(refused());
        }
        let pins = pins.split(',').map(pinned).collect::<Result<_>>()?;
        Ok(Self { base, name: format!("{}+{name}", base.series), pins })
    }

    /// What hosts know it as.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where it lies in the cache.
    pub(crate) fn path(&self) -> PathBuf {
        let mut hash = blake3::Hasher::new();
        hash.update(format!("{RECIPE}\n{}\n{}\n", self.base.key(), self.name).as_bytes());
        for pin in &self.pins {
            hash.update(pin.as_bytes()).update(b"\n");
        }
        let key = &hash.finalize().to_hex()[..12];
        paths::cache_root().join("releases").join(format!("{}-{key}", self.name))
    }

    /// Builds it unless the cache has it; its base is in the cache.
    pub(crate) fn ensure(&self, progress: &dyn Progress) -> Result<PathBuf> {
        let path = self.path();
        if path.exists() {
            return Ok(path);
        }
        let name = format!("build release {} with {}", self.name, self.pins.join(", "));
        step(progress, &name, || {
            let folder = paths::cache_root().join("releases");
            let _lock = Lock::wait(&folder.join(format!("{}.lock", self.name)), progress, &name)?;
            if !path.exists() {
                let unfinished = folder.join(format!("{}.new", self.name));
                self.build(&unfinished)?;
                paths::rename(&unfinished, &path)?;
            }
            Ok(path.clone())
        })
    }

    fn build(&self, target: &Path) -> Result<()> {
        paths::remove_tree(target)?;
        Cmd::new("copying the release of the series", "cp")
            .args(["-a", "--reflink=auto"])
            .arg(self.base.path())
            .arg(target)
            .limit(Duration::from_secs(300))
            .run()?;
        let python = target.join("bin/python3").to_string_lossy().into_owned();
        retried(DOWNLOAD_ATTEMPTS, || {
            Cmd::new("installing the other versions", &python)
                .args(["-m", "pip", "install", "--quiet", "--no-input", "--no-compile"])
                .args(["--disable-pip-version-check", "--no-deps"])
                .args(self.pins.iter().map(String::as_str))
                .limit(Duration::from_secs(600))
                .run()
        })?;
        Cmd::new("checking the packages of the release", &python)
            .args(["-m", "pip", "check", "--disable-pip-version-check"])
            .limit(Duration::from_secs(120))
            .run()?;
        self.base.compile(target, &python)?;
        self.rename_inside(target)
    }

    /// Makes its scripts start the Python of the path under which hosts see it.
    fn rename_inside(&self, target: &Path) -> Result<()> {
        let store = format!("{STORE}/{}/", self.name);
        let (built, base) = (format!("{}/", target.display()), format!("{STORE}/{}/", self.base.series));
        let bin = target.join("bin");
        for entry in fs::read_dir(&bin).on("listing", &bin)? {
            let path = entry.on("listing", &bin)?.path();
            if path.is_symlink() {
                continue;
            }
            // Binaries have no shebang to change.
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let renamed = text.replace(&built, &store).replace(&base, &store);
            if renamed != text {
                paths::write(&path, renamed, 0o755)?;
            }
        }
        Ok(())
    }
}

fn pinned(text: &str) -> Result<String> {
    let fit = |c: char| c.is_ascii_alphanumeric() || "-_.+!".contains(c);
    match text.split_once("==") {
        Some((name, version)) if !name.is_empty() && !version.is_empty() => {
            let all = name.chars().chain(version.chars()).all(fit) && !name.starts_with('-');
            if all {
                return Ok(text.to_owned());
            }
        }
        _ => {}
    }
    Err(Error::refused(format!("`{text}` is no pin"), "write PACKAGE==VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_told_apart() {
        let base = Release::find("2025.2").expect("known");
        let start = Variant::start(base, &["keystone==28.0.1".to_owned()]).expect("fits").expect("pins");
        let patched = Variant::patched(base, "cve-1=keystone==28.0.2,nova==32.2.1").expect("fits");
        assert_eq!((start.name(), patched.name()), ("2025.2", "2025.2+cve-1"));
        assert_eq!(patched.pins, ["keystone==28.0.2", "nova==32.2.1"]);
        let paths = [start.path(), patched.path(), base.path()];
        let different: std::collections::BTreeSet<_> = paths.iter().collect();
        assert_eq!(different.len(), 3);
        assert_eq!(Variant::start(base, &[]).expect("fits"), None);
        for wrong in
            ["cve-1", "=keystone==1", "A=keystone==1", "a=keystone", "a=--index==1", "a/b=keystone==1"]
        {
            assert!(Variant::patched(base, wrong).is_err(), "{wrong}");
        }
    }
}
