//! `volutus drain` and `volutus undrain`: one compute host, emptied or given back by hand. Both are
//! plans and runs like any other: kept, approved, leased, journaled, taken up after a crash.

use volutus_drivers::CloudDriver;
use volutus_model::fleet::{Availability, Fleet, REASON_TOKEN, RebootPlan};
use volutus_model::{HostName, Observation};

use crate::args::{ByHandArgs, PlanFormat};
use crate::commands::plan::store_error;
use crate::commands::run::{self, After};
use crate::commands::{consent, fleet};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::show;

/// Empties a host.
pub async fn drain(context: &Context, args: &ByHandArgs) -> Result<()> {
    let (fleet, observation) = look(context).await?;
    let host = &args.host;
    let made = volutus_fleet::drain(&fleet, &context.reboot, host, &context.inventory.name, Context::now());
    let plan = fleet::checked(made, &fleet, &format!("could not plan to empty {host}"))?;
    carry_out(context, args, plan, observation, "empty it and leave it disabled").await
}

/// Gives a host back.
pub async fn undrain(context: &Context, args: &ByHandArgs) -> Result<()> {
    let (fleet, observation) = look(context).await?;
    let host = &args.host;
    refuse_others(&fleet, host)?;
    let made = volutus_fleet::undrain(&fleet, &context.reboot, host, &context.inventory.name, Context::now());
    let plan = fleet::checked(made, &fleet, &format!("could not plan to give {host} back"))?;
    carry_out(context, args, plan, observation, "give it back").await
}

/// Nobody else's decision is undone: only what Volutus disabled is enabled.
fn refuse_others(fleet: &Fleet, host: &HostName) -> Result<()> {
    let seen = fleet.hosts.iter().find(|seen| seen.name == *host).map(|seen| &seen.availability);
    match seen {
        Some(Availability::Enabled) => Err(CliError::refused(
            "not-disabled",
            format!("{host} is not disabled: there is nothing to give back"),
        )
        .hint("`volutus hosts` shows the state of each.")),
        Some(Availability::Disabled { reason }) if !reason.starts_with(REASON_TOKEN) => {
            let why =
                if reason.is_empty() { "no reason is given".to_owned() } else { format!("reason: {reason}") };
            Err(CliError::refused(
                "disabled-by-others",
                format!("{host} was disabled by a person or another tool ({why}), not by Volutus"),
            )
            .hint(format!(
                "Ask whoever did it. `openstack compute service set --enable {host} nova-compute` enables it."
            )))
        }
        _ => Ok(()),
    }
}

async fn look(context: &Context) -> Result<(Fleet, Observation)> {
    run::refuse_while_held(context, &context.store()?)?;
    let driver = context.driver()?;
    let seen = look_with(context, &driver).await;
    driver.close().await;
    seen
}

async fn look_with(context: &Context, driver: &CloudDriver) -> Result<(Fleet, Observation)> {
    Ok((fleet::observe_with(context, driver).await?, context.observe(driver).await?))
}

/// Shows the plan, asks, and runs it with the approval of whoever answered.
async fn carry_out(
    context: &Context,
    args: &ByHandArgs,
    plan: RebootPlan,
    observation: Observation,
    what: &str,
) -> Result<()> {
    // What keeps its steps from being made is told before anybody is asked.
    fleet::steps(context, &plan, observation)?;
    fleet::print(&plan, PlanFormat::Table)?;
    if !args.yes {
        consent::ask(&format!("Type the host's name ({}) to {what}", args.host), args.host.as_str())?;
    }
    let store = context.store()?;
    store.put_reboot_plan(&plan).map_err(store_error)?;
    let approval = store.approve(&plan.id, &Context::actor(), Context::now(), &[]).map_err(store_error)?;
    anstream::eprintln!("plan {} is approved by {}", show::short(plan.id.as_str()), approval.actor);
    let (run, steps) = run::begin_reboot(context, &store, &plan, &approval).await?;
    run::execute(context, &store, &run, &steps, After::AsRecorded, &Context::actor()).await
}
