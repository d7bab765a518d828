//! The queue of notices: once queued, once claimed, and never twice sent by itself.

use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use volutus_store::{NewNotice, NoticeState, SENDING_MAX, Sending, Store};

const CLOUD: &str = "cloud";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn notice(key: &str) -> NewNotice {
    NewNotice {
        key: key.to_owned(),
        moment: "start".to_owned(),
        channel: "email".to_owned(),
        recipient: "team".to_owned(),
        address: "a@example.org".to_owned(),
        subject: "it begins".to_owned(),
        body: "now".to_owned(),
    }
}

fn open(directory: &TempDir) -> Store {
    Store::open(directory.path()).unwrap()
}

#[test]
fn a_notice_is_queued_and_claimed_once() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (open(&directory), open(&directory));
    assert_eq!(one.queue_notices(CLOUD, &[notice("a"), notice("b")], at(1)).unwrap(), 2);
    assert_eq!(other.queue_notices(CLOUD, &[notice("b"), notice("c")], at(2)).unwrap(), 1);
    let keys: Vec<String> = std::iter::from_fn(|| one.claim_notice(CLOUD, at(3)).unwrap())
        .map(|claimed| claimed.notice.key)
        .collect();
    assert_eq!(keys, ["a", "b", "c"]);
    assert_eq!(other.claim_notice(CLOUD, at(3)).unwrap(), None, "all are being sent");
    assert_eq!(one.claim_notice("other", at(3)).unwrap(), None, "of another cloud");
}

#[test]
fn what_did_not_leave_is_tried_again_at_its_time_and_what_may_have_left_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    store.queue_notices(CLOUD, &[notice("a")], at(0)).unwrap();
    let id = store.claim_notice(CLOUD, at(0)).unwrap().unwrap().id;
    let later = Sending::Later { at: at(60), why: "refused".to_owned() };
    store.settle_notice(id, &later, at(1)).unwrap();
    assert_eq!(store.claim_notice(CLOUD, at(59)).unwrap(), None);
    let again = store.claim_notice(CLOUD, at(60)).unwrap().unwrap();
    assert_eq!((again.attempts, again.error.as_deref()), (2, Some("refused")));
    // The process is killed while it sends, and another one comes.
    let gone = at(61) + SENDING_MAX;
    assert_eq!(store.claim_notice(CLOUD, gone).unwrap(), None, "it is not sent again by itself");
    assert_eq!(store.notices(CLOUD, 10).unwrap()[0].state, NoticeState::Unsure);
    // Its own process comes too late with what it saw.
    store.settle_notice(id, &Sending::Later { at: gone, why: String::new() }, gone).unwrap();
    assert_eq!(store.notices(CLOUD, 10).unwrap()[0].state, NoticeState::Unsure);
    assert!(store.requeue_notice(id, gone).unwrap(), "a person may want it sent again");
    let third = store.claim_notice(CLOUD, gone + SignedDuration::from_secs(1)).unwrap().unwrap();
    store.settle_notice(third.id, &Sending::Sent, gone).unwrap();
    assert!(!store.requeue_notice(id, gone).unwrap(), "what was sent stays sent");
    assert_eq!(store.queue_notices(CLOUD, &[notice("a")], gone).unwrap(), 0);
}
