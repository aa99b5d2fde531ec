//! Where our own unpacker writes layers before their snapshots can exist.
//!
//! A snapshot can only be prepared when the one below is committed, but a layer's directory does not need it. So all
//! layers of a pull are written into directories of one throw-away snapshot, side by side, and each is exchanged for
//! the empty directory of its real snapshot when its turn comes: one rename.

use super::session::Session;
use super::snapshots;
use crate::error::{Error, Result};
use containerd_client::types::Mount;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The snapshotter whose layout this knows.
const OVERLAYFS: &str = "overlayfs";

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory on the snapshotter's file system, removed with its snapshot.
#[derive(Debug)]
pub(super) struct Scratch {
    root: OwnedFd,
}

impl Scratch {
    /// A scratch directory when this process can do what the snapshotter does: it is overlayfs, its directories are
    /// reachable under the names it gives, and devices and `trusted.` attributes can be made there. Else none, and
    /// containerd unpacks.
    pub(super) async fn create(session: &Session) -> Result<Option<Self>> {
        if session.snapshotter != OVERLAYFS || !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let key = super::chain::key("scratch");
        session.active().insert(key.clone());
        let (client, lease) = (&session.client, session.lease.id());
        let mounts = snapshots::prepare(client, lease, OVERLAYFS, &key, "", HashMap::new()).await?;
        let Some(path) = mounts.as_deref().and_then(Directories::of).map(|d| d.upper) else {
            return Ok(None);
        };
        let probed = tokio::task::spawn_blocking(move || probe(&path)).await.map_err(broken)?;
        let Some(root) = probed else { return Ok(None) };
        // A path that exists here may be another one for the daemon: it must see what was made.
        if snapshots::inodes(client, OVERLAYFS, &key).await? != 2 {
            return Ok(None);
        }
        match rustix::fs::unlinkat(&root, PROBE, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(Some(Self { root })),
            Err(_) => Ok(None),
        }
    }

    /// A new directory for one layer.
    pub(super) fn directory(&self, name: &str) -> Result<OwnedFd> {
        let make = || -> io::Result<OwnedFd> {
            rustix::fs::mkdirat(&self.root, name, Mode::from_raw_mode(0o755))?;
            let fd = rustix::fs::openat(&self.root, name, DIRECTORY, Mode::empty())?;
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))?;
            Ok(fd)
        };
        make().map_err(|e| Error::io(e, "cannot make a directory for a layer"))
    }

    /// Puts a layer's directory in the place of a snapshot's own, empty one. Returns false when the file system cannot.
    pub(super) fn exchange(&self, name: &str, upper: &Path) -> Result<bool> {
        let exchange = || -> io::Result<()> {
            let (Some(parent), Some(last)) = (upper.parent(), upper.file_name()) else {
                return Err(Errno::INVAL.into());
            };
            let parent = rustix::fs::open(parent, DIRECTORY, Mode::empty())?;
            Ok(rustix::fs::renameat_with(&self.root, name, &parent, last, RenameFlags::EXCHANGE)?)
        };
        match exchange() {
            Ok(()) => Ok(true),
            Err(e)
                if [Errno::XDEV, Errno::INVAL, Errno::NOSYS]
                    .iter()
                    .any(|n| e.raw_os_error() == Some(n.raw_os_error())) =>
            {
                Ok(false)
            }
            Err(e) => {
                Err(Error::io(e, "cannot move a layer into its snapshot").with("path", upper.display()))
            }
        }
    }
}

fn broken(error: tokio::task::JoinError) -> Error {
    Error::unexpected("a task of the pull broke").caused_by(error)
}

const PROBE: &str = "probe";

/// Opens an empty directory and tries in it what unpacking needs. Leaves one directory in it.
fn probe(path: &Path) -> Option<OwnedFd> {
    let root = rustix::fs::open(path, DIRECTORY, Mode::empty()).ok()?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat2(&root, ".", flags, Mode::empty(), ResolveFlags::IN_ROOT).ok()?;
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(&root, PROBE, FileType::CharacterDevice, mode, rustix::fs::makedev(0, 0)).ok()?;
    rustix::fs::unlinkat(&root, PROBE, AtFlags::empty()).ok()?;
    rustix::fs::mkdirat(&root, PROBE, Mode::from_raw_mode(0o700)).ok()?;
    let directory = rustix::fs::openat(&root, PROBE, DIRECTORY, Mode::empty()).ok()?;
    rustix::fs::fsetxattr(directory.as_fd(), "trusted.overlay.opaque", b"y", XattrFlags::empty()).ok()?;
    Some(root)
}

/// The directories of an overlayfs snapshot.
pub(super) struct Directories {
    /// Its own.
    pub(super) upper: PathBuf,
    /// Those below, the uppermost first.
    pub(super) lower: Vec<PathBuf>,
}

impl Directories {
    /// Those of a snapshot's mounts; none when they have another form.
    pub(super) fn of(mounts: &[Mount]) -> Option<Self> {
        let [mount] = mounts else { return None };
        match mount.r#type.as_str() {
            "bind" => Some(Self { upper: PathBuf::from(&mount.source), lower: Vec::new() }),
            "overlay" => {
                let option =
                    |name: &str| mount.options.iter().find_map(|o| o.strip_prefix(name)?.strip_prefix('='));
                if mount.options.iter().any(|o| o == "userxattr" || o.starts_with("uidmap=")) {
                    return None;
                }
                let lower = option("lowerdir")?.split(':').map(PathBuf::from).collect();
                Some(Self { upper: PathBuf::from(option("upperdir")?), lower })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, source: &str, options: &[&str]) -> Mount {
        Mount {
            r#type: kind.to_owned(),
            source: source.to_owned(),
            target: String::new(),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
        }
    }

    #[test]
    fn directories_come_from_bind_and_overlay_mounts_only() {
        let found = Directories::of(&[mount("bind", "/s/1/fs", &["rw", "rbind"])]).unwrap();
        assert_eq!((found.upper, found.lower.len()), (PathBuf::from("/s/1/fs"), 0));
        let options = ["index=off", "workdir=/s/3/work", "upperdir=/s/3/fs", "lowerdir=/s/2/fs:/s/1/fs"];
        let found = Directories::of(&[mount("overlay", "overlay", &options)]).unwrap();
        assert_eq!(found.upper, PathBuf::from("/s/3/fs"));
        assert_eq!(found.lower, [PathBuf::from("/s/2/fs"), PathBuf::from("/s/1/fs")]);
        let rootless = [&options[..], &["userxattr"]].concat();
        assert!(Directories::of(&[mount("overlay", "overlay", &rootless)]).is_none());
        assert!(Directories::of(&[mount("zfs", "tank/1", &[])]).is_none());
        assert!(Directories::of(&[]).is_none());
    }
}
