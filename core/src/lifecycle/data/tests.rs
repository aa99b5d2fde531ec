//! Data taken out and put back, on the backend in memory: each call fails once, and the process ends at each call.

use crate::backend::fake::FakeImage;
use crate::engine::{Engine, Workspace};
use crate::error::{Error, ErrorKind};
use crate::lifecycle::tests::Bench;
use crate::types::{
    Consistency, CreateOptions, DataDiscardOptions, DataExportOptions, DataImportOptions,
    DataPreserveOptions, DataRestoreOptions, DeleteOptions, ImportMode, PreserveForm, PreservedOptions,
    RecreateOptions, SnapshotRollbackOptions, StartOptions, StopOptions,
};
use std::io::Cursor;

const CONTAINER: &str = "workspace-a";

async fn filled(bench: &Bench) -> (Engine, Workspace) {
    let engine = bench.engine().await;
    let workspace = engine.workspace("a").unwrap();
    workspace.create(CreateOptions::default()).await.unwrap();
    bench.fake.write(CONTAINER, "one");
    bench.fake.write(CONTAINER, "two");
    (engine, workspace)
}

/// An archive of files of these names.
fn archive(names: &[&str]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for name in names {
        let mut header = tar::Header::new_ustar();
        header.set_size(1);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, name, &b"w"[..]).unwrap();
    }
    tar.into_inner().unwrap()
}

async fn generations(workspace: &Workspace) -> Vec<u64> {
    let list = workspace.data().preserved(PreservedOptions::default()).await.unwrap();
    list.preserved.iter().map(|one| one.generation).collect()
}

#[tokio::test]
async fn what_runs_is_stopped_frozen_or_left_alone() {
    let bench = Bench::new();
    let (_engine, workspace) = filled(&bench).await;
    for (consistency, stops, freezes) in [
        (Consistency::Stop, true, false),
        (Consistency::Pause, false, true),
        (Consistency::Live, false, false),
    ] {
        bench.fake.clear_calls();
        let options = DataExportOptions::default().consistency(consistency);
        let exported = workspace.data().export_to(options, Vec::new()).await.unwrap();
        assert_eq!((exported.entries, exported.bytes), (3, 2));
        let called = |name: &str| bench.fake.calls().iter().any(|call| call.starts_with(name));
        assert_eq!((called("kill_task"), called("pause_task")), (stops, freezes), "{consistency:?}");
        assert!(workspace.info().await.unwrap().task_running, "{consistency:?}");
    }
    workspace.stop(StopOptions::default()).await.unwrap();
    workspace.data().export_to(DataExportOptions::default(), Vec::new()).await.unwrap();
    assert!(!workspace.info().await.unwrap().task_running);
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_stops() {
    let bench = Bench::new();
    let (_engine, workspace) = filled(&bench).await;
    bench.fake.clear_calls();
    let data = workspace.data();
    let export = DataExportOptions::default;
    for options in [
        export(),
        export().destination("relative"),
        export().destination("/tmp/x").fd(1),
        export().fd(-1),
        export().destination("/tmp/x").level(13u32),
        export().destination("/tmp/x").subpath("../up"),
        export().destination("/tmp/x").subpath("/etc"),
        export().destination("/tmp/x").include(vec!["[".to_owned()]),
        export().destination("/tmp/x").grace_ms(u64::MAX),
    ] {
        let shown = format!("{options:?}");
        assert_eq!(data.export(options).await.unwrap_err().kind(), ErrorKind::InvalidArgument, "{shown}");
    }
    let import = DataImportOptions::default;
    for options in [
        import(),
        import().source("relative"),
        import().source("/tmp/x").fd(0),
        import().source("/tmp/x").max_entries(0u64),
        import().source("/tmp/x").digest("sha256:abc"),
    ] {
        let shown = format!("{options:?}");
        assert_eq!(data.import(options).await.unwrap_err().kind(), ErrorKind::InvalidArgument, "{shown}");
    }
    assert_eq!(
        data.import(import().source("/nowhere/at/all")).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let zero = DataDiscardOptions::default();
    assert_eq!(data.discard(zero).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(
        data.restore(DataRestoreOptions::default().generation(7u64)).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let gone = bench.engine().await.workspace("nobody").unwrap();
    let preserve = DeleteOptions::default().preserve_data(true);
    assert_eq!(gone.delete(preserve).await.unwrap_err().kind(), ErrorKind::NotFound);
    let changes = ["kill_task", "stage_dir", "commit_snapshot", "pause_task"];
    let calls = bench.fake.calls();
    assert!(!calls.iter().any(|call| changes.iter().any(|change| call.starts_with(change))), "{calls:?}");
}

/// What is done while faults happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Import(ImportMode),
    Preserve(PreserveForm),
    Restore(PreserveForm),
    Delete(PreserveForm),
    Create(PreserveForm),
}

impl Doing {
    const ALL: [Self; 10] = [
        Self::Import(ImportMode::Replace),
        Self::Import(ImportMode::Merge),
        Self::Preserve(PreserveForm::Archive),
        Self::Preserve(PreserveForm::Snapshot),
        Self::Restore(PreserveForm::Archive),
        Self::Restore(PreserveForm::Snapshot),
        Self::Delete(PreserveForm::Archive),
        Self::Delete(PreserveForm::Snapshot),
        Self::Create(PreserveForm::Archive),
        Self::Create(PreserveForm::Snapshot),
    ];

    /// Brings the workspace to where it can be done.
    async fn prepare(self, bench: &Bench, workspace: &Workspace) {
        match self {
            Self::Restore(form) => {
                let preserve = DataPreserveOptions::default().form(form);
                workspace.data().preserve(preserve).await.unwrap();
                bench.fake.write(CONTAINER, "three");
            }
            Self::Create(form) => {
                let delete = DeleteOptions::default().preserve_data(true).preserve_form(form);
                workspace.delete(delete).await.unwrap();
            }
            _ => {}
        }
    }

    async fn run(self, workspace: &Workspace) -> Result<(), Error> {
        let data = workspace.data();
        match self {
            Self::Import(mode) => {
                let options = DataImportOptions::default().mode(mode);
                data.import_from(options, Cursor::new(archive(&["new"]))).await.map(drop)
            }
            Self::Preserve(form) => data.preserve(DataPreserveOptions::default().form(form)).await.map(drop),
            Self::Restore(_) => data.restore(DataRestoreOptions::default()).await.map(drop),
            Self::Delete(form) => {
                let options = DeleteOptions::default().preserve_data(true).preserve_form(form);
                workspace.delete(options).await.map(drop)
            }
            Self::Create(_) => workspace.create(CreateOptions::default().restore_data(true)).await.map(drop),
        }
    }

    /// The words before and after it; none where there is no workspace.
    fn words(self) -> (Option<&'static str>, Option<&'static str>) {
        match self {
            Self::Import(ImportMode::Replace) => (Some("one two"), Some("new")),
            Self::Import(ImportMode::Merge) => (Some("one two"), Some("new one two")),
            Self::Preserve(_) => (Some("one two"), Some("one two")),
            Self::Restore(_) => (Some("one three two"), Some("one two")),
            Self::Delete(_) => (Some("one two"), None),
            Self::Create(_) => (None, Some("one two")),
        }
    }
}

#[tokio::test]
async fn a_fault_anywhere_leaves_the_data_before_or_after() {
    for dies in [false, true] {
        for doing in Doing::ALL {
            for calls in 0.. {
                let bench = Bench::in_memory();
                let (engine, workspace) = filled(&bench).await;
                doing.prepare(&bench, &workspace).await;
                let preserved = generations(&workspace).await.len();
                if dies {
                    bench.fake.die_after(calls);
                } else {
                    bench.fake.fail_after(calls);
                }
                let result = doing.run(&workspace).await;
                let engine = if dies {
                    engine.close().await;
                    bench.fake.revive();
                    bench.engine().await
                } else {
                    bench.fake.revive();
                    engine
                };
                let what = format!("call {calls}, dies {dies}, {doing:?}, {result:?}");
                // Anything more that has to do with it mends what is left.
                let workspace = engine.workspace("a").unwrap();
                let _ = workspace.start(StartOptions::default()).await;
                assert_eq!(bench.fake.staged(), 0, "{what}");
                let (before, after) = doing.words();
                let words = bench.fake.words(CONTAINER);
                let words = words.as_deref();
                let whole = words == after || (result.is_err() && words == before);
                assert!(whole, "{words:?}: {what}");
                let kept = generations(&workspace).await;
                match doing {
                    Doing::Delete(_) | Doing::Create(_) if words.is_none() => {
                        assert_eq!(kept.len(), 1, "the data is nowhere: {what}");
                    }
                    Doing::Restore(_) | Doing::Import(_) => assert_eq!(kept.len(), preserved, "{what}"),
                    _ if result.is_ok() => assert_eq!(kept.len(), 1, "{what}"),
                    _ => {}
                }
                if words.is_some() {
                    assert!(workspace.info().await.unwrap().task_running, "{what}");
                }
                // Whatever is preserved can be restored.
                if words.is_none() && doing != Doing::ALL[0] {
                    let made = workspace.create(CreateOptions::default().restore_data(true)).await.unwrap();
                    assert!(made.data_restored, "{what}");
                    assert_eq!(bench.fake.words(CONTAINER).as_deref(), Some("one two"), "{what}");
                }
                let succeeded = result.is_ok();
                engine.close().await;
                if succeeded {
                    assert!(calls >= 4, "only {calls} faults were seen: {what}");
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn what_was_put_below_a_workspace_goes_with_it() {
    let bench = Bench::new();
    let (_engine, workspace) = filled(&bench).await;
    let preserving = || DeleteOptions::default().preserve_data(true).preserve_form(PreserveForm::Snapshot);
    workspace.delete(preserving()).await.unwrap();
    workspace.create(CreateOptions::default().restore_data(true)).await.unwrap();
    let data = |keys: Vec<String>| keys.iter().filter(|key| key.contains("-data-")).count();
    assert_eq!(data(bench.fake.snapshot_keys("overlayfs")), 1);
    workspace.delete(DeleteOptions::default()).await.unwrap();
    assert_eq!(data(bench.fake.snapshot_keys("overlayfs")), 0);
    assert_eq!(generations(&workspace).await, [1]);
}

#[tokio::test]
async fn a_bad_archive_changes_nothing() {
    let bench = Bench::new();
    let (_engine, workspace) = filled(&bench).await;
    let whole = archive(&["new", "newer"]);
    let cut = whole[..600].to_vec();
    let mut followed = whole.clone();
    followed.extend_from_slice(b"more");
    for bytes in [cut, followed, b"no archive at all".to_vec(), Vec::new()] {
        for mode in [ImportMode::Replace, ImportMode::Merge] {
            let options = DataImportOptions::default().mode(mode);
            let error = workspace.data().import_from(options, Cursor::new(bytes.clone())).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DataCorrupt, "{error}");
            assert_eq!(bench.fake.words(CONTAINER).as_deref(), Some("one two"));
            assert!(workspace.info().await.unwrap().task_running);
        }
    }
    let options = DataImportOptions::default().max_entries(1u64);
    let error = workspace.data().import_from(options, Cursor::new(whole)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    assert_eq!((bench.fake.staged(), bench.fake.words(CONTAINER).as_deref()), (0, Some("one two")));
}

#[tokio::test]
async fn preserved_archives_are_counted_named_and_dropped() {
    let bench = Bench::new();
    let (_engine, workspace) = filled(&bench).await;
    for generation in 1..=5 {
        let kept = workspace.data().preserve(DataPreserveOptions::default()).await.unwrap();
        assert_eq!(kept.preserved.unwrap().generation, generation);
        assert_eq!(kept.dropped, if generation > 3 { vec![generation - 3] } else { vec![] });
    }
    assert_eq!(generations(&workspace).await, [5, 4, 3]);
    // A damaged one is found out before anything changes.
    let list = workspace.data().preserved(PreservedOptions::default()).await.unwrap().preserved;
    let path = list[0].path.clone().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = workspace.data().restore(DataRestoreOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataCorrupt, "{error}");
    assert_eq!(bench.fake.words(CONTAINER).as_deref(), Some("one two"));
    // The one before is whole.
    bench.fake.write(CONTAINER, "three");
    let older = DataRestoreOptions::default().generation(4u64);
    let restored = workspace.data().restore(older).await.unwrap().restored;
    assert!(restored.restored_at.is_some());
    assert_eq!(bench.fake.words(CONTAINER).as_deref(), Some("one two"));
}

#[tokio::test]
async fn a_lost_container_gets_back_what_was_preserved_last_but_once() {
    let bench = Bench::new();
    let (engine, workspace) = filled(&bench).await;
    workspace.data().preserve(DataPreserveOptions::default()).await.unwrap();
    // Container and snapshot are gone: what is preserved is all there is.
    bench.fake.lose_container(CONTAINER);
    for key in bench.active_snapshots() {
        crate::backend::Backend::remove_snapshot(&*bench.fake, "overlayfs", &key).await.unwrap();
    }
    workspace.ensure_running(StartOptions::default()).await.unwrap();
    assert_eq!(bench.fake.words(CONTAINER).as_deref(), Some("one two"));
    // It is not put back again by itself over what came after it.
    bench.fake.lose_container(CONTAINER);
    for key in bench.active_snapshots() {
        crate::backend::Backend::remove_snapshot(&*bench.fake, "overlayfs", &key).await.unwrap();
    }
    workspace.ensure_running(StartOptions::default()).await.unwrap();
    assert_eq!(bench.fake.words(CONTAINER).as_deref(), Some(""));
    engine.close().await;
}

const OTHER: &str = "docker.io/library/alpine:3";

#[tokio::test]
async fn a_workspace_made_anew_of_another_image_keeps_its_data() {
    let bench = Bench::new();
    let mut other = FakeImage::new(OTHER, &[500]);
    other.env.push("FROM=other".to_owned());
    bench.fake.offer(other);
    let (engine, workspace) = filled(&bench).await;
    let before = workspace.info().await.unwrap();
    let made = workspace.recreate(RecreateOptions::default().image("alpine:3")).await.unwrap();
    assert_eq!((made.image.as_str(), made.previous_image.as_str()), (OTHER, before.image.as_str()));
    assert_eq!((made.kept_version, made.started), (1, true));
    assert_eq!(bench.fake.words(CONTAINER).as_deref(), Some("one two"));
    assert!(bench.fake.made(CONTAINER).unwrap().env.contains(&"FROM=other".to_owned()));
    let info = workspace.info().await.unwrap();
    assert_eq!((info.container_id, info.created_at), (before.container_id, before.created_at));
    // Records that are lost are completed from what the backend knows; a lost container is made anew of that image.
    engine.close().await;
    bench.lose_database();
    let engine = bench.engine().await;
    bench.fake.lose_container(CONTAINER);
    let workspace = engine.workspace("a").unwrap();
    workspace.ensure_running(StartOptions::default()).await.unwrap();
    assert_eq!(workspace.info().await.unwrap().image, OTHER);
    assert_eq!(bench.fake.words(CONTAINER).as_deref(), Some("one two"));
    let back = SnapshotRollbackOptions::default().version(1u64);
    workspace.snapshots().rollback(back).await.unwrap();
    assert_eq!(bench.fake.words(CONTAINER).as_deref(), Some("one two"));
    let missing = workspace.recreate(RecreateOptions::default().image("no/such:thing")).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
    assert!(workspace.info().await.unwrap().task_running);
}

#[tokio::test]
async fn a_fault_anywhere_while_it_is_made_anew_leaves_the_data() {
    for (dies, loses) in [(false, false), (true, false), (true, true)] {
        for calls in 0.. {
            let bench = Bench::in_memory();
            bench.fake.offer(FakeImage::new(OTHER, &[500]));
            let (engine, workspace) = filled(&bench).await;
            let first = workspace.info().await.unwrap().image;
            if dies {
                bench.fake.die_after(calls);
            } else {
                bench.fake.fail_after(calls);
            }
            let result = workspace.recreate(RecreateOptions::default().image(OTHER)).await;
            let engine = if dies {
                engine.close().await;
                bench.fake.revive();
                if loses {
                    bench.lose_database();
                }
                bench.engine().await
            } else {
                bench.fake.revive();
                engine
            };
            let what = format!("call {calls}, dies {dies}, loses {loses}, {result:?}");
            let workspace = engine.workspace("a").unwrap();
            workspace.ensure_running(StartOptions::default()).await.unwrap();
            assert_eq!(bench.fake.words(CONTAINER).as_deref(), Some("one two"), "{what}");
            let info = workspace.info().await.unwrap();
            assert!(
                info.task_running && (info.image == OTHER || (result.is_err() && info.image == first)),
                "{what}"
            );
            assert!(engine.inner.store.unfinished_workspaces().await.unwrap().is_empty(), "{what}");
            engine.close().await;
            if result.is_ok() {
                assert!(calls >= 8, "only {calls} faults were seen");
                break;
            }
        }
    }
}
