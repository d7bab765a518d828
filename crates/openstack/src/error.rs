//! What can go wrong between Volutus and an API.

use std::path::PathBuf;

/// Why a request, or its preparation, came to nothing. Branch on the variant, never on text.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The clouds.yaml cannot be used as it is.
    #[error("cloud entry `{entry}` of {}: {why}", file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// The entry asked for.
        entry: String,
        /// What is wrong with it.
        why: String,
    },
    /// No clouds.yaml was found.
    #[error("no clouds.yaml for cloud entry `{entry}`; looked at {}", searched.join(", "))]
    NoConfig {
        /// The entry asked for.
        entry: String,
        /// Where it was looked for.
        searched: Vec<String>,
    },
    /// No answer came: refused, reset, timed out, not resolved, TLS not trusted.
    #[error("{request}: no answer after {elapsed_ms} ms: {why}")]
    Unreachable {
        /// Method and address.
        request: String,
        /// What was seen, with its causes.
        why: String,
        /// Whether the time allowed ran out.
        timed_out: bool,
        /// Milliseconds until it was given up.
        elapsed_ms: u64,
    },
    /// Keystone refused the credentials.
    #[error("{auth_url} refused the credentials of cloud entry `{entry}` ({who}): {status} {message}")]
    Unauthorized {
        /// The clouds.yaml entry.
        entry: String,
        /// Keystone's address.
        auth_url: String,
        /// User and scope, without the secret.
        who: String,
        /// The status.
        status: u16,
        /// Keystone's message.
        message: String,
    },
    /// An answer came with a status that is of no use here.
    #[error("{request}: status {status}, expected {}: {message}", list(expected))]
    Status {
        /// Method and address.
        request: String,
        /// The status that came.
        status: u16,
        /// The statuses that would have been of use.
        expected: Vec<u16>,
        /// The API's own message, else the beginning of the body.
        message: String,
    },
    /// An answer came whose body is not what was asked for, or is too large.
    #[error("{request}: {why}; the body begins with: {beginning}")]
    Body {
        /// Method and address.
        request: String,
        /// What is wrong with it.
        why: String,
        /// The beginning of the body.
        beginning: String,
    },
    /// The token's catalog has no endpoint of that type.
    #[error(
        "no {interface} endpoint of type {service_type}{} in the service catalog; it has {}",
        region.as_ref().map(|region| format!(" in region {region}")).unwrap_or_default(),
        known.join(", ")
    )]
    NoEndpoint {
        /// The type asked for.
        service_type: String,
        /// The interface asked for.
        interface: String,
        /// The region asked for.
        region: Option<String>,
        /// What the catalog has: type and region.
        known: Vec<String>,
    },
    /// Nothing, or more than one thing, has that name.
    #[error("{} called `{name}` for cloud entry `{entry}`", counted(*count, what))]
    Name {
        /// The kind of thing: "image", "flavor", "network".
        what: &'static str,
        /// The name looked for.
        name: String,
        /// How many there are: 0, or more than one.
        count: usize,
        /// The clouds.yaml entry that looked.
        entry: String,
    },
}

fn counted(count: usize, what: &str) -> String {
    if count == 0 { format!("no {what} is") } else { format!("{count} {what}s are") }
}

fn list(statuses: &[u16]) -> String {
    statuses.iter().map(u16::to_string).collect::<Vec<_>>().join(" or ")
}

impl Error {
    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Config { file, .. } => format!("correct {}", file.display()),
            Self::NoConfig { .. } => {
                "name the file in the cloud description ([credentials] clouds_yaml), or put it in \
                 one of these places"
                    .to_owned()
            }
            Self::Unreachable { timed_out: true, .. } => {
                "see whether the address answers from this machine (curl -m 10 ADDRESS), and \
                 whether the service behind it hangs"
                    .to_owned()
            }
            Self::Unreachable { .. } => {
                "see whether the address is right and answers from this machine (curl -m 10 \
                 ADDRESS); for TLS, whether `cacert` of the clouds.yaml entry is the right one"
                    .to_owned()
            }
            Self::Unauthorized { .. } => "correct user, password, domains and project of the \
                                          entry; `openstack --os-cloud ENTRY token issue` tells \
                                          the same without Volutus"
                .to_owned(),
            Self::Status { status: 403, .. } => {
                "the user of this clouds.yaml entry lacks the role for it: the operator's entry \
                 must be an administrator of the cloud"
                    .to_owned()
            }
            Self::Status { status, .. } if *status >= 500 => {
                "look into the log of the service's API for the request".to_owned()
            }
            Self::Status { .. } | Self::Body { .. } => {
                "see whether the address in the service catalog is really that service".to_owned()
            }
            Self::NoEndpoint { .. } => {
                "correct `region_name` and `interface` of the clouds.yaml entry, or create the \
                 endpoint (openstack endpoint list)"
                    .to_owned()
            }
            Self::Name { count: 0, what, .. } => {
                format!("create the {what}, or name another one in the cloud description")
            }
            Self::Name { what, .. } => {
                format!("names of this {what} must be unique for Volutus to choose one: rename the others")
            }
        }
    }

    /// The HTTP status, where one came.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } | Self::Unauthorized { status, .. } => Some(*status),
            _ => None,
        }
    }
}
