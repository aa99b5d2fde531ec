//! Replacing a file in one step.
//!
//! Whoever reads the path meanwhile sees the old file or the new one, whole. The new bytes go to a file without a name
//! (or, where the file system has no such thing, a hidden one) in the same directory, which then takes the name.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Uid, fchmod, fchown, fstat, linkat, open, openat,
    renameat, statat, unlinkat,
};
use rustix::io::Errno;
use tonic::Status;

use super::errors::{At, status};
use super::paths;

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
}

impl Replacement {
    /// Begins a file that will replace `path`, or what a symbolic link there points to. Missing parents are made.
    ///
    /// `mode` sets the permission bits; otherwise they are those of the file replaced, else 0644.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when `mode` has other bits, `FAILED_PRECONDITION` when something other than a regular file is
    /// there, `PERMISSION_DENIED` when the file there may not be written, and whatever making the file fails with.
    pub(crate) fn begin(path: &Path, mode: Option<u32>) -> Result<Self, Status> {
        if mode.is_some_and(|mode| mode > 0o7777) {
            return Err(Status::invalid_argument("a mode has permission bits only, up to octal 7777"));
        }
        let path = final_target(path)?;
        paths::not_root(&path, "write")?;
        let parent = path.parent().unwrap_or(Path::new("/"));
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
        Ok(Self { file, dir, temp, name, path, mode })
    }

    /// The file to write to.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Where it will be.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the file in place with the mode, owner and extended attributes of the one it replaces, and returns its size.
    ///
    /// A file that cannot be replaced, because it is a mount point or its owner cannot be given, is overwritten where it
    /// is. The data is not flushed to the disk: a crash of the machine may still lose it, one of the agent may not.
    ///
    /// # Errors
    /// As [`Replacement::begin`]; the old file is untouched then, except when overwriting it where it is broke off.
    pub(crate) fn commit(mut self) -> Result<u64, Status> {
        let size = fstat(&self.file).at("write", &self.path)?.st_size;
        let size = u64::try_from(size).unwrap_or_default();
        let old = existing(&self.dir, &self.name, &self.path)?;
        let mode = self.mode.or(old.as_ref().map(|old| old.st_mode & 0o7777)).unwrap_or(NEW_FILE);
        if let Some(old) = &old {
            if !self.take_owner(old).at("keep the owner of", &self.path)? {
                self.overwrite(mode).at("write", &self.path)?;
                return Ok(size);
            }
            super::entry::copy_xattrs(&self.path, &self.file);
        }
        fchmod(&self.file, Mode::from_raw_mode(mode)).at("set the mode of", &self.path)?;
        let temp = match self.temp.take() {
            Some(temp) => temp,
            None => self.link().at("write", &self.path)?,
        };
        match renameat(&self.dir, &temp, &self.dir, &self.name) {
            Ok(()) => Ok(size),
            Err(error) => {
                self.temp = Some(temp);
                if error != Errno::BUSY || old.is_none() {
                    return Err(error).at("write", &self.path);
                }
                self.overwrite(mode).at("write", &self.path)?;
                Ok(size)
            }
        }
    }

    /// As [`Replacement::commit`], if the new file has the size expected.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` when it has another, and those of [`Replacement::commit`].
    pub(crate) fn commit_sized(self, expected: Option<u64>) -> Result<u64, Status> {
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

    /// Gives an unnamed file a hidden name.
    fn link(&self) -> io::Result<OsString> {
        let by_fd = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        for _ in 0..16 {
            let temp = temp_name(&self.name);
            match linkat(CWD, &by_fd, &self.dir, &temp, AtFlags::SYMLINK_FOLLOW) {
                Ok(()) => return Ok(temp),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::EXIST.into())
    }

    /// Copies the new bytes over the old file.
    fn overwrite(&mut self, mode: u32) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mut target = File::from(openat(&self.dir, &self.name, flags, Mode::empty())?);
        io::Seek::rewind(&mut self.file)?;
        let copied = io::copy(&mut self.file, &mut target)?;
        target.set_len(copied)?;
        if self.mode.is_some() {
            fchmod(&target, Mode::from_raw_mode(mode))?;
        }
        Ok(())
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
    rustix::fs::lstat(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    Some(file)
}

fn hidden(dir: &OwnedFd, name: &OsStr, path: &Path) -> Result<(File, Option<OsString>), Status> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut tries = 0;
    loop {
        let temp = temp_name(name);
        match openat(dir, &temp, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => return Ok((File::from(fd), Some(temp))),
            Err(Errno::EXIST) if tries < 16 => tries += 1,
            Err(error) => return Err(error).at("write", path),
        }
    }
}

/// A hidden name that is free but for bad luck, and no longer than a name may be.
fn temp_name(name: &OsStr) -> OsString {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let suffix = format!(".{}-{:x}{:x}-{count:x}.tmp", std::process::id(), now.tv_sec, now.tv_nsec);
    let mut temp = OsString::from(".");
    // Cutting whole names keeps what they are made of intact.
    if name.len() + suffix.len() < 200 {
        temp.push(name);
    }
    temp.push(suffix);
    temp
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn write(path: &Path, bytes: &[u8]) -> Result<u64, Status> {
        let mut new = Replacement::begin(path, None)?;
        new.file().write_all(bytes).unwrap();
        new.commit()
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
        let mut new = Replacement::begin(&path, None).unwrap();
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
            let mut new = Replacement::begin(&path, None).unwrap();
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
