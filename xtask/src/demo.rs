//! `cargo xtask demo`: a real rolling upgrade of a real OpenStack under load, from nothing to
//! the verdict.

use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::Value;

use crate::lab::{Lab, Programs, Shape, build};
use crate::process::{exit_code, must, output, root};

/// Fewer probe requests than this would say too little about "not one failed".
const REQUESTS_MIN: u64 = 2_000;

/// What can be chosen.
#[derive(Debug, Clone, Args)]
pub struct Options {
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
    /// The lab's name.
    #[arg(long, default_value = "demo")]
    pub name: String,
    /// Leave the lab running.
    #[arg(long)]
    pub keep: bool,
    /// More arguments of `volutus-lab up`, for example other host names.
    #[arg(last = true)]
    pub lab: Vec<String>,
}

/// Runs the demo.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let started = Instant::now();
    let programs = build()?;
    let shape = Shape {
        name: options.name.clone(),
        series: options.from.clone(),
        offer: options.to.clone(),
        controllers: options.controllers,
        computes: options.computes,
        more: options.lab.clone(),
    };
    let up = Instant::now();
    let lab = programs.up(&shape)?;
    let up_s = up.elapsed().as_secs();
    let result = upgrade(&programs, &lab, &options.to);
    if options.keep {
        eprintln!(
            "The lab `{}` is left running; its cloud description is {}",
            lab.name,
            lab.cloud().display()
        );
    } else {
        lab.down()?;
    }
    let verdict = result?;
    let path = root().join("target/demo/verdict.json");
    std::fs::create_dir_all(root().join("target/demo"))?;
    std::fs::write(&path, serde_json::to_string_pretty(&verdict)?)?;
    let text = |key: &str| verdict[key].as_str().unwrap_or("?").to_owned();
    let number = |key: &str| verdict[key].as_u64().unwrap_or(0);
    let (total, failed) = (number("requests_total"), number("requests_failed"));
    let daemons = verdict["versions_observed"].as_object().map_or(0, serde_json::Map::len);
    println!(
        "verdict: {} | {} -> {} in {:.0} s | {failed} of {total} requests failed | {daemons} daemons observed | \
         lab up {up_s} s, all {} s | {}",
        text("level"),
        text("from"),
        text("to"),
        verdict["duration_s"].as_f64().unwrap_or(0.0),
        started.elapsed().as_secs(),
        path.display()
    );
    judge(&verdict, total, failed)
}

/// The demo's own goal; everything else is an exit code other than 0.
fn judge(verdict: &Value, total: u64, failed: u64) -> anyhow::Result<()> {
    let level = verdict["level"].as_str().unwrap_or_default();
    if !matches!(level, "zero-downtime" | "zero-impact") {
        bail!("the verdict is {level:?}, the goal zero-downtime or better: {}", verdict["reasons"]);
    }
    if failed != 0 || total < REQUESTS_MIN {
        bail!("{failed} of {total} requests failed; the goal is 0 of at least {REQUESTS_MIN}");
    }
    if verdict["versions_observed"].as_object().is_none_or(|seen| seen.values().any(Value::is_null)) {
        bail!("not every daemon was observed on the target: {}", verdict["versions_observed"]);
    }
    Ok(())
}

/// Upgrades a lab as an operator would, and returns the verdict.
pub fn upgrade(programs: &Programs, lab: &Lab, to: &str) -> anyhow::Result<Value> {
    let cloud = lab.cloud();
    must(programs.volutus(&cloud).arg("observe"))?;
    must(programs.volutus(&cloud).args(["check", "--to", to]))?;
    let plan = output(programs.volutus(&cloud).args(["plan", "--to", to, "--output", "json"]))?;
    let plan: Value = serde_json::from_str(&plan).context("`volutus plan --output json` printed no JSON")?;
    let id = plan["id"].as_str().context("the plan has no id")?;
    must(programs.volutus(&cloud).args(["plan", "show", id]))?;
    must(programs.volutus(&cloud).args(["approve", id]))?;
    let code = exit_code(programs.volutus(&cloud).args(["run", id]))?;
    must(programs.volutus(&cloud).arg("verdict"))?;
    let verdict = output(programs.volutus(&cloud).args(["verdict", "--output", "json"]))?;
    if code != 0 {
        bail!("`volutus run` ended with exit code {code}");
    }
    serde_json::from_str(&verdict).context("`volutus verdict --output json` printed no JSON")
}
