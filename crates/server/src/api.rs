//! The router, and what every handler starts from.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::{RequestBodyTimeoutLayer, TimeoutLayer};
use utoipa::openapi::RefOr;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use volutus_model::name::HostName;
use volutus_store::Store;

use crate::metrics::{Requests, count};
use crate::routes::{command, confirm, events, fleet_lock, health, plans, public, releases, runs, schedules};
use crate::{Access, Problem, Works, access};

/// Bytes of a request's body: the largest one names a plan and some codes.
const BODY_MAX: usize = 64 * 1024;

/// How long an answer may take to begin. Beginning a run looks at every host of the cloud first.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);

/// How long a body of [`BODY_MAX`] may pause on its way here.
const BODY_PAUSE_MAX: Duration = Duration::from_secs(10);

/// Hosts that reboot themselves, and ask before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetLock {
    /// Hosts of one group that may reboot at once.
    pub slots: u32,
}

/// What every handler starts from.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    store: Store,
    cloud: HostName,
    works: Arc<dyn Works>,
    access: Arc<Access>,
    fleet_lock: Option<FleetLock>,
    requests: Requests,
}

impl Api {
    /// The API over a store and whoever carries out work on a cloud. Without `fleet_lock` hosts
    /// that ask are told that they cannot.
    #[must_use]
    pub fn new(
        store: Store,
        cloud: HostName,
        works: Arc<dyn Works>,
        access: Access,
        fleet_lock: Option<FleetLock>,
    ) -> Self {
        let access = Arc::new(access);
        Self(Arc::new(Inner { store, cloud, works, access, fleet_lock, requests: Requests::default() }))
    }

    pub(crate) fn cloud(&self) -> &HostName {
        &self.0.cloud
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn works(&self) -> &dyn Works {
        self.0.works.as_ref()
    }

    pub(crate) fn access(&self) -> &Arc<Access> {
        &self.0.access
    }

    pub(crate) fn fleet_lock(&self) -> Option<FleetLock> {
        self.0.fleet_lock
    }

    pub(crate) fn requests(&self) -> &Requests {
        &self.0.requests
    }

    /// Puts a call that waits for the disk onto a thread where waiting harms nobody.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Self) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let api = self.clone();
        let done = tokio::task::spawn_blocking(move || call(&api)).await;
        done.map_err(|_| Problem::broken("a look at the store broke off"))?
    }

    /// Now; the server is one of the few places that may ask.
    pub(crate) fn now() -> Timestamp {
        Timestamp::now()
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Volutus",
        description = "What `volutus serve` answers. Every refusal is a problem document with a stable code. At the \
                       Unix socket no token is needed: the kernel says who calls."
    ),
    modifiers(&Tokens),
    security(("token" = [])),
    tags(
        (name = "health", description = "For monitoring"),
        (name = "plans", description = "Plans, what stands in their way, and consent to them"),
        (name = "runs", description = "Runs, what happened in them, and commands to them"),
        (name = "public", description = "What everybody may read, without a token"),
        (name = "schedules", description = "What is due, and what was missed"),
        (name = "releases", description = "What is locked, and where new releases are looked for"),
        (name = "fleet-lock", description = "For hosts that reboot themselves")
    )
)]
struct Document;

/// What requests from the network carry.
struct Tokens;

impl Modify for Tokens {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let says =
            "A token of keystone with one of the roles volutus_reader, volutus_operator, volutus_approver";
        let token = ApiKey::Header(ApiKeyValue::with_description("X-Auth-Token", says));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::ApiKey(token));
    }
}

fn described() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
        .routes(routes!(health::openapi))
        .routes(routes!(health::clouds))
        .routes(routes!(plans::list))
        .routes(routes!(plans::show))
        .routes(routes!(plans::findings))
        .routes(routes!(plans::approve))
        .routes(routes!(runs::list, runs::begin))
        .routes(routes!(runs::show))
        .routes(routes!(runs::verdict))
        .routes(routes!(events::events))
        .routes(routes!(command::pause))
        .routes(routes!(command::resume))
        .routes(routes!(command::abort))
        .routes(routes!(command::finalize))
        .routes(routes!(command::rollback))
        .routes(routes!(command::go_on))
        .routes(routes!(schedules::schedules))
        .routes(routes!(releases::releases))
        .routes(routes!(public::status))
        .routes(routes!(public::feed))
        .routes(routes!(public::calendar))
        .routes(routes!(confirm::ask, confirm::answer))
        .routes(routes!(fleet_lock::pre_reboot))
        .routes(routes!(fleet_lock::steady_state))
}

/// The OpenAPI document.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = described().into_openapi();
    for path in document.paths.paths.values_mut() {
        for operation in [&mut path.get, &mut path.post].into_iter().flatten() {
            for (status, response) in &mut operation.responses.responses {
                // OpenAPI 3.1 wants every response described, and the attribute leaves it out.
                if let RefOr::T(response) = response
                    && response.description.is_empty()
                {
                    let says = if status == "default" { "Refused, and why" } else { "As asked" };
                    says.clone_into(&mut response.description);
                }
            }
        }
    }
    document
}

/// Everything that is answered.
pub fn router(api: Api) -> Router {
    let (router, _) = described().split_for_parts();
    router
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(from_fn_with_state(api.clone(), access::admit))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, ANSWER_LIMIT))
        .layer(RequestBodyTimeoutLayer::new(BODY_PAUSE_MAX))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(api.clone(), count))
        .with_state(api)
}

async fn unknown() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not-found", "there is nothing at this path")
        .hint("GET /openapi.json")
}

async fn wrong_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", "this path does not take this method")
        .hint("GET /openapi.json")
}

fn panicked(_what: Box<dyn std::any::Any + Send>) -> Response {
    Problem::broken("the request met a defect of Volutus; its log tells more").into_response()
}
