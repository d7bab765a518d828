//! What can go wrong between a source and a locked release.

/// Why versions could not be looked up, or a release could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be used at all.
    #[error("{address} is no address that versions can be looked up at: {why}")]
    Address {
        /// What was given, without credentials.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// A server did not answer, or not as it should.
    #[error("{doing} at {address}: {why}")]
    Fetch {
        /// What was attempted.
        doing: String,
        /// Where, without credentials.
        address: String,
        /// What was seen.
        why: String,
    },
    /// What was read is not of its format.
    #[error("{place}: {why}")]
    Malformed {
        /// The file or address.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// What came is not what its hash says.
    #[error("{what} has the SHA-256 {found}, and {said_by} says {said}")]
    Hash {
        /// What was read.
        what: String,
        /// What it has.
        found: String,
        /// Who says otherwise.
        said_by: String,
        /// What that one says.
        said: String,
    },
    /// There is no version that may be taken.
    #[error("{package}: no version for {wanted} at {place}; {seen}")]
    NoVersion {
        /// The package.
        package: String,
        /// Which versions were wanted.
        wanted: String,
        /// Where was looked.
        place: String,
        /// What is there instead, and why none of it will do.
        seen: String,
    },
    /// Nothing tells which versions of a package belong to a series.
    #[error(
        "{package}: which of its versions belong to {series} is not known here; a file of constraints (upper-constraints) \
         can tell"
    )]
    NoLine {
        /// The package.
        package: String,
        /// The series.
        series: volutus_model::Series,
    },
}

impl Error {
    pub(crate) fn malformed(place: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Malformed { place: place.into(), why: why.into() }
    }
}
