//! Runs against a scripted cloud.

mod common;
mod crash;
mod fortunes;
#[path = "../../../engine/src/tests/plans.rs"]
mod plans;
