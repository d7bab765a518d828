//! `cargo xtask bench journal`: how long a journal of a million events takes to be read back after
//! a crash, and how many appends a second are durable, beside what SQLite itself can do on this
//! disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use volutus_catalog::Catalog;
use volutus_engine::{Effect, Input, Machine, PlanIndex};
use volutus_model::event::{Actor, Event};
use volutus_model::outcome::Outcome;
use volutus_model::plan::{Action, Plan};
use volutus_model::{Policy, RunId};
use volutus_planner::{PlanningInput, described};
use volutus_store::{Holder, Lease, Store};

use crate::bench_plan::peak_mib;

/// Events of the journal that is read back.
const EVENTS: usize = 1_000_000;
/// Events of one transaction, as many as a session records at once at the most.
const BATCH: usize = 64;
/// How long single appends are measured.
const SPAN: Duration = Duration::from_secs(3);
/// Reading back a million events, far more than any run has, may take this long.
const RECOVERY_MAX_S: f64 = 20.0;
/// Hosts of the described cloud whose plan the journal is of.
const HOSTS: usize = 10_000;

struct Bench {
    folder: tempfile::TempDir,
    store: Store,
    lease: Lease,
    run: RunId,
    plan: Arc<Plan>,
    actor: Actor,
    at: Timestamp,
}

/// Measures, prints, and judges.
pub fn run() -> anyhow::Result<()> {
    let bench = prepare()?;
    let events = events_of(&bench)?;
    // The bare inserts are measured before and after: disks of shared machines change their pace.
    let before = raw_inserts(&bench, "before")?;
    let (single, batched) = appends(&bench, &events)?;
    let raw = (before + raw_inserts(&bench, "after")?) / 2.0;
    println!(
        "durable appends: {single:.0} single events a second, {batched:.0} in transactions of {BATCH}; \
         bare SQLite inserts: {raw:.0} a second"
    );
    let written = fill(&bench, &events)?;
    println!("a journal of {EVENTS} events was written in {written:.1} s");
    let (seconds, completed) = recover(&bench)?;
    let mib = peak_mib()?;
    println!(
        "recovery of {EVENTS} events {seconds:.1} s ({completed} steps complete), peak {mib} MiB | appends {single:.0}/s \
         single, {batched:.0}/s in batches of {BATCH} (bare SQLite {raw:.0}/s) | goal at most {RECOVERY_MAX_S} s"
    );
    ensure!(seconds <= RECOVERY_MAX_S, "the goal is missed");
    Ok(())
}

/// An approved plan of a large cloud and a run of it, on the disk of this checkout: a file system in
/// memory would make everything durable at once.
fn prepare() -> anyhow::Result<Bench> {
    let target = crate::process::root().join("target");
    std::fs::create_dir_all(&target)?;
    let folder = tempfile::tempdir_in(&target)?;
    let catalog = Catalog::builtin().context("the built-in catalog does not load")?;
    let (inventory, observation) = described::cloud(HOSTS);
    let at = observation.at;
    let input = PlanningInput {
        inventory,
        observation,
        target: "2026.1".parse()?,
        versions: None,
        lock: None,
        policy: Policy { parallel_steps_max: 500, ..Policy::default() },
        now: at,
        parent: None,
        drains: None,
    };
    let (mut plan, _) = volutus_planner::plan(&input, &catalog)?;
    // Steps of many short actions, so that the journal reaches its length.
    for step in plan.stages.iter_mut().flat_map(|stage| &mut stage.steps) {
        step.actions = vec![Action::Watch { seconds: 1 }; 40];
    }
    plan.id = plan.compute_id();
    let store = Store::open(folder.path())?;
    let actor = Actor("bench".to_owned());
    store.put_plan(&plan)?;
    store.approve(&plan.id, &actor, at, &[])?;
    let run: RunId = "bench".parse()?;
    store.create_run(&run, &plan.id, &plan.cloud, at)?;
    let lease = store.acquire_lease(&plan.cloud, &Holder::this_process()?, at, Duration::from_secs(3_600))?;
    Ok(Bench { folder, store, lease, run, plan: Arc::new(plan), actor, at })
}

/// What the engine records of the plan while everything succeeds, up to the wanted number.
fn events_of(bench: &Bench) -> anyhow::Result<Vec<Event>> {
    let index = Arc::new(PlanIndex::new(Arc::clone(&bench.plan))?);
    let mut machine = Machine::new(bench.run.clone(), index);
    let mut events = Vec::with_capacity(EVENTS + 1_000);
    let mut open = std::collections::VecDeque::new();
    let mut input = Input::Begin { holder: "bench".to_owned() };
    loop {
        let decision = machine.step(input, bench.at)?;
        events.extend(decision.events);
        for Effect::Perform { order, .. } in decision.effects {
            open.push_back(order.attempt);
        }
        if events.len() >= EVENTS {
            events.truncate(EVENTS);
            return Ok(events);
        }
        let attempt = open.pop_front().context("the plan is too short for the journal")?;
        input = Input::Finished { attempt, outcome: Outcome::done("watched") };
    }
}

/// Durable events a second: one a transaction, and many.
fn appends(bench: &Bench, events: &[Event]) -> anyhow::Result<(f64, f64)> {
    let rate = |size: usize| -> anyhow::Result<f64> {
        let run: RunId = format!("appends-{size}").parse()?;
        // A run of its own: the one that is read back begins with its first event.
        let cloud = format!("appends-{size}").parse()?;
        bench.store.create_run(&run, &bench.plan.id, &cloud, bench.at)?;
        let holder = Holder::this_process()?;
        let lease = bench.store.acquire_lease(&cloud, &holder, bench.at, Duration::from_secs(3_600))?;
        let start = Instant::now();
        let mut done = 0;
        for batch in events.chunks(size) {
            bench.store.append(&lease, &run, &bench.actor, bench.at, batch)?;
            done += batch.len();
            if start.elapsed() > SPAN {
                break;
            }
        }
        Ok(done as f64 / start.elapsed().as_secs_f64())
    };
    Ok((rate(1)?, rate(BATCH)?))
}

/// Bare inserts a second with the same durability, to judge the figures by.
fn raw_inserts(bench: &Bench, name: &str) -> anyhow::Result<f64> {
    let connection = rusqlite::Connection::open(bench.folder.path().join(format!("{name}.db")))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute("CREATE TABLE journal (seq INTEGER PRIMARY KEY, body TEXT NOT NULL)", [])?;
    let body = "x".repeat(400);
    let start = Instant::now();
    let mut done = 0_u32;
    while start.elapsed() < SPAN {
        connection.execute("INSERT INTO journal (body) VALUES (?1)", [&body])?;
        done += 1;
    }
    Ok(f64::from(done) / start.elapsed().as_secs_f64())
}

fn fill(bench: &Bench, events: &[Event]) -> anyhow::Result<f64> {
    let start = Instant::now();
    for batch in events.chunks(4_096) {
        bench.store.append(&bench.lease, &bench.run, &bench.actor, bench.at, batch)?;
    }
    Ok(start.elapsed().as_secs_f64())
}

/// What a process does that takes a run up: opens the store, sees that the journal is whole, and
/// folds it.
fn recover(bench: &Bench) -> anyhow::Result<(f64, usize)> {
    let start = Instant::now();
    let store = Store::open(bench.folder.path())?;
    let record = store.run(&bench.run)?;
    let index = Arc::new(PlanIndex::new(Arc::new(store.plan(&record.plan)?))?);
    let mut machine = Machine::new(bench.run.clone(), index);
    let mut refused = None;
    store.read_journal(&bench.run, |entry| {
        if refused.is_none() {
            refused = machine.fold(&entry).err();
        }
    })?;
    if let Some(error) = refused {
        return Err(error.into());
    }
    let seconds = start.elapsed().as_secs_f64();
    let state = machine.state();
    let completed = state.steps.values().filter(|step| **step == volutus_model::run::StepStatus::Completed);
    Ok((seconds, completed.count()))
}
