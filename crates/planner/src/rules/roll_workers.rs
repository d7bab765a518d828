//! Workers share a queue: whoever is up takes the next message, so one that stops gracefully is
//! not missed as long as another one runs.

use volutus_catalog::OptionSeen;
use volutus_model::plan::Step;

use super::daemon;
use crate::Error;
use crate::draft::Draft;
use crate::state::Member;

/// oslo.messaging since 2024.1 (14.6): queues keep their names over restarts.
const QUEUE_MANAGER: &str = "oslo_messaging_rabbit/use_queue_manager";

/// How many may be out at the same time, and the steps.
pub(crate) fn steps(draft: &mut Draft<'_>, members: &[Member<'_>]) -> Result<(u32, Vec<Step>), Error> {
    let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
    let steps = daemon::first_alone(draft, members, |_| {
        if count > 1 {
            format!("one of {count} is out; the others go on, and the queue holds what is meant for it")
        } else {
            "it is the only one: messages wait in the queue until it is back".to_owned()
        }
    })?;
    let width =
        if keep_messages(draft, members) { width(count, draft.policy().serving_replicas_min) } else { 1 };
    Ok((width, steps))
}

/// Workers that may be out at once: at least the policy's minimum (and always one) goes on, and
/// at most two thirds are out. A queue holds what comes meanwhile, so that workers bear more
/// than APIs do, and waiting for their reports is what a roll spends most of its time on.
fn width(count: u32, serving_min: u32) -> u32 {
    count.saturating_sub(serving_min.max(1)).min(count * 2 / 3).max(1)
}

/// Whether workers that stop leave what they have not read to the others. Without oslo.messaging's
/// queue manager they drop that, and the more of them stop at once, the more of all messages are
/// theirs (`docs/decisions/0012-stopping-workers.md`). What was not seen counts as switched off.
fn keep_messages(draft: &Draft<'_>, members: &[Member<'_>]) -> bool {
    members.iter().all(|member| match draft.option_on(member.service, &member.host.name, QUEUE_MANAGER) {
        Some(OptionSeen::Set(text)) => ["true", "1", "yes", "on"].contains(&text.to_lowercase().as_str()),
        Some(OptionSeen::Unset | OptionSeen::Unseen { .. }) | None => false,
    })
}
