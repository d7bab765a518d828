//! `volutus check`

use std::collections::{BTreeMap, BTreeSet};

use volutus_model::{Action, Finding, Observation, PackageVersion, Plan, Series, ServiceName, Severity};
use volutus_store::AnyPlan;

use crate::args::{CheckArgs, Format};
use crate::commands::{drains, fleet, plan, print_json, replan};
use crate::context::Context;
use crate::error::{CliError, Kind, Result};
use crate::show;

/// Judges the cloud as it is now, and the plan where one is named.
pub async fn run(context: &Context, args: &CheckArgs) -> Result<()> {
    let driver = context.driver()?;
    let findings = match (&args.plan, &args.to) {
        (Some(reference), _) => {
            match context.store()?.find_any_plan(reference).map_err(plan::store_error)? {
                AnyPlan::Upgrade(plan) => {
                    let observation = context.observe(&driver).await?;
                    let mut findings = judge(context, &observation, &plan);
                    let store = context.store()?;
                    let seen = drains::look_for(context, &driver, &plan, &observation).await?;
                    findings.extend(drains::judge(context, &store, &plan, seen)?);
                    findings
                }
                AnyPlan::Reboot(plan) => {
                    let seen = fleet::observe_with(context, &driver).await?;
                    replan::judged(context, &context.store()?, &plan, seen)?
                }
            }
        }
        (None, Some(series)) => {
            let to = plan::series(context, series)?;
            let observation = context.observe(&driver).await?;
            judge_without_plan(context, &observation, to)
        }
        (None, None) => {
            return Err(CliError::refused("nothing-to-check", "neither a plan nor --to SERIES is given"));
        }
    };
    driver.close().await;
    match args.output {
        Format::Json => print_json(&findings)?,
        Format::Table => anstream::print!("{}", show::findings::render(&findings)),
    }
    match findings.iter().filter(|finding| finding.severity == Severity::Blocking).count() {
        0 => Ok(()),
        count => Err(CliError::new(Kind::Blocked, "blocked", format!("{count} findings block the run"))
            .hint("Each finding above says what mends it; then check again.")),
    }
}

/// What stands in the way of `plan` on the cloud as observed.
pub fn judge(context: &Context, observation: &Observation, plan: &Plan) -> Vec<Finding> {
    // What preflight looks for stands in the way of going forward; a rollback is what mends it.
    let mut findings = if plan.kind.is_upgrade() {
        preflight(context, observation, plan.from, plan.to, &plan.versions)
    } else if plan.kind.is_patch() || plan.kind.is_mitigation() {
        let all = preflight(context, observation, plan.from, plan.to, &plan.versions);
        let touched = touched(plan);
        all.into_iter().filter(|finding| touched.contains(&finding.subject)).collect()
    } else {
        Vec::new()
    };
    findings.extend(volutus_plancheck::check_plan(
        plan,
        &context.inventory,
        observation,
        &context.catalog,
        &plan.policy,
    ));
    findings
}

/// Whatever a plan touches, as findings name it. A patch does not wait for what is wrong elsewhere.
fn touched(plan: &Plan) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for action in plan.steps().flat_map(|(_, step)| &step.actions) {
        names.extend(action.host().map(ToString::to_string));
        match action {
            Action::SwitchDaemon { daemon, service, .. } | Action::RefreshDaemon { daemon, service, .. } => {
                names.extend([daemon.to_string(), daemon.kind.to_string(), service.to_string()]);
            }
            Action::DrainBackend { backend, .. } => {
                names.insert(backend.to_string());
            }
            _ => {}
        }
    }
    names
}

fn judge_without_plan(context: &Context, observation: &Observation, to: Series) -> Vec<Finding> {
    match plan::make(context, observation, plan::Wanted::series(to)) {
        Ok((plan, _)) => judge(context, observation, &plan),
        Err(error) => {
            // What keeps a plan from being made is a finding beside all the others, so that one
            // check tells everything at once.
            let versions = context.catalog.series.get(&to).map(|s| s.versions.clone()).unwrap_or_default();
            let from = oldest_running(context, observation).unwrap_or(to);
            let mut findings = preflight(context, observation, from, to, &versions);
            findings.push(Finding::new(
                Severity::Blocking,
                error.code,
                &context.inventory.name,
                std::iter::once(error.message).chain(error.causes).collect::<Vec<_>>().join(": "),
                error.hint.unwrap_or_default(),
            ));
            findings
        }
    }
}

/// The oldest series that anything was seen to run.
fn oldest_running(context: &Context, observation: &Observation) -> Option<Series> {
    let services = context.catalog.daemons();
    let series = observation.daemons.keys().filter_map(|daemon| {
        let (service, _) = services.get(&daemon.kind)?;
        context.catalog.series_of(&service.name, observation.running_version(daemon)?)
    });
    series.min()
}

fn preflight(
    context: &Context,
    observation: &Observation,
    from: Series,
    to: Series,
    versions: &BTreeMap<ServiceName, PackageVersion>,
) -> Vec<Finding> {
    volutus_plancheck::preflight(
        &context.inventory,
        observation,
        &context.catalog,
        from,
        to,
        versions,
        &context.policy,
    )
}
