use crate::chain::DIRECTORY;
use crate::error::{Error, Result};
use rustix::fs::{AtFlags, Dir, Mode, RenameFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How often a directory is emptied that somebody else fills meanwhile.
const TRIES: u32 = 16;

/// Removes what has this name in a directory, with all below. That nothing has it is no error.
///
/// No link is followed, and few directories are open at a time, however deep the tree is: a directory that is not empty is
/// moved up to the top of the tree before it is emptied.
///
/// # Errors
/// Target, for what the file system refuses. Part of the tree may be gone then; another call goes on.
pub fn erase(parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    erase_in(parent, name).map_err(|e| Error::target(e.into(), "cannot remove the tree").at(name))
}

fn erase_in(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    if remove(parent, name)? {
        return Ok(());
    }
    let top = open(parent, name)?;
    let mut moved = 0;
    // Directories right below the top that are not empty.
    let mut full = Vec::new();
    for _ in 0..TRIES {
        empty(&top, |name| {
            full.push(name);
            Ok(())
        })?;
        while let Some(name) = full.pop() {
            for round in 0.. {
                let directory = open(top.as_fd(), &name)?;
                empty(&directory, |inner| {
                    full.push(lift(&directory, &inner, &top, &mut moved)?);
                    Ok(())
                })?;
                drop(directory);
                if remove(top.as_fd(), &name)? {
                    break;
                }
                if round == TRIES {
                    return Err(Errno::NOTEMPTY);
                }
            }
        }
        if remove(parent, name)? {
            return Ok(());
        }
    }
    Err(Errno::NOTEMPTY)
}

/// Moves a directory up to the top, under a name that nothing has there. Returns the name.
fn lift(from: &OwnedFd, name: &[u8], top: &OwnedFd, moved: &mut u64) -> rustix::io::Result<Vec<u8>> {
    loop {
        *moved += 1;
        let free = format!(".erased-{moved}").into_bytes();
        match rustix::fs::renameat_with(from, name, top, &free[..], RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            done => return done.map(|()| free),
        }
    }
}

/// Removes what is in a directory, and tells of the directories in it that are not empty.
fn empty(
    directory: &OwnedFd,
    mut full: impl FnMut(Vec<u8>) -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") && !remove(directory.as_fd(), name)? {
            full(name.to_vec())?;
        }
    }
    Ok(())
}

/// Removes one entry. False for a directory that is not empty.
fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<bool> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(errno),
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn open(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::path::Path;

    fn root(path: &Path) -> OwnedFd {
        File::open(path).unwrap().into()
    }

    #[test]
    fn all_below_goes_and_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("tree/a/b/c")).unwrap();
        std::fs::create_dir_all(at("tree/.erased-1/b")).unwrap();
        std::fs::create_dir_all(at("kept")).unwrap();
        std::fs::write(at("kept/file"), "kept").unwrap();
        std::fs::write(at("tree/a/b/c/file"), "gone").unwrap();
        std::os::unix::fs::symlink(at("kept"), at("tree/a/link")).unwrap();
        std::os::unix::fs::symlink("/", at("tree/link")).unwrap();
        erase(root(dir.path()).as_fd(), b"tree").unwrap();
        assert!(!at("tree").exists());
        assert_eq!(std::fs::read_to_string(at("kept/file")).unwrap(), "kept");
        erase(root(dir.path()).as_fd(), b"tree").unwrap();
        std::os::unix::fs::symlink("kept", at("link")).unwrap();
        erase(root(dir.path()).as_fd(), b"link").unwrap();
        assert!(at("kept").exists() && at("link").symlink_metadata().is_err());
    }

    #[test]
    fn depth_takes_neither_stack_nor_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        let name = "d".repeat(100);
        let top = root(dir.path());
        rustix::fs::mkdirat(&top, "tree", Mode::RWXU).unwrap();
        let mut at = open(top.as_fd(), b"tree").unwrap();
        for _ in 0..10_000 {
            rustix::fs::mkdirat(&at, name.as_str(), Mode::RWXU).unwrap();
            at = open(at.as_fd(), name.as_bytes()).unwrap();
        }
        drop(at);
        erase(top.as_fd(), b"tree").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
