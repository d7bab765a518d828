//! A live migration is completed by force only in its time, and by post-copy only where nova.conf of the
//! host that the instance leaves was seen to permit that: elsewhere nova would pause the instance.

use volutus_catalog::{DaemonRole, OptionSeen, Service, options_of};
use volutus_model::Finding;
use volutus_model::fleet::MigrationSettings;
use volutus_model::fleet::policy::Rung;
use volutus_model::name::HostName;
use volutus_model::plan::{Action, InstanceMove};

use crate::context::Context;
use crate::{PLAN_AGAIN, blocking};

pub(crate) fn check_rungs(context: &Context<'_>, findings: &mut Vec<Finding>) {
    for (at, action) in context.graph.actions() {
        if let Action::MoveNewcomers(newcomers) = action
            && newcomers.way.then.contains(&Rung::PostCopy)
            && let Err(why) = permits_post_copy(context, &newcomers.host)
        {
            findings.push(blocking(
                "post-copy-not-permitted",
                &context.graph.steps[at.step].1.id,
                format!("what comes to {} is to be switched to post-copy, and {why}", newcomers.host),
                "Make a new plan: it passes the rung over where it is not permitted.",
            ));
        }
        let Action::MoveInstances { host, moves, .. } = action else {
            continue;
        };
        let step = &context.graph.steps[at.step].1.id;
        if let Some(moved) = moves.iter().find(|moved| !is_in_time(moved)) {
            findings.push(blocking(
                "rung-out-of-time",
                step,
                format!(
                    "the move of instance {} off {host} is completed by force before its time, or after it would \
                     have been broken off",
                    moved.instance
                ),
                PLAN_AGAIN,
            ));
        }
        let switched = moves.iter().filter(|moved| moved.post_copy_after_s.is_some()).count();
        if switched > 0
            && let Err(why) = permits_post_copy(context, host)
        {
            findings.push(blocking(
                "post-copy-not-permitted",
                step,
                format!("{switched} instances that leave {host} are to be switched to post-copy, and {why}"),
                "Make a new plan: it passes the rung over where it is not permitted.",
            ));
        }
    }
}

/// Each turn has time before it, and comes before the next one.
fn is_in_time(moved: &InstanceMove) -> bool {
    let turns = [Some(0), moved.post_copy_after_s, moved.force_after_s, Some(moved.timeout_s)];
    let turns: Vec<u32> = turns.into_iter().flatten().collect();
    turns.is_sorted_by(|a, b| a < b)
}

/// Why a host does not permit post-copy, as far as its configuration was seen.
fn permits_post_copy(context: &Context<'_>, host: &HostName) -> Result<(), String> {
    let [option, ..] = MigrationSettings::OPTIONS;
    let services = || context.catalog.services.values();
    let computes = |service: &&Service| service.daemons.iter().any(|one| one.role == DaemonRole::Compute);
    let seen = services()
        .filter(computes)
        .find_map(|service| options_of(service, context.inventory, context.observation, option).remove(host));
    let set = match &seen {
        Some(OptionSeen::Set(value)) => Some(value.as_str()),
        Some(OptionSeen::Unset) => None,
        Some(OptionSeen::Unseen { why }) => return Err(format!("{option} was not seen there: {why}")),
        None => {
            return Err(format!("{option} was not seen there: the cloud description has no compute on it"));
        }
    };
    let settings = MigrationSettings::read(|wanted| set.filter(|_| wanted == option))?;
    if settings.post_copy { Ok(()) } else { Err(format!("{option} is not true there")) }
}
