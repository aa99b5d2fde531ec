//! Layers that try to leave their image: nothing of the host is made, changed or removed, whether they are refused or
//! contained.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use common::{Rig, fails, names, pull, remove, running, said, sh};
use dunnage::ErrorKind;
use dunnage_harness::fixtures::hostile;

/// What all that the images bring is called.
const NAME: &str = "dunnage-escaped";

/// A directory of the host, with what the images reach for.
fn outside() -> tempfile::TempDir {
    // Its path stands in tar headers, where there is little room.
    let dir = tempfile::Builder::new().prefix("dn-").tempdir_in("/tmp").unwrap();
    let victims = dir.path().join(hostile::VICTIM_DIR);
    std::fs::DirBuilder::new().mode(0o700).create(&victims).unwrap();
    for file in [dir.path().join(hostile::VICTIM), victims.join("secret"), victims.join("hidden")] {
        std::fs::write(file, "the host's own\n").unwrap();
    }
    dir
}

/// Everything below some directories, with what would tell any change: the time of a file's last one is the kernel's,
/// and links are counted.
fn seen<'a>(roots: impl IntoIterator<Item = &'a Path>) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut waiting: Vec<PathBuf> = roots.into_iter().map(Path::to_owned).collect();
    while let Some(path) = waiting.pop() {
        // The daemon removes files of its own meanwhile.
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            waiting.extend(entries.map(|entry| entry.path()));
        }
        let text = format!(
            "{:o} {}:{} links {} size {} inode {} changed {}.{:09}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.nlink(),
            meta.size(),
            meta.ino(),
            meta.ctime(),
            meta.ctime_nsec()
        );
        found.insert(path, text);
    }
    found
}

/// The directories of the daemon's snapshots, without those of snapshots that are removed.
fn snapshots(rig: &Rig) -> Vec<PathBuf> {
    rig.collect();
    let all = seen([rig.containerd.dir()]);
    let is_snapshot = |path: &Path| {
        path.ends_with("fs") && path.ancestors().nth(2).is_some_and(|above| above.ends_with("snapshots"))
    };
    all.into_keys().filter(|path| is_snapshot(path)).collect()
}

/// Files of the images that lie anywhere but in a snapshot: near the snapshots, and where the paths could lead.
fn escaped(rig: &Rig) -> Vec<PathBuf> {
    let inside = snapshots(rig);
    let mut found: Vec<PathBuf> = seen([rig.containerd.dir()])
        .into_keys()
        .filter(|path| path.file_name().unwrap_or_default().to_string_lossy().starts_with(NAME))
        .filter(|path| !inside.iter().any(|root| path.starts_with(root)))
        .collect();
    for dir in ["/", "/tmp", "/usr", "/var", "/var/lib"] {
        let here = names(Path::new(dir)).into_iter().filter(|name| name.starts_with(NAME));
        found.extend(here.map(|name| Path::new(dir).join(name)));
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_points_outside_comes_to_lie_inside() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let (host, layout) = (outside(), tempfile::tempdir().unwrap());
    let image = hostile::contained(layout.path(), host.path()).unwrap();
    // The layer below it is there before, and is nobody's to change either.
    rig.pulled(&engine, "busybox").await;
    let below = snapshots(&rig);
    assert_eq!(below.len(), 1, "{below:?}");
    let watched: Vec<&Path> = below.iter().map(PathBuf::as_path).chain([host.path()]).collect();
    let (before, strays) = (seen(watched.clone()), escaped(&rig));

    pull(&engine, &rig.registry.add(&image).unwrap()).await.0.unwrap();
    assert_eq!(seen(watched.clone()), before);
    assert_eq!(escaped(&rig), strays);

    // It is all there, inside, and the image runs.
    let workspace = running(&engine, "contained", &rig.registry.add(&image).unwrap()).await;
    let there = host.path().display();
    let command = format!(
        "cat /etc/hostname; ls -A {there} | tr '\\n' ' '; echo; ls -Ad /{NAME}* | tr '\\n' ' '; echo; cat /{NAME}-grab"
    );
    let seen_inside = said(sh(&workspace, &command).await);
    let lines: Vec<&str> = seen_inside.lines().collect();
    assert_eq!((lines[0], lines[3]), ("fixture", "escaped once more"), "{seen_inside}");
    for name in ["dots", "root", "slide", "climb", "hop", "dir-slide", "fifo-climb", "link-hop"] {
        assert!(lines[1].split(' ').any(|file| file == format!("{NAME}-{name}")), "{name}: {seen_inside}");
    }
    for name in ["one", "two", "through", "grab", "snatch", "reach"] {
        assert!(lines[2].split(' ').any(|file| file == format!("/{NAME}-{name}")), "{name}: {seen_inside}");
    }
    remove(&workspace).await;
    assert_eq!(seen(watched), before);
    assert_eq!(escaped(&rig), strays);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_links_to_the_hosts_files_is_refused() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let (host, layout) = (outside(), tempfile::tempdir().unwrap());
    let image = rig.registry.add(&hostile::refused(layout.path(), host.path()).unwrap()).unwrap();
    rig.pulled(&engine, "busybox").await;
    let kept = rig.count();
    let below = snapshots(&rig);
    let watched: Vec<&Path> = below.iter().map(PathBuf::as_path).chain([host.path()]).collect();
    let (before, strays) = (seen(watched.clone()), escaped(&rig));

    // Refused more than once: the first attempt leaves nothing that would help the second.
    for _ in 0..2 {
        let words = ["hard link", hostile::VICTIM_DIR, "sha256:"];
        fails(pull(&engine, &image).await.0, ErrorKind::DataCorrupt, &words);
        assert_eq!(seen(watched.clone()), before);
        assert_eq!(escaped(&rig), strays);
        rig.settle(&kept);
        assert_eq!(snapshots(&rig), below, "a snapshot of a refused layer is left");
    }
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_reaches_for_the_hosts_temporary_files_is_contained() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let strays = escaped(&rig);
    let image = rig.pulled(&engine, "hostile").await;
    assert_eq!(escaped(&rig), strays);
    let workspace = running(&engine, "hostile", &image).await;
    assert_eq!(said(sh(&workspace, "cat /etc/hostname").await), "fixture");
    remove(&workspace).await;
    engine.close().await;
}
