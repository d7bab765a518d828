//! Hooks of a reboot: the operator's commands for other systems, around what is done to each host.

use volutus_model::Inventory;
use volutus_model::fleet::{HookCall, HookMoment, HookPlace, RebootPolicy};
use volutus_model::name::HostName;
use volutus_model::plan::Action;

use crate::Error;
use crate::reboot;

/// The commands of the policy's hooks for a host: those that begin in the order of the policy, those that
/// end in the opposite order, so that what one hook begins is around what later ones begin.
pub(crate) fn calls<'a>(
    policy: &'a RebootPolicy,
    host: &'a HostName,
    moment: HookMoment,
) -> impl Iterator<Item = Action> + 'a {
    let mut hooks: Vec<_> = policy.hooks.iter().collect();
    if moment == HookMoment::After {
        hooks.reverse();
    }
    hooks.into_iter().filter_map(move |hook| {
        let argv = match moment {
            HookMoment::Before => &hook.before,
            HookMoment::After => &hook.after,
        };
        let call = || HookCall {
            host: host.clone(),
            hook: hook.name.clone(),
            moment,
            on: hook.on.clone(),
            argv: argv.clone(),
            unchanged_exit: i32::from(policy.act.nothing_to_do_exit),
            limit_s: hook.limit_s,
            always: hook.always,
            environment: hook.environment.clone(),
            cloud: hook.cloud.clone(),
        };
        (!argv.is_empty()).then(|| Action::RunHook(call()))
    })
}

/// Whether a hook also ends for a host that failed.
pub(crate) fn is_always(action: &Action) -> bool {
    matches!(action, Action::RunHook(call) if call.always)
}

/// Every host that a hook runs on is declared.
pub(crate) fn declared(inventory: &Inventory, policy: &RebootPolicy) -> Result<(), Error> {
    for hook in &policy.hooks {
        if let HookPlace::Host(on) = &hook.on {
            reboot::declared(inventory, on)?;
        }
    }
    Ok(())
}
