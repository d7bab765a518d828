//! OpenStack releases: one virtual environment per series, built once per machine from the lock
//! file that the lab ships.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::{Cmd, failure, retried};
use crate::error::{Error, IoContext as _, Result};
use crate::paths::{self, Lock};
use crate::progress::{Progress, step};
use crate::setup::DOWNLOAD_ATTEMPTS;

/// Changes to this module that change what is built must change this number.
const RECIPE: u32 = 1;

/// Where the hosts see the releases. Everything inside a release names itself by this path.
pub(crate) const STORE: &str = "/srv/releases";

/// Sub-folder of a release that holds Python's packages.
pub(crate) const SITE: &str = "lib/python3.11/site-packages";

/// One OpenStack series that the lab can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// The series, such as `2025.2`.
    pub series: &'static str,
    lock: &'static str,
}

/// All series, oldest first.
pub const RELEASES: &[Release] = &[
    Release { series: "2025.1", lock: include_str!("../releases/2025.1.lock") },
    Release { series: "2025.2", lock: include_str!("../releases/2025.2.lock") },
    Release { series: "2026.1", lock: include_str!("../releases/2026.1.lock") },
    Release { series: "2026.2", lock: include_str!("../releases/2026.2.lock") },
];

/// Files of the lab's own drivers and where they go in a release.
const DRIVERS: &[(&str, &str)] = &[
    ("nova/virt/volutus_lab.py", include_str!("../python/nova_virt_volutus_lab.py")),
    ("volutus_lab_ml2.py", include_str!("../python/volutus_lab_ml2.py")),
    ("volutus_lab_cinder.py", include_str!("../python/volutus_lab_cinder.py")),
    ("volutus_lab_drivers-1.0.dist-info/METADATA", include_str!("../python/METADATA")),
    ("volutus_lab_drivers-1.0.dist-info/entry_points.txt", include_str!("../python/entry_points.txt")),
];

impl Release {
    /// Looks a series up.
    ///
    /// # Errors
    /// Refuses a series that the lab has no lock file for.
    pub fn find(series: &str) -> Result<Self> {
        RELEASES.iter().copied().find(|release| release.series == series).ok_or_else(|| {
            let known: Vec<&str> = RELEASES.iter().map(|release| release.series).collect();
            Error::refused(
                format!("the lab has no release {series}"),
                format!("choose one of {}", known.join(", ")),
            )
        })
    }

    /// Hash of all that decides what is built.
    pub(crate) fn key(self) -> String {
        let mut hash = blake3::Hasher::new();
        hash.update(format!("{RECIPE}\n").as_bytes());
        hash.update(self.lock.as_bytes());
        for (path, text) in DRIVERS {
            hash.update(path.as_bytes()).update(text.as_bytes());
        }
        hash.finalize().to_hex()[..12].to_owned()
    }

    /// Where the built release lies in the cache.
    pub(crate) fn path(self) -> PathBuf {
        paths::cache_root().join("releases").join(format!("{}-{}", self.series, self.key()))
    }

    /// Builds the release unless the cache has it, and returns its path.
    pub(crate) fn ensure(self, progress: &dyn Progress) -> Result<PathBuf> {
        let path = self.path();
        if path.exists() {
            return Ok(path);
        }
        let name = format!("build release {}", self.series);
        step(progress, &name, || {
            let folder = paths::cache_root().join("releases");
            let lock = folder.join(format!("{}.lock", self.series));
            let _lock = Lock::wait(&lock, progress, &name)?;
            if path.exists() {
                return Ok(path.clone());
            }
            let unfinished = folder.join(format!("{}.new", self.series));
            self.build(&unfinished, &|detail| progress.detail(&name, detail))?;
            paths::rename(&unfinished, &path)?;
            Ok(path.clone())
        })
    }

    fn build(self, target: &Path, tell: &dyn Fn(&str)) -> Result<()> {
        paths::remove_tree(target)?;
        let python = target.join("bin/python3").to_string_lossy().into_owned();
        // The hosts have the same /usr/bin/python3, so the environment works there as well; any
        // other Python on this machine's PATH would not.
        Cmd::new("making a virtual environment", "/usr/bin/python3")
            .args(["-m", "venv"])
            .arg(target)
            .limit(Duration::from_secs(120))
            .run()?;
        let lock = target.join("volutus-lab.lock");
        paths::write(&lock, self.lock, 0o644)?;
        tell("downloading and installing packages");
        retried(DOWNLOAD_ATTEMPTS, || {
            Cmd::new("installing the packages of the release", &python)
                .args(["-m", "pip", "install", "--quiet", "--no-input", "--no-compile"])
                .args(["--disable-pip-version-check", "--no-deps", "--requirement"])
                .arg(&lock)
                .limit(Duration::from_secs(1200))
                .run()
        })?;
        for (path, text) in DRIVERS {
            paths::write(&target.join(SITE).join(path), text, 0o644)?;
        }
        tell("checking that the packages fit together");
        Cmd::new("checking the packages of the release", &python)
            .args(["-m", "pip", "check", "--disable-pip-version-check"])
            .limit(Duration::from_secs(120))
            .run()?;
        tell("compiling");
        self.compile(target, &python)?;
        self.rename_inside(target)
    }

    /// Compiles all modules, because the hosts mount the release read-only and would otherwise
    /// compile them anew at every start of a daemon.
    pub(crate) fn compile(self, target: &Path, python: &str) -> Result<()> {
        let store = format!("{STORE}/{}", self.series);
        let output = Cmd::new("compiling the release", python)
            .args(["-m", "compileall", "-qq", "-j", "2", "-s"])
            .arg(target)
            .args(["-p", &store])
            .arg(target.join("lib"))
            .limit(Duration::from_secs(600))
            .output()?;
        // compileall ends with 1 when any file does not compile, and some packages ship broken
        // files on purpose for their own tests. What matters is that the services did compile.
        for package in ["keystone", "glance", "placement", "nova", "neutron", "cinder"] {
            let compiled = target.join(SITE).join(package).join("__pycache__");
            if !compiled.join("__init__.cpython-311.pyc").exists() {
                let line = format!("{python} -m compileall");
                return Err(failure(format!("compiling {package}"), line, &output));
            }
        }
        Ok(())
    }

    /// Makes the scripts of the release start the Python of the path under which hosts see it.
    fn rename_inside(self, target: &Path) -> Result<()> {
        let store = format!("{STORE}/{}", self.series);
        let built = target.to_string_lossy().into_owned();
        let bin = target.join("bin");
        for entry in fs::read_dir(&bin).on("listing", &bin)? {
            let path = entry.on("listing", &bin)?.path();
            if path.is_symlink() {
                continue;
            }
            // Binaries have no shebang to change.
            let Ok(text) = fs::read_to_string(&path) else { continue };
            if text.contains(&built) {
                paths::write(&path, text.replace(&built, &store), 0o755)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lock_pins_every_package_once() {
        for release in RELEASES {
            let mut names = std::collections::BTreeSet::new();
            for line in release.lock.lines().filter(|line| !line.starts_with('#')) {
                let (name, version) = line.split_once("==").expect("name==version");
                assert!(!version.is_empty(), "{line}");
                assert!(names.insert(name.to_ascii_lowercase()), "{line}");
            }
            for service in ["keystone", "glance", "openstack-placement", "nova", "neutron", "cinder"] {
                assert!(names.contains(service), "{service} in {}", release.series);
            }
        }
    }

    #[test]
    fn an_unknown_series_is_refused_with_the_known_ones() {
        let error = Release::find("2031.1").expect_err("unknown");
        assert_eq!(error.hint(), "choose one of 2025.1, 2025.2, 2026.1, 2026.2");
    }

    #[test]
    fn keys_tell_releases_apart() {
        let keys: std::collections::BTreeSet<_> = RELEASES.iter().map(|r| r.key()).collect();
        assert_eq!(keys.len(), RELEASES.len());
    }
}
