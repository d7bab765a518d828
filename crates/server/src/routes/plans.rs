//! Plans.

use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use volutus_model::Finding;
use volutus_store::{AnyPlan, Approval, PlanRecord, Subject};

use crate::{Api, Caller, Problem, Role};

/// A plan, in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlanSummary {
    /// Its id: the hash of its content.
    id: String,
    /// The cloud that it is for.
    cloud: String,
    /// The series that the cloud comes from; absent for a reboot.
    from: Option<String>,
    /// The series that it goes to; absent for a reboot.
    to: Option<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Consent to it, where somebody gave it.
    approval: Option<ApprovalView>,
}

/// Somebody's consent to a plan.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApprovalView {
    /// Who.
    actor: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The codes of serious findings that were consented to with it.
    consents: Vec<String>,
}

impl From<Approval> for ApprovalView {
    fn from(approval: Approval) -> Self {
        Self { actor: approval.actor.0, at: approval.at, consents: approval.consents }
    }
}

impl From<PlanRecord> for PlanSummary {
    fn from(plan: PlanRecord) -> Self {
        let (from, to) = match plan.subject {
            Subject::Upgrade { from, to } => (Some(from.to_string()), Some(to.to_string())),
            Subject::Reboot => (None, None),
        };
        Self {
            id: plan.id.to_string(),
            cloud: plan.cloud.to_string(),
            from,
            to,
            created_at: plan.created_at,
            approval: plan.approval.map(Into::into),
        }
    }
}

/// All plans, the latest first.
#[utoipa::path(get, path = "/plans", tag = "plans", responses(
    (status = 200, body = Vec<PlanSummary>),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(State(api): State<Api>) -> Result<Json<Vec<PlanSummary>>, Problem> {
    api.blocking(|api| Ok(Json(api.store().plans()?.into_iter().map(Into::into).collect()))).await
}

/// A plan, whole: every stage and step, as `volutus plan show --output json` prints it.
#[utoipa::path(get, path = "/plans/{plan}", tag = "plans",
    params(("plan" = String, Path, description = "The plan, or any unambiguous beginning of its id")),
    responses(
        (status = 200, body = Object),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn show(
    State(api): State<Api>,
    plan: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    let Path(plan) = plan?;
    let plan = api.blocking(move |api| Ok(api.store().find_any_plan(&plan)?)).await?;
    let value = match &plan {
        AnyPlan::Upgrade(plan) => serde_json::to_value(plan),
        AnyPlan::Reboot(plan) => serde_json::to_value(plan),
    };
    value
        .map(Json)
        .map_err(|error| Problem::broken(&format!("the plan could not be written as JSON: {error}")))
}

/// What stands in the way of a plan of an upgrade, judged by the latest observation that is kept.
#[utoipa::path(get, path = "/plans/{plan}/findings", tag = "plans",
    params(("plan" = String, Path, description = "The plan, or any unambiguous beginning of its id")),
    responses(
        (status = 200, body = Vec<Object>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn findings(
    State(api): State<Api>,
    plan: Result<Path<String>, PathRejection>,
) -> Result<Json<Vec<Finding>>, Problem> {
    let Path(plan) = plan?;
    let judge = move |api: &Api| api.works().findings(&api.store().find_plan(&plan)?);
    Ok(Json(api.blocking(judge).await?))
}

/// Consent to a plan.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// Codes of serious findings that are consented to.
    #[serde(default)]
    accept: Vec<String>,
}

/// Allows a plan to be run; bound to its content. The first approval of a plan stays.
#[utoipa::path(post, path = "/plans/{plan}/approve", tag = "plans",
    params(("plan" = String, Path, description = "The plan, or any unambiguous beginning of its id")),
    request_body = Approve,
    responses(
        (status = 200, body = ApprovalView),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn approve(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    plan: Result<Path<String>, PathRejection>,
    body: Result<Json<Approve>, JsonRejection>,
) -> Result<Json<ApprovalView>, Problem> {
    caller.must_be(Role::Approver)?;
    let (Path(plan), Json(body)) = (plan?, body?);
    api.blocking(move |api| {
        let plan = api.store().find_any_plan(&plan)?;
        if api.access().four_eyes {
            let author = api.store().author(plan.id())?;
            if let Some(why) = api.access().people.same(author.as_ref(), &caller) {
                let who = author.map_or("somebody unknown".to_owned(), |author| author.to_string());
                let detail = format!(
                    "plan {} was made by {who}, and {} may not approve it: {}",
                    plan.id(),
                    caller.actor,
                    why.detail()
                );
                return Err(Problem::new(StatusCode::FORBIDDEN, "four-eyes", detail).hint(why.hint()));
            }
        }
        let approval = api.store().approve(plan.id(), &caller.actor, Api::now(), &body.accept)?;
        Ok(Json(approval.into()))
    })
    .await
}
