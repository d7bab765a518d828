//! `volutus approve`

use volutus_store::AnyPlan;

use crate::args::ApproveArgs;
use crate::commands::plan::store_error;
use crate::commands::{drains, fleet};
use crate::context::Context;
use crate::error::Result;
use crate::server::Server;
use crate::show;

/// Records the operator's consent to exactly this plan.
pub async fn run(context: &Context, args: &ApproveArgs) -> Result<()> {
    let store = context.store()?;
    let plan = store.find_any_plan(&args.plan).map_err(store_error)?;
    match &plan {
        AnyPlan::Reboot(plan) => fleet::warn_of_answers(context, &store, plan)?,
        AnyPlan::Upgrade(plan) => {
            if let Some(reboot) = drains::find(&store, plan)? {
                fleet::warn_of_answers(context, &store, &reboot)?;
            }
        }
    }
    let (by, at, consents) = match Server::of(context).await? {
        Some(server) => {
            let approved = server.approve(plan.id().as_str(), &args.accepted).await?;
            (approved.actor, approved.at, approved.consents)
        }
        None => {
            let actor = Context::actor();
            let approval = store.approve(plan.id(), &actor, Context::now(), &args.accepted);
            let approval = approval.map_err(store_error)?;
            (approval.actor.to_string(), approval.at.to_string(), approval.consents)
        }
    };
    anstream::println!("plan {} is approved by {by} at {at}", plan.id());
    if !consents.is_empty() {
        anstream::println!("consented to: {}", consents.join(", "));
    }
    anstream::eprintln!("Next: volutus run {}", show::short(plan.id().as_str()));
    Ok(())
}
