use super::*;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lgetxattr, lsetxattr, mknodat};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use tonic::Code;

fn run(from: &Path, to: &Path, overwrite: bool) -> Result<Copied, Status> {
    copy(from, to, overwrite, &Gone::default())
}

/// A tree with one of everything.
fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(path("t/sub/empty")).unwrap();
    std::fs::write(path("t/file"), "content").unwrap();
    std::fs::set_permissions(path("t/file"), PermissionsExt::from_mode(0o4751)).unwrap();
    std::os::unix::fs::chown(path("t/sub"), Some(1234), Some(55)).unwrap();
    std::fs::set_permissions(path("t/sub"), PermissionsExt::from_mode(0o1751)).unwrap();
    std::fs::hard_link(path("t/file"), path("t/sub/again")).unwrap();
    symlink("/etc/nothing", path("t/link")).unwrap();
    mknodat(CWD, path("t/fifo"), FileType::Fifo, Mode::from_raw_mode(0o620), 0).unwrap();
    drop(std::os::unix::net::UnixListener::bind(path("t/socket")).unwrap());
    let sparse = std::fs::File::create(path("t/sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    sparse.write_all_at(b"middle", 4 << 20).unwrap();
    let old = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 1_000_000, tv_nsec: 7 },
        last_modification: rustix::fs::Timespec { tv_sec: 2_000_000, tv_nsec: 9 },
    };
    for name in ["t/link", "t/sub", "t/file", "t"] {
        rustix::fs::utimensat(CWD, path(name), &old, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
    dir
}

#[test]
fn everything_about_a_tree_is_copied() {
    let dir = tree();
    let (from, to) = (dir.path().join("t"), dir.path().join("made/copy"));
    let attribute = lsetxattr(from.join("file"), "user.note", b"kept", XattrFlags::empty()).is_ok();
    let copied = run(&from, &to, false).unwrap();
    // The tree itself, seven things below it, and no socket.
    assert_eq!((copied.entries, copied.skipped), (8, 1));
    assert_eq!(copied.bytes, 7 + (8 << 20));
    for name in ["", "file", "sub", "sub/again", "sub/empty", "link", "fifo", "sparse"] {
        let found = |root: &Path| {
            let m = root.join(name).symlink_metadata().unwrap();
            (m.mode(), m.uid(), m.gid(), m.rdev(), m.mtime(), m.mtime_nsec(), m.size())
        };
        let (mut a, mut b) = (found(&from), found(&to));
        if name.is_empty() || name.starts_with("sub") && name != "sub/again" {
            (a.6, b.6) = (0, 0);
        }
        assert_eq!(a, b, "{name}");
    }
    assert_eq!(std::fs::read(to.join("file")).unwrap(), b"content");
    assert_eq!(std::fs::read(to.join("sparse")).unwrap(), std::fs::read(from.join("sparse")).unwrap());
    assert!(to.join("sparse").metadata().unwrap().blocks() * 512 < 1 << 20, "holes stay holes");
    assert_eq!(std::fs::read_link(to.join("link")).unwrap(), Path::new("/etc/nothing"));
    let inode = |name: &str| to.join(name).metadata().unwrap().ino();
    assert_eq!(inode("file"), inode("sub/again"));
    assert_ne!(inode("file"), from.join("file").metadata().unwrap().ino());
    if attribute {
        let mut value = [0; 16];
        let size = lgetxattr(to.join("file"), "user.note", &mut value).unwrap();
        assert_eq!(&value[..size], b"kept");
    }
    assert!(!to.join("socket").exists());
    assert_eq!(std::fs::read_dir(dir.path().join("made")).unwrap().count(), 1);
}

#[test]
fn what_is_there_is_replaced_only_on_demand() {
    let dir = tree();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("file"), "old").unwrap();
    assert_eq!(run(&path("t/file"), &path("file"), false).unwrap_err().code(), Code::AlreadyExists);
    run(&path("t/file"), &path("file"), true).unwrap();
    assert_eq!(std::fs::read(path("file")).unwrap(), b"content");
    std::fs::create_dir_all(path("d/old")).unwrap();
    assert_eq!(run(&path("t"), &path("d"), false).unwrap_err().code(), Code::AlreadyExists);
    run(&path("t"), &path("d"), true).unwrap();
    assert!(path("d/file").exists() && !path("d/old").exists());
    run(&path("t/file"), &path("d"), true).unwrap();
    assert!(path("d").is_file());
    run(&path("t/sub"), &path("d"), true).unwrap();
    assert!(path("d/empty").is_dir());
    run(&path("t/link"), &path("file"), true).unwrap();
    assert_eq!(std::fs::read_link(path("file")).unwrap(), Path::new("/etc/nothing"));
    let mut left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["d", "file", "t"]);
}

#[test]
fn what_cannot_be_is_refused_and_makes_nothing() {
    let dir = tree();
    let path = |name: &str| dir.path().join(name);
    symlink("t/sub", path("way")).unwrap();
    let refused = |from: &str, to: &str| run(&path(from), &path(to), true).unwrap_err().code();
    for (from, to) in [
        ("t", "t"),
        ("t", "t/new/x"),
        ("t", "t/sub"),
        ("t", "way/x"),
        ("t/file", "t/file"),
        ("t/sub/again", "t"),
        ("t/sub", "t"),
    ] {
        assert_eq!(refused(from, to), Code::InvalidArgument, "{from} to {to}");
    }
    assert!(!path("t/new").exists());
    assert_eq!(refused("none", "made/x"), Code::NotFound);
    assert_eq!(refused("t/socket", "x"), Code::FailedPrecondition);
    assert!(!path("made").exists());
    assert_eq!(run(&path("t"), Path::new("/"), true).unwrap_err().code(), Code::PermissionDenied);
}

#[test]
fn a_copy_that_is_not_wanted_any_more_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::create_dir(path("t")).unwrap();
    let data = vec![7; 1 << 20];
    for n in 0..400 {
        std::fs::write(path(&format!("t/{n}")), &data[..if n % 2 == 0 { data.len() } else { 10 }]).unwrap();
    }
    let gone = Gone::default();
    std::thread::scope(|scope| {
        let copying = scope.spawn(|| copy(&path("t"), &path("c"), false, &gone));
        while std::fs::read_dir(dir.path()).unwrap().count() < 2 && !copying.is_finished() {}
        gone.say();
        assert_eq!(copying.join().unwrap().unwrap_err().code(), Code::Cancelled);
    });
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn files_of_the_kernel_are_copied_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let copied = run(Path::new("/proc/sys/kernel/ostype"), &dir.path().join("x"), false).unwrap();
    assert_eq!((std::fs::read(dir.path().join("x")).unwrap(), copied.bytes), (b"Linux\n".to_vec(), 6));
}
