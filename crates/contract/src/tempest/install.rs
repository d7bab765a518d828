//! Tempest's own Python environment: made once, of pinned packages, and kept.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use super::run::ended;
use crate::error::Error;

/// Everything that is installed, by exact version.
const REQUIREMENTS: &str = include_str!("requirements.txt");
/// Making the environment: some 60 packages, of which none is compiled on common machines.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(900);
/// Written when the environment is whole.
const COMPLETE: &str = "complete";

/// A Python environment with Tempest.
#[derive(Debug, Clone)]
pub struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// The environment below `cache`, made where it is not there yet, with the `python` of this
    /// machine and with pip as it is configured here. Other requirements make another environment, so
    /// that none is ever changed.
    ///
    /// # Errors
    /// [`Error::Tempest`] where Python, its venv, or a package cannot be had; [`Error::Local`].
    pub async fn ready(cache: &Path, python: &str) -> Result<Self, Error> {
        let local = |doing: &str| {
            let doing = format!("{doing} {}", cache.display());
            move |source| Error::Local { doing, source }
        };
        fs::create_dir_all(cache).map_err(local("making the folder"))?;
        let digest = blake3::hash(REQUIREMENTS.as_bytes()).to_hex();
        let name = format!("tempest-{}-{}", super::VERSION, &digest[..12]);
        let folder = cache.join(&name);
        let lock = File::create(cache.join(format!("{name}.lock"))).map_err(local("making a lock in"))?;
        // Two that begin at once make it once. Waiting blocks a thread for as long as pip works.
        let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await;
        let _held = lock
            .map_err(|error| std::io::Error::other(error.to_string()))
            .flatten()
            .map_err(local("waiting for the lock in"))?;
        let tools = Self { folder };
        if tools.folder.join(COMPLETE).is_file() {
            return Ok(tools);
        }
        tracing::info!("making Tempest's Python environment in {}", tools.folder.display());
        if tools.folder.exists() {
            fs::remove_dir_all(&tools.folder).map_err(local("removing an unfinished environment from"))?;
        }
        let mut venv = Command::new(python);
        venv.args(["-m", "venv"]).arg(&tools.folder);
        step(venv, &format!("making a Python environment with `{python} -m venv`")).await?;
        let list = tools.folder.join("requirements.txt");
        fs::write(&list, REQUIREMENTS).map_err(local("writing the requirements into"))?;
        let mut pip = Command::new(tools.program("python"));
        // The list is whole, so that pip has nothing to choose.
        pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--no-deps", "--requirement"]).arg(&list);
        step(pip, "installing Tempest's pinned packages with pip").await?;
        File::create(tools.folder.join(COMPLETE)).map_err(local("finishing the environment in"))?;
        Ok(tools)
    }

    /// A program of the environment.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    /// Where its programs are.
    pub(crate) fn bin(&self) -> PathBuf {
        self.folder.join("bin")
    }

    /// Where its packages are: the one `lib/python3.N/site-packages`.
    pub(crate) fn packages(&self) -> Result<PathBuf, Error> {
        let missing = |why: String| Error::Tempest {
            doing: format!("looking for Tempest in {}", self.folder.display()),
            why,
            hint: "remove that folder, and run again: it is made anew",
        };
        let entries = fs::read_dir(self.folder.join("lib")).map_err(|error| missing(error.to_string()))?;
        let packages = entries.flatten().map(|entry| entry.path().join("site-packages"));
        let found = packages.into_iter().find(|path| path.join("tempest").is_dir());
        found.ok_or_else(|| missing("no package `tempest` is in it".to_owned()))
    }
}

async fn step(command: Command, doing: &str) -> Result<(), Error> {
    let failed = |why: String| Error::Tempest {
        doing: doing.to_owned(),
        why,
        hint: "Python 3.10 or newer with venv is needed (Debian: python3-venv), and packages by pip as it is \
               configured on this machine",
    };
    let ran = ended(command, INSTALL_TIMEOUT, None).await.map_err(|error| failed(error.to_string()))?;
    match ran.success {
        true => Ok(()),
        false => Err(failed(ran.words())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_pinned() {
        let packages: Vec<&str> =
            REQUIREMENTS.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        assert!(packages.iter().all(|line| line.split("==").count() == 2), "{packages:?}");
        assert!(packages.contains(&format!("tempest=={}", super::super::VERSION).as_str()));
        assert!(packages.iter().any(|line| line.starts_with("stestr==")));
    }
}
