//! Who may do what.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use uzers::{User, get_effective_uid, get_user_by_uid};
use volutus_model::event::Actor;

use crate::unix::Peer;
use crate::{Api, Keystone, People, Problem};

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// See everything.
    Reader,
    /// Start, pause, resume, abort and finalize runs.
    Operator,
    /// Approve plans.
    Approver,
}

impl Role {
    /// Its name at keystone.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reader => "volutus_reader",
            Self::Operator => "volutus_operator",
            Self::Approver => "volutus_approver",
        }
    }
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// As the journal names them.
    pub actor: Actor,
    /// What they may do.
    pub roles: Vec<Role>,
    /// The way by which they came in, which says what sort of name theirs is.
    pub way: Way,
}

/// A way in, and so who it is that knows the caller by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The Unix socket: the name of a user of this machine.
    Socket,
    /// The network: a user of keystone, `name@domain`.
    Network,
}

impl Caller {
    /// Sees that the caller may do it. Whoever may do anything may see everything.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn must_be(&self, role: Role) -> Result<(), Problem> {
        if self.roles.contains(&role) || (role == Role::Reader && !self.roles.is_empty()) {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            format!("{} does not have the role {}", self.actor, role.name()),
        )
        .hint("docs/operating/serve.md tells who may do what."))
    }
}

/// Requests of one caller that are answered in a second, on average; a few pages and a poll.
const RATE_PER_S: NonZeroU32 = NonZeroU32::new(50).expect("not zero");

/// Requests of one caller that may come at once.
const BURST: NonZeroU32 = NonZeroU32::new(200).expect("not zero");

/// Whoever is counted as one caller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Source {
    User(u32),
    Address(IpAddr),
}

/// Who may come in, and how often.
pub struct Access {
    /// The group whose members may do everything at the Unix socket, besides root and the user that
    /// the server runs as.
    pub group: Option<String>,
    /// Who says whom a token belongs to; without it no request over TLS is answered but health and
    /// metrics.
    pub keystone: Option<Keystone>,
    /// Whether the author of a plan may not approve it.
    pub four_eyes: bool,
    /// Which names are one person's.
    pub people: People,
    limiter: DefaultKeyedRateLimiter<Source>,
}

impl Access {
    /// Access by these rules.
    #[must_use]
    pub fn new(group: Option<String>, keystone: Option<Keystone>, four_eyes: bool) -> Self {
        let limiter = RateLimiter::keyed(Quota::per_second(RATE_PER_S).allow_burst(BURST));
        Self { group, keystone, four_eyes, people: People::default(), limiter }
    }

    /// The same with another number of requests of one caller in a second, all of which may come at
    /// once.
    #[must_use]
    pub fn at_rate(mut self, per_second: NonZeroU32) -> Self {
        self.limiter = RateLimiter::keyed(Quota::per_second(per_second));
        self
    }

    fn limit(&self, source: &Source) -> Result<(), Problem> {
        // Callers that have not come for long are forgotten, so that the table stays small.
        if self.limiter.len() > 10_000 {
            self.limiter.retain_recent();
        }
        self.limiter.check_key(source).map_err(|_| {
            Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-requests",
                "more requests than are answered",
            )
            .hint(format!(
                "At most {RATE_PER_S} a second. `GET /runs/{{run}}/events` can be followed instead."
            ))
        })
    }

    /// Who a user of this machine is.
    fn local(&self, uid: u32) -> Caller {
        let user = get_user_by_uid(uid);
        let name =
            user.as_ref().map_or_else(|| format!("uid {uid}"), |user| user.name().display().to_string());
        let trusted =
            uid == 0 || uid == get_effective_uid() || user.is_some_and(|user| self.is_member(&user));
        let roles = if trusted { vec![Role::Reader, Role::Operator, Role::Approver] } else { Vec::new() };
        Caller { actor: Actor(name), roles, way: Way::Socket }
    }

    fn is_member(&self, user: &User) -> bool {
        let Some(name) = self.group.as_deref() else { return false };
        user.groups().is_some_and(|groups| groups.iter().any(|group| group.name() == name))
    }
}

/// Paths that are answered without asking who calls: they tell nothing that is to be kept from
/// anybody on the network of the server, and who asks has no token.
const OPEN: &[&str] =
    &["/health", "/ready", "/metrics", "/openapi.json", "/status", "/feed.atom", "/calendar.ics"];

/// The paths of links by which owners answer; who has one needs nothing else.
const CONFIRM: &str = "/confirm/";

/// The paths of FleetLock, whose hosts have no token either.
const FLEET_LOCK: &str = "/v1/";

/// Lets a request in that may come in, and says who it is from.
pub async fn admit(State(api): State<Api>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match identify(&api, &parts).await {
        Ok(caller) => {
            if let Some(caller) = caller {
                parts.extensions.insert(caller);
            }
            next.run(Request::from_parts(parts, body)).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// Who a request is from; nobody where that does not matter.
async fn identify(api: &Api, request: &Parts) -> Result<Option<Caller>, Problem> {
    let access = api.access();
    let extensions = &request.extensions;
    let path = request.uri.path();
    let open = OPEN.contains(&path) || path.starts_with(CONFIRM) || path.starts_with(FLEET_LOCK);
    let unauthorized = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail);
    if let Some(ConnectInfo(peer)) = extensions.get::<ConnectInfo<Peer>>() {
        let uid = peer.uid.ok_or_else(|| unauthorized("the kernel did not say who calls"))?;
        access.limit(&Source::User(uid))?;
        if open {
            return Ok(None);
        }
        let access = Arc::clone(access);
        let caller = tokio::task::spawn_blocking(move || access.local(uid)).await;
        let caller = caller.map_err(|_| Problem::broken("the caller could not be looked up"))?;
        caller.must_be(Role::Reader)?;
        return Ok(Some(caller));
    }
    let address = extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let address = address.ok_or_else(|| unauthorized("nothing says who calls"))?;
    access.limit(&Source::Address(address))?;
    if open {
        return Ok(None);
    }
    let keystone = access.keystone.as_ref().ok_or_else(|| unauthorized("no keystone is configured"))?;
    let token = request.headers.get("x-auth-token").and_then(|value| value.to_str().ok());
    let token = token.ok_or_else(|| unauthorized("the header X-Auth-Token is missing"))?;
    let caller = keystone.identify(token).await?;
    caller.must_be(Role::Reader)?;
    Ok(Some(caller))
}
