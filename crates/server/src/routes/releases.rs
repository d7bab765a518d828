//! Which releases are locked.

use axum::Json;
use axum::extract::State;

use crate::{Api, Problem, Releases};

/// The releases that are locked, and the sources that the server asks for new ones.
#[utoipa::path(get, path = "/releases", tag = "releases", responses(
    (status = 200, body = Releases),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn releases(State(api): State<Api>) -> Result<Json<Releases>, Problem> {
    Ok(Json(api.blocking(|api| api.works().releases()).await?))
}
