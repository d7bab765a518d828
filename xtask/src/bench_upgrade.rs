//! `cargo xtask bench upgrade`: Volutus against the plain sequential procedure, each on a lab of
//! the same shape made anew, under the same synthetic user.

use std::io::Read as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::demo;
use crate::lab::{Hop, Programs, build};
use crate::process::{must, privileged, root};

/// Volutus may take at most this share of the script's time.
const SHARE_MAX: f64 = 0.6;

#[derive(Debug, Clone, Copy)]
struct Figures {
    seconds: f64,
    failed: u64,
    total: u64,
}

/// Measures both, prints both, and judges.
pub fn run(hop: &Hop) -> anyhow::Result<()> {
    let programs = build()?;
    let script = sequential(&programs, hop)?;
    let volutus = volutus(&programs, hop)?;
    let share = volutus.seconds / script.seconds;
    println!(
        "script {:.0} s, {} of {} requests failed | volutus {:.0} s, {} of {} requests failed | share {share:.2}, goal at most {SHARE_MAX} and 0 failed",
        script.seconds, script.failed, script.total, volutus.seconds, volutus.failed, volutus.total
    );
    if share > SHARE_MAX || volutus.failed > 0 {
        bail!("the goal is missed");
    }
    Ok(())
}

fn sequential(programs: &Programs, hop: &Hop) -> anyhow::Result<Figures> {
    let lab = programs.up("bench", hop, &[])?;
    let result = (|| {
        let probe = Probe::start(programs, &lab.cloud())?;
        let start = Instant::now();
        let script = must(privileged(root().join("lab/sequential.sh")).args([&lab.name, &hop.to]));
        let seconds = start.elapsed().as_secs_f64();
        let (failed, total) = probe.stop()?;
        script.context("the sequential procedure failed")?;
        Ok(Figures { seconds, failed, total })
    })();
    lab.down()?;
    result
}

fn volutus(programs: &Programs, hop: &Hop) -> anyhow::Result<Figures> {
    let lab = programs.up("bench", hop, &[])?;
    let result = demo::upgrade(programs, &lab, &hop.to, None);
    lab.down()?;
    let verdict = result?;
    Ok(Figures {
        seconds: verdict["duration_s"].as_f64().context("the verdict has no duration")?,
        failed: verdict["requests_failed"].as_u64().context("the verdict counts no failures")?,
        total: verdict["requests_total"].as_u64().context("the verdict counts no requests")?,
    })
}

/// `volutus probe` in the background.
struct Probe(Child);

impl Probe {
    fn start(programs: &Programs, cloud: &std::path::Path) -> anyhow::Result<Self> {
        let child = programs
            .volutus(cloud)
            .args(["probe", "--seconds", "1800", "--output", "json"])
            .stdout(Stdio::piped())
            .spawn()
            .context("could not start `volutus probe`")?;
        // The probe says on stderr when it works; a few seconds of it before the script begins
        // cost nothing and make sure that the script's first step is seen.
        std::thread::sleep(Duration::from_secs(5));
        Ok(Self(child))
    }

    fn stop(mut self) -> anyhow::Result<(u64, u64)> {
        must(privileged("kill").args(["-INT", &self.0.id().to_string()]))?;
        let mut text = String::new();
        self.0.stdout.take().context("no output of the probe")?.read_to_string(&mut text)?;
        self.0.wait()?;
        let figures: Value = serde_json::from_str(&text).context("`volutus probe` printed no JSON")?;
        let failed = figures["failed"].as_u64().context("no `failed`")?;
        let total = figures["total"].as_u64().context("no `total`")?;
        Ok((failed, total))
    }
}
