//! `volutus run`, and taking a run up again.

use std::sync::Arc;

use tokio::sync::mpsc;
use volutus_engine::Command;
use volutus_model::Event;
use volutus_model::event::Actor;
use volutus_model::fleet::{Fleet, RebootPlan};
use volutus_model::plan::PlanKind;
use volutus_model::probe::Sample;
use volutus_model::run::{RunState, RunStatus};
use volutus_model::verdict::Verdict;
use volutus_model::{Finding, Observation, Plan, RunId, Severity, StepId};
use volutus_openstack::CloudConfig;
use volutus_prober::{Prober, ProberConfig, ProberHandle};
use volutus_runtime::{Probe, Probes, Runtime, interrupts, new_run_id};
use volutus_store::{AnyPlan, Approval, Holder, RunRecord, Store};

use crate::args::RunArgs;
use crate::commands::check::judge;
use crate::commands::contract;
use crate::commands::control::load;
use crate::commands::drains;
use crate::commands::fleet;
use crate::commands::go_on;
use crate::commands::notice::{Notices, Telling};
use crate::commands::plan::store_error;
use crate::commands::rollback::{WayBack, is_due};
use crate::commands::verdict;
use crate::commands::{patch, replan, schedule};
use crate::context::Context;
use crate::error::{CliError, Kind, Result};
use crate::server::Server;
use crate::{progress, show};

/// Carries out an approved plan, or has the server do so that keeps the cloud.
pub async fn run(context: &Context, args: &RunArgs) -> Result<()> {
    if let Some(server) = Server::of(context).await? {
        return server.run(context, &args.plan).await;
    }
    let store = context.store()?;
    let (run, plan) = begin(context, &store, &args.plan).await?;
    execute(context, &store, &run, &plan, After::AsRecorded, &Context::actor()).await
}

/// Creates a run of an approved plan, where nothing stands in its way. Nothing is carried out yet.
pub async fn begin(context: &Context, store: &Store, reference: &str) -> Result<(RunId, Plan)> {
    let plan = store.find_any_plan(reference).map_err(store_error)?;
    refuse_while_held(context, store)?;
    let short = show::short(plan.id().as_str());
    let approval = store.approval(plan.id()).map_err(store_error)?.ok_or_else(|| {
        CliError::refused("not-approved", format!("plan {short} is not approved"))
            .hint(format!("Read it, then: volutus approve {short}"))
    })?;
    match plan {
        AnyPlan::Upgrade(plan) => begin_upgrade(context, store, *plan, &approval).await,
        AnyPlan::Reboot(plan) => begin_reboot(context, store, &plan, &approval).await,
    }
}

/// Whoever works on the cloud already is named before anything else is looked at.
pub fn refuse_while_held(context: &Context, store: &Store) -> Result<()> {
    let cloud = &context.inventory.name;
    match store.lease(cloud, Context::now()).map_err(store_error)? {
        None => Ok(()),
        Some(lease) => Err(CliError::refused(
            "lease-held",
            format!("cloud {cloud} is being worked on by {}, which holds its lease", lease.holder),
        )
        .hint("`volutus watch` follows that run; `volutus pause` or `volutus abort` reach it.")),
    }
}

/// Creates a run of an approved reboot of hosts, where nothing stands in its way.
pub async fn begin_reboot(
    context: &Context,
    store: &Store,
    reboot: &RebootPlan,
    approval: &Approval,
) -> Result<(RunId, Plan)> {
    if let Some(to) = reboot.content.upgrade {
        return Err(CliError::refused(
            "part-of-upgrade",
            format!("plan {} is a part of an upgrade to {to}", show::short(reboot.id.as_str())),
        )
        .hint("Run the plan of that upgrade: `volutus plan list` names it."));
    }
    if reboot.content.cloud != context.inventory.name {
        return Err(CliError::refused(
            "description-changed",
            format!("plan {} is of cloud {}", show::short(reboot.id.as_str()), reboot.content.cloud),
        )
        .hint("Make a new plan: volutus plan --reboot"));
    }
    let driver = context.driver()?;
    let entered = async {
        let seen = fleet::observe_with(context, &driver).await?;
        let Some(anew) = replan::at_start(context, store, reboot, approval, &seen)? else {
            return enter_reboot(context, store, &driver, reboot, approval, seen).await;
        };
        let entered = enter_reboot(context, store, &driver, &anew.plan, approval, seen).await?;
        anstream::eprintln!("{}", anew.words(&reboot.id, &anew.plan.id));
        Ok(entered)
    };
    let entered = entered.await;
    driver.close().await;
    entered
}

/// Makes the steps of an approved reboot as the cloud is now, and their run. The plan is judged by the fleet as it
/// was seen.
pub async fn enter_reboot(
    context: &Context,
    store: &Store,
    driver: &volutus_drivers::CloudDriver,
    reboot: &RebootPlan,
    approval: &Approval,
    seen: Fleet,
) -> Result<(RunId, Plan)> {
    let (plan, observation) = fleet::prepare(context, driver, reboot, approval, seen).await?;
    refuse_findings(&judge(context, &observation, &plan), &approval.consents)?;
    store.put_plan(&plan).map_err(store_error)?;
    // The steps follow from the plan that was approved, and from nothing that anybody chose since.
    store.approve(&plan.id, &approval.actor, Context::now(), &approval.consents).map_err(store_error)?;
    create(context, store, plan, &observation)
}

async fn begin_upgrade(
    context: &Context,
    store: &Store,
    plan: Plan,
    approval: &Approval,
) -> Result<(RunId, Plan)> {
    if plan.cloud != context.inventory.name || plan.inventory != context.inventory.digest() {
        return Err(CliError::refused(
            "description-changed",
            format!(
                "{} has changed since plan {} was made for it",
                context.cloud_file.display(),
                show::short(plan.id.as_str())
            ),
        )
        .hint(format!("Make a new plan: {}", planning(&plan))));
    }
    if (plan.kind.is_patch() || plan.kind.is_mitigation()) && !context.policy.patch.outside_windows {
        schedule::refuse_outside_windows(context)?;
    }
    if let Some(earlier) = plan.kind.taken_back() {
        return Err(CliError::refused(
            "is-rollback",
            "the plan is a rollback, which is made anew when it is run",
        )
        .hint(format!("volutus rollback {}", show::short(earlier.as_str()))));
    }
    if let PlanKind::Reboot { of, .. } = &plan.kind {
        return Err(CliError::refused(
            "is-reboot-steps",
            "the plan holds the steps of a reboot, which are made anew when it is run",
        )
        .hint(format!("volutus run {}", show::short(of.as_str()))));
    }
    contract::refuse_unreadable(&plan.policy)?;
    let driver = context.driver()?;
    let seen = async {
        let observation = context.observe(&driver).await?;
        let fleet = drains::look_for(context, &driver, &plan, &observation).await?;
        Ok::<_, CliError>((observation, fleet))
    };
    let seen = seen.await;
    driver.close().await;
    let (observation, fleet) = seen?;
    if Plan::basis_of(&observation) != plan.basis {
        return Err(CliError::refused(
            "cloud-changed",
            format!(
                "what runs in cloud {} has changed since plan {} was made",
                plan.cloud,
                show::short(plan.id.as_str())
            ),
        )
        .hint(format!("`volutus observe` shows it; make a new plan: {}", planning(&plan))));
    }
    let own = judge(context, &observation, &plan);
    if let (Some(reboot), Some(seen)) = (drains::find(store, &plan)?, &fleet) {
        let drains = volutus_plancheck::check_joined(&plan, &reboot);
        refuse_findings(&[&own[..], &drains].concat(), &approval.consents)?;
        if let Some(anew) = replan::at_start(context, store, &reboot, approval, seen)? {
            let (next, now) = ((anew.plan.clone(), seen.clone()), (&observation, replan::lock_of(&plan)));
            let (run, made) = replan::enter_upgrade(context, store, &plan, next, now, approval)?;
            anstream::eprintln!("{}", anew.words(&plan.id, &made.id));
            return Ok((run, made));
        }
    }
    let findings = [own, drains::judge(context, store, &plan, fleet)?].concat();
    refuse_findings(&findings, &approval.consents)?;
    create(context, store, plan, &observation)
}

/// The command by which a plan is made.
fn planning(plan: &Plan) -> String {
    match &plan.kind {
        PlanKind::Patch { vulnerability, .. } => format!("volutus patch {vulnerability}"),
        PlanKind::Mitigation { vulnerability, mitigation, undo, .. } => {
            let undo = if *undo { " --undo" } else { "" };
            format!("volutus patch {vulnerability} --mitigate={}{undo}", mitigation.name)
        }
        _ if plan.drains.is_some() => format!("volutus plan --to {} --reboot", plan.to),
        _ => format!("volutus plan --to {}", plan.to),
    }
}

/// Creates a run of a plan that is approved and that nothing stands in the way of.
pub fn create(
    context: &Context,
    store: &Store,
    plan: Plan,
    observation: &Observation,
) -> Result<(RunId, Plan)> {
    // Who is to be told is known before anything is done; later it holds nothing up.
    Notices::load(context, store)?;
    let run = new_run_id(Context::now())
        .map_err(|error| CliError::new(Kind::Internal, "run-id", "no id for the run").because(&error))?;
    store.create_run(&run, &plan.id, &plan.cloud, Context::now()).map_err(store_error)?;
    // What the verdict compares the end with.
    store.put_observation(&plan.cloud, observation).map_err(store_error)?;
    anstream::eprintln!("run {run} of plan {}", show::short(plan.id.as_str()));
    Ok((run, plan))
}

/// Takes a run up whose process is gone, with what the operator wants of it.
pub async fn take_up(context: &Context, store: &Store, record: &RunRecord, command: Command) -> Result<()> {
    let actor = Context::actor();
    let plan = make_ready(store, record, command, &actor)?;
    execute(context, store, &record.id, &plan, After::AsRecorded, &actor).await
}

/// Leaves a command for whoever takes the run up next, where it fits where the run stands.
pub fn make_ready(store: &Store, record: &RunRecord, command: Command, actor: &Actor) -> Result<Plan> {
    let (plan, state, _) = load(store, record)?;
    let follows = is_due(store, record, &state)? || go_on::is_due(store, record, &state)?;
    if command == Command::Resume && follows {
        return Ok(plan);
    }
    if state.status.is_final() {
        return Err(CliError::refused(
            "run-ended",
            format!("run {} has {}; there is nothing to {command}", record.id, state.status),
        ));
    }
    // A run that is merely without a process goes on by being taken up; so does the watch over a
    // rolled cloud that the policy is to finalize.
    let watched = state.status == RunStatus::AwaitingFinalize && plan.finalize_after_s().is_some();
    let goes_on = state.status == RunStatus::Running || watched;
    if !(command == Command::Resume && goes_on) {
        store.push_command(&record.id, command, actor, Context::now()).map_err(store_error)?;
    }
    Ok(plan)
}

/// The findings that block, or are serious and were not consented to.
pub fn stopping(findings: &[Finding], consents: &[String]) -> Vec<Finding> {
    let stops = |finding: &&Finding| match finding.severity {
        Severity::Blocking => true,
        Severity::Serious => !consents.contains(&finding.code),
        Severity::Warning | Severity::Info => false,
    };
    findings.iter().filter(stops).cloned().collect()
}

/// Stops where a finding blocks, or is serious and was not consented to.
pub fn refuse_findings(findings: &[Finding], consents: &[String]) -> Result<()> {
    let stopping = stopping(findings, consents);
    if stopping.is_empty() {
        return Ok(());
    }
    anstream::eprint!("{}", show::findings::render(&stopping));
    Err(CliError::new(Kind::Blocked, "blocked", format!("{} findings stand in the way; nothing was changed", stopping.len()))
        .hint("Each finding says what mends it. Serious ones can be consented to: volutus approve PLAN --accept CODE"))
}

/// The prober's control, as the runtime wants it: it may not wait.
struct Steps(mpsc::UnboundedSender<Vec<StepId>>);

impl Probe for Steps {
    fn set_steps(&self, steps: Vec<StepId>) {
        // Nobody listens any more only when the prober has been stopped.
        let _gone = self.0.send(steps);
    }
}

/// In the place of a prober that is being stopped.
struct Idle;

impl Probe for Idle {
    fn set_steps(&self, _steps: Vec<StepId>) {}
}

/// Hands steps on to the prober until they end, and then stops it.
async fn control(handle: ProberHandle, mut steps: mpsc::UnboundedReceiver<Vec<StepId>>) {
    while let Some(now) = steps.recv().await {
        handle.set_steps(now).await;
    }
    report_stop(handle).await;
}

/// Stops the prober, and says what it could not clean up.
pub async fn report_stop(handle: ProberHandle) {
    let report = handle.stop().await;
    for left in &report.left {
        tracing::warn!("the synthetic user could not remove {left}");
    }
    if report.abandoned > 0 {
        tracing::warn!("{} requests of the synthetic user were never answered", report.abandoned);
    }
}

/// Starts the synthetic user of a run.
pub async fn start_prober(context: &Context, run: &RunId) -> Result<(ProberHandle, mpsc::Receiver<Sample>)> {
    let clouds = context.inventory.credentials.clouds_yaml.as_ref().map(|path| context.base().join(path));
    let load = |entry: &str| {
        CloudConfig::load(clouds.as_deref(), entry).map_err(|error| {
            CliError::new(Kind::Cloud, "credentials", format!("could not use entry `{entry}` of clouds.yaml"))
                .because(&error)
        })
    };
    let mut config = ProberConfig::new(
        load(&context.inventory.credentials.operator)?,
        load(&context.inventory.credentials.prober)?,
        context.inventory.prober.clone(),
        run.clone(),
    );
    config.reach.clone_from(&context.inventory.reach);
    if let Some(rate) = context.inventory.prober.requests_per_s {
        config.rate_per_s = rate.into();
    }
    Prober::start(config).await.map_err(|error| {
        CliError::new(Kind::Cloud, "prober", "the synthetic user could not start work").because(&error).hint(
            "[prober] of the cloud description names what it uses; docs/operating/upgrade.md tells how to \
             make it. Without it nothing can be said about what users notice, so nothing was begun.",
        )
    })
}

/// What is to follow once a run is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// What its journal says: a rollback where one is due.
    AsRecorded,
    /// A rollback, because the operator wants one.
    RollBack,
}

/// Carries a run out and, where it is given up to be taken back, the run that does so, under the
/// same synthetic user: nobody stops watching in between.
pub async fn execute(
    context: &Context,
    store: &Store,
    run: &RunId,
    plan: &Plan,
    after: After,
    actor: &Actor,
) -> Result<()> {
    let internal = |what: &'static str| {
        move |error: &dyn std::error::Error| CliError::new(Kind::Internal, "run", what).because(error)
    };
    let holder = Holder::this_process().map_err(store_error)?;
    let driver = Arc::new(context.driver()?);
    let runtime = Runtime::new(store.clone(), driver.clone(), holder, actor.clone());
    let mut signals = interrupts().map_err(|e| internal("signals cannot be received")(&e))?;
    let (handle, samples) = start_prober(context, run).await?;
    let (steps, steps_received) = mpsc::unbounded_channel();
    let controlled = tokio::spawn(control(handle, steps_received));
    let mut probes = Probes { probe: Arc::new(Steps(steps)), samples };
    let way_back = WayBack { context, driver: driver.clone() };
    let telling = Telling::begin(context, store);
    telling.tell_start(store, run, plan, &load(store, &store.run(run).map_err(store_error)?)?.1);
    let (mut current, mut plan, mut after) = (run.clone(), plan.clone(), after);
    let result = loop {
        let mut reporter = progress::reporter(&plan, context.no_progress);
        let result = runtime.execute(&current, Some(&mut probes), &mut signals, reporter.as_mut()).await;
        drop(reporter);
        let next = match &result {
            Ok(RunStatus::Aborted) => match follow(store, &runtime, &current, &way_back, after).await {
                Ok(None) => go_on::follow(context, store, &driver, &current).await,
                next => next,
            },
            Ok(RunStatus::Halted) => match go_on::ask_by_policy(store, &current) {
                // The same run, which gives itself up first.
                Ok(true) => continue,
                Ok(false) => Ok(None),
                Err(error) => Err(error),
            },
            _ => Ok(None),
        };
        match next {
            Ok(Some((run, made))) => {
                let what = if made.kind.is_rollback() { "takes back" } else { "goes on from" };
                anstream::eprintln!("run {run} {what} run {current}");
                (current, plan, after) = (run, made, After::AsRecorded);
            }
            Ok(None) => break result.map_err(|error| execution_error(&error)),
            Err(error) => break Err(error),
        }
    };
    // Dropping the sender of steps is what stops the prober.
    probes.probe = Arc::new(Idle);
    let mut reporter = progress::reporter(&plan, context.no_progress);
    let kept = runtime.keep_last_samples(&current, &mut probes, reporter.as_mut()).await;
    drop(reporter);
    if let Err(error) = controlled.await {
        tracing::warn!(%error, "the synthetic user did not end in good order");
    }
    let status = result?;
    kept.map_err(|e| internal("the last probe samples could not be kept")(&e))?;
    let concluded = conclude(context, store, &current, &driver, status).await;
    driver.close().await;
    let (_, state, _) = load(store, &store.run(&current).map_err(store_error)?)?;
    telling.tell_end(store, &current, &plan, &state);
    telling.finish().await;
    concluded
}

/// The run that takes a given-up run back, where one has to follow.
async fn follow(
    store: &Store,
    runtime: &Runtime,
    run: &RunId,
    way_back: &WayBack<'_>,
    after: After,
) -> Result<Option<(RunId, Plan)>> {
    let record = store.run(run).map_err(store_error)?;
    let (_, state, _) = load(store, &record)?;
    if after == After::AsRecorded && !is_due(store, &record, &state)? {
        return Ok(None);
    }
    let Some(back) =
        runtime.prepare_rollback(run, way_back).await.map_err(|error| execution_error(&error))?
    else {
        anstream::eprintln!("nothing had been replaced in run {run}: there is nothing to put back");
        return Ok(None);
    };
    let record = store.run(&back).map_err(store_error)?;
    Ok(Some((back, store.plan(&record.plan).map_err(store_error)?)))
}

/// A runtime's error as the operator sees it.
pub fn execution_error(error: &volutus_runtime::Error) -> CliError {
    let (kind, code) = match error {
        volutus_runtime::Error::Store(volutus_store::Error::LeaseHeld { .. }) => {
            (Kind::Refused, "lease-held")
        }
        volutus_runtime::Error::Store(volutus_store::Error::ChainBroken { .. }) => {
            (Kind::Internal, "journal-broken")
        }
        volutus_runtime::Error::NoWayBack { .. } => (Kind::Stopped, "no-way-back"),
        volutus_runtime::Error::LeaseLost { .. } => (Kind::Stopped, "lease-lost"),
        volutus_runtime::Error::Interrupted { .. } => (Kind::Stopped, "interrupted"),
        _ => (Kind::Internal, "run-broke-off"),
    };
    CliError::new(kind, code, error.to_string())
        .because(error)
        .hint("`volutus status` tells where the run stands; `volutus resume` goes on.")
}

/// The run that a rollback took back, and why, where it was the policy that wanted it.
fn wanted_by_policy(store: &Store, plan: &Plan) -> Result<Option<(RunId, String)>> {
    let Some(earlier) = plan.kind.taken_back() else {
        return Ok(None);
    };
    let entries = store.journal(earlier, 0).map_err(store_error)?;
    Ok(entries.into_iter().rev().find_map(|entry| match entry.event {
        Event::RollbackDue { cause } if entry.actor.0 == "volutus" => Some((earlier.clone(), cause)),
        _ => None,
    }))
}

/// Makes the verdict once everything is on the target, and shows where the run stands.
async fn conclude(
    context: &Context,
    store: &Store,
    run: &RunId,
    driver: &volutus_drivers::CloudDriver,
    status: RunStatus,
) -> Result<()> {
    let record = store.run(run).map_err(store_error)?;
    let (plan, state, _) = load(store, &record)?;
    let verdict = match status {
        RunStatus::AwaitingFinalize | RunStatus::Succeeded => {
            let observation = context.observe(driver).await?;
            Some(verdict::make(context, store, run, &plan, &state, &observation)?)
        }
        _ => None,
    };
    tell_end(store, run, &plan, &state, verdict.as_ref())
}

/// Shows where a run stands that nobody carries out any more and, once everything is on the target, what
/// users noticed.
pub fn tell_end(
    store: &Store,
    run: &RunId,
    plan: &Plan,
    state: &RunState,
    verdict: Option<&Verdict>,
) -> Result<()> {
    let stopped = |code, what: &str| {
        Err(CliError::new(Kind::Stopped, code, format!("run {} {what}", show::short(run.as_str()))))
    };
    anstream::print!("{}", show::run::render(run, plan, state));
    match state.status {
        RunStatus::AwaitingFinalize | RunStatus::Succeeded => {
            if let Some(verdict) = verdict {
                anstream::println!();
                anstream::print!("{}", show::verdict::render(verdict));
            }
            match wanted_by_policy(store, plan)? {
                Some((earlier, cause)) => Err(CliError::new(
                    Kind::RolledBack,
                    "rolled-back",
                    format!(
                        "run {} did not go well and was rolled back: {cause}",
                        show::short(earlier.as_str())
                    ),
                )
                .hint("The cloud runs what it ran before. `volutus status RUN` shows the evidence.")),
                None => {
                    if let Some(verdict) = verdict {
                        patch::conclude(run, verdict)?;
                    }
                    go_on::tell_failed(store, plan, state)
                }
            }
        }
        RunStatus::Aborted if state.left.is_empty() && state.replan_due.is_some() => {
            go_on::tell_failed(store, plan, state)
        }
        RunStatus::Aborted if state.left.is_empty() => Ok(()),
        RunStatus::Aborted => stopped("left-behind", "could not give everything back"),
        RunStatus::Halted => stopped("halted", "halted"),
        RunStatus::Paused => stopped("paused", "is paused"),
        RunStatus::Running | RunStatus::Aborting => stopped("broken-off", "was left in the middle"),
    }
}
