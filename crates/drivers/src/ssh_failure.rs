//! Tells the failures of OpenSSH apart.
//!
//! ssh exits with 255 for all of them, and what it writes is all that there is to go by. The
//! texts are those of OpenSSH's `sshconnect.c`, `misc.c` and `sshconnect2.c`, which have stayed
//! the same since version 7; what is not recognised stays [`Kind::Other`] and is shown as is.

use std::fmt;
use std::net::IpAddr;

use volutus_model::name::HostName;

/// Why a connection did not come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nobody answers at that address and port.
    Unreachable,
    /// The host's key is not in known_hosts.
    HostKeyUnknown,
    /// The host's key is another one than in known_hosts.
    HostKeyChanged,
    /// The host does not let this user in.
    PermissionDenied,
    /// Something else.
    Other,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "unreachable",
            Self::HostKeyUnknown => "unknown host key",
            Self::HostKeyChanged => "changed host key",
            Self::PermissionDenied => "permission denied",
            Self::Other => "no connection",
        })
    }
}

impl Kind {
    /// What an operator can do about it.
    #[must_use]
    pub fn hint(self, host: &HostName, address: IpAddr) -> String {
        match self {
            Self::Unreachable => format!("see that {host} is up and that {address} is reachable from here"),
            Self::HostKeyUnknown => format!(
                "add {host}'s key to the known_hosts file of the cloud description, after comparing it with \
                 the host's own (`ssh-keyscan {address}`, and on its console \
                 `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`)"
            ),
            Self::HostKeyChanged => format!(
                "find out why {host} has another key (reinstalled, or not the host it should be); if it is \
                 right, remove the old one with `ssh-keygen -R {address} -f KNOWN_HOSTS` and add the new one"
            ),
            Self::PermissionDenied => format!(
                "see that ssh.user and ssh.identity_file of the cloud description are right, and that the \
                 public key is in authorized_keys on {host}"
            ),
            Self::Other => format!("try `ssh -v {address}` from here"),
        }
    }
}

/// Tells what kind of failure ssh's messages describe.
#[must_use]
pub fn classify(text: &str) -> Kind {
    let has = |part: &str| text.contains(part);
    if has("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        Kind::HostKeyChanged
    } else if has("host key is known for") || has("Host key verification failed") {
        // "No ED25519 host key is known for X and you have requested strict checking."
        Kind::HostKeyUnknown
    } else if has("Permission denied (") || has("Too many authentication failures") {
        Kind::PermissionDenied
    } else if has("connect to host")
        || has("Could not resolve hostname")
        || has("timed out")
        || has("Connection refused")
        || has("No route to host")
        || has("Connection reset by")
        || has("Connection closed by")
        || has("kex_exchange_identification")
    {
        Kind::Unreachable
    } else {
        Kind::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_openssh_are_told_apart() {
        let changed = "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\n\
            @    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n\
            IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\n\
            Host key for 198.18.0.11 has changed and you have requested strict checking.\n\
            Host key verification failed.";
        let cases = [
            (changed, Kind::HostKeyChanged),
            (
                "No ED25519 host key is known for 198.18.0.11 and you have requested strict checking.\n\
                 Host key verification failed.",
                Kind::HostKeyUnknown,
            ),
            ("root@198.18.0.11: Permission denied (publickey,password).", Kind::PermissionDenied),
            ("connect to host 198.18.0.11 port 22: Connection refused", Kind::Unreachable),
            ("connect to host 198.18.0.11 port 22: No route to host", Kind::Unreachable),
            ("connect to host 198.18.0.11 port 22: Connection timed out", Kind::Unreachable),
            ("Connection timed out during banner exchange", Kind::Unreachable),
            ("Could not resolve hostname ctl9: Name or service not known", Kind::Unreachable),
            ("kex_exchange_identification: Connection closed by remote host", Kind::Unreachable),
            ("Bad configuration option: foo", Kind::Other),
        ];
        for (text, kind) in cases {
            assert_eq!(classify(text), kind, "{text}");
        }
    }
}
