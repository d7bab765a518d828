//! What can be done with an instance whose host is to be emptied.

use std::collections::{BTreeMap, BTreeSet};

use volutus_model::fleet::plan::{How, StayReason};
use volutus_model::fleet::policy::{AffinityGroups, Rung};
use volutus_model::fleet::{
    Fleet, GroupPolicy, Instance, InstanceState, MigrationSettings, OwnerChoice, RebootPolicy,
};

/// What is done with an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Move(How),
    Stay(StayReason),
    /// Its host cannot be rebooted.
    Blocked(Block),
}

/// Why an instance keeps its host from a reboot, whatever the capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Block {
    Busy,
    Error,
    Never,
    /// It cannot be moved alive, and there is no consent to anything else.
    Obstacle,
    /// Its owner chose what the ladder does not have.
    NoRung,
    /// It belongs to a hard affinity group, which cannot be moved alive.
    Affinity,
    /// Its hard affinity group can only be moved as a whole, and some member cannot be moved or
    /// is elsewhere.
    AffinityPart,
}

/// A hard affinity group of several instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Together {
    /// Whether all members are on one host and can be moved by themselves.
    whole: bool,
}

/// The hard affinity groups of several instances, by index.
pub(crate) fn groups_to_be_moved_together(fleet: &Fleet) -> BTreeMap<u32, Together> {
    let hard: BTreeMap<&str, u32> = fleet
        .groups
        .iter()
        .enumerate()
        .filter(|(_, group)| group.policy == GroupPolicy::Affinity)
        .map(|(index, group)| (group.id.as_str(), index as u32))
        .collect();
    let mut members: BTreeMap<u32, Vec<&Instance>> = BTreeMap::new();
    for instance in &fleet.instances {
        if let Some(group) = instance.group.as_deref().and_then(|group| hard.get(group)) {
            members.entry(*group).or_default().push(instance);
        }
    }
    members.retain(|_, members| members.len() > 1);
    let whole = |members: &[&Instance]| {
        let hosts: BTreeSet<&str> = members.iter().map(|i| i.host.as_str()).collect();
        hosts.len() == 1
            && members.iter().all(|i| {
                i.state == InstanceState::Active
                    && i.obstacles.is_empty()
                    && !matches!(i.choice, Some(OwnerChoice::Never | OwnerChoice::Stop | OwnerChoice::Cold))
            })
    };
    members.into_iter().map(|(group, members)| (group, Together { whole: whole(&members) })).collect()
}

/// What the policy's ladder and the owner's choice make of an instance.
pub(crate) fn classify(instance: &Instance, policy: &RebootPolicy, together: Option<&Together>) -> Outcome {
    let has = |rung: Rung| policy.drain.ladder.contains(&rung);
    match &instance.state {
        // What an earlier run stopped and could not start is to be started by this one.
        InstanceState::Off if instance.stopped => return Outcome::Stay(StayReason::Stopped),
        InstanceState::Off => return Outcome::Stay(StayReason::Off),
        _ if !policy.act.reboot && has(Rung::LeaveRunning) => return Outcome::Stay(StayReason::RunsOn),
        InstanceState::Busy { .. } => return Outcome::Blocked(Block::Busy),
        InstanceState::Error => return Outcome::Blocked(Block::Error),
        InstanceState::Active => {}
    }
    match instance.choice {
        Some(OwnerChoice::Never) => return Outcome::Blocked(Block::Never),
        Some(OwnerChoice::Stop) if has(Rung::Stop) => return Outcome::Stay(StayReason::Stopped),
        Some(OwnerChoice::Cold) if has(Rung::Cold) && together.is_none() => {
            return Outcome::Move(How::Cold);
        }
        Some(OwnerChoice::Stop | OwnerChoice::Cold) => return Outcome::Blocked(Block::NoRung),
        Some(OwnerChoice::Live | OwnerChoice::Notify) | None => {}
    }
    let free = instance.obstacles.iter().all(|obstacle| policy.drain.movable.contains(obstacle));
    let block = match together {
        _ if !free => Block::Obstacle,
        Some(_) if policy.drain.affinity_groups == AffinityGroups::Stay => Block::Affinity,
        Some(Together { whole: false }) => Block::AffinityPart,
        _ if has(Rung::Live) => return Outcome::Move(How::Live),
        _ => Block::Obstacle,
    };
    if instance.choice == Some(OwnerChoice::Live) {
        return Outcome::Blocked(block);
    }
    for rung in &policy.drain.ladder {
        match rung {
            // nova's checks of the group hold for cold migrations too.
            Rung::Cold if policy.drain.cold_without_consent && together.is_none() => {
                return Outcome::Move(How::Cold);
            }
            Rung::Stop if policy.drain.stop_without_consent => return Outcome::Stay(StayReason::Stopped),
            _ => {}
        }
    }
    Outcome::Blocked(block)
}

/// The rungs that are left for an instance when its move does not end in time. `from`: what its source
/// does with live migrations; `bound`: it is in a hard affinity group with others.
pub(crate) fn rest(
    instance: &Instance,
    policy: &RebootPolicy,
    how: How,
    from: Option<&MigrationSettings>,
    bound: bool,
) -> Vec<Rung> {
    let drain = &policy.drain;
    let silent = matches!(instance.choice, None | Some(OwnerChoice::Notify));
    let cold = instance.choice == Some(OwnerChoice::Cold) || (silent && drain.cold_without_consent);
    let stop = silent && drain.stop_without_consent;
    let begun = match how {
        How::Live => Rung::Live,
        How::Cold => Rung::Cold,
    };
    let after = drain.ladder.iter().skip_while(|rung| **rung != begun).skip(1);
    let kept = after.filter(|rung| match rung {
        Rung::PostCopy | Rung::AutoConverge => {
            how == How::Live && passed_over(**rung, instance, from).is_none()
        }
        Rung::ForceComplete => how == How::Live,
        Rung::Cold => cold && !bound,
        Rung::Stop => stop,
        Rung::Skip => true,
        Rung::LeaveRunning | Rung::Live => false,
    });
    kept.copied().collect()
}

/// The rungs that are left for the live migration of an instance that nobody knew when the plan was made. `from`:
/// what its source does with live migrations.
pub(crate) fn rest_of_newcomers(policy: &RebootPolicy, from: Option<&MigrationSettings>) -> Vec<Rung> {
    let after = policy.drain.ladder.iter().skip_while(|rung| **rung != Rung::Live).skip(1);
    let kept = after.filter(|rung| match rung {
        Rung::PostCopy => from.is_some_and(|settings| settings.post_copy),
        Rung::AutoConverge => from.is_some_and(MigrationSettings::slows_down),
        Rung::ForceComplete => true,
        Rung::LeaveRunning | Rung::Live | Rung::Cold | Rung::Stop | Rung::Skip => false,
    });
    kept.copied().collect()
}

/// Why a rung is passed over for a live migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PassedOver {
    /// The source's nova.conf was not read.
    Unknown,
    /// nova.conf does not permit it.
    NotPermitted,
    /// nova.conf permits post-copy, so that nova does not slow instances down.
    PostCopyInstead,
    /// The instance has persistent memory, which nova does not post-copy.
    PersistentMemory,
}

/// Why a rung is passed over for an instance that leaves a host with these settings; none where it is
/// not.
pub(crate) fn passed_over(
    rung: Rung,
    instance: &Instance,
    from: Option<&MigrationSettings>,
) -> Option<PassedOver> {
    let Some(settings) = from else {
        return matches!(rung, Rung::PostCopy | Rung::AutoConverge).then_some(PassedOver::Unknown);
    };
    match rung {
        Rung::PostCopy if !settings.post_copy => Some(PassedOver::NotPermitted),
        Rung::PostCopy if !settings.post_copies(instance) => Some(PassedOver::PersistentMemory),
        Rung::AutoConverge if settings.post_copy => Some(PassedOver::PostCopyInstead),
        Rung::AutoConverge if !settings.slows_down() => Some(PassedOver::NotPermitted),
        _ => None,
    }
}

/// Code, cause and action of a block.
pub(crate) fn explain(block: Block, instance: &Instance) -> (&'static str, String, String) {
    let who = if instance.name.is_empty() {
        instance.id.clone()
    } else {
        format!("{} ({})", instance.name, instance.id)
    };
    let consent = "have its owner set volutus:maintenance to cold or stop, or allow it for all with \
                   reboot.drain.cold_without_consent or stop_without_consent";
    match block {
        Block::Busy => {
            let what = match &instance.state {
                InstanceState::Busy { what } => what.as_str(),
                _ => "something",
            };
            ("instance-busy", format!("{what} is under way with instance {who}"), format!("Let it end, or confirm or revert it; then plan again. Instance {who}."))
        }
        Block::Error => (
            "instance-in-error",
            format!("nova has given up instance {who}, and whether something of it runs is not known"),
            format!("Look at instance {who}; reset its state or delete it."),
        ),
        Block::Never => (
            "owner-forbids",
            format!("the owner of instance {who} chose volutus:maintenance=never"),
            format!("Ask the owner of project and instance {who}, or leave the host as it is."),
        ),
        Block::Obstacle => {
            let words: Vec<&str> = instance.obstacles.iter().map(|obstacle| obstacle.words()).collect();
            let what = if words.is_empty() { "a ladder without `live`".to_owned() } else { words.join(" and ") };
            (
                "cannot-move-alive",
                format!("instance {who} has {what}, and there is no consent to stop it"),
                format!("For instance {who}: {consent}; or name the obstacle in reboot.drain.movable where it does not count here."),
            )
        }
        Block::NoRung => (
            "choice-not-on-ladder",
            format!("the owner of instance {who} chose what reboot.drain.ladder does not have, or what its server group forbids"),
            "Add the rung to reboot.drain.ladder, or ask the owner.".to_owned(),
        ),
        Block::Affinity => (
            "affinity-group",
            format!("instance {who} is in a hard affinity group with others, and nova refuses to move its members one by one"),
            format!(
                "Set disable_group_policy_check_upcall on the computes and reboot.drain.affinity_groups = \"together\"; or for instance {who}: {consent}."
            ),
        ),
        Block::AffinityPart => (
            "affinity-group-apart",
            format!("the hard affinity group of instance {who} can only be moved whole, and a member is elsewhere or cannot be moved"),
            "Bring the members of the group into one state on one host, or take the instance out of the group by building it anew.".to_owned(),
        ),
    }
}
