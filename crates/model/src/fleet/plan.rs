//! The plan of a reboot of a fleet: which host is emptied when, and which instance goes where.
//!
//! Times are milliseconds from the start of the run, as expected; a run goes by order and
//! conditions, not by the clock.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::finding::Finding;
use crate::name::{HostName, PlanId, Series};

use super::duties::Duties;
use super::newcomers::NewcomerWay;
use super::policy::{RebootPolicy, Rung};
use super::selection::Selection;

/// The format version of reboot plans that this Volutus writes.
pub const FORMAT: u32 = 1;

/// An immutable plan. Its id is the hash of all the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebootPlan {
    /// [`RebootPlan::compute_id`] of this plan.
    pub id: PlanId,
    /// What the id is the hash of.
    pub content: Content,
}

/// Everything of a plan but its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Format version; see [`FORMAT`].
    pub format: u32,
    /// The cloud's name.
    pub cloud: HostName,
    /// When it was made.
    pub created_at: Timestamp,
    /// [`super::Fleet::digest`] of the fleet that it was made for.
    pub fleet: String,
    /// What is done with the hosts that are meant. Absent in the stored form means a reboot.
    #[serde(default, skip_serializing_if = "Work::is_reboot")]
    pub work: Work,
    /// The series that every host is upgraded to while it is empty, where the plan is a part of an upgrade. It
    /// is then carried out by that upgrade's plan, and never by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<Series>,
    /// The hosts that were meant.
    #[serde(default, skip_serializing_if = "Selection::is_all")]
    pub selection: Selection,
    /// The policy that it was made under.
    pub policy: RebootPolicy,
    /// The hosts that are rebooted, by the time at which they are disabled.
    pub drains: Vec<HostDrain>,
    /// The moves, by the time at which they begin.
    pub moves: Vec<Move>,
    /// The instances that stay on a host that is rebooted.
    pub stays: Vec<Stay>,
    /// Who owns the instances that move, are stopped or are undecided, by their ids, where it is known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub owners: BTreeMap<String, Owner>,
    /// Instances that keep their host from being emptied, and would not if their owners let them be stopped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undecided: Vec<String>,
    /// The hosts that cannot be emptied, and are left as they are.
    pub left: Vec<Left>,
    /// Hosts of the control plane that are restarted behind the others, one after another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub control: Vec<HostName>,
    /// What neutron's own agents have to do on hosts of the plan, and is moved before they restart.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub duties: BTreeMap<HostName, Duties>,
    /// The instances on the hosts that were meant, by what can be done with them.
    #[serde(default)]
    pub classes: Vec<InstanceClass>,
    /// What else is to be said before the start.
    pub findings: Vec<Finding>,
    /// What comes of it.
    pub figures: Figures,
}

/// What is done with the hosts that are meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// They are emptied, rebooted and given back.
    #[default]
    Reboot,
    /// One host is emptied, and stays disabled for whoever wants to work on it.
    Drain,
    /// One host is proved well and given back.
    Undrain,
}

impl Work {
    /// Whether hosts are rebooted.
    #[must_use]
    pub fn is_reboot(&self) -> bool {
        *self == Self::Reboot
    }
}

/// One host: disabled, emptied, rebooted, given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDrain {
    /// The host.
    pub host: HostName,
    /// When it is disabled for scheduling.
    pub disable_ms: u64,
    /// When nothing that runs is on it any more.
    pub empty_ms: u64,
    /// When it is proved well and enabled again.
    pub back_ms: u64,
    /// 1 where it waits for no other host; else one more than the latest host that it is
    /// emptied onto.
    pub wave: u32,
    /// Instances that are moved off.
    pub moves: u32,
    /// Instances that move off it at once.
    #[serde(default)]
    pub per_source: u32,
    /// Hosts of a phase begin when those of all earlier phases are back: canaries are phase 0, and
    /// are watched for `canary_soak_s` before phase 1; zones that are done one after another have
    /// a phase each.
    #[serde(default)]
    pub phase: u32,
    /// Hosts that have to be back before this one begins, because instances move from it to them, or
    /// empty, because instances move from them to it. Limits apply besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<HostName>,
    /// Where instances go that come to the host after the plan was made.
    #[serde(default, skip_serializing_if = "NewcomerWay::is_none")]
    pub newcomers: NewcomerWay,
}

/// One move of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The instance.
    pub instance: String,
    /// From where.
    pub from: HostName,
    /// To where.
    pub to: HostName,
    /// When it begins. From then on both hosts hold the instance.
    pub start_ms: u64,
    /// When it has ended.
    pub end_ms: u64,
    /// How.
    pub how: How,
    /// Whether the destination is yet to be rebooted, so that the instance has to move again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moves_again: bool,
    /// Cells of the destination, in the order of the instance's pins; empty where they are left
    /// to nova.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cells: Vec<u32>,
    /// Instances that move to that host at once.
    #[serde(default)]
    pub per_destination: u32,
    /// Seconds that it may take by the policy; see [`super::migration::Turns`].
    #[serde(default)]
    pub timeout_s: u64,
    /// The rungs that are left for it, in their order; consent, and what its source permits, are looked
    /// at already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub then: Vec<Rung>,
}

/// Instances that are alike in what can be done with them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstanceClass {
    /// What they have in common, in words.
    pub name: String,
    /// What the policy's ladder and their owners' choices make of them, in words.
    pub outcome: String,
    /// How many they are.
    pub instances: u32,
    /// MiB of memory of all of them.
    pub memory_mb: u64,
    /// Bytes of their disks that travel with them.
    pub local_disk_bytes: u64,
}

/// How an instance is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Alive.
    Live,
    /// Stopped, moved, started.
    Cold,
}

/// An instance that stays on its host while the host is rebooted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stay {
    /// The instance.
    pub instance: String,
    /// The host.
    pub host: HostName,
    /// Why it may.
    pub why: StayReason,
}

/// Why an instance stays on a host that is rebooted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StayReason {
    /// It is off already.
    Off,
    /// It is stopped with consent, and started afterwards.
    Stopped,
    /// The host's kernel is not restarted, so it runs on.
    RunsOn,
}

/// Whose an instance is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The id of the project.
    pub project: String,
    /// What the project calls the instance.
    pub name: String,
}

/// A host that cannot be emptied.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Left {
    /// The host.
    pub host: HostName,
    /// A stable code, `kebab-case`.
    pub code: String,
    /// Why.
    pub cause: String,
    /// What would let it be emptied.
    pub action: String,
}

/// What a plan comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Hosts that are rebooted.
    pub hosts: u32,
    /// Instances that are moved, each counted once.
    pub instances_moved: u32,
    /// Moves.
    pub moves: u32,
    /// Instances that move twice.
    pub second_moves: u32,
    /// The longest chain of hosts of which each waits for the one before.
    pub waves: u32,
    /// From the start until the last host is back, in milliseconds.
    pub makespan_ms: u64,
    /// Lower bounds of it.
    pub bounds: Bounds,
    /// Per zone and resource class: the least that was free on hosts in service.
    pub headroom: Vec<Headroom>,
    /// Soft server groups whose wish is fulfilled less at the end than at the beginning.
    pub soft_groups_worse: u32,
}

impl Figures {
    /// The makespan as a multiple of the greatest lower bound; 1 where there is nothing to do.
    #[must_use]
    pub fn gap(&self) -> f64 {
        let bound = self.bounds.greatest_ms();
        if bound == 0 { 1.0 } else { self.makespan_ms as f64 / bound as f64 }
    }

    /// Moves per moved instance; 1 where nothing is moved.
    #[must_use]
    pub fn moves_per_instance(&self) -> f64 {
        if self.instances_moved == 0 { 1.0 } else { f64::from(self.moves) / f64::from(self.instances_moved) }
    }
}

/// Times that no schedule of these hosts under this policy can beat, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// The host that takes longest, by itself.
    pub longest_host_ms: u64,
    /// The time that hosts are out of service, shared by as many as may be at once.
    pub hosts_at_once_ms: u64,
    /// The time that moves take, shared by as many as may be at once.
    pub moves_at_once_ms: u64,
    /// The growth of empty capacity: a host can only be emptied onto what has been rebooted.
    pub growth_ms: u64,
}

impl Bounds {
    /// The one that counts.
    #[must_use]
    pub fn greatest_ms(&self) -> u64 {
        self.longest_host_ms.max(self.hosts_at_once_ms).max(self.moves_at_once_ms).max(self.growth_ms)
    }
}

/// The least that was free in a zone at any time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Headroom {
    /// The zone; empty for hosts without one.
    pub zone: String,
    /// The resource class.
    pub class: String,
    /// Free on hosts in service, at the least.
    pub least: u64,
    /// Of so much in all.
    pub of: u64,
    /// When it was least.
    pub at_ms: u64,
}

impl RebootPlan {
    /// Gives a plan its id.
    #[must_use]
    pub fn new(content: Content) -> Self {
        Self { id: Self::compute_id(&content), content }
    }

    /// The hash of everything in the plan but its id, in 32 hexadecimal digits.
    ///
    /// # Panics
    /// Never: the content has only text keys.
    #[must_use]
    pub fn compute_id(content: &Content) -> PlanId {
        let mut hasher = blake3::Hasher::new();
        serde_json::to_writer(&mut hasher, content).expect("a reboot plan has only text keys");
        PlanId::new(&hasher.finalize().to_hex()[..32]).expect("hexadecimal digits are a valid id")
    }
}
