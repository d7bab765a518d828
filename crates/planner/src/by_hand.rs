//! One host by hand: emptied, for whoever wants to work on it, or proved well and given back.

use volutus_model::fleet::plan::HostDrain;
use volutus_model::name::{HostName, ServiceName};
use volutus_model::plan::{Action, Impact, ImpactLevel, Phase, Step};

use crate::Error;
use crate::draft::{Draft, NewStage, step};
use crate::reboot::{RebootInput, SLACK_S, declared, duties, duties_s, emptying, gateways, starting};
use crate::rules::{canary, daemon};

/// Seconds in which the daemons of a host that is well prove it.
const PROVE_S: u32 = 60;

/// Empties the host. It stays disabled, unless the run is given up in the middle of it.
pub(crate) fn plan_drain(draft: &mut Draft<'_>, input: &RebootInput) -> Result<(), Error> {
    let content = &input.reboot.content;
    let mut steps = Vec::new();
    for drain in &content.drains {
        declared(&input.inventory, &drain.host)?;
        let (mut actions, moving_s) = emptying(content, drain);
        let (lower, restore) = gateways(draft, &drain.host);
        actions.extend(lower);
        let (off, back) = duties(draft, &drain.host);
        actions.extend(off);
        let mut new = step(
            format!("drain/{}", drain.host),
            format!("empty {}", drain.host),
            actions,
            impact(format!("{} instances are moved off {}", drain.moves, drain.host)),
            seconds_of(drain),
            moving_s
                .max(canary::SETTLE_TIMEOUT_S)
                .max(duties_s(content, &drain.host))
                .saturating_add(SLACK_S),
        )?;
        new.give_back = restore.into_iter().chain(back).chain(starting(content, &drain.host)).collect();
        new.give_back.push(Action::EnableCompute { host: drain.host.clone() });
        steps.push(new);
    }
    add(draft, "drain", "empty a compute host and leave it disabled", steps)
}

/// Proves every daemon of the host, gives it back, and has an instance boot there.
pub(crate) fn plan_undrain(draft: &mut Draft<'_>, input: &RebootInput) -> Result<(), Error> {
    let mut steps = Vec::new();
    for drain in &input.reboot.content.drains {
        let host: &HostName = &drain.host;
        declared(&input.inventory, host)?;
        let state = draft.state;
        let here = state.members.values().flatten().filter(|member| member.host.name == *host);
        let mut actions: Vec<Action> = here.map(|member| daemon::prove(draft, member)).collect();
        actions.extend(gateways(draft, host).1);
        actions.extend(duties(draft, host).1);
        actions.extend(starting(&input.reboot.content, host));
        actions.push(Action::EnableCompute { host: host.clone() });
        actions.push(Action::BootCanary { host: host.clone() });
        steps.push(step(
            format!("undrain/{host}"),
            format!("prove {host} and give it back"),
            actions,
            impact(format!("new instances may come to {host}")),
            PROVE_S,
            input.policy.prove_timeout_s.max(duties_s(&input.reboot.content, host)).saturating_add(SLACK_S),
        )?);
    }
    add(draft, "undrain", "prove a compute host and give it back", steps)
}

fn add(draft: &mut Draft<'_>, id: &str, title: &str, steps: Vec<Step>) -> Result<(), Error> {
    draft.add(NewStage {
        id: id.to_owned(),
        phase: Phase::Waves,
        title: title.to_owned(),
        parallel_max: 1,
        after: Vec::new(),
        steps,
    })?;
    Ok(())
}

fn impact(why: String) -> Impact {
    Impact { level: ImpactLevel::Minor, service: ServiceName::new("nova").ok(), why }
}

fn seconds_of(drain: &HostDrain) -> u32 {
    u32::try_from(drain.empty_ms.saturating_sub(drain.disable_ms).div_ceil(1_000)).unwrap_or(u32::MAX)
}
