//! A synthetic user, its record, and the verdict.
//!
//! [`Prober`] works through a cloud's endpoints like a user, in an open loop: what is due is
//! done when it is due, however slowly the cloud answers, and latency counts from the moment
//! when it was due. Every request becomes exactly one [`volutus_model::probe::Sample`]; none is
//! repeated and none is left out. [`verdict::assess`] judges a run by these samples; it is pure.
//!
//! The prober must never touch what it did not make: it deletes only objects of its own project
//! whose names it chose itself ([`naming`]).

mod chains;
mod exchange;
mod operation;
mod prober;
mod reach;
mod reached;
mod schedule;
mod sweep;

pub mod naming;
pub mod statistics;
pub mod verdict;
pub mod windows;

pub use operation::OperationKind;
pub use prober::{Error, Prober, ProberConfig, ProberHandle, StopReport};
