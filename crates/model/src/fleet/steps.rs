//! What is done to one host, in order: the plan as its executor reads it.

use std::collections::{BTreeMap, HashMap};

use crate::name::HostName;

use super::plan::{HostDrain, Move, RebootPlan, Stay, StayReason};

/// One step of a host. Steps of a host are done one after another, but its moves, of which as many
/// run at once as the policy allows, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostStep<'a> {
    /// Disable it for scheduling, with Volutus's reason.
    Disable,
    /// Wait until nothing is under way that was scheduled to it; then look again at what is on it.
    Settle,
    /// Move an instance to its destination.
    Move(&'a Move),
    /// Stop an instance, which stays; with consent.
    Stop(&'a Stay),
    /// See that nothing runs on it and nothing but what stays is allocated there.
    ProveEmpty,
    /// What the policy says under `act`, before the reboot.
    Act,
    /// Reboot it, and see a new boot id; not where the policy has no reboot.
    Reboot,
    /// See that it is well: kernel, agents, a canary instance.
    ProveBack,
    /// Start an instance that was stopped.
    Start(&'a Stay),
    /// Let new instances come to it again.
    Enable,
}

/// One host of a plan with its steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSteps<'a> {
    /// When it may begin, and what it comes to.
    pub drain: &'a HostDrain,
    /// Its steps, in order.
    pub steps: Vec<HostStep<'a>>,
}

impl RebootPlan {
    /// The hosts of the plan in the order in which they begin, each with its steps.
    #[must_use]
    pub fn host_steps(&self) -> Vec<HostSteps<'_>> {
        let content = &self.content;
        let mut moves: HashMap<&HostName, Vec<&Move>> = HashMap::new();
        for one in &content.moves {
            moves.entry(&one.from).or_default().push(one);
        }
        let mut stopped: BTreeMap<&HostName, Vec<&Stay>> = BTreeMap::new();
        for stay in content.stays.iter().filter(|stay| stay.why == StayReason::Stopped) {
            stopped.entry(&stay.host).or_default().push(stay);
        }
        let steps = |drain: &HostDrain| {
            let moves = moves.get(&drain.host).map(Vec::as_slice).unwrap_or_default();
            let stopped = stopped.get(&drain.host).map(Vec::as_slice).unwrap_or_default();
            let mut steps = vec![HostStep::Disable, HostStep::Settle];
            steps.extend(moves.iter().map(|one| HostStep::Move(one)));
            steps.extend(stopped.iter().map(|stay| HostStep::Stop(stay)));
            steps.extend([HostStep::ProveEmpty, HostStep::Act]);
            steps.extend(content.policy.act.reboot.then_some(HostStep::Reboot));
            steps.push(HostStep::ProveBack);
            // They come back to a host that was proved well, and before others can take their room.
            steps.extend(stopped.iter().map(|stay| HostStep::Start(stay)));
            steps.push(HostStep::Enable);
            steps
        };
        content.drains.iter().map(|drain| HostSteps { drain, steps: steps(drain) }).collect()
    }
}
