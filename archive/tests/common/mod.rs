//! Trees, made and compared without the code under test.
#![allow(dead_code, clippy::unwrap_used)]

use dunnage_archive::{Limits, PackOptions, Packed, Result, Unpacked, Watch, pack, unpack};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Everything that there is to see of a tree: a line for each name, without access and change times.
pub(crate) fn look(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut seen = BTreeMap::new();
    let mut names: BTreeMap<(u64, u64), BTreeSet<Vec<u8>>> = BTreeMap::new();
    let mut next = vec![PathBuf::new()];
    while let Some(relative) = next.pop() {
        let path = root.join(&relative);
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = FileType::from_raw_mode(meta.mode());
        let content = match kind {
            FileType::Symlink => format!("-> {:?}", fs::read_link(&path).unwrap()),
            FileType::RegularFile => {
                names
                    .entry((meta.dev(), meta.ino()))
                    .or_default()
                    .insert(relative.as_os_str().as_bytes().to_vec());
                format!("{} {}", meta.size(), sum(&path))
            }
            FileType::CharacterDevice | FileType::BlockDevice => format!("{}", meta.rdev()),
            _ => String::new(),
        };
        let line = format!(
            "{kind:?} {:o} {}:{} {}.{:09} {content} has {:?}",
            meta.mode() & 0o7777,
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
            attributes(&path)
        );
        seen.insert(relative.as_os_str().as_bytes().to_vec(), line);
        if kind == FileType::Directory {
            next.extend(fs::read_dir(&path).unwrap().map(|entry| relative.join(entry.unwrap().file_name())));
        }
    }
    for same in names.values().filter(|same| same.len() > 1) {
        for name in same {
            seen.get_mut(name).unwrap().push_str(&format!(" same as {same:?}"));
        }
    }
    seen
}

fn sum(path: &Path) -> u64 {
    // FNV-1a over data and place, so that holes need not be read twice: good enough to see a difference.
    let file = File::open(path).unwrap();
    let length = file.metadata().unwrap().size();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut buffer = vec![0; 1 << 16];
    let mut at = 0;
    while at < length {
        let read = file.read_at(&mut buffer, at).unwrap();
        assert!(read > 0);
        for (n, byte) in buffer[..read].iter().enumerate().filter(|(_, byte)| **byte != 0) {
            hash = (hash ^ u64::from(*byte) ^ (at + n as u64)).wrapping_mul(0x0100_0000_01b3);
        }
        at += read as u64;
    }
    hash
}

fn attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let mut found: Vec<_> = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(length);
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect();
    found.sort();
    found
}

pub(crate) fn attribute(path: &Path, name: &[u8], value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

pub(crate) fn own(path: &Path, uid: u32, gid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap();
}

pub(crate) fn touch(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

pub(crate) fn node(path: &Path, kind: FileType, device: (u32, u32)) {
    let device = rustix::fs::makedev(device.0, device.1);
    rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o640), device).unwrap();
}

pub(crate) fn mode(path: &Path, mode: u32) {
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).unwrap();
}

pub(crate) fn bytes(name: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(name.to_vec()))
}

/// A tree with everything that a file system has.
pub(crate) fn everything(root: &Path) {
    let at = |name: &str| root.join(name);
    fs::create_dir_all(at("dir/sub")).unwrap();
    fs::create_dir(at("empty")).unwrap();
    fs::write(at("file"), "some text\n".repeat(300)).unwrap();
    fs::write(at("nothing"), "").unwrap();
    fs::write(at("dir/program"), "#!/bin/sh\n").unwrap();
    own(&at("dir/program"), 12, 34);
    mode(&at("dir/program"), 0o6755);
    fs::hard_link(at("file"), at("dir/sub/again")).unwrap();
    std::os::unix::fs::symlink("../nowhere", at("dir/dangling")).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", at("dir/outside")).unwrap();
    own(&at("dir/outside"), 7, 8);
    node(&at("pipe"), FileType::Fifo, (0, 0));
    node(&at("null"), FileType::CharacterDevice, (1, 3));
    node(&at("disk"), FileType::BlockDevice, (259, 70_000));
    own(&at("empty"), 3_000_000, 4_000_000_000);
    mode(&at("empty"), 0o1777);
    attribute(&at("file"), b"user.plain", b"value");
    attribute(&at("file"), b"user.a=b%3D", b"binary\n9 x=y\n\0\xff");
    attribute(&at("dir"), b"user.empty", b"");
    attribute(&at("dir/program"), b"security.capability", b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    // An access list: owner, a user, group, mask, others (acl(5), as the kernel stores it).
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, bits, id) in
        [(1_u16, 6_u16, u32::MAX), (2, 4, 54_321), (4, 4, u32::MAX), (16, 6, u32::MAX), (32, 0, u32::MAX)]
    {
        list.extend_from_slice(&tag.to_le_bytes());
        list.extend_from_slice(&bits.to_le_bytes());
        list.extend_from_slice(&id.to_le_bytes());
    }
    attribute(&at("nothing"), b"system.posix_acl_access", &list);
    let sparse = File::create(at("holes")).unwrap();
    sparse.write_all_at(b"begin", 0).unwrap();
    sparse.write_all_at(&[7; 10_000], 5 << 20).unwrap();
    sparse.set_len(64 << 20).unwrap();
    File::create(at("hole")).unwrap().set_len(1 << 20).unwrap();
    fs::write(at("zeros"), vec![0; 3 << 20]).unwrap();
    for name in [
        &b"new\nline"[..],
        b"\xff\xfe bytes",
        b"-rf",
        b"blank ",
        b"\\back",
        "größe".as_bytes(),
        &b"n".repeat(255),
    ] {
        fs::write(root.join(bytes(name)), name).unwrap();
    }
    let long: PathBuf = ["a-rather-long-name-of-a-directory"; 12].iter().collect();
    fs::create_dir_all(root.join(&long)).unwrap();
    fs::write(root.join(&long).join(bytes(b"\xfflong")), "deep").unwrap();
    std::os::unix::fs::symlink("x/".repeat(150), at("far")).unwrap();
    for case in ["case", "CASE", "Case"] {
        fs::write(at(case), case).unwrap();
    }
    touch(&at("file"), 1, 1);
    touch(&at("nothing"), -5, 999_999_999);
    touch(&at("dir/dangling"), 1_600_000_000, 123_456_789);
    touch(&at("pipe"), 0, 0);
    touch(&at("zeros"), 1 << 33, 7);
    touch(&at("dir/sub"), 1_500_000_000, 5);
    touch(&at("dir"), 1_400_000_000, 0);
    touch(root, 1_300_000_000, 1);
}

pub(crate) fn packed(root: &Path, options: &PackOptions) -> Result<(Vec<u8>, Packed)> {
    let mut out = Vec::new();
    let directory = File::open(root).unwrap();
    let packed = pack(directory.as_fd(), options, &mut out, &Watch::default())?;
    assert_eq!(packed.packed, out.len() as u64);
    Ok((out, packed))
}

pub(crate) fn trusting() -> Limits {
    Limits { devices: true, ..Limits::default() }
}

pub(crate) fn unpacked(archive: &[u8], root: &Path, limits: &Limits) -> Result<Unpacked> {
    unpack(archive, File::open(root).unwrap().as_fd(), limits, &Watch::default())
}

/// Two looks, compared so that a difference can be read.
pub(crate) fn same(wanted: &BTreeMap<Vec<u8>, String>, found: &BTreeMap<Vec<u8>, String>) {
    for (name, line) in wanted {
        assert_eq!(found.get(name), Some(line), "{:?}", OsStr::from_bytes(name));
    }
    let more: Vec<_> = found.keys().filter(|name| !wanted.contains_key(*name)).collect();
    assert!(more.is_empty(), "{more:?}");
}

/// Runs a program, which must succeed.
pub(crate) fn run(command: &mut Command) -> String {
    let done = command.env("LC_ALL", "C.UTF-8").output().unwrap();
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{command:?}: {told}");
    told
}
