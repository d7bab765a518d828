//! `volutus watch`

use std::sync::Arc;
use std::time::Duration;

use volutus_engine::{Machine, PlanIndex};
use volutus_model::Plan;
use volutus_model::run::{RunState, RunStatus};
use volutus_store::{RunRecord, Store};

use crate::args::RunRef;
use crate::commands::control::locate;
use crate::commands::plan::store_error;
use crate::context::Context;
use crate::error::{CliError, Kind, Result};
use crate::{progress, show};

/// How often the journal is looked at: twice the rate at which a person notices.
const PERIOD: Duration = Duration::from_millis(500);

/// Follows a run that another process carries out, from its first entry on, until it rests.
pub async fn run(context: &Context, args: &RunRef) -> Result<()> {
    let store = context.store()?;
    let record = locate(context, &store, args.run.as_deref())?;
    let held =
        || -> Result<bool> { Ok(store.lease(&record.cloud, Context::now()).map_err(store_error)?.is_some()) };
    let (plan, state) = follow(context, &store, &record, held).await?;
    anstream::print!("{}", show::run::render(&record.id, &plan, &state));
    if matches!(state.status, RunStatus::Running | RunStatus::Aborting) {
        anstream::println!("No process carries it out: `volutus resume` goes on.");
    }
    Ok(())
}

/// Shows what happens in a run from its first entry on, until it has ended or nobody carries it out.
pub async fn follow(
    context: &Context,
    store: &Store,
    record: &RunRecord,
    carried: impl Fn() -> Result<bool>,
) -> Result<(Plan, RunState)> {
    let plan = store.plan(&record.plan).map_err(store_error)?;
    let internal = |error: volutus_engine::Error| {
        CliError::new(Kind::Internal, "journal", format!("the journal of run {} does not fold", record.id))
            .because(&error)
    };
    let index = Arc::new(PlanIndex::new(Arc::new(plan.clone())).map_err(internal)?);
    let mut machine = Machine::new(record.id.clone(), index);
    let mut reporter = progress::reporter(&plan, context.no_progress);
    let (mut seq, mut samples_seen) = (0, 0);
    loop {
        // Asked before the journal is read: what was written in between is read then.
        let carried = carried()?;
        for entry in store.journal(&record.id, seq).map_err(store_error)? {
            seq = entry.seq + 1;
            machine.fold(&entry).map_err(internal)?;
            reporter.entry(&entry, machine.state());
        }
        let (samples, last) = store.samples_after(&record.id, samples_seen).map_err(store_error)?;
        samples_seen = last;
        reporter.samples(&samples);
        reporter.tick(machine.state());
        // What follows a run that has ended (a rollback) is another run, to be watched by its own name.
        if !carried || machine.state().status.is_final() {
            break;
        }
        tokio::time::sleep(PERIOD).await;
    }
    drop(reporter);
    Ok((plan, machine.state().clone()))
}
