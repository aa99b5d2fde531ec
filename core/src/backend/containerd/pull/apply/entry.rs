//! One entry of an archive, written.

use super::settle::{Applied, MissingLink};
use super::tree::{Place, Tree, clean, is_whiteout, split};
use dunnage_archive::{Entry, Kind, Reader, write};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::io::{self, BufRead};
use std::os::fd::{AsFd, OwnedFd};

const WHITEOUT: &[u8] = b".wh.";
const META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// How overlayfs marks a directory that hides what is below it.
const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// The state of a layer that is being written.
pub(super) struct Writing {
    tree: Tree,
    /// Directories get their times last: writing into them changes these.
    times: Vec<(Vec<u8>, Timestamps)>,
    missing: Vec<MissingLink>,
    root_named: bool,
}

impl Writing {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { tree: Tree::new(root), times: Vec::new(), missing: Vec::new(), root_named: false }
    }

    /// Writes all entries of an archive.
    ///
    /// # Errors
    /// Of the archive or of the file system; the message names the entry.
    pub(super) fn all<R: BufRead>(&mut self, archive: &mut Reader<R>) -> io::Result<()> {
        while let Some(entry) = archive.next()? {
            self.one(&entry, archive).map_err(|e| {
                let path = String::from_utf8_lossy(&entry.path).into_owned();
                io::Error::new(e.kind(), EntryError { path, source: e })
            })?;
        }
        Ok(())
    }

    /// What is left to do when the layers below are there.
    pub(super) fn finish(self) -> Applied {
        let (root, implied) = self.tree.into_parts();
        Applied::new(root, implied, self.times, self.missing, self.root_named)
    }

    fn one<R: BufRead>(&mut self, entry: &Entry, archive: &mut Reader<R>) -> io::Result<()> {
        let path = clean(&entry.path);
        let (parent, name) = split(&path);
        if name == OPAQUE {
            let parent = parent.to_vec();
            return self.opaque(&parent);
        }
        if name.starts_with(META) {
            // aufs left its own bookkeeping in old images.
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            if matches!(hidden, b"" | b"." | b"..") {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a whiteout of nothing"));
            }
            let hidden = if parent.is_empty() { hidden.to_vec() } else { [parent, b"/", hidden].concat() };
            return self.whiteout(&hidden, entry);
        }
        if path.is_empty() {
            if entry.kind == Kind::Directory {
                self.root_named = true;
                let root = rustix::fs::openat(self.tree.root(), ".", READ_DIRECTORY, Mode::empty())?;
                write::attributes(root.as_fd(), entry)?;
                self.times.push((Vec::new(), write::times(entry)));
            }
            return Ok(());
        }
        let place = self.tree.place(&path)?;
        match entry.kind {
            Kind::Directory => self.directory(&path, &place, entry),
            Kind::File => self.file(&place, entry, archive),
            Kind::HardLink => self.hard_link(&path, &place, entry),
            Kind::Symlink => {
                self.fresh(&place, |place| {
                    rustix::fs::symlinkat(&entry.link[..], place.dir(), &place.name[..])
                })?;
                write::special(place.dir(), &place.name, entry)
            }
            Kind::Fifo | Kind::Character | Kind::Block => {
                let kind = match entry.kind {
                    Kind::Fifo => FileType::Fifo,
                    Kind::Block => FileType::BlockDevice,
                    _ => FileType::CharacterDevice,
                };
                let device = rustix::fs::makedev(entry.device.0, entry.device.1);
                let mode = Mode::from_raw_mode(entry.mode);
                self.fresh(&place, |place| {
                    rustix::fs::mknodat(
                        place.dir(),
                        &place.name[..],
                        kind,
                        Mode::from_raw_mode(0o600),
                        device,
                    )
                })?;
                write::special(place.dir(), &place.name, entry)?;
                rustix::fs::chmodat(place.dir(), &place.name[..], mode, AtFlags::empty())?;
                // chmod changes only ctime; the times set before stay.
                Ok(())
            }
        }
    }

    /// Makes something where nothing may be: what is there goes first.
    fn fresh<T>(
        &mut self,
        place: &Place,
        mut make: impl FnMut(&Place) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        match make(place) {
            Err(Errno::EXIST) => {
                self.tree.remove(place)?;
                Ok(make(place)?)
            }
            done => Ok(done?),
        }
    }

    fn directory(&mut self, path: &[u8], place: &Place, entry: &Entry) -> io::Result<()> {
        let make = || rustix::fs::mkdirat(place.dir(), &place.name[..], Mode::from_raw_mode(0o700));
        let mut hides = false;
        match make() {
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(place.dir(), &place.name[..], AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    // Deleted and made again in one layer: what is below stays hidden.
                    hides = is_whiteout(&stat);
                    self.tree.remove(place)?;
                    make()?;
                }
            }
            done => done?,
        }
        let fd = rustix::fs::openat(place.dir(), &place.name[..], READ_DIRECTORY, Mode::empty())?;
        write::attributes(fd.as_fd(), entry)?;
        if hides {
            rustix::fs::fsetxattr(&fd, OPAQUE_XATTR, b"y", XattrFlags::empty())?;
        }
        self.times.push((path.to_vec(), write::times(entry)));
        Ok(())
    }

    fn file<R: BufRead>(&mut self, place: &Place, entry: &Entry, archive: &mut Reader<R>) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.fresh(place, |place| {
            rustix::fs::openat(place.dir(), &place.name[..], flags, Mode::from_raw_mode(0o600))
        })?;
        write::data(fd.as_fd(), entry, archive)?;
        write::attributes(fd.as_fd(), entry)?;
        rustix::fs::futimens(&fd, &write::times(entry))?;
        Ok(())
    }

    fn hard_link(&mut self, path: &[u8], place: &Place, entry: &Entry) -> io::Result<()> {
        let target = clean(&entry.link);
        let missing = MissingLink { path: path.to_vec(), target: target.clone() };
        let Some(source) = self.tree.existing(&target)?.filter(|_| !target.is_empty()) else {
            self.missing.push(missing);
            return Ok(());
        };
        let stat =
            |place: &Place| rustix::fs::statat(place.dir(), &place.name[..], AtFlags::SYMLINK_NOFOLLOW);
        match stat(&source) {
            Err(Errno::NOENT) => {
                self.missing.push(missing);
                return Ok(());
            }
            Err(e) => return Err(e.into()),
            Ok(found) if is_whiteout(&found) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a hard link to a deleted file"));
            }
            // A link to itself leaves all as it is.
            Ok(found)
                if stat(place).is_ok_and(|own| (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino)) =>
            {
                return Ok(());
            }
            Ok(_) => {}
        }
        self.fresh(place, |place| {
            let (from, to) = (&source.name[..], &place.name[..]);
            rustix::fs::linkat(source.dir(), from, place.dir(), to, AtFlags::empty())
        })
    }

    fn opaque(&mut self, directory: &[u8]) -> io::Result<()> {
        // Opening the place of a name below makes the directory when it is not there yet.
        let place = self.tree.place(&[directory, b"/x"].concat())?;
        let fd = rustix::fs::openat(place.dir(), ".", READ_DIRECTORY, Mode::empty())?;
        rustix::fs::fsetxattr(&fd, OPAQUE_XATTR, b"y", XattrFlags::empty())?;
        Ok(())
    }

    fn whiteout(&mut self, path: &[u8], entry: &Entry) -> io::Result<()> {
        let place = self.tree.place(path)?;
        let made = rustix::fs::mknodat(
            place.dir(),
            &place.name[..],
            FileType::CharacterDevice,
            Mode::empty(),
            rustix::fs::makedev(0, 0),
        );
        match made {
            Ok(()) => {
                let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
                Ok(rustix::fs::chownat(
                    place.dir(),
                    &place.name[..],
                    Some(uid),
                    Some(gid),
                    AtFlags::SYMLINK_NOFOLLOW,
                )?)
            }
            // A whiteout deletes what is below, never what its own layer brings.
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(place.dir(), &place.name[..], AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    let fd = rustix::fs::openat(place.dir(), &place.name[..], READ_DIRECTORY, Mode::empty())?;
                    rustix::fs::fsetxattr(&fd, OPAQUE_XATTR, b"y", XattrFlags::empty())?;
                }
                Ok(())
            }
            Err(e) => Err(e.into()),
        }
    }
}

pub(super) const READ_DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// An error with the entry it came from.
#[derive(Debug, thiserror::Error)]
#[error("{path:?}: {source}")]
struct EntryError {
    path: String,
    source: io::Error,
}
