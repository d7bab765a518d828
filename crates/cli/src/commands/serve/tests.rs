//! What the worker decides, on a real store, under a clock that the test moves. Runs have real journals,
//! which a double of the cloud writes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser as _;
use tempfile::TempDir;
use tokio::sync::{Notify, mpsc, watch};
use volutus_engine::Command;
use volutus_model::event::Actor;
use volutus_model::run::RunStatus;
use volutus_model::{Event, Plan, PlanId, PlanKind, Policy, RunId};
use volutus_planner::described::{Shape, describe_text};
use volutus_schedule::{Rule, Schedule};
use volutus_store::{Holder, Store};

use super::clock::Clock;
use super::firing::{Carried, Deeds, Firing, Intent};
use super::hands::Hands;
use super::told::Told;
use super::worker::Worker;
use super::works::Order;
use crate::args::Cli;
use crate::commands::control::load;
use crate::commands::glances::Glances;
use crate::commands::plan::store_error;
use crate::commands::schedule::Known;
use crate::context::Context;
use crate::error::Result;

/// Every night of UTC.
const NIGHTS: &str = "[[window]]\nname = \"nights\"\ndays = [\"daily\"]\nfrom = \"01:00\"\nto = \"05:00\"\ntime_zone = \"UTC\"\n";

/// A web server that nobody runs: what is queued for it can be counted.
const NOTICES: &str = "before_days = 7\n[[webhook]]\nname = \"desk\"\nurl = \"http://127.0.0.1:9/\"\n";

/// What becomes of a run.
enum Way {
    Succeeds,
    GivenUp,
    /// Nobody goes on with it.
    BreaksOff,
    /// It works until it is paused; meanwhile it becomes this time.
    UntilPaused(&'static str),
    /// The process ends once the run is made.
    EndsOnceMade,
    /// Once the run is made, nothing can be noted of it for a while: here because the clock cannot be read.
    CannotNoteOnceMade,
}

/// A double of the cloud.
struct Script {
    store: Store,
    clock: std::path::PathBuf,
    ways: Mutex<VecDeque<Way>>,
    carried: Mutex<Vec<RunId>>,
    made: Notify,
}

impl Script {
    fn way(&self) -> Way {
        self.ways.lock().unwrap().pop_front().unwrap_or(Way::Succeeds)
    }

    /// Answers the commands that wait; whether one of them pauses.
    fn commands(&self, lease: &volutus_store::Lease, run: &RunId) -> Result<bool> {
        let mut paused = false;
        for command in self.store.pending_commands(run).map_err(store_error)? {
            let event = match command.command {
                Command::Pause => Event::Paused,
                Command::Resume => Event::Resumed,
                other => panic!("{other} is not scripted"),
            };
            paused |= event == Event::Paused;
            let now = Context::now();
            self.store.append_command(lease, run, &command, now, &[event]).map_err(store_error)?;
        }
        Ok(paused)
    }
}

impl Hands for Arc<Script> {
    async fn begin(&self, plan: &PlanId) -> Result<(RunId, Plan)> {
        let plan = self.store.plan(plan).map_err(store_error)?;
        let number = self.store.runs().map_err(store_error)?.len();
        let run: RunId = format!("run{number}").parse().unwrap();
        self.store.create_run(&run, &plan.id, &plan.cloud, Context::now()).map_err(store_error)?;
        if matches!(self.ways.lock().unwrap().front(), Some(Way::EndsOnceMade)) {
            self.ways.lock().unwrap().pop_front();
            self.made.notify_one();
            std::future::pending::<()>().await;
        }
        if matches!(self.ways.lock().unwrap().front(), Some(Way::CannotNoteOnceMade)) {
            self.ways.lock().unwrap().pop_front();
            std::fs::remove_file(&self.clock).unwrap();
        }
        Ok((run, plan))
    }

    async fn carry_out(&self, run: &RunId, plan: &Plan, actor: &Actor) -> Result<()> {
        self.carried.lock().unwrap().push(run.clone());
        let holder = Holder::this_process().unwrap();
        let lease =
            self.store.acquire_lease(&plan.cloud, &holder, Context::now(), Duration::from_secs(60)).unwrap();
        let append =
            |events: &[Event]| self.store.append(&lease, run, actor, Context::now(), events).unwrap();
        if self.store.run(run).unwrap().entries == 0 {
            append(&[Event::RunCreated { plan: plan.id.clone() }]);
        }
        let mut paused = self.commands(&lease, run)?;
        match self.way() {
            _ if paused => {}
            Way::Succeeds => drop(append(&[Event::RollCompleted, Event::Succeeded])),
            Way::BreaksOff => {}
            Way::GivenUp => drop(append(&[Event::AbortRequested, Event::Aborted { left: Vec::new() }])),
            Way::UntilPaused(time) => {
                std::fs::write(&self.clock, time).unwrap();
                while !paused {
                    tokio::task::yield_now().await;
                    paused = self.commands(&lease, run)?;
                }
            }
            Way::EndsOnceMade | Way::CannotNoteOnceMade => panic!("the run is made already"),
        }
        self.store.release_lease(&lease).unwrap();
        Ok(())
    }
}

/// A cloud with schedules, and what happens to it.
struct Scene {
    folder: TempDir,
    context: Arc<Context>,
    store: Store,
    script: Arc<Script>,
}

/// The other ends of a worker's channels.
type Ends = (mpsc::Sender<Order>, watch::Sender<bool>);

impl Scene {
    fn new(windows: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let catalog = volutus_catalog::Catalog::builtin().unwrap();
        let shape = Shape::new(1, 1, "2025.2".parse().unwrap(), &catalog).unwrap();
        let cloud = folder.path().join("cloud.toml");
        std::fs::write(&cloud, describe_text(&shape)).unwrap();
        std::fs::write(folder.path().join("windows.toml"), windows).unwrap();
        std::fs::write(folder.path().join("notices.toml"), NOTICES).unwrap();
        let cli = Cli::parse_from(["volutus", "--cloud", cloud.to_str().unwrap(), "serve"]);
        let context = Arc::new(Context::load(&cli).unwrap());
        let store = context.store().unwrap();
        let clock = folder.path().join("clock");
        let script = Script {
            store: store.clone(),
            clock,
            ways: Mutex::default(),
            carried: Mutex::default(),
            made: Notify::new(),
        };
        let scene = Self { folder, context, store, script: Arc::new(script) };
        scene.time("2026-12-01T00:00:00Z");
        scene
    }

    fn time(&self, time: &str) {
        std::fs::write(&self.script.clock, time).unwrap();
    }

    fn then(&self, way: Way) {
        self.script.ways.lock().unwrap().push_back(way);
    }

    fn schedule(&self, name: &str, rule: &str, expected_s: Option<i64>) {
        let schedule = Schedule {
            name: name.to_owned(),
            rule: Rule::parse(rule).unwrap(),
            to: Some("2026.1".parse().unwrap()),
            zones: Default::default(),
            projects: Default::default(),
            expected_s,
            by: "ana".to_owned(),
            since: "2026-12-01T00:00:00Z".parse().unwrap(),
        };
        let kind = format!("schedule/{}", self.context.inventory.name);
        self.store.put_documents(&kind, &[(name.to_owned(), schedule)], Context::now()).unwrap();
    }

    /// A plan to 2026.1 that is approved.
    fn approved(&self) -> PlanId {
        let number = self.store.plans().unwrap().len();
        let mut plan = Plan {
            id: PlanId::new("unset").unwrap(),
            format: 1,
            kind: PlanKind::Upgrade,
            drains: None,
            cloud: self.context.inventory.name.clone(),
            parent: None,
            created_at: jiff::Timestamp::from_second(i64::try_from(number).unwrap()).unwrap(),
            inventory: String::new(),
            basis: String::new(),
            from: "2025.2".parse().unwrap(),
            to: "2026.1".parse().unwrap(),
            versions: BTreeMap::new(),
            policy: Policy::default(),
            stages: Vec::new(),
            rollback: Vec::new(),
            point_of_no_return: None,
        };
        plan.id = plan.compute_id();
        self.store.put_plan(&plan).unwrap();
        self.store.approve(&plan.id, &Actor("ben".to_owned()), Context::now(), &[]).unwrap();
        plan.id
    }

    /// A server that has just started.
    fn worker(&self) -> (Worker<Arc<Script>>, Ends) {
        let (orders, received) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(false);
        let worker = Worker {
            context: self.context.clone(),
            store: self.store.clone(),
            hands: self.script.clone(),
            clock: Clock::File(self.script.clock.clone()),
            windows: None,
            glances: Arc::new(Glances::default()),
            orders: received,
            stopped,
            look: Duration::from_millis(1),
            deeds: self.deeds(),
            told: Told::new(self.context.clone(), self.store.clone()),
            said: BTreeMap::new(),
        };
        (worker, (orders, stop))
    }

    fn deeds(&self) -> Deeds {
        Deeds::of(&self.context, &self.store)
    }

    /// A server that has just started looks so many times at a time. What it has said.
    async fn looks(&self, time: &str, times: usize) -> String {
        self.time(time);
        let (mut worker, _ends) = self.worker();
        for _ in 0..times {
            worker.look().await.unwrap();
        }
        worker.said.values().map(|text| format!("{text}\n")).collect()
    }

    /// Runs that there are, the latest last.
    fn runs(&self) -> Vec<String> {
        self.store.runs().unwrap().into_iter().rev().map(|run| run.id.to_string()).collect()
    }

    fn carried(&self) -> usize {
        self.script.carried.lock().unwrap().len()
    }

    fn status(&self, run: &str) -> RunStatus {
        load(&self.store, &self.store.run(&run.parse().unwrap()).unwrap()).unwrap().1.status
    }

    /// How often operators were told of a moment.
    fn told(&self, moment: &str) -> usize {
        let all = self.store.notices(self.context.inventory.name.as_str(), 100).unwrap();
        all.iter().filter(|one| one.notice.moment == moment && one.notice.channel == "webhook").count()
    }

    /// What a schedule is due next, as of a time.
    fn next(&self, schedule: &str, now: &str) -> String {
        let now = now.parse().unwrap();
        let known = Known::load_at(&self.context, &self.store, None, now, &Glances::default()).unwrap();
        let entries = known.coming(3).unwrap();
        let entry = entries.into_iter().find(|entry| entry.schedule == schedule).unwrap();
        entry.due.unwrap().to_string()
    }
}

const MONTHLY: &str = "second Tuesday 02:00 UTC";

#[tokio::test]
async fn what_is_due_in_its_window_is_begun_once_and_is_due_again_a_month_later() {
    let scene = Scene::new(NIGHTS);
    scene.schedule("monthly", MONTHLY, Some(3_600));
    scene.approved();
    assert_eq!(scene.looks("2026-12-08T01:59:59Z", 3).await, "");
    assert!(scene.runs().is_empty());
    scene.looks("2026-12-08T02:00:00Z", 1).await;
    assert_eq!((scene.runs(), scene.status("run0")), (vec!["run0".to_owned()], RunStatus::Succeeded));
    assert_eq!(scene.deeds().carried().unwrap(), None);
    // Another plan that is approved in the same night is for the next month.
    scene.approved();
    scene.looks("2026-12-08T02:10:00Z", 3).await;
    let said = scene.looks("2027-01-12T01:00:00Z", 3).await;
    assert_eq!((scene.runs().len(), said.as_str()), (1, ""), "what was done is told to be missed");
    assert_eq!(scene.next("monthly", "2026-12-08T02:10:00Z"), "2027-01-12T02:00:00Z");
    scene.looks("2027-01-12T02:30:00Z", 3).await;
    assert_eq!((scene.runs().len(), scene.carried()), (2, 2));
    assert_eq!((scene.told("missed"), scene.told("held")), (0, 0));
}

#[tokio::test]
async fn a_month_after_a_success_is_counted_by_the_clock_that_began_it() {
    let scene = Scene::new(NIGHTS);
    scene.schedule("first", "once 2026-12-08 02:00 UTC", Some(3_600));
    scene.schedule("next", "one month after the last success 02:00 UTC", Some(3_600));
    scene.approved();
    scene.looks("2026-12-08T02:00:00Z", 3).await;
    assert_eq!(scene.runs().len(), 1);
    assert_eq!(scene.next("next", "2026-12-08T03:00:00Z"), "2027-01-08T02:00:00Z");
    scene.approved();
    scene.looks("2027-01-08T01:59:00Z", 3).await;
    assert_eq!(scene.runs().len(), 1);
    scene.looks("2027-01-08T02:00:00Z", 3).await;
    assert_eq!(scene.runs().len(), 2);
}

#[tokio::test]
async fn what_is_due_outside_of_its_window_waits_and_says_so() {
    let scene = Scene::new(NIGHTS);
    scene.schedule("noon", "day 8 12:00 UTC", Some(3_600));
    scene.approved();
    let said = scene.looks("2026-12-08T12:00:00Z", 2).await;
    let waits =
        "is due since 2026-12-08T12:00:00Z, and waits for its window, which opens 2026-12-09T01:00:00Z\n";
    assert_eq!((said.as_str(), scene.runs().len()), (waits, 0));
    scene.looks("2026-12-09T01:00:00Z", 2).await;
    assert_eq!(scene.runs().len(), 1);
}

#[tokio::test]
async fn what_does_not_fit_its_window_is_not_begun_and_is_told_once() {
    let scene = Scene::new(NIGHTS);
    // Three hours are left of the window.
    scene.schedule("monthly", MONTHLY, Some(3 * 3_600 + 1));
    scene.approved();
    let said = scene.looks("2026-12-08T02:00:00Z", 2).await;
    assert!(said.contains("was due and was NOT done: NOT started: it takes"), "{said}");
    scene.looks("2026-12-08T04:00:00Z", 2).await;
    assert_eq!((scene.runs().len(), scene.told("missed")), (0, 1));
}

#[tokio::test]
async fn what_was_missed_is_told_once_with_windows_and_without() {
    for (windows, last, late) in [
        (NIGHTS, "2026-12-08T04:00:00Z", "2026-12-08T04:00:01Z"),
        ("", "2026-12-08T03:00:00Z", "2026-12-08T03:00:01Z"),
    ] {
        let scene = Scene::new(windows);
        scene.schedule("monthly", MONTHLY, Some(3_600));
        // No plan is approved for it.
        let said = scene.looks(last, 2).await;
        assert!(said.contains("no approved plan is there for it"), "{said}");
        assert_eq!(scene.told("missed"), 0);
        scene.approved();
        let said = scene.looks(late, 2).await;
        assert!(said.contains("was due and was NOT done: MISSED"), "{said}");
        scene.looks("2026-12-09T03:00:00Z", 2).await;
        assert_eq!((scene.runs().len(), scene.told("missed")), (0, 1));
        // What was missed long before the server started is no news.
        let other = Scene::new(windows);
        other.schedule("monthly", MONTHLY, Some(3_600));
        let said = other.looks("2026-12-31T03:00:00Z", 2).await;
        assert!(said.contains("was NOT done"), "{said}");
        assert_eq!(other.told("missed"), 0);
    }
}

#[tokio::test]
async fn without_windows_it_begins_within_the_hour_and_nothing_pauses_it() {
    let scene = Scene::new("");
    scene.schedule("monthly", MONTHLY, None);
    scene.approved();
    scene.looks("2026-12-08T03:00:00Z", 2).await;
    assert_eq!((scene.runs().len(), scene.told("missed")), (1, 0));
}

#[tokio::test]
async fn after_a_run_that_did_not_go_well_the_schedule_is_held_and_told_once() {
    let scene = Scene::new(NIGHTS);
    scene.schedule("monthly", MONTHLY, Some(3_600));
    scene.approved();
    scene.then(Way::GivenUp);
    scene.looks("2026-12-08T02:00:00Z", 1).await;
    assert_eq!((scene.status("run0"), scene.told("held")), (RunStatus::Aborted, 0));
    scene.approved();
    let said = scene.looks("2026-12-08T02:10:00Z", 2).await;
    assert!(said.contains("is held: its run run0 is aborted"), "{said}");
    scene.looks("2027-01-12T02:00:00Z", 2).await;
    assert_eq!((scene.runs().len(), scene.told("held"), scene.told("before")), (1, 1, 0));
    // Removing the schedule forgets what it did, so that adding it again releases it.
    scene.deeds().forget_firing("monthly").unwrap();
    scene.looks("2027-01-12T02:00:00Z", 2).await;
    assert_eq!(scene.runs().len(), 2);
}

#[tokio::test]
async fn a_run_that_stands_still_holds_its_schedule_until_somebody_goes_on_with_it() {
    let scene = Scene::new(NIGHTS);
    scene.schedule("monthly", MONTHLY, Some(3_600));
    scene.approved();
    scene.then(Way::BreaksOff);
    let said = scene.looks("2026-12-08T02:00:00Z", 2).await;
    assert!(said.contains("is held: its run run0 is running"), "{said}");
    assert_eq!((scene.runs().len(), scene.told("held")), (1, 1));
    // `volutus resume`, by hand.
    let (run, actor) = ("run0".parse().unwrap(), Actor("ana".to_owned()));
    let plan = scene.store.plan(&scene.store.run(&run).unwrap().plan).unwrap();
    scene.script.carry_out(&run, &plan, &actor).await.unwrap();
    scene.approved();
    scene.looks("2027-01-12T02:00:00Z", 2).await;
    assert_eq!((scene.runs().len(), scene.told("held")), (2, 1));
}

#[tokio::test]
async fn a_server_that_ends_once_the_run_is_made_makes_no_second_one() {
    let scene = Scene::new(NIGHTS);
    scene.schedule("monthly", MONTHLY, Some(3_600));
    let plan = scene.approved();
    scene.approved();
    scene.then(Way::EndsOnceMade);
    scene.time("2026-12-08T02:00:00Z");
    let (mut worker, _ends) = scene.worker();
    tokio::select! {
        _ = worker.look() => panic!("the process was to end"),
        () = scene.script.made.notified() => {}
    }
    assert_eq!((scene.runs().len(), scene.carried()), (1, 0));
    // Its successor goes on with that run, and has nothing more to do this month.
    let (mut next, _ends) = scene.worker();
    next.go_on().await.unwrap();
    next.look().await.unwrap();
    assert_eq!((scene.runs().len(), scene.carried(), scene.status("run0")), (1, 1, RunStatus::Succeeded));
    assert!(scene.deeds().intents().unwrap().is_empty());
    assert_eq!(scene.deeds().firings().unwrap()["monthly"].run.as_str(), "run0");
    // Where it ended before the run was made, nothing was begun, and it is begun now.
    let other = Scene::new(NIGHTS);
    other.schedule("monthly", MONTHLY, Some(3_600));
    let _approved = other.approved();
    let due = "2026-12-08T02:00:00Z".parse().unwrap();
    let intent = Intent { due, plan, until: None, actor: Actor("ana".to_owned()) };
    other.deeds().keep_intent("monthly", intent).unwrap();
    other.time("2026-12-08T02:00:00Z");
    let (mut worker, _ends) = other.worker();
    worker.go_on().await.unwrap();
    assert_eq!((other.carried(), other.deeds().intents().unwrap().len()), (0, 0));
    worker.look().await.unwrap();
    assert_eq!((other.runs().len(), other.carried()), (1, 1));
}

#[tokio::test]
async fn a_run_that_was_made_is_carried_out_whatever_could_not_be_noted_of_it() {
    // Nothing could be noted for a while; the same process carries the run out then.
    let scene = Scene::new(NIGHTS);
    scene.schedule("monthly", MONTHLY, Some(3_600));
    scene.approved();
    scene.approved();
    scene.then(Way::CannotNoteOnceMade);
    scene.time("2026-12-08T02:00:00Z");
    let (mut worker, _ends) = scene.worker();
    worker.look().await.unwrap_err();
    worker.look().await.unwrap_err();
    assert_eq!((scene.runs().len(), scene.carried()), (1, 0));
    scene.time("2026-12-08T02:00:05Z");
    worker.look().await.unwrap();
    worker.look().await.unwrap();
    assert_eq!((scene.runs().len(), scene.carried(), scene.status("run0")), (1, 1, RunStatus::Succeeded));
    assert_eq!((scene.deeds().intents().unwrap().len(), scene.told("held")), (0, 0));
    // It was noted what the schedule did, and the process ended before it was noted that it carries the run.
    let scene = Scene::new(NIGHTS);
    scene.schedule("monthly", MONTHLY, Some(3_600));
    let plan = scene.approved();
    let (due, actor) = ("2026-12-08T02:00:00Z".parse().unwrap(), Actor("ana".to_owned()));
    scene.deeds().keep_intent("monthly", Intent { due, plan: plan.clone(), until: None, actor }).unwrap();
    let (run, _) = scene.script.begin(&plan).await.unwrap();
    scene.deeds().keep_firing("monthly", Firing::next(None, due, run, 0)).unwrap();
    scene.time("2026-12-08T02:00:05Z");
    let (mut worker, _ends) = scene.worker();
    worker.go_on().await.unwrap();
    worker.look().await.unwrap();
    assert_eq!((scene.runs().len(), scene.carried(), scene.status("run0")), (1, 1, RunStatus::Succeeded));
    assert_eq!(scene.deeds().firings().unwrap()["monthly"].earlier, []);
}

#[tokio::test]
async fn a_clock_that_is_put_back_begins_nothing_twice() {
    let scene = Scene::new(NIGHTS);
    scene.schedule("monthly", MONTHLY, Some(3_600));
    scene.approved();
    scene.approved();
    scene.looks("2026-12-08T02:00:00Z", 2).await;
    for time in
        ["2026-12-08T01:00:00Z", "2026-12-08T01:59:59Z", "2026-12-08T02:00:00Z", "2026-12-08T02:30:00Z"]
    {
        scene.looks(time, 2).await;
        assert_eq!((scene.runs().len(), scene.carried()), (1, 1), "{time}");
    }
    assert_eq!((scene.told("missed"), scene.told("held")), (0, 0));
}

#[tokio::test]
async fn a_run_over_its_window_pauses_and_goes_on_in_the_next_one() {
    let scene = Scene::new(NIGHTS);
    scene.schedule("monthly", MONTHLY, Some(3_600));
    scene.approved();
    scene.then(Way::UntilPaused("2026-12-08T05:00:00Z"));
    scene.looks("2026-12-08T02:00:00Z", 1).await;
    assert_eq!(scene.status("run0"), RunStatus::Paused);
    assert!(scene.deeds().firings().unwrap()["monthly"].waits);
    scene.looks("2026-12-08T23:00:00Z", 2).await;
    assert_eq!((scene.status("run0"), scene.carried()), (RunStatus::Paused, 1));
    // The next night is too short for it as well.
    scene.then(Way::UntilPaused("2026-12-09T05:00:00Z"));
    scene.looks("2026-12-09T01:00:00Z", 1).await;
    assert_eq!((scene.status("run0"), scene.carried()), (RunStatus::Paused, 2));
    // The server ends in the third, and is started again by day: nothing is done until the night.
    let left = Carried {
        run: "run0".parse().unwrap(),
        actor: Actor("ana".to_owned()),
        until: Some("2026-12-10T05:00:00Z".parse().unwrap()),
        schedule: Some("monthly".to_owned()),
    };
    scene.deeds().keep_carried(left).unwrap();
    scene.time("2026-12-10T12:00:00Z");
    let (mut worker, _ends) = scene.worker();
    worker.go_on().await.unwrap();
    worker.look().await.unwrap();
    assert_eq!((scene.carried(), scene.deeds().carried().unwrap()), (2, None));
    scene.looks("2026-12-11T01:00:00Z", 2).await;
    assert_eq!((scene.status("run0"), scene.carried(), scene.runs().len()), (RunStatus::Succeeded, 3, 1));
    assert!(!scene.deeds().firings().unwrap()["monthly"].waits);
    assert_eq!((scene.told("missed"), scene.told("held")), (0, 0));
}

#[tokio::test]
async fn people_are_told_days_ahead_once_a_plan_is_approved() {
    let scene = Scene::new(NIGHTS);
    scene.schedule("monthly", MONTHLY, Some(3_600));
    scene.looks("2026-12-01T01:59:59Z", 2).await;
    let said = scene.looks("2026-12-01T02:00:00Z", 2).await;
    assert!(said.contains("will be due, and no approved plan is there for it yet"), "{said}");
    assert_eq!(scene.told("before"), 0);
    scene.approved();
    for day in ["2026-12-01T03:00:00Z", "2026-12-05T03:00:00Z", "2026-12-08T01:00:00Z"] {
        scene.looks(day, 2).await;
        assert_eq!(scene.told("before"), 1, "{day}");
    }
    assert!(scene.runs().is_empty());
}

#[test]
fn a_clock_that_others_can_set_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::new("");
    let file = scene.folder.path().join("clock");
    let clock = Clock::new(Some(file.clone())).unwrap();
    assert_eq!(clock.now().unwrap().to_string(), "2026-12-01T00:00:00Z");
    scene.time("soon");
    assert!(clock.now().unwrap_err().message.contains("`soon` is no time"));
    scene.time("2026-12-02T00:00:00Z");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(clock.now().unwrap_err().message.contains("lets others write it"));
    std::fs::remove_file(&file).unwrap();
    assert!(Clock::new(Some(file)).is_err());
}
