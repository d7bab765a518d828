//! `cargo xtask bench contract`: mutates recorded answers and contracts in many ways, and counts what is
//! caught; and compares 10,000 pairs of answers offline.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use volutus_contract::Document;
use volutus_contract::answers::{Comparator, Noise, Recorded, Tally};
use volutus_contract::mutants::{self, Caught, Recording};

/// Pairs that are compared.
const PAIRS: usize = 10_000;
/// How long that may take, from text to verdict.
const SECONDS_MAX: f64 = 5.0;
/// Kinds of mutations that there must be at least.
const KINDS_MIN: usize = 20;
/// Where the lab keeps releases, the newest of which is mutated if there is one.
const RELEASES: &str = "/var/cache/volutus-lab/releases";

/// Measures, prints, and judges.
pub fn run() -> anyhow::Result<()> {
    let recordings = mutants::recordings()?;
    println!("{} recorded requests, each answered twice", recordings.len());
    let answers = mutants::mutated_answers(&recordings)?;
    let mut alarms: Vec<_> = mutants::harmless_answers(&recordings)?;
    let document = contract()?;
    let documents = mutants::mutated_documents(&document)?;
    alarms.extend(mutants::harmless_documents(&document)?);
    let mut false_alarms = 0;
    for (name, tried, alarms) in &alarms {
        println!("{:<52} {tried:>4} tried {alarms:>4} false alarms", format!("harmless: {name}"));
        false_alarms += alarms;
    }
    let (mut kinds, mut caught_kinds, mut tried, mut caught) = (0, 0, 0, 0);
    for (what, list) in [("answer", &answers), ("contract", &documents)] {
        for one in list {
            let Caught { name, tried: t, caught: c, breaking } = one;
            println!(
                "{:<52} {t:>4} tried {c:>4} caught {breaking:>4} as breaking",
                format!("{what}: {name}")
            );
            if *t == 0 {
                continue;
            }
            kinds += 1;
            caught_kinds += usize::from(one.always());
            tried += t;
            caught += c;
        }
    }
    let seconds = pairs(&recordings)?;
    println!(
        "kinds of mutations caught {caught_kinds}/{kinds}, mutations {caught}/{tried}, false alarms {false_alarms} | \
         {PAIRS} pairs in {seconds:.2} s | goal all, none, under {SECONDS_MAX} s"
    );
    ensure!(kinds >= KINDS_MIN, "only {kinds} kinds of mutations could be applied");
    ensure!(caught == tried, "{} mutations were not caught", tried - caught);
    ensure!(false_alarms == 0, "{false_alarms} harmless changes raised an alarm");
    ensure!(seconds < SECONDS_MAX, "comparing took {seconds:.2} s");
    Ok(())
}

/// The contract of an installed release, or a small one where none is at hand.
fn contract() -> anyhow::Result<Document> {
    let mut releases: Vec<_> = std::fs::read_dir(RELEASES)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("bin/python3").exists())
        .collect();
    releases.sort();
    let Some(release) = releases.last() else {
        println!("no release in {RELEASES}: contracts are mutated on a small example");
        return Ok(mutants::example()?);
    };
    extract(release)
}

fn extract(release: &Path) -> anyhow::Result<Document> {
    let runtime = tokio::runtime::Runtime::new().context("no threads")?;
    let started = Instant::now();
    let at = jiff::Timestamp::now();
    let document = runtime.block_on(volutus_contract::extract::from_installed(release, at))?;
    println!("contract of {} read in {:.1} s", release.display(), started.elapsed().as_secs_f64());
    Ok(document)
}

/// Compares many pairs, beginning with text as it was recorded.
fn pairs(recordings: &[Recording]) -> anyhow::Result<f64> {
    let comparator = Comparator::new(vec!["http://198.51.100.10".to_owned()])?;
    let mut noise = Noise::default();
    let mut texts = Vec::new();
    for recording in recordings {
        noise.learn(&comparator, &recording.asked, &recording.first, &recording.second);
        let text = |answer: &Recorded| serde_json::to_string(answer);
        texts.push((recording.asked.clone(), text(&recording.first)?, text(&recording.second)?));
    }
    let started = Instant::now();
    let mut all = Vec::with_capacity(PAIRS);
    for (asked, old, new) in texts.iter().cycle().take(PAIRS) {
        let (old, new): (Recorded, Recorded) = (serde_json::from_str(old)?, serde_json::from_str(new)?);
        all.push((asked, comparator.compare(asked, &old, &new, &noise)));
    }
    let seconds = started.elapsed().as_secs_f64();
    let tally = Tally::of(all.iter().map(|(asked, compared)| (*asked, compared)));
    ensure!(tally.requests_compared == PAIRS && tally.held, "equal answers were told apart: {tally:?}");
    Ok(seconds)
}
