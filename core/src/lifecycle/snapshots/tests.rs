//! Versions on the backend in memory, which knows what was written into each snapshot.

use crate::backend::fake::FakeImage;
use crate::engine::{Engine, Workspace};
use crate::error::ErrorKind;
use crate::lifecycle::tests::Bench;
use crate::types::{
    ChangeKind, CreateOptions, SnapshotCreateOptions, SnapshotDeleteOptions, SnapshotDiffOptions,
    SnapshotForkOptions, SnapshotInfo, SnapshotListOptions, SnapshotPruneOptions, SnapshotRollbackOptions,
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

#[tokio::test]
async fn a_cancel_after_the_version_is_made_comes_too_late() {
    for step in ["prepare_snapshot", "move_container", "create_task", "start_task"] {
        let bench = Bench::new();
        let (engine, workspace) = prepared(&bench).await;
        let mut gate = bench.fake.hold(step);
        let making = workspace.snapshots().create(Default::default());
        gate.reached().await;
        making.cancel();
        gate.open();
        making.await.unwrap();
        assert!(workspace.info().await.unwrap().task_running, "{step}");
        let state = settled(&bench, &engine).await;
        assert_eq!((state.0.as_str(), state.1), ("one two", 2), "{step}");
    }
}

/// The numbers of a workspace's versions, and the one it goes on from.
async fn numbers(workspace: &Workspace) -> (Vec<u64>, Option<u64>) {
    let list = workspace.snapshots().versions(Default::default()).await.unwrap();
    (list.versions.iter().map(|version| version.version).collect(), list.current)
}

/// A workspace with so many versions, of which each has one word more than the one before.
async fn with_versions(bench: &Bench, count: u64) -> (Engine, Workspace) {
    let engine = bench.engine().await;
    let workspace = workspace(&engine, true).await;
    for number in 1..=count {
        bench.fake.write(CONTAINER, &format!("w{number:03}"));
        workspace.snapshots().create(Default::default()).await.unwrap();
    }
    (engine, workspace)
}

/// What a workspace holds that has had so many versions.
fn words(count: u64) -> String {
    (1..=count).map(|number| format!("w{number:03}")).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_fork_shares_and_neither_needs_the_other() {
    for first_goes in [true, false] {
        let bench = Bench::new();
        let (engine, workspace) = with_versions(&bench, 2).await;
        let image =
            bench.fake.snapshot_keys("overlayfs").into_iter().filter(|key| key.starts_with("sha256:"));
        let image: Vec<_> = image.collect();
        let options = SnapshotForkOptions::default().version(1u64).new_id("b");
        let made = workspace.snapshots().fork(options.clone()).await.unwrap();
        assert_eq!((made.workspace_id.as_str(), made.from_version, made.started), ("b", 1, true));
        assert_eq!(bench.fake.words("workspace-b").unwrap(), words(1));
        assert_eq!(workspace.snapshots().fork(options).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
        let fork = engine.workspace("b").unwrap();
        assert_eq!(numbers(&fork).await, (vec![], None), "its own history begins");
        bench.fake.write("workspace-b", "own");
        fork.snapshots().create(Default::default()).await.unwrap();
        let (goes, stays) = if first_goes { (&workspace, &fork) } else { (&fork, &workspace) };
        goes.delete(Default::default()).await.unwrap();
        let (container, left) =
            if first_goes { ("workspace-b", "own w001") } else { (CONTAINER, "w001 w002") };
        assert_eq!(bench.fake.words(container).unwrap(), left);
        stays.snapshots().rollback(back_to(1)).await.unwrap();
        stays.delete(Default::default()).await.unwrap();
        assert_eq!(bench.fake.snapshot_keys("overlayfs"), image, "nothing is left of either");
    }
}

#[tokio::test]
async fn a_fork_is_refused_before_anything_is_made() {
    let bench = Bench::new();
    let (_engine, workspace) = with_versions(&bench, 1).await;
    let fork = |version: u64, id: &str| {
        workspace.snapshots().fork(SnapshotForkOptions::default().version(version).new_id(id))
    };
    bench.fake.clear_calls();
    for (version, id) in [(0, "b"), (1, ""), (1, "a"), (1, "b/c")] {
        assert_eq!(fork(version, id).await.unwrap_err().kind(), ErrorKind::InvalidArgument, "{version} {id}");
    }
    assert_eq!(fork(7, "b").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!bench.fake.calls().iter().any(|call| call.starts_with("prepare") || call.starts_with("create")));
}

#[tokio::test]
async fn a_long_line_is_made_short_and_every_version_stays() {
    const MANY: u64 = 150;
    let bench = Bench::new();
    let (_engine, workspace) = with_versions(&bench, MANY).await;
    let made: Vec<_> = bench.fake.calls().into_iter().filter(|c| c.starts_with("squash_snapshot")).collect();
    assert_eq!(made.len(), 2, "{made:?}");
    assert_eq!(numbers(&workspace).await, ((1..=MANY).collect(), Some(MANY)));
    let list = workspace.snapshots().list(SnapshotListOptions::default()).await.unwrap();
    assert_eq!(list.snapshots.len(), MANY as usize + 3, "the image's two, the versions, the writable one");
    let by_name: std::collections::HashMap<_, _> =
        list.snapshots.iter().map(|s| (s.runtime_snapshot_name.as_str(), s)).collect();
    let mut at = list.snapshots.iter().find(|s| s.kind == "active").unwrap();
    for number in (1..=MANY).rev() {
        at = by_name[at.parent.as_str()];
        assert_eq!(at.version, Some(number), "one goes on from the other");
    }
    for number in [1, 63, 64, 65, 100, MANY] {
        workspace.snapshots().rollback(back_to(number).discard(true)).await.unwrap();
        assert_eq!(bench.fake.words(CONTAINER).unwrap(), words(number));
    }
}

#[tokio::test]
async fn what_others_stand_on_is_refused_or_made_one_with_them() {
    let bench = Bench::new();
    let (_engine, workspace) = with_versions(&bench, 4).await;
    let remove = |number: u64, squash: bool| {
        workspace.snapshots().delete(SnapshotDeleteOptions::default().version(number).squash(squash))
    };
    for number in 1..=4 {
        let error = remove(number, false).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    }
    let error = remove(4, false).await.unwrap_err();
    assert!(error.to_string().contains("the workspace as it is"), "{error}");
    let done = remove(2, true).await.unwrap();
    assert_eq!((done.removed, done.kept), (vec![2], vec![1, 3, 4]));
    assert!(done.downtime_ms < 60_000 && !done.removed_snapshots.is_empty());
    let tree = workspace.snapshots().tree(Default::default()).await.unwrap();
    let follows: Vec<_> = tree.versions.iter().map(|v| (v.version, v.follows)).collect();
    assert_eq!(follows, [(1, None), (3, Some(1)), (4, Some(3))]);
    assert_eq!((tree.roots, tree.current), (vec![1], Some(4)));
    for number in [1, 3, 4] {
        workspace.snapshots().rollback(back_to(number).discard(true)).await.unwrap();
        assert_eq!(bench.fake.words(CONTAINER).unwrap(), words(number));
    }
    // A version beside the line goes without a squash, and the workspace runs on.
    workspace.snapshots().rollback(back_to(1).discard(true)).await.unwrap();
    bench.fake.clear_calls();
    assert_eq!(remove(4, false).await.unwrap().kept, [1, 3]);
    assert!(!bench.fake.calls().iter().any(|call| call.starts_with("kill_task")));
    assert_eq!(workspace.snapshots().create(Default::default()).await.unwrap().version, 5, "no number twice");
    assert_eq!(remove(9, true).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_is_discarded_takes_all_bases_along() {
    let bench = Bench::new();
    let (_engine, workspace) = with_versions(&bench, 2).await;
    let snapshots = workspace.snapshots();
    snapshots.prune(SnapshotPruneOptions::default().keep_last(1_u64)).await.unwrap();
    let (version, before) =
        (bench.fake.words(CONTAINER).unwrap(), bench.fake.snapshot_keys("overlayfs").len());
    bench.fake.write(CONTAINER, "later");
    snapshots.create(Default::default()).await.unwrap();
    bench.fake.write(CONTAINER, "latest");
    snapshots.delete(SnapshotDeleteOptions::default().version(3_u64).squash(true)).await.unwrap();
    snapshots.rollback(back_to(2).discard(true)).await.unwrap();
    assert!(version.starts_with(&bench.fake.words(CONTAINER).unwrap()), "{version}");
    let keys = bench.fake.snapshot_keys("overlayfs");
    assert!(keys.len() < before && !keys.iter().any(|key| key.contains("-base-")), "{keys:?}");
}

#[tokio::test]
async fn prune_keeps_what_it_is_told_to() {
    let bench = Bench::new();
    let (_engine, workspace) = with_versions(&bench, 6).await;
    let prune = |options: SnapshotPruneOptions| workspace.snapshots().prune(options);
    let none = prune(SnapshotPruneOptions::default()).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::InvalidArgument);
    bench.fake.write(CONTAINER, "named");
    workspace.snapshots().create(SnapshotCreateOptions::default().name("named")).await.unwrap();
    for _ in 0..2 {
        workspace.snapshots().create(Default::default()).await.unwrap();
    }
    bench.fake.write(CONTAINER, "unkept");
    let young = prune(SnapshotPruneOptions::default().older_than_s(3600u64)).await.unwrap();
    assert!(young.removed.is_empty());
    let options = SnapshotPruneOptions::default().keep_last(1u64).keep_named(true);
    let told = prune(options.clone().dry_run(true)).await.unwrap();
    assert_eq!((&told.removed[..], &told.kept[..]), (&[1, 2, 3, 4, 5, 6, 8][..], &[7, 9][..]));
    assert_eq!(numbers(&workspace).await.0.len(), 9);
    let done = prune(options).await.unwrap();
    assert_eq!((done.removed, done.kept), (told.removed, told.kept));
    assert_eq!(numbers(&workspace).await, (vec![7, 9], Some(9)));
    assert!(workspace.info().await.unwrap().task_running);
    assert_eq!(bench.fake.words(CONTAINER).unwrap(), format!("named unkept {}", words(6)));
    workspace.snapshots().rollback(back_to(7)).await.unwrap();
    assert_eq!(bench.fake.words(CONTAINER).unwrap(), format!("named {}", words(6)));
    let all = prune(SnapshotPruneOptions::default().keep_last(0u64)).await.unwrap();
    assert_eq!(all.kept, Vec::<u64>::new());
    assert_eq!(bench.fake.words(CONTAINER).unwrap(), format!("named {}", words(6)));
    assert_eq!(numbers(&workspace).await, (vec![], None));
    workspace.delete(Default::default()).await.unwrap();
    let left = bench.fake.snapshot_keys("overlayfs");
    assert!(left.iter().all(|key| key.starts_with("sha256:")), "{left:?}");
}

#[tokio::test]
async fn a_fault_anywhere_in_a_prune_leaves_every_kept_version() {
    for dies in [false, true] {
        for calls in 0.. {
            let bench = Bench::new();
            let (engine, workspace) = with_versions(&bench, 4).await;
            bench.fake.write(CONTAINER, "now");
            if dies {
                bench.fake.die_after(calls);
            } else {
                bench.fake.fail_after(calls);
            }
            let result = workspace.snapshots().prune(SnapshotPruneOptions::default().keep_last(2u64)).await;
            let engine = if dies {
                engine.close().await;
                bench.fake.revive();
                bench.engine().await
            } else {
                bench.fake.revive();
                engine
            };
            let workspace = engine.workspace("a").unwrap();
            workspace.ensure_running(Default::default()).await.unwrap();
            assert!(engine.inner.store.unfinished_workspaces().await.unwrap().is_empty());
            let (there, current) = numbers(&workspace).await;
            assert!(
                there == [3, 4] || (result.is_err() && there == [1, 2, 3, 4]),
                "call {calls}, dies {dies}: {there:?} after {result:?}"
            );
            assert_eq!(current, Some(4));
            assert_eq!(bench.fake.words(CONTAINER).unwrap(), format!("now {}", words(4)));
            for number in there {
                workspace.snapshots().rollback(back_to(number).discard(true)).await.unwrap();
                assert_eq!(bench.fake.words(CONTAINER).unwrap(), words(number));
            }
            workspace.delete(Default::default()).await.unwrap();
            let left = bench.fake.snapshot_keys("overlayfs");
            assert!(left.iter().all(|key| key.starts_with("sha256:")), "call {calls}, dies {dies}: {left:?}");
            if result.is_ok() {
                assert!(calls >= 20, "only {calls} faults were seen");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_lost_container_is_made_anew_of_what_it_left() {
    let bench = Bench::new();
    let (engine, workspace) = with_versions(&bench, 2).await;
    bench.fake.write(CONTAINER, "unkept");
    bench.fake.lose_container(CONTAINER);
    workspace.ensure_running(Default::default()).await.unwrap();
    assert_eq!(bench.fake.words(CONTAINER).unwrap(), "unkept w001 w002");
    assert_eq!(numbers(&workspace).await, (vec![1, 2], Some(2)));
    // A creation finds it too, and keeps it as a version where it begins with something else.
    bench.fake.lose_container(CONTAINER);
    bench.fake.offer(FakeImage::new("docker.io/library/other:1", &[500]));
    workspace.create(CreateOptions::default().image("other:1")).await.unwrap();
    assert_eq!(bench.fake.words(CONTAINER).unwrap(), "");
    assert_eq!(numbers(&workspace).await, (vec![1, 2, 3], None));
    workspace.snapshots().rollback(back_to(3).discard(true)).await.unwrap();
    assert_eq!(bench.fake.words(CONTAINER).unwrap(), "unkept w001 w002");
    // A creation that fails leaves it where it is.
    bench.fake.write(CONTAINER, "more");
    bench.fake.lose_container(CONTAINER);
    bench.fake.fail_next("create_container", ErrorKind::Unexpected);
    workspace.create(Default::default()).await.unwrap_err();
    workspace.create(Default::default()).await.unwrap();
    assert_eq!(bench.fake.words(CONTAINER).unwrap(), "more unkept w001 w002");
    workspace.delete(Default::default()).await.unwrap();
    drop(engine);
}

#[tokio::test]
async fn versions_of_older_implementations_are_taken_over() {
    let bench = Bench::new();
    let engine = bench.engine().await;
    bench.fake.install(FakeImage::new("docker.io/library/debian:bookworm-slim", &[1000, 2000]), "overlayfs");
    let top = bench.fake.snapshot_keys("overlayfs").pop().unwrap();
    bench.fake.keep_foreign("mcp-a", &top, &["mcp-a-v100", "mcp-a-rollback-200"], "mcp-a-active-300");
    let workspace = engine.workspace("a").unwrap();
    assert!(workspace.info().await.unwrap().legacy);
    assert_eq!(numbers(&workspace).await, (vec![1, 2], Some(2)));
    let made = workspace.snapshots().create(Default::default()).await.unwrap();
    assert_eq!(made.version, 3);
    let told: Vec<_> = versions(&workspace).await.into_iter().map(|v| (v.version, v.source)).collect();
    let source = |text: &str| text.to_owned();
    assert_eq!(
        told,
        [(Some(1), source("managed")), (Some(2), source("rollback")), (Some(3), source("manual"))]
    );
    engine.close().await;
    for file in ["dunnage.db", "dunnage.db-wal", "dunnage.db-shm"] {
        let _ = std::fs::remove_file(bench.dir.path().join("data").join(file));
    }
    let engine = bench.engine().await;
    let workspace = engine.workspace("a").unwrap();
    assert_eq!(numbers(&workspace).await, (vec![1, 2, 3], Some(3)), "the labels tell");
    workspace.snapshots().rollback(back_to(1)).await.unwrap();
    assert_eq!(bench.fake.words("mcp-a").unwrap(), "mcp-a-v100");
}

#[tokio::test]
async fn changes_are_told_a_page_at_a_time() {
    let bench = Bench::new();
    let (_engine, workspace) = with_versions(&bench, 3).await;
    bench.fake.write(CONTAINER, "now");
    let diff = |options: SnapshotDiffOptions| {
        let snapshots = workspace.snapshots();
        async move { snapshots.diff(options).await }
    };
    let now = diff(SnapshotDiffOptions::default()).await.unwrap();
    assert_eq!((now.from, now.to, now.changes.len(), now.next), (3, None, 1, None));
    assert_eq!((now.changes[0].path.as_str(), now.changes[0].change), ("/now", ChangeKind::Added));
    let back = diff(SnapshotDiffOptions::default().from(3u64).to(1u64).limit(1u32)).await.unwrap();
    assert_eq!(back.changes[0].change, ChangeKind::Removed);
    let more =
        diff(SnapshotDiffOptions::default().from(3u64).to(1u64).after(back.next.unwrap())).await.unwrap();
    assert_eq!(more.changes.iter().map(|c| c.path.as_str()).collect::<Vec<_>>(), ["/w003"]);
    let all = diff(SnapshotDiffOptions::default().from(0u64).to(3u64)).await.unwrap();
    assert_eq!(all.changes.len(), 3);
    let first = diff(SnapshotDiffOptions::default().to(1u64)).await.unwrap();
    assert_eq!((first.from, first.changes.len()), (0, 1));
    for bad in [SnapshotDiffOptions::default().limit(0u32), SnapshotDiffOptions::default().after("*")] {
        assert_eq!(diff(bad).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    assert_eq!(diff(SnapshotDiffOptions::default().to(9u64)).await.unwrap_err().kind(), ErrorKind::NotFound);
}
