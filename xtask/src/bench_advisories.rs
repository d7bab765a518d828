//! `cargo xtask bench advisories`: all built-in advisories are read, what they say of the first and
//! the last version of eight series is held against a table that was made by other code, and a cloud
//! of 10,000 daemons is held against all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::{Context as _, bail};
use jiff::civil::date;
use volutus_advisories::{
    Advisories, ExposureInput, Judgement, Products, Record, Statements, builtin, exposure,
};
use volutus_catalog::Catalog;
use volutus_model::observation::{Environment, Fact};
use volutus_model::{Observation, PackageVersion};
use volutus_planner::described;

const RECORDS: usize = 196;
const DAEMONS: usize = 10_000;
const SECONDS_MAX: f64 = 1.0;

/// Source: judged with PEP 440 by a program of its own, from openstack/ossa@eb4136b and CVE records,
/// against openstack/releases@02df7c9 and the package index, 2026-11-23.
const EXPECTED: &str = include_str!("../../crates/advisories/testdata/expected.tsv");

/// Where the table is wrong, and why.
const EXPLAINED: &str = include_str!("../../crates/advisories/testdata/disagreements.tsv");

/// Libraries of an environment, as services of 2026.1 bring them. Each environment has as many
/// distributions as one of the lab's, most of which no advisory concerns.
const LIBRARIES: [(&str, &str); 6] = [
    ("keystonemiddleware", "10.10.0"),
    ("oslo-middleware", "6.3.0"),
    ("os-brick", "6.10.0"),
    ("glance-store", "4.8.1"),
    ("python-keystoneclient", "5.6.0"),
    ("os-vif", "4.0.0"),
];
const PACKAGES: usize = 180;

/// Measures, prints, and judges.
pub fn run() -> anyhow::Result<()> {
    let products = Products::builtin()?;
    let start = Instant::now();
    let read = builtin(&products)?;
    let read_ms = start.elapsed().as_secs_f64() * 1_000.0;
    let entries = read.records.iter().map(|record| record.affected.len()).sum::<usize>();
    let unread: Vec<_> = read.problems.iter().collect();
    println!("{} records with {entries} ranges read in {read_ms:.1} ms; not understood:", read.records.len());
    for problem in &unread {
        println!("  {problem}");
    }
    let left_out = read.problems.iter().filter(|problem| problem.left_out).count();
    let (judged, disagreements, unexplained) = compare(&read.records, &products)?;
    let advisories = Advisories::new(read.records.clone(), products);
    let seconds = judge_daemons(&advisories)?;
    println!(
        "records {}/{RECORDS}, ranges not understood {}, judgements {judged}, disagreements \
         {disagreements} ({unexplained} not explained), {DAEMONS} daemons in {seconds:.3} s | goal all records, \
         every disagreement explained, under {SECONDS_MAX} s",
        read.records.len(),
        unread.len()
    );
    if read.records.len() != RECORDS || left_out > 0 || unexplained > 0 || seconds >= SECONDS_MAX {
        bail!("a goal is missed; see the line above");
    }
    Ok(())
}

/// How many judgements there are, how many are not as expected, and how many of these nobody has
/// explained.
fn compare(records: &[Record], products: &Products) -> anyhow::Result<(usize, usize, usize)> {
    let explained: BTreeMap<&str, &str> = EXPLAINED
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once('\t'))
        .collect();
    let by_id: BTreeMap<&str, &Record> = records.iter().map(|record| (record.id.as_str(), record)).collect();
    let (mut judged, mut disagreements, mut unexplained) = (0, 0, 0);
    let mut series = BTreeSet::new();
    for line in EXPECTED.lines().filter(|line| !line.starts_with('#')) {
        let cells: Vec<&str> = line.split('\t').collect();
        let [id, product, in_series, first, first_judged, last, last_judged, lowest] = cells.as_slice()
        else {
            bail!("`{line}` does not have eight cells");
        };
        series.insert(*in_series);
        let record = by_id.get(id).with_context(|| format!("{id} is not among the records"))?;
        let distribution = products.distribution(product);
        let affected = record
            .affected
            .iter()
            .find(|affected| affected.distribution == distribution)
            .with_context(|| format!("{id} says nothing of {product}"))?;
        let mut check = |version: &str, expected: &str| {
            judged += 1;
            let found = match affected.judge(version, products) {
                Judgement::Affected => "affected".to_owned(),
                Judgement::NotAffected => "not_affected".to_owned(),
                Judgement::Unjudged { why } => format!("not judged: {why}"),
            };
            if found != expected {
                disagreements += 1;
                let why = explained.get([*id, *product, version].join("\t").as_str());
                unexplained += usize::from(why.is_none());
                println!(
                    "  {id} {product} {version} ({in_series}): {expected} expected, {found} found: {}",
                    why.unwrap_or(&"not explained")
                );
            }
        };
        check(first, first_judged);
        check(last, last_judged);
        if *lowest != "-" {
            check(lowest, "not_affected");
        }
    }
    println!("{judged} judgements over {} series: {disagreements} disagreements", series.len());
    Ok((judged, disagreements, unexplained))
}

/// Seconds that it takes to hold a cloud of [`DAEMONS`] daemons against all advisories.
fn judge_daemons(advisories: &Advisories) -> anyhow::Result<f64> {
    let catalog = Catalog::builtin().context("the built-in catalog does not load")?;
    let distributions: BTreeMap<_, _> = catalog
        .daemons()
        .into_iter()
        .map(|(kind, (service, _))| (kind.clone(), service.distribution.clone()))
        .collect();
    let mut hosts = DAEMONS / 2;
    let mut observation = loop {
        let (_, observation) = described::cloud(hosts);
        if observation.daemons.len() >= DAEMONS {
            break observation;
        }
        hosts += DAEMONS / 10;
    };
    while observation.daemons.len() > DAEMONS {
        observation.daemons.pop_last();
    }
    add_environments(&mut observation);
    let statements = Statements::default();
    let input = ExposureInput {
        advisories,
        observation: &observation,
        distributions: &distributions,
        statements: &statements,
        today: date(2026, 11, 25),
    };
    let start = Instant::now();
    let found = exposure(&input);
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{} daemons in {} environments: {} exposed versions, {} not judged, in {seconds:.3} s",
        found.daemons,
        found.environments,
        found.exposed.len(),
        found.unjudged.len()
    );
    if found.daemons != DAEMONS || !found.not_seen.is_empty() || found.exposed.is_empty() {
        bail!("{} of {DAEMONS} daemons were judged, {} not seen", found.daemons, found.not_seen.len());
    }
    Ok(seconds)
}

/// Every host has an environment that differs from the others': the worst that a fleet can be.
fn add_environments(observation: &mut Observation) {
    for (i, (_, host)) in observation.hosts.iter_mut().enumerate() {
        let Fact::Observed { value, .. } = host else { continue };
        let libraries =
            LIBRARIES.iter().map(|(name, version)| ((*name).to_owned(), PackageVersion::new(*version)));
        let others =
            (LIBRARIES.len()..PACKAGES).map(|n| (format!("library-{n}"), PackageVersion::new("1.0.0")));
        let mut packages: BTreeMap<String, PackageVersion> = libraries.chain(others).collect();
        packages.insert("site".to_owned(), PackageVersion::new(i.to_string()));
        let environment = Environment { packages };
        let digest = environment.digest();
        for series in ["2025.1", "2025.2", "2026.1"] {
            let path = format!("/opt/openstack/{series}");
            value.environments.insert(path, Fact::observed(digest.clone(), "described"));
        }
        observation.environments.insert(digest, environment);
    }
}
