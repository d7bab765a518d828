//! Runs.

use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use volutus_model::run::RunState;
use volutus_model::verdict::Verdict;
use volutus_runtime::Standing;
use volutus_store::RunRecord;

use crate::{Api, Caller, Problem, Role};

/// A run, in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunSummary {
    /// The run.
    id: String,
    /// Its plan.
    plan: String,
    /// Its cloud.
    cloud: String,
    /// When it was begun.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Whether nothing will happen in it any more.
    ended: bool,
    /// Entries in its journal.
    entries: u64,
}

impl From<RunRecord> for RunSummary {
    fn from(run: RunRecord) -> Self {
        Self {
            id: run.id.to_string(),
            plan: run.plan.to_string(),
            cloud: run.cloud.to_string(),
            created_at: run.created_at,
            ended: run.ended,
            entries: run.entries,
        }
    }
}

/// Where a run stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunView {
    /// As in the list.
    #[serde(flatten)]
    summary: RunSummary,
    /// The process that carries it out, if any does.
    held_by: Option<String>,
    /// What waits for what, one sentence each.
    waiting: Vec<String>,
    /// Its state, as `volutus status --output json` prints it.
    #[schema(value_type = Object)]
    state: RunState,
}

/// All runs, the latest first.
#[utoipa::path(get, path = "/runs", tag = "runs", responses(
    (status = 200, body = Vec<RunSummary>),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(State(api): State<Api>) -> Result<Json<Vec<RunSummary>>, Problem> {
    api.blocking(|api| Ok(Json(api.store().runs()?.into_iter().map(Into::into).collect()))).await
}

/// Where a run stands.
#[utoipa::path(get, path = "/runs/{run}", tag = "runs",
    params(("run" = String, Path, description = "The run, or any unambiguous beginning of its id")),
    responses(
        (status = 200, body = RunView),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn show(
    State(api): State<Api>,
    run: Result<Path<String>, PathRejection>,
) -> Result<Json<RunView>, Problem> {
    let Path(run) = run?;
    api.blocking(move |api| {
        let record = api.store().find_run(&run)?;
        let standing = Standing::read(api.store(), &record)?;
        let lease = api.store().lease(&record.cloud, Api::now())?;
        Ok(Json(RunView {
            held_by: lease.filter(|_| !record.ended).map(|lease| lease.holder.to_string()),
            summary: record.into(),
            waiting: standing.waiting,
            state: standing.state,
        }))
    })
    .await
}

/// What users noticed of a run, measured.
#[utoipa::path(get, path = "/runs/{run}/verdict", tag = "runs",
    params(("run" = String, Path, description = "The run, or any unambiguous beginning of its id")),
    responses(
        (status = 200, body = Object),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn verdict(
    State(api): State<Api>,
    run: Result<Path<String>, PathRejection>,
) -> Result<Json<Verdict>, Problem> {
    let Path(run) = run?;
    api.blocking(move |api| {
        let record = api.store().find_run(&run)?;
        let missing = || {
            let detail = format!("there is no verdict of run {} yet", record.id);
            Problem::new(StatusCode::NOT_FOUND, "no-verdict", detail)
        };
        api.store().verdict(&record.id)?.map(Json).ok_or_else(missing)
    })
    .await
}

/// What is to be run.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// The approved plan, or any unambiguous beginning of its id.
    plan: String,
}

/// A run that was begun.
#[derive(Debug, Serialize, ToSchema)]
pub struct Begun {
    /// The run.
    run: String,
}

/// Begins a run of an approved plan. The cloud is looked at first; the answer comes once the run
/// exists or is refused, and the run goes on afterwards.
#[utoipa::path(post, path = "/runs", tag = "runs", request_body = Begin, responses(
    (status = 202, body = Begun, headers(("Location" = String, description = "Where the run stands"))),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn begin(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<Begin>, JsonRejection>,
) -> Result<impl IntoResponse, Problem> {
    caller.must_be(Role::Operator)?;
    let Json(body) = body?;
    let plan = api.blocking(move |api| Ok(api.store().find_any_plan(&body.plan)?.id().clone())).await?;
    let run = api.works().begin(&plan, &caller.actor).await?;
    let location = [(header::LOCATION, format!("/runs/{run}"))];
    Ok((StatusCode::ACCEPTED, location, Json(Begun { run: run.to_string() })))
}
