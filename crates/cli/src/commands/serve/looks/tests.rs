//! Looks at a small index on this machine, under a clock that the test moves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use clap::Parser as _;
use tempfile::TempDir;
use tokio::sync::watch;
use volutus_model::event::Actor;
use volutus_model::{Event, Plan, PlanId, PlanKind, Policy, RunId};
use volutus_planner::described::{Shape, describe_text};
use volutus_releases::Release;
use volutus_schedule::{Rule, Schedule};
use volutus_store::{Holder, Store};

use super::memory::Untold;
use super::{Looker, Looks, Memory};
use crate::args::{Cli, LookArgs, Origin};
use crate::commands::glances::Glances;
use crate::commands::release::kept;
use crate::commands::release::lock::{Lookup, keep};
use crate::commands::schedule::Known;
use crate::commands::serve::clock::Clock;
use crate::context::Context;
use crate::error::Result;

/// A web server that nobody runs: what is queued for it can be counted.
const NOTICES: &str = "[[webhook]]\nname = \"desk\"\nurl = \"http://127.0.0.1:9/\"\n";

/// An index of packages, and what it was asked.
#[derive(Clone, Default)]
struct Index {
    pages: Arc<Mutex<BTreeMap<String, String>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Index {
    /// Has these versions of a package, as source distributions.
    fn has(&self, package: &str, versions: &[&str]) {
        let file = |version: &&str| {
            let digit = version.bytes().map(usize::from).sum::<usize>() % 10;
            format!(
                r#"{{"filename": "{package}-{version}.tar.gz", "url": "/f", "upload-time": "2027-04-01T12:00:00Z",
                   "hashes": {{"sha256": "{}"}}}}"#,
                digit.to_string().repeat(64)
            )
        };
        let files: Vec<String> = versions.iter().map(file).collect();
        let page = format!(
            r#"{{"meta": {{"api-version": "1.1"}}, "name": "{package}", "files": [{}]}}"#,
            files.join(",")
        );
        self.pages.lock().unwrap().insert(format!("/simple/{package}/"), page);
    }

    /// How often it was asked.
    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// Serves on a port of its own, and tells where.
    async fn serve(&self) -> String {
        async fn any(State(index): State<Index>, request: Request) -> Response {
            let path = request.uri().path().to_owned();
            index.asked.lock().unwrap().push(path.clone());
            match index.pages.lock().unwrap().get(&path).cloned() {
                Some(page) => {
                    ([("content-type", "application/vnd.pypi.simple.v1+json")], page).into_response()
                }
                None => (StatusCode::SERVICE_UNAVAILABLE, "later").into_response(),
            }
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/simple", listener.local_addr().unwrap());
        let router = Router::new().fallback(any).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        address
    }
}

/// A cloud whose server looks for releases.
struct Scene {
    folder: TempDir,
    context: Arc<Context>,
    store: Store,
    log: Arc<Mutex<Vec<String>>>,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let catalog = volutus_catalog::Catalog::builtin().unwrap();
        let shape = Shape::new(1, 1, "2025.2".parse().unwrap(), &catalog).unwrap();
        let cloud = folder.path().join("cloud.toml");
        std::fs::write(&cloud, describe_text(&shape)).unwrap();
        std::fs::write(folder.path().join("notices.toml"), NOTICES).unwrap();
        let cli = Cli::parse_from(["volutus", "--cloud", cloud.to_str().unwrap(), "serve"]);
        let context = Arc::new(Context::load(&cli).unwrap());
        let store = context.store().unwrap();
        Self { folder, context, store, log: Arc::default() }
    }

    fn time(&self, time: &str) {
        std::fs::write(self.folder.path().join("clock"), time).unwrap();
    }

    /// Reads a file of looks.
    fn read(&self, text: &str) -> Result<Looks> {
        let path = self.folder.path().join("releases.toml");
        std::fs::write(&path, text).unwrap();
        Looks::read(&self.context, &path)
    }

    /// A server that has just started with that file.
    fn looker(&self, text: &str) -> Looker {
        let log = self.log.clone();
        let log = Box::new(move |text: &str| log.lock().unwrap().push(text.to_owned()));
        let clock = Clock::File(self.folder.path().join("clock"));
        let looks = Arc::new(self.read(text).unwrap());
        Looker::new(self.context.clone(), self.store.clone(), clock, looks, Arc::default(), log).unwrap()
    }

    async fn looks_at(&self, looker: &mut Looker, time: &str) {
        self.time(time);
        looker.look().await;
    }

    /// What is in the log since this was asked last.
    fn said(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    /// What is locked, the latest last.
    fn locked(&self) -> Vec<Release> {
        kept(&self.store).unwrap().into_iter().map(|(_, release)| release).collect()
    }

    /// What operators were told of new releases.
    fn told(&self) -> Vec<String> {
        let all = self.store.notices(self.context.inventory.name.as_str(), 100).unwrap();
        let new = all.into_iter().filter(|one| one.notice.moment == "new-release");
        new.map(|one| one.notice.key).collect()
    }

    fn plan(&self, from: &str, to: &str) -> PlanId {
        let mut plan = Plan {
            id: PlanId::new("unset").unwrap(),
            format: 1,
            kind: PlanKind::Upgrade,
            drains: None,
            cloud: self.context.inventory.name.clone(),
            parent: None,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            inventory: String::new(),
            basis: String::new(),
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            versions: BTreeMap::new(),
            policy: Policy::default(),
            stages: Vec::new(),
            rollback: Vec::new(),
            point_of_no_return: None,
        };
        plan.id = plan.compute_id();
        self.store.put_plan(&plan).unwrap();
        plan.id
    }
}

fn file(address: &str, series: &str, more: &str) -> String {
    format!(
        "every = \"24h\"\n[[look]]\nseries = \"{series}\"\nfrom = \"index={address}\"\npackages = [\"nova\"]\n{more}"
    )
}

#[tokio::test]
async fn what_is_new_is_locked_and_told_once_and_what_is_not_is_not_told() {
    let (scene, index) = (Scene::new(), Index::default());
    index.has("nova", &["33.0.1"]);
    let mut looker = scene.looker(&file(&index.serve().await, "2026.1", ""));
    scene.looks_at(&mut looker, "2026-12-01T00:00:00Z").await;
    let first = scene.locked()[0].name.clone();
    assert_eq!(scene.told(), [format!("release/{first}/new-release/webhook/desk/")]);
    let said = scene.said();
    assert!(said.len() == 1 && said[0].ends_with(&format!("volutus release show {first}")), "{said:?}");
    // Nobody is asked before a day has passed, and then nothing is new.
    scene.looks_at(&mut looker, "2026-12-01T23:59:59Z").await;
    assert_eq!(index.asked(), 1);
    scene.looks_at(&mut looker, "2026-12-02T00:00:00Z").await;
    assert_eq!((index.asked(), scene.locked().len(), scene.told().len()), (2, 1, 1));
    assert_eq!(scene.said(), [""; 0]);
    index.has("nova", &["33.0.1", "33.0.2"]);
    scene.looks_at(&mut looker, "2026-12-03T00:00:00Z").await;
    let second = scene.locked()[1].name.clone();
    assert_eq!(scene.told().len(), 2);
    let said = scene.said();
    assert!(said.len() == 1 && said[0].ends_with(&format!("diff {first} {second}")), "{said:?}");
    let all = scene.store.notices(scene.context.inventory.name.as_str(), 1).unwrap();
    assert!(all[0].notice.body.contains(&format!("volutus release diff {first} {second}")), "{all:?}");
    scene.looks_at(&mut looker, "2026-12-04T00:00:00Z").await;
    assert_eq!((scene.locked().len(), scene.told().len(), scene.said().len()), (2, 2, 0));
}

#[tokio::test]
async fn a_source_that_fails_is_asked_ever_later_is_told_once_and_stops_no_other() {
    let (scene, broken, index) = (Scene::new(), Index::default(), Index::default());
    index.has("nova", &["33.0.1"]);
    let other = format!(
        "[[look]]\nseries = \"2026.1\"\nfrom = \"index={}\"\npackages = [\"nova\"]\n",
        index.serve().await
    );
    let text = file(&broken.serve().await, "2026.1", &other);
    let mut looker = scene.looker(&text);
    scene.looks_at(&mut looker, "2026-12-01T00:00:00Z").await;
    assert_eq!((scene.locked().len(), scene.told().len()), (1, 1), "one source stopped the other");
    let said = scene.said();
    let failed: Vec<&String> = said.iter().filter(|text| text.contains("failed")).collect();
    assert!(failed.len() == 1 && failed[0].contains("503"), "{said:?}");
    assert!(failed[0].contains("it is tried again in 5 minutes"), "{said:?}");
    // 5 minutes, then 10, then 20: whatever process asks.
    for (time, asked) in
        [("00:04:59", 1), ("00:05:00", 2), ("00:14:59", 2), ("00:15:00", 3), ("00:34:59", 3), ("00:35:00", 4)]
    {
        let mut looker = scene.looker(&text);
        scene.looks_at(&mut looker, &format!("2026-12-01T{time}Z")).await;
        assert_eq!(broken.asked(), asked, "{time}");
    }
    assert_eq!((index.asked(), scene.said().len()), (1, 0));
    let looked = Memory::of(&scene.context.inventory.name, &scene.store).looked().unwrap();
    let worst = looked.values().max_by_key(|looked| looked.failures).unwrap();
    assert!(worst.failures == 4 && worst.why.as_ref().unwrap().contains("503"), "{worst:?}");
    broken.has("nova", &["33.0.1"]);
    let mut looker = scene.looker(&text);
    scene.looks_at(&mut looker, "2026-12-01T01:15:00Z").await;
    let said = scene.said();
    assert!(said.len() == 1 && said[0].ends_with("works again"), "{said:?}");
    assert_eq!((scene.locked().len(), scene.told().len()), (1, 1), "the same from elsewhere is not new");
}

#[tokio::test]
async fn a_restart_asks_nobody_before_it_is_due() {
    let (scene, index) = (Scene::new(), Index::default());
    index.has("nova", &["33.0.1"]);
    let address = index.serve().await;
    let text = file(&address, "2026.1", "");
    for (time, asked) in [
        ("2026-12-01T00:00:00Z", 1),
        ("2026-12-01T00:00:01Z", 1),
        ("2026-12-01T12:00:00Z", 1),
        ("2026-12-02T00:00:00Z", 2),
        // Where the clock was put back nobody knows how long ago it was, and it is asked once.
        ("2026-12-01T23:00:00Z", 3),
        ("2026-12-01T23:00:01Z", 3),
    ] {
        scene.looks_at(&mut scene.looker(&text), time).await;
        assert_eq!(index.asked(), asked, "{time}");
    }
    // Another question is not the same look.
    let other = text.replace("packages = [\"nova\"]", "packages = [\"nova\"]\npython = \"3.12\"");
    scene.looks_at(&mut scene.looker(&other), "2026-12-01T23:00:02Z").await;
    assert_eq!((index.asked(), scene.locked().len()), (4, 1));
}

#[tokio::test]
async fn the_first_look_waits_and_the_end_of_the_server_ends_it() {
    let (scene, index) = (Scene::new(), Index::default());
    index.has("nova", &["33.0.1"]);
    let text = file(&index.serve().await, "2026.1", "");
    scene.time("2026-12-01T00:00:00Z");
    let (stop, stopped) = watch::channel(false);
    let hour = Duration::from_secs(3_600);
    let waits = scene.looker(&text).work(stopped.clone(), hour, hour);
    assert!(tokio::time::timeout(Duration::from_millis(300), waits).await.is_err());
    assert_eq!(index.asked(), 0);
    let looks = scene.looker(&text).work(stopped, Duration::ZERO, hour);
    let ends = async {
        while scene.locked().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.send(true).unwrap();
    };
    let both = async { tokio::join!(looks, ends) };
    tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
    assert_eq!(index.asked(), 1);
}

#[tokio::test]
async fn a_schedule_after_a_release_learns_of_it() {
    let (scene, index) = (Scene::new(), Index::default());
    let schedule = Schedule {
        name: "next".to_owned(),
        rule: Rule::parse("30 days after 2027.1 02:00 UTC").unwrap(),
        to: Some("2027.1".parse().unwrap()),
        zones: Default::default(),
        projects: Default::default(),
        expected_s: None,
        by: "ana".to_owned(),
        since: "2026-12-01T00:00:00Z".parse().unwrap(),
    };
    let kind = format!("schedule/{}", scene.context.inventory.name);
    scene.store.put_documents(&kind, &[("next".to_owned(), schedule)], Context::now()).unwrap();
    let due = |now: &str| {
        let known =
            Known::load_at(&scene.context, &scene.store, None, now.parse().unwrap(), &Glances::default());
        known.unwrap().coming(3).unwrap().into_iter().find_map(|entry| entry.due).map(|due| due.to_string())
    };
    std::fs::write(scene.folder.path().join("upper"), "nova===35.0.0\n").unwrap();
    index.has("nova", &["34.0.0"]);
    let text = file(&index.serve().await, "2027.1", "constraints = \"upper\"\n");
    let mut looker = scene.looker(&text);
    // It is not there yet, which is no failure, and nothing to tell.
    scene.looks_at(&mut looker, "2027-04-01T00:00:00Z").await;
    assert_eq!((scene.said().len(), scene.locked().len(), due("2027-04-01T00:00:00Z")), (0, 0, None));
    let looked = Memory::of(&scene.context.inventory.name, &scene.store).looked().unwrap();
    let looked = looked.into_values().next().unwrap();
    assert!(looked.failures == 0 && looked.why.as_ref().unwrap().contains("no version"), "{looked:?}");
    index.has("nova", &["34.0.0", "35.0.0"]);
    scene.looks_at(&mut looker, "2027-04-02T00:00:00Z").await;
    assert_eq!(due("2027-04-02T00:00:00Z").as_deref(), Some("2027-05-01T02:00:00Z"));
    // What was there and is not any more is a source that fails.
    index.has("nova", &["34.0.0"]);
    scene.said();
    scene.looks_at(&mut looker, "2027-04-03T00:00:00Z").await;
    assert!(scene.said().iter().any(|text| text.contains("failed")));
}

#[tokio::test]
async fn next_is_the_series_after_the_one_that_runs() {
    let (scene, index) = (Scene::new(), Index::default());
    index.has("nova", &["33.0.1", "34.0.0"]);
    let mut looker = scene.looker(&file(&index.serve().await, "next", ""));
    scene.looks_at(&mut looker, "2026-12-01T00:00:00Z").await;
    let said = scene.said();
    assert!(said.len() == 1 && said[0].contains("which series runs is not known"), "{said:?}");
    let plan = scene.plan("2025.2", "2026.1");
    scene.looks_at(&mut looker, "2026-12-01T00:00:01Z").await;
    let series = || scene.locked().iter().map(|release| release.series.to_string()).collect::<Vec<_>>();
    assert_eq!(series(), ["2026.1"]);
    // While the upgrade is under way the old series runs still; once it has ended the new one does.
    let (run, actor, now): (RunId, _, _) =
        ("a-run".parse().unwrap(), Actor("ana".to_owned()), Context::now());
    scene.store.approve(&plan, &actor, now, &[]).unwrap();
    scene.store.create_run(&run, &plan, &scene.context.inventory.name, now).unwrap();
    let (holder, ttl) = (Holder::this_process().unwrap(), Duration::from_secs(60));
    let lease = scene.store.acquire_lease(&scene.context.inventory.name, &holder, now, ttl).unwrap();
    let append = |event| drop(scene.store.append(&lease, &run, &actor, now, &[event]).unwrap());
    append(Event::RunCreated { plan });
    scene.looks_at(&mut looker, "2026-12-01T00:00:02Z").await;
    assert_eq!(series(), ["2026.1"]);
    append(Event::RollCompleted);
    append(Event::Succeeded);
    scene.looks_at(&mut looker, "2026-12-01T00:00:03Z").await;
    assert_eq!(series(), ["2026.1", "2026.2"]);
}

#[tokio::test]
async fn a_server_that_ends_before_it_has_told_tells_after_its_next_start() {
    let (scene, index) = (Scene::new(), Index::default());
    index.has("nova", &["33.0.1"]);
    let address = index.serve().await;
    let text = file(&address, "2026.1", "");
    let (cloud, now) = (&scene.context.inventory.name, "2026-12-01T00:00:00Z".parse().unwrap());
    let memory = Memory::of(cloud, &scene.store);
    // It noted what it was about to keep, and ended; the look is taken again.
    let lost = "2026.1-lost".parse().unwrap();
    memory.keep_untold(&lost, &Untold { before: None }, now).unwrap();
    // It ended once it had kept another.
    let series = "2026.1".parse().unwrap();
    let options = LookArgs {
        from: Some(Origin::Index(address)),
        ..scene.read(&text).unwrap().sources[0].options.clone()
    };
    let lookup = Lookup::new(&scene.context, series, &options).unwrap();
    let found = lookup.look(&scene.context).await.unwrap();
    let release = Release::new(None, series, lookup.source, found.packages);
    memory.keep_untold(&release.name, &Untold { before: None }, now).unwrap();
    keep(&scene.store, &release, now).unwrap();
    for _ in 0..2 {
        scene.looks_at(&mut scene.looker(&text), "2026-12-01T00:00:01Z").await;
        assert_eq!(scene.told(), [format!("release/{}/new-release/webhook/desk/", release.name)]);
        assert_eq!(memory.untold().unwrap(), BTreeMap::new());
    }
}

#[test]
fn what_is_wrong_in_the_file_is_told_with_its_line_and_key() {
    let scene = Scene::new();
    std::fs::write(scene.folder.path().join("upper"), "nova===33.0.1\n").unwrap();
    let whole = "every = \"24h\"\n\n[[look]]\nseries = [\"2026.1\", \"next\"]\nfrom = \"debian=https://me:secret@mirror.example/debian\"\nsuite = \"trixie\"\nconstraints = \"upper\"\npython = \"3.12\"\n";
    let read = scene.read(whole).unwrap();
    assert_eq!((read.sources.len(), read.sources[0].series.len()), (1, 2));
    assert_eq!(read.sources[0].told, "debian https://mirror.example/debian");
    for (old, new, says) in [
        ("\"24h\"", "\"daily\"", "line 1, `every`: `daily` is not a duration"),
        ("\"24h\"", "\"1m\"", "line 1, `every`: a source is asked every 10 minutes at the most"),
        ("every = \"24h\"", "", "missing field `every`"),
        ("\"next\"]", "\"2026.3\"]", "line 4, `series`: "),
        ("[\"2026.1\", \"next\"]", "[]", "line 4, `series`: no series is named"),
        ("[\"2026.1\", \"next\"]", "3", "line 4, `series`: "),
        ("debian=", "pypi=", "line 5, `from`: it is none of index=URL"),
        ("https://me:secret@", "ftp://", "line 5, `from`: ftp://mirror.example/debian is no address"),
        (
            "suite = \"trixie\"",
            "",
            "line 5, `from`: https://mirror.example/debian is no address that versions can be looked up at: which `suite`",
        ),
        ("\"upper\"", "\"lower\"", "line 7, `constraints`: could not read"),
        ("\"3.12\"", "\"three\"", "line 8, `python`: `three` is no version"),
        ("python", "pyton", "line 8, `pyton`: unknown field `pyton`"),
        ("trixie\"", "trixie", "line 6, `suite`: "),
        ("/debian\"", "/debian", "line 5, `from`: "),
        ("[[look]]", "[[looks]]", "unknown field `looks`"),
    ] {
        assert!(whole.contains(old), "{old} is in the file");
        let error = scene.read(&whole.replacen(old, new, 1)).unwrap_err();
        let file = format!("{}", scene.folder.path().join("releases.toml").display());
        assert!(error.message.starts_with(&file) && error.message.contains(says), "{old} -> {new}: {error}");
        assert_eq!(error.code, "malformed-looks");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let error = scene.read("every = \"24h\"\nlook = []\n").unwrap_err();
    assert!(error.message.contains("no [[look]] says where to look"), "{error}");
    let nowhere = Looks::read(&scene.context, &scene.folder.path().join("nowhere")).unwrap_err();
    assert_eq!(nowhere.code, "no-looks");
}
