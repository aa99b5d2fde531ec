//! Restart policies, on the backend in memory.

use super::events_tests::{followed, history, next};
use super::tests::Bench;
use crate::engine::Engine;
use crate::feed::LifecycleEvents;
use crate::types::{
    CreateOptions, EventsOptions, LifecycleEvent, LifecycleKind, RestartOptions, RestartPolicy,
};
use LifecycleKind::{Exit, Restart, Start};

fn policy(policy: RestartPolicy) -> RestartOptions {
    RestartOptions::default().policy(policy).backoff_ms(10u64).max_backoff_ms(40u64)
}

/// An engine that sees ends, with a workspace of this policy, and its events from then on.
async fn kept(bench: &Bench, restart: RestartOptions) -> (Engine, LifecycleEvents) {
    let engine = bench.engine().await;
    followed(&engine).await;
    let workspace = engine.workspace("a").unwrap();
    workspace.create(CreateOptions::default().restart(restart)).await.unwrap();
    let events = engine.events(EventsOptions::default()).await.unwrap();
    (engine, events)
}

/// Passes over events until one of this kind.
async fn until(events: &mut LifecycleEvents, kind: LifecycleKind) -> LifecycleEvent {
    loop {
        let event = next(events).await;
        if event.kind == kind {
            return event;
        }
    }
}

fn count(events: &[LifecycleEvent], kind: LifecycleKind) -> usize {
    events.iter().filter(|event| event.kind == kind).count()
}

#[tokio::test]
async fn what_ends_is_started_again_after_growing_pauses() {
    let bench = Bench::new();
    let (engine, mut events) = kept(&bench, policy(RestartPolicy::Always)).await;
    for (attempt, pause) in [(1, 10), (2, 20), (3, 40), (4, 40)] {
        bench.fake.exit("workspace-a", 0);
        assert_eq!(next(&mut events).await.kind, Exit);
        assert_eq!(next(&mut events).await.kind, Start);
        let restart = next(&mut events).await;
        assert_eq!((restart.kind, restart.attempt, restart.pause_ms), (Restart, Some(attempt), Some(pause)));
        assert!(engine.workspace("a").unwrap().info().await.unwrap().task_running);
    }
    // A start by a user ends the row.
    let workspace = engine.workspace("a").unwrap();
    workspace.stop(Default::default()).await.unwrap();
    workspace.start(Default::default()).await.unwrap();
    bench.fake.exit("workspace-a", 0);
    assert_eq!(until(&mut events, Restart).await.attempt, Some(1));
    let info = workspace.info().await.unwrap();
    assert_eq!(info.restart.policy, RestartPolicy::Always);
}

#[tokio::test]
async fn failures_alone_are_mended_and_given_up_once() {
    let bench = Bench::new();
    let options = policy(RestartPolicy::OnFailure).max_retries(2u32);
    let (engine, mut events) = kept(&bench, options).await;
    let other = bench.engine().await;
    followed(&other).await;
    for attempt in 1..=2 {
        bench.fake.exit("workspace-a", 1);
        assert_eq!(until(&mut events, Restart).await.attempt, Some(attempt));
    }
    bench.fake.exit("workspace-a", 1);
    let given_up = until(&mut events, Restart).await;
    assert_eq!((given_up.attempt, given_up.pause_ms), (None, None));
    assert_eq!(given_up.message.as_deref(), Some("given up after 2 attempts"));
    // Nor does an engine that opens try, or say so, again.
    engine.close().await;
    other.close().await;
    let engine = bench.engine().await;
    followed(&engine).await;
    let workspace = engine.workspace("a").unwrap();
    let before = history(&engine).await;
    assert_eq!((count(&before, Restart), count(&before, Exit)), (3, 3));
    assert!(!workspace.info().await.unwrap().task_running);

    // An end without a failure is left as it is: what comes after it is of another workspace.
    let mut events = engine.events(EventsOptions::default()).await.unwrap();
    workspace.start(Default::default()).await.unwrap();
    bench.fake.exit("workspace-a", 0);
    assert_eq!((next(&mut events).await.kind, next(&mut events).await.kind), (Start, Exit));
    let control = CreateOptions::default().restart(policy(RestartPolicy::Always));
    engine.workspace("b").unwrap().create(control).await.unwrap();
    bench.fake.exit("workspace-b", 0);
    assert_eq!(until(&mut events, Restart).await.workspace_id.as_deref(), Some("b"));
    assert!(!workspace.info().await.unwrap().task_running);
}

#[tokio::test]
async fn several_engines_start_it_once_and_count_once() {
    let bench = Bench::new();
    let (engine, mut events) = kept(&bench, policy(RestartPolicy::Always).max_backoff_ms(10u64)).await;
    let others = [bench.engine().await, bench.engine().await];
    for other in &others {
        followed(other).await;
    }
    for attempt in 1..=10 {
        bench.fake.exit("workspace-a", 1);
        assert_eq!(until(&mut events, Restart).await.attempt, Some(attempt));
    }
    // All have looked by the time they are closed.
    for engine in [&engine, &others[0], &others[1]] {
        engine.close().await;
    }
    let engine = bench.engine().await;
    let told = history(&engine).await;
    assert_eq!((count(&told, Restart), count(&told, Exit), count(&told, Start)), (10, 10, 11));
}

#[tokio::test]
async fn a_stop_ends_it_while_it_waits_and_so_does_a_deletion() {
    let bench = Bench::new();
    let slow = policy(RestartPolicy::Always).max_backoff_ms(200u64).backoff_ms(200u64);
    let (engine, mut events) = kept(&bench, slow.clone()).await;
    let workspace = engine.workspace("a").unwrap();
    bench.fake.exit("workspace-a", 1);
    assert_eq!(next(&mut events).await.kind, Exit);
    workspace.stop(Default::default()).await.unwrap();
    assert_eq!(next(&mut events).await.kind, LifecycleKind::Stop);
    // Another waits as long, from later on: once that runs again, this one would too.
    engine.workspace("b").unwrap().create(CreateOptions::default().restart(slow)).await.unwrap();
    bench.fake.exit("workspace-b", 1);
    assert_eq!(until(&mut events, Restart).await.workspace_id.as_deref(), Some("b"));
    assert!(!workspace.info().await.unwrap().task_running);
    // Ends that a user's operation brings about are no reason to start anything.
    let b = engine.workspace("b").unwrap();
    b.snapshots().create(Default::default()).await.unwrap();
    b.stop(Default::default()).await.unwrap();
    b.delete(Default::default()).await.unwrap();
    bench.fake.exit("workspace-b", 1);
    engine.close().await;
    let engine = bench.engine().await;
    assert_eq!(count(&history(&engine).await, Restart), 1);
}

#[tokio::test]
async fn a_start_that_fails_is_tried_again_and_an_engine_that_opens_takes_over() {
    let bench = Bench::new();
    let (engine, mut events) = kept(&bench, policy(RestartPolicy::Always)).await;
    bench.fake.fail_next("create_task", crate::ErrorKind::Unavailable);
    bench.fake.exit("workspace-a", 1);
    let failed = until(&mut events, Restart).await;
    assert!(failed.attempt == Some(1) && failed.message.is_some(), "{failed:?}");
    let second = until(&mut events, Restart).await;
    assert_eq!((second.attempt, second.message), (Some(2), None));
    engine.close().await;
    bench.fake.exit("workspace-a", 1);
    let engine = bench.engine().await;
    let mut events = engine.events(EventsOptions::default().after(0u64)).await.unwrap();
    while until(&mut events, Restart).await.attempt != Some(3) {}
    assert!(engine.workspace("a").unwrap().info().await.unwrap().task_running);
}
