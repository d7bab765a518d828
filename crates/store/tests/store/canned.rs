//! Journals of every format that was ever written are read for ever.
//!
//! The files are never made anew: a change of this Volutus that they break would break the
//! journals of those who use it.

use std::collections::BTreeSet;
use std::sync::Arc;

use volutus_engine::{Machine, PlanIndex, event_name};
use volutus_model::event::JournalEntry;
use volutus_model::plan::Plan;
use volutus_model::run::RunStatus;

use crate::plans::{disable, enable, held, holding_step, plan, policy, stage, step};

const SUCCEEDED: &str = include_str!("../../../../tests/journals/format-1-succeeded.jsonl");
const ABORTED: &str = include_str!("../../../../tests/journals/format-1-aborted.jsonl");
const ROLLED_BACK: &str = include_str!("../../../../tests/journals/format-1-rolled-back.jsonl");

/// The plan that the journals are of, under the id that it had then.
fn canned_plan() -> Plan {
    let roll = vec![holding_step("roll/a", &[], "h1"), holding_step("roll/b", &[], "h2")];
    let last = vec![step("last/z", &[], vec![disable("h1"), enable("h1")])];
    let stages = vec![stage("roll", &[], 2, roll), held(stage("last", &["roll"], 1, last))];
    Plan { id: "canned".parse().unwrap(), ..plan(stages, policy(2, 2)) }
}

fn read(text: &str) -> Vec<JournalEntry> {
    let mut prev_hash = String::new();
    let mut entries = Vec::new();
    for (seq, line) in text.lines().enumerate() {
        let entry: JournalEntry = serde_json::from_str(line).unwrap();
        assert_eq!(entry.seq, seq as u64);
        assert_eq!(entry.prev_hash, prev_hash, "entry {seq}: hashes are computed in another way");
        assert_eq!(serde_json::to_string(&entry).unwrap(), line, "entry {seq} is written in another way");
        prev_hash = entry.compute_hash();
        entries.push(entry);
    }
    entries
}

fn status(entries: &[JournalEntry]) -> RunStatus {
    let index = Arc::new(PlanIndex::new(Arc::new(canned_plan())).unwrap());
    let machine = Machine::load("canned".parse().unwrap(), index, entries).unwrap();
    machine.state().status
}

#[test]
fn journals_of_format_1_are_read() {
    let (succeeded, aborted) = (read(SUCCEEDED), read(ABORTED));
    assert_eq!(status(&succeeded), RunStatus::Succeeded);
    let rolled_back = read(ROLLED_BACK);
    assert_eq!(status(&aborted), RunStatus::Aborted);
    assert_eq!(status(&rolled_back), RunStatus::Aborted);
    let events: BTreeSet<&str> =
        succeeded.iter().chain(&aborted).chain(&rolled_back).map(|entry| event_name(&entry.event)).collect();
    assert_eq!(events.len(), 20, "an event has no example: {events:?}");
}
