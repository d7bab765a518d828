//! Owners' answers to the notice of a reboot, in the plan that is made next.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, reason = "these tests need fewer shapes than the others")]

mod support;

use jiff::Timestamp;
use support::{check, host, instance};
use volutus_model::fleet::plan::{RebootPlan, StayReason};
use volutus_model::fleet::{Answer, Answers, Confirmation, Fleet, Obstacle, Part, RebootPolicy, Selection};

fn fleet() -> Fleet {
    let mut fleet =
        Fleet { hosts: ["c1", "c2", "c3", "c4"].map(|name| host(name, 64)).into(), ..Fleet::default() };
    fleet.hosts[3].part = Part::Exempt;
    for (id, on, gib) in [("a", "c1", 4), ("b", "c2", 8), ("d", "c3", 16)] {
        fleet.instances.push(instance(id, on, gib));
    }
    fleet.instances[2].obstacles = [Obstacle::Pci].into();
    for one in &mut fleet.instances {
        one.project = "team".to_owned();
    }
    fleet
}

fn made(fleet: &Fleet, second: i64) -> RebootPlan {
    let policy = RebootPolicy::parse("[reboot.hosts]\nat_once = 1").unwrap();
    let now = Timestamp::from_second(second).unwrap();
    let plan = volutus_fleet::plan(fleet, &policy, &Selection::default(), &"north".parse().unwrap(), now);
    let plan = plan.unwrap();
    assert_eq!(check(&plan, fleet, &policy), []);
    plan
}

fn answers(given: &[(&str, Answer)], second: i64) -> Answers {
    let all: Vec<Confirmation> = given
        .iter()
        .map(|(instance, answer)| Confirmation {
            plan: "announced".to_owned(),
            begins: Timestamp::from_second(1_000).unwrap(),
            project: "team".to_owned(),
            instance: (*instance).to_owned(),
            answer: *answer,
            announced_stop: false,
            at: Timestamp::from_second(second).unwrap(),
        })
        .collect();
    Answers::counting(&all, Timestamp::from_second(500).unwrap())
}

fn order(plan: &RebootPlan) -> Vec<&str> {
    plan.content.drains.iter().map(|drain| drain.host.as_str()).collect()
}

#[test]
fn later_puts_the_host_behind_others_and_stop_lets_it_be_rebooted() {
    let mut fleet = fleet();
    let announced = made(&fleet, 1);
    assert_eq!(order(&announced), ["c1", "c2"]);
    assert_eq!(announced.content.undecided, ["d"]);
    assert_eq!(announced.content.owners.keys().collect::<Vec<_>>(), ["a", "b", "d"]);

    let answers = answers(&[("a", Answer::Later), ("b", Answer::Agree), ("d", Answer::Stop)], 2);
    let since = answers.since(&announced).unwrap();
    assert_eq!(since.code, "answers-since");
    assert!(since.explanation.ends_with("1 `later`, 1 `stop`"), "{since:?}");
    answers.apply(&mut fleet);
    let next = made(&fleet, 3);
    assert_eq!(order(&next), ["c3", "c2", "c1"]);
    assert_eq!((next.content.undecided.len(), next.content.left.len()), (0, 0));
    assert_eq!(
        (next.content.stays[0].instance.as_str(), next.content.stays[0].why),
        ("d", StayReason::Stopped)
    );
    assert_eq!(answers.since(&next), None);
}

/// An answer that comes after the plan is a warning and never stops the run; one that takes consent back does.
#[test]
fn a_plan_is_judged_upon_the_consent_that_it_needs() {
    let policy = RebootPolicy::parse("[reboot.hosts]\nat_once = 1").unwrap();
    let judged = |answers: &Answers, plan: &RebootPlan| {
        let mut fleet = fleet();
        answers.apply_to_judge(plan, &mut fleet);
        check(plan, &fleet, &policy)
    };
    let announced = made(&fleet(), 1);
    assert_eq!(judged(&answers(&[("a", Answer::Stop)], 2), &announced), []);
    let stop = answers(&[("d", Answer::Stop)], 2);
    let mut seen = fleet();
    stop.apply(&mut seen);
    let next = made(&seen, 3);
    assert_eq!(judged(&stop, &next), []);
    let taken_back = answers(&[("d", Answer::Agree)], 4);
    assert!(judged(&taken_back, &next).iter().any(|finding| finding.code == "fleet-consent"));
    assert_eq!(taken_back.since(&next).unwrap().code, "answers-since");
}
