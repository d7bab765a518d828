//! `cargo xtask tempest`: OpenStack's own smoke tests before and after a real upgrade, as gates of the
//! run that makes it.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::demo::{make_plan, verdict_of};
use crate::lab::{Hop, Lab, Programs, build};
use crate::process::exit_code;

/// Fewer tests than this that pass before the upgrade would say little about it.
const PASSED_MIN: usize = 40;

/// What can be chosen.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The lab, and where it goes.
    #[command(flatten)]
    pub hop: Hop,
    /// Leave the lab running.
    #[arg(long)]
    pub keep: bool,
    /// More arguments of `volutus-lab up`.
    #[arg(last = true)]
    pub lab: Vec<String>,
}

/// Brings a lab up, upgrades it with the gates, and compares what they saw.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let started = Instant::now();
    let programs = build()?;
    let lab = programs.up("tempest", &options.hop, &options.lab)?;
    let result = measure(&programs, &lab, &options.hop.to);
    if !options.keep {
        lab.down()?;
    }
    let told = result?;
    println!("{told} | {} s in all", started.elapsed().as_secs());
    Ok(())
}

/// The policy: the smoke set before anything is touched, and again when everything runs the target.
/// A gate that only warns, and always fails, shows that the verdict tells of it. Tempest boots instances beside the
/// synthetic user's, which on a small machine are not there in time; that halts nothing here, and is told.
fn policy(programs: &Programs, cloud: &Path) -> String {
    let (volutus, cloud) = (programs.volutus.display(), cloud.display());
    let tempest = |file: &str| {
        format!("\"{volutus}\", \"--cloud\", \"{cloud}\", \"contract\", \"tempest\", \"--smoke\", {file}")
    };
    format!(
        "failed_requests_max = 30\n\n[[gates]]\nname = \"smoke\"\nwhen = \"before\"\nargv = [{}]\nenvironment = {ENVIRONMENT}\n\n\
         [[gates]]\nname = \"site\"\nwhen = \"after-expand\"\nargv = [\"sh\", \"-c\", \"test -f before.json && \
         echo $OS_CLOUD is not told more && exit 7\"]\ntimeout_s = 30\non_failure = \"warn\"\n\n\
         [[gates]]\nname = \"smoke\"\nwhen = \"before-finalize\"\nargv = [{}]\nenvironment = {ENVIRONMENT}\n",
        tempest("\"--write\", \"before.json\""),
        tempest("\"--before\", \"before.json\", \"--write\", \"after.json\""),
    )
}

/// How pip is configured where that is done by the environment.
const ENVIRONMENT: &str = "[\"PIP_INDEX_URL\", \"PIP_EXTRA_INDEX_URL\", \"PIP_FIND_LINKS\", \"PIP_CERT\", \"HTTPS_PROXY\", \"HTTP_PROXY\", \"NO_PROXY\"]";

fn measure(programs: &Programs, lab: &Lab, to: &str) -> anyhow::Result<String> {
    let cloud = lab.cloud();
    let file = lab.folder().join("gates.toml");
    std::fs::write(&file, policy(programs, &cloud))?;
    let plan = make_plan(programs, &cloud, to, Some(&file))?;
    let code = exit_code(programs.volutus(&cloud).arg("--policy").arg(&file).args(["run", &plan]))?;
    let verdict = verdict_of(programs, &cloud)?;
    let gates = verdict["gates"].as_array().context("the verdict tells of no gates")?;
    for gate in gates {
        eprintln!("gate {} ({}): {}", gate["gate"], gate["when"], gate["detail"]);
    }
    // Where the gate halted the run, what it saw is told before the failure is.
    let folder = gates
        .iter()
        .find_map(|gate| Path::new(gate["output"].as_str()?).parent())
        .context("no gate kept its output")?;
    let results = |name: &str| -> anyhow::Result<Value> {
        let path = folder.join(name);
        let text = std::fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
        Ok(serde_json::from_str(&text)?)
    };
    let (before, after) = (results("before.json")?, results("after.json")?);
    let passed = tests(&before, "passed")?;
    let passed_now = tests(&after, "passed")?;
    let broken: Vec<&String> = passed.iter().filter(|name| !passed_now.contains(name)).collect();
    for name in &broken {
        println!("no longer passes: {name}: {}", after["tests"][name.as_str()]);
    }
    for name in tests(&before, "failed")? {
        println!("failed before: {name}: {}", before["tests"][name.as_str()]["reason"]);
    }
    ensure!(code == 0, "`volutus run` ended with exit code {code}");
    ensure!(gates.len() == 3, "the verdict tells of {} gates", gates.len());
    let warned =
        gates.iter().any(|gate| gate["gate"] == "site" && gate["passed"] == false && gate["exit_code"] == 7);
    ensure!(warned, "the verdict does not tell of the gate that only warns: {gates:?}");
    if !broken.is_empty() {
        bail!("{} tests that passed before do not pass after the upgrade", broken.len());
    }
    ensure!(passed.len() >= PASSED_MIN, "only {} tests passed before", passed.len());
    Ok(format!(
        "smoke tests: before {} passed, {} failed, {} skipped in {} s; after {} passed, {} failed, {} skipped in {} s; \
         0 broken | run: {} in {:.0} s, {} of {} requests failed",
        passed.len(),
        tests(&before, "failed")?.len(),
        tests(&before, "skipped")?.len(),
        before["seconds"],
        passed_now.len(),
        tests(&after, "failed")?.len(),
        tests(&after, "skipped")?.len(),
        after["seconds"],
        verdict["level"].as_str().unwrap_or("?"),
        verdict["duration_s"].as_f64().unwrap_or(0.0),
        verdict["requests_failed"],
        verdict["requests_total"],
    ))
}

/// The tests that ended so.
fn tests(results: &Value, end: &str) -> anyhow::Result<Vec<String>> {
    let all = results["tests"].as_object().context("the results have no tests")?;
    Ok(all.iter().filter(|(_, test)| test["result"] == end).map(|(name, _)| name.clone()).collect())
}
