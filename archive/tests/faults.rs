//! What fails in the middle is told by whose fault it is, and ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{everything, look, packed, trusting, unpacked};
use dunnage_archive::{ErrorKind, Format, Limits, PackOptions, Watch, pack, unpack};
use rustix::fs::{Gid, Uid};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Takes so many bytes, a few at a time, and then no more.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(4096).min(self.0);
        self.0 -= length;
        if length == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(length) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives so many bytes, a few at a time, and then an error.
struct Broken<'a> {
    bytes: &'a [u8],
    left: usize,
    most: usize,
}

impl Read for Broken<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other("the disk is broken"));
        }
        let length = self.left.min(into.len()).min(self.most).min(self.bytes.len());
        into[..length].copy_from_slice(&self.bytes[..length]);
        self.bytes = &self.bytes[length..];
        self.left -= length;
        Ok(length)
    }
}

/// A file system in memory with so much room, in no mount table.
fn small_disk(bytes: u64) -> OwnedFd {
    let fs = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    rustix::mount::fsconfig_set_string(fs.as_fd(), "size", bytes.to_string()).unwrap();
    rustix::mount::fsconfig_create(fs.as_fd()).unwrap();
    rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap()
}

fn large(files: usize) -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    for n in 0..files {
        let data: Vec<u8> =
            (0..300_000_u32).flat_map(|k| (k.wrapping_mul(n as u32 + 7) >> 5).to_le_bytes()).collect();
        fs::write(tree.path().join(n.to_string()), data).unwrap();
    }
    tree
}

#[test]
fn a_destination_that_takes_no_more_is_told() {
    let tree = large(8);
    for format in [Format::TarGz, Format::TarZst, Format::Tar] {
        let options = PackOptions { format, ..PackOptions::default() };
        let (whole, _) = packed(tree.path(), &options).unwrap();
        for at in [0, 1, 4097, whole.len() / 3, whole.len() - 1] {
            let root = File::open(tree.path()).unwrap();
            let error = pack(root.as_fd(), &options, &mut Full(at), &Watch::default()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Target);
            assert_eq!(error.cause().unwrap().kind(), io::ErrorKind::StorageFull);
        }
    }
}

#[test]
fn a_source_that_breaks_is_not_a_damaged_archive() {
    let tree = tempfile::tempdir().unwrap();
    everything(tree.path());
    for format in [Format::TarGz, Format::TarZst, Format::Tar] {
        let (whole, _) = packed(tree.path(), &PackOptions { format, ..PackOptions::default() }).unwrap();
        for at in [0, 1, 30, whole.len() / 2, whole.len() - 1] {
            let other = tempfile::tempdir().unwrap();
            let source = Broken { bytes: &whole, left: at, most: 1 << 20 };
            let root = File::open(other.path()).unwrap();
            let error = unpack(source, root.as_fd(), &trusting(), &Watch::default()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Source, "{format:?} at {at}: {error}");
        }
        // A byte at a time is slow, but no fault.
        let other = tempfile::tempdir().unwrap();
        let source = Broken { bytes: &whole, left: usize::MAX, most: 1 };
        unpack(source, File::open(other.path()).unwrap().as_fd(), &trusting(), &Watch::default()).unwrap();
        common::same(&look(tree.path()), &look(other.path()));
    }
}

#[test]
fn a_full_disk_is_told_wherever_it_ends() {
    let tree = large(4);
    let (archive, _) = packed(tree.path(), &PackOptions::default()).unwrap();
    for bytes in [4 << 10, 60 << 10, 1_000_000, 1_300_000, 2_500_000, 4_700_000] {
        let disk = small_disk(bytes);
        let error = unpack(&archive[..], disk.as_fd(), &Limits::default(), &Watch::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Target, "{bytes}: {error}");
        assert_eq!(error.cause().unwrap().kind(), io::ErrorKind::StorageFull, "{bytes}: {error}");
    }
    let disk = small_disk(8 << 20);
    unpack(&archive[..], disk.as_fd(), &Limits::default(), &Watch::default()).unwrap();
}

#[test]
fn either_way_is_cancelled_at_any_time() {
    let tree = large(24);
    let (archive, _) = packed(tree.path(), &PackOptions::default()).unwrap();
    let mut cancelled = 0;
    for after in [0, 1, 3, 7, 15, 30, 60] {
        for packing in [true, false] {
            let watch = Watch::default();
            let other = tempfile::tempdir().unwrap();
            let done = std::thread::scope(|scope| {
                let stop = scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(after));
                    watch.cancel();
                });
                let done = if packing {
                    let root = File::open(tree.path()).unwrap();
                    pack(root.as_fd(), &PackOptions::default(), &mut io::sink(), &watch).map(drop)
                } else {
                    let root = File::open(other.path()).unwrap();
                    unpack(&archive[..], root.as_fd(), &Limits::default(), &watch).map(drop)
                };
                stop.join().unwrap();
                done
            });
            if let Err(error) = done {
                assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
                cancelled += 1;
            }
        }
    }
    assert!(cancelled > 0);
    let watch = Watch::default();
    watch.cancel();
    let root = File::open(tree.path()).unwrap();
    let error = pack(root.as_fd(), &PackOptions::default(), &mut io::sink(), &watch).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[test]
fn bad_options_are_refused_before_anything_is_read() {
    let tree = tempfile::tempdir().unwrap();
    let refused = |options: PackOptions| packed(tree.path(), &options).unwrap_err().kind();
    for (format, level) in
        [(Format::TarGz, 0), (Format::TarGz, 13), (Format::TarZst, 0), (Format::TarZst, 20)]
    {
        assert_eq!(
            refused(PackOptions { format, level: Some(level), ..PackOptions::default() }),
            ErrorKind::Invalid
        );
    }
    let pattern = vec!["[".to_owned()];
    assert_eq!(
        refused(PackOptions { include: pattern.clone(), ..PackOptions::default() }),
        ErrorKind::Invalid
    );
    assert_eq!(refused(PackOptions { exclude: pattern, ..PackOptions::default() }), ErrorKind::Invalid);
}

#[test]
fn how_far_it_has_come_can_be_seen() {
    let tree = large(3);
    let root = File::open(tree.path()).unwrap();
    let (watch, mut out) = (Watch::default(), Vec::new());
    let told = pack(root.as_fd(), &PackOptions::default(), &mut out, &watch).unwrap();
    assert_eq!((watch.entries(), watch.bytes(), watch.packed()), (told.entries, told.bytes, told.packed));
    let other = tempfile::tempdir().unwrap();
    let made = unpacked(&out, other.path(), &Limits::default()).unwrap();
    assert_eq!((made.entries, made.bytes, made.packed), (told.entries, told.bytes, told.packed));
}

/// What must not be left out is not: without the right to read a file there is no archive.
#[test]
fn a_file_that_may_not_be_read_is_an_error() {
    let tree = tempfile::tempdir().unwrap();
    common::mode(tree.path(), 0o755);
    fs::write(tree.path().join("open"), "x").unwrap();
    let path = tree.path().to_owned();
    // The identity is that of this thread alone, and goes with it.
    let as_nobody = move || {
        let (user, group) = (Uid::from_raw(65534), Gid::from_raw(65534));
        rustix::thread::set_thread_res_gid(group, group, group).unwrap();
        rustix::thread::set_thread_res_uid(user, user, user).unwrap();
        packed(&path, &PackOptions::default())
    };
    let (_, told) = std::thread::spawn(as_nobody.clone()).join().unwrap().unwrap();
    assert_eq!(told.entries, 2);
    fs::write(tree.path().join("secret"), "x").unwrap();
    common::mode(&tree.path().join("secret"), 0);
    let error = std::thread::spawn(as_nobody).join().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.path()), (ErrorKind::Source, Some(&b"secret"[..])), "{error}");
    assert_eq!(error.cause().unwrap().kind(), io::ErrorKind::PermissionDenied);
}

/// Where /proc is missing, a file cannot be opened safely: that is no file that went away.
#[test]
fn without_proc_nothing_is_left_out() {
    use nix::mount::{MsFlags, mount};
    // A mount table of a thread alone, which goes with it.
    let blind = |path: std::path::PathBuf| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("none"), "/proc", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        packed(&path, &PackOptions::default())
    };
    for name in ["file", "link"] {
        let tree = tempfile::tempdir().unwrap();
        match name {
            "file" => fs::write(tree.path().join(name), "x").unwrap(),
            _ => std::os::unix::fs::symlink("x", tree.path().join(name)).unwrap(),
        }
        let path = tree.path().to_owned();
        let error = std::thread::spawn(move || blind(path)).join().unwrap().unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::Source, Some(name.as_bytes())), "{error}");
    }
}
