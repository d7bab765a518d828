//! The client against a small cloud in the same process, which speaks plain HTTP/1.1.

// Clippy's exception for tests does not reach what the tests of this file share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use volutus_openstack::compute::ServerFilter;
use volutus_openstack::{Auth, Client, CloudConfig, Domain, Error, Method, Request, Scope, ServiceType, Url};

/// What the cloud does, and what it saw.
#[derive(Default)]
struct Cloud {
    address: String,
    /// Status and body by `METHOD path?query`.
    answers: BTreeMap<String, (u16, String)>,
    /// Every request: first line and headers.
    seen: Vec<String>,
    tokens: u32,
    /// Tokens up to this one are refused by all services.
    revoked: u32,
}

impl Cloud {
    fn answer(&mut self, head: &str) -> (u16, String, String) {
        self.seen.push(head.to_owned());
        let line = head.lines().next().unwrap_or_default();
        let wanted = line.trim_end_matches(" HTTP/1.1").to_owned();
        if wanted == "POST /identity/v3/auth/tokens" {
            if let Some((status, body)) = self.answers.get(&wanted) {
                return (*status, String::new(), body.clone());
            }
            self.tokens += 1;
            let endpoint = |kind: &str, path: &str| {
                format!(
                    r#"{{"type":"{kind}","endpoints":[{{"interface":"public","region":"R","region_id":"R","url":"http://{}{path}"}}]}}"#,
                    self.address
                )
            };
            let body = format!(
                r#"{{"token":{{"expires_at":"2999-01-01T00:00:00.000000Z","user":{{"id":"u","name":"n"}},"project":{{"id":"p","name":"n"}},"catalog":[{},{}]}}}}"#,
                endpoint("compute", "/compute/v2.1"),
                endpoint("network", "/network")
            );
            return (201, format!("X-Subject-Token: token-{}\r\n", self.tokens), body);
        }
        let token = head
            .lines()
            .find_map(|line| line.strip_prefix("x-auth-token: token-"))
            .and_then(|number| number.parse::<u32>().ok());
        if token.is_none_or(|token| token <= self.revoked) {
            return (401, String::new(), r#"{"error":{"message":"token"}}"#.to_owned());
        }
        let (status, body) = self.answers.get(&wanted).cloned().unwrap_or((404, "no such thing".to_owned()));
        (status, String::new(), body)
    }

    fn count(&self, beginning: &str) -> usize {
        self.seen.iter().filter(|head| head.starts_with(beginning)).count()
    }
}

async fn serve(cloud: Arc<Mutex<Cloud>>, mut stream: TcpStream) -> std::io::Result<()> {
    let mut read: Vec<u8> = Vec::new();
    let head = loop {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        read.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.and_then(|length| length.parse().ok()).unwrap_or(0) {
            break head.to_owned();
        }
    };
    let (status, headers, body) = cloud.lock().unwrap().answer(&head);
    let text = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await
}

async fn start() -> (Arc<Mutex<Cloud>>, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let cloud = Arc::new(Mutex::new(Cloud { address: address.clone(), ..Cloud::default() }));
    let shared = Arc::clone(&cloud);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(Arc::clone(&shared), stream));
        }
    });
    (cloud, Client::new(config(&address), Duration::from_secs(20)).unwrap())
}

fn config(address: &str) -> CloudConfig {
    CloudConfig {
        entry: "test".to_owned(),
        file: PathBuf::from("clouds.yaml"),
        auth_url: Url::parse(&format!("http://{address}/identity")).unwrap(),
        auth: Auth::Password {
            username: "u".to_owned(),
            user_domain: Domain::Id("default".to_owned()),
            password: "hush".to_owned().into(),
        },
        scope: Scope::ProjectName { name: "p".to_owned(), domain: Domain::Name("D".to_owned()) },
        region: Some("R".to_owned()),
        interface: "public".to_owned(),
        verify: true,
        cacert: None,
    }
}

fn put(cloud: &Mutex<Cloud>, request: &str, status: u16, body: &str) {
    cloud.lock().unwrap().answers.insert(request.to_owned(), (status, body.to_owned()));
}

fn networks() -> Request {
    Request::new(Method::GET, ServiceType::Network, "/networks?name=a")
}

#[tokio::test]
async fn any_status_is_an_answer_and_paths_meet_the_catalog() {
    let (cloud, client) = start().await;
    put(&cloud, "GET /network/v2.0/networks?name=a", 503, "busy");
    let answer = client.request(&networks()).await.unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (503, b"busy".as_slice()));
    assert_eq!(cloud.lock().unwrap().count("GET "), 1, "nothing may be repeated by itself");
}

#[tokio::test]
async fn many_requests_ask_for_one_token() {
    let (cloud, client) = start().await;
    put(&cloud, "GET /network/v2.0/networks?name=a", 200, "{}");
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.request(&networks()).await.unwrap().status })
        })
        .collect();
    for one in waiting {
        assert_eq!(one.await.unwrap(), 200);
    }
    assert_eq!(cloud.lock().unwrap().tokens, 1);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_by_request_and_not_by_attempt() {
    let (cloud, client) = start().await;
    put(&cloud, "GET /network/v2.0/networks?name=a", 200, "{}");
    client.token().await.unwrap();
    cloud.lock().unwrap().revoked = 1;
    assert_eq!(client.request(&networks()).await.unwrap().status, 200);
    cloud.lock().unwrap().revoked = 2;
    assert_eq!(client.attempt(&networks()).await.unwrap().status, 401);
    assert_eq!(client.attempt(&networks()).await.unwrap().status, 200, "the next has a new one");
    cloud.lock().unwrap().revoked = 100;
    assert_eq!(client.request(&networks()).await.unwrap().status, 401);
    assert_eq!(cloud.lock().unwrap().tokens, 4);
}

#[tokio::test]
async fn microversions_and_pages_are_asked_for() {
    let (cloud, client) = start().await;
    let page = "GET /compute/v2.1/servers/detail?limit=500&all_tenants=1&host=cmp1";
    put(&cloud, page, 200, r#"{"servers": [{"id": "a"}, {"id": "b"}]}"#);
    put(&cloud, &format!("{page}&marker=b"), 200, r#"{"servers": []}"#);
    let filter = ServerFilter { host: Some("cmp1".to_owned()), ..ServerFilter::default() };
    let servers = client.compute().servers_of_all(&filter).await.unwrap();
    assert_eq!(servers.len(), 2);
    let cloud = cloud.lock().unwrap();
    let head = cloud.seen.last().unwrap();
    assert!(head.contains("openstack-api-version: compute 2.79"), "{head}");
}

#[tokio::test]
async fn a_wrong_password_says_who_was_refused_and_not_the_password() {
    let (cloud, client) = start().await;
    let body = r#"{"error": {"code": 401, "message": "The request you have made requires authentication."}}"#;
    put(&cloud, "POST /identity/v3/auth/tokens", 401, body);
    let error = client.request(&networks()).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("user u of domain default for project p"), "{message}");
    assert!(message.contains("requires authentication"), "{message}");
    assert!(!format!("{error:?}").contains("hush"));
    assert_eq!(cloud.lock().unwrap().count("POST "), 1);
}

#[tokio::test]
async fn a_service_that_is_not_in_the_catalog_is_named_with_what_is() {
    let (_cloud, client) = start().await;
    let error = client.endpoint(ServiceType::Volume).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no public endpoint of type block-storage or volumev3 or block-store or volume in region R in \
         the service catalog; it has compute (public, R), network (public, R)"
    );
}

#[tokio::test]
async fn a_name_that_nothing_or_several_things_have_is_an_error() {
    let (cloud, client) = start().await;
    let list = r#"{"networks": [{"id": "1", "name": "a"}, {"id": "2", "name": "a"}]}"#;
    put(&cloud, "GET /network/v2.0/networks?name=a", 200, list);
    put(&cloud, "GET /network/v2.0/networks?name=b", 200, r#"{"networks": []}"#);
    let two = client.network().network("a").await.unwrap_err();
    assert_eq!(two.to_string(), "2 networks are called `a` for cloud entry `test`");
    let none = client.network().network("b").await.unwrap_err();
    assert_eq!(none.to_string(), "no network is called `b` for cloud entry `test`");
}

#[tokio::test]
async fn nobody_at_the_address_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let client = Client::new(config(&address), Duration::from_secs(20)).unwrap();
    let error = client.token().await.unwrap_err();
    let Error::Unreachable { why, timed_out: false, .. } = &error else { panic!("{error:?}") };
    assert!(why.contains("refused"), "{why}");
}

#[tokio::test]
async fn throwaways_are_swept_by_their_names_and_nothing_else_is() {
    let (cloud, client) = start().await;
    let networks = r#"{"networks": [{"id": "a", "name": "volutus-write-r-1-b"}, {"id": "b", "name": "volutus-probe-net"}]}"#;
    put(&cloud, "GET /network/v2.0/networks?project_id=p", 200, networks);
    put(&cloud, "GET /network/v2.0/security-groups?project_id=p", 200, r#"{"security_groups": []}"#);
    let keypairs =
        r#"{"keypairs": [{"keypair": {"name": "volutus-write-r-2"}}, {"keypair": {"name": "mine"}}]}"#;
    put(&cloud, "GET /compute/v2.1/os-keypairs", 200, keypairs);
    put(&cloud, "GET /compute/v2.1/os-server-groups", 200, r#"{"server_groups": []}"#);
    for path in ["/network/v2.0/networks/a", "/compute/v2.1/os-keypairs/volutus-write-r-2"] {
        put(&cloud, &format!("DELETE {path}"), if path.contains("keypairs") { 202 } else { 204 }, "");
    }
    let found = client.sweep_throwaways(Some(ServiceType::Network)).await.unwrap();
    assert_eq!(found, ["network volutus-write-r-1-b (a)"]);
    let found = client.sweep_throwaways(Some(ServiceType::Compute)).await.unwrap();
    assert_eq!(found, ["keypair volutus-write-r-2 (volutus-write-r-2)"]);
    assert_eq!(cloud.lock().unwrap().count("DELETE "), 2);
    put(&cloud, "DELETE /network/v2.0/networks/a", 409, "in use");
    assert!(client.sweep_throwaways(Some(ServiceType::Network)).await.is_err(), "what stays is no success");
}
