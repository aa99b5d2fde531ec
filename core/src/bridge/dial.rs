use crate::error::{Error, Result};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};
use tokio::net::{TcpStream, UnixStream};

/// Where an agent listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BridgeTarget {
    /// The host's path of the agent's socket.
    Socket(PathBuf),
    /// The address of an agent that came before sockets.
    Tcp(SocketAddr),
    /// Sockets without a name any more.
    Held(Arc<Held>),
}

/// The sockets of a server that this process has started.
#[derive(Debug)]
pub(crate) struct Held {
    pub(super) main: Pinned,
    pub(super) bulk: Arc<Pinned>,
}

/// Each is only itself.
impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Held {}

impl fmt::Display for BridgeTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
            Self::Held(_) => f.write_str("a server of files on this host"),
        }
    }
}

/// Pause before a listener whose queue is full is asked again.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(1);

/// A connected stream of either kind.
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// Connects to an agent. The caller sets the time limit.
pub(super) async fn dial(target: &BridgeTarget) -> Result<Stream> {
    match target {
        BridgeTarget::Socket(path) => unix(&Pinned::open(path)?, &path.display()).await.map(Stream::Unix),
        BridgeTarget::Held(held) => unix(&held.main, target).await.map(Stream::Unix),
        BridgeTarget::Tcp(address) => {
            let stream = TcpStream::connect(address).await.map_err(|e| unreachable(e, target))?;
            stream.set_nodelay(true).map_err(|e| unreachable(e, target))?;
            Ok(Stream::Tcp(stream))
        }
    }
}

async fn unix(socket: &Pinned, address: &(impl fmt::Display + Sync)) -> Result<UnixStream> {
    loop {
        match UnixStream::connect(socket.path()).await {
            Ok(stream) => return Ok(stream),
            // The listener's queue is full: it is there and busy.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(QUEUE_FULL_PAUSE).await;
            }
            Err(error) => return Err(unreachable(error, address)),
        }
    }
}

/// A socket held by descriptor: what was looked at is what is connected to, whatever happens to its name.
///
/// The directory is writable from inside the workspace, which could put a link to another workspace's socket in the
/// place of its own. The name is opened without following it, from a directory opened without following it; the
/// connection goes through `/proc/self/fd`, where no name is looked up again and no length limit applies.
#[derive(Debug)]
pub(crate) struct Pinned(OwnedFd);

impl Pinned {
    /// Opens the socket at `path`. UNAVAILABLE when nothing is there, PERMISSION_DENIED when it is no socket.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::invalid_argument("the agent's socket needs a path with a directory")
                .with("address", path.display()));
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let failed = |errno: Errno| match errno {
            // With O_DIRECTORY and O_NOFOLLOW a link is "not a directory".
            Errno::LOOP | Errno::NOTDIR => {
                refused("the directory of the agent's socket is no directory", path)
            }
            errno => unreachable(errno.into(), path.display()),
        };
        let directory =
            rustix::fs::openat(CWD, parent, flags | OFlags::DIRECTORY, Mode::empty()).map_err(failed)?;
        let socket = rustix::fs::openat(&directory, name, flags, Mode::empty()).map_err(failed)?;
        let stat = rustix::fs::fstat(&socket).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
            return Err(refused("something other than a socket is in the place of the agent's socket", path));
        }
        Ok(Self(socket))
    }

    /// A path that leads to this very socket for as long as `self` lives.
    pub(super) fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.0.as_raw_fd())
    }
}

fn refused(message: &str, path: &Path) -> Error {
    Error::permission_denied(format!("{message}; restart the workspace to get its own back"))
        .with("address", path.display())
}

/// An agent that cannot be reached: UNAVAILABLE for all that a start or a retry mends.
fn unreachable(error: io::Error, address: impl fmt::Display) -> Error {
    let error = match error.kind() {
        io::ErrorKind::NotFound => {
            Error::unavailable("the agent's socket is not there; start the workspace").caused_by(error)
        }
        io::ErrorKind::ConnectionRefused => {
            Error::unavailable("no agent listens; start the workspace").caused_by(error)
        }
        io::ErrorKind::PermissionDenied => Error::permission_denied(
            "this process may not use the agent's socket; run it as the socket's owner",
        )
        .caused_by(error),
        _ => match error.raw_os_error() {
            // EMFILE, ENFILE, ENOMEM, ENOBUFS: not the agent's fault.
            Some(24 | 23 | 12 | 105) => {
                Error::resource_exhausted("no descriptor or memory is left to reach the agent")
                    .caused_by(error)
            }
            _ => Error::unavailable("the agent cannot be reached").caused_by(error),
        },
    };
    error.with("address", address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    fn kind(path: &Path) -> ErrorKind {
        Pinned::open(path).err().map_or(ErrorKind::Unexpected, |e| e.kind())
    }

    #[test]
    fn only_a_socket_in_a_real_directory_is_opened() {
        let root = tempfile::tempdir().unwrap();
        let (own, other) = (root.path().join("own"), root.path().join("other"));
        std::fs::create_dir(&own).unwrap();
        std::fs::create_dir(&other).unwrap();
        let _listener = UnixListener::bind(other.join("bridge.sock")).unwrap();
        assert!(Pinned::open(&other.join("bridge.sock")).is_ok());
        assert_eq!(kind(&own.join("bridge.sock")), ErrorKind::Unavailable);

        symlink(other.join("bridge.sock"), own.join("bridge.sock")).unwrap();
        assert_eq!(kind(&own.join("bridge.sock")), ErrorKind::PermissionDenied);
        std::fs::remove_file(own.join("bridge.sock")).unwrap();
        std::fs::write(own.join("bridge.sock"), "").unwrap();
        assert_eq!(kind(&own.join("bridge.sock")), ErrorKind::PermissionDenied);

        symlink(&other, root.path().join("link")).unwrap();
        assert_eq!(kind(&root.path().join("link/bridge.sock")), ErrorKind::PermissionDenied);
    }

    #[tokio::test]
    async fn a_path_longer_than_a_socket_address_is_reached() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        // Bound under a short name: a listener is held to the limit that the client is not.
        let listener = UnixListener::bind(root.path().join("s")).unwrap();
        std::fs::rename(root.path().join("s"), deep.join("bridge.sock")).unwrap();
        dial(&BridgeTarget::Socket(deep.join("bridge.sock"))).await.unwrap();
        drop(listener);
        let error = dial(&BridgeTarget::Socket(deep.join("bridge.sock"))).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}
