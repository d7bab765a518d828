//! What is due.

use axum::Json;
use axum::extract::State;

use crate::{Api, Calendar, Problem};

/// The schedules, what is due in the coming three months, and what was missed in the past three.
#[utoipa::path(get, path = "/schedules", tag = "schedules", responses(
    (status = 200, body = Calendar),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn schedules(State(api): State<Api>) -> Result<Json<Calendar>, Problem> {
    Ok(Json(api.blocking(|api| api.works().calendar()).await?))
}
