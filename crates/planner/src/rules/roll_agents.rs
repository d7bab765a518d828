//! Agents look after one host each: what one has set up there (ports, DHCP servers, routers) goes on while it
//! restarts, and only what is new on that host waits.

use volutus_model::plan::Step;

use super::{daemon, waves};
use crate::Error;
use crate::draft::Draft;
use crate::state::Member;

/// How many may be out at the same time, and the steps.
pub(crate) fn steps(draft: &mut Draft<'_>, members: &[Member<'_>]) -> Result<(u32, Vec<Step>), Error> {
    let steps = daemon::first_alone(draft, members, |member| {
        format!("what is new on {} waits until it is back; what is there goes on", member.host.name)
    })?;
    Ok((waves::wave_width(draft.policy().compute_wave, members.len()), steps))
}
