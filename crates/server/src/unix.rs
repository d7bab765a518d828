//! The Unix socket: the kernel says who calls.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::UnixListener;
use uzers::get_group_by_name;

/// Who is at the other end of a Unix socket, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The user's number; absent where the kernel did not tell.
    pub uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { uid: stream.io().peer_cred().ok().map(|cred| cred.uid()) }
    }
}

/// A socket that is removed when it is no longer listened at.
#[derive(Debug)]
pub struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the socket was not removed");
        }
    }
}

/// Listens at a path, which its owner and a group may connect to and nobody else. What a process
/// that was killed left there is replaced; a socket that somebody answers at is not.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] where somebody answers there, or where something else than a socket
/// is there; whatever the system says otherwise.
pub fn listen(path: &Path, group: Option<&str>) -> io::Result<(UnixListener, Socket)> {
    if let Ok(there) = std::fs::symlink_metadata(path) {
        let answered = std::os::unix::net::UnixStream::connect(path).is_ok();
        if !there.file_type().is_socket() || answered {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    let socket = Socket(path.to_owned());
    if let Some(name) = group {
        let group = get_group_by_name(name).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("there is no group `{name}` on this machine"))
        })?;
        std::os::unix::fs::chown(path, None, Some(group.gid()))?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(0o660))?;
    Ok((listener, socket))
}
