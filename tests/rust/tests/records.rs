//! The backend tells what there is: whatever became of the records, the versions are the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use common::older::Older;
use common::{Rig, database, kill, lose_database, running, said, sh};
use dunnage::types::{
    SnapshotCreateOptions, SnapshotDiffOptions, SnapshotForkOptions, SnapshotListOptions,
    SnapshotPruneOptions, SnapshotRollbackOptions, StartOptions, StopOptions,
};
use dunnage::{Engine, Workspace};

fn snapshot() -> SnapshotCreateOptions {
    SnapshotCreateOptions::default().grace_ms(0u64)
}

fn back_to(version: u64) -> SnapshotRollbackOptions {
    SnapshotRollbackOptions::default().version(version).grace_ms(0u64)
}

/// What is told of each version: its number, its name and its source, ordered by number.
async fn told(workspace: &Workspace) -> Vec<(u64, String, String)> {
    let list = workspace.snapshots().list(SnapshotListOptions::default()).await.unwrap();
    let mut told: Vec<_> =
        list.snapshots.into_iter().filter_map(|made| Some((made.version?, made.name, made.source))).collect();
    told.sort();
    told
}

async fn write(workspace: &Workspace, word: &str) {
    said(sh(workspace, &format!("echo {word} > /data/word")).await);
}

async fn word(workspace: &Workspace) -> String {
    said(sh(workspace, "cat /data/word").await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_database_is_brought_up_to_date() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "busybox").await;
    let before = rig.count();
    let config = rig.config();
    let workspace = running(&engine, "old", &image).await;
    for word in ["one", "two", "three"] {
        write(&workspace, word).await;
        workspace.snapshots().create(snapshot().name(word)).await.unwrap();
    }
    engine.close().await;
    let copy = tempfile::tempdir().unwrap();
    let copied: Vec<_> = database(&config).collect();
    for path in &copied {
        std::fs::copy(path, copy.path().join(path.file_name().unwrap())).unwrap();
    }

    // All of this the copy knows nothing of: a version more, one less, another place, and another workspace.
    let engine = Engine::open(config.clone()).await.unwrap();
    let workspace = engine.workspace("old").unwrap();
    write(&workspace, "four").await;
    workspace.snapshots().rollback(back_to(2)).await.unwrap();
    workspace
        .snapshots()
        .prune(SnapshotPruneOptions::default().keep_last(3u64).grace_ms(0u64))
        .await
        .unwrap();
    workspace.snapshots().fork(SnapshotForkOptions::default().version(3u64).new_id("young")).await.unwrap();
    let now = told(&workspace).await;
    assert_eq!(now.iter().map(|version| version.0).collect::<Vec<_>>(), [2, 3, 4], "{now:?}");
    engine.close().await;

    lose_database(&config);
    for path in &copied {
        std::fs::copy(copy.path().join(path.file_name().unwrap()), path).unwrap();
    }
    let engine = Engine::open(config.clone()).await.unwrap();
    let (workspace, young) = (engine.workspace("old").unwrap(), engine.workspace("young").unwrap());
    assert_eq!(told(&workspace).await, now);
    assert_eq!((word(&workspace).await.as_str(), word(&young).await.as_str()), ("two", "three"));
    rig.collect();
    assert_eq!(
        workspace.snapshots().create(snapshot()).await.unwrap().version,
        5,
        "no number is given twice"
    );
    for (version, content) in [(4, "four"), (3, "three"), (2, "two")] {
        workspace.snapshots().rollback(back_to(version).discard(true)).await.unwrap();
        assert_eq!(word(&workspace).await, content);
    }
    for workspace in [&workspace, &young] {
        workspace.delete(kill()).await.unwrap();
    }
    rig.settle(&before);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_data_root_loses_no_workspace() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    // Its user is not root, and has to reach the directory of its socket.
    let image = rig.pulled(&engine, "user").await;
    let before = rig.count();
    let workspace = running(&engine, "kept", &image).await;
    write(&workspace, "one").await;
    workspace.snapshots().create(snapshot().name("first")).await.unwrap();
    write(&workspace, "two").await;
    workspace.stop(StopOptions::default().grace_ms(0u64)).await.unwrap();
    let now = told(&workspace).await;
    engine.close().await;
    std::fs::remove_dir_all(rig.containerd.data_root()).unwrap();

    let engine = rig.engine().await;
    let workspace = engine.workspace("kept").unwrap();
    workspace.ensure_running(StartOptions::default()).await.unwrap();
    assert_eq!(word(&workspace).await, "two");
    assert_eq!(told(&workspace).await, now);
    workspace.snapshots().rollback(back_to(1)).await.unwrap();
    assert_eq!(word(&workspace).await, "one");
    workspace.delete(kill()).await.unwrap();
    rig.settle(&before);
    rig.no_files_of("kept");
    engine.close().await;
}

/// Writes a file into what a container that does not run holds, as its processes would.
fn put(rig: &Rig, container: &str, path: &str, word: &str) {
    let info = rig.ctr(&["containers", "info", container]);
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    let mounts = rig.ctr(&["snapshots", "mounts", "/nowhere", info["SnapshotKey"].as_str().unwrap()]);
    let upper = mounts.split(',').find_map(|option| option.split_once("upperdir=")).unwrap().1;
    let path = Path::new(upper.trim()).join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, word).unwrap();
}

/// The paths in which a version is another than the one before it, and what they are like.
async fn changes(workspace: &Workspace, from: u64, to: u64) -> Vec<String> {
    let diff = SnapshotDiffOptions::default().from(from).to(to);
    let changes = workspace.snapshots().diff(diff).await.unwrap().changes;
    changes.into_iter().map(|change| format!("{:?} {}", change.change, change.path)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_of_older_implementations_are_taken_over_in_place() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "busybox").await;
    let before = rig.count();
    rig.ctr(&["container", "create", &image, "mcp-old", "/bin/true"]);
    let older = Older::connect(&rig.config()).await;
    put(&rig, "mcp-old", "data/word", "one");
    let first = older.version("mcp-old", "v").await;
    put(&rig, "mcp-old", "data/word", "two, longer");
    let second = older.version("mcp-old", "rollback-").await;
    put(&rig, "mcp-old", "data/now", "now");

    // Reading changes nothing.
    let labels = |snapshot: &str| rig.ctr(&["snapshots", "info", snapshot]);
    let bare = labels(&first);
    let workspace = engine.workspace("old").unwrap();
    assert!(workspace.info().await.unwrap().legacy);
    let source = |number: u64, source: &str| (number, format!("Version {number}"), source.to_owned());
    assert_eq!(told(&workspace).await, [source(1, "managed"), source(2, "rollback")]);
    assert_eq!(changes(&workspace, 1, 2).await, ["Changed /data/word"]);
    assert_eq!(labels(&first), bare);

    // The first change labels them: nothing but the labels keeps the second once the workspace has gone back past it.
    let back = workspace.snapshots().rollback(back_to(1)).await.unwrap();
    assert_eq!(back.kept_version, Some(3));
    rig.collect();
    for snapshot in [&first, &second] {
        assert!(labels(snapshot).contains("containerd.io/gc.root"), "{}", labels(snapshot));
    }
    let now = [source(1, "managed"), source(2, "rollback")];
    assert_eq!(told(&workspace).await[..2], now);
    engine.close().await;
    lose_database(&rig.config());
    let engine = rig.engine().await;
    let workspace = engine.workspace("old").unwrap();
    assert_eq!(told(&workspace).await[..2], now);
    assert_eq!(changes(&workspace, 0, 1).await, ["Added /data", "Added /data/word"]);
    assert_eq!(changes(&workspace, 1, 2).await, ["Changed /data/word"]);
    assert_eq!(changes(&workspace, 2, 3).await, ["Added /data/now"]);

    // And it stays what others can manage: their own client knows the container, its snapshot and its versions.
    let made = workspace.snapshots().create(snapshot()).await.unwrap();
    assert_eq!(made.version, 4);
    put(&rig, "mcp-old", "data/later", "later");
    let listed = rig.ctr(&["snapshots", "ls"]);
    for snapshot in [first, second, made.runtime_snapshot_name] {
        assert!(listed.contains(&snapshot), "{snapshot} in {listed}");
    }
    workspace.delete(kill()).await.unwrap();
    rig.settle(&before);
    rig.no_files_of("old");
    engine.close().await;
}
