//! Commands to a run: the command line's, with the caller as the actor.

use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use volutus_engine::Command;
use volutus_model::way_back::WayBackClosed;
use volutus_runtime::Standing;

use crate::{Api, Caller, Problem, Role};

/// A command that was accepted.
#[derive(Debug, Serialize, ToSchema)]
pub struct Accepted {
    /// The run.
    run: String,
    /// The command.
    command: String,
}

type Reference = Result<Path<String>, PathRejection>;
type Reply = Result<(StatusCode, Json<Accepted>), Problem>;

/// Lets running steps end and starts no new ones.
#[utoipa::path(post, path = "/runs/{run}/pause", tag = "runs",
    params(("run" = String, Path, description = "The run, or any unambiguous beginning of its id")),
    responses(
        (status = 202, body = Accepted),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn pause(State(api): State<Api>, Extension(caller): Extension<Caller>, run: Reference) -> Reply {
    ask(&api, &caller, run, Command::Pause).await
}

/// Goes on with a paused or halted run, or with one whose process died; failed steps are tried again.
#[utoipa::path(post, path = "/runs/{run}/resume", tag = "runs",
    params(("run" = String, Path, description = "The run, or any unambiguous beginning of its id")),
    responses(
        (status = 202, body = Accepted),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn resume(State(api): State<Api>, Extension(caller): Extension<Caller>, run: Reference) -> Reply {
    ask(&api, &caller, run, Command::Resume).await
}

/// Goes on with a halted reboot without the hosts that failed, under a new plan.
#[utoipa::path(post, path = "/runs/{run}/go-on", tag = "runs",
    params(("run" = String, Path, description = "The run, or any unambiguous beginning of its id")),
    responses(
        (status = 202, body = Accepted),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn go_on(State(api): State<Api>, Extension(caller): Extension<Caller>, run: Reference) -> Reply {
    ask(&api, &caller, run, Command::GoOn).await
}

/// Gives a run up: running steps end, and what is drained or disabled is given back.
#[utoipa::path(post, path = "/runs/{run}/abort", tag = "runs",
    params(("run" = String, Path, description = "The run, or any unambiguous beginning of its id")),
    responses(
        (status = 202, body = Accepted),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn abort(State(api): State<Api>, Extension(caller): Extension<Caller>, run: Reference) -> Reply {
    ask(&api, &caller, run, Command::Abort).await
}

/// Takes the run back: the versions from before, with everything that users created since.
#[utoipa::path(post, path = "/runs/{run}/rollback", tag = "runs",
    params(("run" = String, Path, description = "The run, or any unambiguous beginning of its id")),
    responses(
        (status = 202, body = Accepted),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn rollback(State(api): State<Api>, Extension(caller): Extension<Caller>, run: Reference) -> Reply {
    caller.must_be(Role::Operator)?;
    let reference = run.as_ref().map(|Path(run)| run.clone()).unwrap_or_default();
    let closed = api.blocking(move |api| {
        let record = api.store().find_run(&reference)?;
        let standing = Standing::read(api.store(), &record)?;
        Ok(WayBackClosed::of(&standing.plan, &standing.state))
    });
    if let Some(why) = closed.await? {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "way-back-closed",
            format!("there is no way back: {why}"),
        ));
    }
    ask(&api, &caller, run, Command::RollBack).await
}

/// Consent to what takes the way back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Finalize {
    /// The name of the cloud, as consent.
    cloud: String,
}

/// Unpins, migrates data and contracts schemas: takes the way back.
#[utoipa::path(post, path = "/runs/{run}/finalize", tag = "runs",
    params(("run" = String, Path, description = "The run, or any unambiguous beginning of its id")),
    request_body = Finalize,
    responses(
        (status = 202, body = Accepted),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn finalize(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    run: Reference,
    body: Result<Json<Finalize>, JsonRejection>,
) -> Reply {
    let Json(body) = body?;
    if body.cloud != api.cloud().as_str() {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "no-consent",
            "finalize takes the way back, and the name of the cloud was not given as consent",
        ));
    }
    ask(&api, &caller, run, Command::Finalize).await
}

/// Hands a command to the process that carries the run out, or has it taken up with the command.
async fn ask(api: &Api, caller: &Caller, run: Reference, command: Command) -> Reply {
    caller.must_be(Role::Operator)?;
    let Path(run) = run?;
    let (record, lease) = api
        .blocking(move |api| {
            let record = api.store().find_run(&run)?;
            let lease = api.store().lease(&record.cloud, Api::now())?;
            Ok((record, lease))
        })
        .await?;
    match lease {
        None => api.works().take_up(&record.id, command, &caller.actor).await?,
        Some(lease) => {
            let answer =
                volutus_runtime::ask(api.store(), &record.id, command, &caller.actor, Api::now()).await?;
            let refused = |code, detail| Err(Problem::new(StatusCode::CONFLICT, code, detail));
            match answer {
                Some(Ok(())) => {}
                Some(Err(why)) => return refused("not-now", format!("{command} was refused: {why}")),
                None => return refused("no-answer", format!("{} did not answer in time", lease.holder)),
            }
        }
    }
    let accepted = Accepted { run: record.id.to_string(), command: command.to_string() };
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}
