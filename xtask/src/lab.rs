//! The lab, driven as an operator would: by its command.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{cargo, must, privileged, root};

/// The shape of a lab.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Its name.
    pub name: String,
    /// The series it starts with.
    pub series: String,
    /// The series that it can be upgraded to.
    pub offer: String,
    /// How many controllers.
    pub controllers: u32,
    /// How many computes.
    pub computes: u32,
    /// More arguments of `volutus-lab up`.
    pub more: Vec<String>,
}

/// Builds the two programs and returns where they are.
pub fn build() -> anyhow::Result<Programs> {
    must(cargo().args(["build", "--quiet", "-p", "volutus-cli", "-p", "volutus-lab"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
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

    /// Brings a lab up.
    pub fn up(&self, shape: &Shape) -> anyhow::Result<Lab> {
        let lab = Lab { programs: self.clone(), name: shape.name.clone() };
        must(
            privileged(&self.lab)
                .args(["up", "--name", &shape.name, "--series", &shape.series, "--offer", &shape.offer])
                .args(["--controllers", &shape.controllers.to_string()])
                .args(["--computes", &shape.computes.to_string()])
                .args(&shape.more),
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
    /// Its cloud description.
    pub fn cloud(&self) -> PathBuf {
        let state = std::env::var_os("VOLUTUS_LAB_STATE")
            .map_or_else(|| "/var/lib/volutus-lab".into(), PathBuf::from);
        state.join(&self.name).join("cloud.toml")
    }

    /// Takes it down.
    pub fn down(&self) -> anyhow::Result<()> {
        must(privileged(&self.programs.lab).args(["down", "--name", &self.name]))
    }
}
