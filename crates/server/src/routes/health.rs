//! Health, readiness, metrics, and what there is.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{Api, Problem, document};

/// That the process answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// "ok"
    status: &'static str,
    /// The version of Volutus.
    version: &'static str,
}

const OK: Health = Health { status: "ok", version: env!("CARGO_PKG_VERSION") };

/// Says that the process answers.
#[utoipa::path(get, path = "/health", tag = "health", security(()), responses(
    (status = 200, body = Health),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn health() -> Json<Health> {
    Json(OK)
}

/// Says whether the store can be used and the windows can be read.
#[utoipa::path(get, path = "/ready", tag = "health", security(()), responses(
    (status = 200, body = Health),
    (status = 503, body = Problem, content_type = "application/problem+json"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn ready(State(api): State<Api>) -> Result<Json<Health>, Problem> {
    let looked = api
        .blocking(|api| {
            api.store().lease(api.cloud(), Api::now())?;
            api.works().calendar()
        })
        .await;
    looked.map(|_| Json(OK)).map_err(|problem| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, problem.code, problem.detail).causes(problem.causes)
    })
}

/// Metrics for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health", security(()), responses(
    (status = 200, body = String, content_type = "application/openmetrics-text"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn metrics(State(api): State<Api>) -> Result<impl IntoResponse, Problem> {
    let text = api.blocking(crate::metrics::render).await?;
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "health", security(()), responses(
    (status = 200, body = Object),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(document())
}

/// A cloud.
#[derive(Debug, Serialize, ToSchema)]
pub struct Cloud {
    /// Its name.
    name: String,
    /// The process that works on it, if any does.
    held_by: Option<String>,
    /// The run that this server carries out, or is about to.
    carries: Option<String>,
    /// Its latest run.
    latest_run: Option<String>,
    /// When it was last observed.
    #[schema(value_type = Option<String>, format = DateTime)]
    observed_at: Option<jiff::Timestamp>,
}

/// The cloud that the server keeps.
#[utoipa::path(get, path = "/clouds", tag = "health", responses(
    (status = 200, body = Vec<Cloud>),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn clouds(State(api): State<Api>) -> Result<Json<Vec<Cloud>>, Problem> {
    api.blocking(|api| {
        let (store, cloud) = (api.store(), api.cloud());
        Ok(Json(vec![Cloud {
            name: cloud.to_string(),
            held_by: store.lease(cloud, Api::now())?.map(|lease| lease.holder.to_string()),
            carries: api.works().carries()?.map(|run| run.to_string()),
            latest_run: store.latest_run(cloud)?.map(|run| run.id.to_string()),
            observed_at: store.latest_observation(cloud)?.map(|observation| observation.at),
        }]))
    })
    .await
}
