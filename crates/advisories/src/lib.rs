//! Which versions are vulnerable to what, which daemons run them, and what would mend it.
//!
//! Records of three feeds ([`Feed`]) are [`read()`], tolerantly and loudly, put together by
//! precedence ([`Advisories`]), and held against an observation ([`exposure()`]). [`patch()`] computes
//! the fewest changes of versions that close one vulnerability. Nothing here does I/O: texts come
//! in, values go out. What cannot be told is said to be unjudged, never taken for safe.

mod exposure;
mod expression;
mod merge;
mod patch;
mod product;
mod published;
mod range;
mod read;
mod record;
mod statement;
mod version;

pub use exposure::{Exposed, Exposure, ExposureInput, NotSeen, Unjudged, exposure};
pub use merge::{Advisories, Claim, Hit, Vulnerability};
pub use patch::{Change, Patch, Unfixed, patch};
pub use product::{Product, Products, normal};
pub use published::Published;
pub use range::{Bound, Range};
pub use read::{BYTES_MAX, Problem, Read, read};
pub use record::{Affected, Feed, Judgement, Record};
pub use statement::{Statement, StatementStatus, Statements};
pub use version::Version;

/// Why something could not be read or found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A data file of this crate is malformed.
    #[error("the built-in {file} is malformed: {why}")]
    Data {
        /// The file.
        file: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A document is of no known format.
    #[error("{place} cannot be read as advisories: {why}")]
    Document {
        /// The file or address.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// The operator's statements are malformed.
    #[error("{0}")]
    Statements(String),
    /// No vulnerability goes by that name.
    #[error("no advisory names {id}; {known} vulnerabilities are known")]
    Unknown {
        /// What was asked for.
        id: String,
        /// How many are known.
        known: usize,
    },
}

/// The advisories that this Volutus ships, to start from before the first sync.
///
/// # Errors
/// [`Error::Data`] where the file is malformed, which the tests of this crate would show.
pub fn builtin(products: &Products) -> Result<Read, Error> {
    read(BUILTIN, "built in", products)
        .map_err(|error| Error::Data { file: "advisories.json", why: error.to_string() })
}

/// Until when the built-in advisories were collected, ISO 8601.
pub const BUILTIN_AS_OF: &str = "2026-11-23";

const BUILTIN: &str = include_str!("../data/advisories.json");
