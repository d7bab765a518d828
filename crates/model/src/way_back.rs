//! Whether what a run did can still be taken back without loss, by its plan and its journal alone.

use crate::name::{HostName, Series, ServiceName};
use crate::plan::{Action, Plan, SchemaClass, SchemaPhase};
use crate::run::{RunState, StepStatus};

/// What closed the way back of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WayBackClosed {
    /// The run is itself a way back. To go forward again is another upgrade.
    IsRollback {
        /// The series that such an upgrade leads to.
        newer: Series,
    },
    /// The run closes a vulnerability.
    IsPatch,
    /// The run mitigates a vulnerability, or takes a mitigation back.
    IsMitigation,
    /// The operator, or the policy, allowed the stages that take the way back.
    Finalized,
    /// An expand began that takes away what old code needs ([`SchemaClass::Restore`]).
    Widened {
        /// The service.
        service: ServiceName,
        /// The copy from just before, where the plan took one.
        copy: Option<Copy>,
    },
}

/// A copy of databases that a run took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The database host.
    pub host: HostName,
    /// The directory on that host.
    pub directory: String,
    /// The databases.
    pub databases: Vec<String>,
}

impl WayBackClosed {
    /// What closed the way back of a run of `plan` that stands at `state`; `None` while it is open.
    #[must_use]
    pub fn of(plan: &Plan, state: &RunState) -> Option<Self> {
        if plan.kind.is_patch() {
            return Some(Self::IsPatch);
        }
        if plan.kind.is_mitigation() {
            return Some(Self::IsMitigation);
        }
        if !plan.kind.is_upgrade() {
            return Some(Self::IsRollback { newer: plan.from });
        }
        if state.finalize_allowed {
            return Some(Self::Finalized);
        }
        plan.rollback
            .iter()
            .filter(|horizon| horizon.class == SchemaClass::Restore)
            .map(|horizon| &horizon.service)
            .find(|service| has_widened(plan, state, service))
            .map(|service| Self::Widened { service: service.clone(), copy: copy_of(plan, service) })
    }
}

impl std::fmt::Display for WayBackClosed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::IsRollback { newer } => {
                write!(f, "it is a rollback itself; to go to {newer} again, make a plan for it")
            }
            Self::IsPatch => f.write_str(
                "it is a patch, and the way back would open the vulnerability again. What was not switched runs what \
                 it ran; a daemon that does not do with the patched release is put back by its link and a restart",
            ),
            Self::IsMitigation => f.write_str(
                "it replaced nothing; what the command of a mitigation did is taken back by the command under \
                 `undo` in the policy",
            ),
            Self::Finalized => f.write_str(
                "finalize was allowed, and what it does cannot be undone: data is converted, and what \
                 only old code needs is removed. The way back is now restoring the databases from \
                 a copy (a snapshot of the run, once it has ended, or your backups), which loses what was \
                 created since",
            ),
            Self::Widened { service, copy } => {
                write!(f, "expanding {service}'s schema took away something that its old code needs. ")?;
                match copy {
                    Some(Copy { host, directory, databases }) => write!(
                        f,
                        "A copy of {} from just before is on {host} in {directory}. ",
                        databases.join(", ")
                    )?,
                    None => f.write_str("The run took no copy of it before. ")?,
                }
                f.write_str(
                    "The way back is restoring a copy, which loses what was created since; going on \
                     forward loses nothing",
                )
            }
        }
    }
}

fn has_widened(plan: &Plan, state: &RunState, service: &ServiceName) -> bool {
    let widens = |action: &Action| matches!(action, Action::MigrateSchema { service: of, phase: SchemaPhase::Expand, .. } if of == service);
    plan.steps()
        .any(|(_, step)| step.actions.iter().any(widens) && state.step(&step.id) != StepStatus::Pending)
}

fn copy_of(plan: &Plan, service: &ServiceName) -> Option<Copy> {
    plan.steps().flat_map(|(_, step)| &step.actions).find_map(|action| match action {
        Action::SnapshotDatabase { service: of, host, directory, databases, .. } if of == service => {
            Some(Copy { host: host.clone(), directory: directory.clone(), databases: databases.clone() })
        }
        _ => None,
    })
}
