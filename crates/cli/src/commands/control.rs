//! `volutus status`, `pause`, `resume`, `abort`, `finalize`
//!
//! A server that keeps the cloud is given the command. Without one, where another process carries the
//! run out, the command is left for it in the store; else this process takes the run up itself.

use serde::Serialize;
use volutus_engine::Command;
use volutus_model::run::{RunState, RunStatus};
use volutus_model::{Plan, RunId};
use volutus_runtime::{ANSWER_LIMIT, Standing};
use volutus_store::{RunRecord, Store};

use crate::args::{FinalizeArgs, Format, ResumeArgs, RunRef, StatusArgs, TakeUpArgs};
use crate::commands::plan::store_error;
use crate::commands::{consent, print_json, run};
use crate::context::Context;
use crate::error::{CliError, Kind, Result};
use crate::server::Server;
use crate::show;

/// The run that is named, or the latest one of the cloud.
pub fn locate(context: &Context, store: &Store, reference: Option<&str>) -> Result<RunRecord> {
    match reference {
        Some(prefix) => store.find_run(prefix).map_err(store_error),
        None => store.latest_run(&context.inventory.name).map_err(store_error)?.ok_or_else(|| {
            CliError::refused("no-run", format!("there is no run of cloud {} yet", context.inventory.name))
                .hint("`volutus plan --to SERIES`, `volutus approve PLAN`, `volutus run PLAN`")
        }),
    }
}

/// A run with its plan and its state.
pub fn load(store: &Store, record: &RunRecord) -> Result<(Plan, RunState, Vec<String>)> {
    let standing = Standing::read(store, record).map_err(|error| match error {
        volutus_runtime::Error::Store(error) => store_error(error),
        other => {
            let message = format!("the journal of run {} does not fold", record.id);
            CliError::new(Kind::Internal, "journal", message).because(&other)
        }
    })?;
    Ok((standing.plan, standing.state, standing.waiting))
}

/// `volutus status`
pub fn status(context: &Context, args: &StatusArgs) -> Result<()> {
    #[derive(Serialize)]
    struct Status<'a> {
        run: &'a RunId,
        held_by: Option<String>,
        waiting: &'a [String],
        state: &'a RunState,
    }
    let store = context.store()?;
    let record = locate(context, &store, args.run.as_deref())?;
    let (plan, state, waits) = load(&store, &record)?;
    let lease = store.lease(&record.cloud, Context::now()).map_err(store_error)?;
    let held_by = lease.map(|lease| lease.holder.to_string());
    match args.output {
        Format::Json => print_json(&Status { run: &record.id, held_by, waiting: &waits, state: &state }),
        Format::Table => {
            anstream::print!("{}", show::run::render(&record.id, &plan, &state));
            for wait in &waits {
                anstream::println!("  {wait}");
            }
            match held_by {
                Some(holder) => anstream::println!("carried out by {holder}"),
                None if state.status == RunStatus::Running => {
                    anstream::println!("No process carries it out: `volutus resume` goes on.");
                }
                None => {}
            }
            Ok(())
        }
    }
}

/// `volutus pause`
pub async fn pause(context: &Context, args: &RunRef) -> Result<()> {
    ask(context, args.run.as_deref(), Command::Pause).await
}

/// `volutus resume`
pub async fn resume(context: &Context, args: &ResumeArgs) -> Result<()> {
    let command = if args.without_failed { Command::GoOn } else { Command::Resume };
    ask(context, args.run.as_deref(), command).await
}

/// `volutus abort`
pub async fn abort(context: &Context, args: &TakeUpArgs) -> Result<()> {
    ask(context, args.run.as_deref(), Command::Abort).await
}

/// `volutus finalize`
pub async fn finalize(context: &Context, args: &FinalizeArgs) -> Result<()> {
    let store = context.store()?;
    let record = locate(context, &store, args.run.as_deref())?;
    let (plan, state, _) = load(&store, &record)?;
    if state.status == RunStatus::AwaitingFinalize && !args.yes {
        ask_to_finalize(&plan)?;
    }
    ask(context, args.run.as_deref(), Command::Finalize).await
}

/// Shows what will no longer be possible, and asks.
fn ask_to_finalize(plan: &Plan) -> Result<()> {
    anstream::eprintln!("Finalize does, in this order:");
    for stage in plan.stages.iter().filter(|stage| stage.held) {
        anstream::eprintln!("  {}: {}", stage.id, stage.title);
    }
    anstream::eprintln!(
        "From its first stage on `volutus rollback` is refused. Per service, what ends the way back to {}:",
        plan.from
    );
    for horizon in &plan.rollback {
        let until = horizon.until.as_ref().map_or("nothing by itself".to_owned(), ToString::to_string);
        anstream::eprintln!("  {}: {until}. {}", horizon.service, horizon.why);
    }
    let question = format!("Type the cloud's name ({}) to go on", plan.cloud);
    consent::ask(&question, plan.cloud.as_str())
}

pub async fn ask(context: &Context, reference: Option<&str>, command: Command) -> Result<()> {
    let store = context.store()?;
    let record = locate(context, &store, reference)?;
    if let Some(server) = Server::of(context).await? {
        return server.command(context, &store, &record, command).await;
    }
    let holder = store.lease(&record.cloud, Context::now()).map_err(store_error)?;
    let Some(holder) = holder else {
        return run::take_up(context, &store, &record, command).await;
    };
    let actor = Context::actor();
    let answer = volutus_runtime::ask(&store, &record.id, command, &actor, Context::now());
    match answer.await.map_err(|error| run::execution_error(&error))? {
        Some(Ok(())) => {
            anstream::println!("{command}: accepted by {}", holder.holder);
            anstream::eprintln!("`volutus watch` follows the run.");
            Ok(())
        }
        Some(Err(why)) => Err(CliError::refused("not-now", format!("{command} was refused: {why}"))
            .hint("`volutus status` tells what can be done now.")),
        None => Err(CliError::new(
            Kind::Internal,
            "no-answer",
            format!("{} did not answer within {} s", holder.holder, ANSWER_LIMIT.as_secs()),
        )
        .hint("The command stays and is taken up when it does. If that process hangs, end it and `volutus resume`.")),
    }
}
