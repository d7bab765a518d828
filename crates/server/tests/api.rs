//! The API as its callers see it: over a real socket, with a real store, and runs that the real
//! runtime carries out.

#![allow(clippy::unwrap_used, reason = "what fails in a test ends it")]

#[path = "api/confirm.rs"]
mod confirm;
#[path = "../../engine/src/tests/plans.rs"]
#[allow(dead_code, reason = "these tests need fewer shapes of plans than those of the engine")]
mod plans;
mod support;

use reqwest::Method;
use serde_json::{Value, json};
use support::{Served, serve, serve_tcp};
use volutus_model::event::Actor;

#[test]
fn the_committed_document_is_that_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/openapi.json");
    let written = volutus_server::document().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("UPDATE_CASES").is_some() {
        std::fs::write(path, &written).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == written,
        "docs/reference/openapi.json is old; UPDATE_CASES=1 cargo test -p volutus-server"
    );
    let document: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    for (path, operations) in document["paths"].as_object().unwrap() {
        for operation in operations.as_object().unwrap().values() {
            for response in operation["responses"].as_object().unwrap().values() {
                assert!(response["description"].is_string(), "{path}: a response is not described");
            }
        }
    }
}

#[tokio::test]
async fn a_plan_is_approved_run_and_followed_to_its_end() {
    let served = serve(|access| access).await;
    let plan = served.plan("roll");
    let refused = served.post("/runs", json!({"plan": plan})).await;
    assert_eq!((refused.0, &refused.1["code"]), (409, &json!("not-approved")));
    assert_eq!(refused.1["type"], "urn:volutus:error:not-approved");

    let (status, approval) =
        served.post(&format!("/plans/{plan}/approve"), json!({"accept": ["single-replica"]})).await;
    assert_eq!((status, &approval["consents"]), (200, &json!(["single-replica"])));
    let (status, begun) = served.post("/runs", json!({"plan": &plan[..8]})).await;
    assert_eq!(status, 202, "{begun}");
    let run = begun["run"].as_str().unwrap();

    // Followed until it has ended: the stream ends by itself then.
    let stream = served.text(&format!("/runs/{run}/events?after=0"), Some("text/event-stream")).await;
    let ids: Vec<u64> =
        stream.lines().filter_map(|line| line.strip_prefix("id: ")).map(|id| id.parse().unwrap()).collect();
    let (_, page) = served.get(&format!("/runs/{run}/events")).await;
    let entries = page["entries"].as_array().unwrap();
    assert_eq!(ids, (1..entries.len() as u64).collect::<Vec<_>>(), "{stream}");
    assert_eq!(entries[0]["actor"], support::this_user(), "the actor is the user at the other end");
    assert_eq!((&page["more"], &page["after"]), (&json!(false), &json!(entries.len() - 1)));
    let (_, rest) = served.get(&format!("/runs/{run}/events?after={}", entries.len() - 2)).await;
    assert_eq!(rest["entries"].as_array().unwrap().len(), 1);

    let (status, view) = served.get(&format!("/runs/{run}")).await;
    assert_eq!((status, &view["state"]["status"], &view["ended"]), (200, &json!("succeeded"), &json!(true)));
    let (status, problem) = served.post(&format!("/runs/{run}/pause"), Value::Null).await;
    assert_eq!((status, &problem["code"]), (409, &json!("run-ended")));
    let metrics = served.text("/metrics", None).await;
    assert!(metrics.contains("volutus_run_status{name=\"succeeded\"} 1"), "{metrics}");
    assert!(metrics.contains("volutus_run_steps{name=\"completed\"} 1"), "{metrics}");
    assert!(metrics.contains("path=\"/runs/{run}/events\""), "{metrics}");
}

#[tokio::test]
async fn who_follows_a_run_can_tell_its_end_from_a_store_that_cannot_be_read() {
    let served = serve(|access| access).await;
    let plan = served.plan("roll").parse().unwrap();
    let (run, now) = ("a-run".parse().unwrap(), jiff::Timestamp::now());
    served.store.approve(&plan, &Actor("somebody".to_owned()), now, &[]).unwrap();
    served.store.create_run(&run, &plan, &support::cloud(), now).unwrap();
    let follows = served.body("/runs/a-run/events", Some("text/event-stream"));
    let breaks = async {
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        let other = rusqlite::Connection::open(served.store.path()).unwrap();
        other.execute_batch("ALTER TABLE journal RENAME TO elsewhere").unwrap();
    };
    let (followed, ()) = tokio::join!(follows, breaks);
    followed.unwrap_err();
}

#[tokio::test]
async fn finalize_is_consented_to_by_the_name_of_the_cloud() {
    let served = serve(|access| access).await;
    let plan = served.plan("roll");
    served.post(&format!("/plans/{plan}/approve"), json!({})).await;
    let (_, begun) = served.post("/runs", json!({"plan": plan})).await;
    let run = begun["run"].as_str().unwrap();
    let (status, problem) = served.post(&format!("/runs/{run}/finalize"), json!({"cloud": "another"})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("no-consent")));
}

#[tokio::test]
async fn the_author_of_a_plan_does_not_approve_it_where_four_eyes_are_wanted() {
    let served = serve(|mut access| {
        access.four_eyes = true;
        // Whoever the tests run as, root maybe, is a person here.
        let people = format!("[people]\nsomebody = [{:?}]", support::this_user());
        access.people = volutus_server::People::parse(&people).unwrap();
        access
    })
    .await;
    let path = |plan: &str| format!("/plans/{plan}/approve");
    let (own, foreign, unknown) = (served.plan("own"), served.plan("foreign"), served.plan("unknown"));
    served.author(&own, Actor(support::this_user()));
    served.author(&foreign, Actor("somebody-else".to_owned()));
    for refused in [&own, &unknown] {
        let (status, problem) = served.post(&path(refused), json!({})).await;
        assert_eq!((status, &problem["code"]), (403, &json!("four-eyes")), "{problem}");
    }
    let (status, _) = served.post(&path(&foreign), json!({})).await;
    assert_eq!(status, 200);
    let (_, list) = served.get("/plans").await;
    let approved = list.as_array().unwrap().iter().filter(|plan| !plan["approval"].is_null()).count();
    assert_eq!(approved, 1);
}

#[tokio::test]
async fn what_is_refused_is_a_problem_with_a_code() {
    let served = serve(|access| access).await;
    let plan = served.plan("roll");
    let long = "x".repeat(70_000);
    let approve = format!("/plans/{plan}/approve");
    for (method, path, body, status, code) in [
        (Method::GET, "/nothing", "", 404, "not-found"),
        (Method::GET, "/plans/zzz", "", 404, "not-found"),
        (Method::GET, "/runs/zzz/events", "", 404, "not-found"),
        (Method::GET, "/runs/zzz/events?after=-1", "", 400, "malformed-request"),
        (Method::GET, "/runs/zzz/events?befor=1", "", 400, "malformed-request"),
        (Method::DELETE, "/plans", "", 405, "wrong-method"),
        (Method::POST, &approve, "{", 400, "malformed-request"),
        (Method::POST, &approve, "{\"acept\": []}", 422, "malformed-request"),
        (Method::POST, &approve, &format!("{{\"accept\": [\"{long}\"]}}"), 413, "malformed-request"),
        (Method::POST, "/runs", "{\"plan\": \"zzz\"}", 404, "not-found"),
    ] {
        let answer = served.send(method, path, body).await;
        let (seen, kind, problem) = answer;
        assert_eq!((seen, &problem["code"]), (status, &json!(code)), "{path}: {problem}");
        assert_eq!(kind, "application/problem+json", "{path}");
        assert_eq!(problem["status"], status, "{path}");
    }
}

#[tokio::test]
async fn who_asks_too_often_has_to_wait() {
    let served = serve(|access| access).await;
    let mut refused = 0;
    for _ in 0..400 {
        refused += u32::from(served.get("/health").await.0 == 429);
    }
    assert!(refused > 0, "400 requests without a pause were all answered");
    assert!(refused < 250, "the burst that is allowed was not: {refused} of 400 were refused");
}

#[tokio::test]
async fn hosts_get_a_slot_each_until_there_is_none() {
    let served = serve(|access| access).await;
    let ask = |path: &'static str, id: &str| {
        served.fleet_lock(path, json!({"client_params": {"id": id, "group": "computes"}}), true)
    };
    assert_eq!(ask("/v1/pre-reboot", "c01").await.0, 200);
    assert_eq!(ask("/v1/pre-reboot", "c01").await.0, 200, "who has a slot keeps it");
    assert_eq!(ask("/v1/pre-reboot", "c02").await.0, 200);
    let (status, refusal) = ask("/v1/pre-reboot", "c03").await;
    assert_eq!((status, &refusal["kind"]), (409, &json!("failed_lock_semaphore_full")));
    assert!(served.text("/metrics", None).await.contains("volutus_reboot_slots_held 2"));
    assert_eq!(ask("/v1/steady-state", "c01").await.0, 200);
    assert_eq!(ask("/v1/steady-state", "c01").await.0, 200, "to have none is what is asked for");
    assert_eq!(ask("/v1/pre-reboot", "c03").await.0, 200);
    let body = json!({"client_params": {"id": "c04", "group": "computes"}});
    let (status, refusal) = served.fleet_lock("/v1/pre-reboot", body, false).await;
    assert_eq!((status, &refusal["kind"]), (400, &json!("missing_protocol_header")));
    let body = json!({"client_params": {"id": "c04", "group": "all hosts"}});
    let (status, refusal) = served.fleet_lock("/v1/pre-reboot", body, true).await;
    assert_eq!((status, &refusal["kind"]), (400, &json!("invalid_group")));
}

#[tokio::test]
async fn from_the_network_keystone_says_who_calls_and_what_they_may_do() {
    let served = serve_tcp().await;
    let plan = served.plan("roll");
    let approve = format!("/plans/{plan}/approve");
    let ask =
        |method: Method, path: &str, token: &'static str| served.with_token(method, path.to_owned(), token);
    assert_eq!(ask(Method::GET, "/health", "").await.0, 200);
    assert_eq!(ask(Method::GET, "/plans", "").await.0, 401);
    let (status, problem) = ask(Method::GET, "/plans", "forged").await;
    assert_eq!((status, &problem["code"]), (401, &json!("unauthorized")));
    assert!(!problem.to_string().contains("forged"), "a token is in an answer");
    assert_eq!(ask(Method::GET, "/plans", "nobody").await.0, 403);
    assert_eq!(ask(Method::GET, "/plans", "reader").await.0, 200);
    assert_eq!(ask(Method::GET, "/releases", "").await.0, 401);
    let (status, releases) = ask(Method::GET, "/releases", "reader").await;
    assert_eq!((status, &releases["locked"][0]["name"]), (200, &json!("2026.1-0c1d2e3f4a5b")));
    assert_eq!(releases["looks"][0]["why"], "it answers 503");
    for token in ["reader", "operator"] {
        assert_eq!(ask(Method::POST, &approve, token).await.0, 403, "{token}");
    }
    let (status, approval) = ask(Method::POST, &approve, "approver").await;
    assert_eq!((status, &approval["actor"]), (200, &json!("alice@Default")));
    for path in ["/status", "/feed.atom", "/calendar.ics"] {
        assert_eq!(ask(Method::GET, path, "").await.0, 200, "{path} is for everybody");
    }
    let (status, problem) = ask(Method::GET, "/plans", "broken").await;
    assert_eq!((status, &problem["code"]), (503, &json!("keystone")));
}

#[tokio::test]
async fn everybody_may_read_how_things_stand_and_nothing_that_is_not_theirs() {
    let served = serve(|access| access).await;
    served.schedule();
    served.notices();
    let page = served.text("/status", None).await;
    assert!(page.contains("<h2>The upgrade &lt;begins&gt;</h2>") && !page.contains("<script"), "{page}");
    let feed = served.text("/feed.atom", None).await;
    assert!(feed.contains("<title>The upgrade &lt;begins&gt;</title>"), "{feed}");
    for text in [&page, &feed] {
        assert!(!text.contains("for-one"), "what was sent to one is told to all: {text}");
    }
    let calendar = served.text("/calendar.ics", None).await;
    assert!(calendar.starts_with("BEGIN:VCALENDAR\r\n"), "{calendar}");
    assert!(calendar.contains("SUMMARY:monthly: update to the newest packages"), "{calendar}");
    assert!(!calendar.contains("operator"), "who added a schedule is nobody's business: {calendar}");
}

#[tokio::test]
async fn a_source_of_releases_that_fails_is_seen_in_the_metrics() {
    let metrics = serve(|access| access).await.text("/metrics", None).await;
    let labels = r#"{series="2026.1",from="index https://index.example/simple"}"#;
    assert!(metrics.contains(&format!("volutus_release_look_failures{labels} 3")), "{metrics}");
    assert!(metrics.contains(&format!("volutus_release_look_timestamp_seconds{labels} 0")), "{metrics}");
}

/// Every metric that rules and dashboard name is told.
#[tokio::test]
async fn rules_and_dashboard_name_metrics_that_exist() {
    let served = serve(|access| access).await;
    served.schedule();
    let plan = served.plan("roll");
    served.post(&format!("/plans/{plan}/approve"), json!({})).await;
    let (_, begun) = served.post("/runs", json!({"plan": plan})).await;
    let run = begun["run"].as_str().unwrap();
    served.text(&format!("/runs/{run}/events"), Some("text/event-stream")).await;
    let told: Vec<String> = {
        let metrics = served.text("/metrics", None).await;
        metrics
            .lines()
            .filter(|l| !l.starts_with('#'))
            .map(|l| l.split(['{', ' ']).next().unwrap().to_owned())
            .collect()
    };
    for file in ["prometheus-rules.yaml", "grafana-dashboard.json"] {
        let path = format!("{}/../../contrib/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap();
        let named: Vec<&str> = text
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("volutus_"))
            .collect();
        assert!(!named.is_empty(), "{file} names no metric");
        for name in named {
            assert!(told.iter().any(|told| told == name), "{file}: {name} is not told; there are: {told:?}");
        }
    }
}

impl Served {
    async fn get(&self, path: &str) -> (u16, Value) {
        let (status, _, body) = self.send(Method::GET, path, "").await;
        (status, body)
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let (status, _, body) = self.send(Method::POST, path, &text).await;
        (status, body)
    }
}
