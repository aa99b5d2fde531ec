//! Nothing outside of the tree is reached, and what is refused is refused by its right name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

#[path = "../../tests/fixtures/hostile.rs"]
#[allow(dead_code)]
mod fixtures;

use common::{look, packed, unpacked};
use dunnage_archive::{ErrorKind, Format, Limits, PackOptions, Watch, pack, unpack};
use fixtures::{Wanted, corpus};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// Removes what is too deep for a recursive removal by path.
fn remove_deep(root: &std::path::Path) {
    common::run(Command::new("find").arg(root).arg("-mindepth").arg("1").arg("-delete"));
}

#[test]
fn hostile_archives_reach_nothing() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "untouched").unwrap();
    let before = look(outside.path());
    let limits = Limits { bytes: 1 << 30, ..Limits::default() };
    for hostile in corpus(outside.path().as_os_str().as_bytes()) {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&hostile.bytes).unwrap();
        let forms =
            [hostile.bytes.clone(), gzip.finish().unwrap(), zstd::encode_all(&hostile.bytes[..], 1).unwrap()];
        for bytes in forms {
            let tree = tempfile::tempdir().unwrap();
            let found = match unpacked(&bytes, tree.path(), &limits) {
                Ok(_) => Wanted::Harmless,
                Err(error) => match error.kind() {
                    ErrorKind::Corrupt => Wanted::Corrupt,
                    ErrorKind::Limit => Wanted::Limit,
                    ErrorKind::Unsupported => Wanted::Unsupported,
                    _ => panic!("{}: {error} {:?}", hostile.name, error.cause()),
                },
            };
            assert_eq!(found, hostile.wanted, "{}", hostile.name);
            assert_eq!(look(outside.path()), before, "{}", hostile.name);
            remove_deep(tree.path());
        }
    }
}

#[test]
fn attributes_of_overlayfs_are_not_made() {
    let hostile = corpus(b"/x").into_iter().find(|h| h.name == "attributes that steer overlayfs").unwrap();
    let tree = tempfile::tempdir().unwrap();
    unpacked(&hostile.bytes, tree.path(), &Limits::default()).unwrap();
    assert!(look(tree.path())[&b"d"[..]].ends_with("has []"));
}

#[test]
fn damage_is_found_wherever_it_is() {
    let tree = tempfile::tempdir().unwrap();
    for n in 0..40 {
        let text: String = (0..3000).map(|k| format!("{} ", k * n)).collect();
        fs::write(tree.path().join(format!("file-{n}")), text).unwrap();
    }
    let wanted = look(tree.path());
    for format in [Format::TarGz, Format::TarZst] {
        let (archive, _) = packed(tree.path(), &PackOptions { format, ..PackOptions::default() }).unwrap();
        // Cut anywhere, also between two members.
        for at in (0..archive.len()).step_by(archive.len() / 97) {
            let other = tempfile::tempdir().unwrap();
            let error = unpacked(&archive[..at], other.path(), &Limits::default()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "cut at {at}: {error}");
        }
        for at in (0..archive.len()).step_by(archive.len() / 211) {
            let mut flipped = archive.clone();
            flipped[at] ^= 0x10;
            let other = tempfile::tempdir().unwrap();
            match unpacked(&flipped, other.path(), &Limits::default()) {
                // Headers have bits that mean nothing for the content.
                Ok(_) => common::same(&wanted, &look(other.path())),
                Err(error) => {
                    assert!(
                        matches!(
                            error.kind(),
                            ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::Limit
                        ),
                        "{error}"
                    );
                }
            }
        }
        let other = tempfile::tempdir().unwrap();
        let twice = [&archive[..], &archive[..]].concat();
        assert_eq!(
            unpacked(&twice, other.path(), &Limits::default()).unwrap_err().kind(),
            ErrorKind::Corrupt
        );
    }
}

#[test]
fn limits_stop_bombs() {
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("zeros"), vec![0; 64 << 20]).unwrap();
    let refused = |archive: &[u8], limits: Limits| {
        let other = tempfile::tempdir().unwrap();
        unpacked(archive, other.path(), &limits).unwrap_err().kind()
    };
    for format in [Format::TarGz, Format::TarZst] {
        let (bomb, _) = packed(tree.path(), &PackOptions { format, ..PackOptions::default() }).unwrap();
        assert!(bomb.len() < 300_000);
        assert_eq!(refused(&bomb, Limits { ratio_free: 1 << 20, ..Limits::default() }), ErrorKind::Limit);
        assert_eq!(refused(&bomb, Limits { bytes: 1 << 20, ..Limits::default() }), ErrorKind::Limit);
        let other = tempfile::tempdir().unwrap();
        unpacked(&bomb, other.path(), &Limits::default()).unwrap();
    }
    let many = tempfile::tempdir().unwrap();
    for n in 0..50 {
        fs::create_dir(many.path().join(n.to_string())).unwrap();
    }
    let (archive, told) = packed(many.path(), &PackOptions::default()).unwrap();
    assert_eq!(told.entries, 51);
    assert_eq!(refused(&archive, Limits { entries: 50, ..Limits::default() }), ErrorKind::Limit);
}

#[test]
fn links_of_a_tree_are_never_followed() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "do not tell").unwrap();
    let tree = tempfile::tempdir().unwrap();
    for (name, target) in [("file", outside.path().join("secret")), ("dir", outside.path().to_owned())] {
        std::os::unix::fs::symlink(target, tree.path().join(name)).unwrap();
    }
    std::os::unix::fs::symlink("dir/secret", tree.path().join("through")).unwrap();
    let (archive, told) =
        packed(tree.path(), &PackOptions { format: Format::Tar, ..PackOptions::default() }).unwrap();
    assert_eq!(told.entries, 4);
    assert!(!archive.windows(11).any(|window| window == b"do not tell"));
}

/// Somebody swaps directories and files for links, pipes and each other while they are read.
#[test]
fn races_disclose_nothing() {
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(outside.path().join("sub")).unwrap();
    for name in ["secret", "sub/secret"] {
        fs::write(outside.path().join(name), "do not tell ".repeat(1000)).unwrap();
    }
    let tree = tempfile::tempdir().unwrap();
    let at = |name: &str| tree.path().join(name);
    fs::create_dir_all(at("dir/sub")).unwrap();
    fs::write(at("dir/sub/file"), "own").unwrap();
    fs::create_dir(at("away")).unwrap();
    std::os::unix::fs::symlink(outside.path(), at("away/link")).unwrap();
    fs::write(at("secret"), "own").unwrap();
    common::node(&at("away/pipe"), rustix::fs::FileType::Fifo, (0, 0));
    std::os::unix::fs::symlink(outside.path().join("secret"), at("away/file")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let swap = |a: &str, b: &str| {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, at(a), rustix::fs::CWD, at(b), flags).unwrap();
            };
            while !stop.load(Ordering::Relaxed) {
                swap("dir", "away/link");
                swap("secret", "away/file");
                swap("secret", "away/pipe");
                swap("secret", "away/pipe");
            }
        });
        for _ in 0..400 {
            let options = PackOptions { format: Format::Tar, threads: Some(1), ..PackOptions::default() };
            let mut out = Vec::new();
            let root = File::open(tree.path()).unwrap();
            match pack(root.as_fd(), &options, &mut out, &Watch::default()) {
                Ok(_) => {
                    let other = tempfile::tempdir().unwrap();
                    unpacked(&out, other.path(), &Limits::default()).unwrap();
                }
                // A directory went elsewhere while it was read.
                Err(error) => assert_eq!(error.kind(), ErrorKind::Source, "{error}"),
            }
            assert!(!out.windows(11).any(|window| window == b"do not tell"));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn ten_thousand_directories_are_packed() {
    let tree = tempfile::tempdir().unwrap();
    let hostile = corpus(b"/x").into_iter().find(|h| h.name == "ten thousand directories").unwrap();
    unpacked(&hostile.bytes, tree.path(), &Limits::default()).unwrap();
    let options = PackOptions { format: Format::Tar, ..PackOptions::default() };
    let (archive, told) = packed(tree.path(), &options).unwrap();
    assert_eq!(told.entries, 10_001);
    let other = tempfile::tempdir().unwrap();
    let made = unpack(
        &archive[..],
        File::open(other.path()).unwrap().as_fd(),
        &Limits::default(),
        &Watch::default(),
    );
    assert_eq!(made.unwrap().entries, 10_001);
    let (again, _) = packed(other.path(), &options).unwrap();
    assert!(again == archive);
    remove_deep(tree.path());
    remove_deep(other.path());
}
