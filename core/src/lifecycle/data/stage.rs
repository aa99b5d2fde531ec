//! A folder that is made beside its place, under a hidden name.
//!
//! Whoever makes one holds a lock on it (flock(2)), which the kernel gives back when the host dies: what nobody holds is left over,
//! and goes when the next one is made in the same directory.

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, Result};
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

const PREFIX: &str = ".dunnage-folder-";
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How often one is made that somebody takes away or holds at once.
const TRIES: usize = 64;

/// A folder beside its place.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) parent: OwnedFd,
    pub(super) name: OsString,
    _lock: OwnedFd,
}

impl Stage {
    /// Makes an empty one with `make`, after removing those that others left in `parent`.
    ///
    /// # Errors
    /// Those of the system calls; EBUSY when somebody holds each that is made. What cannot be removed stays, and is no error.
    pub(super) fn new(parent: OwnedFd, make: impl Fn(&OwnedFd, &OsStr) -> Result<()>) -> Result<Self> {
        // Not being able to look is no reason not to work.
        let _ = sweep(&parent);
        for _ in 0..TRIES {
            let name = OsString::from(format!("{PREFIX}{}", uuid::Uuid::now_v7().simple()));
            make(&parent, &name)?;
            // Until it is locked, somebody may take it for a leftover.
            let Some(lock) = open(&parent, &name)? else { continue };
            // Never waited for: what runs in the workspace may hold it as long as it likes.
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => continue,
                locked => locked?,
            }
            if is_still(&parent, &name, &lock)? {
                return Ok(Self { parent, name, _lock: lock });
            }
        }
        Err(Errno::BUSY)
    }

    /// Opens it, or what has been put in its name.
    pub(super) fn open(&self) -> Result<OwnedFd> {
        rustix::fs::openat(&self.parent, &self.name, DIRECTORY, Mode::empty())
    }

    /// Removes what has its name. False when that is not possible.
    pub(super) fn erase(&self) -> bool {
        erase(self.parent.as_fd(), self.name.as_bytes())
    }
}

/// `None` when it is not there.
fn open(parent: &OwnedFd, name: &OsStr) -> Result<Option<OwnedFd>> {
    match rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => Ok(None),
        opened => opened.map(Some),
    }
}

fn erase(parent: BorrowedFd<'_>, name: &[u8]) -> bool {
    match dunnage_archive::erase(parent, name) {
        Ok(()) => true,
        Err(error) => error.cause().is_some_and(|cause| cause.kind() == io::ErrorKind::NotFound),
    }
}

/// Whether a name leads to this directory.
fn is_still(parent: &OwnedFd, name: &OsStr, dir: &OwnedFd) -> Result<bool> {
    let own = rustix::fs::fstat(dir)?;
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => Ok((there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Removes what has such a name and is locked by nobody.
fn sweep(parent: &OwnedFd) -> Result<()> {
    let listed = rustix::fs::openat(parent, ".", DIRECTORY, Mode::empty())?;
    let is_ours = |name: &CString| name.to_bytes().starts_with(PREFIX.as_bytes());
    let names = Dir::new(listed)?.filter_map(|entry| Some(entry.ok()?.file_name().to_owned()));
    for name in names.filter(is_ours).collect::<Vec<_>>() {
        let Ok(dir) = rustix::fs::openat(parent, &name, DIRECTORY, Mode::empty()) else { continue };
        if rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok() {
            erase(parent.as_fd(), name.to_bytes());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(path: &std::path::Path) -> Stage {
        let parent = rustix::fs::open(path, DIRECTORY, Mode::empty()).unwrap();
        Stage::new(parent, |parent, name| rustix::fs::mkdirat(parent, name, Mode::RWXU)).unwrap()
    }

    #[test]
    fn what_nobody_holds_goes_with_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &OsStr| dir.path().join(name);
        let held = stage(dir.path());
        let left = stage(dir.path());
        std::fs::create_dir(at(&left.name).join("in")).unwrap();
        std::fs::write(at(&left.name).join("in/file"), "x").unwrap();
        // Names that are not ours, and one that is but is no directory.
        let (other, link) = (at(OsStr::new(".dunnage-other")), at(OsStr::new(".dunnage-folder-link")));
        std::fs::create_dir(&other).unwrap();
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        let gone = left.name.clone();
        drop(left);
        let next = stage(dir.path());
        assert!(!at(&gone).exists(), "it is left over");
        assert!(at(&held.name).exists() && at(&next.name).exists() && other.exists() && link.is_symlink());
        assert!(next.erase() && next.erase(), "what has gone is removed");
        assert!(!at(&next.name).exists());
    }

    #[test]
    fn whoever_holds_a_new_one_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let parent = rustix::fs::open(dir.path(), DIRECTORY, Mode::empty()).unwrap();
        let held = std::cell::RefCell::new(Vec::new());
        let make_and_hold = |parent: &OwnedFd, name: &OsStr| {
            rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
            let lock = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?;
            rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
            held.borrow_mut().push(lock);
            Ok(())
        };
        assert_eq!(Stage::new(parent, make_and_hold).unwrap_err(), Errno::BUSY);
        assert_eq!(held.borrow().len(), TRIES);
        held.borrow_mut().clear();
        let next = stage(dir.path());
        assert!(next.erase());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn many_at_once_keep_their_own() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let stage = stage(dir.path());
                        rustix::fs::mkdirat(stage.open().unwrap(), "in", Mode::RWXU).unwrap();
                        assert!(dir.path().join(&stage.name).join("in").exists(), "another one took it away");
                        assert!(stage.erase());
                    }
                });
            }
        });
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
