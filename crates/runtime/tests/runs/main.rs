//! Runs against a scripted cloud.

#![allow(clippy::unwrap_used, reason = "what fails in a test ends it")]

mod common;
mod crash;
mod fortunes;
#[path = "../../../engine/src/tests/plans.rs"]
mod plans;
mod way_back;
