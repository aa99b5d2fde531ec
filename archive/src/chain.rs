use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How a directory of a tree is opened: for reading, and never through a link.
pub(crate) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Directories of a chain that are open at a time.
const OPEN: usize = 48;

/// The way from a tree's root down to one directory, gone one name at a time.
///
/// No link is followed, and no name is longer than one component, so the way may be longer than the kernel takes as a path.
/// Few of its directories are open: one further up is found again through the child's `..`, and must be the one that was
/// left.
pub(crate) struct Chain {
    root: OwnedFd,
    levels: Vec<Level>,
}

struct Level {
    name: Vec<u8>,
    directory: Option<OwnedFd>,
    identity: (u64, u64),
}

impl Chain {
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self { root, levels: Vec::new() }
    }

    /// The directory where the way ends.
    pub(crate) fn here(&self) -> BorrowedFd<'_> {
        // The last is always open.
        self.levels.last().and_then(|level| level.directory.as_ref()).unwrap_or(&self.root).as_fd()
    }

    /// How many names the way has.
    pub(crate) fn depth(&self) -> usize {
        self.levels.len()
    }

    /// Goes on into a directory that was opened by its name here.
    pub(crate) fn push(&mut self, name: &[u8], directory: OwnedFd) -> io::Result<()> {
        let stat = rustix::fs::fstat(&directory)?;
        let identity = (stat.st_dev, stat.st_ino);
        self.levels.push(Level { name: name.to_vec(), directory: Some(directory), identity });
        if let Some(far) = self.levels.len().checked_sub(OPEN + 1) {
            self.levels[far].directory = None;
        }
        Ok(())
    }

    /// Goes back by one.
    ///
    /// # Errors
    /// `NotFound` when the directory it was in has become another's child.
    pub(crate) fn pop(&mut self) -> io::Result<()> {
        if let [.., parent, child] = &mut self.levels[..]
            && parent.directory.is_none()
        {
            let child = child.directory.as_ref().ok_or(Errno::BADF)?;
            let above = rustix::fs::openat(child, "..", DIRECTORY, Mode::empty())?;
            let stat = rustix::fs::fstat(&above)?;
            if (stat.st_dev, stat.st_ino) != parent.identity {
                let moved = "a directory was moved elsewhere meanwhile";
                return Err(io::Error::new(io::ErrorKind::NotFound, moved));
            }
            parent.directory = Some(above);
        }
        self.levels.pop();
        Ok(())
    }

    /// Goes to the directory of these names, down from the root. One that is missing is handed to `make`, which makes it
    /// in its parent.
    pub(crate) fn go<'n>(
        &mut self,
        names: impl Iterator<Item = &'n [u8]> + Clone,
        mut make: impl FnMut(BorrowedFd<'_>, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let common =
            self.levels.iter().zip(names.clone()).take_while(|(level, name)| level.name == *name).count();
        while self.levels.len() > common {
            self.pop()?;
        }
        for name in names.skip(common) {
            let directory = match rustix::fs::openat(self.here(), name, DIRECTORY, Mode::empty()) {
                Err(Errno::NOENT) => {
                    make(self.here(), name)?;
                    rustix::fs::openat(self.here(), name, DIRECTORY, Mode::empty())?
                }
                opened => opened?,
            };
            self.push(name, directory)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &std::path::Path) -> OwnedFd {
        rustix::fs::open(path, DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn ways_longer_than_a_path_are_gone_and_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut chain = Chain::new(open(dir.path()));
        let names = vec![b"a-name-of-some-length".to_vec(); 2000];
        let make = |parent: BorrowedFd<'_>, name: &[u8]| Ok(rustix::fs::mkdirat(parent, name, Mode::RWXU)?);
        chain.go(names.iter().map(Vec::as_slice), make).unwrap();
        assert_eq!(chain.depth(), 2000);
        chain.go([&b"b"[..]].into_iter(), make).unwrap();
        assert!(dir.path().join("b").is_dir());
        // Back again, through what is there.
        chain.go(names.iter().map(Vec::as_slice), |_, _| panic!("it is there")).unwrap();
        while chain.depth() > 0 {
            let name = chain.levels.last().unwrap().name.clone();
            chain.pop().unwrap();
            rustix::fs::unlinkat(chain.here(), &name[..], rustix::fs::AtFlags::REMOVEDIR).unwrap();
        }
    }

    #[test]
    fn links_and_moves_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
        let mut chain = Chain::new(open(dir.path()));
        assert!(chain.go([&b"out"[..]].into_iter(), |_, _| Ok(())).is_err());
        let names = vec![b"d".to_vec(); OPEN + 2];
        let make = |parent: BorrowedFd<'_>, name: &[u8]| Ok(rustix::fs::mkdirat(parent, name, Mode::RWXU)?);
        chain.go(names.iter().map(Vec::as_slice), make).unwrap();
        // What is second from above is closed by now; its child goes elsewhere.
        let other = tempfile::tempdir().unwrap();
        std::fs::rename(dir.path().join("d/d/d"), other.path().join("d")).unwrap();
        let error = (0..OPEN + 2).find_map(|_| chain.pop().err()).expect("it is told");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
