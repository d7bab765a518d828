//! Requests to replicas of one API, beside the load balancer.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use reqwest::Method;
use tokio::sync::OnceCell;
use volutus_contract::answers::{Asked, Body, Recorded, UNANSWERED};
use volutus_contract::diff::Audience;
use volutus_contract::writes::Bindings;
use volutus_model::contract::Shadow;
use volutus_openstack::{Client, ServiceType};

use super::compare::{Asks, Side};
use super::writes::{Sent, Writes};
use super::{Beside, OUTLIVES, fresh_old_code};
use crate::attempt::Attempt;

/// Bound of one request: lists of large clouds take seconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks whether the cloud is quick enough again.
const HELD: Duration = Duration::from_secs(1);
/// Between two requests: what keeps comparing from being a load. One request is under way at a time.
const BREATH: Duration = Duration::from_millis(5);

/// Requests that a replica takes and hangs up on are tried so often.
const TRIES: u32 = 3;
/// The role of users who may look and do nothing.
const READER: &str = "reader";

/// The replicas, and those who ask them.
pub(super) struct Replicas<'a> {
    attempt: &'a Attempt<'a>,
    http: reqwest::Client,
    kind: ServiceType,
    /// Each with where the service's resources are at a replica, and at the load balancer.
    users: Vec<(Audience, Client, String, String)>,
    old: &'a str,
    new: &'a str,
    shadow: &'a Shadow,
    /// Where old code answers in a fresh process, once somebody has asked for it.
    fresh: OnceCell<String>,
    /// Addresses that mean the same to a client.
    pub origins: Vec<String>,
}

impl<'a> Replicas<'a> {
    /// Finds out where the resources of the service are for each user.
    ///
    /// # Errors
    /// Why nobody can ask.
    pub async fn new(
        attempt: &'a Attempt<'a>,
        shadow: &'a Shadow,
        kind: ServiceType,
    ) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // A replica may close a connection that rests, just when the next request is sent.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| format!("no HTTP client: {error}"))?;
        let mut users = Vec::new();
        let mut origins = vec![shadow.old.clone(), shadow.new.clone(), Beside::old_code(shadow).url];
        let mut clients = vec![
            (Audience::Admin, attempt.cloud.operator.clone()),
            (Audience::Member, attempt.cloud.prober.clone()),
        ];
        // Where there is no reader, nobody is refused what a reader may do.
        match reader(attempt, shadow).await {
            Ok(reader) => clients.push((Audience::Reader, reader)),
            Err(why) => attempt.say(format!("nobody asks as a reader: {why}")),
        }
        for (audience, client) in clients {
            let root = client.endpoint(kind).await.map_err(|error| format!("{audience:?}: {error}"))?;
            let origin = root.origin().ascii_serialization();
            if !origins.contains(&origin) {
                origins.push(origin);
            }
            let balanced = root.as_str().trim_end_matches('/').to_owned();
            let root = below_prefix(root.path());
            users.push((audience, client, root, balanced));
        }
        let (old, new) = (&shadow.old, &shadow.new);
        Ok(Self { attempt, http, kind, users, old, new, shadow, fresh: OnceCell::new(), origins })
    }

    /// Those who can ask.
    pub fn audiences(&self) -> Vec<Audience> {
        self.users.iter().map(|(audience, ..)| *audience).collect()
    }

    /// What chains of writing requests are filled with: whose they are, and when what they make ends by
    /// itself where it can.
    ///
    /// # Errors
    /// Why it is not known.
    pub async fn facts(&self) -> Result<Bindings, String> {
        let user = self.attempt.cloud.prober.token().await.map_err(|error| error.to_string())?;
        let until = Timestamp::now() + self.attempt.left() + OUTLIVES;
        // Without a fraction of a second, which keystone's database does not keep.
        let until = until.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S").to_string();
        Ok([("user_id", user.user_id.clone()), ("until", until)].into())
    }

    async fn exchange(&self, side: Side, asked: &Asked, sent: Option<&Sent>) -> Result<Recorded, String> {
        while let Some(why) = self.attempt.cloud.held() {
            self.attempt.say(format!("comparing waits: {why}"));
            self.attempt.pause(HELD).await;
            if self.attempt.is_over() {
                break;
            }
        }
        if self.attempt.is_over() {
            return Err("its time is over".to_owned());
        }
        tokio::time::sleep(BREATH).await;
        let user = self.users.iter().find(|(audience, ..)| *audience == asked.audience);
        let (_, client, root, balanced) =
            user.ok_or_else(|| format!("nobody asks as {:?}", asked.audience))?;
        let root = match side {
            Side::Old => format!("{}{root}", self.old),
            Side::New => format!("{}{root}", self.new),
            Side::AnyOld | Side::Users => balanced.clone(),
            Side::FreshOld => {
                let fresh = self.fresh.get_or_try_init(|| fresh_old_code(self.attempt, self.shadow));
                format!("{}{root}", fresh.await?)
            }
        };
        let url = format!("{root}{}", asked.path);
        let method = sent.map_or("GET", |sent| sent.method);
        // What writes is sent once: nobody knows whether the code had done it when it hung up.
        let tries_max = if method == "GET" { TRIES } else { 1 };
        let method = Method::from_bytes(method.as_bytes()).map_err(|error| error.to_string())?;
        let mut tries = 0;
        let answer = loop {
            tries += 1;
            let mut request = self.http.request(method.clone(), &url).header("accept", "application/json");
            if let Some((media, body)) = sent.and_then(|sent| sent.body.as_ref()) {
                request = request.header("content-type", *media).body(body.to_string());
            }
            if let Some((version, name)) = asked.microversion.zip(self.kind.microversion_name()) {
                request = request.header("openstack-api-version", format!("{name} {version}"));
            }
            let request = client.authorize(request).await.map_err(|error| format!("no token: {error}"))?;
            match request.send().await {
                Ok(answer) => break answer,
                Err(error) if error.is_connect() || error.is_timeout() => {
                    return Err(format!("{method} {url}: {error:?}"));
                }
                Err(_) if tries < tries_max => {}
                Err(_) => {
                    return Ok(Recorded { status: UNANSWERED, headers: BTreeMap::new(), body: Body::Empty });
                }
            }
        };
        let status = answer.status().as_u16();
        let headers = answer
            .headers()
            .iter()
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())));
        let headers = headers.collect();
        let body = answer.bytes().await.map_err(|error| format!("{method} {url}: {error:?}"))?;
        Ok(Recorded { status, headers, body: Body::of(&body) })
    }
}

impl Asks for Replicas<'_> {
    fn ask<'a>(&'a self, side: Side, asked: &'a Asked) -> BoxFuture<'a, Result<Recorded, String>> {
        Box::pin(self.exchange(side, asked, None))
    }
}

impl Writes for Replicas<'_> {
    fn send<'a>(&'a self, side: Side, sent: &'a Sent) -> BoxFuture<'a, Result<Recorded, String>> {
        Box::pin(self.exchange(side, &sent.asked, Some(sent)))
    }
}

/// The synthetic user with the role of a reader alone.
async fn reader(attempt: &Attempt<'_>, shadow: &Shadow) -> Result<Client, String> {
    let prober = &attempt.cloud.prober;
    let token = prober.token().await.map_err(|error| error.to_string())?;
    if !token.roles.iter().any(|role| role == READER) {
        return Err(format!("the synthetic user has not the role {READER}"));
    }
    let until = Timestamp::now() + attempt.left() + OUTLIVES;
    let narrowed = prober.identity().narrowed(&credential_of(shadow), READER, until).await;
    let narrowed = narrowed.map_err(|error| error.to_string())?;
    // A credential of which keystone makes no token serves nobody.
    narrowed.token().await.map_err(|error| error.to_string())?;
    Ok(narrowed)
}

/// Takes away what made a reader. What is left where that fails ends by itself.
pub(super) async fn forget_reader(attempt: &Attempt<'_>, shadow: &Shadow) {
    if let Err(error) = attempt.cloud.prober.identity().forget_credential(&credential_of(shadow)).await {
        attempt.say(format!("the reader's credential is left to its end: {error}"));
    }
}

/// Services are compared at the same time, each with a credential of its own.
fn credential_of(shadow: &Shadow) -> String {
    format!("volutus-reader-{}", shadow.service)
}

/// The part of a path that a replica itself knows: a load balancer may have one in front,
/// `/compute/v2.1`.
fn below_prefix(path: &str) -> String {
    let path = path.trim_end_matches('/');
    let is_version = |part: &str| {
        part.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let parts: Vec<&str> = path.split('/').collect();
    match parts.iter().position(|part| is_version(part)) {
        Some(first) => format!("/{}", parts[first..].join("/")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_knows_no_prefix_of_a_load_balancer() {
        for (path, own) in [
            ("/compute/v2.1", "/v2.1"),
            ("/v3/abc/", "/v3/abc"),
            ("/placement", ""),
            ("/", ""),
            ("/identity/v3", "/v3"),
        ] {
            assert_eq!(below_prefix(path), own);
        }
    }
}
