//! What the end-to-end tests and the project's demo share.

pub mod guests;
pub mod sink;
pub mod watch;
pub mod witness;
