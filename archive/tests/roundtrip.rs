//! Any tree comes back as it was.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{everything, look, packed, same, trusting, unpacked};
use dunnage_archive::{ErrorKind, Format, PackOptions, Watch, copy};
use proptest::prelude::*;
use rustix::fs::FileType;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

fn back(tree: &Path, options: &PackOptions) {
    let (archive, told) = packed(tree, options).unwrap();
    let other = tempfile::tempdir().unwrap();
    let made = unpacked(&archive, other.path(), &trusting()).unwrap();
    same(&look(tree), &look(other.path()));
    assert_eq!((made.entries, made.bytes, made.packed), (told.entries, told.bytes, told.packed));
    let (again, _) = packed(other.path(), options).unwrap();
    // Zeros that were written become holes; nothing else is different.
    let zeros = tree.join("zeros").exists();
    assert!(zeros || again == archive, "the same tree gives the same bytes");
}

#[test]
fn everything_comes_back_in_every_format() {
    let tree = tempfile::tempdir().unwrap();
    everything(tree.path());
    for (format, level) in [
        (Format::TarGz, None),
        (Format::TarGz, Some(12)),
        (Format::TarZst, None),
        (Format::TarZst, Some(1)),
        (Format::Tar, None),
    ] {
        back(tree.path(), &PackOptions { format, level, ..PackOptions::default() });
    }
    back(tree.path(), &PackOptions { threads: Some(1), ..PackOptions::default() });
}

#[test]
fn a_copy_is_as_an_archive_would_be() {
    let (tree, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    everything(tree.path());
    let (from, into) = (File::open(tree.path()).unwrap(), File::open(other.path()).unwrap());
    let told = copy(from.as_fd(), into.as_fd(), &Watch::default()).unwrap();
    same(&look(tree.path()), &look(other.path()));
    let (_, packed) = packed(tree.path(), &PackOptions::default()).unwrap();
    assert_eq!((told.entries, told.bytes), (packed.entries, packed.bytes));

    let cancelled = Watch::default();
    cancelled.cancel();
    let error = copy(from.as_fd(), into.as_fd(), &cancelled).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    fs::write(other.path().join("file"), "").unwrap();
    let file = File::open(other.path().join("file")).unwrap();
    let error = copy(file.as_fd(), into.as_fd(), &Watch::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source, "{error}");
}

#[test]
fn an_empty_tree_is_an_archive() {
    let tree = tempfile::tempdir().unwrap();
    back(tree.path(), &PackOptions::default());
}

#[test]
fn sockets_are_counted_and_patterns_chosen() {
    let tree = tempfile::tempdir().unwrap();
    let at = |name: &str| tree.path().join(name);
    for name in ["src/deep", "target", "keep/target"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    for name in ["src/a.rs", "src/a.o", "src/deep/b.rs", "target/x", "keep/target/y", "top"] {
        fs::write(at(name), name).unwrap();
    }
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let names = |include: &[&str], exclude: &[&str]| {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let options =
            PackOptions { include: texts(include), exclude: texts(exclude), ..PackOptions::default() };
        let (archive, told) = packed(tree.path(), &options).unwrap();
        let other = tempfile::tempdir().unwrap();
        unpacked(&archive, other.path(), &trusting()).unwrap();
        let names = look(other.path()).into_keys().map(|name| String::from_utf8(name).unwrap());
        (names.filter(|name| !name.is_empty()).collect::<Vec<_>>().join(" "), told.sockets)
    };
    assert_eq!(
        names(&[], &["*.o", "/target"]),
        ("keep keep/target keep/target/y src src/a.rs src/deep src/deep/b.rs top".to_owned(), 1)
    );
    assert_eq!(names(&["*.rs"], &["deep"]).0, "src src/a.rs");
    assert_eq!(names(&["target"], &[]).0, "keep keep/target keep/target/y target target/x");
}

/// One thing in a random tree: its kind, a name, where, and what it has.
type Thing = (u8, Vec<u8>, u8, u32, i64, Vec<u8>);

fn make(root: &Path, things: &[Thing]) {
    let mut directories = vec![root.to_owned()];
    let mut files = Vec::new();
    let mut all = Vec::new();
    for (kind, name, place, number, seconds, data) in things {
        let name: Vec<u8> =
            name.iter().map(|byte| if matches!(byte, 0 | b'/') { b'_' } else { *byte }).collect();
        let path = directories[usize::from(*place) % directories.len()].join(common::bytes(&name));
        if name.is_empty() || name == b"." || name == b".." || path.symlink_metadata().is_ok() {
            continue;
        }
        match kind % 8 {
            0 | 1 => {
                fs::create_dir(&path).unwrap();
                directories.push(path.clone());
            }
            2 | 3 => {
                fs::write(&path, data.repeat(1 + (*number as usize % 5000))).unwrap();
                files.push(path.clone());
            }
            4 => {
                let file = File::create(&path).unwrap();
                for (n, byte) in data.iter().enumerate() {
                    file.write_all_at(&[*byte; 700], n as u64 * u64::from(*number % 300_000)).unwrap();
                }
                file.set_len(
                    u64::from(*number % 3_000_000) + data.len() as u64 * u64::from(*number % 300_000),
                )
                .unwrap();
                files.push(path.clone());
            }
            5 => std::os::unix::fs::symlink(common::bytes(&[&b"t"[..], &name].concat()), &path).unwrap(),
            6 => match files.get(*number as usize % files.len().max(1)) {
                Some(file) => fs::hard_link(file, &path).unwrap(),
                None => continue,
            },
            _ => {
                let kinds = [FileType::Fifo, FileType::CharacterDevice, FileType::BlockDevice];
                common::node(&path, kinds[*number as usize % 3], (1 + number % 4000, number % 1_000_000));
            }
        }
        common::own(&path, *number, number.rotate_left(7) % (u32::MAX - 1));
        if kind % 8 != 5 {
            common::mode(&path, number % 0o10000);
        }
        if kind % 8 < 5 {
            common::attribute(&path, b"user.random", data);
        }
        all.push((path, *seconds, i64::from(number % 1_000_000_000)));
    }
    for (path, seconds, nanoseconds) in all.iter().rev() {
        common::touch(path, *seconds, *nanoseconds);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_comes_back(
        things in prop::collection::vec(
            (
                any::<u8>(),
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 1..40),
                    prop::collection::vec(any::<u8>(), 90..255),
                ],
                any::<u8>(),
                0..u32::MAX - 1,
                -(1_i64 << 31)..(1_i64 << 33),
                prop::collection::vec(any::<u8>(), 0..60),
            ),
            0..60,
        ),
        format in prop_oneof![Just(Format::TarGz), Just(Format::TarZst), Just(Format::Tar)],
    ) {
        let tree = tempfile::tempdir().unwrap();
        make(tree.path(), &things);
        back(tree.path(), &PackOptions { format, ..PackOptions::default() });
    }
}
