//! The lab, driven as an operator would: by its command.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use clap::Args;
use volutus_e2e::watch::GuestWatch;

use crate::process::{cargo, must, privileged, root, shown};

/// A lab's shape, and the upgrade that is made of it.
#[derive(Debug, Clone, Args)]
pub struct Hop {
    /// The series that the lab starts with.
    #[arg(long, default_value = "2025.2")]
    pub from: String,
    /// The series that it is upgraded to.
    #[arg(long, default_value = "2026.1")]
    pub to: String,
    /// Controllers.
    #[arg(long, default_value_t = 3)]
    pub controllers: u32,
    /// Computes.
    #[arg(long, default_value_t = 3)]
    pub computes: u32,
}

/// Where cargo puts what it makes.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Builds the two programs and returns where they are.
pub fn build() -> anyhow::Result<Programs> {
    must(cargo().args(["build", "--quiet", "--bin", "volutus", "--bin", "volutus-lab"]))?;
    let target = target();
    Ok(Programs { volutus: target.join("debug/volutus"), lab: target.join("debug/volutus-lab") })
}

/// The two programs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `volutus`
    pub volutus: PathBuf,
    /// `volutus-lab`
    pub lab: PathBuf,
}

impl Programs {
    /// `volutus` on a lab's cloud.
    pub fn volutus(&self, cloud: &Path) -> Command {
        let mut command = privileged(&self.volutus);
        command.arg("--cloud").arg(cloud);
        command
    }

    /// Brings a lab up; `more` are further arguments of `volutus-lab up`.
    pub fn up(&self, name: &str, hop: &Hop, more: &[String]) -> anyhow::Result<Lab> {
        let lab = Lab { programs: self.clone(), name: name.to_owned() };
        must(
            privileged(&self.lab)
                .args(["up", "--name", name, "--series", &hop.from, "--offer", &hop.to])
                .args(["--controllers", &hop.controllers.to_string()])
                .args(["--computes", &hop.computes.to_string()])
                .args(more),
        )?;
        Ok(lab)
    }
}

/// A lab that is up.
#[derive(Debug)]
pub struct Lab {
    programs: Programs,
    /// Its name.
    pub name: String,
}

impl Lab {
    /// Its folder.
    pub fn folder(&self) -> PathBuf {
        let state = std::env::var_os("VOLUTUS_LAB_STATE")
            .map_or_else(|| "/var/lib/volutus-lab".into(), PathBuf::from);
        state.join(&self.name)
    }

    /// Its cloud description.
    pub fn cloud(&self) -> PathBuf {
        self.folder().join("cloud.toml")
    }

    /// Runs a shell script on one of its hosts.
    pub fn exec(&self, host: &str, script: &str) -> anyhow::Result<()> {
        let mut command = privileged(&self.programs.lab);
        must(command.args(["exec", "--name", &self.name, host, "--", "sh", "-c", script]))
    }

    /// Does something bad to one of its hosts; the words are those of `volutus-lab fault`.
    pub fn fault(&self, words: &[&str]) -> anyhow::Result<()> {
        let (kind, rest) = words.split_first().context("no fault is named")?;
        must(privileged(&self.programs.lab).args(["fault", kind, "--name", &self.name]).args(rest))
    }

    /// Begins to watch its guests, which have to be real.
    pub fn watch_guests(&self) -> anyhow::Result<GuestWatch> {
        let mut command = privileged(&self.programs.lab);
        command.args(["watch-guests", "--name", &self.name]);
        eprintln!("$ {} &", shown(&command));
        GuestWatch::start(&mut command)
    }

    /// Takes it down.
    pub fn down(&self) -> anyhow::Result<()> {
        must(privileged(&self.programs.lab).args(["down", "--name", &self.name]))
    }
}
