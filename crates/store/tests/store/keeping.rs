//! What the store keeps, refuses and notices.

use std::path::Path;
use std::time::Duration;

use crate::plans;
use jiff::Timestamp;
use tempfile::TempDir;
use volutus_engine::Command;
use volutus_model::event::{Actor, Event};
use volutus_model::fleet::plan::{Content, FORMAT, Figures};
use volutus_model::fleet::{RebootPlan, RebootPolicy, Selection, Work};
use volutus_model::name::{HostName, RunId};
use volutus_model::plan::Plan;
use volutus_model::probe::{Sample, SampleResult};
use volutus_store::{AnyPlan, Error, FILE, Holder, Lease, Store, Subject};

const TTL: Duration = Duration::from_secs(30);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn actor() -> Actor {
    Actor("operator".to_owned())
}

fn cloud() -> HostName {
    "cloud".parse().unwrap()
}

fn run() -> RunId {
    "r1".parse().unwrap()
}

fn this_process() -> Holder {
    Holder::this_process().unwrap()
}

/// A process elsewhere, of which nobody here can know whether it lives.
fn elsewhere(host: &str) -> Holder {
    Holder { host: host.to_owned(), boot_id: host.to_owned(), ..this_process() }
}

fn a_plan() -> Plan {
    plans::plan(vec![plans::stage("roll", &[], 1, Vec::new())], plans::policy(1, 1))
}

/// A store with a run of an approved plan.
fn with_run() -> (TempDir, Store, Plan) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let plan = a_plan();
    store.put_plan(&plan).unwrap();
    store.approve(&plan.id, &actor(), at(1), &["single-replica".to_owned()]).unwrap();
    store.create_run(&run(), &plan.id, &cloud(), at(2)).unwrap();
    (directory, store, plan)
}

fn edit(directory: &Path, statement: &str) {
    let connection = rusqlite::Connection::open(directory.join(FILE)).unwrap();
    assert_eq!(connection.execute(statement, []).unwrap(), 1, "{statement} changed nothing");
}

fn lease(store: &Store) -> Lease {
    store.acquire_lease(&cloud(), &this_process(), at(10), TTL).unwrap()
}

#[test]
fn plans_are_kept_found_and_approved() {
    let (_directory, store, plan) = with_run();
    assert_eq!(store.plan(&plan.id).unwrap(), plan);
    assert_eq!(store.find_plan(&plan.id.as_str()[..8]).unwrap(), plan);
    let error = store.find_plan("zzz").unwrap_err().to_string();
    assert_eq!(error, format!("there is no plan `zzz`; there are: {}", plan.id));
    assert!(matches!(store.find_plan(""), Err(Error::NotFound { .. })));
    let listed = store.plans().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].approval.as_ref().unwrap().consents, ["single-replica"]);
    let again = store.approve(&plan.id, &Actor("other".to_owned()), at(9), &[]).unwrap();
    assert_eq!((again.actor, again.at), (actor(), at(1)), "the first approval stays");
}

fn a_reboot_plan() -> RebootPlan {
    RebootPlan::new(Content {
        control: Vec::new(),
        format: FORMAT,
        cloud: cloud(),
        created_at: at(0),
        fleet: "digest".to_owned(),
        work: Work::Reboot,
        upgrade: None,
        selection: Selection::default(),
        policy: RebootPolicy::default(),
        drains: Vec::new(),
        moves: Vec::new(),
        owners: std::collections::BTreeMap::new(),
        undecided: Vec::new(),
        stays: Vec::new(),
        left: Vec::new(),
        classes: Vec::new(),
        duties: std::collections::BTreeMap::new(),
        findings: Vec::new(),
        figures: Figures::default(),
    })
}

#[test]
fn plans_of_reboots_are_kept_beside_upgrades() {
    let (directory, store, upgrade) = with_run();
    let plan = a_reboot_plan();
    store.put_reboot_plan(&plan).unwrap();
    assert_eq!(store.any_plan(&plan.id).unwrap(), AnyPlan::Reboot(Box::new(plan.clone())));
    assert_eq!(store.find_any_plan(&plan.id.as_str()[..8]).unwrap().id(), &plan.id);
    assert_eq!(store.any_plan(&upgrade.id).unwrap(), AnyPlan::Upgrade(Box::new(upgrade)));
    assert!(matches!(store.plan(&plan.id), Err(Error::IsReboot { .. })));
    assert_eq!(store.plans().unwrap()[0].subject, Subject::Reboot);
    assert_eq!(store.approve(&plan.id, &actor(), at(1), &[]).unwrap().actor, actor());
    let mut other = plan.clone();
    other.content.policy.moves.per_source = 9;
    assert!(matches!(store.put_reboot_plan(&other), Err(Error::PlanAltered { .. })));
    edit(
        directory.path(),
        r#"UPDATE plan SET body = replace(body, '"per_source":1', '"per_source":9') WHERE series_to = 'reboot'"#,
    );
    assert!(matches!(store.any_plan(&plan.id), Err(Error::PlanAltered { .. })));
    assert!(matches!(store.approve(&plan.id, &actor(), at(2), &[]), Err(Error::PlanAltered { .. })));
}

#[test]
fn an_altered_plan_is_noticed() {
    let (directory, store, plan) = with_run();
    let mut other = plan.clone();
    other.policy.parallel_steps_max = 99;
    assert!(matches!(store.put_plan(&other), Err(Error::PlanAltered { .. })));
    edit(
        directory.path(),
        r#"UPDATE plan SET body = replace(body, '"parallel_steps_max":1', '"parallel_steps_max":9')"#,
    );
    for error in [
        store.plan(&plan.id).unwrap_err(),
        store.approve(&plan.id, &actor(), at(3), &[]).unwrap_err(),
        store.create_run(&"r2".parse().unwrap(), &plan.id, &cloud(), at(3)).unwrap_err(),
    ] {
        assert!(matches!(error, Error::PlanAltered { .. }), "{error}");
    }
    // A whole other plan under this id, its own id being right.
    other.id = other.compute_id();
    let body = serde_json::to_string(&other).unwrap();
    edit(directory.path(), &format!("UPDATE plan SET body = '{body}'"));
    assert!(matches!(store.plan(&plan.id), Err(Error::PlanAltered { .. })));
}

#[test]
fn runs_need_approval_and_an_idle_cloud() {
    let (_directory, store, plan) = with_run();
    let mut unapproved = plan.clone();
    unapproved.policy.soak_s = 7;
    unapproved.id = unapproved.compute_id();
    store.put_plan(&unapproved).unwrap();
    let create = |run: &str, plan: &Plan| store.create_run(&run.parse().unwrap(), &plan.id, &cloud(), at(5));
    assert!(matches!(create("r2", &unapproved), Err(Error::NotApproved { .. })));
    assert!(matches!(create("r2", &plan), Err(Error::RunUnfinished { .. })));
    assert!(matches!(create("r/2", &plan), Err(Error::RunId { .. })));
    let lease = lease(&store);
    store.append(&lease, &run(), &actor(), at(11), &[Event::Succeeded]).unwrap();
    assert!(matches!(create("r1", &plan), Err(Error::RunId { .. })));
    create("r2", &plan).unwrap();
    assert_eq!(store.latest_run(&cloud()).unwrap().unwrap().id.as_str(), "r2");
    assert_eq!(store.find_run("r1").unwrap().entries, 1);
    assert!(matches!(store.find_run("r"), Err(Error::Ambiguous { .. })));
    assert_eq!(store.runs().unwrap().len(), 2);
}

#[test]
fn leases_are_held_run_out_and_pass_from_the_dead() {
    let (_directory, store, _) = with_run();
    let first = store.acquire_lease(&cloud(), &elsewhere("h1"), at(100), TTL).unwrap();
    let take = |second| store.acquire_lease(&cloud(), &elsewhere("h2"), at(second), TTL);
    let error = take(120).unwrap_err().to_string();
    assert!(error.contains("h1 since 1970-01-01T00:01:40Z"), "{error}");
    store.renew_lease(&first, at(120)).unwrap();
    assert!(matches!(take(150), Err(Error::LeaseHeld { .. })), "30 s after the renewal are not over");
    let second = take(151).unwrap();
    assert_eq!((first.epoch, second.epoch), (1, 2));
    assert!(matches!(store.renew_lease(&first, at(152)), Err(Error::Fenced { .. })));
    store.release_lease(&first).unwrap();
    assert!(store.lease(&cloud(), at(152)).unwrap().is_some(), "a lost lease released the new one");
    store.release_lease(&second).unwrap();
    assert_eq!(store.lease(&cloud(), at(152)).unwrap(), None);

    let dead = Holder { pid: u32::MAX, ..this_process() };
    let third = store.acquire_lease(&cloud(), &dead, at(160), TTL).unwrap();
    assert_eq!(store.lease(&cloud(), at(160)).unwrap(), None, "its holder has ended");
    let fourth = store.acquire_lease(&cloud(), &this_process(), at(160), TTL).unwrap();
    assert_eq!((third.epoch, fourth.epoch), (3, 4));
    assert!(matches!(take(161), Err(Error::LeaseHeld { .. })));
}

#[test]
fn appends_under_a_lost_lease_change_nothing() {
    let (directory, store, _) = with_run();
    let other = Store::open(directory.path()).unwrap();
    let dead = Holder { pid: u32::MAX, ..this_process() };
    let old = store.acquire_lease(&cloud(), &dead, at(10), TTL).unwrap();
    store.append(&old, &run(), &actor(), at(11), &[Event::Paused]).unwrap();
    let new = other.acquire_lease(&cloud(), &this_process(), at(12), TTL).unwrap();
    other.append(&new, &run(), &actor(), at(13), &[Event::Resumed, Event::Paused]).unwrap();
    let error = store.append(&old, &run(), &actor(), at(14), &[Event::Resumed]).unwrap_err();
    assert!(matches!(error, Error::Fenced { epoch: 1, current: 2, .. }), "{error}");
    other.release_lease(&new).unwrap();
    assert!(matches!(
        other.append(&new, &run(), &actor(), at(15), &[Event::Resumed]),
        Err(Error::Fenced { .. })
    ));
    let journal = store.journal(&run(), 0).unwrap();
    let read: Vec<(u64, u64)> = journal.iter().map(|entry| (entry.seq, entry.epoch)).collect();
    assert_eq!(read, [(0, 1), (1, 2), (2, 2)]);
    assert_eq!(store.journal(&run(), 2).unwrap(), journal[2..]);
    store.verify_journal(&run()).unwrap();
    let elsewhere: HostName = "other".parse().unwrap();
    let wrong = store.acquire_lease(&elsewhere, &this_process(), at(20), TTL).unwrap();
    assert!(matches!(
        store.append(&wrong, &run(), &actor(), at(21), &[Event::Resumed]),
        Err(Error::Fenced { .. })
    ));
}

#[test]
fn an_altered_journal_is_noticed_wherever_it_was_altered() {
    let edits = [
        ("UPDATE journal SET body = replace(body, 'operator', 'somebody') WHERE seq = 0", 1),
        ("UPDATE journal SET body = replace(body, 'paused', 'resumed') WHERE seq = 1", 2),
        ("UPDATE journal SET body = replace(body, 'paused', 'resumed') WHERE seq = 3", 3),
        ("DELETE FROM journal WHERE seq = 1", 1),
        ("DELETE FROM journal WHERE seq = 3", 2),
        ("UPDATE journal SET body = '{' WHERE seq = 2", 2),
    ];
    for (statement, expected) in edits {
        let (directory, store, _) = with_run();
        let lease = lease(&store);
        let events = [Event::Resumed, Event::Paused, Event::Resumed, Event::Paused];
        store.append(&lease, &run(), &actor(), at(11), &events).unwrap();
        store.verify_journal(&run()).unwrap();
        edit(directory.path(), statement);
        match store.verify_journal(&run()) {
            Err(Error::ChainBroken { seq, .. }) => assert_eq!(seq, expected, "{statement}"),
            other => panic!("{statement}: {other:?}"),
        }
    }
}

#[test]
fn commands_are_answered_once() {
    let (_directory, store, _) = with_run();
    let lease = lease(&store);
    let pause = store.push_command(&run(), Command::Pause, &actor(), at(11)).unwrap();
    let abort = store.push_command(&run(), Command::Abort, &actor(), at(12)).unwrap();
    assert_eq!(store.command_answer(pause).unwrap(), None);
    let pending = store.pending_commands(&run()).unwrap();
    assert_eq!(pending.iter().map(|c| c.command).collect::<Vec<_>>(), [Command::Pause, Command::Abort]);
    let entries = store.append_command(&lease, &run(), &pending[0], at(13), &[Event::Paused]).unwrap();
    assert_eq!(entries[0].actor, actor());
    store.refuse_command(&lease, &pending[1], "no").unwrap();
    assert!(store.pending_commands(&run()).unwrap().is_empty());
    assert_eq!(store.command_answer(pause).unwrap(), Some(Ok(())));
    assert_eq!(store.command_answer(abort).unwrap(), Some(Err("no".to_owned())));
    let nowhere = "r9".parse().unwrap();
    assert!(matches!(
        store.push_command(&nowhere, Command::Pause, &actor(), at(1)),
        Err(Error::NotFound { .. })
    ));
}

#[test]
fn samples_are_kept_and_counted() {
    let (_directory, store, _) = with_run();
    let sample = |due_us, failed: bool| Sample {
        due_us,
        latency_ms: 1.5,
        service: "nova".parse().unwrap(),
        operation: "list servers".to_owned(),
        status: Some(if failed { 503 } else { 200 }),
        result: if failed { SampleResult::Failed { why: "no".to_owned() } } else { SampleResult::Ok },
        steps: vec!["roll/a".parse().unwrap()],
        advertised: None,
    };
    let samples = [sample(1, true), sample(3, true), sample(2, false)];
    store.append_samples(&run(), &samples).unwrap();
    let kept = store.samples(&run()).unwrap();
    assert_eq!(kept, [samples[0].clone(), samples[2].clone(), samples[1].clone()]);
    assert_eq!(store.count_samples(&run(), 2).unwrap(), (1, 2));
    assert!(store.append_samples(&"r9".parse().unwrap(), &samples).is_err());
}

#[test]
fn files_that_cannot_be_used_are_explained() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(FILE), "this is no database, however long it may be".repeat(100))
        .unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(error, Error::Unusable { .. }), "{error}");
    assert!(error.to_string().contains("damaged, or not a store of Volutus"), "{error}");

    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Store::open(&file.path().join("state")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");

    let (directory, store, _) = with_run();
    drop(store);
    edit(directory.path(), "UPDATE schema_version SET version = 7");
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(error, Error::NewerSchema { found: 7, known: 4, .. }), "{error}");
}

#[test]
fn documents_are_kept_replaced_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let put =
        |key: &str, body: u32, second| store.put_documents("number", &[(key.to_owned(), body)], at(second));
    put("a", 1, 1).unwrap();
    put("b", 2, 2).unwrap();
    put("a", 3, 3).unwrap();
    let found = store.documents::<u32>("number").unwrap();
    let found: Vec<_> =
        found.into_iter().map(|document| (document.key, document.at, document.body)).collect();
    assert_eq!(found, [("a".to_owned(), at(3), 3), ("b".to_owned(), at(2), 2)]);
    assert!(store.documents::<String>("number").is_err());
    assert!(store.remove_document("number", "a").unwrap());
    assert!(!store.remove_document("number", "a").unwrap());
    assert!(store.documents::<u32>("other").unwrap().is_empty());
}

/// A file of the version before is taken on, and what it has stays.
#[test]
fn a_file_of_version_1_is_migrated() {
    let (directory, store, plan) = with_run();
    drop(store);
    edit(directory.path(), "UPDATE schema_version SET version = 1");
    let connection = rusqlite::Connection::open(directory.path().join(FILE)).unwrap();
    connection.execute_batch("DROP TABLE document; DROP TABLE notice; DROP TABLE confirmation").unwrap();
    drop(connection);
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(store.plan(&plan.id).unwrap(), plan);
    store.put_documents("number", &[("a".to_owned(), 1)], at(1)).unwrap();
    assert_eq!(store.confirmations("cloud").unwrap(), []);
    assert_eq!(Store::open(directory.path()).unwrap().documents::<u32>("number").unwrap().len(), 1);
}
