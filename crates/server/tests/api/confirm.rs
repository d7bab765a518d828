//! Answers of owners: what a link lets them do, and nobody else.

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use volutus_model::event::Actor;
use volutus_model::fleet::plan::{
    Content, FORMAT, Figures, How, Move, Owner, RebootPlan, Stay, StayReason, Work,
};
use volutus_model::fleet::{Answer, RebootPolicy, Selection};
use volutus_model::{PlanKind, RunId};
use volutus_notices::{Key, Link};

use crate::plans;
use crate::support::{Served, cloud, serve, serve_tcp};

fn moved(instance: &str) -> Move {
    Move {
        instance: instance.to_owned(),
        from: "c1".parse().unwrap(),
        to: "c2".parse().unwrap(),
        start_ms: 0,
        end_ms: 1,
        how: How::Live,
        moves_again: false,
        cells: Vec::new(),
        per_destination: 1,
        timeout_s: 1,
        then: Vec::new(),
    }
}

/// Moves `a` and `b` of the project `team` and `c` of another, stops `s`, and asks about `u`.
fn reboot_plan() -> RebootPlan {
    let owner = |(id, project): (&str, &str)| {
        (id.to_owned(), Owner { project: project.to_owned(), name: format!("name-{id}") })
    };
    RebootPlan::new(Content {
        format: FORMAT,
        cloud: cloud(),
        created_at: Timestamp::UNIX_EPOCH,
        fleet: "digest".to_owned(),
        work: Work::Reboot,
        upgrade: None,
        selection: Selection::default(),
        policy: RebootPolicy::default(),
        drains: Vec::new(),
        moves: ["a", "b", "c"].map(moved).into(),
        stays: vec![Stay { instance: "s".to_owned(), host: "c1".parse().unwrap(), why: StayReason::Stopped }],
        owners: [("a", "team"), ("b", "team"), ("c", "other"), ("s", "team"), ("u", "team")]
            .map(owner)
            .into(),
        undecided: vec!["u".to_owned()],
        left: Vec::new(),
        control: Vec::new(),
        classes: Vec::new(),
        duties: std::collections::BTreeMap::new(),
        findings: Vec::new(),
        figures: Figures::default(),
    })
}

struct Asked {
    served: Served,
    plan: RebootPlan,
    link: Link,
    key: Key,
}

impl Asked {
    fn begin(served: Served) -> Self {
        let plan = reboot_plan();
        served.store.put_reboot_plan(&plan).unwrap();
        let key = Key::make(served.store.path().parent().unwrap()).unwrap();
        let begins = Timestamp::now() + SignedDuration::from_hours(1);
        let link = Link {
            cloud: cloud().to_string(),
            plan: plan.id.to_string(),
            project: "team".to_owned(),
            begins,
        };
        Self { served, plan, link, key }
    }

    fn path(&self, link: &Link) -> String {
        format!("/confirm/{}", self.key.sign(link))
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.served.page(Method::GET, path, None).await
    }

    async fn post(&self, path: &str, form: &str) -> (u16, String) {
        self.served.page(Method::POST, path, Some(form)).await
    }

    fn recorded(&self) -> Vec<(String, Answer, bool)> {
        let mut all: Vec<_> = self
            .served
            .store
            .confirmations("cloud")
            .unwrap()
            .into_iter()
            .map(|one| (one.instance, one.answer, one.announced_stop))
            .collect();
        all.sort();
        all
    }
}

#[tokio::test]
async fn looking_records_nothing_and_the_last_answer_counts() {
    // Nobody has a token.
    let asked = Asked::begin(serve_tcp().await);
    let path = asked.path(&asked.link);
    let (status, page) = asked.get(&path).await;
    assert_eq!(status, 200, "{page}");
    for told in ["name-a (a)", "name-u (u)", "stays untouched unless", "name=\"all\""] {
        assert!(page.contains(told), "{told}: {page}");
    }
    assert!(!page.contains("name-c") && !page.contains("<script"), "{page}");
    assert_eq!(asked.served.page(Method::HEAD, &path, None).await.0, 200);
    assert_eq!(asked.recorded(), [], "programs that scan mail follow links");

    let (status, page) = asked.post(&path, "").await;
    assert!(status == 200 && page.contains("Nothing was chosen"), "{page}");
    assert_eq!(asked.recorded(), []);
    let (status, page) = asked.post(&path, "all=agree&b=later&u=stop").await;
    assert!(status == 200 && page.contains("was recorded"), "{page}");
    assert!(page.contains("Your answer so far: later."), "{page}");
    let first = [
        ("a", Answer::Agree, false),
        ("b", Answer::Later, false),
        ("s", Answer::Agree, true),
        ("u", Answer::Stop, false),
    ]
    .map(|(id, answer, stops)| (id.to_owned(), answer, stops));
    assert_eq!(asked.recorded(), first);
    asked.post(&path, "b=stop").await;
    assert_eq!(asked.recorded()[1], ("b".to_owned(), Answer::Stop, false));
    assert_eq!(asked.recorded().len(), 4);
}

#[tokio::test]
async fn what_is_forged_foreign_or_late_is_refused_without_details() {
    let asked = Asked::begin(serve(|access| access).await);
    let good = asked.path(&asked.link);
    let other_key = Key::make(tempfile::tempdir().unwrap().path()).unwrap();
    let altered = format!("{good}x");
    let links = [
        ("/confirm/x".to_owned(), 403),
        ("/confirm/%FF".to_owned(), 403),
        (altered, 403),
        (format!("/confirm/{}", other_key.sign(&asked.link)), 403),
        (asked.path(&Link { cloud: "south".to_owned(), ..asked.link.clone() }), 403),
        (asked.path(&Link { begins: Timestamp::now(), ..asked.link.clone() }), 410),
        (asked.path(&Link { plan: "gone".to_owned(), ..asked.link.clone() }), 410),
    ];
    for (path, wanted) in &links {
        for (status, page) in [asked.get(path).await, asked.post(path, "all=stop").await] {
            assert_eq!(status, *wanted, "{path}: {page}");
            assert!(page.starts_with("<!DOCTYPE html>") && !page.contains("name-a"), "{page}");
        }
    }
    for (form, wanted) in [("c=stop", 403), ("a=maybe", 400), ("a=%FF", 400), ("a=agree&c=agree", 403)] {
        assert_eq!(asked.post(&good, form).await.0, wanted, "{form}");
    }
    let long = format!("a={}", "x".repeat(70_000));
    assert_eq!(asked.post(&good, &long).await.0, 413);
    assert_eq!(asked.recorded(), []);

    // The plan that is carried out is of the steps of the reboot plan.
    let store = &asked.served.store;
    let step = plans::step("step", &[], vec![plans::enable("c01")]);
    let mut steps = plans::plan(vec![plans::stage("roll", &[], 1, vec![step])], plans::policy(1, 1));
    steps.kind = PlanKind::Reboot { of: asked.plan.id.clone(), work: Work::Reboot };
    steps.to = steps.from;
    steps.id = steps.compute_id();
    store.put_plan(&steps).unwrap();
    let of_steps = asked.path(&Link { plan: steps.id.to_string(), ..asked.link.clone() });
    assert_eq!(asked.get(&of_steps).await.0, 200, "a link to the steps asks of the same");
    store.approve(&steps.id, &Actor("operator".to_owned()), Timestamp::now(), &[]).unwrap();
    let run: RunId = "run".parse().unwrap();
    store.create_run(&run, &steps.id, &cloud(), Timestamp::now()).unwrap();
    for path in [&good, &of_steps] {
        for (status, page) in [asked.get(path).await, asked.post(path, "all=stop").await] {
            assert!(status == 410 && page.contains("Too late"), "{status}: {page}");
        }
    }
    assert_eq!(asked.recorded(), []);
}
