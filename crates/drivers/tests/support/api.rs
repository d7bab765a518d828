//! Keystone, and one state that answers for nova, neutron and glance.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use volutus_engine::ports::{Driver as _, Order};
use volutus_model::name::{AttemptId, RunId, StepId};
use volutus_model::outcome::Outcome;

use super::support;

/// What answers.
pub trait Answers: Send + 'static {
    /// Status and body of the answer to a request, which is a line as `GET /compute/v2.1/servers` and a body.
    fn answer(&mut self, line: &str, body: &str) -> (u16, Value);
}

/// Has a driver of the hosts `c1` and `c2` carry an action out; what came of it, and what answered as it is then.
pub async fn perform<A: Answers>(state: A, action: Value) -> (Outcome, Arc<Mutex<A>>) {
    let (address, state, server) = listen(state).await;
    let dir = tempfile::tempdir().unwrap();
    let auth_url = format!("http://{address}/identity");
    let driver = support::driver(dir.path(), &auth_url, &[("c1", "127.0.0.1"), ("c2", "127.0.0.2")]);
    let order = Order {
        run: RunId::new("run").unwrap(),
        attempt: AttemptId::new("attempt").unwrap(),
        step: StepId::new("step").unwrap(),
        action: serde_json::from_value(action).unwrap(),
        timeout_s: 60,
        taken_up: false,
        retried: false,
    };
    let outcome = driver.perform(&order, &|_| ()).await;
    driver.close().await;
    server.abort();
    (outcome, state)
}

/// Answers until the task is aborted, at the address.
async fn listen<A: Answers>(state: A) -> (String, Arc<Mutex<A>>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let state = Arc::new(Mutex::new(state));
    let (shared, at) = (Arc::clone(&state), address.clone());
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(Arc::clone(&shared), at.clone(), stream));
        }
    });
    (address, state, server)
}

async fn serve<A: Answers>(
    state: Arc<Mutex<A>>,
    address: String,
    mut stream: TcpStream,
) -> std::io::Result<()> {
    let mut read: Vec<u8> = Vec::new();
    let (head, body) = loop {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        read.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.and_then(|length| length.parse().ok()).unwrap_or(0) {
            break (head.to_owned(), body.to_owned());
        }
    };
    let line = head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1");
    let (status, headers, answer) = if line == "POST /identity/v3/auth/tokens" {
        let endpoints = |path: &str| {
            let url = format!("http://{address}/{path}");
            json!([{"interface": "public", "region": "R", "region_id": "R", "url": url}])
        };
        let catalog = json!([
            {"type": "compute", "endpoints": endpoints("compute/v2.1")},
            {"type": "image", "endpoints": endpoints("image")},
            {"type": "network", "endpoints": endpoints("network")},
        ]);
        let token = json!({"token": {
            "expires_at": "2999-01-01T00:00:00.000000Z", "user": {"id": "u", "name": "n"},
            "project": {"id": "p", "name": "n"}, "catalog": catalog,
        }});
        (201, "X-Subject-Token: token\r\n", token)
    } else {
        let (status, answer) = state.lock().unwrap().answer(line, &body);
        (status, "", answer)
    };
    let body = if answer.is_null() { String::new() } else { answer.to_string() };
    let text = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await
}
