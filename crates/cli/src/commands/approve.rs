//! `volutus approve`

use crate::args::ApproveArgs;
use crate::commands::plan::store_error;
use crate::context::Context;
use crate::error::Result;
use crate::show;

/// Records the operator's consent to exactly this plan.
pub fn run(context: &Context, args: &ApproveArgs) -> Result<()> {
    let store = context.store()?;
    let plan = store.find_any_plan(&args.plan).map_err(store_error)?;
    let actor = Context::actor();
    let approval = store.approve(plan.id(), &actor, Context::now(), &args.accepted).map_err(store_error)?;
    anstream::println!("plan {} is approved by {} at {}", plan.id(), approval.actor, approval.at);
    if !approval.consents.is_empty() {
        anstream::println!("consented to: {}", approval.consents.join(", "));
    }
    anstream::eprintln!("Next: volutus run {}", show::short(plan.id().as_str()));
    Ok(())
}
