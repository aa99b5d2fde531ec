//! The operations that must survive a fault between any two of their steps: an entry each.

use common::kill;
use dunnage::failpoints::Side;
use dunnage::types::{
    CreateOptions, DataExportOptions, DataImportOptions, DataPreserveOptions, Limits, NetworkMode,
    PreserveForm, ReconcileOptions, RecreateOptions, SetLimitsOptions, SnapshotCreateOptions,
    SnapshotDeleteOptions, SnapshotForkOptions, SnapshotPruneOptions, SnapshotRollbackOptions, StartOptions,
    StopOptions,
};
use dunnage::{Engine, Error, Workspace};
use futures::future::BoxFuture;

use crate::common;
use crate::host::Place;

/// What a workspace holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// There is none.
    Absent,
    /// Its content, and that of each of its versions. Contents are told by the word they are made of; that of a new
    /// workspace is empty.
    Holds { content: String, versions: Vec<(u64, String)> },
}

/// A workspace of these contents.
fn holds(content: &str, versions: &[(u64, &str)]) -> State {
    let versions = versions.iter().map(|(number, word)| (*number, (*word).to_owned())).collect();
    State::Holds { content: content.to_owned(), versions }
}

/// An operation on one workspace.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) network: NetworkMode,
    /// Whether the workspace runs before it.
    pub(crate) running: bool,
    pub(crate) before: State,
    pub(crate) after: State,
    /// The operation, by name, that a process began before it and died in, with the place.
    pub(crate) broken: Option<(&'static str, Place)>,
    /// Whether somebody else has removed the container before it.
    pub(crate) lost: bool,
    /// Whether an older implementation has made the versions that are there before it.
    pub(crate) older: bool,
    /// What it may hold as well when the journal is lost in the middle: all that it had, in another place.
    pub(crate) between: Option<State>,
    /// Whether its data is preserved where it is absent afterwards.
    pub(crate) preserves: bool,
    /// How many snapshots that are no versions may be below what is left: what several were made one to.
    pub(crate) bases: usize,
    /// Does it, in the process that meets the fault. None for what opening an engine does by itself.
    pub(crate) run: Option<Run>,
}

/// What a process does with an engine and a workspace of it; the text is an image.
type Run = fn(Engine, Workspace, String) -> BoxFuture<'static, Result<(), Error>>;

/// What a fork's id has beyond that of its workspace.
pub(crate) const FORK: &str = "-fork";

/// What a workspace holds that has the data of `two` and nothing beside it.
pub(crate) const DATA_OF_TWO: &str = "two, as data alone";

/// The operation whose version's line is long, as its engines are told.
pub(crate) const FLATTENING: &str = "snapshots.create of a long line";

/// The operation that changes limits, and how many processes there may be afterwards.
pub(crate) const SET_LIMITS: &str = "workspace.set_limits";
pub(crate) const LIMITED_PIDS: i64 = 777;

/// All of them.
pub(crate) fn operations() -> Vec<Operation> {
    let one = || holds("two", &[(1, "one")]);
    let operation = |name, before, after, run: Run| Operation {
        name,
        network: NetworkMode::None,
        running: true,
        before,
        after,
        broken: None,
        lost: false,
        older: false,
        between: None,
        preserves: false,
        bases: 0,
        run: Some(run),
    };
    let create: Run = |_, workspace, image| {
        Box::pin(async move { workspace.create(CreateOptions::default().image(image)).await.map(drop) })
    };
    let make: Run = |_, workspace, _| {
        let options = SnapshotCreateOptions::default().grace_ms(0u64);
        Box::pin(async move { workspace.snapshots().create(options).await.map(drop) })
    };
    let delete: Run = |_, workspace, _| Box::pin(async move { workspace.delete(kill()).await.map(drop) });
    let mut all = vec![
        operation("workspace.create", State::Absent, holds("", &[]), create),
        Operation {
            network: NetworkMode::Cni,
            ..operation("workspace.create with network", State::Absent, holds("", &[]), create)
        },
        operation("workspace.delete", one(), State::Absent, delete),
        Operation {
            network: NetworkMode::Cni,
            ..operation("workspace.delete with network", one(), State::Absent, delete)
        },
        Operation {
            running: false,
            ..operation("workspace.start", one(), one(), |_, workspace, _| {
                Box::pin(async move { workspace.start(StartOptions::default()).await.map(drop) })
            })
        },
        operation("workspace.stop", one(), one(), |_, workspace, _| {
            let options = StopOptions::default().grace_ms(0u64);
            Box::pin(async move { workspace.stop(options).await.map(drop) })
        }),
        operation(SET_LIMITS, one(), one(), |_, workspace, _| {
            let limits = Limits::default().pids(LIMITED_PIDS).memory_bytes(256 << 20);
            let options = SetLimitsOptions::default().limits(limits);
            Box::pin(async move { workspace.set_limits(options).await.map(drop) })
        }),
        operation("snapshots.create", one(), holds("two", &[(1, "one"), (2, "two")]), make),
        operation("snapshots.rollback", one(), holds("one", &[(1, "one"), (2, "two")]), |_, workspace, _| {
            let options = SnapshotRollbackOptions::default().version(1u64).grace_ms(0u64);
            Box::pin(async move { workspace.snapshots().rollback(options).await.map(drop) })
        }),
        operation("snapshots.rollback discarding", one(), holds("one", &[(1, "one")]), |_, workspace, _| {
            let options = SnapshotRollbackOptions::default().version(1u64).discard(true).grace_ms(0u64);
            Box::pin(async move { workspace.snapshots().rollback(options).await.map(drop) })
        }),
        Operation {
            older: true,
            ..operation(
                "snapshots.create beside adopted versions",
                holds("one", &[(1, "one"), (2, "two")]),
                holds("one", &[(1, "one"), (2, "two"), (3, "one")]),
                make,
            )
        },
        Operation {
            bases: 1,
            ..operation(
                FLATTENING,
                holds("one", &[(1, "one"), (2, "two")]),
                holds("one", &[(1, "one"), (2, "two"), (3, "one")]),
                make,
            )
        },
        operation("snapshots.fork", one(), one(), |_, workspace, _| {
            let new = format!("{}{FORK}", workspace.id());
            let options = SnapshotForkOptions::default().version(1u64).new_id(new);
            Box::pin(async move { workspace.snapshots().fork(options).await.map(drop) })
        }),
        Operation {
            bases: 1,
            ..operation("snapshots.delete", one(), holds("two", &[]), |_, workspace, _| {
                let options = SnapshotDeleteOptions::default().version(1u64).squash(true).grace_ms(0u64);
                Box::pin(async move { workspace.snapshots().delete(options).await.map(drop) })
            })
        },
        Operation {
            bases: 1,
            ..operation(
                "snapshots.prune",
                holds("one", &[(1, "one"), (2, "two")]),
                holds("one", &[(2, "two")]),
                |_, workspace, _| {
                    let options = SnapshotPruneOptions::default().keep_last(1u64).grace_ms(0u64);
                    Box::pin(async move { workspace.snapshots().prune(options).await.map(drop) })
                },
            )
        },
        Operation {
            lost: true,
            ..operation("engine.reconcile of a lost container", one(), one(), |engine, _, _| {
                Box::pin(async move { engine.reconcile(ReconcileOptions::default()).await.map(drop) })
            })
        },
        operation("data.import", one(), one(), |_, workspace, _| {
            Box::pin(async move {
                let archive = std::env::temp_dir().join(format!("dunnage-{}.tar", workspace.id()));
                let path = archive.display().to_string();
                let made = DataExportOptions::default().destination(&path).overwrite(true).grace_ms(0u64);
                let exported = workspace.data().export(made).await;
                let import = DataImportOptions::default().source(&path).grace_ms(0u64);
                let imported = match exported {
                    Ok(_) => workspace.data().import(import).await.map(drop),
                    Err(error) => Err(error),
                };
                let _ = std::fs::remove_file(&archive);
                imported
            })
        }),
        operation("data.preserve", one(), one(), |_, workspace, _| {
            let options = DataPreserveOptions::default().grace_ms(0u64);
            Box::pin(async move { workspace.data().preserve(options).await.map(drop) })
        }),
        operation(
            "data.preserve as a snapshot",
            one(),
            holds("two", &[(1, "one"), (2, "two")]),
            |_, workspace, _| {
                let options = DataPreserveOptions::default().form(PreserveForm::Snapshot).grace_ms(0u64);
                Box::pin(async move { workspace.data().preserve(options).await.map(drop) })
            },
        ),
        Operation {
            preserves: true,
            ..operation("workspace.delete preserving", one(), State::Absent, |_, workspace, _| {
                Box::pin(async move { workspace.delete(kill().preserve_data(true)).await.map(drop) })
            })
        },
        Operation {
            between: Some(holds("two", &[(1, "one"), (2, "two")])),
            bases: 1,
            ..operation(
                "workspace.recreate",
                one(),
                holds(DATA_OF_TWO, &[(1, "one"), (2, "two")]),
                |_, workspace, _| {
                    let options = RecreateOptions::default().grace_ms(0u64);
                    Box::pin(async move { workspace.recreate(options).await.map(drop) })
                },
            )
        },
    ];
    // Whoever mends what a process has left may die of a second fault.
    for (name, broken, step) in [
        ("engine.open after half a creation", "workspace.create", "backend.start_task"),
        ("engine.open after half a deletion", "workspace.delete", "backend.remove_snapshot"),
        ("engine.open after half a version", "snapshots.create", "backend.commit_snapshot"),
        ("engine.open after half a rollback", "snapshots.rollback", "backend.move_container"),
        ("engine.open after half an import", "data.import", "backend.swap_dir"),
        ("engine.open after half a change of limits", SET_LIMITS, "backend.limit_task"),
        ("engine.open after half a renewal", "workspace.recreate", "backend.renew_container"),
        ("engine.open after half a prune", "snapshots.prune", "backend.move_container"),
    ] {
        let Some(first) = all.iter().find(|operation| operation.name == broken) else { continue };
        let (before, after, bases) = (first.before.clone(), first.after.clone(), first.bases);
        let (preserves, first_between) = (first.preserves, first.between.clone());
        let place = Place { step: step.to_owned(), nth: 1, side: Side::Before };
        all.push(Operation {
            name,
            network: NetworkMode::None,
            running: true,
            before,
            after,
            broken: Some((broken, place)),
            lost: false,
            older: false,
            between: first_between,
            preserves,
            bases,
            run: None,
        });
    }
    all
}
