//! The lab, driven as an operator would: by its command.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;
use volutus_e2e::watch::GuestWatch;

use crate::process::{cargo, must, output, privileged, root, shown};

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

    /// Writes its guests, which have to be real, into its cloud description as addresses that have to stay
    /// reachable.
    pub fn reach_guests(&self) -> anyhow::Result<()> {
        let mut command = privileged(&self.programs.lab);
        command.args(["check-data-plane", "--name", &self.name, "--migrations", "0", "--output", "json"]);
        let seen: Value = serde_json::from_str(&output(&mut command)?)
            .context("`volutus-lab check-data-plane` printed no JSON")?;
        let guests = seen["guests"].as_array().context("the lab has no guests")?;
        let mut text = std::fs::read_to_string(self.cloud())?;
        for guest in guests {
            let told = |key: &str| guest[0][key].as_str().with_context(|| format!("a guest without {key}"));
            let (name, address) = (told("name")?, told("outer")?);
            write!(text, "\n[[reach]]\nname = \"{name}\"\naddress = \"{address}\"\nhow = \"ping\"\n")?;
        }
        Ok(std::fs::write(self.cloud(), text)?)
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
