//! The handlers, one subject a file.

pub mod command;
pub mod confirm;
pub mod events;
pub mod fleet_lock;
pub mod health;
pub mod plans;
pub mod public;
pub mod releases;
pub mod runs;
pub mod schedules;
