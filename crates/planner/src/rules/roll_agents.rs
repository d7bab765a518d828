//! Agents look after one host each: what one has set up there (ports, DHCP servers, routers) goes on while it
//! restarts, and only what is new on that host waits.

use volutus_model::plan::{Impact, ImpactLevel, Step};

use super::{daemon, waves};
use crate::Error;
use crate::draft::{Draft, step};
use crate::state::Member;

/// How many may be out at the same time, and the steps.
pub(crate) fn steps(draft: &mut Draft<'_>, members: &[Member<'_>]) -> Result<(u32, Vec<Step>), Error> {
    let mut steps: Vec<Step> = Vec::new();
    for member in members.iter().filter(|member| member.pending) {
        let actions = vec![daemon::switch(draft, member), daemon::prove(draft, member)];
        let host = &member.host.name;
        let why = format!("what is new on {host} waits until it is back; what is there goes on");
        let mut new = step(
            format!("roll/{}", member.id),
            format!("{} {}", draft.verb(), member.id),
            actions,
            Impact { level: ImpactLevel::Minor, service: Some(member.service.name.clone()), why },
            member.facts.expected_s,
            daemon::action_timeout_s(draft, member),
        )?;
        // The first one shows that the new release works.
        new.requires = steps.first().map(|first| first.id.clone()).into_iter().collect();
        steps.push(new);
    }
    Ok((waves::wave_width(draft.policy().compute_wave, members.len()), steps))
}
