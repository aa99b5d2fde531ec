//! The agent's sockets.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, Uid};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixStream;

/// A bound socket, whose file is removed when it is dropped, unless another has taken its place.
pub(crate) struct Bound {
    fd: std::os::fd::OwnedFd,
    path: PathBuf,
    file: (u64, u64),
}

impl Bound {
    /// Binds and listens, in place of a socket that an earlier agent left.
    ///
    /// The file appears in one step and is never open to others: mode 0600, owned by whoever owns the directory (the
    /// host made it and connects) as far as this process may give it away.
    ///
    /// # Errors
    /// Those of the system; [`io::ErrorKind::AlreadyExists`] when something else than a socket is there.
    pub(crate) fn new(path: &Path, kind: SocketType) -> io::Result<Self> {
        match path.symlink_metadata() {
            Ok(found) if found.file_type().is_socket() || found.is_symlink() => {}
            Ok(_) => {
                let text = "something that is not a socket is in the way, remove it";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let directory = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(directory)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;

        let temp = directory.join(format!(".b{}", std::process::id()));
        remove(&temp)?;
        let mask = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = rustix::net::bind(&fd, &SocketAddrUnix::new(&temp)?);
        rustix::process::umask(mask);
        bound?;
        let placed = place(&fd, &temp, path, directory);
        if placed.is_err() {
            let _ = std::fs::remove_file(&temp);
        }
        Ok(Self { fd, path: path.to_owned(), file: placed? })
    }

    /// Another descriptor of the same socket.
    pub(crate) fn fd(&self) -> io::Result<std::os::fd::OwnedFd> {
        self.fd.try_clone()
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let ours = self.path.symlink_metadata().is_ok_and(|found| (found.dev(), found.ino()) == self.file);
        if ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn place(fd: impl AsFd, temp: &Path, path: &Path, directory: &Path) -> io::Result<(u64, u64)> {
    std::fs::set_permissions(temp, PermissionsExt::from_mode(0o600))?;
    let owner = directory.metadata()?;
    if owner.uid() != rustix::process::geteuid().as_raw() {
        // Without the privilege it stays ours, and root may connect all the same.
        let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
        let _ = rustix::fs::chown(temp, Some(uid), Some(gid));
    }
    rustix::net::listen(fd, 128)?;
    std::fs::rename(temp, path)?;
    let file = path.symlink_metadata()?;
    Ok((file.dev(), file.ino()))
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Who may talk to the agent: root, the agent's own user, and the owner of the socket's directory. A host outside
/// this user namespace shows as the overflow uid. The mode of the socket says the same; this holds even when someone
/// in the workspace opens it up.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    allowed: Vec<u32>,
}

impl Peers {
    /// The peers of a socket in `directory`.
    pub(crate) fn new(directory: &Path) -> Self {
        let mut allowed = vec![0, rustix::process::geteuid().as_raw()];
        allowed.extend(directory.metadata().ok().map(|found| found.uid()));
        let overflow = std::fs::read_to_string("/proc/sys/kernel/overflowuid");
        allowed.extend(overflow.ok().and_then(|text| text.trim().parse::<u32>().ok()));
        Self { allowed }
    }

    /// Whether the other end of a connection is one of them.
    pub(crate) fn allow(&self, connection: &UnixStream) -> bool {
        // The runtime's own look-up knows that a peer outside this pid namespace has no pid here.
        connection.peer_cred().is_ok_and(|peer| self.allowed.contains(&peer.uid()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let first = Bound::new(&path, SocketType::STREAM).unwrap();
        let second = Bound::new(&path, SocketType::STREAM).unwrap();
        drop(first);
        assert!(path.exists(), "the first must not remove the second's");
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        drop(second);
        assert!(!path.exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        std::fs::write(&path, "precious").unwrap();
        assert!(Bound::new(&path, SocketType::STREAM).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }
}
