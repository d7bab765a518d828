//! The machine lost its power while SQLite was writing: the end of its log is cut, or holds what
//! happened to be on the disk.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::plans;
use jiff::Timestamp;
use volutus_model::event::{Actor, Event};
use volutus_model::name::RunId;
use volutus_store::{FILE, Holder, Store};

const APPENDS: usize = 12;

fn actor() -> Actor {
    Actor("operator".to_owned())
}

/// The files as they are on the disk while a process still has them open, in a folder of their own.
fn copy(from: &Path, to: &Path, end: impl FnOnce(&mut Vec<u8>)) {
    fs::copy(from.join(FILE), to.join(FILE)).unwrap();
    let log = format!("{FILE}-wal");
    let mut bytes = fs::read(from.join(&log)).unwrap();
    end(&mut bytes);
    fs::write(to.join(&log), bytes).unwrap();
}

fn entries(directory: &Path, run: &RunId) -> usize {
    let store = Store::open(directory).unwrap();
    store.verify_journal(run).unwrap();
    let count = store.journal(run, 0).unwrap().len();
    // It goes on from there.
    let holder = Holder::this_process().unwrap();
    let lease = store
        .acquire_lease(&"cloud".parse().unwrap(), &holder, Timestamp::UNIX_EPOCH, Duration::from_secs(9))
        .unwrap();
    store.append(&lease, run, &actor(), Timestamp::UNIX_EPOCH, &[Event::Resumed]).unwrap();
    store.verify_journal(run).unwrap();
    count
}

#[test]
fn a_torn_end_costs_at_most_what_was_never_confirmed() {
    let run: RunId = "r1".parse().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let plan = plans::plan(Vec::new(), plans::policy(1, 1));
    store.put_plan(&plan).unwrap();
    store.approve(&plan.id, &actor(), Timestamp::UNIX_EPOCH, &[]).unwrap();
    store.create_run(&run, &plan.id, &plan.cloud, Timestamp::UNIX_EPOCH).unwrap();
    // A holder that is dead for everybody who comes later.
    let holder = Holder { pid: u32::MAX, ..Holder::this_process().unwrap() };
    let lease = store
        .acquire_lease(&"cloud".parse().unwrap(), &holder, Timestamp::UNIX_EPOCH, Duration::from_secs(9))
        .unwrap();
    let log = directory.path().join(format!("{FILE}-wal"));
    let mut confirmed = Vec::new();
    for _ in 0..APPENDS {
        store.append(&lease, &run, &actor(), Timestamp::UNIX_EPOCH, &[Event::Paused]).unwrap();
        let kept = store.journal(&run, 0).unwrap().len();
        confirmed.push((usize::try_from(fs::metadata(&log).unwrap().len()).unwrap(), kept));
    }
    let (whole, all) = *confirmed.last().unwrap();
    let mut lost = 0;
    // Every length of the log from the first append on, in steps that fall anywhere in a frame.
    for end in (confirmed[0].0..=whole).step_by(1_009).chain([whole]) {
        let kept_at_least = confirmed.iter().rev().find(|(length, _)| *length <= end).unwrap().1;
        for torn in [false, true] {
            let other = tempfile::tempdir().unwrap();
            copy(directory.path(), other.path(), |bytes| {
                if torn {
                    // The length is there, and what was written is not.
                    bytes[end..].fill(0xA5);
                } else {
                    bytes.truncate(end);
                }
            });
            let kept = entries(other.path(), &run);
            assert!(kept >= kept_at_least, "{kept} of {kept_at_least} confirmed entries are left at {end}");
            assert!(kept <= all);
            lost += all - kept;
        }
    }
    assert!(lost > 0, "nothing was ever torn away");
}
