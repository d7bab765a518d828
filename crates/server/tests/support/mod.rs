//! A served store, and whoever asks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode as Status};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use volutus_engine::Command;
use volutus_engine::ports::{Driver, Order, OutcomeFuture, Say};
use volutus_model::event::Actor;
use volutus_model::name::{HostName, PlanId, RunId};
use volutus_model::outcome::Outcome;
use volutus_model::{Finding, Plan};
use volutus_runtime::{Runtime, Silent, new_run_id};
use volutus_schedule::{Rule, Schedule};
use volutus_server::{
    Access, Answer, Api, Calendar, FleetLock, Keystone, LockedAt, Look, Peer, Problem, Releases, StatusCode,
    Works,
};
use volutus_store::{FEED, Holder, NewNotice, Store};

use crate::plans;

/// Everything is done at once.
struct Willing;

impl Driver for Willing {
    fn perform<'a>(&'a self, _order: &'a Order, _say: Say<'a>) -> OutcomeFuture<'a> {
        Box::pin(async { Outcome::done("") })
    }
}

/// Carries runs out by the real runtime.
struct AtOnce {
    store: Store,
}

pub fn cloud() -> HostName {
    "cloud".parse().unwrap()
}

impl Works for AtOnce {
    fn begin<'a>(&'a self, plan: &'a PlanId, actor: &'a Actor) -> Answer<'a, RunId> {
        Box::pin(async move {
            let run = new_run_id(Timestamp::now()).unwrap();
            self.store.create_run(&run, plan, &cloud(), Timestamp::now())?;
            let holder = Holder::this_process().unwrap();
            let runtime = Runtime::new(self.store.clone(), Arc::new(Willing), holder, actor.clone());
            let id = run.clone();
            tokio::spawn(async move {
                let (_keep, mut interrupts) = mpsc::channel(1);
                runtime.execute(&id, None, &mut interrupts, &mut Silent).await.unwrap();
            });
            Ok(run)
        })
    }

    fn take_up<'a>(&'a self, run: &'a RunId, command: Command, _actor: &'a Actor) -> Answer<'a, ()> {
        let ended = format!("run {run} has ended; there is nothing to {command}");
        Box::pin(async move { Err(Problem::new(StatusCode::CONFLICT, "run-ended", ended)) })
    }

    fn carries(&self) -> Result<Option<RunId>, Problem> {
        Ok(self
            .store
            .lease(&cloud(), Timestamp::now())?
            .and(self.store.latest_run(&cloud())?)
            .map(|run| run.id))
    }

    fn calendar(&self) -> Result<Calendar, Problem> {
        let schedules: Vec<Schedule> =
            self.store.documents("schedule/cloud")?.into_iter().map(|document| document.body).collect();
        let now = Timestamp::now();
        let horizon =
            volutus_schedule::Interval { start: now, end: now + jiff::SignedDuration::from_hours(24 * 92) };
        let zones = jiff::tz::db();
        let entries = volutus_schedule::calendar(
            &schedules,
            &Default::default(),
            &Default::default(),
            |_| None,
            horizon,
            now,
            zones,
        );
        Ok(Calendar { schedules, entries: entries.unwrap(), missed: Vec::new(), held: BTreeMap::new(), now })
    }

    fn releases(&self) -> Result<Releases, Problem> {
        let (name, from) =
            ("2026.1-0c1d2e3f4a5b".to_owned(), "index https://index.example/simple".to_owned());
        let (series, at) = ("2026.1".to_owned(), Timestamp::UNIX_EPOCH);
        let look = Look {
            series: series.clone(),
            from: from.clone(),
            last: Some(at),
            next: at,
            failures: 3,
            why: Some("it answers 503".to_owned()),
            release: Some(name.clone()),
        };
        Ok(Releases { locked: vec![LockedAt { name, series, from, packages: 6, at }], looks: vec![look] })
    }

    fn findings(&self, _plan: &Plan) -> Result<Vec<Finding>, Problem> {
        Err(Problem::new(StatusCode::CONFLICT, "no-observation", "no observation of the cloud is kept"))
    }
}

pub struct Served {
    pub store: Store,
    client: reqwest::Client,
    base: String,
    _directory: TempDir,
}

/// The name of the user that the tests run as.
pub fn this_user() -> String {
    uzers::get_user_by_uid(uzers::get_effective_uid()).unwrap().name().display().to_string()
}

fn open() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    (directory, store)
}

fn api(store: &Store, access: Access) -> Api {
    let works = Arc::new(AtOnce { store: store.clone() });
    Api::new(store.clone(), cloud(), works, access, Some(FleetLock { slots: 2 }))
}

/// Serves at a Unix socket.
pub async fn serve(access: impl FnOnce(Access) -> Access) -> Served {
    let (directory, store) = open();
    let path: PathBuf = directory.path().join("socket");
    let (listener, socket) = volutus_server::listen(&path, None).unwrap();
    let router = volutus_server::router(api(&store, access(Access::new(None, None, false))));
    tokio::spawn(async move {
        let _until_the_test_ends = socket;
        axum::serve(listener, router.into_make_service_with_connect_info::<Peer>()).await
    });
    let client = reqwest::Client::builder().unix_socket(path).build().unwrap();
    Served { store, client, base: "http://volutus".to_owned(), _directory: directory }
}

/// A keystone that knows some tokens.
async fn tokens(headers: HeaderMap) -> Result<Json<Value>, Status> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert_eq!(header("x-auth-token"), header("x-subject-token"));
    let roles = match header("x-subject-token") {
        "nobody" => json!([{"name": "member"}]),
        "reader" => json!([{"name": "volutus_reader"}]),
        "operator" => json!([{"name": "volutus_operator"}, {"name": "member"}]),
        "approver" => json!([{"name": "volutus_approver"}]),
        "broken" => return Err(Status::INTERNAL_SERVER_ERROR),
        _ => return Err(Status::NOT_FOUND),
    };
    Ok(Json(json!({"token": {"user": {"name": "alice", "domain": {"name": "Default"}}, "roles": roles}})))
}

async fn listen_tcp(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    address
}

/// Serves as over TLS, without the TLS, and with a keystone.
pub async fn serve_tcp() -> Served {
    let (directory, store) = open();
    let keystone = listen_tcp(Router::new().route("/identity/v3/auth/tokens", get(tokens))).await;
    let keystone = Keystone::new(&format!("http://{keystone}/identity/v3").parse().unwrap(), None).unwrap();
    let access = Access::new(None, Some(keystone), false);
    let address = listen_tcp(volutus_server::router(api(&store, access))).await;
    let client = reqwest::Client::new();
    Served { store, client, base: format!("http://{address}"), _directory: directory }
}

impl Served {
    /// Keeps a plan of one step whose stage has this name, and returns its id.
    pub fn plan(&self, name: &str) -> String {
        let step = plans::step("step", &[], vec![plans::enable("c01")]);
        let plan = plans::plan(vec![plans::stage(name, &[], 1, vec![step])], plans::policy(1, 1));
        self.store.put_plan(&plan).unwrap();
        plan.id.to_string()
    }

    pub fn author(&self, plan: &str, author: Actor) {
        self.store.put_author(&plan.parse().unwrap(), &author, Timestamp::now()).unwrap();
    }

    /// Keeps a schedule.
    pub fn schedule(&self) {
        let schedule = Schedule {
            name: "monthly".to_owned(),
            rule: Rule::parse("day 15 22:00 UTC").unwrap(),
            to: None,
            zones: Default::default(),
            projects: Default::default(),
            expected_s: None,
            by: "operator".to_owned(),
            since: Timestamp::UNIX_EPOCH,
        };
        self.store
            .put_documents("schedule/cloud", &[("monthly".to_owned(), schedule)], Timestamp::now())
            .unwrap();
    }

    /// Queues what everybody may read and, later, more than a page of what only some are sent.
    pub fn notices(&self) {
        let notice = |key: String, channel: &str, subject: &str| NewNotice {
            key,
            moment: "start".to_owned(),
            channel: channel.to_owned(),
            recipient: "r".to_owned(),
            address: "a@example.org".to_owned(),
            subject: subject.to_owned(),
            body: "It begins.\n".to_owned(),
        };
        let mut all = vec![notice("run/start/feed".to_owned(), FEED, "The upgrade <begins>")];
        all.extend((0..300).map(|i| notice(format!("run/start/{i}"), "email", "for-one")));
        self.store.queue_notices(cloud().as_str(), &all, Timestamp::now()).unwrap();
    }

    /// Sends a request: status, type of content, and body.
    pub async fn send(&self, method: Method, path: &str, body: &str) -> (u16, String, Value) {
        let request = self.client.request(method, format!("{}{path}", self.base));
        let request = if body.is_empty() {
            request
        } else {
            request.header("content-type", "application/json").body(body.to_owned())
        };
        read(request).await
    }

    pub async fn with_token(&self, method: Method, path: String, token: &str) -> (u16, Value) {
        let request = self.client.request(method, format!("{}{path}", self.base)).json(&json!({}));
        let request = if token.is_empty() { request } else { request.header("x-auth-token", token) };
        let (status, _, body) = read(request).await;
        (status, body)
    }

    pub async fn fleet_lock(&self, path: &str, body: Value, header: bool) -> (u16, Value) {
        let request = self.client.post(format!("{}{path}", self.base)).json(&body);
        let request = if header { request.header("fleet-lock-protocol", "true") } else { request };
        let (status, _, body) = read(request).await;
        (status, body)
    }

    /// Sends a form, or asks for a page: status and body.
    pub async fn page(&self, method: Method, path: &str, form: Option<&str>) -> (u16, String) {
        let request = self.client.request(method, format!("{}{path}", self.base));
        let request = match form {
            Some(form) => {
                request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned())
            }
            None => request,
        };
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The whole body as text.
    pub async fn text(&self, path: &str, accept: Option<&str>) -> String {
        self.body(path, accept).await.unwrap()
    }

    /// The whole body as text, or why it broke off.
    pub async fn body(&self, path: &str, accept: Option<&str>) -> Result<String, reqwest::Error> {
        let request = self.client.get(format!("{}{path}", self.base));
        let request = accept.into_iter().fold(request, |request, accept| request.header("accept", accept));
        request.send().await?.error_for_status()?.text().await
    }
}

async fn read(request: reqwest::RequestBuilder) -> (u16, String, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let kind = answer.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    let text = answer.text().await.unwrap();
    (status, kind.unwrap_or_default(), serde_json::from_str(&text).unwrap_or(Value::Null))
}
