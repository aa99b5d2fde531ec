//! What is told of workspaces, on the backend in memory.

use super::tests::Bench;
use crate::engine::Engine;
use crate::error::ErrorKind;
use crate::feed::LifecycleEvents;
use crate::types::{
    CreateOptions, EventsOptions, LifecycleEvent, LifecycleKind, SnapshotCreateOptions,
    SnapshotRollbackOptions,
};
use LifecycleKind::{Create, Delete, Exit, Oom, Pull, Rollback, Snapshot, Start, Stop};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// The next event of a stream that has one.
pub(super) async fn next(events: &mut LifecycleEvents) -> LifecycleEvent {
    tokio::time::timeout(LIMIT, events.next()).await.expect("an event comes").unwrap().unwrap()
}

/// All that is kept.
pub(super) async fn history(engine: &Engine) -> Vec<LifecycleEvent> {
    let mut events = engine.events(EventsOptions::default().follow(false)).await.unwrap();
    let mut all = Vec::new();
    while let Some(event) = events.next().await {
        all.push(event.unwrap());
    }
    all
}

pub(super) fn kinds(events: &[LifecycleEvent]) -> Vec<LifecycleKind> {
    events.iter().map(|event| event.kind).collect()
}

/// Waits until the engine sees what becomes of tasks.
pub(super) async fn followed(engine: &Engine) {
    while engine.inner.watch.look(engine.inner.backend.as_ref()).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_life_is_told_in_order() {
    let bench = Bench::new();
    let engine = bench.engine().await;
    let workspace = engine.workspace("a").unwrap();
    let mut live = engine.events(EventsOptions::default()).await.unwrap();
    let create = workspace.create(CreateOptions::default());
    let operation = create.id().to_owned();
    create.await.unwrap();
    workspace.snapshots().create(SnapshotCreateOptions::default()).await.unwrap();
    workspace.stop(Default::default()).await.unwrap();
    workspace.stop(Default::default()).await.unwrap();
    let back = SnapshotRollbackOptions::default().version(1u64).discard(true);
    workspace.snapshots().rollback(back).await.unwrap();
    workspace.start(Default::default()).await.unwrap();
    workspace.start(Default::default()).await.unwrap();
    workspace.delete(Default::default()).await.unwrap();
    workspace.delete(Default::default()).await.unwrap();

    let told = history(&engine).await;
    let life = [Pull, Create, Start, Exit, Start, Snapshot, Exit, Stop, Rollback, Start, Exit, Delete];
    assert_eq!(kinds(&told), life, "{told:#?}");
    let numbers: Vec<u64> = told.iter().map(|event| event.sequence).collect();
    assert_eq!(numbers, (1..=life.len() as u64).collect::<Vec<_>>());
    for event in &told {
        assert_eq!(next(&mut live).await, *event, "what comes live is what is kept");
        assert_eq!(event.workspace_id.as_deref(), Some("a"));
        assert!(event.at.parse::<jiff::Timestamp>().is_ok(), "{event:?}");
    }
    let image = Some("docker.io/library/debian:bookworm-slim");
    assert_eq!((told[0].image.as_deref(), told[1].image.as_deref()), (image, image));
    assert!(told[..3].iter().all(|event| event.operation_id.as_ref() == Some(&operation)), "{told:#?}");
    assert_eq!((told[5].version, told[8].version), (Some(1), Some(1)));
    assert_eq!((told[6].exit_code, told[7].exit_code), (Some(143), Some(143)));
    assert!(told[1..].iter().all(|event| event.container_id.as_deref() == Some("workspace-a")));
}

#[tokio::test]
async fn an_end_is_told_once_whoever_sees_it() {
    let bench = Bench::new();
    let engines = [bench.engine().await, bench.engine().await];
    for engine in &engines {
        followed(engine).await;
    }
    let workspace = engines[0].workspace("a").unwrap();
    workspace.create(CreateOptions::default()).await.unwrap();
    let options = EventsOptions::default().after(3u64);
    let mut live =
        [engines[0].events(options.clone()).await.unwrap(), engines[1].events(options).await.unwrap()];
    bench.fake.run_out_of_memory("workspace-a");
    bench.fake.exit("workspace-a", 137);
    for live in &mut live {
        assert_eq!(next(live).await.kind, Oom);
        let exit = next(live).await;
        assert_eq!((exit.kind, exit.exit_code), (Exit, Some(137)));
    }
    // Watches that begin anew see it once more, and so does whoever clears it away.
    bench.fake.break_watches();
    for engine in &engines {
        while bench.fake.calls().iter().filter(|call| call.starts_with("watch")).count() < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        followed(engine).await;
    }
    workspace.start(Default::default()).await.unwrap();
    for live in &mut live {
        assert_eq!(next(live).await.kind, Start);
    }
    assert_eq!(kinds(&history(&engines[1]).await), [Pull, Create, Start, Oom, Exit, Start]);
}

#[tokio::test]
async fn what_ended_while_nobody_looked_is_told_by_the_next() {
    let bench = Bench::new();
    let engine = bench.engine().await;
    engine.workspace("a").unwrap().create(CreateOptions::default()).await.unwrap();
    engine.close().await;
    bench.fake.exit("workspace-a", 3);
    let engine = bench.engine().await;
    let mut events = engine.events(EventsOptions::default().after(3u64)).await.unwrap();
    let exit = next(&mut events).await;
    assert_eq!((exit.kind, exit.exit_code, exit.workspace_id.as_deref()), (Exit, Some(3), Some("a")));
    // What never ran, and what belongs to nobody, is not told.
    let backend = &engine.inner.backend;
    let quiet = engine.workspace("quiet").unwrap();
    quiet.create(CreateOptions::default().start(false)).await.unwrap();
    let container = backend.container("workspace-quiet").await.unwrap().unwrap();
    backend.create_task(&container).await.unwrap();
    quiet.delete(Default::default()).await.unwrap();
    assert_eq!(kinds(&history(&engine).await)[4..], [Create, Delete]);
}

#[tokio::test]
async fn history_goes_over_into_what_is_new_without_a_gap() {
    let bench = Bench::new();
    let (writer, reader) = (bench.engine().await, bench.engine().await);
    let work = async {
        for round in 0..40 {
            let workspace = writer.workspace(format!("w{}", round % 3)).unwrap();
            workspace.create(CreateOptions::default().start(false)).await.unwrap();
            workspace.delete(Default::default()).await.unwrap();
        }
    };
    let read = async {
        let mut seen = Vec::new();
        // One that begins again and again where it was, and one that goes on.
        let mut steady = reader.events(EventsOptions::default().after(0u64)).await.unwrap();
        while seen.len() < 81 {
            let options = EventsOptions::default().after(seen.len() as u64);
            let mut events = reader.events(options).await.unwrap();
            for _ in 0..7.min(81 - seen.len()) {
                seen.push(next(&mut events).await);
            }
        }
        for event in &seen {
            assert_eq!(next(&mut steady).await, *event);
        }
        seen
    };
    let ((), seen) = tokio::join!(work, read);
    let numbers: Vec<u64> = seen.iter().map(|event| event.sequence).collect();
    assert_eq!(numbers, (1..=81).collect::<Vec<_>>());
    // One workspace's events are those of all with the others' left out.
    let options = EventsOptions::default().workspace("w1").after(0u64).follow(false);
    let mut own = reader.events(options).await.unwrap();
    for event in seen.iter().filter(|event| event.workspace_id.as_deref() == Some("w1")) {
        assert_eq!(next(&mut own).await, *event);
    }
    assert!(own.next().await.is_none());
}

#[tokio::test]
async fn streams_end_with_their_engine_and_keep_none_alive() {
    let bench = Bench::new();
    let closed = bench.engine().await;
    let mut waiting = closed.events(EventsOptions::default()).await.unwrap();
    let waits = tokio::spawn(async move { waiting.next().await });
    tokio::task::yield_now().await;
    closed.close().await;
    assert!(tokio::time::timeout(LIMIT, waits).await.unwrap().unwrap().is_none());
    let late = closed.events(EventsOptions::default()).await.unwrap_err();
    assert_eq!((late.kind(), late.operation()), (ErrorKind::FailedPrecondition, "engine.events"));

    let dropped = bench.engine().await;
    let weak = std::sync::Arc::downgrade(&dropped.inner);
    let mut waiting = dropped.events(EventsOptions::default().after(0u64)).await.unwrap();
    drop(dropped);
    assert!(tokio::time::timeout(LIMIT, waiting.next()).await.unwrap().is_none());
    assert!(weak.upgrade().is_none(), "the stream keeps the engine");

    let engine = bench.engine().await;
    let bad = engine.events(EventsOptions::default().workspace("a/b")).await.unwrap_err();
    assert_eq!(bad.kind(), ErrorKind::InvalidArgument, "{bad}");
    assert!(bad.context().any(|(key, value)| key == "field" && value == "workspace"), "{bad}");
}
