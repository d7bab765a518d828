//! Answers of owners: of each instance and announcement the last, until it is begun.

use jiff::Timestamp;
use volutus_model::event::Actor;
use volutus_model::fleet::{Answer, Confirmation, Work};
use volutus_model::name::HostName;
use volutus_model::{Plan, PlanKind, RunId};
use volutus_store::Store;

use crate::plans;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn given(answer: Answer, second: i64) -> Confirmation {
    Confirmation {
        plan: "reboot".to_owned(),
        begins: at(100),
        project: "team".to_owned(),
        instance: "i".to_owned(),
        answer,
        announced_stop: false,
        at: at(second),
    }
}

#[test]
fn the_last_answer_counts_until_the_announced_begin_or_a_run() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    for (answer, second) in [(Answer::Stop, 1), (Answer::Later, 2)] {
        assert!(store.record_confirmations("cloud", &[given(answer, second)]).unwrap());
    }
    assert_eq!(store.confirmations("cloud").unwrap(), [given(Answer::Later, 2)]);
    assert_eq!(store.confirmations("other").unwrap(), []);
    assert!(!store.record_confirmations("cloud", &[given(Answer::Stop, 100)]).unwrap(), "it has begun");

    let cloud: HostName = "cloud".parse().unwrap();
    let step = plans::step("step", &[], vec![plans::enable("c01")]);
    let mut plan: Plan = plans::plan(vec![plans::stage("roll", &[], 1, vec![step])], plans::policy(1, 1));
    plan.kind = PlanKind::Reboot { of: "reboot".parse().unwrap(), work: Work::Reboot };
    plan.to = plan.from;
    plan.id = plan.compute_id();
    store.put_plan(&plan).unwrap();
    store.approve(&plan.id, &Actor("op".to_owned()), at(3), &[]).unwrap();
    assert!(store.record_confirmations("cloud", &[given(Answer::Stop, 4)]).unwrap(), "there is no run yet");
    let run: RunId = "run".parse().unwrap();
    store.create_run(&run, &plan.id, &cloud, at(5)).unwrap();
    assert!(!store.record_confirmations("cloud", &[given(Answer::Agree, 6)]).unwrap(), "there is one");
    assert_eq!(store.confirmations("cloud").unwrap(), [given(Answer::Stop, 4)]);
    let other = Confirmation { plan: "another".to_owned(), ..given(Answer::Agree, 7) };
    assert!(store.record_confirmations("cloud", &[other]).unwrap(), "another plan has not begun");
}
