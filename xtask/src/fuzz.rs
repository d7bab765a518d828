//! `cargo xtask fuzz`: what comes from outside is read in millions of forms, and nothing breaks.
//!
//! The targets are in `fuzz/`; each states what has to hold whatever it is given. They are built with
//! libFuzzer's instrumentation by the compiler that builds everything else: no sanitizer is needed where
//! no code is unsafe.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use crate::lab::target;
use crate::process::{cargo, must, output, root};

/// What the compiler is told, as cargo-fuzz tells it.
const FLAGS: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
const TARGETS: [&str; 4] = ["advisories", "api", "notice", "schedule"];
/// Seconds that one input may take: the slowest good one takes a fraction of one, on a busy machine too.
const INPUT_MAX_S: u32 = 25;
/// Bytes of an input: longer ones find nothing that shorter ones do not, and take longer.
const INPUT_MAX: u32 = 4_096;

/// How long, and what.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Minutes per target.
    #[arg(long, default_value_t = 10)]
    pub minutes: u32,
    /// Only this target.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(TARGETS))]
    pub only: Option<String>,
}

/// Runs one target after another, and fails at the first input that breaks one.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let place = target().join("fuzz");
    let host = host()?;
    must(
        cargo()
            .env("RUSTFLAGS", FLAGS.join(" "))
            // Fast enough to come far, with every check that a debug build has.
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", "2")
            .args(["build", "--locked", "--package", "volutus-fuzz", "--bins", "--target", &host])
            .arg("--target-dir")
            .arg(&place),
    )?;
    let programs = place.join(host).join("debug");
    let mut figures = Vec::new();
    for name in TARGETS.iter().filter(|name| options.only.as_deref().is_none_or(|only| only == **name)) {
        figures.push(format!("{name} {}", fuzz(&programs, &place, name, options.minutes * 60)?));
    }
    println!("fuzz, {} minutes each, no crash; executions: {}", options.minutes, figures.join(", "));
    Ok(())
}

/// The machine that is built for; flags are then not applied to what only runs while building.
fn host() -> anyhow::Result<String> {
    let told = output(Command::new("rustc").arg("-vV"))?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

/// Runs a target, and tells how many inputs it was given. What was found interesting stays for the
/// next time.
fn fuzz(programs: &Path, place: &Path, name: &str, seconds: u32) -> anyhow::Result<u64> {
    let corpus = place.join("corpus").join(name);
    let found = place.join("found").join(name).join("");
    std::fs::create_dir_all(&corpus)?;
    std::fs::create_dir_all(&found)?;
    let log = place.join(format!("{name}.log"));
    let mut command = Command::new(programs.join(name));
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_MAX_S}"))
        .arg(format!("-max_len={INPUT_MAX}"))
        .arg(format!("-artifact_prefix={}", found.display()))
        .args(["-print_final_stats=1"])
        .arg(&corpus)
        .arg(root().join("fuzz/seeds").join(name))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log)?);
    eprintln!("$ {}", crate::process::shown(&command));
    let status = command.status().with_context(|| format!("could not start the target {name}"))?;
    let told = std::fs::read(&log)?;
    let told = String::from_utf8_lossy(&told);
    if !status.success() {
        let last: Vec<&str> = told.lines().rev().take(40).collect();
        for line in last.iter().rev() {
            eprintln!("{line}");
        }
        bail!("the target {name} broke; the input is in {}", found.display());
    }
    let figure = told.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let executions: u64 = figure.context("libFuzzer told no figures")?.trim().parse()?;
    ensure!(executions > 0, "the target {name} was given nothing");
    Ok(executions)
}
