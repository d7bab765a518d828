//! What can keep a driver from being made at all. What happens later are outcomes.

use std::path::PathBuf;

/// Why no driver could be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cloud description names a file that is not there.
    #[error("{what} of the cloud description names {}, which is not a file", path.display())]
    MissingFile {
        /// The key in the cloud description.
        what: &'static str,
        /// The path, as it was resolved.
        path: PathBuf,
    },
    /// No directory for the control sockets of ssh could be made.
    #[error("no directory for ssh's control sockets could be made in {}", path.display())]
    ControlDirectory {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The credentials could not be used.
    #[error("the operator's credentials cannot be used")]
    Credentials(#[source] volutus_openstack::Error),
    /// No HTTP client could be made.
    #[error("no HTTP client could be made")]
    Http(#[source] reqwest::Error),
}
