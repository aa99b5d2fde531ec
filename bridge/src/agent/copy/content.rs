//! The bytes of files.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom as StdSeek, Write};
use std::os::fd::AsFd;

use rustix::fs::{SeekFrom, copy_file_range, ftruncate, ioctl_ficlone, seek};
use rustix::io::Errno;

use super::super::long::Gone;

/// Bytes between two looks at whether anybody still waits.
const STRIDE: u64 = 16 << 20;
/// Bytes of a piece that is copied by hand.
const PIECE: usize = 128 << 10;

/// Copies all bytes of a file into an empty one, and returns their number. Blocks are shared where the file system can,
/// else the kernel copies, else this does; holes stay holes.
pub(super) fn content(from: &mut File, to: &mut File, size: u64, gone: &Gone) -> std::io::Result<u64> {
    if size > 0 && ioctl_ficlone(to.as_fd(), from.as_fd()).is_ok() {
        return Ok(to.metadata()?.len());
    }
    // Files that the kernel makes up have no length and no holes.
    let mut at = 0;
    loop {
        let data = match seek(&*from, SeekFrom::Data(at)) {
            _ if size == 0 => break,
            Ok(data) => data,
            // Nothing but a hole follows.
            Err(Errno::NXIO) => {
                ftruncate(&*to, size)?;
                return Ok(size);
            }
            // The file system does not tell of holes.
            Err(_) => break,
        };
        let end = seek(&*from, SeekFrom::Hole(data)).unwrap_or(size);
        at = range(from, to, data, end, gone)?;
        if at < end {
            // It became shorter.
            return Ok(at);
        }
    }
    from.seek(StdSeek::Start(at))?;
    to.seek(StdSeek::Start(at))?;
    Ok(at + by_hand(from, to, u64::MAX, gone)?)
}

/// Copies the bytes from `at` to `end`, and returns how far it came.
fn range(from: &mut File, to: &mut File, mut at: u64, end: u64, gone: &Gone) -> std::io::Result<u64> {
    while at < end {
        wanted(gone)?;
        let (mut source, mut target) = (at, at);
        let length = usize::try_from((end - at).min(STRIDE)).unwrap_or(PIECE);
        match copy_file_range(&*from, Some(&mut source), &*to, Some(&mut target), length) {
            Ok(0) => return Ok(at),
            Ok(copied) => at += copied as u64,
            Err(Errno::INTR) => {}
            Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => return Err(error.into()),
            // Not between these two, or not at all.
            Err(_) => {
                from.seek(StdSeek::Start(at))?;
                to.seek(StdSeek::Start(at))?;
                return Ok(at + by_hand(from, to, end - at, gone)?);
            }
        }
    }
    Ok(at)
}

fn by_hand(from: &mut File, to: &mut File, length: u64, gone: &Gone) -> std::io::Result<u64> {
    let mut buffer = vec![0; PIECE];
    let mut copied = 0;
    while copied < length {
        wanted(gone)?;
        let most = usize::try_from(length - copied).unwrap_or(PIECE).min(PIECE);
        let read = match from.read(&mut buffer[..most]) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&buffer[..read])?;
        copied += read as u64;
    }
    Ok(copied)
}

fn wanted(gone: &Gone) -> std::io::Result<()> {
    if gone.is_so() { Err(std::io::Error::other("the caller went away")) } else { Ok(()) }
}
