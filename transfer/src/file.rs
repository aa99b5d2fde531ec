//! Places that are files of this machine.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::place::Stored;

/// Where a file is to be, or is.
#[derive(Debug, Clone)]
pub(crate) struct FilePlace {
    path: PathBuf,
}

impl FilePlace {
    /// Takes an absolute path that names a file.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn write(&self, overwrite: bool) -> Result<FileWriter> {
        let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Err(Error::invalid("the path names no file"));
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir: File = rustix::fs::open(parent, flags, Mode::empty())
            .map_err(|errno| failed(errno, "cannot open the directory that the file is to be in"))?
            .into();
        match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno, "cannot look at the file")),
            Ok(_) if !overwrite => return Err(exists()),
            Ok(found) => match FileType::from_raw_mode(found.st_mode) {
                FileType::RegularFile | FileType::Symlink => {}
                _ => return Err(Error::invalid("there is something at the path that is no file")),
            },
        }
        let (temporary, file) = make(&dir, name)?;
        let name = name.to_owned();
        Ok(FileWriter { dir, name, temporary: Some(temporary), file, overwrite, bytes: 0 })
    }

    pub(crate) fn read(&self) -> Result<FileReader> {
        FileReader::open(&self.path)
    }
}

fn failed(errno: Errno, message: &str) -> Error {
    Error::io(errno.into(), message)
}

fn exists() -> Error {
    Error::new(ErrorKind::Exists, "there is a file already: choose another name, or overwrite it")
}

/// A new file beside `name`, that only its owner can read.
fn make(dir: &File, name: &OsStr) -> Result<(OsString, File)> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    loop {
        let mut temporary = OsString::from(".");
        // A name ends at 255 bytes; the front half tells people whose leftover it is.
        temporary.push(String::from_utf8_lossy(name.as_encoded_bytes()).chars().take(50).collect::<String>());
        temporary.push(format!(".{:016x}.part", RandomState::new().build_hasher().finish()));
        match rustix::fs::openat(dir, &temporary, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => return Ok((temporary, file.into())),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno, "cannot make a file")),
        }
    }
}

/// Writes a file that nobody sees under its name before it is whole.
#[derive(Debug)]
pub(crate) struct FileWriter {
    dir: File,
    name: OsString,
    /// The name it has until it is whole.
    temporary: Option<OsString>,
    file: File,
    overwrite: bool,
    bytes: u64,
}

impl FileWriter {
    pub(crate) fn finish(mut self) -> Result<Stored> {
        self.file.sync_all().map_err(|cause| Error::io(cause, "cannot bring the file to the disk"))?;
        let Some(temporary) = &self.temporary else {
            return Err(Error::invalid("the file is finished already"));
        };
        if self.overwrite {
            rustix::fs::renameat(&self.dir, temporary, &self.dir, &self.name)
        } else {
            publish(&self.dir, temporary, &self.name)
        }
        .map_err(|errno| match errno {
            Errno::EXIST => exists(),
            errno => failed(errno, "cannot give the file its name"),
        })?;
        self.temporary = None;
        rustix::fs::fsync(&self.dir)
            .map_err(|errno| failed(errno, "the file is there, but may be lost with the power"))?;
        Ok(Stored { bytes: self.bytes, etag: None, guarded: !self.overwrite })
    }

    pub(crate) fn abort(mut self) -> Result<()> {
        self.remove().map_err(|errno| failed(errno, "cannot remove the unfinished file"))
    }

    fn remove(&mut self) -> rustix::io::Result<()> {
        match self.temporary.take() {
            Some(temporary) => rustix::fs::unlinkat(&self.dir, &temporary, AtFlags::empty()),
            None => Ok(()),
        }
    }
}

/// Gives the file its name unless there is one. Where the file system cannot do that in one step, a link can.
fn publish(dir: impl AsFd, temporary: &OsStr, name: &OsStr) -> rustix::io::Result<()> {
    match rustix::fs::renameat_with(&dir, temporary, &dir, name, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::linkat(&dir, temporary, &dir, name, AtFlags::empty())?;
            rustix::fs::unlinkat(&dir, temporary, AtFlags::empty())
        }
        done => done,
    }
}

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        // Whoever wants to know calls `abort`.
        let _ = self.remove();
    }
}

/// Reads a file that is not to change meanwhile.
#[derive(Debug)]
pub(crate) struct FileReader {
    file: File,
    size: u64,
    read: u64,
}

impl FileReader {
    fn open(path: &Path) -> Result<Self> {
        // A pipe would be waited for.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file: File = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| failed(errno, "cannot open the file"))?
            .into();
        let meta = file.metadata().map_err(|cause| Error::io(cause, "cannot look at the file"))?;
        if !meta.is_file() {
            return Err(Error::invalid("there is something at the path that is no file"));
        }
        Ok(Self { file, size: meta.len(), read: 0 })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}

impl Read for FileReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        self.read += read as u64;
        if self.read > self.size || read == 0 && !into.is_empty() && self.read < self.size {
            return Err(Error::new(ErrorKind::Changed, "the file changed while it was read").into());
        }
        Ok(read)
    }
}
