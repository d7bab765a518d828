//! `volutus rollback`, and the way back that a policy wants.

use std::sync::Arc;

use volutus_drivers::CloudDriver;
use volutus_engine::Command;
use volutus_model::run::{RunState, RunStatus};
use volutus_model::{Observation, Plan, Policy, RunId, Severity, WayBackClosed};
use volutus_planner::{PlanReport, RollbackInput, estimate, plan_rollback};
use volutus_runtime::{PlanFuture, PlanWayBack};
use volutus_store::{RunRecord, Store};

use crate::args::RollbackArgs;
use crate::commands::control::{ask, load, locate};
use crate::commands::plan::{plan_error_code, store_error};
use crate::commands::run::{self, After};
use crate::commands::{consent, snapshot};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::show;

/// Plans the way back, shows it, asks, and carries it out.
pub async fn run(context: &Context, args: &RollbackArgs) -> Result<()> {
    let store = context.store()?;
    let record = locate(context, &store, args.run.as_deref())?;
    let (of, state, _) = load(&store, &record)?;
    let latest = store.latest_run(&record.cloud).map_err(store_error)?;
    if let Some(latest) = latest.filter(|latest| latest.id != record.id && !latest.ended) {
        return Err(CliError::refused(
            "run-unfinished",
            format!("run {} came after it and has not ended", show::short(latest.id.as_str())),
        )
        .hint("`volutus status` tells where that run stands; a rollback goes on with `volutus resume`."));
    }
    if let Some(why) = WayBackClosed::of(&of, &state) {
        if why == WayBackClosed::Finalized
            && state.status.is_final()
            && snapshot::offer_after_finalize(context, &store, &record, &of, args.confirm.as_deref()).await?
        {
            return Ok(());
        }
        return Err(closed(&record, &of, &why));
    }
    let driver = context.driver()?;
    let observation = context.observe(&driver).await;
    driver.close().await;
    let (plan, _) = make(context, &record.id, &of, &state, observation?)?;
    anstream::print!("{}", show::plan::render(&plan, &estimate(&plan)));
    if !state.status.is_final() {
        anstream::eprintln!(
            "\nRun {} is {}: it is given up first, and what it holds is given back. The plan above is then \
             made anew from what the cloud is by then.",
            show::short(record.id.as_str()),
            state.status
        );
    }
    if !args.yes {
        let question = format!(
            "\nNothing that users created is lost. Type the cloud's name ({}) to go back to {}",
            plan.cloud, plan.to
        );
        consent::ask(&question, plan.cloud.as_str())?;
    }
    if state.status.is_final() {
        return run::execute(context, &store, &record.id, &of, After::RollBack, &Context::actor()).await;
    }
    ask(context, Some(record.id.as_str()), Command::RollBack).await
}

fn closed(record: &RunRecord, of: &Plan, why: &WayBackClosed) -> CliError {
    let hint = match why {
        WayBackClosed::IsRollback { newer } => {
            format!("`volutus resume` goes on with it; `volutus plan --to {newer}` plans the upgrade again.")
        }
        WayBackClosed::IsPatch => {
            "`volutus resume` goes on with it, `volutus abort` gives it up where it stands, and `volutus patch` \
             plans what is left. docs/operating/advisories.md tells how a daemon is put back by hand."
                .to_owned()
        }
        WayBackClosed::IsMitigation => {
            "`volutus resume` goes on with it, `volutus abort` gives it up where it stands, and `volutus patch ID \
             --mitigate --undo` plans to take back what was done."
                .to_owned()
        }
        WayBackClosed::Finalized | WayBackClosed::Widened { .. } => format!(
            "Going on forward loses nothing: `volutus resume`, or a new plan to {}. `volutus snapshot list` shows \
             the copies that can be restored once the run has ended; see docs/operating/snapshots.md.",
            of.to
        ),
    };
    let run = show::short(record.id.as_str());
    CliError::refused("way-back-closed", format!("run {run} cannot be rolled back without loss: {why}"))
        .hint(hint)
}

/// Makes the plan of a way back from what was observed.
fn make(
    context: &Context,
    run: &RunId,
    of: &Plan,
    state: &RunState,
    observation: Observation,
) -> Result<(Plan, PlanReport)> {
    let input = RollbackInput {
        inventory: (*context.inventory).clone(),
        observation,
        of: of.clone(),
        run: run.clone(),
        state: state.clone(),
        policy: policy(context, of),
        now: Context::now(),
    };
    plan_rollback(&input, &context.catalog).map_err(|error| {
        let message = format!("could not plan the way back of run {}", show::short(run.as_str()));
        CliError::refused(plan_error_code(&error), message).because(&error).hint(
            "Nothing was changed. Mend what the reason says (`volutus observe` shows what is seen), then \
             `volutus rollback` again.",
        )
    })
}

/// The limits that were approved with the run hold on its way back, unless others are given now.
fn policy(context: &Context, of: &Plan) -> Policy {
    if context.policy == Policy::of_no_file() { of.policy.clone() } else { context.policy.clone() }
}

/// Looks at the cloud, plans the way back, and has the plan checked.
pub struct WayBack<'a> {
    /// The cloud and its catalog.
    pub context: &'a Context,
    /// What looks at it.
    pub driver: Arc<CloudDriver>,
}

impl PlanWayBack for WayBack<'_> {
    fn plan_back<'a>(&'a self, run: &'a RunId, of: &'a Plan, state: &'a RunState) -> PlanFuture<'a> {
        Box::pin(async move {
            anstream::eprintln!("looking at the cloud to plan the way back of run {run}");
            let observation = self.driver.observe().await;
            let input = RollbackInput {
                inventory: (*self.context.inventory).clone(),
                observation: observation.clone(),
                of: of.clone(),
                run: run.clone(),
                state: state.clone(),
                policy: policy(self.context, of),
                now: Context::now(),
            };
            let plan = match plan_rollback(&input, &self.context.catalog) {
                Ok((plan, _)) => plan,
                Err(volutus_planner::Error::NothingToTakeBack { .. }) => return Ok(None),
                Err(error) => return Err(error.to_string()),
            };
            let findings = volutus_plancheck::check_plan(
                &plan,
                &self.context.inventory,
                &observation,
                &self.context.catalog,
                &plan.policy,
            );
            let blocking: Vec<String> = findings
                .iter()
                .filter(|finding| finding.severity == Severity::Blocking)
                .map(|finding| format!("{} ({}): {}", finding.code, finding.subject, finding.explanation))
                .collect();
            if blocking.is_empty() { Ok(Some(plan)) } else { Err(blocking.join("; ")) }
        })
    }
}

/// Whether a rollback of the run is still to be made or carried out, by its journal and the
/// journals of the runs behind it.
pub fn is_due(store: &Store, record: &RunRecord, state: &RunState) -> Result<bool> {
    if state.status != RunStatus::Aborted || state.rollback_due.is_none() {
        return Ok(false);
    }
    for later in store.runs().map_err(store_error)?.iter().take_while(|later| later.id != record.id) {
        let plan = store.plan(&later.plan).map_err(store_error)?;
        if plan.kind.taken_back() == Some(&record.id) {
            let (_, state, _) = load(store, later)?;
            return Ok(state.status != RunStatus::Succeeded);
        }
    }
    Ok(true)
}
