//! Going on with a reboot in which hosts failed: those are left out, and a new plan does the rest, under
//! the approval and the policy that the first one has.

use volutus_drivers::CloudDriver;
use volutus_model::event::Actor;
use volutus_model::fleet::plan::Content;
use volutus_model::fleet::{Fleet, Past, RebootPlan, Selection};
use volutus_model::outcome::{Failure, Outcome};
use volutus_model::plan::{Action, Plan, Step};
use volutus_model::run::{RunState, RunStatus, StepStatus};
use volutus_model::{HostName, RunId, StepId};
use volutus_store::{AnyPlan, RunRecord, Store};

use crate::commands::control::load;
use crate::commands::plan::store_error;
use crate::commands::{drains, fleet, replan, run};
use crate::context::Context;
use crate::error::{CliError, Kind, Result};
use crate::show;

/// The finding that nova has a record of a host that is not described: here of the hosts that failed,
/// which were described until then.
const UNKNOWN_HOST: &str = "record-of-unknown-host";

/// The reboot plan that a plan carries out, or that is a part of it, where it reboots hosts.
pub fn reboot_of(store: &Store, plan: &Plan) -> Result<Option<RebootPlan>> {
    let Some(of) = plan.reboot_plan() else { return Ok(None) };
    match store.any_plan(of).map_err(store_error)? {
        AnyPlan::Reboot(reboot) => Ok(Some(*reboot)),
        AnyPlan::Upgrade(_) => {
            let message =
                format!("plan {} names as its reboot a plan that is none", show::short(plan.id.as_str()));
            Err(CliError::new(Kind::Internal, "no-reboot-plan", message)
                .hint("The store was altered. Make the plan anew: `volutus plan`."))
        }
    }
}

/// Asks a halted run to go on without what failed, where the policy allows it; whether it did.
pub fn ask_by_policy(store: &Store, run: &RunId) -> Result<bool> {
    let record = store.run(run).map_err(store_error)?;
    let (plan, state, _) = load(store, &record)?;
    let Some(reboot) = reboot_of(store, &plan)? else { return Ok(false) };
    let past = past(&reboot.content, &plan, &state);
    let failed = |step: &Step| matches!(state.step(&step.id), StepStatus::Failed { .. });
    // Hosts of the control plane are a person's to look at.
    let only_hosts = plan.steps().all(|(_, step)| !failed(step) || emptied(&plan, step).is_some());
    let within = past.failed.len() <= reboot.content.policy.hosts.failed_max as usize;
    let any = plan.steps().any(|(_, step)| failed(step));
    let allowed = state.status == RunStatus::Halted && state.breach.is_none() && any && only_hosts && within;
    if allowed {
        let actor = Actor("volutus".to_owned());
        store
            .push_command(run, volutus_engine::Command::GoOn, &actor, Context::now())
            .map_err(store_error)?;
    }
    Ok(allowed)
}

/// Whether a run was given up so that a new plan goes on, and none has.
pub fn is_due(store: &Store, record: &RunRecord, state: &RunState) -> Result<bool> {
    let latest = store.latest_run(&record.cloud).map_err(store_error)?;
    let is_latest = latest.is_some_and(|latest| latest.id == record.id);
    Ok(is_latest && state.status == RunStatus::Aborted && state.replan_due.is_some())
}

/// Makes the plan that goes on from a run, and its run; none where no host is left to do.
pub async fn follow(
    context: &Context,
    store: &Store,
    driver: &CloudDriver,
    run: &RunId,
) -> Result<Option<(RunId, Plan)>> {
    let record = store.run(run).map_err(store_error)?;
    let (plan, state, _) = load(store, &record)?;
    if !is_due(store, &record, &state)? {
        return Ok(None);
    }
    let Some(reboot) = reboot_of(store, &plan)? else { return Ok(None) };
    let approved = if plan.drains.is_some() { &plan.id } else { &reboot.id };
    let approval = store.approval(approved).map_err(store_error)?.ok_or_else(|| {
        CliError::new(Kind::Internal, "not-approved", format!("the plan of run {run} has no approval"))
    })?;
    let Some((next, seen)) = rest(context, driver, &reboot.content, &plan, &state).await? else {
        return Ok(None);
    };
    replan::adopt(store, &next, &approval)?;
    // What failed cannot be asked what it runs, and is none of what is to be done.
    let context = context.without(&next.content.selection.past.failed);
    let mut approval = approval;
    approval.consents.push(UNKNOWN_HOST.to_owned());
    // What is observed is of the description that the plan is made for.
    let driver = context.driver()?;
    // It is judged by the fleet that it was made of: instances come while one looks again.
    let entered = match &plan.drains {
        // The releases were held against a lock when they were staged, on every host.
        Some(_) => match context.observe(&driver).await {
            Ok(now) => replan::enter_upgrade(&context, store, &plan, (next, seen), (&now, None), &approval),
            Err(error) => Err(error),
        },
        None => run::enter_reboot(&context, store, &driver, &next, &approval, seen).await,
    };
    driver.close().await;
    entered.map(Some)
}

/// The reboot plan of what is left to do, and the fleet that it was made of.
async fn rest(
    context: &Context,
    driver: &CloudDriver,
    content: &Content,
    plan: &Plan,
    state: &RunState,
) -> Result<Option<(RebootPlan, Fleet)>> {
    let selection = Selection { past: past(content, plan, state), ..content.selection.clone() };
    let control: Vec<HostName> =
        content.control.iter().filter(|host| is_untouched(host, plan, state)).cloned().collect();
    let seen = match plan.drains {
        Some(_) => drains::look(context, driver, &context.observe(driver).await?).await?,
        None => fleet::observe_with(context, driver).await?,
    };
    let mut now = seen.clone();
    fleet::answers(context, &context.store()?)?.apply(&mut now);
    Ok(replan::again(content, &now, selection, control)?.map(|made| (made, seen)))
}

/// Whether nothing was done with a host of the control plane.
fn is_untouched(host: &HostName, plan: &Plan, state: &RunState) -> bool {
    let own = |step: &&Step| step.actions.iter().any(|action| action.host() == Some(host));
    let mut steps = plan.steps().map(|(_, step)| step).filter(own);
    steps.all(|step| state.step(&step.id) == StepStatus::Pending)
}

/// What became of the hosts of a run and of those before it.
fn past(content: &Content, plan: &Plan, state: &RunState) -> Past {
    let mut past = content.selection.past.clone();
    for (_, step) in plan.steps() {
        let Some(host) = emptied(plan, step) else { continue };
        match state.step(&step.id) {
            StepStatus::Completed => {
                past.done.insert(host.clone());
            }
            StepStatus::Failed { .. } => {
                let failure = failure_of(state, &step.id);
                if content.policy.drain.newcomers.is_move()
                    && failure.is_some_and(|failure| !failure.newcomers.is_empty())
                    && past.stopped_by_newcomers(host)
                {
                    continue;
                }
                let mut all = past.refused.clone();
                all.extend(failure.map(|failure| &failure.refused_by).into_iter().flatten().cloned());
                if all.len() > past.refused.len() && all.len() <= content.policy.drain.refusals_max as usize {
                    past.refused = all;
                } else {
                    past.failed.insert(host.clone());
                }
            }
            StepStatus::Pending | StepStatus::Running { .. } => {}
        }
    }
    past
}

/// The host that a step empties. An upgrade disables others as well, to replace their daemons in place.
fn emptied<'s>(plan: &Plan, step: &'s Step) -> Option<&'s HostName> {
    if plan.drains.is_some() {
        return step.empties();
    }
    step.actions.iter().find_map(|action| match action {
        Action::DisableCompute { host, .. } => Some(host),
        _ => None,
    })
}

/// The last failure of a step.
pub fn failure_of<'a>(state: &'a RunState, step: &StepId) -> Option<&'a Failure> {
    let own = state.attempts.values().filter(|attempt| attempt.step == *step);
    let failures = own.filter_map(|attempt| match &attempt.outcome {
        Some(Outcome::Failed(failure)) => Some((attempt.finished_at, failure)),
        _ => None,
    });
    failures.max_by_key(|(at, _)| *at).map(|(_, failure)| failure)
}

/// A run that has ended well, but not for every host, has not ended well.
pub fn tell_failed(store: &Store, plan: &Plan, state: &RunState) -> Result<()> {
    let Some(reboot) = reboot_of(store, plan)? else { return Ok(()) };
    let failed = past(&reboot.content, plan, state).failed;
    if failed.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = failed.iter().map(|host| host.as_str()).collect();
    let count = names.len();
    let failed = CliError::new(
        Kind::Stopped,
        "hosts-failed",
        format!("{count} hosts failed, the others are done: {}", show::some(&names)),
    );
    if plan.drains.is_some() {
        return Err(failed.hint(format!(
            "They may run the old release still, so that finalize is refused. `volutus hosts` tells which of them stay \
             out of service and why. Mend them, give the run up with `volutus abort`, `volutus undrain HOST`, and plan \
             the rest, which finalizes: volutus plan --to {} --reboot --hosts HOST",
            plan.to
        )));
    }
    Err(failed.hint(
        "`volutus hosts` tells which of them stay out of service and why. Mend them, then `volutus undrain HOST`, \
         or plan anew: volutus plan --reboot --hosts HOST",
    ))
}
