//! Lineages that no operation of ours makes, and lists of few among many.

use crate::engine::{Engine, Workspace};
use crate::error::ErrorKind;
use crate::lifecycle::tests::Bench;
use crate::types::{CreateOptions, SnapshotInfo, SnapshotListOptions, SnapshotRollbackOptions};

const SNAPSHOTTER: &str = "overlayfs";

/// A stopped workspace whose writable snapshot stands on `parent`.
async fn standing_on(bench: &Bench, parent: &str) -> (Engine, Workspace, String) {
    let engine = bench.engine().await;
    let workspace = engine.workspace("a").unwrap();
    workspace.create(CreateOptions::default().start(false)).await.unwrap();
    let key = workspace.info().await.unwrap().snapshot_key;
    bench.fake.plant(SNAPSHOTTER, &key, parent, false);
    (engine, workspace, key)
}

async fn listed(workspace: &Workspace) -> Vec<SnapshotInfo> {
    workspace.snapshots().list(SnapshotListOptions::default()).await.unwrap().snapshots
}

/// The runtime names of a list, sorted.
fn names(list: &[SnapshotInfo]) -> Vec<&str> {
    let mut names: Vec<&str> = list.iter().map(|snapshot| snapshot.runtime_snapshot_name.as_str()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_circle_of_parents_is_walked_once() {
    let bench = Bench::new();
    bench.fake.plant(SNAPSHOTTER, "round-1", "round-2", true);
    bench.fake.plant(SNAPSHOTTER, "round-2", "round-3", true);
    bench.fake.plant(SNAPSHOTTER, "round-3", "round-1", true);
    let (_engine, workspace, key) = standing_on(&bench, "round-1").await;
    assert_eq!(names(&listed(&workspace).await), ["round-1", "round-2", "round-3", &key]);
    // One that stands on itself.
    bench.fake.plant(SNAPSHOTTER, "round-1", "round-1", true);
    assert_eq!(names(&listed(&workspace).await), ["round-1", &key]);
    // The writable one in the circle.
    bench.fake.plant(SNAPSHOTTER, "round-1", &key, true);
    assert_eq!(names(&listed(&workspace).await), ["round-1", &key]);
}

#[tokio::test]
async fn a_parent_that_is_missing_ends_the_line() {
    let bench = Bench::new();
    bench.fake.plant(SNAPSHOTTER, "upper", "missing", true);
    bench.fake.plant(SNAPSHOTTER, "lower", "", true);
    let (_engine, workspace, key) = standing_on(&bench, "upper").await;
    assert_eq!(names(&listed(&workspace).await), ["upper", &key]);
    bench.fake.plant(SNAPSHOTTER, &key, "missing", false);
    assert_eq!(names(&listed(&workspace).await), [&key]);
}

#[tokio::test]
async fn versions_show_whatever_became_of_the_line() {
    let bench = Bench::new();
    let engine = bench.engine().await;
    let workspace = engine.workspace("a").unwrap();
    workspace.create(CreateOptions::default().start(false)).await.unwrap();
    let first = workspace.snapshots().create(Default::default()).await.unwrap();
    workspace.snapshots().create(Default::default()).await.unwrap();
    let key = workspace.info().await.unwrap().snapshot_key;
    // The writable snapshot stands on what is no version and not there.
    bench.fake.plant(SNAPSHOTTER, &key, "elsewhere", false);
    let list = listed(&workspace).await;
    assert_eq!(list.iter().filter_map(|snapshot| snapshot.version).collect::<Vec<_>>(), [1, 2]);
    // Going back to a version puts that right.
    let back = SnapshotRollbackOptions::default().version(1u64).discard(true);
    workspace.snapshots().rollback(back).await.unwrap();
    let active = listed(&workspace).await.into_iter().find(|snapshot| snapshot.kind == "active").unwrap();
    assert_eq!(active.parent, first.runtime_snapshot_name);
}

#[tokio::test]
async fn a_writable_snapshot_that_is_gone_is_told() {
    use crate::backend::Backend;
    let bench = Bench::new();
    let (_engine, workspace, key) = standing_on(&bench, "").await;
    bench.fake.remove_snapshot(SNAPSHOTTER, &key).await.unwrap();
    let error = workspace.snapshots().list(SnapshotListOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.context().any(|(name, value)| (name, value) == ("snapshot", &key)), "{error}");
}

#[tokio::test]
async fn what_is_nobodys_is_not_asked_for() {
    let bench = Bench::new();
    for number in 0..10_000 {
        bench.fake.plant(SNAPSHOTTER, &format!("other-{number}"), "", number % 2 == 0);
    }
    let engine = bench.engine().await;
    let workspace = engine.workspace("a").unwrap();
    workspace.create(CreateOptions::default().start(false)).await.unwrap();
    workspace.snapshots().create(Default::default()).await.unwrap();
    bench.fake.clear_calls();
    assert_eq!(listed(&workspace).await.iter().filter(|snapshot| snapshot.managed).count(), 1);
    let asked: std::collections::BTreeSet<String> =
        bench.fake.calls().into_iter().filter(|call| call.starts_with("snapshot")).collect();
    // The writable one and the image's two layers; the version is known, and no list is asked for.
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked.iter().all(|call| call.starts_with("snapshot ") && !call.contains("other-")), "{asked:?}");
}
