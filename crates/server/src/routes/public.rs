//! What everybody may read without a log-in: what `volutus notice publish` and `volutus calendar
//! --output ics` write, by the same code.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use volutus_notices::{ENTRIES_MAX, atom, status_page};
use volutus_schedule::{Decision, Entry, write_ics};
use volutus_store::Notice;

use crate::{Api, Problem};

/// Pages need their own style and nothing else: no script, no picture, nothing from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// How things stand, as a page for everybody: what was announced, begun, ended and taken back.
#[utoipa::path(get, path = "/status", tag = "public", security(()), responses(
    (status = 200, body = String, content_type = "text/html"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn status(State(api): State<Api>) -> Result<impl IntoResponse, Problem> {
    let page = api.blocking(|api| Ok(status_page(api.cloud().as_str(), Api::now(), &notices(api)?))).await?;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, page))
}

/// The same as an Atom feed.
#[utoipa::path(get, path = "/feed.atom", tag = "public", security(()), responses(
    (status = 200, body = String, content_type = "application/atom+xml"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn feed(State(api): State<Api>) -> Result<impl IntoResponse, Problem> {
    let feed = api.blocking(|api| Ok(atom(api.cloud().as_str(), Api::now(), &notices(api)?))).await?;
    Ok(([(header::CONTENT_TYPE, "application/atom+xml; charset=utf-8")], feed))
}

/// The coming three months as iCalendar, to subscribe to: what is due and whether it will be begun. Why
/// something will not, an operator finds in `/schedules`.
#[utoipa::path(get, path = "/calendar.ics", tag = "public", security(()), responses(
    (status = 200, body = String, content_type = "text/calendar"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn calendar(State(api): State<Api>) -> Result<impl IntoResponse, Problem> {
    let calendar = api.blocking(|api| api.works().calendar()).await?;
    let entries: Vec<Entry> = calendar.entries.into_iter().map(public).collect();
    let text = write_ics(api.cloud().as_str(), &entries, calendar.now);
    Ok(([(header::CONTENT_TYPE, "text/calendar; charset=utf-8")], text))
}

fn notices(api: &Api) -> Result<Vec<Notice>, Problem> {
    Ok(api.store().public_notices(api.cloud().as_str(), ENTRIES_MAX)?)
}

/// An entry without the operators' own words of freezes and rules.
fn public(entry: Entry) -> Entry {
    let decision = entry.decision.map(|decision| match decision {
        Decision::NoOpening { .. } => Decision::NoOpening { because: None },
        other => other,
    });
    Entry { decision, note: None, ..entry }
}
