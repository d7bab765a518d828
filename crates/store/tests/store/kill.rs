//! A process is killed while it appends; what it had recorded is whole.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::plans;
use jiff::Timestamp;
use volutus_model::event::{Actor, Event};
use volutus_model::name::RunId;
use volutus_store::{Holder, Lease, Store};

/// Tells the test's own program that it is the process to be killed.
const CHILD: &str = "VOLUTUS_TEST_APPENDS_IN";

fn actor() -> Actor {
    Actor("operator".to_owned())
}

fn take_lease(store: &Store) -> Lease {
    let holder = Holder::this_process().unwrap();
    let ttl = Duration::from_secs(3_600);
    store.acquire_lease(&"cloud".parse().unwrap(), &holder, Timestamp::UNIX_EPOCH, ttl).unwrap()
}

/// Appends pairs of events for as long as it lives, and says so after each.
fn append_for_ever(directory: &Path, run: &RunId) -> ! {
    let store = Store::open(directory).unwrap();
    let lease = take_lease(&store);
    loop {
        let pair = [Event::Paused, Event::Resumed];
        let entries = store.append(&lease, run, &actor(), Timestamp::UNIX_EPOCH, &pair).unwrap();
        eprintln!("appended {}", entries[1].seq);
    }
}

#[test]
fn a_killed_process_leaves_a_whole_journal() {
    let run: RunId = "r1".parse().unwrap();
    if let Some(directory) = std::env::var_os(CHILD) {
        append_for_ever(Path::new(&directory), &run);
    }
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let plan = plans::plan(Vec::new(), plans::policy(1, 1));
    store.put_plan(&plan).unwrap();
    store.approve(&plan.id, &actor(), Timestamp::UNIX_EPOCH, &[]).unwrap();
    store.create_run(&run, &plan.id, &plan.cloud, Timestamp::UNIX_EPOCH).unwrap();
    let mut epochs = Vec::new();
    for appends in [1, 7, 20] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::a_killed_process_leaves_a_whole_journal", "--nocapture"])
            .env(CHILD, directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let told: Vec<u64> = lines
            .filter_map(|line| line.strip_prefix("appended ").map(|seq| seq.parse().unwrap()))
            .take(appends)
            .collect();
        child.kill().unwrap();
        child.wait().unwrap();

        store.verify_journal(&run).unwrap();
        let journal = store.journal(&run, 0).unwrap();
        assert_eq!(journal.len() % 2, 0, "half of an append was kept");
        let last = journal.last().unwrap();
        assert!(last.seq >= *told.last().unwrap(), "what was said to be recorded is not");
        epochs.push(last.epoch);
        // Its lease has an hour to go, and passes on all the same: the process is gone.
    }
    assert_eq!(epochs, [1, 2, 3]);
}
