//! Versions on the backend in memory, which knows what was written into each snapshot.

use crate::engine::{Engine, Workspace};
use crate::error::ErrorKind;
use crate::lifecycle::tests::Bench;
use crate::types::{
    CreateOptions, SnapshotCreateOptions, SnapshotInfo, SnapshotListOptions, SnapshotRollbackOptions,
    StopOptions, WorkspaceStatus,
};

const CONTAINER: &str = "workspace-a";

async fn workspace(engine: &Engine, start: bool) -> Workspace {
    let workspace = engine.workspace("a").unwrap();
    workspace.create(CreateOptions::default().start(start)).await.unwrap();
    workspace
}

async fn versions(workspace: &Workspace) -> Vec<SnapshotInfo> {
    let list = workspace.snapshots().list(SnapshotListOptions::default()).await.unwrap();
    list.snapshots.into_iter().filter(|snapshot| snapshot.managed).collect()
}

fn back_to(version: u64) -> SnapshotRollbackOptions {
    SnapshotRollbackOptions::default().version(version)
}

#[tokio::test]
async fn versions_hold_what_was_there_and_can_be_gone_back_to() {
    for running in [true, false] {
        let bench = Bench::new();
        let engine = bench.engine().await;
        let workspace = workspace(&engine, running).await;
        let snapshots = workspace.snapshots();
        bench.fake.write(CONTAINER, "one");
        let first = snapshots.create(SnapshotCreateOptions::default().name("first")).await.unwrap();
        assert_eq!(
            (first.version, first.snapshot_name.as_str(), first.source.as_str()),
            (1, "first", "manual")
        );
        assert_eq!(first.container_id, CONTAINER);
        assert!(first.runtime_snapshot_name.starts_with("workspace-a-snapshot-"));
        let info = workspace.info().await.unwrap();
        assert_eq!(info.task_running, running, "it goes on as it was");
        assert!(info.snapshot_key.starts_with("workspace-a-active-"));

        bench.fake.write(CONTAINER, "two");
        let second = snapshots.create(SnapshotCreateOptions::default().source("pre_exec")).await.unwrap();
        assert_eq!((second.version, second.snapshot_name.as_str()), (2, "Version 2"));
        bench.fake.write(CONTAINER, "three");
        let back = snapshots.rollback(back_to(1)).await.unwrap();
        assert_eq!((back.version, back.snapshot_name.as_str(), back.kept_version), (1, "first", Some(3)));
        assert_eq!(bench.fake.words(CONTAINER).unwrap(), "one");
        assert_eq!(workspace.info().await.unwrap().task_running, running);
        for (version, words) in [(2, "one two"), (3, "one three two"), (1, "one")] {
            snapshots.rollback(back_to(version).discard(true)).await.unwrap();
            assert_eq!(bench.fake.words(CONTAINER).unwrap(), words);
        }
        assert_eq!(bench.active_snapshots().len(), 1, "what was discarded is gone");
        let made = versions(&workspace).await;
        let told: Vec<_> =
            made.iter().map(|v| (v.version.unwrap(), v.name.as_str(), v.source.as_str())).collect();
        assert_eq!(
            told,
            [
                (1, "first", "manual"),
                (2, "Version 2", "pre_exec"),
                (3, "Before the rollback to first", "rollback")
            ]
        );
    }
}

#[tokio::test]
async fn a_deleted_workspace_takes_its_versions_along() {
    let bench = Bench::new();
    let (engine, workspace) = prepared(&bench).await;
    let image = bench.fake.snapshot_keys("overlayfs").into_iter().filter(|key| key.starts_with("sha256:"));
    let image: Vec<_> = image.collect();
    workspace.snapshots().rollback(back_to(1)).await.unwrap();
    assert!(workspace.delete(Default::default()).await.unwrap().deleted);
    assert_eq!(bench.fake.snapshot_keys("overlayfs"), image);
    // Numbers begin anew.
    let again = self::workspace(&engine, false).await;
    assert!(versions(&again).await.is_empty());
    assert_eq!(again.snapshots().create(Default::default()).await.unwrap().version, 1);
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_stops() {
    let bench = Bench::new();
    let engine = bench.engine().await;
    let nobody = engine.workspace("nobody").unwrap().snapshots();
    assert_eq!(nobody.create(Default::default()).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(nobody.list(Default::default()).await.unwrap_err().kind(), ErrorKind::NotFound);
    let workspace = workspace(&engine, true).await;
    let snapshots = workspace.snapshots();
    bench.fake.clear_calls();
    let refused = [
        snapshots.create(SnapshotCreateOptions::default().name("a\0b")).await.unwrap_err(),
        snapshots.create(SnapshotCreateOptions::default().source("")).await.unwrap_err(),
        snapshots.create(SnapshotCreateOptions::default().grace_ms(u64::MAX)).await.unwrap_err(),
        snapshots.rollback(back_to(0)).await.unwrap_err(),
        snapshots.list(SnapshotListOptions::default().snapshotter("native")).await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    assert_eq!(snapshots.rollback(back_to(9)).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!bench.fake.calls().iter().any(|call| call.starts_with("kill_task")));
    assert!(versions(&workspace).await.is_empty());
}

#[tokio::test]
async fn a_lost_database_is_completed_from_the_labels() {
    let bench = Bench::new();
    let engine = bench.engine().await;
    let first = workspace(&engine, true).await;
    for name in ["one", "two"] {
        bench.fake.write(CONTAINER, name);
        first.snapshots().create(SnapshotCreateOptions::default().name(name)).await.unwrap();
    }
    let before = first.snapshots().list(SnapshotListOptions::default()).await.unwrap();
    engine.close().await;
    bench.lose_database();
    let engine = bench.engine().await;
    let again = engine.workspace("a").unwrap();
    assert_eq!(again.snapshots().list(SnapshotListOptions::default()).await.unwrap(), before);
    let third = again.snapshots().create(Default::default()).await.unwrap();
    assert_eq!(third.version, 3, "numbers go on");
    again.snapshots().rollback(back_to(1)).await.unwrap();
    assert_eq!(bench.fake.words(CONTAINER).unwrap(), "one");
}

#[tokio::test]
async fn versions_outlive_container_and_database() {
    use crate::backend::Backend;
    let bench = Bench::new();
    let (engine, workspace) = prepared(&bench).await;
    workspace.stop(StopOptions::default()).await.unwrap();
    // Somebody else removes the container; then the database is lost.
    bench.fake.delete_container(CONTAINER).await.unwrap();
    engine.close().await;
    bench.lose_database();
    let engine = bench.engine().await;
    assert_eq!(bench.active_snapshots().len(), 1, "what was written is kept");
    let again = self::workspace(&engine, false).await;
    assert_eq!(versions(&again).await.len(), 1);
    assert_eq!(again.snapshots().create(Default::default()).await.unwrap().version, 2, "numbers go on");
    again.snapshots().rollback(back_to(1)).await.unwrap();
    assert_eq!(bench.fake.words(CONTAINER).unwrap(), "one");
}

/// The state of a workspace that a fault has met: what it holds, and how many versions it has.
async fn settled(bench: &Bench, engine: &Engine) -> (String, usize) {
    let workspace = engine.workspace("a").unwrap();
    workspace.ensure_running(Default::default()).await.unwrap();
    assert!(engine.inner.store.unfinished_workspaces().await.unwrap().is_empty());
    let info = workspace.info().await.unwrap();
    assert_eq!(info.status, WorkspaceStatus::Running);
    assert_eq!(bench.active_snapshots(), [info.snapshot_key], "nothing is left");
    (bench.fake.words(CONTAINER).unwrap(), versions(&workspace).await.len())
}

/// A workspace with one version, `one`, and a word after it.
async fn prepared(bench: &Bench) -> (Engine, Workspace) {
    let engine = bench.engine().await;
    let workspace = workspace(&engine, true).await;
    bench.fake.write(CONTAINER, "one");
    workspace.snapshots().create(Default::default()).await.unwrap();
    bench.fake.write(CONTAINER, "two");
    (engine, workspace)
}

/// How an operation meets its fault.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// One call fails.
    Fails,
    /// All calls fail from then on, and the process ends.
    Dies,
    /// The same, and the database is lost.
    Loses,
}

#[tokio::test]
async fn a_fault_anywhere_leaves_the_state_before_or_after() {
    for fault in [Fault::Fails, Fault::Dies, Fault::Loses] {
        for (rolling_back, discard) in [(false, false), (true, false), (true, true)] {
            let after = match (rolling_back, discard) {
                (false, _) => ("one two", 2),
                (true, false) => ("one", 2),
                (true, true) => ("one", 1),
            };
            for calls in 0.. {
                let bench = Bench::in_memory();
                let (engine, workspace) = prepared(&bench).await;
                match fault {
                    Fault::Fails => bench.fake.fail_after(calls),
                    Fault::Dies | Fault::Loses => bench.fake.die_after(calls),
                }
                let result = if rolling_back {
                    workspace.snapshots().rollback(back_to(1).discard(discard)).await.map(drop)
                } else {
                    workspace.snapshots().create(Default::default()).await.map(drop)
                };
                let engine = if fault == Fault::Fails {
                    bench.fake.revive();
                    engine
                } else {
                    engine.close().await;
                    bench.fake.revive();
                    if fault == Fault::Loses {
                        bench.lose_database();
                    }
                    bench.engine().await
                };
                let state = settled(&bench, &engine).await;
                let state = (state.0.as_str(), state.1);
                assert!(
                    state == after || (result.is_err() && state == ("one two", 1)),
                    "call {calls}, {fault:?}, rolling back {rolling_back}: {state:?} after {result:?}"
                );
                if result.is_ok() {
                    assert!(calls >= 9, "only {calls} faults were seen");
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_lost_reply_changes_nothing() {
    for method in ["commit_snapshot", "prepare_snapshot", "move_container", "delete_task"] {
        let bench = Bench::new();
        let (engine, workspace) = prepared(&bench).await;
        bench.fake.lose_reply(method);
        let result = workspace.snapshots().create(Default::default()).await;
        let state = settled(&bench, &engine).await;
        assert_eq!((state.0.as_str(), state.1), ("one two", 2), "{method}: {result:?}");
    }
}

#[tokio::test]
async fn a_cancel_before_the_version_is_made_goes_back() {
    let bench = Bench::new();
    let (engine, workspace) = prepared(&bench).await;
    let mut gate = bench.fake.hold("kill_task");
    let making = workspace.snapshots().create(Default::default());
    gate.reached().await;
    making.cancel();
    gate.open();
    assert_eq!(making.await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(workspace.info().await.unwrap().task_running);
    let state = settled(&bench, &engine).await;
    assert_eq!((state.0.as_str(), state.1), ("one two", 1));
    // A workspace that was stopped stays stopped.
    workspace.stop(StopOptions::default()).await.unwrap();
    workspace.snapshots().create(Default::default()).await.unwrap();
    assert!(!workspace.info().await.unwrap().task_running);
}
