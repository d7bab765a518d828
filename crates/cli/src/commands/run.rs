//! `volutus run`, and taking a run up again.

use std::sync::Arc;

use tokio::sync::mpsc;
use volutus_engine::Command;
use volutus_model::probe::Sample;
use volutus_model::run::RunStatus;
use volutus_model::{Finding, Plan, RunId, Severity, StepId};
use volutus_openstack::CloudConfig;
use volutus_prober::{Prober, ProberConfig, ProberHandle};
use volutus_runtime::{Probe, Probes, Runtime, interrupts, new_run_id};
use volutus_store::{Holder, RunRecord, Store};

use crate::args::RunArgs;
use crate::commands::check::judge;
use crate::commands::control::load;
use crate::commands::plan::{find, store_error};
use crate::commands::verdict;
use crate::context::Context;
use crate::error::{CliError, Kind, Result};
use crate::{progress, show};

/// Carries out an approved plan.
pub async fn run(context: &Context, args: &RunArgs) -> Result<()> {
    let store = context.store()?;
    let plan = find(&store, &args.plan)?;
    // Whoever works on the cloud already is named before anything else is looked at.
    if let Some(lease) = store.lease(&plan.cloud, Context::now()).map_err(store_error)? {
        return Err(CliError::refused(
            "lease-held",
            format!("cloud {} is being worked on by {}, which holds its lease", plan.cloud, lease.holder),
        )
        .hint("`volutus watch` follows that run; `volutus pause` or `volutus abort` reach it."));
    }
    let approval = store.approval(&plan.id).map_err(store_error)?.ok_or_else(|| {
        CliError::refused("not-approved", format!("plan {} is not approved", show::short(plan.id.as_str())))
            .hint(format!("Read it, then: volutus approve {}", show::short(plan.id.as_str())))
    })?;
    if plan.cloud != context.inventory.name || plan.inventory != context.inventory.digest() {
        return Err(CliError::refused(
            "description-changed",
            format!(
                "{} has changed since plan {} was made for it",
                context.cloud_file.display(),
                show::short(plan.id.as_str())
            ),
        )
        .hint(format!("Make a new plan: volutus plan --to {}", plan.to)));
    }
    let driver = context.driver()?;
    let observation = context.observe(&driver).await?;
    if Plan::basis_of(&observation) != plan.basis {
        return Err(CliError::refused(
            "cloud-changed",
            format!(
                "what runs in cloud {} has changed since plan {} was made",
                plan.cloud,
                show::short(plan.id.as_str())
            ),
        )
        .hint(format!("`volutus observe` shows it; make a new plan: volutus plan --to {}", plan.to)));
    }
    driver.close().await;
    refuse_findings(&judge(context, &observation, &plan), &approval.consents)?;
    let run = new_run_id(Context::now())
        .map_err(|error| CliError::new(Kind::Internal, "run-id", "no id for the run").because(&error))?;
    store.create_run(&run, &plan.id, &plan.cloud, Context::now()).map_err(store_error)?;
    // What the verdict compares the end with.
    store.put_observation(&plan.cloud, &observation).map_err(store_error)?;
    anstream::eprintln!("run {run} of plan {}", show::short(plan.id.as_str()));
    execute(context, &store, &run, &plan).await
}

/// Takes a run up whose process is gone, with what the operator wants of it.
pub async fn take_up(context: &Context, store: &Store, record: &RunRecord, command: Command) -> Result<()> {
    let (plan, state, _) = load(store, record)?;
    if state.status.is_final() {
        return Err(CliError::refused(
            "run-ended",
            format!("run {} has {}; there is nothing to {command}", record.id, state.status),
        ));
    }
    // A run that is merely without a process goes on by being taken up.
    if !(command == Command::Resume && state.status == RunStatus::Running) {
        store.push_command(&record.id, command, &Context::actor(), Context::now()).map_err(store_error)?;
    }
    execute(context, store, &record.id, &plan).await
}

fn refuse_findings(findings: &[Finding], consents: &[String]) -> Result<()> {
    let stops = |finding: &&Finding| match finding.severity {
        Severity::Blocking => true,
        Severity::Serious => !consents.contains(&finding.code),
        Severity::Warning | Severity::Info => false,
    };
    let stopping: Vec<Finding> = findings.iter().filter(stops).cloned().collect();
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
    let config = ProberConfig::new(
        load(&context.inventory.credentials.operator)?,
        load(&context.inventory.credentials.prober)?,
        context.inventory.prober.clone(),
        run.clone(),
    );
    Prober::start(config).await.map_err(|error| {
        CliError::new(Kind::Cloud, "prober", "the synthetic user could not start work").because(&error).hint(
            "[prober] of the cloud description names what it uses; docs/operating/upgrade.md tells how to \
             make it. Without it nothing can be said about what users notice, so nothing was begun.",
        )
    })
}

async fn execute(context: &Context, store: &Store, run: &RunId, plan: &Plan) -> Result<()> {
    let internal = |what: &'static str| {
        move |error: &dyn std::error::Error| CliError::new(Kind::Internal, "run", what).because(error)
    };
    let holder = Holder::this_process().map_err(store_error)?;
    let driver = Arc::new(context.driver()?);
    let runtime = Runtime::new(store.clone(), driver.clone(), holder, Context::actor());
    let mut signals = interrupts().map_err(|e| internal("signals cannot be received")(&e))?;
    let (handle, samples) = start_prober(context, run).await?;
    let (steps, steps_received) = mpsc::unbounded_channel();
    let controlled = tokio::spawn(control(handle, steps_received));
    let mut probes = Probes { probe: Arc::new(Steps(steps)), samples };
    let mut reporter = progress::reporter(plan, context.no_progress);
    let result = runtime.execute(run, Some(&mut probes), &mut signals, reporter.as_mut()).await;
    // Dropping the sender of steps is what stops the prober.
    probes.probe = Arc::new(Idle);
    let kept = runtime.keep_last_samples(run, &mut probes, reporter.as_mut()).await;
    drop(reporter);
    if let Err(error) = controlled.await {
        tracing::warn!(%error, "the synthetic user did not end in good order");
    }
    let status = result.map_err(|error| execution_error(&error))?;
    kept.map_err(|e| internal("the last probe samples could not be kept")(&e))?;
    let concluded = conclude(context, store, run, &driver, status).await;
    driver.close().await;
    concluded
}

fn execution_error(error: &volutus_runtime::Error) -> CliError {
    let (kind, code) = match error {
        volutus_runtime::Error::Store(volutus_store::Error::LeaseHeld { .. }) => {
            (Kind::Refused, "lease-held")
        }
        volutus_runtime::Error::Store(volutus_store::Error::ChainBroken { .. }) => {
            (Kind::Internal, "journal-broken")
        }
        volutus_runtime::Error::LeaseLost { .. } => (Kind::Stopped, "lease-lost"),
        volutus_runtime::Error::Interrupted { .. } => (Kind::Stopped, "interrupted"),
        _ => (Kind::Internal, "run-broke-off"),
    };
    CliError::new(kind, code, error.to_string())
        .because(error)
        .hint("`volutus status` tells where the run stands; `volutus resume` goes on.")
}

/// Shows where the run stands and, once everything is on the target, what users noticed.
async fn conclude(
    context: &Context,
    store: &Store,
    run: &RunId,
    driver: &volutus_drivers::CloudDriver,
    status: RunStatus,
) -> Result<()> {
    let record = store.run(run).map_err(store_error)?;
    let (plan, state, _) = load(store, &record)?;
    let stopped = |code, what: &str| {
        Err(CliError::new(Kind::Stopped, code, format!("run {} {what}", show::short(run.as_str()))))
    };
    match status {
        RunStatus::AwaitingFinalize | RunStatus::Succeeded => {
            let observation = context.observe(driver).await?;
            let verdict = verdict::make(context, store, run, &plan, &state, &observation)?;
            anstream::print!("{}", show::run::render(run, &plan, &state));
            anstream::println!();
            anstream::print!("{}", show::verdict::render(&verdict));
            Ok(())
        }
        RunStatus::Aborted => {
            anstream::print!("{}", show::run::render(run, &plan, &state));
            if state.left.is_empty() {
                Ok(())
            } else {
                stopped("left-behind", "could not give everything back")
            }
        }
        RunStatus::Halted => {
            anstream::print!("{}", show::run::render(run, &plan, &state));
            stopped("halted", "halted")
        }
        RunStatus::Paused => {
            anstream::print!("{}", show::run::render(run, &plan, &state));
            stopped("paused", "is paused")
        }
        RunStatus::Running | RunStatus::Aborting => {
            anstream::print!("{}", show::run::render(run, &plan, &state));
            stopped("broken-off", "was left in the middle")
        }
    }
}
