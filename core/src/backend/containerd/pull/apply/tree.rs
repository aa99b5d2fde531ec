//! Names inside a layer's directory: every one is resolved within it, whatever links the archive made before.

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// Directories kept open; an archive names few at a time.
const KEPT: usize = 128;

/// Links followed for one name, as the kernel has it.
const MOST_LINKS: u32 = 40;

/// A directory, and the names below it.
pub(super) struct Tree {
    root: OwnedFd,
    open: HashMap<Vec<u8>, Rc<OwnedFd>>,
    /// Directories that were made although the archive did not name them.
    implied: Vec<Vec<u8>>,
}

/// Where an entry goes: the directory and the name in it.
pub(super) struct Place {
    pub(super) parent: Rc<OwnedFd>,
    pub(super) name: Vec<u8>,
}

impl Place {
    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.parent.as_fd()
    }
}

/// A path without `.`, `..` and empty parts, relative to the root; empty for the root itself.
pub(super) fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// The directory part and the last part of a clean path.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// Opens a directory below `root` for use as an anchor. Links are resolved as if `root` were `/`.
pub(super) fn open_beneath(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    rustix::fs::openat2(
        root,
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}

/// Opens a directory for use as an anchor, never a link.
fn anchor(parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

impl Tree {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root, open: HashMap::new(), implied: Vec::new() }
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The root, and the directories that were made although the archive did not name them.
    pub(super) fn into_parts(self) -> (OwnedFd, Vec<Vec<u8>>) {
        (self.root, self.implied)
    }

    /// Where the entry of this clean, non-empty path goes. Directories that are missing on the way are made.
    pub(super) fn place(&mut self, path: &[u8]) -> io::Result<Place> {
        let (parent, name) = split(path);
        Ok(Place { parent: self.directory(parent, 0)?, name: name.to_vec() })
    }

    /// Where the target of a hard link is, if its directory is here.
    pub(super) fn existing(&self, path: &[u8]) -> io::Result<Option<Place>> {
        let (parent, name) = split(path);
        match open_beneath(self.root.as_fd(), parent) {
            Ok(fd) => Ok(Some(Place { parent: Rc::new(fd), name: name.to_vec() })),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn directory(&mut self, path: &[u8], links: u32) -> io::Result<Rc<OwnedFd>> {
        if let Some(fd) = self.open.get(path) {
            return Ok(fd.clone());
        }
        let fd = match open_beneath(self.root.as_fd(), path) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return self.make(path, links),
            Err(e) => return Err(e.into()),
        };
        Ok(self.keep(path, fd))
    }

    fn make(&mut self, path: &[u8], links: u32) -> io::Result<Rc<OwnedFd>> {
        if links > MOST_LINKS {
            return Err(Errno::LOOP.into());
        }
        let (above, name) = split(path);
        let parent = self.directory(above, links)?;
        match rustix::fs::mkdirat(&*parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                // The host's umask is not ours.
                rustix::fs::chmodat(&*parent, name, Mode::from_raw_mode(0o755), AtFlags::empty())?;
                self.implied.push(path.to_vec());
                // Not by its whole path: a link on the way may lead through a directory that only a layer below has.
                Ok(self.keep(path, anchor(&parent, name)?))
            }
            // A link to something that is not there yet: what it points at is made.
            Err(Errno::EXIST) => {
                let target = match rustix::fs::readlinkat(&*parent, name, Vec::new()) {
                    // A directory that was made so, and not found by its whole path.
                    Err(Errno::INVAL) => return Ok(self.keep(path, anchor(&parent, name)?)),
                    target => target?,
                };
                let target = target.as_bytes();
                let joined =
                    if target.starts_with(b"/") { target.to_vec() } else { [above, b"/", target].concat() };
                self.directory(&clean(&joined), links + 1)
            }
            Err(e) => Err(e.into()),
        }
    }

    fn keep(&mut self, path: &[u8], fd: OwnedFd) -> Rc<OwnedFd> {
        if self.open.len() >= KEPT {
            self.open.clear();
        }
        let fd = Rc::new(fd);
        self.open.insert(path.to_vec(), fd.clone());
        fd
    }

    /// Removes what is at a place, with all below it. What was resolved through it is forgotten.
    pub(super) fn remove(&mut self, place: &Place) -> io::Result<()> {
        self.open.clear();
        remove_all(place.dir(), &place.name)
    }
}

fn remove_all(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let child = entry.file_name().to_bytes();
        if child != b"." && child != b".." {
            remove_all(directory.as_fd(), child)?;
        }
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?;
    Ok(())
}

/// Whether this is how overlayfs marks what is deleted.
pub(super) fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_through_directories_that_are_not_here_lead_on() {
        let dir = tempfile::tempdir().unwrap();
        let root = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let mut tree = Tree::new(root);
        std::os::unix::fs::symlink("usr/../slide", dir.path().join("hop")).unwrap();
        // The second time it is there already, and nobody remembers.
        for name in ["one", "two"] {
            let place = tree.place(format!("hop/deep/{name}").as_bytes()).unwrap();
            rustix::fs::mkdirat(place.dir(), &place.name[..], Mode::from_raw_mode(0o755)).unwrap();
            assert!(dir.path().join("slide/deep").join(name).is_dir());
            tree.open.clear();
        }
        // A file in the way of a directory stays one.
        std::fs::write(dir.path().join("slide/file"), "").unwrap();
        let error = tree.place(b"hop/file/x").err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    }
}
