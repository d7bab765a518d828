//! What the end-to-end tests and the project's demo share.

pub mod guests;
pub mod witness;
