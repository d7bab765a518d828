//! What can go wrong with contracts.

use std::path::PathBuf;

/// Something about a contract that could not be read, made or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no contract document of a format that is known.
    #[error("{what} is no contract document: {why}")]
    Malformed {
        /// What was read.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The document's content is not what its hash says.
    #[error("{what} was altered: its hash says {said}, its content has {found}")]
    Altered {
        /// What was read.
        what: String,
        /// The hash in the document.
        said: String,
        /// The hash of its content.
        found: String,
    },
    /// The file of waivers cannot be used.
    #[error("{what}: {why}")]
    Waivers {
        /// The file.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The built-in rules do not load: a bug.
    #[error("the built-in rules do not load: {0}")]
    Rules(String),
    /// There is no Python where a release's should be.
    #[error("{path} has no release: there is no {python}")]
    NoRelease {
        /// The virtual environment that was named.
        path: PathBuf,
        /// The interpreter that was looked for.
        python: PathBuf,
    },
    /// The release holds none of the services whose contract can be read.
    #[error("{path} has none of {services} installed")]
    NoService {
        /// Where was looked.
        path: String,
        /// The services that can be read.
        services: String,
    },
    /// The program that reads the contract of a service did not do its work.
    #[error("reading the contract of {service} with {python} failed: {why}")]
    Program {
        /// The service.
        service: String,
        /// The interpreter.
        python: String,
        /// What was seen: exit code and last words, or the limit that was passed.
        why: String,
    },
    /// A file or process of this machine.
    #[error("{doing}: {source}")]
    Local {
        /// What was attempted.
        doing: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Tempest could not be installed, configured or run. A test that fails is no error.
    #[error("{doing}: {why}")]
    Tempest {
        /// What was attempted.
        doing: String,
        /// What was seen.
        why: String,
        /// What to do.
        hint: &'static str,
    },
    /// A cloud's API.
    #[error("{doing}: {source}")]
    Cloud {
        /// What was attempted.
        doing: String,
        /// What came.
        source: Box<volutus_openstack::Error>,
    },
}
