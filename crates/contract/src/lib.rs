//! API contracts: what a release of OpenStack promises to those who use its APIs, and whether another
//! release keeps it.
//!
//! A [`Document`] holds the contract of the services of one release. [`extract`] reads it from
//! installed packages, [`fetch`] from live endpoints. [`diff::compare`] classes every difference
//! between two documents under the interoperability guideline of OpenStack's API SIG, and
//! [`waivers`] takes out what somebody has reviewed. [`answers`] compares what old and new code
//! answer to the same request, and [`requests`] makes the requests, and
//! [`traffic`] those that a site's own clients were seen to make; [`writes`] has chains of writing ones
//! about throw-away objects. [`tempest`] runs OpenStack's own
//! tests against a cloud.
//!
//! Only [`extract`], [`fetch`] and [`tempest`] touch anything outside; all else is pure.

pub mod answers;
pub mod canonical;
pub mod diff;
pub mod document;
mod error;
pub mod extract;
pub mod fetch;
mod forms;
pub mod microversion;
pub mod mutants;
pub mod report;
pub mod requests;
pub mod rules;
pub mod schema;
pub mod tempest;
pub mod traffic;
pub mod waivers;
pub mod writes;

pub use document::Document;
pub use error::Error;
pub use microversion::Microversion;
