//! `cargo xtask test`: every test, the real lab included.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::lab::{build, target};
use crate::process::{cargo, must, privileged, shown};
use crate::{setup, sim, tidy};

/// What can be chosen.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Leave the real lab out: a matter of seconds, for working on pure code.
    #[arg(long)]
    pub no_lab: bool,
}

#[derive(Debug, Default)]
struct Tally {
    passed: u64,
    failed: u64,
    /// What scenarios measured.
    figures: Vec<String>,
}

impl Tally {
    fn check(&mut self, name: &str, check: impl FnOnce() -> anyhow::Result<()>) {
        let start = Instant::now();
        let result = check();
        let seconds = start.elapsed().as_secs();
        match result {
            Ok(()) => {
                println!("test {name} ... ok ({seconds} s)");
                self.passed += 1;
            }
            Err(error) => {
                println!("test {name} ... FAILED ({seconds} s)\n{error:#}");
                self.failed += 1;
            }
        }
    }
}

/// Runs everything, and ends with one line that counts.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let start = Instant::now();
    setup::install_for_tests()?;
    let mut tally = Tally::default();
    tally.check("format", || must(cargo().args(["fmt", "--all", "--check"])));
    tally.check("lints", || {
        must(cargo().args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    });
    tally.check("tidy", tidy::run);
    count(&mut tally, cargo().args(["test", "--workspace", "--exclude", "volutus-e2e", "--no-fail-fast"]))?;
    // A tenth of what `cargo xtask sim` runs by itself; rare transitions need the whole.
    let seeds = sim::Options { seeds: 2_000, from: 1, seed: None, coverage_min: 95 };
    tally.check("simulated upgrades keep every rule", || sim::run(&seeds));
    tally.check("the simulation notices wrong rules", sim::mutants);
    // In a process of its own, which is measured from its beginning.
    let own = std::env::current_exe()?;
    tally.check("plan and check 10,000 hosts within the goal", || {
        must(Command::new(own).args(["bench", "plan"]))
    });
    if !options.no_lab {
        // Chosen as above, and with the features that tests want: otherwise most of it would be compiled again.
        let programs = ["--bin", "volutus", "--bin", "volutus-lab", "--bin", "volutus-e2e", "--tests"];
        must(cargo().args(["build", "--quiet", "--workspace", "--exclude", "volutus-fuzz"]).args(programs))?;
        count(&mut tally, &mut end_to_end())?;
    }
    println!("{} s in all", start.elapsed().as_secs());
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 {
        bail!("{} tests failed", tally.failed);
    }
    Ok(())
}

/// Carries out a suite on a lab of its own that takes too long for every change.
pub fn suite(name: &str) -> anyhow::Result<()> {
    let (start, mut tally) = (Instant::now(), Tally::default());
    build()?;
    must(cargo().args(["build", "--quiet", "--bin", "volutus-e2e"]))?;
    count(&mut tally, end_to_end().arg(name))?;
    let Tally { passed, failed, figures } = tally;
    let figures: String = figures.iter().map(|figure| format!(" | {figure}")).collect();
    println!("{passed} passed, {failed} failed{figures} | {} s in all", start.elapsed().as_secs());
    if failed > 0 {
        bail!("{failed} scenarios failed");
    }
    Ok(())
}

/// The end-to-end tests, which are built. They make and remove their own labs, and run as root like the lab.
fn end_to_end() -> Command {
    let built = target().join("debug");
    let mut command = privileged("env");
    command
        .arg(format!("VOLUTUS={}", built.join("volutus").display()))
        .arg(format!("VOLUTUS_LAB={}", built.join("volutus-lab").display()))
        .arg(built.join("volutus-e2e"));
    command
}

/// Runs a program of tests, shows what it prints, and adds up its `test result:` lines. A program
/// that fails without having counted a failure (it did not build, it was killed) counts as one.
fn count(tally: &mut Tally, command: &mut Command) -> anyhow::Result<()> {
    eprintln!("$ {}", shown(command));
    let start = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start `{}`", shown(command)))?;
    let output = child.stdout.take().context("no output of the tests")?;
    let failed_before = tally.failed;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if let Some(result) = line.strip_prefix("test result: ") {
            let number = |word: &str| {
                result
                    .split([';', '.'])
                    .find_map(|part| part.trim().strip_suffix(word)?.trim().parse::<u64>().ok())
                    .unwrap_or(0)
            };
            tally.passed += number("passed");
            tally.failed += number("failed");
        } else if let Some(figure) = line.strip_prefix("figures: ") {
            println!("{figure}");
            tally.figures.push(figure.to_owned());
        } else {
            println!("{line}");
        }
    }
    if !child.wait()?.success() && tally.failed == failed_before {
        println!("`{}` failed", shown(command));
        tally.failed += 1;
    }
    println!("`{}` took {} s", shown(command), start.elapsed().as_secs());
    Ok(())
}
