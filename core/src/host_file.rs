//! Files of the host that callers name: read without surprises, and written at once or not at all.

use crate::error::{Error, Result};
use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Opens a regular file for reading, without waiting for whatever else it may be.
pub(crate) fn open_source(path: &str) -> Result<File> {
    let refuse = |message: &str| Error::invalid_argument(message).with("source", path.escape_default());
    if path.is_empty() || path.contains('\0') {
        return Err(refuse("the source is empty or holds a NUL; name a file of the host"));
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Ok(fd) => fd,
        // How a socket or a device without a driver answers.
        Err(rustix::io::Errno::NXIO | rustix::io::Errno::NODEV) => {
            return Err(refuse("the source is no regular file; name one"));
        }
        Err(errno) => {
            return Err(Error::io(errno.into(), "the source cannot be opened").with("source", path));
        }
    };
    let stat = rustix::fs::fstat(&fd).map_err(|e| Error::io(e.into(), "the source cannot be looked at"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(refuse("the source is no regular file; name one"));
    }
    Ok(File::from(fd))
}

/// Who may read a file that is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Whoever may read the one that it replaces, else whoever may read any new one.
    Usual,
    /// Its owner.
    Private,
}

/// A file of the host in the making, beside the one it will replace. Dropped without [`Staged::finish`], it leaves nothing.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) file: File,
    path: PathBuf,
    destination: PathBuf,
    placed: bool,
}

impl Staged {
    /// Begins a file that will be at `destination`.
    pub(crate) fn begin(destination: &str, access: Access) -> Result<Self> {
        let refuse = |message: &str| {
            Error::invalid_argument(message).with("destination", destination.escape_default())
        };
        if destination.is_empty() || destination.contains('\0') {
            return Err(refuse("the destination is empty or holds a NUL; name a file of the host"));
        }
        let destination = PathBuf::from(destination);
        let Some(directory) = destination.file_name().and_then(|_| destination.parent()) else {
            return Err(refuse("the destination names no file; add a file name"));
        };
        let found = destination.symlink_metadata().ok();
        if destination.is_dir() {
            return Err(refuse("the destination is a directory; add a file name"));
        }
        if found.as_ref().is_some_and(|found| !found.is_file() && !found.is_symlink()) {
            return Err(refuse("the destination is no regular file; name another"));
        }
        let name = format!(".dunnage-{}.part", uuid::Uuid::now_v7().simple());
        let path = directory.join(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(if found.is_some() || access == Access::Private { 0o600 } else { 0o666 })
            .open(&path)
            .map_err(|e| Error::io(e, "no file can be made in the destination's directory"))?;
        let staged = Self { file, path, destination, placed: false };
        if let Some(found) = found.filter(|found| found.is_file() && access == Access::Usual) {
            let mode = std::fs::Permissions::from_mode(found.permissions().mode() & 0o777);
            staged.file.set_permissions(mode).map_err(|e| Error::io(e, "the mode cannot be set"))?;
        }
        Ok(staged)
    }

    /// Writes bytes at the end.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io(e, "the file was not written"))
    }

    /// Puts it in its place, safe from a power cut.
    ///
    /// # Errors
    /// ALREADY_EXISTS when a file is there that may not be replaced.
    pub(crate) fn finish(mut self, replace: bool) -> Result<()> {
        self.file.sync_all().map_err(|e| Error::io(e, "the file was not written to disk"))?;
        let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        rustix::fs::renameat_with(CWD, &self.path, CWD, &self.destination, flags).map_err(|e| {
            Error::io(e.into(), "the file cannot be put in place")
                .with("destination", self.destination.display())
        })?;
        self.placed = true;
        let directory = self.destination.parent().filter(|p| !p.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(|e| Error::io(e, "the directory was not written to disk"))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.placed {
            // Nothing is left to do when it cannot be removed.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
