//! Everything about a tree but the bytes of its files.
//!
//! Both trees are walked by descriptor, so that a name that becomes a link meanwhile leads nowhere else.

// The fields of `stat` have other types on other architectures.
#![allow(clippy::useless_conversion, clippy::unnecessary_cast)]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
    fchmod, fchown, fgetxattr, flistxattr, flistxattr_query, fsetxattr, fstat, futimens, linkat, mkdirat,
    mknodat, openat, readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;
use tonic::Status;

use super::super::change::MAX_DEPTH;
use super::super::errors::At;
use super::super::long::Gone;
use super::super::own_fds;
use super::content::content;
use super::place::discard;

/// Files whose other names are still awaited, at most.
const MAX_LINKED: usize = 200_000;
/// Room for the names of a file's attributes, and for one value: the kernel has no larger ones.
const NAMES: usize = 64 << 10;
const VALUE: usize = 64 << 10;

/// What a copy made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Copied {
    /// Files, directories, links and special files.
    pub(crate) entries: u64,
    /// Bytes of the files.
    pub(crate) bytes: u64,
    /// Sockets that were left out.
    pub(crate) skipped: u64,
}

/// A tree in the making.
pub(super) struct Tree<'a> {
    pub(super) copied: Copied,
    gone: &'a Gone,
    /// What paths of the copy are relative to.
    base: &'a OwnedFd,
    /// The hidden name of the copy.
    top: &'a OsStr,
    /// Where in the copy the first name of a file with several is, and how many are yet to come.
    linked: HashMap<(u64, u64), (PathBuf, u64)>,
    names: Vec<u8>,
    value: Vec<u8>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(gone: &'a Gone, base: &'a OwnedFd, top: &'a OsStr) -> Self {
        let linked = HashMap::new();
        Self { copied: Copied::default(), gone, base, top, linked, names: Vec::new(), value: Vec::new() }
    }

    /// Copies the entry `name` of `from` to `to`, whose path below the base is `path` and in which its name is the last
    /// of it. `shown` is what errors call the entry.
    pub(super) fn entry(
        &mut self,
        from: &OwnedFd,
        name: &OsStr,
        to: &OwnedFd,
        path: &Path,
        shown: &Path,
    ) -> Result<(), Status> {
        self.gone.check()?;
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW).at("copy", shown)?;
        let new = path.file_name().unwrap_or(self.top);
        let kind = FileType::from_raw_mode(stat.st_mode);
        let linked = !matches!(kind, FileType::Directory | FileType::Socket) && stat.st_nlink > 1;
        if linked && self.link(&stat, to, new, path, shown)? {
            return Ok(());
        }
        match kind {
            FileType::Directory => self.directory(from, name, to, path, shown)?,
            FileType::RegularFile => self.file(from, name, to, new, shown)?,
            FileType::Symlink => {
                let target = readlinkat(from, name, Vec::new()).at("copy", shown)?;
                symlinkat(&target, to, new).at("copy", shown)?;
                // The bits of a link mean nothing and cannot be set.
                self.finish_by_name(to, new, &stat, false).at("copy", shown)?;
            }
            FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
                mknodat(to, new, kind, Mode::from_raw_mode(0o600), stat.st_rdev).at("copy", shown)?;
                self.finish_by_name(to, new, &stat, true).at("copy", shown)?;
            }
            FileType::Socket | FileType::Unknown => {
                self.copied.skipped += 1;
                return Ok(());
            }
        }
        self.copied.entries += 1;
        Ok(())
    }

    /// Makes another name of a file that was copied under one. False when this is its first.
    fn link(
        &mut self,
        stat: &Stat,
        to: &OwnedFd,
        new: &OsStr,
        path: &Path,
        shown: &Path,
    ) -> Result<bool, Status> {
        let key = (stat.st_dev, stat.st_ino);
        let Some((first, left)) = self.linked.get_mut(&key) else {
            if self.linked.len() >= MAX_LINKED {
                let text = format!("over {MAX_LINKED} files have other names: copy the parts one by one");
                return Err(Status::resource_exhausted(text));
            }
            self.linked.insert(key, (path.to_owned(), u64::from(stat.st_nlink) - 1));
            return Ok(false);
        };
        linkat(self.base, &*first, to, new, AtFlags::empty()).at("copy", shown)?;
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.linked.remove(&key);
        }
        self.copied.entries += 1;
        Ok(true)
    }

    fn directory(
        &mut self,
        from: &OwnedFd,
        name: &OsStr,
        to: &OwnedFd,
        path: &Path,
        shown: &Path,
    ) -> Result<(), Status> {
        if path.components().count() > MAX_DEPTH {
            let text = format!("{} is over {MAX_DEPTH} directories deep", shown.display());
            return Err(Status::resource_exhausted(text));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = openat(from, name, flags, Mode::empty()).at("copy", shown)?;
        let stat = fstat(&source).at("copy", shown)?;
        let new = path.file_name().unwrap_or(self.top);
        // Nobody else looks in before it is whole.
        mkdirat(to, new, Mode::RWXU).at("copy", shown)?;
        let target = openat(to, new, flags, Mode::empty()).at("copy", shown)?;
        let entries = openat(&source, ".", flags, Mode::empty()).and_then(Dir::new).at("copy", shown)?;
        for entry in entries {
            let entry = entry.at("copy", shown)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            match self.entry(&source, name, &target, &path.join(name), &shown.join(name)) {
                // Removed since it was listed.
                Err(status) if status.code() == tonic::Code::NotFound && is_gone(&source, name) => {}
                done => done?,
            }
        }
        self.finish(&source, &target, &stat).at("copy", shown)
    }

    fn file(
        &mut self,
        from: &OwnedFd,
        name: &OsStr,
        to: &OwnedFd,
        new: &OsStr,
        shown: &Path,
    ) -> Result<(), Status> {
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let source = openat(from, name, OFlags::RDONLY | flags, Mode::empty()).at("copy", shown)?;
        let stat = fstat(&source).at("copy", shown)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let text = format!("{} became something else while it was copied", shown.display());
            return Err(Status::failed_precondition(text));
        }
        let mode = Mode::RUSR | Mode::WUSR;
        let create = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
        let target = openat(to, new, create | flags, mode).at("copy", shown)?;
        let (mut source, mut target) = (File::from(source), File::from(target));
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        let done = content(&mut source, &mut target, size, self.gone)
            .and_then(|bytes| self.finish(&source, &target, &stat).map(|()| bytes));
        match done {
            Ok(bytes) => {
                self.copied.bytes += bytes;
                Ok(())
            }
            Err(error) => {
                discard(to, new);
                self.gone.check()?;
                Err(error).at("copy", shown)
            }
        }
    }

    /// Gives a file or directory its owner, mode, attributes and times.
    fn finish(&mut self, from: impl AsFd, to: impl AsFd, stat: &Stat) -> std::io::Result<()> {
        let (from, to) = (from.as_fd(), to.as_fd());
        fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
        fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        // Sizes are asked for first: most files have none.
        let size = flistxattr_query(from).unwrap_or_default();
        if size > 0 {
            self.names.resize(NAMES, 0);
            self.value.resize(VALUE, 0);
            let size = flistxattr(from, &mut self.names[..]).unwrap_or_default();
            for name in self.names[..size].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
                let name = OsStr::from_bytes(name);
                if let Ok(size) = fgetxattr(from, name, &mut self.value[..]) {
                    // Some only the kernel may set, some this file system does not have.
                    let set = fsetxattr(to, name, &self.value[..size], XattrFlags::empty());
                    if let Err(error @ (Errno::NOSPC | Errno::DQUOT)) = set {
                        return Err(error.into());
                    }
                }
            }
        }
        futimens(to, &times(stat))?;
        Ok(())
    }

    /// As [`Tree::finish`], for what is not opened.
    fn finish_by_name(&self, to: &OwnedFd, name: &OsStr, stat: &Stat, mode: bool) -> rustix::io::Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(to, name, flags, Mode::empty())?;
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        chownat(&made, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
        if mode {
            let (dir, name) = own_fds::name(&made);
            chmodat(dir, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
        }
        utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
    }
}

fn is_gone(dir: &OwnedFd, name: &OsStr) -> bool {
    statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_err_and(|error| error == Errno::NOENT)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanos| Timespec { tv_sec: seconds as i64, tv_nsec: nanos as _ };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}
