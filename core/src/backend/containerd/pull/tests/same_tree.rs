//! What this library unpacks is what containerd itself unpacks, in every detail.

use super::{client_in, config, pulled, request, world};
use crate::backend::containerd::client::Client;
use containerd_client::services::v1::snapshots::{RemoveSnapshotRequest, ViewSnapshotRequest};
use dunnage_harness::fixtures;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The directories of an image's layers, the uppermost first.
async fn directories(client: &Client, top: &str) -> Vec<PathBuf> {
    let message = ViewSnapshotRequest {
        snapshotter: "overlayfs".to_owned(),
        key: "look".to_owned(),
        parent: top.to_owned(),
        labels: Default::default(),
    };
    let view = client.snapshots().view(client.request(message)).await.unwrap().into_inner();
    let remove = RemoveSnapshotRequest { snapshotter: "overlayfs".to_owned(), key: "look".to_owned() };
    // Nothing protects it: a collection may have been quicker.
    let _ = client.snapshots().remove(client.request(remove)).await;
    let mount = &view.mounts[0];
    if mount.r#type == "bind" {
        return vec![PathBuf::from(&mount.source)];
    }
    let lower = mount.options.iter().find_map(|o| o.strip_prefix("lowerdir=")).unwrap();
    lower.split(':').map(PathBuf::from).collect()
}

/// Everything there is to know of a tree, by path.
fn describe(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(path) = waiting.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let relative = path.strip_prefix(root).unwrap().to_path_buf();
        let kind = meta.file_type();
        // Whiteouts and directories that the archive does not name have the time at which they were made.
        let recent = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 - 3600;
        let time = match meta.mtime() {
            made if made > recent => "now".to_owned(),
            seconds => format!("{seconds}.{:09}", meta.mtime_nsec()),
        };
        let mut text = format!(
            "mode {:o} owner {}:{} mtime {time} rdev {}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.rdev()
        );
        let mut names = vec![0; 4096];
        let length = rustix::fs::llistxattr(&path, &mut names[..]).unwrap();
        let mut names: Vec<&[u8]> = names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()).collect();
        names.sort();
        for name in names {
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(&path, name, &mut value[..]).unwrap();
            text += &format!(" {}={:02x?}", String::from_utf8_lossy(name), &value[..length]);
        }
        if kind.is_dir() {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if kind.is_symlink() {
            text += &format!(" to {:?}", std::fs::read_link(&path).unwrap());
        } else if kind.is_file() {
            text += &format!(" size {} links {}", meta.size(), meta.nlink());
            if meta.size() < 64 << 20 {
                text += &format!(" {:x?}", Sha256::digest(std::fs::read(&path).unwrap()));
            }
        } else {
            assert!(kind.is_fifo() || kind.is_char_device() || kind.is_block_device());
        }
        found.insert(relative, text);
    }
    found
}

fn without_time(text: &str) -> String {
    text.split(' ').enumerate().filter(|(n, _)| *n != 5).map(|(_, word)| word).collect::<Vec<_>>().join(" ")
}

async fn compare(fixture: &str) {
    let world = world();
    let reference = world.registry.add(&fixtures::image(fixture).unwrap()).unwrap();
    let (own, theirs) = (world.containerd.namespace(), world.containerd.namespace());
    let client = client_in(&world.containerd, &own).await;
    let top = pulled(&client, &config(), &request(&reference)).await.unwrap().unpacked.top_snapshot;
    let output =
        world.containerd.ctr(&theirs).args(["images", "pull", "--plain-http", &reference]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let other = client_in(&world.containerd, &theirs).await;
    let ours = directories(&client, &top).await;
    let theirs = directories(&other, &top).await;
    assert_eq!(ours.len(), theirs.len());
    assert_ne!(ours[0], theirs[0], "both looked at the same snapshot");
    for (n, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        let (ours, theirs) = (describe(ours), describe(theirs));
        let only = |a: &BTreeMap<PathBuf, String>, b: &BTreeMap<PathBuf, String>| -> Vec<PathBuf> {
            a.keys().filter(|path| !b.contains_key(*path)).take(5).cloned().collect()
        };
        assert_eq!((only(&ours, &theirs), only(&theirs, &ours)), (vec![], vec![]), "{fixture}, layer {n}");
        for (path, text) in &ours {
            // containerd gives a directory that the archive implies the time of the one below, and then changes it by
            // writing into it; here it keeps that time.
            let (mut own, mut other) = (text.clone(), theirs[path].clone());
            if own.contains("mtime now") || other.contains("mtime now") {
                (own, other) = (without_time(&own), without_time(&other));
            }
            assert_eq!(own, other, "{fixture}, layer {n}: {}", path.display());
        }
    }
}

#[tokio::test]
async fn a_rich_image_is_unpacked_as_containerd_does() {
    compare("layered").await;
}

#[tokio::test]
async fn every_packing_is_unpacked_as_containerd_does() {
    for fixture in
        ["busybox", "zstd", "schema2", "uncompressed", "multi-member", "no-tar-end", "multi", "user"]
    {
        compare(fixture).await;
    }
}

#[tokio::test]
async fn long_runs_of_zeros_take_no_space() {
    let world = world();
    let reference = world.registry.add(&fixtures::image("sparse").unwrap()).unwrap();
    let client = client_in(&world.containerd, &world.containerd.namespace()).await;
    let top = pulled(&client, &config(), &request(&reference)).await.unwrap().unpacked.top_snapshot;
    let (mut size, mut blocks) = (0, 0);
    for root in directories(&client, &top).await {
        let mut waiting = vec![root];
        while let Some(path) = waiting.pop() {
            let meta = std::fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            size += meta.size();
            blocks += meta.blocks() * 512;
        }
    }
    assert!(size > 1 << 30 && blocks < 64 << 20, "{size} bytes in {blocks}");
}
