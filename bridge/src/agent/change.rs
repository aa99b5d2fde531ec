//! Changing permission bits and owners, of one path or of a tree.
//!
//! A tree is walked from directory to directory by descriptor: a name that becomes a link meanwhile leads nowhere else.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, fstat, open, openat};
use rustix::io::Errno;
use tonic::Status;

use super::errors::At;
use super::long::Gone;
use super::own_fds;

/// Directories within directories that are followed.
pub(crate) const MAX_DEPTH: usize = 1000;

/// What to change.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    /// Permission bits.
    Mode(u32),
    /// Owner and group; `None` stays as it is.
    Owner(Option<u32>, Option<u32>),
}

/// Changes a path, with all that is below it on demand, and returns how many files and directories were changed. Links
/// below are passed over or, for an owner, changed themselves.
///
/// # Errors
/// Those of the first thing that cannot be changed, which it names; what was changed before stays so. `CANCELLED` when
/// nobody waits any more.
pub(crate) fn change(path: &Path, change: Change, recursive: bool, gone: &Gone) -> Result<u64, Status> {
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    if matches!(change, Change::Owner(..)) {
        flags |= OFlags::NOFOLLOW;
    }
    let top = open(path, flags, Mode::empty()).at(change.verb(), path)?;
    let mut walk = Walk { change, gone, changed: 0 };
    let is_dir = kind(&top).at(change.verb(), path)? == FileType::Directory;
    if recursive && is_dir {
        walk.below(&top, path, 0)?;
    }
    walk.apply(&top, path)?;
    Ok(walk.changed)
}

fn kind(fd: &OwnedFd) -> rustix::io::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode))
}

impl Change {
    fn verb(self) -> &'static str {
        match self {
            Self::Mode(_) => "change the mode of",
            Self::Owner(..) => "change the owner of",
        }
    }
}

struct Walk<'a> {
    change: Change,
    gone: &'a Gone,
    changed: u64,
}

impl Walk<'_> {
    /// Changes what is in a directory. Each directory comes after what it holds, so that taking permissions away does not
    /// bar the way.
    fn below(&mut self, dir: &OwnedFd, path: &Path, depth: usize) -> Result<(), Status> {
        if depth >= MAX_DEPTH {
            let text = format!("{} is over {MAX_DEPTH} directories deep", path.display());
            return Err(Status::resource_exhausted(text));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let entries = openat(dir, ".", flags, Mode::empty()).and_then(Dir::new).at("list", path)?;
        for entry in entries {
            self.gone.check()?;
            let entry = entry.at("list", path)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            self.entry(dir, name, &path.join(OsStr::from_bytes(name.to_bytes())), depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, dir: &OwnedFd, name: &CStr, path: &Path, depth: usize) -> Result<(), Status> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match openat(dir, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            // Removed since it was listed.
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error).at(self.change.verb(), path),
        };
        match kind(&fd).at(self.change.verb(), path)? {
            FileType::Directory => self.below(&fd, path, depth + 1)?,
            FileType::Symlink if matches!(self.change, Change::Mode(_)) => return Ok(()),
            _ => {}
        }
        self.apply(&fd, path)
    }

    fn apply(&mut self, fd: &OwnedFd, path: &Path) -> Result<(), Status> {
        let done = match self.change {
            // The call for descriptors refuses those that only name a file.
            Change::Mode(mode) => {
                let (dir, name) = own_fds::name(fd);
                chmodat(dir, name, Mode::from_raw_mode(mode), AtFlags::empty())
            }
            Change::Owner(uid, gid) => {
                let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
                chownat(fd.as_fd(), "", uid, gid, AtFlags::EMPTY_PATH)
            }
        };
        done.at(self.change.verb(), path)?;
        self.changed += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("d/e")).unwrap();
        for file in ["outside", "d/f", "d/e/g"] {
            std::fs::write(dir.path().join(file), "").unwrap();
            std::fs::set_permissions(dir.path().join(file), PermissionsExt::from_mode(0o644)).unwrap();
        }
        symlink("../outside", dir.path().join("d/link")).unwrap();
        dir
    }

    #[test]
    fn modes_of_a_tree_change_and_links_lead_nowhere() {
        let dir = tree();
        let mode = |path: &str| dir.path().join(path).symlink_metadata().unwrap().mode() & 0o7777;
        let gone = Gone::default();
        assert_eq!(change(&dir.path().join("d"), Change::Mode(0o4700), false, &gone).unwrap(), 1);
        assert_eq!((mode("d"), mode("d/f")), (0o4700, 0o644));
        assert_eq!(change(&dir.path().join("d"), Change::Mode(0o500), true, &gone).unwrap(), 4);
        for path in ["d", "d/f", "d/e", "d/e/g"] {
            assert_eq!(mode(path), 0o500, "{path}");
        }
        assert_eq!(mode("outside"), 0o644);
        // A link that is named itself is followed.
        change(&dir.path().join("d/link"), Change::Mode(0o600), true, &gone).unwrap();
        assert_eq!(mode("outside"), 0o600);
        let missing = change(&dir.path().join("none"), Change::Mode(0), false, &gone);
        assert_eq!(missing.unwrap_err().code(), tonic::Code::NotFound);
    }

    #[test]
    fn owners_change_also_of_links_themselves() {
        let dir = tree();
        let owner = |path: &str| {
            let found = dir.path().join(path).symlink_metadata().unwrap();
            (found.uid(), found.gid())
        };
        let gone = Gone::default();
        let all = Change::Owner(Some(1234), None);
        assert_eq!(change(&dir.path().join("d"), all, true, &gone).unwrap(), 5);
        let before = owner("outside");
        assert_eq!((owner("d/link"), owner("d/e/g").0), ((1234, before.1), 1234));
        change(&dir.path().join("d/link"), Change::Owner(None, Some(77)), true, &gone).unwrap();
        assert_eq!((owner("d/link"), owner("outside")), ((1234, 77), before));
    }

    #[test]
    fn nobody_waiting_ends_it() {
        let dir = tree();
        let gone = Gone::default();
        gone.say();
        let ended = change(&dir.path().join("d"), Change::Mode(0o700), true, &gone);
        assert_eq!(ended.unwrap_err().code(), tonic::Code::Cancelled);
    }
}
