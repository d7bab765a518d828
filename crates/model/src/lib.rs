//! The nouns of Volutus, and nothing else.
//!
//! Every other crate speaks in these types. There is no I/O, no clock, no randomness and no
//! async here: a value of this crate is what somebody declared ([`inventory`], [`policy`]),
//! what was seen ([`observation`]), what is to be done ([`plan`]), what happened ([`event`]) or
//! how it turned out ([`verdict`]). All maps are ordered, so that the same value always
//! serialises to the same bytes.

mod action;
pub mod api;
pub mod contract;
pub mod event;
pub mod finding;
pub mod fleet;
pub mod gate;
pub mod inventory;
pub mod lock;
pub mod mitigation;
pub mod name;
pub mod observation;
pub mod outcome;
pub mod patch;
pub mod plan;
pub mod policy;
pub mod probe;
pub mod run;
pub mod verdict;
pub mod way_back;

pub use api::{Advertising, ApiPolicy};
pub use contract::{AskedAgain, ContractPolicy, ContractSeen, Gate};
pub use event::{Actor, Event, JournalEntry, ProbeBreach};
pub use finding::{Finding, Severity};
pub use gate::{ClientGate, GateFailure, GateSeen, Moment};
pub use inventory::{DaemonDeclaration, HostDeclaration, Inventory};
pub use lock::{LockName, LockedPackage, LockedRelease, Sha256};
pub use mitigation::{ExposedPackage, Mitigation, MitigationMethod};
pub use name::{
    AttemptId, BackendName, DaemonId, DaemonKind, HostName, PackageVersion, PlanId, RunId, Series,
    ServiceName, StageId, StepId,
};
pub use observation::{Fact, Observation};
pub use outcome::{Evidence, Failure, FailureClass, Outcome};
pub use patch::{PatchName, PatchedRelease, VersionChange};
pub use plan::{Action, Plan, PlanKind, Stage, Step};
pub use policy::{OnFailure, Policy};
pub use run::{RunState, RunStatus, StepStatus};
pub use way_back::WayBackClosed;
