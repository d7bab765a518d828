//! The whole API without its sockets: whatever is asked is answered as documented, or refused with a
//! code; nothing is a defect of the server.
//!
//! An input is a request as people write one: `METHOD /path`, headers, an empty line, a body. `PLAN` and
//! `RUN` stand for a plan and a run that exist, `LINK` for the token by which an owner answers.
#![no_main]

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::Request;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use tower::ServiceExt as _;
use volutus_engine::Command;
use volutus_engine::ports::{Driver, Order, OutcomeFuture, Say};
use volutus_model::event::Actor;
use volutus_model::fleet::plan::{Content, FORMAT, Figures, Owner, RebootPlan, Work};
use volutus_model::fleet::{RebootPolicy, Selection};
use volutus_model::outcome::Outcome;
use volutus_model::{Finding, HostName, Plan, PlanId, RunId};
use volutus_notices::{Key, Link};
use volutus_runtime::{Runtime, Silent};
use volutus_schedule::{Facts, Interval, Rule, Schedule, Windows};
use volutus_server::{
    Access, Answer, Api, Calendar, FleetLock, LockedAt, Peer, Problem, Releases, StatusCode, Works, router,
};
use volutus_store::{FEED, Holder, NewNotice, Store};

#[path = "../../crates/engine/src/tests/plans.rs"]
#[allow(dead_code)]
mod plans;

/// Everything is done at once.
struct Willing;

impl Driver for Willing {
    fn perform<'a>(&'a self, _order: &'a Order, _say: Say<'a>) -> OutcomeFuture<'a> {
        Box::pin(async { Outcome::done("") })
    }
}

/// Refuses work, as a server does that is busy, and knows one schedule.
struct Busy;

fn busy<T>() -> Result<T, Problem> {
    Err(Problem::new(StatusCode::CONFLICT, "lease-held", "another run is being carried out"))
}

impl Works for Busy {
    fn begin<'a>(&'a self, _plan: &'a PlanId, _actor: &'a Actor) -> Answer<'a, RunId> {
        Box::pin(async { busy() })
    }

    fn take_up<'a>(&'a self, _run: &'a RunId, _command: Command, _actor: &'a Actor) -> Answer<'a, ()> {
        Box::pin(async { busy() })
    }

    fn carries(&self) -> Result<Option<RunId>, Problem> {
        Ok(None)
    }

    fn calendar(&self) -> Result<Calendar, Problem> {
        let schedules = vec![Schedule {
            name: "monthly".to_owned(),
            rule: Rule::parse("day 15 22:00 UTC").expect("it is a rule"),
            to: None,
            zones: Default::default(),
            projects: Default::default(),
            expected_s: None,
            by: "operator".to_owned(),
            since: Timestamp::UNIX_EPOCH,
        }];
        let now: Timestamp = "2026-11-25T00:00:00Z".parse().expect("it is a time");
        let horizon = Interval { start: now, end: "2027-02-25T00:00:00Z".parse().expect("it is a time") };
        let (windows, facts) = (Windows::default(), Facts::default());
        let entries =
            volutus_schedule::calendar(&schedules, &windows, &facts, |_| None, horizon, now, jiff::tz::db());
        let entries = entries.expect("UTC is known");
        Ok(Calendar { schedules, entries, missed: Vec::new(), held: Default::default(), now })
    }

    fn releases(&self) -> Result<Releases, Problem> {
        let locked = LockedAt {
            name: "2026.1-0c1d2e3f4a5b".to_owned(),
            series: "2026.1".to_owned(),
            from: "file requirements.txt".to_owned(),
            packages: 6,
            at: Timestamp::UNIX_EPOCH,
        };
        Ok(Releases { locked: vec![locked], looks: Vec::new() })
    }

    fn findings(&self, _plan: &Plan) -> Result<Vec<Finding>, Problem> {
        Ok(Vec::new())
    }
}

/// Keeps the plan of a reboot, and returns the token by which the owner of its only instance answers.
fn asked(store: &Store, cloud: &HostName) -> String {
    let owner = Owner { project: "team".to_owned(), name: "<name>".to_owned() };
    let plan = RebootPlan::new(Content {
        format: FORMAT,
        cloud: cloud.clone(),
        created_at: Timestamp::UNIX_EPOCH,
        fleet: "digest".to_owned(),
        work: Work::Reboot,
        upgrade: None,
        selection: Selection::default(),
        policy: RebootPolicy::default(),
        drains: Vec::new(),
        moves: Vec::new(),
        stays: Vec::new(),
        owners: [("i".to_owned(), owner)].into(),
        undecided: vec!["i".to_owned()],
        left: Vec::new(),
        control: Vec::new(),
        duties: BTreeMap::new(),
        classes: Vec::new(),
        findings: Vec::new(),
        figures: Figures::default(),
    });
    store.put_reboot_plan(&plan).expect("the plan is kept");
    let key = Key::make(store.path().parent().expect("it is in a folder")).expect("a key is made");
    key.sign(&Link {
        cloud: cloud.to_string(),
        plan: plan.id.to_string(),
        project: "team".to_owned(),
        begins: "2100-01-01T00:00:00Z".parse().expect("it is a time"),
    })
}

struct Served {
    runtime: tokio::runtime::Runtime,
    router: Router,
    plan: String,
    run: String,
    link: String,
    _directory: TempDir,
}

fn served() -> Served {
    // In memory where there is such a place: each approval is written to the disk.
    let memory = std::path::Path::new("/dev/shm");
    let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let directory = directory.expect("a folder can be made");
    let store = Store::open(directory.path()).expect("the store opens");
    let cloud: HostName = "cloud".parse().expect("it is a name");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("threads start");
    let step = plans::step("step", &[], vec![plans::enable("c01")]);
    let plan = plans::plan(vec![plans::stage("roll", &[], 1, vec![step])], plans::policy(1, 1));
    let actor = Actor("operator".to_owned());
    let run: RunId = "a-run".parse().expect("it is an id");
    store.put_plan(&plan).expect("the plan is kept");
    store.approve(&plan.id, &actor, Timestamp::now(), &[]).expect("the plan is approved");
    store.create_run(&run, &plan.id, &cloud, Timestamp::now()).expect("the run is made");
    let notice = NewNotice {
        key: "a-run/start/feed//".to_owned(),
        moment: "start".to_owned(),
        channel: FEED.to_owned(),
        recipient: String::new(),
        address: String::new(),
        subject: "It begins".to_owned(),
        body: "Soon.\n".to_owned(),
    };
    store.queue_notices(cloud.as_str(), &[notice], Timestamp::now()).expect("a notice is queued");
    let link = asked(&store, &cloud);
    runtime.block_on(async {
        let holder = Holder::this_process().expect("this process is known");
        let carried = Runtime::new(store.clone(), Arc::new(Willing), holder, actor);
        let (_keep, mut interrupts) = tokio::sync::mpsc::channel(1);
        carried.execute(&run, None, &mut interrupts, &mut Silent).await.expect("the run ends");
    });
    let access = Access::new(None, None, false).at_rate(NonZeroU32::new(1_000_000).expect("it is not zero"));
    let api = Api::new(store, cloud, Arc::new(Busy), access, Some(FleetLock { slots: 2 }));
    Served {
        runtime,
        router: router(api),
        plan: plan.id.to_string(),
        run: run.to_string(),
        link,
        _directory: directory,
    }
}

/// The request that a text is; none where HTTP has no such request.
fn request(text: &str) -> Option<Request<Body>> {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let (method, path) = lines.next()?.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(path.strip_prefix('/').map(|_| path)?);
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        request = request.header(name, value);
    }
    // The kernel would say so of whoever owns the process.
    let peer = Peer { uid: Some(0) };
    request.extension(ConnectInfo(peer)).body(Body::from(body.to_owned())).ok()
}

/// Bytes of the longest answer: the OpenAPI document is the largest there is here.
const ANSWER_MAX: usize = 4 << 20;

fuzz_target!(|text: &str| {
    static SERVED: OnceLock<Served> = OnceLock::new();
    let served = SERVED.get_or_init(served);
    let text = text.replace("PLAN", &served.plan).replace("RUN", &served.run).replace("LINK", &served.link);
    let Some(request) = request(&text) else { return };
    let (status, kind, body) = served.runtime.block_on(async {
        let answer = match served.router.clone().oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
        let kind = answer.headers().get("content-type").map(|kind| kind.as_bytes().to_vec());
        let status = answer.status().as_u16();
        (
            status,
            kind.unwrap_or_default(),
            to_bytes(answer.into_body(), ANSWER_MAX).await.expect("a body ends"),
        )
    });
    assert!(status < 500, "{status}: {}", String::from_utf8_lossy(&body));
    if status >= 400 && kind.starts_with(b"text/html") {
        assert!(body.is_empty() || body.starts_with(b"<!DOCTYPE html>"), "a page that is none");
    } else if status >= 400 && kind == b"application/problem+json" {
        let problem: serde_json::Value = serde_json::from_slice(&body).expect("a problem is JSON");
        assert_eq!(problem["status"], status);
        assert!(problem["code"].as_str().is_some_and(|code| !code.is_empty()));
    } else if status >= 400 && !body.is_empty() {
        let refusal: serde_json::Value = serde_json::from_slice(&body).expect("a refusal is JSON");
        assert!(refusal["kind"].is_string(), "{refusal}");
    }
});
