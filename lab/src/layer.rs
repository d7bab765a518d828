//! What a lab with a real data plane lays over a release: libvirt's Python binding.
//!
//! A release is built without it, because labs without guests need it not and must not be built
//! anew for it. The binding is one compiled module that fits all series, because all run under
//! the same Python; hosts see release and binding as one folder, by an overlay.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::{Cmd, retried};
use crate::error::Result;
use crate::paths::{self, Lock, StateDir};
use crate::progress::{Progress, step};
use crate::release::SITE;
use crate::setup::DOWNLOAD_ATTEMPTS;

/// Changes to this module that change what is built must change this number.
const RECIPE: u32 = 1;

/// Version of the binding; it works with every libvirt since 0.9.11.
const LOCK: &str = include_str!("../releases/libvirt.lock");

/// Where the built binding lies in the cache.
fn cached() -> PathBuf {
    let key = blake3::hash(format!("{RECIPE}\n{LOCK}").as_bytes());
    paths::cache_root().join(format!("libvirt-python-{}", &key.to_hex()[..12]))
}

/// Builds the binding unless the cache has it, and returns its path.
pub(crate) fn ensure(progress: &dyn Progress) -> Result<PathBuf> {
    let path = cached();
    if path.exists() {
        return Ok(path);
    }
    let name = "build libvirt's Python binding";
    step(progress, name, || {
        let cache = paths::cache_root();
        let _lock = Lock::wait(&cache.join("libvirt-python.lock"), progress, name)?;
        if path.exists() {
            return Ok(path.clone());
        }
        let unfinished = cache.join("libvirt-python.new");
        paths::remove_tree(&unfinished)?;
        let lock = unfinished.join("libvirt.lock");
        paths::write(&lock, LOCK, 0o644)?;
        let builder = unfinished.join("builder");
        Cmd::new("making a virtual environment", "/usr/bin/python3")
            .args(["-m", "venv"])
            .arg(&builder)
            .limit(Duration::from_secs(180))
            .run()?;
        let python = builder.join("bin/python3").to_string_lossy().into_owned();
        retried(DOWNLOAD_ATTEMPTS, || {
            Cmd::new("building libvirt's Python binding", &python)
                .args(["-m", "pip", "install", "--quiet", "--no-input", "--no-deps"])
                .args(["--disable-pip-version-check", "--requirement"])
                .arg(&lock)
                .arg("--target")
                .arg(unfinished.join("release").join(SITE))
                .limit(Duration::from_secs(900))
                .run()
        })?;
        paths::remove_tree(&builder)?;
        paths::rename(&unfinished, &path)?;
        Ok(path.clone())
    })
}

/// Lays the binding over releases, for one lab, and returns where they are now.
pub(crate) fn mount(
    state: &StateDir,
    layer: &Path,
    releases: &[(String, PathBuf)],
) -> Result<Vec<(String, PathBuf)>> {
    let mut laid = Vec::new();
    for (series, release) in releases {
        let point = state.path().join("releases").join(series);
        paths::create_dir(&point)?;
        let options = format!("lowerdir={}:{}", layer.join("release").display(), release.display());
        Cmd::new(format!("laying libvirt's Python binding over {series}"), "mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(&point)
            .run()?;
        laid.push((series.clone(), point));
    }
    Ok(laid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binding_is_pinned() {
        let lines: Vec<&str> = LOCK.lines().collect();
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("libvirt-python=="), "{LOCK}");
    }
}
