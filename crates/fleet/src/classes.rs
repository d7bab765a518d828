//! Instances by what can be done with them, for those who are to approve a plan.

use std::collections::BTreeMap;

use volutus_model::fleet::plan::{How, InstanceClass, StayReason};
use volutus_model::fleet::{Instance, InstanceState, OwnerChoice};

use crate::index::{Index, NONE, Role};
use crate::ladder::{Block, Outcome};
use crate::timing;

/// The classes of the instances on the hosts that are meant.
pub(crate) fn classes(index: &Index<'_>) -> Vec<InstanceClass> {
    let mut classes: BTreeMap<(String, &str), InstanceClass> = BTreeMap::new();
    for (at, facts) in index.instances.iter().enumerate() {
        if index.hosts[facts.host as usize].role != Role::Reboot {
            continue;
        }
        let instance = &index.fleet.instances[at];
        let disks = timing::disk_bytes(instance, index.policy);
        let name = name(instance, disks, facts.group != NONE && index.is_bound(at as u32));
        let outcome = outcome(facts.outcome);
        let class = classes.entry((name, outcome)).or_insert_with_key(|(name, outcome)| InstanceClass {
            name: name.clone(),
            outcome: (*outcome).to_owned(),
            instances: 0,
            memory_mb: 0,
            local_disk_bytes: 0,
        });
        class.instances += 1;
        class.memory_mb += instance.memory_mb();
        class.local_disk_bytes += disks;
    }
    classes.into_values().collect()
}

fn name(instance: &Instance, disks: u64, bound: bool) -> String {
    match &instance.state {
        InstanceState::Off => return "off".to_owned(),
        InstanceState::Busy { what } => return format!("busy: {what}"),
        InstanceState::Error => return "in error".to_owned(),
        InstanceState::Active => {}
    }
    let mut words: Vec<&str> = instance.obstacles.iter().map(|obstacle| obstacle.words()).collect();
    if !instance.pins.is_empty() {
        words.push("pinned processors");
    }
    if bound {
        words.push("a hard affinity group");
    }
    let choice = match instance.choice {
        None => "",
        Some(OwnerChoice::Live) => "; its owner chose live",
        Some(OwnerChoice::Cold) => "; its owner chose cold",
        Some(OwnerChoice::Stop) => "; its owner chose stop",
        Some(OwnerChoice::Notify) => "; its owner is to be told",
        Some(OwnerChoice::Never) => "; its owner chose never",
    };
    let disks = if disks > 0 { "local disks" } else { "no local disks" };
    let with = if words.is_empty() { String::new() } else { format!(", with {}", words.join(" and ")) };
    format!("running, {disks}{with}{choice}")
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Move(How::Live) => "live-migrated",
        Outcome::Move(How::Cold) => "stopped, moved and started",
        Outcome::Stay(StayReason::Off) => "stays; a reboot does not harm it",
        Outcome::Stay(StayReason::Stopped) => "stopped, left and started after the reboot",
        Outcome::Stay(StayReason::RunsOn) => "runs on, because the host is not rebooted",
        Outcome::Blocked(Block::Busy) => "its host is left until that ends",
        Outcome::Blocked(Block::Error) => "its host is left until somebody looks",
        Outcome::Blocked(Block::Never) => "its host is left, as its owner wishes",
        Outcome::Blocked(Block::NoRung) => "its host is left: the ladder lacks what its owner chose",
        Outcome::Blocked(Block::Obstacle) => {
            "its host is left: it cannot be moved alive, and nobody consents to more"
        }
        Outcome::Blocked(Block::Affinity | Block::AffinityPart) => {
            "its host is left: nova does not move its group"
        }
    }
}
