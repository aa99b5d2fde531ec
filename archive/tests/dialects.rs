//! GNU tar and bsdtar read what is written here, and what they write is read here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{everything, look, packed, run, same, trusting, unpacked};
use dunnage_archive::{Format, PackOptions};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

type Look = BTreeMap<Vec<u8>, String>;

/// The same, in what a dialect keeps: `cut` takes the rest out of each line.
fn same_but(wanted: &Look, found: &Look, cut: impl Fn(&str) -> String) {
    let cut = |look: &Look| look.iter().map(|(name, line)| (name.clone(), cut(line))).collect();
    same(&cut(wanted), &cut(found));
}

/// A line without fractions of seconds.
fn whole_seconds(line: &str) -> String {
    let mut parts: Vec<&str> = line.splitn(5, ' ').collect();
    parts[3] = parts[3].split('.').next().unwrap();
    parts.join(" ")
}

/// A line without attributes.
fn no_attributes(line: &str) -> String {
    let (before, after) = line.split_once(" has ").unwrap();
    let same = after.rsplit_once(" same as ").map(|(_, names)| names).unwrap_or_default();
    format!("{before} {same}")
}

#[test]
fn gnu_tar_restores_what_is_written() {
    let tree = tempfile::tempdir().unwrap();
    everything(tree.path());
    for (format, name) in [(Format::TarGz, "a.tar.gz"), (Format::TarZst, "a.tar.zst"), (Format::Tar, "a.tar")]
    {
        let (archive, _) = packed(tree.path(), &PackOptions { format, ..PackOptions::default() }).unwrap();
        let place = tempfile::tempdir().unwrap();
        let (file, other) = (place.path().join(name), place.path().join("tree"));
        fs::write(&file, archive).unwrap();
        fs::create_dir(&other).unwrap();
        run(Command::new("tar").arg("xpf").arg(&file).arg("-C").arg(&other).args([
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
            "--warning=no-unknown-keyword",
            "--delay-directory-restore",
        ]));
        same(&look(tree.path()), &look(&other));
    }
}

#[test]
fn bsdtar_restores_what_is_written() {
    let tree = tempfile::tempdir().unwrap();
    everything(tree.path());
    // It knows no names of attributes with the sign that parts them from values.
    rustix::fs::removexattr(tree.path().join("file"), "user.a=b%3D").unwrap();
    // It reads fractions of seconds before 1970 as if they were after them.
    common::touch(&tree.path().join("nothing"), -5, 0);
    let (archive, _) = packed(tree.path(), &PackOptions::default()).unwrap();
    let place = tempfile::tempdir().unwrap();
    let (file, other) = (place.path().join("a.tar.gz"), place.path().join("tree"));
    fs::write(&file, archive).unwrap();
    fs::create_dir(&other).unwrap();
    run(Command::new("bsdtar").arg("-xpf").arg(&file).arg("-C").arg(&other).args(["--numeric-owner"]));
    let mut wanted = look(tree.path());
    // It leaves alone the directory that it works in.
    wanted.insert(Vec::new(), look(&other).remove(&Vec::new()).unwrap());
    same(&wanted, &look(&other));
}

fn written_by(program: &str, args: &[&str], tree: &Path) -> Vec<u8> {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("a");
    run(Command::new(program).args(args).arg("-cf").arg(&file).arg("-C").arg(tree).arg("."));
    fs::read(file).unwrap()
}

fn read_back(archive: &[u8]) -> Look {
    let other = tempfile::tempdir().unwrap();
    unpacked(archive, other.path(), &trusting()).unwrap();
    look(other.path())
}

#[test]
fn what_gnu_tar_writes_is_restored() {
    let tree = tempfile::tempdir().unwrap();
    everything(tree.path());
    let wanted = look(tree.path());
    for args in [
        &["--format=posix", "--xattrs", "--xattrs-include=*", "--acls", "--sparse", "-z"][..],
        &["--format=posix", "--xattrs", "--xattrs-include=*", "--zstd"],
        &["--format=posix", "--xattrs", "--xattrs-include=*", "--sparse", "--sparse-version=0.1"],
    ] {
        same(&wanted, &read_back(&written_by("tar", args, tree.path())));
    }
    // GNU's own dialect: long names, holes in the header, numbers in binary.
    for args in [&["--format=gnu", "--sparse"][..], &["--format=oldgnu"]] {
        let plain = |line: &str| no_attributes(&whole_seconds(line));
        same_but(&wanted, &read_back(&written_by("tar", args, tree.path())), plain);
    }
}

#[test]
fn what_bsdtar_writes_is_restored() {
    let tree = tempfile::tempdir().unwrap();
    everything(tree.path());
    // It writes fractions of seconds before 1970 as if they were after them.
    common::touch(&tree.path().join("nothing"), -5, 0);
    let wanted = look(tree.path());
    for args in [&["--format=pax", "-z"][..], &["--format=pax", "--zstd"]] {
        same(&wanted, &read_back(&written_by("bsdtar", args, tree.path())));
    }
}

#[test]
fn older_dialects_are_restored_as_far_as_they_go() {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir(tree.path().join("d")).unwrap();
    fs::write(tree.path().join("d/f"), "v7").unwrap();
    fs::hard_link(tree.path().join("d/f"), tree.path().join("g")).unwrap();
    std::os::unix::fs::symlink("g", tree.path().join("l")).unwrap();
    common::own(&tree.path().join("d/f"), 5, 6);
    let wanted = look(tree.path());
    for (program, format) in
        [("tar", "v7"), ("tar", "ustar"), ("bsdtar", "v7"), ("bsdtar", "ustar"), ("bsdtar", "gnutar")]
    {
        let archive = written_by(program, &[&format!("--format={format}")], tree.path());
        same_but(&wanted, &read_back(&archive), whole_seconds);
    }
}
