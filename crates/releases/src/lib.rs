//! Which versions there are, and locked sets of them.
//!
//! A [`Release`] is a set of versions with the hashes of their files. It is looked up ([`look`]) at an index of
//! Python packages, a Debian repository, a container registry, or in files; kept by whoever has a store;
//! compared ([`diff()`]); and held against what was staged. Everything but [`Web`] and the reading of a
//! folder is pure: texts come in, values go out.

mod anchors;
mod choose;
mod contents;
mod debian;
mod diff;
mod document;
mod error;
mod fetch;
mod files;
mod index;
pub mod look;
mod pip;
mod registry;
mod specifier;
mod wanted;

pub use contents::{contents_of_wheel, sha256};
pub use diff::{Change, Diff, diff};
pub use document::{File, Package, Release, Source, SourceKind, requirements};
pub use error::Error;
pub use fetch::{Credentials, Web, without_credentials};
pub use files::{Difference, compare_files};
pub use pip::index_of;
pub use registry::docker_credentials;
pub use wanted::{Constraints, Lines};
