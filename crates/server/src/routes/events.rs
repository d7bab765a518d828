//! What happened in a run, page by page or as it happens.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::stream::{Stream, unfold};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use volutus_model::event::JournalEntry;
use volutus_model::name::RunId;

use crate::{Api, Problem};

/// Entries of one page.
const PAGE_MAX: usize = 500;

/// How often the journal is looked at for somebody who follows: as often as `volutus watch` does.
const PERIOD: Duration = Duration::from_millis(500);

/// From where on.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Since {
    /// The last entry that is known; what comes behind it is told. Without it, everything is.
    #[param(value_type = Option<i64>, minimum = 0, maximum = 4294967295_i64)]
    after: Option<u32>,
}

/// A page of a journal.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page {
    /// The entries.
    #[schema(value_type = Vec<Object>)]
    entries: Vec<JournalEntry>,
    /// What `after` is for the next page; absent before the first entry.
    after: Option<u64>,
    /// Whether there are more already.
    more: bool,
}

/// The journal of a run: a page of it, or, with `Accept: text/event-stream`, every entry as it is
/// written, with its number as the id, until the run has ended. `Last-Event-ID` goes before `after`.
#[utoipa::path(get, path = "/runs/{run}/events", tag = "runs",
    params(
        ("run" = String, Path, description = "The run, or any unambiguous beginning of its id"),
        Since
    ),
    responses(
        (status = 200, content((Page = "application/json"), (String = "text/event-stream"))),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn events(
    State(api): State<Api>,
    run: Result<Path<String>, PathRejection>,
    from: Result<Query<Since>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (Path(run), Query(from)) = (run?, from?);
    let record = api.blocking(move |api| Ok(api.store().find_run(&run)?)).await?;
    let after = from.after.map(u64::from);
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let follows = text(header::ACCEPT.as_str()).is_some_and(|accept| accept.contains("text/event-stream"));
    if follows {
        let last = text("last-event-id").and_then(|id| id.parse().ok()).or(after);
        let stream = follow(api, record.id, last.map_or(0, |last: u64| last.saturating_add(1)));
        return Ok(Sse::new(stream).keep_alive(KeepAlive::default()).into_response());
    }
    let mut entries = page(&api, record.id, after.map_or(0, |after| after + 1)).await?;
    let more = entries.len() > PAGE_MAX;
    entries.truncate(PAGE_MAX);
    let after = entries.last().map(|entry| entry.seq).or(after);
    Ok(Json(Page { entries, after, more }).into_response())
}

async fn page(api: &Api, run: RunId, from: u64) -> Result<Vec<JournalEntry>, Problem> {
    api.blocking(move |api| Ok(api.store().journal(&run, from)?)).await
}

/// Where somebody who follows a run is.
struct Position {
    api: Api,
    run: RunId,
    next: u64,
    ready: VecDeque<JournalEntry>,
    /// Nothing can be read any more.
    broken: bool,
}

impl Position {
    /// The next entry, once it is written; nothing where the run has ended.
    async fn entry(&mut self) -> Result<Option<JournalEntry>, Problem> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Ok(Some(entry));
            }
            // Asked before the journal is read: what was written in between is read then.
            let run = self.run.clone();
            let ended = self.api.blocking(move |api| Ok(api.store().run(&run)?.ended)).await?;
            self.ready = page(&self.api, self.run.clone(), self.next).await?.into();
            match self.ready.back() {
                Some(last) => self.next = last.seq + 1,
                None if ended => return Ok(None),
                None => tokio::time::sleep(PERIOD).await,
            }
        }
    }
}

/// Breaks the connection off where the store cannot be read: a stream that ends says that the run has.
fn follow(api: Api, run: RunId, next: u64) -> impl Stream<Item = io::Result<Event>> {
    let start = Position { api, run, next, ready: VecDeque::new(), broken: false };
    unfold(start, |mut at| async move {
        if at.broken {
            return None;
        }
        let entry = at.entry().await;
        at.broken = entry.is_err();
        let told = entry.map(|entry| entry.map(|entry| event(&entry)));
        told.map_err(|problem| io::Error::other(problem.detail)).transpose().map(|told| (told, at))
    })
}

fn event(entry: &JournalEntry) -> Event {
    let named = Event::default().id(entry.seq.to_string()).event("entry");
    // An entry is written as JSON in the store already, so it can be here.
    named.json_data(entry).unwrap_or_else(|error| Event::default().comment(error.to_string()))
}
