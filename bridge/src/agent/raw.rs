//! Whole files as streams of bytes.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use prost::bytes::Bytes;
use rustix::fs::{FileType, Mode, OFlags, fstat, open as open_fd, stat};
use tonic::Status;

use super::atomic::{Replacement, Written};
use super::errors::At;
use super::memory::settle_later;
use super::revision::Expected;
use super::threads::blocking;
use crate::consts::RAW_CHUNK_SIZE;

/// Opens a regular file for reading; never waits, whatever is there.
///
/// # Errors
/// Those of opening; `FAILED_PRECONDITION` when it is not a regular file.
pub(crate) fn open(path: &Path) -> Result<File, Status> {
    // Asked first, because opening a FIFO or a device can itself do something.
    regular(stat(path).at("open", path)?.st_mode, path)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file: OwnedFd = open_fd(path, flags, Mode::empty()).at("open", path)?;
    regular(fstat(&file).at("open", path)?.st_mode, path)?;
    Ok(file.into())
}

fn regular(mode: u32, path: &Path) -> Result<(), Status> {
    let what = match FileType::from_raw_mode(mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "a directory",
        _ => "not a regular file",
    };
    Err(Status::failed_precondition(format!("cannot read {}: it is {what}", path.display())))
}

/// A file being read, a chunk at a time.
pub(crate) struct Source {
    file: File,
    path: PathBuf,
    /// Bytes yet to read.
    left: u64,
}

impl Source {
    /// Opens it at a byte, for so many bytes or to its end; errors as [`open`].
    pub(crate) async fn open(path: PathBuf, offset: u64, length: Option<u64>) -> Result<Self, Status> {
        blocking(move || {
            let mut file = open(&path)?;
            let left = length.unwrap_or(u64::MAX);
            if offset == 0 {
                return Ok(Self { file, path, left });
            }
            // No file reaches beyond what the system can seek to.
            if i64::try_from(offset).is_err() {
                return Ok(Self { file, path, left: 0 });
            }
            file.seek(SeekFrom::Start(offset)).at("read", &path)?;
            Ok(Self { file, path, left })
        })
        .await
    }

    /// The next chunk and the rest, or `None` at the end. No thread is held between chunks.
    pub(crate) async fn next(mut self) -> Result<Option<(Bytes, Self)>, Status> {
        blocking(move || {
            let size = self.left.min(RAW_CHUNK_SIZE as u64);
            let mut buffer = Vec::with_capacity(usize::try_from(size).unwrap_or(RAW_CHUNK_SIZE));
            (&self.file).take(size).read_to_end(&mut buffer).at("read", &self.path)?;
            self.left -= buffer.len() as u64;
            Ok((!buffer.is_empty()).then(|| (buffer.into(), self)))
        })
        .await
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        settle_later();
    }
}

/// A file being written, a chunk at a time.
pub(crate) struct Sink {
    new: Replacement,
}

impl Sink {
    /// Begins it; errors as [`Replacement::begin`].
    pub(crate) async fn begin(path: PathBuf, mode: Option<u32>, expected: Expected) -> Result<Self, Status> {
        blocking(move || Ok(Self { new: Replacement::begin(&path, mode, expected)? })).await
    }

    /// Appends a chunk.
    pub(crate) async fn write(mut self, data: Bytes) -> Result<Self, Status> {
        blocking(move || {
            let result = self.new.file().write_all(&data);
            result.at("write", self.new.path())?;
            Ok(self)
        })
        .await
    }

    /// Puts it in place, if it has the size expected.
    pub(crate) async fn commit(self, expected: Option<u64>) -> Result<Written, Status> {
        blocking(move || self.new.commit_sized(expected)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn parts_of_a_file_are_read_and_beyond_its_end_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "0123456789").unwrap();
        for (offset, length, expected) in [
            (0, None, "0123456789"),
            (4, None, "456789"),
            (4, Some(3), "456"),
            (8, Some(100), "89"),
            (10, None, ""),
            (u64::MAX, Some(1), ""),
            (3, Some(0), ""),
        ] {
            let mut source = Source::open(path.clone(), offset, length).await.unwrap();
            let mut all = Vec::new();
            while let Some((bytes, rest)) = source.next().await.unwrap() {
                all.extend_from_slice(&bytes);
                source = rest;
            }
            assert_eq!(all, expected.as_bytes(), "{offset} {length:?}");
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for path in [fifo.as_path(), dir.path(), Path::new("/dev/zero")] {
            assert_eq!(open(path).unwrap_err().code(), tonic::Code::FailedPrecondition, "{path:?}");
        }
        assert_eq!(open(&dir.path().join("none")).unwrap_err().code(), tonic::Code::NotFound);
    }
}
