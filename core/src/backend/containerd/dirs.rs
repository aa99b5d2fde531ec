//! A directory of a snapshot's tree: read, and replaced by one that was made beside.
//!
//! With an overlay, what is staged lies beside the snapshot's writable layer (`<snapshot>/<stage>`): on the same file system,
//! out of the workspace's sight, and gone with the snapshot. It takes its place by one rename(2) in the layer itself. In a
//! snapshot without layers it lies in the root, under a name that starts with a dot.

use super::client::Client;
use super::layers;
use super::rootfs::{Layers, RootFs, open_dir, unsupported};
use super::snapshots;
use crate::backend::{OpenDir, SnapshotDir};
use crate::error::{Error, ErrorKind, Result};
use containerd_client::types::Mount;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What a staged directory is called in its stage where it takes the place of all that is there.
const TREE: &str = "tree";
/// The layer that a merged directory is written to, and the overlay's work directory for it.
const UPPER: &str = "upper";
const WORK: &str = "work";

pub(super) async fn open(client: &Client, dir: &SnapshotDir) -> Result<Option<OpenDir>> {
    with_mounts(client, dir, |mounts, path| {
        let tree = RootFs::read_only(mounts)?;
        let opened = tree.directory(path)?;
        Ok(opened.map(|opened| OpenDir::new(opened, Some(tree.into_root()))))
    })
    .await
}

/// Opens the root of a snapshot's tree.
pub(super) async fn open_root(client: &Client, snapshotter: &str, key: &str, write: bool) -> Result<OwnedFd> {
    let dir = SnapshotDir { snapshotter: snapshotter.to_owned(), key: key.to_owned(), path: PathBuf::new() };
    with_mounts(client, &dir, move |mounts, _| {
        let tree = if write { RootFs::writable(mounts)? } else { RootFs::read_only(mounts)? };
        Ok(tree.into_root())
    })
    .await
}

pub(super) async fn stage(client: &Client, dir: &SnapshotDir, stage: &str, merge: bool) -> Result<OpenDir> {
    let stage = stage.to_owned();
    with_mounts(client, dir, move |mounts, path| {
        let site = Site::of(mounts, &stage)?;
        let tree = RootFs::read_only(mounts)?;
        let existing = tree.directory(path);
        if merge {
            return site.merged(mounts, path, existing?);
        }
        // Something else than a directory only has nothing to hand on: it goes.
        let existing = match existing {
            Err(error) if error.kind() == ErrorKind::FailedPrecondition => None,
            existing => existing?,
        };
        site.empty(existing.as_ref())
    })
    .await
}

pub(super) async fn swap(client: &Client, dir: &SnapshotDir, stage: &str) -> Result<()> {
    let stage = stage.to_owned();
    with_mounts(client, dir, move |mounts, path| Site::of(mounts, &stage)?.swap(mounts, path)).await
}

pub(super) async fn unstage(client: &Client, dir: &SnapshotDir, stage: &str) -> Result<()> {
    let stage = stage.to_owned();
    match with_mounts(client, dir, move |mounts, _| Site::of(mounts, &stage)?.remove()).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Does something with a writable snapshot's mounts, on a thread where it may block.
async fn with_mounts<T: Send + 'static>(
    client: &Client,
    dir: &SnapshotDir,
    work: impl FnOnce(&[Mount], &Path) -> Result<T> + Send + 'static,
) -> Result<T> {
    let mounts = snapshots::mounts(client, &dir.snapshotter, &dir.key).await?;
    let path = dir.path.clone();
    let done = tokio::task::spawn_blocking(move || work(&mounts, &path)).await;
    done.map_err(|e| Error::unexpected("work on a directory of the snapshot was broken off").caused_by(e))?
        .map_err(|e| e.with("snapshot", &dir.key).with("directory", dir.path.display()))
}

/// Where a directory is staged.
struct Site {
    /// The directory in which the stage is made, and its name there.
    home: PathBuf,
    name: String,
    /// The layer that is written to; without layers, the root.
    upper: PathBuf,
    layers: Layers,
}

impl Site {
    fn of(mounts: &[Mount], stage: &str) -> Result<Self> {
        let layers = Layers::of(mounts)?;
        let (upper, home, name) = match &layers {
            Layers::Overlay { upper: Some((upper, _)), .. } => {
                let upper = PathBuf::from(upper);
                let beside = upper.parent().map(Path::to_owned);
                let beside = beside.ok_or_else(|| unsupported("the root of a file system"))?;
                (upper, beside, stage.to_owned())
            }
            Layers::Overlay { upper: None, .. } => return Err(unsupported("read-only")),
            Layers::Directory(root) => (root.clone(), root.clone(), format!(".{stage}")),
        };
        Ok(Self { home, name, upper, layers })
    }

    fn make(&self) -> Result<OwnedFd> {
        make_in(&open_dir(&self.home)?, &self.name)
    }

    /// An empty directory that nothing below shows through.
    fn empty(&self, existing: Option<&OwnedFd>) -> Result<OpenDir> {
        let made = make_in(&self.make()?, TREE)?;
        match existing {
            Some(existing) => layers::hand_on(existing, &made).map(drop).map_err(failed)?,
            None => usual_mode(&made)?,
        }
        if let Layers::Overlay { user_xattr, .. } = &self.layers {
            layers::set_opaque(&made, *user_xattr).map_err(failed)?;
        }
        Ok(OpenDir::new(made, None))
    }

    /// All that is there, and room for more: without layers, of links; else another writable layer on those below, with links
    /// to what the real one has. So a file that is written anew is another file.
    fn merged(&self, mounts: &[Mount], path: &Path, existing: Option<OwnedFd>) -> Result<OpenDir> {
        let (way, last) = split(path)?;
        let stage = self.make()?;
        let Layers::Overlay { lower, user_xattr, .. } = &self.layers else {
            let made = make_in(&stage, TREE)?;
            match existing {
                Some(existing) => layers::link_all(existing, &made, false)?,
                None => usual_mode(&made)?,
            }
            return Ok(OpenDir::new(made, None));
        };
        self.raise(mounts, &way)?;
        let mut real = open_real(&self.upper)?;
        let (mut above, _) = (make_in(&stage, UPPER)?, make_in(&stage, WORK)?);
        for name in &way {
            real = open_in(&real, *name).map_err(failed)?;
            above = make_in(&above, name)?;
            if layers::is_opaque(&real, *user_xattr)? {
                layers::set_opaque(&above, *user_xattr).map_err(failed)?;
            }
        }
        match rustix::fs::statat(&real, last, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice => {
                // It was removed from what is below.
                layers::whiteout(&above, last).map_err(failed)?;
            }
            Ok(_) => {
                let real = open_in(&real, last).map_err(failed)?;
                layers::link_all(real, &make_in(&above, last)?, *user_xattr)?;
            }
            Err(errno) => return Err(failed(errno)),
        }
        let stage = self.home.join(&self.name);
        let tree = RootFs::over(lower, &stage.join(UPPER), &stage.join(WORK), *user_xattr)?;
        let dir = tree.make_way(path)?;
        Ok(OpenDir::new(dir, Some(tree.into_root())))
    }

    /// Makes sure that the layer that is written to has the directories above, as they show. Nothing runs on the snapshot.
    fn raise(&self, mounts: &[Mount], way: &[&OsStr]) -> Result<OwnedFd> {
        match self.above(way) {
            Err(Errno::NOENT) => {
                let above: PathBuf = way.iter().collect();
                RootFs::writable(mounts)?.make_way(&above)?;
                self.above(way).map_err(failed)
            }
            found => found.map_err(failed),
        }
    }

    fn above(&self, way: &[&OsStr]) -> rustix::io::Result<OwnedFd> {
        let root = rustix::fs::open(&self.upper, DIRECTORY, Mode::empty())?;
        way.iter().try_fold(root, |at, name| open_in(&at, *name))
    }

    fn swap(&self, mounts: &[Mount], path: &Path) -> Result<()> {
        let (way, last) = split(path)?;
        let stage = open_in(&open_dir(&self.home)?, &self.name).map_err(failed)?;
        let (from, name) = match open_in(&stage, UPPER) {
            Err(Errno::NOENT) => (stage, OsStr::new(TREE)),
            Err(errno) => return Err(failed(errno)),
            Ok(upper) => {
                let above = way.iter().try_fold(upper, |at, name| open_in(&at, *name)).map_err(failed)?;
                match rustix::fs::statat(&above, last, AtFlags::SYMLINK_NOFOLLOW) {
                    // Nothing was added.
                    Err(Errno::NOENT) => return Ok(()),
                    found => found.map_err(failed)?,
                };
                (above, last)
            }
        };
        let to = self.raise(mounts, &way)?;
        match rustix::fs::renameat_with(&from, name, &to, last, RenameFlags::EXCHANGE) {
            Err(Errno::NOENT) => rustix::fs::renameat_with(&from, name, &to, last, RenameFlags::NOREPLACE),
            done => done,
        }
        .map_err(failed)?;
        rustix::fs::fsync(&to).and_then(|()| rustix::fs::fsync(&from)).map_err(failed)
    }

    fn remove(&self) -> Result<()> {
        Ok(dunnage_archive::erase(open_dir(&self.home)?.as_fd(), self.name.as_bytes())?)
    }
}

/// The names of the directories above a path, and its last name.
pub(super) fn split(path: &Path) -> Result<(Vec<&OsStr>, &OsStr)> {
    let mut names: Vec<&OsStr> = path
        .components()
        .filter_map(|part| if let Component::Normal(name) = part { Some(name) } else { None })
        .collect();
    let last = names.pop();
    let last = last.ok_or_else(|| Error::invalid_argument("the root itself is no data directory"))?;
    Ok((names, last))
}

pub(super) fn open_real(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, DIRECTORY, Mode::empty()).map_err(failed)
}

fn open_in(parent: &OwnedFd, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())
}

pub(super) fn make_in(parent: &OwnedFd, name: impl AsRef<OsStr>) -> Result<OwnedFd> {
    let name = name.as_ref();
    rustix::fs::mkdirat(parent, name, Mode::RWXU).and_then(|()| open_in(parent, name)).map_err(failed)
}

pub(super) fn usual_mode(dir: &OwnedFd) -> Result<()> {
    rustix::fs::fchmod(dir, Mode::from_raw_mode(0o755)).map_err(failed)
}

pub(super) fn failed(errno: Errno) -> Error {
    let kind = match errno {
        Errno::NOTDIR | Errno::LOOP => ErrorKind::FailedPrecondition,
        errno => ErrorKind::of_io(&errno.into()),
    };
    Error::new(kind, "cannot work on a directory of the snapshot").caused_by(io::Error::from(errno))
}
