use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use tempfile::TempDir;

/// An overlay of two layers on this file system, and what containerd would say of it.
struct Fixture {
    dir: TempDir,
    mounts: Vec<Mount>,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in ["low/etc", "mid/srv", "up", "work"] {
        std::fs::create_dir_all(path(name)).unwrap();
    }
    std::fs::write(path("low/etc/passwd"), "low").unwrap();
    std::fs::write(path("low/etc/group"), "group").unwrap();
    let show = |name: &str| path(name).display().to_string();
    let mounts = vec![Mount {
        r#type: "overlay".to_owned(),
        source: "overlay".to_owned(),
        options: vec![
            format!("workdir={}", show("work")),
            format!("upperdir={}", show("up")),
            format!("lowerdir={}:{}", show("mid"), show("low")),
        ],
        ..Mount::default()
    }];
    Fixture { dir, mounts }
}

/// Mounting takes a privilege: without it there is nothing to test here.
fn privileged(fixture: &Fixture) -> bool {
    match RootFs::read_only(&fixture.mounts) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            eprintln!("skipped: {error}");
            false
        }
        _ => true,
    }
}

fn mount_table() -> String {
    std::fs::read_to_string("/proc/self/mounts").unwrap()
}

#[test]
fn files_are_read_from_the_merged_tree_and_nothing_stays_mounted() {
    let fixture = fixture();
    if !privileged(&fixture) {
        return;
    }
    std::fs::create_dir(fixture.dir.path().join("mid/etc")).unwrap();
    std::fs::write(fixture.dir.path().join("mid/etc/passwd"), "mid").unwrap();
    let tree = RootFs::read_only(&fixture.mounts).unwrap();
    assert_eq!(tree.read(Path::new("etc/passwd"), 10).unwrap().unwrap(), b"mid");
    assert_eq!(tree.read(Path::new("etc/group"), 10).unwrap().unwrap(), b"group");
    assert_eq!(tree.read(Path::new("etc/none"), 10).unwrap(), None);
    assert_eq!(tree.read(Path::new("etc/passwd/x"), 10).unwrap(), None);
    assert!(tree.read(Path::new("etc/group"), 4).unwrap_err().message().contains("larger than 4 bytes"));
    assert!(!mount_table().contains(&fixture.dir.path().display().to_string()));
}

#[test]
fn links_never_lead_out_and_special_files_are_not_opened() {
    let fixture = fixture();
    if !privileged(&fixture) {
        return;
    }
    let etc = fixture.dir.path().join("mid/etc");
    std::fs::create_dir(&etc).unwrap();
    let outside = fixture.dir.path().join("secret");
    std::fs::write(&outside, "secret").unwrap();
    symlink(&outside, etc.join("passwd")).unwrap();
    symlink("../../../../../../../../../etc/group", etc.join("up")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, etc.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .unwrap();
    let tree = RootFs::read_only(&fixture.mounts).unwrap();
    assert_eq!(tree.read(Path::new("etc/passwd"), 99).unwrap(), None);
    assert_eq!(tree.read(Path::new("etc/up"), 99).unwrap().unwrap(), b"group");
    for special in ["etc/pipe", "etc"] {
        let error = tree.read(Path::new(special), 99).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{special}");
    }
}

fn owner(path: &Path) -> (u32, u32, u32) {
    let meta = std::fs::metadata(path).unwrap();
    (meta.uid(), meta.gid(), meta.permissions().mode() & 0o7777)
}

#[test]
fn a_missing_directory_is_made_and_given() {
    let fixture = fixture();
    if !privileged(&fixture) {
        return;
    }
    let give = |path: &str| {
        RootFs::read_only(&fixture.mounts).unwrap().give_dir(&fixture.mounts, Path::new(path), 1000, 1001)
    };
    give("/data").unwrap();
    assert_eq!(owner(&fixture.dir.path().join("up/data")), (1000, 1001, 0o755));
    // It is there now: nothing to do, and a second time is no fault.
    give("/data").unwrap();
    give("/srv/deep/data").unwrap();
    assert_eq!(owner(&fixture.dir.path().join("up/srv/deep/data")), (1000, 1001, 0o755));
    assert_eq!(owner(&fixture.dir.path().join("up/srv/deep")), (0, 0, 0o755));
    // A directory of a lower layer is given without touching that layer.
    give("/etc").unwrap();
    assert_eq!(owner(&fixture.dir.path().join("up/etc")), (1000, 1001, 0o755));
    assert_eq!(owner(&fixture.dir.path().join("low/etc")).0, 0);
}

#[test]
fn what_is_no_directory_is_refused_and_links_stay_inside() {
    let fixture = fixture();
    if !privileged(&fixture) {
        return;
    }
    let mid = fixture.dir.path().join("mid");
    std::fs::write(mid.join("file"), "").unwrap();
    symlink("/nowhere", mid.join("dangling")).unwrap();
    symlink(fixture.dir.path().join("work"), mid.join("out")).unwrap();
    symlink("/srv", mid.join("data")).unwrap();
    let give = |path: &str| {
        RootFs::read_only(&fixture.mounts).unwrap().give_dir(&fixture.mounts, Path::new(path), 7, 7)
    };
    for path in ["/file", "/dangling", "/out", "/file/x"] {
        let error = give(path).expect_err(path);
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{path}: {error}");
    }
    give("/data").unwrap();
    assert_eq!(owner(&fixture.dir.path().join("up/srv")).0, 7);
}

#[test]
fn the_way_of_older_kernels_shows_the_same_tree_and_leaves_no_mount() {
    let fixture = fixture();
    if !privileged(&fixture) {
        return;
    }
    let show = |name: &str| fixture.dir.path().join(name).display().to_string();
    let layers = [show("up"), show("mid"), show("low")];
    let root = Overlay { layers: &layers, upper: None, user_xattr: false }.briefly_attached().unwrap();
    let tree = RootFs { root };
    assert_eq!(tree.read(Path::new("etc/passwd"), 10).unwrap().unwrap(), b"low");
    let (upper, work) = (show("up"), show("work"));
    let writable = Overlay { layers: &layers[1..], upper: Some((&upper, &work)), user_xattr: false };
    let root = writable.briefly_attached().unwrap();
    rustix::fs::mkdirat(&root, "made", Mode::from_raw_mode(0o700)).unwrap();
    assert!(fixture.dir.path().join("up/made").is_dir());
    assert!(!mount_table().contains("dunnage-"));
}

#[test]
fn a_snapshot_of_one_directory_needs_no_mount() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a"), "x").unwrap();
    let mounts =
        [Mount { r#type: "bind".to_owned(), source: dir.path().display().to_string(), ..Mount::default() }];
    let tree = RootFs::read_only(&mounts).unwrap();
    assert_eq!(tree.read(Path::new("/a"), 9).unwrap().unwrap(), b"x");
}

#[test]
fn other_mounts_are_refused_by_name() {
    let fuse = Mount { r#type: "fuse3.fuse-overlayfs".to_owned(), ..Mount::default() };
    for mounts in [vec![], vec![fuse.clone(), fuse.clone()], vec![fuse]] {
        assert_eq!(RootFs::read_only(&mounts).unwrap_err().kind(), ErrorKind::Unsupported);
    }
    assert_eq!(split_lower(r"/a\:b:/c\\d"), ["/a:b", r"/c\d"]);
}

#[tokio::test]
async fn directories_that_somebody_made_count_as_changes() {
    let fixture = fixture();
    let up = |path: &str| fixture.dir.path().join("up").join(path);
    let untouched = async || is_untouched(fixture.mounts.clone(), PathBuf::from("/data")).await;
    assert!(untouched().await);
    if !privileged(&fixture) {
        return;
    }
    RootFs::read_only(&fixture.mounts).unwrap().give_dir(&fixture.mounts, Path::new("/data"), 7, 7).unwrap();
    assert!(untouched().await, "what creation makes is no change");
    std::fs::create_dir(up("data/notes")).unwrap();
    assert!(!untouched().await, "a directory below it is one");
    std::fs::remove_dir(up("data/notes")).unwrap();
    std::fs::create_dir(up("srv")).unwrap();
    assert!(!untouched().await, "and one beside it");
    std::fs::remove_dir(up("srv")).unwrap();
    assert!(untouched().await);
    let opaque = layers::own_attribute(false, "opaque");
    rustix::fs::setxattr(up("data"), opaque.as_str(), b"y", rustix::fs::XattrFlags::empty()).unwrap();
    assert!(!untouched().await, "a directory was removed and made again");
}
