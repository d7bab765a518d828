//! A plan: what is to be done, in full, before anything is done.
//!
//! A plan is a list of [`Stage`]s with `after` edges between them; a stage is a set of
//! [`Step`]s with `requires` edges between steps of the same stage; a step is a short sequence
//! of [`Action`]s on one subject. A step starts when every stage that its stage comes `after`
//! is complete, every step that it `requires` is complete, and fewer than the stage's
//! `parallel_max` steps of the stage (and the policy's `parallel_steps_max` of the plan) run.
//! A plan leaves no other choice to execution.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use crate::action::{Action, Anchor, InstanceMove, Proof, Refresh, SchemaPhase, Seat, SettledReplica};
use crate::fleet::NewcomerMoves;
use crate::fleet::plan::Work;
use crate::mitigation::{ExposedPackage, Mitigation};
use crate::name::{HostName, PackageVersion, PlanId, RunId, Series, ServiceName, StageId, StepId};
use crate::patch::{PatchName, VersionChange};
use crate::policy::Policy;

/// The format version of plans that this Volutus writes.
pub const FORMAT: u32 = 1;

/// An immutable plan. Its id is the hash of all the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// [`Plan::compute_id`] of this plan.
    pub id: PlanId,
    /// Format version; see [`FORMAT`].
    pub format: u32,
    /// Whether it leads forward or back. Absent in the stored form means forward.
    #[serde(default, skip_serializing_if = "PlanKind::is_upgrade")]
    pub kind: PlanKind,
    /// The compute hosts that an upgrade empties, upgrades while they are empty, and restarts. Absent where
    /// it leaves instances where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drains: Option<Drains>,
    /// The cloud's name.
    pub cloud: HostName,
    /// The plan that this one goes on from.
    pub parent: Option<PlanId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Digest of the cloud description that it was made for.
    pub inventory: String,
    /// Digest of the observed state that it was made for; see [`Plan::basis_of`].
    pub basis: String,
    /// The series that the cloud comes from.
    pub from: Series,
    /// The series that it goes to.
    pub to: Series,
    /// The versions that each service is to have.
    pub versions: BTreeMap<ServiceName, PackageVersion>,
    /// The policy that it was made under.
    pub policy: Policy,
    /// The stages, in an order in which they could be done one after another.
    pub stages: Vec<Stage>,
    /// Per service: until when its way back is open, and why.
    pub rollback: Vec<RollbackHorizon>,
    /// The first stage from which on there is no way back without a restore.
    pub point_of_no_return: Option<StageId>,
}

/// Whether a plan leads forward, or takes an earlier one back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum PlanKind {
    /// To a newer series.
    #[default]
    Upgrade,
    /// Back to the series that an earlier plan came from: `from` is the newer series then, and
    /// `to` the older one.
    Rollback {
        /// The plan that is taken back.
        of: PlanId,
        /// The run of that plan.
        run: RunId,
    },
    /// Hosts are emptied and rebooted; `from` and `to` are the one series that the cloud runs.
    Reboot {
        /// The reboot plan that it carries out; see [`crate::fleet::RebootPlan`].
        of: PlanId,
        /// Whether that one reboots hosts, or empties or gives back a single one.
        #[serde(default, skip_serializing_if = "Work::is_reboot")]
        work: Work,
    },
    /// Vulnerable versions are replaced within the series; `from` and `to` are that series. Only the
    /// daemons that run them are touched.
    Patch {
        /// The vulnerability that it closes.
        vulnerability: String,
        /// The patched release that it switches to.
        release: PatchName,
        /// The packages that it replaces.
        changes: Vec<VersionChange>,
    },
    /// The way to a vulnerability is closed, or opened again, by a command on the hosts that run vulnerable
    /// versions, which stay; `from` and `to` are the one series.
    Mitigation {
        /// The vulnerability.
        vulnerability: String,
        /// The versions whose daemons are concerned.
        exposed: Vec<ExposedPackage>,
        /// What is done.
        mitigation: Mitigation,
        /// Whether it is taken back.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        undo: bool,
    },
}

impl PlanKind {
    /// Whether the plan leads to a newer series.
    #[must_use]
    pub fn is_upgrade(&self) -> bool {
        *self == Self::Upgrade
    }

    /// Whether the plan leads back to an older series.
    #[must_use]
    pub fn is_rollback(&self) -> bool {
        matches!(self, Self::Rollback { .. })
    }

    /// What is done with hosts, where the plan carries out a reboot plan.
    #[must_use]
    pub fn work(&self) -> Option<Work> {
        match self {
            Self::Reboot { work, .. } => Some(*work),
            Self::Upgrade | Self::Rollback { .. } | Self::Patch { .. } | Self::Mitigation { .. } => None,
        }
    }

    /// Whether the plan patches within a series.
    #[must_use]
    pub fn is_patch(&self) -> bool {
        matches!(self, Self::Patch { .. })
    }

    /// Whether the plan mitigates a vulnerability, or takes a mitigation back.
    #[must_use]
    pub fn is_mitigation(&self) -> bool {
        matches!(self, Self::Mitigation { .. })
    }

    /// The run that is taken back, where one is.
    #[must_use]
    pub fn taken_back(&self) -> Option<&RunId> {
        match self {
            Self::Upgrade | Self::Reboot { .. } | Self::Patch { .. } | Self::Mitigation { .. } => None,
            Self::Rollback { run, .. } => Some(run),
        }
    }
}

/// What an upgrade does with compute hosts beyond their daemons' code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drains {
    /// The plan of the reboot that is a part of it; see [`crate::fleet::RebootPlan`].
    pub of: PlanId,
    /// Hosts that failed in the run that this plan goes on from: they stay on the old release, and nothing that
    /// needs every compute upgraded may be done before they are upgraded too.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub behind: BTreeSet<HostName>,
}

/// A part of a plan that an operator knows by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Its id, for example `roll-nova-api`.
    pub id: StageId,
    /// The phase of the upgrade's life that it belongs to.
    pub phase: Phase,
    /// What it does, in a few words.
    pub title: String,
    /// Stages that must be complete before.
    pub after: Vec<StageId>,
    /// Steps of this stage that may run at the same time.
    pub parallel_max: u32,
    /// Whether it waits for the operator's `finalize`.
    pub held: bool,
    /// Its steps.
    pub steps: Vec<Step>,
}

/// The phases of the life of an upgrade, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Ordinary work is watched before anything is touched.
    Baseline,
    /// New code beside the old on every host.
    Stage,
    /// `*-status upgrade check` with the new code.
    UpgradeCheck,
    /// Schemas are widened; old code keeps running.
    Expand,
    /// Anchors are set (before the roll), or released (at the end of a rollback).
    Anchor,
    /// One daemon of each API's new code beside the old ones, out of the load balancer: what it
    /// answers is compared.
    Shadow,
    /// Control plane daemons are replaced.
    Roll,
    /// The first compute, proved by an instance of its own.
    Canary,
    /// The other computes and agents.
    Waves,
    /// Nothing is done; the cloud is watched. The way back is open.
    Soak,
    /// Client gates, at whatever moment but after finalize, and the API contract asked again. Nothing
    /// is changed by the run itself.
    Gate,
    /// Unpin, online data migrations, contract. After it the way back is a restore.
    Finalize,
}

/// One step: the smallest thing that an operator follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its id, for example `roll/nova-api@ctl1`.
    pub id: StepId,
    /// What it does, in a few words.
    pub title: String,
    /// Steps of the same stage that must be complete before.
    pub requires: Vec<StepId>,
    /// The actions, done one after another.
    pub actions: Vec<Action>,
    /// What gives back what the step holds (a drained server, a disabled compute) when the run
    /// is aborted in the middle of it.
    pub give_back: Vec<Action>,
    /// What users notice.
    pub impact: Impact,
    /// Seconds that it is expected to take.
    pub expected_s: u32,
    /// Seconds after which one action of it is given up.
    pub action_timeout_s: u32,
}

/// What users notice of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Impact {
    /// How much.
    pub level: ImpactLevel,
    /// Of which service; `None` where no service is touched.
    pub service: Option<ServiceName>,
    /// Why, in a few words.
    pub why: String,
}

/// How much users notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImpactLevel {
    /// Nothing.
    None,
    /// Slower answers or less capacity; every request succeeds.
    Minor,
    /// Requests fail or wait.
    Major,
}

/// The class of a hop's schema changes for one service, from static analysis of its
/// migrations or from a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SchemaClass {
    /// Nothing changes.
    None,
    /// Only additions: old code lives with them.
    CodeOnly,
    /// Raw SQL, data, types or constraints: a person has to look.
    Review,
    /// Something that old code needs goes away: the way back is a restore.
    Restore,
}

/// Until when the way back of a service is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackHorizon {
    /// The service.
    pub service: ServiceName,
    /// The class of its schema changes in this hop.
    pub class: SchemaClass,
    /// The stage before which old code can be put back without loss; `None` where it can be
    /// even at the end.
    pub until: Option<StageId>,
    /// Why, in a sentence.
    pub why: String,
}

impl Plan {
    /// The hash of everything in the plan but its id, in 32 hexadecimal digits.
    #[must_use]
    pub fn compute_id(&self) -> PlanId {
        #[derive(Serialize)]
        struct Content<'a> {
            format: u32,
            // Left out of plans that lead forward, so that their ids are what they always were.
            #[serde(skip_serializing_if = "PlanKind::is_upgrade")]
            kind: &'a PlanKind,
            // Likewise of plans that move no instances.
            #[serde(skip_serializing_if = "Option::is_none")]
            drains: &'a Option<Drains>,
            cloud: &'a HostName,
            parent: &'a Option<PlanId>,
            created_at: &'a Timestamp,
            inventory: &'a str,
            basis: &'a str,
            from: Series,
            to: Series,
            versions: &'a BTreeMap<ServiceName, PackageVersion>,
            policy: &'a Policy,
            stages: &'a [Stage],
            rollback: &'a [RollbackHorizon],
            point_of_no_return: &'a Option<StageId>,
        }
        let Self {
            id: _,
            format,
            kind,
            drains,
            cloud,
            parent,
            created_at,
            inventory,
            basis,
            from,
            to,
            versions,
            policy,
            stages,
            rollback,
            point_of_no_return,
        } = self;
        let content = Content {
            format: *format,
            kind,
            drains,
            cloud,
            parent,
            created_at,
            inventory,
            basis,
            from: *from,
            to: *to,
            versions,
            policy,
            stages,
            rollback,
            point_of_no_return,
        };
        let mut hasher = blake3::Hasher::new();
        serde_json::to_writer(&mut hasher, &content)
            .expect("a plan has only text keys, and a hasher takes every byte");
        PlanId::new(&hasher.finalize().to_hex()[..32]).expect("hexadecimal digits make a name")
    }

    /// The digest of what a plan is made upon: what runs where, on which schemas. A run refuses
    /// to start when the cloud no longer looks like it.
    #[must_use]
    pub fn basis_of(observation: &crate::Observation) -> String {
        let mut hasher = blake3::Hasher::new();
        for (daemon, fact) in &observation.daemons {
            let version = fact.value().and_then(|seen| seen.version.value());
            let text = version.map_or("unseen", PackageVersion::as_str);
            hasher.update(format!("{daemon}={text}\n").as_bytes());
        }
        for (service, fact) in &observation.schemas {
            hasher.update(format!("{service}={:?}\n", fact.value()).as_bytes());
        }
        hasher.finalize().to_hex()[..32].to_owned()
    }

    /// The plan of a reboot whose hosts it empties: that it carries out, or that is a part of it.
    #[must_use]
    pub fn reboot_plan(&self) -> Option<&PlanId> {
        match (&self.kind, &self.drains) {
            (PlanKind::Reboot { of, .. }, _) => Some(of),
            (_, drains) => drains.as_ref().map(|drains| &drains.of),
        }
    }

    /// Whether compute hosts are emptied, restarted and given back.
    #[must_use]
    pub fn restarts_hosts(&self) -> bool {
        self.kind.work() == Some(Work::Reboot) || self.drains.is_some()
    }

    /// Whether compute hosts stay on the old release, so that it cannot be finalized.
    #[must_use]
    pub fn leaves_hosts_behind(&self) -> bool {
        self.drains.as_ref().is_some_and(|drains| !drains.behind.is_empty())
    }

    /// Seconds after which a rolled cloud is finalized by the policy; `None` where nobody but the operator may,
    /// or nobody at all.
    #[must_use]
    pub fn finalize_after_s(&self) -> Option<u32> {
        self.policy.finalize_after_s.filter(|_| !self.leaves_hosts_behind())
    }

    /// All steps, in the order of the stages.
    pub fn steps(&self) -> impl Iterator<Item = (&Stage, &Step)> {
        self.stages.iter().flat_map(|stage| stage.steps.iter().map(move |step| (stage, step)))
    }

    /// The step of that id, with its stage.
    #[must_use]
    pub fn step(&self, id: &StepId) -> Option<(&Stage, &Step)> {
        self.steps().find(|(_, step)| step.id == *id)
    }
}

impl Step {
    /// The compute host that it takes out of service, empties, and gives back when work on it is done.
    #[must_use]
    pub fn empties(&self) -> Option<&HostName> {
        self.actions.iter().find_map(|action| match action {
            Action::MoveInstances { host, .. }
            | Action::MoveNewcomers(NewcomerMoves { host, .. })
            | Action::ProveEmpty { host, .. }
            | Action::RebootHost { host, .. }
            | Action::RunCommand { host, .. } => {
                let disables =
                    |a: &Action| matches!(a, Action::DisableCompute { host: on, .. } if on == host);
                self.actions.iter().any(disables).then_some(host)
            }
            _ => None,
        })
    }

    /// Whether a failure at this action leaves a host that was acted upon, and not merely emptied.
    #[must_use]
    pub fn is_acted_upon(&self, failed: u32) -> bool {
        let acts = |action: &Action| {
            matches!(
                action,
                Action::RebootHost { .. } | Action::RunCommand { .. } | Action::SwitchDaemon { .. }
            )
        };
        self.actions.iter().take(failed as usize + 1).any(acts)
    }

    /// Whether an action of [`Step::give_back`] is to be done after the step failed at the action `failed`.
    /// `aside`: its host is set aside, and keeps everything but what a hook has to end in any case. A hook
    /// ends what it began, and once: not where the step failed before it began, or after it ended.
    #[must_use]
    pub fn gives_back(&self, action: &Action, failed: u32, aside: bool) -> bool {
        let Action::RunHook(after) = action else { return !aside };
        let place = |is: &dyn Fn(&Action) -> bool| self.actions.iter().position(is);
        let begins = place(&|one| matches!(one, Action::RunHook(before) if before.begins(after)));
        let ends = place(&|one| one == action);
        let begun = begins.map_or_else(|| self.is_acted_upon(failed), |at| at <= failed as usize);
        begun && ends.is_none_or(|at| at >= failed as usize)
    }
}
