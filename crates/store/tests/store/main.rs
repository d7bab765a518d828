//! The store as its callers see it.

#![allow(clippy::unwrap_used, reason = "what fails in a test ends it")]

mod canned;
mod confirmations;
mod keeping;
mod kill;
mod notices;
#[path = "../../../engine/src/tests/plans.rs"]
#[allow(dead_code, reason = "these tests need fewer shapes of plans than those of the engine")]
mod plans;
mod torn;
