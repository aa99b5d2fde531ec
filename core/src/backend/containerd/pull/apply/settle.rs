//! What a layer needs from those below it, done when they are there.

use super::entry::READ_DIRECTORY;
use super::tree::{is_whiteout, open_beneath, split};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A hard link to a file that the layer itself does not bring.
#[derive(Debug)]
pub(super) struct MissingLink {
    pub(super) path: Vec<u8>,
    pub(super) target: Vec<u8>,
}

/// A layer that is written, but for what it needs from below.
#[derive(Debug)]
pub(in super::super) struct Applied {
    root: OwnedFd,
    implied: Vec<Vec<u8>>,
    times: Vec<(Vec<u8>, Timestamps)>,
    missing: Vec<MissingLink>,
    root_named: bool,
}

impl Applied {
    pub(super) fn new(
        root: OwnedFd,
        implied: Vec<Vec<u8>>,
        times: Vec<(Vec<u8>, Timestamps)>,
        missing: Vec<MissingLink>,
        root_named: bool,
    ) -> Self {
        Self { root, implied, times, missing, root_named }
    }

    /// Does what is left, with the directories of the layers below, the uppermost first.
    ///
    /// # Errors
    /// A hard link to a file that no layer has, or an error of the file system.
    pub(in super::super) fn settle(self, lower: &[PathBuf]) -> io::Result<()> {
        if !self.root_named
            && let Some(below) = lower.first()
        {
            // The snapshotter gives a new directory its parent's owner.
            let stat = rustix::fs::stat(below)?;
            rustix::fs::chownat(
                &self.root,
                ".",
                Some(Uid::from_raw(stat.st_uid)),
                Some(Gid::from_raw(stat.st_gid)),
                AtFlags::empty(),
            )?;
        }
        for link in &self.missing {
            self.copy_up(link, lower)?;
        }
        // Those further in first: setting times above does not disturb them, writing below would.
        for path in self.implied.iter().rev() {
            self.adopt(path, lower)?;
        }
        for (path, times) in &self.times {
            if let Some(fd) = self.open_directory(path)? {
                rustix::fs::futimens(&fd, times)?;
            }
        }
        Ok(())
    }

    /// A directory of this layer; none when a later entry replaced it.
    fn open_directory(&self, path: &[u8]) -> io::Result<Option<OwnedFd>> {
        let (parent, name) = split(path);
        let name: &[u8] = if path.is_empty() { b"." } else { name };
        let opened = open_beneath(self.root.as_fd(), parent)
            .and_then(|parent| rustix::fs::openat(&parent, name, READ_DIRECTORY, Mode::empty()));
        match opened {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Gives a directory that the archive only implied the attributes it has below, if it is there.
    fn adopt(&self, path: &[u8], lower: &[PathBuf]) -> io::Result<()> {
        let named_later = self.times.iter().any(|(named, _)| named == path);
        if named_later {
            return Ok(());
        }
        let Some(own) = self.open_directory(path)? else { return Ok(()) };
        for below in lower {
            let below = open_root(below)?;
            let Some(found) = lookup(below.as_fd(), path, READ_DIRECTORY)? else { continue };
            let Some(fd) = found else { break };
            let stat = rustix::fs::fstat(&fd)?;
            copy_attributes(fd.as_fd(), own.as_fd(), &stat)?;
            break;
        }
        Ok(())
    }

    fn copy_up(&self, link: &MissingLink, lower: &[PathBuf]) -> io::Result<()> {
        let lost = || {
            let target = String::from_utf8_lossy(&link.target).into_owned();
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a hard link to {target:?}, which no layer has"),
            )
        };
        for below in lower {
            let below = open_root(below)?;
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let Some(found) = lookup(below.as_fd(), &link.target, flags)? else { continue };
            let source = found.ok_or_else(lost)?;
            let stat = rustix::fs::fstat(&source)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(lost());
            }
            // The link's own directory was made when its entry came. A later entry of the same name decides.
            let (parent, name) = split(&link.path);
            let parent = open_beneath(self.root.as_fd(), parent)?;
            let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let target = match rustix::fs::openat(&parent, name, create, Mode::from_raw_mode(0o600)) {
                Ok(fd) => fd,
                Err(Errno::EXIST) => return Ok(()),
                Err(e) => return Err(e.into()),
            };
            let (mut from, mut to) = (std::fs::File::from(source), std::fs::File::from(target));
            io::copy(&mut from, &mut to)?;
            copy_attributes(from.as_fd(), to.as_fd(), &stat)?;
            return Ok(());
        }
        Err(lost())
    }
}

fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens `path` in one lower layer as overlayfs sees it. `None`: not in this layer, look further down. `Some(None)`:
/// this layer hides it.
fn lookup(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> io::Result<Option<Option<OwnedFd>>> {
    let mut opaque = false;
    let mut ends: Vec<usize> =
        path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at).collect();
    ends.push(path.len());
    for (n, end) in ends.iter().enumerate() {
        let part = &path[..*end];
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let anchor = match rustix::fs::openat2(
            root,
            part,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        ) {
            Ok(fd) => fd,
            Err(Errno::NOENT) if opaque => return Ok(Some(None)),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Some(None)),
            Err(e) => return Err(e.into()),
        };
        let stat = rustix::fs::fstat(&anchor)?;
        if is_whiteout(&stat) {
            return Ok(Some(None));
        }
        if n + 1 < ends.len() {
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                return Ok(Some(None));
            }
            let directory = rustix::fs::openat(&anchor, ".", READ_DIRECTORY, Mode::empty())?;
            let mut value = [0; 1];
            opaque |= rustix::fs::fgetxattr(&directory, "trusted.overlay.opaque", &mut value) == Ok(1)
                && value == *b"y";
        }
    }
    match rustix::fs::openat2(
        root,
        path,
        flags,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    ) {
        Ok(fd) => Ok(Some(Some(fd))),
        Err(Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => Ok(Some(None)),
        Err(e) => Err(e.into()),
    }
}

/// Copies owner, attributes, mode and times, but not what steers overlayfs.
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::flistxattr(from, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(e) => return Err(e.into()),
    };
    for name in names[..length].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.overlay.") {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty())?;
    }
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    // Nanoseconds have another type on each of rustix's backends.
    let times = Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as i64 },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as i64 },
    };
    rustix::fs::futimens(to, &times)?;
    Ok(())
}
