//! Putting what an entry says onto the file system.

use crate::entry::{Entry, Moment};
use crate::reader::Reader;
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io::{self, BufRead};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Attributes that steer overlayfs, in both of its namespaces: they belong to the file system, and an archive must not have
/// them (Linux, Documentation/filesystems/overlayfs.rst, "User xattr").
pub(crate) fn is_overlays(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// Files from this size on are searched for zeros that need no space.
const SPARSE_FROM: u64 = 1 << 20;

/// What is left out at least.
const HOLE: usize = 64 << 10;

static ZEROS: [u8; HOLE] = [0; HOLE];

/// Writes the data of a file's entry, the current one of `archive`, into an empty file. Long runs of zeros become holes.
///
/// # Errors
/// `UnexpectedEof` when the archive ends within the file, else of either side.
pub fn data<R: BufRead>(fd: BorrowedFd<'_>, entry: &Entry, archive: &mut Reader<R>) -> io::Result<()> {
    let Some(map) = &entry.sparse else { return dense(fd, entry.size, archive) };
    for (offset, length) in map {
        let mut done = 0;
        while done < *length {
            let at = offset + done;
            let put = |bytes: &[u8]| put_at(fd, bytes, at);
            match archive.data(length - done, put)? {
                0 => break,
                more => done += more,
            }
        }
    }
    Ok(rustix::fs::ftruncate(fd, entry.size)?)
}

fn dense<R: BufRead>(fd: BorrowedFd<'_>, size: u64, archive: &mut Reader<R>) -> io::Result<()> {
    let holes = size >= SPARSE_FROM;
    let mut at = 0;
    let mut end = 0;
    while at < size {
        let taken = archive.data(size - at, |bytes| {
            if !holes {
                end = at + bytes.len() as u64;
                return put(fd, bytes);
            }
            let mut offset = at;
            for part in bytes.chunks(HOLE) {
                if part != &ZEROS[..part.len()] {
                    put_at(fd, part, offset)?;
                    end = offset + part.len() as u64;
                }
                offset += part.len() as u64;
            }
            Ok(())
        })?;
        if taken == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within a file"));
        }
        at += taken;
    }
    if end < size {
        rustix::fs::ftruncate(fd, size)?;
    }
    Ok(())
}

fn put(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(fd, bytes))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

fn put_at(fd: BorrowedFd<'_>, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(fd, bytes, offset))?;
        bytes = &bytes[written..];
        offset += written as u64;
    }
    Ok(())
}

/// Gives a file or directory its owner, attributes, mode and access lists, in this order: a change of owner takes setuid and
/// capabilities away, and a change of mode changes the lists.
///
/// # Errors
/// Of the file system; one that has no attributes holds the file without them.
pub fn attributes(fd: BorrowedFd<'_>, entry: &Entry) -> io::Result<()> {
    let made = rustix::fs::fstat(fd)?;
    // What is right already is not set again: each is a transaction of the file system.
    let own = (made.st_uid, made.st_gid) != (entry.uid, entry.gid);
    if own {
        rustix::fs::fchown(fd, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
    }
    for (name, value) in &entry.xattrs {
        if !is_overlays(name) && !is_access_list(name) {
            bearable(rustix::fs::fsetxattr(fd, &name[..], value, XattrFlags::empty()))?;
        }
    }
    if !own && made.st_mode & 0o7777 == entry.mode && entry.xattrs.is_empty() {
        return Ok(());
    }
    permissions(fd, entry.mode, &entry.xattrs)
}

/// Sets the mode, then the access lists among the attributes.
pub(crate) fn permissions(fd: BorrowedFd<'_>, mode: u32, xattrs: &[(Vec<u8>, Vec<u8>)]) -> io::Result<()> {
    rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))?;
    for (name, value) in xattrs.iter().filter(|(name, _)| is_access_list(name)) {
        bearable(rustix::fs::fsetxattr(fd, &name[..], value, XattrFlags::empty()))?;
    }
    Ok(())
}

pub(crate) fn is_access_list(name: &[u8]) -> bool {
    name.starts_with(b"system.posix_acl_")
}

/// The same, without mode but with times, for what cannot be opened: links, devices, pipes.
///
/// # Errors
/// As [`attributes`].
pub fn special(directory: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    for (key, value) in &entry.xattrs {
        if !is_overlays(key) {
            match rustix::fs::lsetxattr(through_proc(directory, name), &key[..], value, XattrFlags::empty()) {
                // The kernel allows `user.` attributes on files and directories only.
                Err(Errno::PERM) if key.starts_with(b"user.") => {}
                done => bearable(done)?,
            }
        }
    }
    rustix::fs::utimensat(directory, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

/// A path to something that has no descriptor of its own, for the calls that take paths only.
pub(crate) fn through_proc(directory: BorrowedFd<'_>, name: &[u8]) -> PathBuf {
    Path::new("/proc/thread-self/fd").join(directory.as_raw_fd().to_string()).join(OsStr::from_bytes(name))
}

/// A file system without extended attributes holds the file all the same.
fn bearable(done: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match done {
        Err(Errno::NOTSUP) => Ok(()),
        done => done,
    }
}

/// An entry's times, as system calls take them.
pub fn times(entry: &Entry) -> Timestamps {
    let time = |m: Moment| Timespec { tv_sec: m.seconds, tv_nsec: m.nanoseconds };
    Timestamps { last_access: time(entry.accessed), last_modification: time(entry.modified) }
}

pub(crate) fn set_times(fd: impl AsFd, entry: &Entry) -> io::Result<()> {
    Ok(rustix::fs::futimens(fd, &times(entry))?)
}
