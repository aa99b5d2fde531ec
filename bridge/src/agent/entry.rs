//! Descriptions of files, in both protocols.

// The fields of `stat` have other types on other architectures.
#![allow(clippy::useless_conversion)]

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, Stat, XattrFlags, fsetxattr, lgetxattr, llistxattr};

use crate::{bridgepb, v1};

/// A file as `bridgepb` describes it. A name that is not UTF-8 is shown with replacement characters.
pub(crate) fn legacy(name: &OsStr, stat: &Stat) -> bridgepb::FileEntry {
    bridgepb::FileEntry {
        path: name.to_string_lossy().into_owned(),
        is_dir: FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
        size: stat.st_size,
        mode: mode_letters(stat.st_mode),
        mod_time: rfc3339(i64::try_from(stat.st_mtime).unwrap_or_default()),
    }
}

/// A file as `dunnage.bridge.v1` describes it.
pub(crate) fn full(name: &OsStr, stat: &Stat, link_target: Option<&OsStr>) -> v1::FileInfo {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => v1::FileKind::Regular,
        FileType::Directory => v1::FileKind::Directory,
        FileType::Symlink => v1::FileKind::Symlink,
        FileType::Fifo => v1::FileKind::Fifo,
        FileType::Socket => v1::FileKind::Socket,
        FileType::CharacterDevice => v1::FileKind::CharDevice,
        FileType::BlockDevice => v1::FileKind::BlockDevice,
        FileType::Unknown => v1::FileKind::Unknown,
    };
    let bytes = |name: &OsStr| prost::bytes::Bytes::copy_from_slice(name.as_bytes());
    v1::FileInfo {
        path: bytes(name),
        kind: kind.into(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        mtime_ns: mtime_ns(stat),
        link_target: link_target.map(bytes).unwrap_or_default(),
        inode: stat.st_ino,
        device: stat.st_dev,
        links: u64::from(stat.st_nlink),
        allocated: u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(512),
    }
}

fn mtime_ns(stat: &Stat) -> i64 {
    let seconds = i64::try_from(stat.st_mtime).unwrap_or_default();
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(i64::try_from(stat.st_mtime_nsec).unwrap_or_default())
}

/// A mode in letters: the kind and special bits in front, then the permission bits. The letters are those existing
/// hosts parse, which differ from `ls`: `L` is a link, and `u`, `g` and `t` stand in front.
pub(crate) fn mode_letters(mode: u32) -> String {
    let mut out = String::with_capacity(12);
    match FileType::from_raw_mode(mode) {
        FileType::Directory => out.push('d'),
        FileType::Symlink => out.push('L'),
        FileType::BlockDevice | FileType::CharacterDevice => out.push('D'),
        FileType::Fifo => out.push('p'),
        FileType::Socket => out.push('S'),
        FileType::Unknown => out.push('?'),
        FileType::RegularFile => {}
    }
    for (bit, letter) in [(0o4000, 'u'), (0o2000, 'g')] {
        if mode & bit != 0 {
            out.push(letter);
        }
    }
    if FileType::from_raw_mode(mode) == FileType::CharacterDevice {
        out.push('c');
    }
    if mode & 0o1000 != 0 {
        out.push('t');
    }
    if out.is_empty() {
        out.push('-');
    }
    for shift in [6, 3, 0] {
        for (bit, letter) in [(4, 'r'), (2, 'w'), (1, 'x')] {
            out.push(if mode & (bit << shift) != 0 { letter } else { '-' });
        }
    }
    out
}

/// Seconds since 1970 as RFC 3339 in UTC.
pub(crate) fn rfc3339(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01 put the leap day last in its year, so that months have fixed lengths.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Copies extended attributes (with them access lists) to a new file, as far as permitted.
///
/// File capabilities are left out: writing to a file takes them away.
pub(crate) fn copy_xattrs(from: &Path, to: &File) {
    let mut names = vec![0; 16 << 10];
    let Ok(size) = llistxattr(from, &mut names[..]) else { return };
    let mut value = vec![0; 64 << 10];
    for name in names[..size].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name == b"security.capability" || name == b"security.ima" || name == b"security.evm" {
            continue;
        }
        let name = OsStr::from_bytes(name);
        if let Ok(size) = lgetxattr(from, name, &mut value[..]) {
            // Some only the kernel may set.
            let _ = fsetxattr(to, name, &value[..size], XattrFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read_as_existing_hosts_expect() {
        let cases = [
            (0o100_644, "-rw-r--r--"),
            (0o040_755, "drwxr-xr-x"),
            (0o120_777, "Lrwxrwxrwx"),
            (0o104_755, "urwxr-xr-x"),
            (0o041_777, "dtrwxrwxrwx"),
            (0o020_666, "Dcrw-rw-rw-"),
            (0o060_660, "Drw-rw----"),
            (0o010_600, "prw-------"),
            (0o140_755, "Srwxr-xr-x"),
        ];
        for (mode, letters) in cases {
            assert_eq!(mode_letters(mode), letters);
        }
    }

    #[test]
    fn times_are_rfc3339() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
        ];
        for (seconds, text) in cases {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
