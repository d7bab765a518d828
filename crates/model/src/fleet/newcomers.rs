//! Newcomers: instances that come to a host after its plan was made. What the policy wants done with them,
//! where the plan lets them go, and what a driver needs to move them.

use serde::{Deserialize, Serialize};

use super::Obstacle;
use super::migration::{Turns, live_limit_s};
use super::policy::Rung;
use crate::name::HostName;

/// Destinations that a plan names for the newcomers of one host, at the most.
pub const DESTINATIONS_MAX: usize = 8;

/// So many times in a row a host may fail for newcomers alone; each time a new plan moves them. After
/// that it has failed.
pub const TRIES_MAX: u32 = 3;

/// The least time that is given to a live migration from its first byte on, in seconds.
pub const MOVE_MIN_S: u64 = 20;

/// What becomes of newcomers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Newcomers {
    /// They are planned in at the start of the run, and in it live-migrated to where the plan lets them.
    #[default]
    Move,
    /// They are not touched: before the run they block it, in it their host fails.
    Halt,
}

impl Newcomers {
    /// Whether they are moved. Plans that are older than the choice have it so.
    #[must_use]
    pub fn is_move(&self) -> bool {
        *self == Self::Move
    }
}

/// Where the newcomers of one host go, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewcomerWay {
    /// Hosts that are done or exempt when this one is disabled, in the order in which they are tried;
    /// [`DESTINATIONS_MAX`] at the most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<NewcomerPlace>,
    /// The rungs that are left for a live migration that does not converge, as far as the host permits them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub then: Vec<Rung>,
}

impl NewcomerWay {
    /// Whether newcomers can go nowhere.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.to.is_empty()
    }
}

/// One host that newcomers may go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewcomerPlace {
    /// The host.
    pub host: HostName,
    /// So many moves at once onto it, of whatever instances.
    pub per_destination: u32,
}

/// The order to move the newcomers of one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewcomerMoves {
    /// The host that they come to.
    pub host: HostName,
    /// Instances that the plan names on the host. They are no newcomers, wherever they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<String>,
    /// Where they go, and what is left for a move that does not converge.
    #[serde(flatten)]
    pub way: NewcomerWay,
    /// So many at once off the host.
    pub parallel_max: u32,
    /// Moves at once in the whole cloud, of whatever instances; 0 for no limit.
    #[serde(default)]
    pub all_max: u32,
    /// Seconds of a move that no byte takes.
    pub overhead_s: u32,
    /// Seconds that a move may take for each GiB of memory and of disks that travel.
    pub live_timeout_s_per_gib: u32,
    /// Whether disks are on shared storage, so that they do not travel.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared_disks: bool,
    /// Obstacles to live migration that do not count in this cloud.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub movable: Vec<Obstacle>,
    /// Seconds that all of it may take at the least; more where the step has more.
    pub limit_s: u32,
}

impl NewcomerMoves {
    /// When what is done about a migration has its turn. `disk_bytes`: of disks that nova keeps.
    #[must_use]
    pub fn turns(&self, memory_mb: u64, disk_bytes: u64, has_persistent_memory: bool) -> Turns {
        let disks = if self.shared_disks { 0 } else { disk_bytes };
        let limit = live_limit_s(memory_mb, disks, self.overhead_s, self.live_timeout_s_per_gib);
        // nova pauses an instance with persistent memory instead of switching it.
        let kept = |rung: &Rung| *rung != Rung::PostCopy || !has_persistent_memory;
        let then: Vec<Rung> = self.way.then.iter().copied().filter(kept).collect();
        Turns::of(&then, limit.max(MOVE_MIN_S))
    }
}
