//! Replacing a file in one step.
//!
//! Whoever reads the path meanwhile sees the old file or the new one, whole. The new bytes go to a file without a name
//! (or, where the file system has no such thing, a hidden one) in the same directory, which then takes the name.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Uid, fchmod, fchown, fstat, linkat, open,
    openat, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;
use tonic::Status;

use super::errors::{At, status};
use super::revision::{self, Expected};
use super::temp::Purpose;
use super::{locks, own_fds, paths, temp};

/// Permission bits of a new file.
const NEW_FILE: u32 = 0o644;
/// Permission bits of a missing parent.
const NEW_DIR: u32 = 0o755;
/// Symbolic links followed before giving up, as in the kernel.
const MAX_LINKS: usize = 40;

/// A file in the making. Dropped before [`Replacement::commit`], it leaves nothing.
#[derive(Debug)]
pub(crate) struct Replacement {
    file: File,
    dir: OwnedFd,
    /// Its hidden name; `None` while it has none.
    temp: Option<OsString>,
    name: OsString,
    path: PathBuf,
    mode: Option<u32>,
    expected: Expected,
}

/// A file that is in its place.
#[derive(Debug)]
pub(crate) struct Written {
    /// Its length in bytes.
    pub(crate) size: u64,
    /// Its revision.
    pub(crate) revision: String,
}

impl Replacement {
    /// Begins a file that will replace `path`, or what a symbolic link there points to. Missing parents are made.
    ///
    /// `mode` sets the permission bits; otherwise they are those of the file replaced, else 0644. Nothing is made when what
    /// is there is not what is expected.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when `mode` has other bits, `ABORTED` for what is not expected, `FAILED_PRECONDITION` when something other than a regular file is
    /// there, `PERMISSION_DENIED` when the file there may not be written, and whatever making the file fails with.
    pub(crate) fn begin(path: &Path, mode: Option<u32>, expected: Expected) -> Result<Self, Status> {
        if mode.is_some_and(|mode| mode > 0o7777) {
            return Err(Status::invalid_argument("a mode has permission bits only, up to octal 7777"));
        }
        let path = final_target(path)?;
        paths::not_root(&path, "write")?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        if !expected.is_any() {
            expected.check(rustix::fs::stat(&path).ok().as_ref(), &path)?;
        }
        make_dirs(parent)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = open(parent, flags, Mode::empty()).at("open", parent)?;
        let name = paths::base_name(&path).to_owned();
        if existing(&dir, &name, &path)?.is_some() {
            let may = rustix::fs::accessat(&dir, &name, rustix::fs::Access::WRITE_OK, AtFlags::EACCESS);
            may.at("write", &path)?;
        }
        let (file, temp) =
            unnamed(&dir).map_or_else(|| hidden(&dir, &name, &path), |file| Ok((file, None)))?;
        Ok(Self { file, dir, temp, name, path, mode, expected })
    }

    /// The file to write to.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Where it will be.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the file in place with the mode, owner and extended attributes of the one it replaces.
    ///
    /// A file that cannot be replaced, because it is a mount point or its owner cannot be given, is overwritten where it
    /// is. The data is not flushed to the disk: a crash of the machine may still lose it, one of the agent may not.
    ///
    /// # Errors
    /// As [`Replacement::begin`]; the old file is untouched then, except when overwriting it where it is broke off.
    pub(crate) fn commit(mut self) -> Result<Written, Status> {
        let size = fstat(&self.file).at("write", &self.path)?.st_size;
        let size = u64::try_from(size).unwrap_or_default();
        let _held = locks::hold(&self.dir, &self.name);
        let old = existing(&self.dir, &self.name, &self.path)?;
        self.expected.check(old.as_ref(), &self.path)?;
        let stat = match old {
            Some(old) => self.replace(&old)?,
            None => self.create()?,
        };
        Ok(Written { size, revision: revision::revision(&stat) })
    }

    /// Takes the place of the old file.
    fn replace(&mut self, old: &Stat) -> Result<Stat, Status> {
        let mode = self.mode.unwrap_or(old.st_mode & 0o7777);
        if !self.take_owner(old).at("keep the owner of", &self.path)? {
            return self.overwrite(mode).at("write", &self.path);
        }
        super::entry::copy_xattrs(&self.path, &self.file);
        fchmod(&self.file, Mode::from_raw_mode(mode)).at("set the mode of", &self.path)?;
        self.be_named().at("write", &self.path)?;
        if !self.expected.is_any() {
            // The last look: whoever changes it from here on is not one who comes through this agent.
            let there = existing(&self.dir, &self.name, &self.path)?;
            self.expected.check(there.as_ref(), &self.path)?;
        }
        match self.rename(None) {
            Ok(()) => fstat(&self.file).at("write", &self.path),
            Err(Errno::BUSY) => self.overwrite(mode).at("write", &self.path),
            Err(error) => Err(error).at("write", &self.path),
        }
    }

    /// Takes a place where nothing was. What came there meanwhile is replaced, unless nothing was expected.
    fn create(&mut self) -> Result<Stat, Status> {
        let mode = Mode::from_raw_mode(self.mode.unwrap_or(NEW_FILE));
        fchmod(&self.file, mode).at("set the mode of", &self.path)?;
        let made = match &self.temp {
            None => self.link(&self.name),
            Some(_) => self.rename(Some(RenameFlags::NOREPLACE)),
        };
        match made {
            Ok(()) => {}
            Err(Errno::EXIST) if self.expected.is_absent() => {
                return Err(revision::exists(&self.path.display()));
            }
            // Not every file system can make sure that nothing is there.
            Err(Errno::EXIST | Errno::INVAL | Errno::NOSYS) => {
                self.be_named().at("write", &self.path)?;
                self.rename(None).at("write", &self.path)?;
            }
            Err(error) => return Err(error).at("write", &self.path),
        }
        fstat(&self.file).at("write", &self.path)
    }

    /// As [`Replacement::commit`], if the new file has the size expected.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` when it has another, and those of [`Replacement::commit`].
    pub(crate) fn commit_sized(self, expected: Option<u64>) -> Result<Written, Status> {
        let size = self.file.metadata().at("measure", &self.path)?.len();
        match expected {
            Some(expected) if expected != size => Err(Status::failed_precondition(format!(
                "{} would have {size} bytes and not the {expected} expected, write it again",
                self.path.display()
            ))),
            _ => self.commit(),
        }
    }

    /// Gives the new file the old one's owner. Returns false when that is not permitted.
    fn take_owner(&self, old: &Stat) -> io::Result<bool> {
        let new = fstat(&self.file)?;
        if (new.st_uid, new.st_gid) == (old.st_uid, old.st_gid) {
            return Ok(true);
        }
        match fchown(&self.file, Some(Uid::from_raw(old.st_uid)), Some(Gid::from_raw(old.st_gid))) {
            Ok(()) => Ok(true),
            Err(Errno::PERM) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the file a name of its directory that is free.
    fn link(&self, name: &OsStr) -> rustix::io::Result<()> {
        let (own, by_fd) = own_fds::name(&self.file);
        linkat(own, &by_fd, &self.dir, name, AtFlags::SYMLINK_FOLLOW)
    }

    /// Gives an unnamed file a hidden name.
    fn be_named(&mut self) -> rustix::io::Result<()> {
        if self.temp.is_none() {
            let (temp, ()) = temp::make(&self.name, Purpose::Replace, |temp| self.link(temp))?;
            self.temp = Some(temp);
        }
        Ok(())
    }

    /// Moves the file from its hidden name to its place.
    fn rename(&mut self, flags: Option<RenameFlags>) -> rustix::io::Result<()> {
        let Some(temp) = &self.temp else { return Err(Errno::NOENT) };
        match flags {
            Some(flags) => renameat_with(&self.dir, temp, &self.dir, &self.name, flags)?,
            None => renameat(&self.dir, temp, &self.dir, &self.name)?,
        }
        self.temp = None;
        Ok(())
    }

    /// Copies the new bytes over the old file.
    fn overwrite(&mut self, mode: u32) -> io::Result<Stat> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mut target = File::from(openat(&self.dir, &self.name, flags, Mode::empty())?);
        io::Seek::rewind(&mut self.file)?;
        let copied = io::copy(&mut self.file, &mut target)?;
        target.set_len(copied)?;
        if self.mode.is_some() {
            fchmod(&target, Mode::from_raw_mode(mode))?;
        }
        Ok(fstat(&target)?)
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some(temp) = &self.temp {
            // Nothing is left to do about a name that cannot be removed.
            let _ = unlinkat(&self.dir, temp, AtFlags::empty());
        }
    }
}

/// Makes a directory with its parents.
///
/// # Errors
/// `ALREADY_EXISTS` when something else is there, `FAILED_PRECONDITION` when a parent is not a directory.
pub(crate) fn make_dirs(path: &Path) -> Result<(), Status> {
    DirBuilder::new().recursive(true).mode(NEW_DIR).create(path).at("make the directory", path)
}

/// Follows symbolic links in the last place of a path, also to what is not there yet, as opening it for writing does.
fn final_target(path: &Path) -> Result<PathBuf, Status> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match std::fs::read_link(&path) {
            Ok(target) => {
                let parent = path.parent().unwrap_or(Path::new("/"));
                path = parent.join(target);
                if path.file_name().is_none() {
                    // Ends in `..`: whatever it is, it is a directory.
                    return Err(not_regular(&path));
                }
            }
            Err(_) => return Ok(path),
        }
    }
    Err(status("write", &path, &Errno::LOOP.into()))
}

fn not_regular(path: &Path) -> Status {
    Status::failed_precondition(format!("cannot write {}: it is not a regular file", path.display()))
}

/// The regular file of that name, if any.
fn existing(dir: &OwnedFd, name: &OsStr, path: &Path) -> Result<Option<Stat>, Status> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => Ok(Some(stat)),
        Ok(_) => Err(not_regular(path)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error).at("write", path),
    }
}

/// A file without a name, where the file system has them and `/proc` can name it later.
fn unnamed(dir: &OwnedFd) -> Option<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = File::from(openat(dir, ".", flags, Mode::RUSR | Mode::WUSR).ok()?);
    let (own, name) = own_fds::name(&file);
    statat(own, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(file)
}

fn hidden(dir: &OwnedFd, name: &OsStr, path: &Path) -> Result<(File, Option<OsString>), Status> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let open = |temp: &OsStr| openat(dir, temp, flags, Mode::RUSR | Mode::WUSR);
    let (temp, fd) = temp::make(name, Purpose::Replace, open).at("write", path)?;
    Ok((File::from(fd), Some(temp)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn write(path: &Path, bytes: &[u8]) -> Result<u64, Status> {
        expecting(path, bytes, None).map(|written| written.size)
    }

    fn expecting(path: &Path, bytes: &[u8], expected: Option<&str>) -> Result<Written, Status> {
        let expected = Expected::new(expected.map(str::to_owned))?;
        let mut new = Replacement::begin(path, None, expected)?;
        new.file().write_all(bytes).unwrap();
        new.commit()
    }

    #[test]
    fn a_write_that_expects_something_else_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/f");
        let refused = |expected| expecting(&path, b"no", Some(expected)).unwrap_err().code();
        assert_eq!(refused("1-2-3"), tonic::Code::Aborted);
        assert!(!dir.path().join("made").exists(), "nothing is made for what is refused");
        let first = expecting(&path, b"one", Some("absent")).unwrap();
        assert_eq!(first.revision, revision::revision(&rustix::fs::stat(&path).unwrap()));
        assert_eq!(refused("absent"), tonic::Code::Aborted);
        let second = expecting(&path, b"two", Some(&first.revision)).unwrap();
        assert_ne!(first.revision, second.revision);
        assert_eq!(refused(&first.revision), tonic::Code::Aborted);
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(dir.path().join("made")).unwrap().count(), 1);
    }

    #[test]
    fn what_comes_between_a_beginning_and_its_end_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for there in [false, true] {
            let stat = rustix::fs::stat(&path).ok().filter(|_| there);
            let expected = stat.map_or("absent".to_owned(), |stat| revision::revision(&stat));
            let new = Replacement::begin(&path, None, Expected::new(Some(expected)).unwrap()).unwrap();
            std::fs::write(&path, if there { "longer than before" } else { "other" }).unwrap();
            assert_eq!(new.commit().unwrap_err().code(), tonic::Code::Aborted);
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"longer than before");
        // Without an expectation the last one wins.
        std::fs::remove_file(&path).unwrap();
        let new = Replacement::begin(&path, None, Expected::default()).unwrap();
        std::fs::write(&path, "other").unwrap();
        new.commit().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn of_many_who_expect_the_same_one_writes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut seen = "absent".to_owned();
        for _ in 0..20 {
            let results: Vec<_> = std::thread::scope(|scope| {
                let writers: Vec<_> = (0..4)
                    .map(|n| {
                        scope.spawn({
                            let (path, seen) = (&path, &seen);
                            move || expecting(path, &[n], Some(seen))
                        })
                    })
                    .collect();
                writers.into_iter().map(|writer| writer.join().unwrap()).collect()
            });
            let written: Vec<_> = results.into_iter().filter_map(Result::ok).collect();
            assert_eq!(written.len(), 1);
            seen = written[0].revision.clone();
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_new_file_gets_parents_and_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c.txt");
        assert_eq!(write(&path, b"hello").unwrap(), 5);
        assert_eq!(std::fs::read(&path).unwrap(), b"hello");
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o644);
    }

    #[test]
    fn mode_and_links_survive_and_the_directory_stays_clean() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("real"), dir.path().join("link"));
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o4711)).unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        write(&link, b"new").unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o4711);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_dangling_link_makes_its_target_and_a_loop_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("sub/target", dir.path().join("dangling")).unwrap();
        write(&dir.path().join("dangling"), b"x").unwrap();
        assert_eq!(std::fs::read(dir.path().join("sub/target")).unwrap(), b"x");
        std::os::unix::fs::symlink("loop", dir.path().join("loop")).unwrap();
        assert_eq!(write(&dir.path().join("loop"), b"x").unwrap_err().code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn a_dropped_replacement_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "old").unwrap();
        let mut new = Replacement::begin(&path, None, Expected::default()).unwrap();
        new.file().write_all(b"half").unwrap();
        drop(new);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn named_temporaries_work_and_are_removed_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let begin = || {
            let mut new = Replacement::begin(&path, None, Expected::default()).unwrap();
            let (file, temp) = hidden(&new.dir, &new.name, &new.path).unwrap();
            (new.file, new.temp) = (file, temp);
            new
        };
        drop(begin());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let mut new = begin();
        new.file().write_all(b"named").unwrap();
        new.commit().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"named");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_regular_files_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(write(dir.path(), b"x").unwrap_err().code(), tonic::Code::FailedPrecondition);
        assert_eq!(write(Path::new("/dev/null"), b"x").unwrap_err().code(), tonic::Code::FailedPrecondition);
    }
}
