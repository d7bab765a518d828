//! `cargo xtask demo`: a real rolling upgrade of a real OpenStack under load, from nothing to
//! the verdict; with a bad release that is taken back by policy, or with a rollback, where asked.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::Value;
use volutus_e2e::witness::Witness;

use crate::demo_reboot;
use crate::lab::{Hop, Lab, Programs, build};
use crate::process::{exit_code, must, output, root};

/// Fewer probe requests than this would say too little about "not one failed".
const REQUESTS_MIN: u64 = 2_000;

/// The daemon that a bad release breaks: it starts, is active, and does not serve.
const BAD_DAEMON: &str = "nova-conductor";

/// A bad daemon never proves itself, so there is no use in waiting as long as a slow one may take.
const BAD_RELEASE_POLICY: &str = "on_failure = \"roll-back\"\nprove_timeout_s = 120\n";

/// Fewer pairs of requests than this would prove too little of the API contract.
const COMPARED_MIN: u64 = 1_000;

/// An API's highest microversion changes once; see docs/decisions/0018-advertised.md.
const ONLY_GROWS_POLICY: &str = "[api]\nadvertised = \"only-grows\"\n";

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// Nothing.
    None,
    /// The new nova-conductor starts, is active, and does not serve; the policy rolls back.
    BadRelease,
}

/// What can be chosen.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The lab, and where it goes.
    #[command(flatten)]
    pub hop: Hop,
    /// The lab's name.
    #[arg(long, default_value = "demo")]
    pub name: String,
    /// What goes wrong.
    #[arg(long, value_enum, default_value = "none")]
    pub fault: Fault,
    /// New replicas of APIs whose highest microversion changes wait, and take over from the old ones at once.
    #[arg(long, conflicts_with_all = ["fault", "reboot"])]
    pub only_grows: bool,
    /// After the upgrade take it back while the way back is open, and then upgrade again.
    #[arg(long)]
    pub rollback: bool,
    /// Instead of an upgrade: empty, restart and give back every compute and controller.
    #[arg(long, conflicts_with_all = ["fault", "rollback"])]
    pub reboot: bool,
    /// With --reboot: instances have guests under QEMU on a network of OVN, which are watched.
    #[arg(long, requires = "reboot")]
    pub real_guests: bool,
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
    let up = Instant::now();
    let mut more = options.lab.clone();
    if options.reboot {
        // With one empty host every instance moves at most once.
        more.extend(["--spare".to_owned(), "1".to_owned()]);
    }
    if options.real_guests {
        more.extend(["--virt".to_owned(), "qemu".to_owned()]);
    }
    let lab = programs.up(&options.name, &options.hop, &more)?;
    let up_s = up.elapsed().as_secs();
    let mut rebooted = None;
    let result = if options.reboot {
        demo_reboot::reboot(&programs, &lab, options.real_guests).map(|done| {
            let verdict = done.verdict.clone();
            rebooted = Some(done);
            vec![verdict]
        })
    } else {
        act(&programs, &lab, options)
    };
    if options.keep {
        eprintln!(
            "The lab `{}` is left running; its cloud description is {}",
            lab.name,
            lab.cloud().display()
        );
    } else {
        lab.down()?;
    }
    let verdicts = result?;
    let folder = root().join("target/demo");
    std::fs::create_dir_all(&folder)?;
    // The last verdict is the demo's; the earlier ones lie beside it.
    for (index, verdict) in verdicts.iter().enumerate() {
        let last = index + 1 == verdicts.len();
        let name = if last { "verdict.json".to_owned() } else { format!("verdict-{}.json", index + 1) };
        std::fs::write(folder.join(name), serde_json::to_string_pretty(verdict)?)?;
    }
    let (last, earlier) = verdicts.split_last().context("nothing was judged")?;
    for verdict in earlier {
        println!("{}", line(verdict));
    }
    println!(
        "{} | lab up {up_s} s, all {} s | {}",
        rebooted.as_ref().map_or_else(|| line(last), |done| format!("{} | {}", line(last), done.told)),
        started.elapsed().as_secs(),
        folder.join("verdict.json").display()
    );
    let total: u64 = verdicts.iter().filter_map(|verdict| verdict["requests_total"].as_u64()).sum();
    ensure!(
        total >= REQUESTS_MIN || options.reboot,
        "{total} requests were made; the goal is 0 failed of at least {REQUESTS_MIN}"
    );
    if !options.reboot && last["rolled_back"] != true {
        judge_contract(last)?;
    }
    if options.only_grows {
        verdicts.iter().try_for_each(judge_advertised)?;
    }
    verdicts.iter().try_for_each(judge)?;
    rebooted.map_or(Ok(()), |done| done.judge())
}

/// What the options ask for; the verdicts in order.
fn act(programs: &Programs, lab: &Lab, options: &Options) -> anyhow::Result<Vec<Value>> {
    let policy = options.only_grows.then_some(ONLY_GROWS_POLICY);
    let mut verdicts = match options.fault {
        Fault::None => vec![upgrade(programs, lab, &options.hop.to, policy)?],
        Fault::BadRelease => vec![bad_release(programs, lab, options)?],
    };
    if options.rollback {
        if options.fault == Fault::None {
            verdicts.push(take_back(programs, lab)?);
        }
        verdicts.push(upgrade(programs, lab, &options.hop.to, policy)?);
    }
    Ok(verdicts)
}

fn line(verdict: &Value) -> String {
    let text = |key: &str| verdict[key].as_str().unwrap_or("?").to_owned();
    let number = |key: &str| verdict[key].as_u64().unwrap_or(0);
    let daemons = verdict["versions_observed"].as_object().map_or(0, serde_json::Map::len);
    let contract = &verdict["api_contract"];
    let pairs = contract["requests_compared"].as_u64().filter(|_| contract["result"] != "not_measured");
    let contract = pairs.map_or_else(String::new, |pairs| {
        let result = contract["result"].as_str().unwrap_or("?");
        let again = contract["after"]["requests_compared"].as_u64().unwrap_or(0);
        format!(" | API contract {result}, {pairs} pairs of answers compared, {again} at the end again")
    });
    format!(
        "verdict: {} | {} -> {}{} in {:.0} s | {} of {} requests failed | {daemons} daemons observed{contract}",
        text("level"),
        text("from"),
        text("to"),
        if verdict["rolled_back"] == true { ", taken back," } else { "" },
        verdict["duration_s"].as_f64().unwrap_or(0.0),
        number("requests_failed"),
        number("requests_total"),
    )
}

/// The demo's own goal; everything else is an exit code other than 0.
fn judge(verdict: &Value) -> anyhow::Result<()> {
    let level = verdict["level"].as_str().unwrap_or_default();
    let failed = verdict["requests_failed"].as_u64().context("the verdict counts no failures")?;
    if !matches!(level, "zero-downtime" | "zero-impact") {
        bail!("the verdict is {level:?}, the goal zero-downtime or better: {}", verdict["reasons"]);
    }
    ensure!(failed == 0, "{failed} requests failed; the goal is none");
    if verdict["versions_observed"].as_object().is_none_or(|seen| seen.values().any(Value::is_null)) {
        bail!("not every daemon was observed on the target: {}", verdict["versions_observed"]);
    }
    Ok(())
}

/// The contract was held, by enough that was compared to say so.
fn judge_contract(verdict: &Value) -> anyhow::Result<()> {
    let contract = &verdict["api_contract"];
    ensure!(contract["result"] == "held", "the API contract: {contract}");
    let pairs = contract["requests_compared"].as_u64().unwrap_or(0);
    ensure!(pairs >= COMPARED_MIN, "{pairs} pairs of answers were compared; the goal is {COMPARED_MIN}");
    let after = &contract["after"];
    let again = after["requests_compared"].as_u64().unwrap_or(0);
    let enough = again + after["gone"].as_u64().unwrap_or(0) >= COMPARED_MIN && again >= COMPARED_MIN / 2;
    ensure!(enough, "too little was asked again of what serves users in the end: {after}");
    Ok(())
}

/// Nova advertised another highest microversion than before once, in the right direction, and never fell back.
fn judge_advertised(verdict: &Value) -> anyhow::Result<()> {
    let nova = &verdict["advertised"]["nova"];
    let back = verdict["rolled_back"] == true;
    let fell = nova["fell"].as_u64().context("nova's highest microversion was not asked for")?;
    // Of a rollback the verdict covers the way forward as well, so that it is lower once.
    ensure!(fell == u64::from(back), "nova's highest microversion: {nova}");
    ensure!((nova["first"] == nova["last"]) == back, "nova's highest microversion did not change: {nova}");
    Ok(())
}

/// Looks, checks, plans and approves as an operator would, and returns the plan's id.
pub fn make_plan(
    programs: &Programs,
    cloud: &Path,
    to: &str,
    policy: Option<&Path>,
) -> anyhow::Result<String> {
    let volutus = || {
        let mut command = programs.volutus(cloud);
        if let Some(policy) = policy {
            command.arg("--policy").arg(policy);
        }
        command
    };
    must(volutus().arg("observe"))?;
    must(volutus().args(["check", "--to", to]))?;
    let plan = output(volutus().args(["plan", "--to", to, "--output", "json"]))?;
    let plan: Value = serde_json::from_str(&plan).context("`volutus plan --output json` printed no JSON")?;
    let id = plan["id"].as_str().context("the plan has no id")?;
    must(volutus().args(["plan", "show", id]))?;
    must(volutus().args(["approve", id]))?;
    Ok(id.to_owned())
}

/// Upgrades a lab as an operator would, under a policy where one is given, and returns the verdict.
pub fn upgrade(programs: &Programs, lab: &Lab, to: &str, policy: Option<&str>) -> anyhow::Result<Value> {
    let cloud = lab.cloud();
    let file = lab.folder().join("demo.toml");
    let mut run = programs.volutus(&cloud);
    if let Some(policy) = policy {
        std::fs::write(&file, policy)?;
        run.arg("--policy").arg(&file);
    }
    let id = make_plan(programs, &cloud, to, policy.map(|_| file.as_path()))?;
    let code = exit_code(run.args(["run", &id]))?;
    let verdict = verdict_of(programs, &cloud)?;
    if code != 0 {
        bail!("`volutus run` ended with exit code {code}");
    }
    Ok(verdict)
}

/// Shows the verdict on the latest run, and returns it.
pub fn verdict_of(programs: &Programs, cloud: &Path) -> anyhow::Result<Value> {
    must(programs.volutus(cloud).arg("verdict"))?;
    let verdict = output(programs.volutus(cloud).args(["verdict", "--output", "json"]))?;
    serde_json::from_str(&verdict).context("`volutus verdict --output json` printed no JSON")
}

/// Takes the latest run back, and sees that what a user made under the new release is all there.
fn take_back(programs: &Programs, lab: &Lab) -> anyhow::Result<Value> {
    let cloud = lab.cloud();
    let witness = Witness::make(&cloud, "made-before-the-rollback")?;
    must(programs.volutus(&cloud).args(["rollback", "--yes"]))?;
    let verdict = verdict_of(programs, &cloud)?;
    witness.is_whole()?;
    witness.remove()?;
    ensure!(verdict["rolled_back"] == true, "the run was not taken back: {verdict}");
    Ok(verdict)
}

/// Upgrades to a release of which one daemon is bad, and sees that the policy takes it back and
/// that what a user made meanwhile is all there.
fn bad_release(programs: &Programs, lab: &Lab, options: &Options) -> anyhow::Result<Value> {
    let cloud = lab.cloud();
    let controllers = controllers_of(&cloud)?;
    for host in &controllers {
        lab.fault(&["bad-release", host, BAD_DAEMON, &options.hop.to])?;
    }
    let policy = root().join("target/demo/bad-release-policy.toml");
    std::fs::create_dir_all(root().join("target/demo"))?;
    std::fs::write(&policy, BAD_RELEASE_POLICY)?;
    let id = make_plan(programs, &cloud, &options.hop.to, Some(&policy))?;
    let mut run = programs.volutus(&cloud).args(["run", &id]).stdin(Stdio::null()).spawn()?;
    let witness = until_rolling(programs, &cloud, &id).and_then(|()| Witness::make(&cloud, "made-meanwhile"));
    let status = run.wait()?;
    let witness = witness?;
    let verdict = verdict_of(programs, &cloud)?;
    ensure!(
        verdict["rolled_back"] == true,
        "`volutus run` ended with {status}, and the bad release was not taken back: {verdict}"
    );
    witness.is_whole()?;
    witness.remove()?;
    for host in &controllers {
        lab.fault(&["bad-release", "--undo", host, BAD_DAEMON, &options.hop.to])?;
    }
    Ok(verdict)
}

/// Waits until a run has begun to replace daemons.
fn until_rolling(programs: &Programs, cloud: &Path, plan: &str) -> anyhow::Result<()> {
    /// Baseline, staging, checks and schemas take one to two minutes.
    const LIMIT: Duration = Duration::from_secs(600);
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        std::thread::sleep(Duration::from_secs(1));
        let mut status = programs.volutus(cloud);
        let status = status.args(["status", "--output", "json"]).stderr(Stdio::null()).output()?;
        let Ok(status) = serde_json::from_slice::<Value>(&status.stdout) else { continue };
        let rolling = |steps: &serde_json::Map<String, Value>| steps.keys().any(|id| id.starts_with("roll/"));
        if status["state"]["plan"] == plan && status["state"]["steps"].as_object().is_some_and(rolling) {
            return Ok(());
        }
    }
    bail!("no daemon was replaced within {} s", LIMIT.as_secs())
}

/// The hosts of a cloud description that run the daemon which goes bad.
fn controllers_of(cloud: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(cloud).with_context(|| format!("reading {}", cloud.display()))?;
    let inventory = volutus_model::Inventory::parse(&text)
        .map_err(|error| anyhow::anyhow!("{}: {error}", cloud.display()))?;
    let hosts = inventory.daemons().filter(|(id, _, _)| id.kind.as_str() == BAD_DAEMON);
    Ok(hosts.map(|(id, _, _)| id.host.to_string()).collect())
}
