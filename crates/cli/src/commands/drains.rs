//! Upgrades that empty compute hosts: the reboot that is a part of one, planned, judged and told with it.

use volutus_drivers::CloudDriver;
use volutus_model::fleet::{Fleet, RebootPlan, RebootPolicy, Selection};
use volutus_model::{Finding, Observation, Plan, Series};
use volutus_store::Store;

use crate::commands::{fleet, go_on, replan};
use crate::context::Context;
use crate::error::{CliError, Kind, Result};

/// The daemon whose release decides between which hosts instances may move.
const COMPUTE: &str = "nova-compute";

/// Plans the reboot that is a part of an upgrade, by the fleet as it is now.
pub async fn part_of(
    context: &Context,
    driver: &CloudDriver,
    observation: &Observation,
    policy: &RebootPolicy,
    selection: &Selection,
    to: Series,
) -> Result<RebootPlan> {
    let mut seen = look(context, driver, observation).await?;
    fleet::answers(context, &context.store()?)?.apply(&mut seen);
    let mut made = fleet::make(&seen, policy, selection, &context.inventory.name)?;
    made.content.upgrade = Some(to);
    Ok(RebootPlan::new(made.content))
}

/// The fleet, with the release that each host runs: instances never move onto older code.
pub async fn look(context: &Context, driver: &CloudDriver, observation: &Observation) -> Result<Fleet> {
    let mut seen = fleet::observe_with(context, driver).await?;
    let known = context.catalog.daemons();
    for (id, version) in
        observation.daemons.keys().filter_map(|id| Some((id, observation.running_version(id)?)))
    {
        let service = known.get(&id.kind).filter(|_| id.kind.as_str() == COMPUTE).map(|(service, _)| service);
        let release = service.and_then(|service| context.catalog.series_of(&service.name, version));
        for host in seen.hosts.iter_mut().filter(|host| release.is_some() && host.name == id.host) {
            host.release = release;
        }
    }
    Ok(seen)
}

/// The reboot that is a part of an upgrade; nothing where the upgrade leaves instances where they are.
pub fn find(store: &Store, plan: &Plan) -> Result<Option<RebootPlan>> {
    if plan.drains.is_none() { Ok(None) } else { go_on::reboot_of(store, plan) }
}

/// The fleet as it is now, where an upgrade empties hosts.
pub async fn look_for(
    context: &Context,
    driver: &CloudDriver,
    plan: &Plan,
    observation: &Observation,
) -> Result<Option<Fleet>> {
    match plan.drains {
        Some(_) => look(context, driver, observation).await.map(Some),
        None => Ok(None),
    }
}

/// What stands in the way of the reboot that is a part of an upgrade, or of the one that is run in its place, on
/// the fleet as it was seen.
pub fn judge(context: &Context, store: &Store, plan: &Plan, seen: Option<Fleet>) -> Result<Vec<Finding>> {
    let (Some(reboot), Some(seen)) = (find(store, plan)?, seen) else { return Ok(Vec::new()) };
    let mut findings = replan::judged(context, store, &reboot, seen)?;
    findings.extend(volutus_plancheck::check_joined(plan, &reboot));
    Ok(findings)
}

/// Refuses to show a plan that does otherwise than its own reboot: nobody is to see that as a plan.
pub fn refuse_otherwise(plan: &Plan, reboot: &RebootPlan) -> Result<()> {
    match volutus_plancheck::check_joined(plan, reboot).first() {
        None => Ok(()),
        Some(first) => {
            let message =
                format!("the plan that was made does otherwise than its reboot: {}", first.explanation);
            Err(CliError::new(Kind::Internal, "plan-refused", message)
                .hint("Please report it with the fleet."))
        }
    }
}
