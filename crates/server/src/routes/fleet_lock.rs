//! Hosts that reboot themselves ask first, as the FleetLock protocol has it: two requests, a slot per
//! host, so many slots per group. Source: zincati, `docs/development/fleetlock/protocol.md`.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Api, Problem};

/// Letters of an id or of a group.
const NAME_MAX: usize = 255;

/// What a host sends.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Ask {
    client_params: Params,
}

/// Which host, of which group.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Params {
    /// The host, by an id that stays the same: no control characters.
    #[schema(min_length = 1, max_length = 255, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
    id: String,
    /// Its group: letters, digits, dots and dashes.
    #[schema(min_length = 1, max_length = 255, pattern = "^[a-zA-Z0-9.-]+$")]
    group: String,
}

/// Why a host has to wait.
#[derive(Debug, Serialize, ToSchema)]
pub struct Refusal {
    /// A stable word.
    kind: &'static str,
    /// For people.
    value: String,
    #[serde(skip)]
    status: StatusCode,
}

impl Refusal {
    fn new(status: StatusCode, kind: &'static str, value: impl Into<String>) -> Self {
        Self { kind, value: value.into(), status }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(status, "store", problem.detail)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self)).into_response()
    }
}

/// A host wants to reboot: takes a slot for it.
#[utoipa::path(post, path = "/v1/pre-reboot", tag = "fleet-lock", security(()), request_body = Ask,
    params(("fleet-lock-protocol" = String, Header, description = "Always `true`", pattern = "^true$")),
    responses(
        (status = 200, description = "It may reboot"),
        (status = "default", description = "Why it has to wait, or why nobody is answered",
            content((Refusal = "application/json"), (Problem = "application/problem+json"))),
    ))]
pub async fn pre_reboot(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Result<Json<Ask>, JsonRejection>,
) -> Result<StatusCode, Refusal> {
    let (slots, params) = read(&api, &headers, body)?;
    let taken = api
        .blocking(move |api| {
            // A run works within the same budget, and counts on the hosts that it has seen.
            if let Some(lease) = api.store().lease(api.cloud(), Api::now())? {
                return Ok(Err(format!("{} works on cloud {}", lease.holder, api.cloud())));
            }
            let took = api.store().take_slot(&params.group, &params.id, Api::now(), slots)?;
            Ok(if took {
                Ok(())
            } else {
                Err(format!("all {slots} slots of group {} are taken", params.group))
            })
        })
        .await?;
    match taken {
        Ok(()) => Ok(StatusCode::OK),
        Err(why) => Err(Refusal::new(StatusCode::CONFLICT, "failed_lock_semaphore_full", why)),
    }
}

/// A host is back and well: gives its slot back.
#[utoipa::path(post, path = "/v1/steady-state", tag = "fleet-lock", security(()), request_body = Ask,
    params(("fleet-lock-protocol" = String, Header, description = "Always `true`", pattern = "^true$")),
    responses(
        (status = 200, description = "It has no slot"),
        (status = "default", description = "Why it was not taken back, or why nobody is answered",
            content((Refusal = "application/json"), (Problem = "application/problem+json"))),
    ))]
pub async fn steady_state(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Result<Json<Ask>, JsonRejection>,
) -> Result<StatusCode, Refusal> {
    let (_, params) = read(&api, &headers, body)?;
    api.blocking(move |api| Ok(api.store().give_slot_back(&params.group, &params.id)?)).await?;
    Ok(StatusCode::OK)
}

fn read(
    api: &Api,
    headers: &HeaderMap,
    body: Result<Json<Ask>, JsonRejection>,
) -> Result<(u32, Params), Refusal> {
    let bad = |kind, value: String| Refusal::new(StatusCode::BAD_REQUEST, kind, value);
    let Some(lock) = api.fleet_lock() else {
        let why = "the server does not give slots; it is started with --fleet-lock where it is to";
        return Err(Refusal::new(StatusCode::NOT_FOUND, "not_configured", why));
    };
    if headers.get("fleet-lock-protocol").is_none_or(|value| value != "true") {
        return Err(bad(
            "missing_protocol_header",
            "the header `fleet-lock-protocol: true` is missing".to_owned(),
        ));
    }
    let Json(Ask { client_params: params }) =
        body.map_err(|rejection| Refusal::new(rejection.status(), "malformed_body", rejection.body_text()))?;
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    if params.group.is_empty() || params.group.len() > NAME_MAX || !params.group.chars().all(fits) {
        return Err(bad(
            "invalid_group",
            format!("a group has 1 to {NAME_MAX} letters, digits, dots and dashes"),
        ));
    }
    if params.id.is_empty() || params.id.chars().count() > NAME_MAX || params.id.chars().any(char::is_control)
    {
        return Err(bad("invalid_id", format!("an id has 1 to {NAME_MAX} printable letters")));
    }
    Ok((lock.slots, params))
}
