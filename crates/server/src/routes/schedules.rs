//! What is due.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use volutus_schedule::write_ics;

use crate::{Api, Calendar, Problem};

/// The schedules, what is due in the coming three months, and what was missed in the past three.
#[utoipa::path(get, path = "/schedules", tag = "schedules", responses(
    (status = 200, body = Calendar),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn schedules(State(api): State<Api>) -> Result<Json<Calendar>, Problem> {
    Ok(Json(api.blocking(|api| api.works().calendar()).await?))
}

/// The coming three months as iCalendar, to subscribe to.
#[utoipa::path(get, path = "/calendar.ics", tag = "schedules", responses(
    (status = 200, body = String, content_type = "text/calendar"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn calendar(State(api): State<Api>) -> Result<impl IntoResponse, Problem> {
    let calendar = api.blocking(|api| api.works().calendar()).await?;
    let text = write_ics(api.cloud().as_str(), &calendar.entries, calendar.now);
    Ok(([(header::CONTENT_TYPE, "text/calendar; charset=utf-8")], text))
}
