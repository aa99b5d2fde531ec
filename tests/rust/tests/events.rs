//! What happens to workspaces on a real containerd, as it is told; and restart policies, which act on it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::helper::{Helper, text, write_config};
use common::{Rig, kill, remove, running, said, sh, until};
use dunnage::types::{
    CreateOptions, EventsOptions, LifecycleEvent, LifecycleKind, Limits, RestartOptions, RestartPolicy,
    RunOptions, StopOptions,
};
use dunnage::{Engine, ErrorKind, LifecycleEvents, Workspace};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// The next event of a kind; the others before it are passed over.
async fn next(events: &mut LifecycleEvents, kind: LifecycleKind) -> LifecycleEvent {
    let next = async {
        loop {
            let event = events.next().await.expect("the events go on").unwrap();
            if event.kind == kind {
                return event;
            }
        }
    };
    tokio::time::timeout(LIMIT, next).await.unwrap_or_else(|_| panic!("no {kind:?} came"))
}

/// All events of a workspace that are kept.
async fn history(engine: &Engine, id: &str) -> Vec<LifecycleEvent> {
    let options = EventsOptions::default().workspace(id).follow(false);
    let mut events = engine.events(options).await.unwrap();
    let mut all = Vec::new();
    while let Some(event) = events.next().await {
        all.push(event.unwrap());
    }
    all
}

fn kinds(events: &[LifecycleEvent]) -> Vec<LifecycleKind> {
    events.iter().map(|event| event.kind).collect()
}

/// Kills a workspace's first process, as nobody who means well would.
async fn strike(workspace: &Workspace) {
    let pid = workspace.info().await.unwrap().pid;
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_told_once_by_any_number_of_engines() {
    use LifecycleKind::{Create, Delete, Exit, Start, Stop};
    let rig = Rig::start();
    let engines = [rig.engine().await, rig.engine().await, rig.engine().await];
    let image = rig.pulled(&engines[0], "busybox").await;
    let before = rig.count();
    let workspace = running(&engines[0], "mortal", &image).await;
    let mut events = engines[1].events(EventsOptions::default()).await.unwrap();
    strike(&workspace).await;
    let exit = next(&mut events, Exit).await;
    assert_eq!((exit.exit_code, exit.workspace_id.as_deref()), (Some(137), Some("mortal")));
    assert_eq!(exit.container_id.as_deref(), Some("workspace-mortal"));
    // Stopped, started and struck again; and then while nobody looks.
    workspace.stop(StopOptions::default()).await.unwrap();
    workspace.start(Default::default()).await.unwrap();
    workspace.stop(StopOptions::default().grace_ms(0u64)).await.unwrap();
    workspace.start(Default::default()).await.unwrap();
    for engine in &engines {
        engine.close().await;
    }
    let pid = rig.ctr(&["tasks", "ls"]);
    let pid = pid.lines().find(|line| line.starts_with("workspace-mortal")).unwrap();
    let pid: i32 = pid.split_whitespace().nth(1).unwrap().parse().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    until("it has ended", async || rig.ctr(&["tasks", "ls"]).contains("STOPPED")).await;
    let engines = [rig.engine().await, rig.engine().await];
    let told = history(&engines[0], "mortal").await;
    let mut events =
        engines[0].events(EventsOptions::default().after(told.last().unwrap().sequence)).await.unwrap();
    if kinds(&told).iter().filter(|kind| **kind == Exit).count() < 3 {
        next(&mut events, Exit).await;
    }
    let workspace = engines[1].workspace("mortal").unwrap();
    workspace.delete(kill()).await.unwrap();
    next(&mut events, Delete).await;
    let told = history(&engines[1], "mortal").await;
    let life = [Create, Start, Exit, Stop, Start, Exit, Stop, Start, Exit, Delete];
    assert_eq!(kinds(&told), life, "{told:#?}");
    let codes: Vec<_> = told.iter().filter_map(|event| event.exit_code).collect();
    // An agent that is asked to end does so without a fault.
    assert_eq!(codes[..3], [137, 137, 137], "{told:#?}");
    rig.settle(&before);
    for engine in engines {
        engine.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_see_one_sequence_without_gaps_under_load() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "busybox").await;
    let before = rig.count();
    let config = write_config(&rig, &rig.config());
    let mut events = engine.events(EventsOptions::default()).await.unwrap();
    let reader = Helper::begun(&["events", text(&config), "last"]);
    let helpers: Vec<Helper> = ["21", "22"]
        .iter()
        .map(|seed| Helper::start(&["churn", text(&config), &image, seed, "10", "a", "b", "c"]))
        .collect();
    let outputs = tokio::task::spawn_blocking(|| helpers.into_iter().map(Helper::output).collect::<Vec<_>>());
    assert_eq!(outputs.await.unwrap().len(), 2);
    for id in ["a", "b", "c"] {
        engine.workspace(id).unwrap().delete(kill()).await.unwrap();
    }
    let last = engine.workspace("last").unwrap();
    last.create(CreateOptions::default().image(&image).start(false)).await.unwrap();
    last.delete(kill()).await.unwrap();
    let theirs = tokio::task::spawn_blocking(|| reader.output()).await.unwrap();
    let theirs: Vec<LifecycleEvent> =
        theirs.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut ours = Vec::new();
    while ours.last() != theirs.last() {
        let event = tokio::time::timeout(LIMIT, events.next()).await.expect("an event comes");
        ours.push(event.unwrap().unwrap());
    }
    // The other process may have begun to read later.
    let from = ours.iter().position(|event| *event == theirs[0]).unwrap();
    assert_eq!(ours[from..], theirs);
    assert!(ours.windows(2).all(|two| two[1].sequence == two[0].sequence + 1), "{ours:#?}");
    assert!(ours.len() > 20, "{}", ours.len());
    println!("{} events", ours.len());
    rig.settle(&before);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn want_of_memory_is_told() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "busybox").await;
    let workspace = engine.workspace("hungry").unwrap();
    let limits = Limits::default().memory_bytes(32 << 20);
    workspace.create(CreateOptions::default().image(&image).limits(limits)).await.unwrap();
    let mut events = engine.events(EventsOptions::default()).await.unwrap();
    // All of a line without an end is kept in memory.
    let command = "head -c 200m /dev/zero | tail -n 1 > /dev/null";
    let ran = workspace.exec().run(RunOptions::default().command(command), "").await;
    match ran {
        Ok(output) if output.result.exit_code == 0 => {
            println!("skip: this host does not enforce the limit");
        }
        // The kernel chooses whom it kills: the agent goes seldom, and the workspace with it.
        Err(error) if error.kind() != ErrorKind::Unavailable => panic!("{error}"),
        _ => {
            let oom = next(&mut events, LifecycleKind::Oom).await;
            assert_eq!(oom.workspace_id.as_deref(), Some("hungry"));
        }
    }
    remove(&workspace).await;
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_that_dies_is_started_again_once_until_it_is_stopped() {
    let rig = Rig::start();
    let engines = [rig.engine().await, rig.engine().await];
    let image = rig.pulled(&engines[0], "busybox").await;
    let before = rig.count();
    let restart =
        RestartOptions::default().policy(RestartPolicy::Always).backoff_ms(50u64).max_backoff_ms(200u64);
    let workspace = engines[0].workspace("phoenix").unwrap();
    workspace.create(CreateOptions::default().image(&image).restart(restart)).await.unwrap();
    let mut events = engines[1].events(EventsOptions::default()).await.unwrap();
    for attempt in 1..=3 {
        strike(&workspace).await;
        let restart = next(&mut events, LifecycleKind::Restart).await;
        assert_eq!((restart.attempt, restart.message.as_deref()), (Some(attempt), None), "{restart:?}");
        assert_eq!(said(sh(&workspace, "echo back").await), "back");
    }
    workspace.stop(StopOptions::default().grace_ms(0u64)).await.unwrap();
    for engine in &engines {
        engine.close().await;
    }
    // What ends while no engine is open is seen by the next.
    let engine = rig.engine().await;
    let workspace = engine.workspace("phoenix").unwrap();
    assert!(!workspace.info().await.unwrap().task_running, "it was stopped");
    workspace.start(Default::default()).await.unwrap();
    let pid = workspace.info().await.unwrap().pid;
    let seen = history(&engine, "phoenix").await.last().unwrap().sequence;
    engine.close().await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    until("it has ended", async || rig.ctr(&["tasks", "ls"]).contains("STOPPED")).await;
    let engine = rig.engine().await;
    let workspace = engine.workspace("phoenix").unwrap();
    let mut events = engine.events(EventsOptions::default().after(seen)).await.unwrap();
    assert_eq!(next(&mut events, LifecycleKind::Restart).await.attempt, Some(1));
    assert!(workspace.info().await.unwrap().task_running);
    let told = history(&engine, "phoenix").await;
    let count = |kind| told.iter().filter(|event| event.kind == kind).count();
    let counts = (count(LifecycleKind::Restart), count(LifecycleKind::Exit), count(LifecycleKind::Start));
    assert_eq!(counts, (4, 5, 6), "{told:#?}");
    remove(&workspace).await;
    rig.settle(&before);
    engine.close().await;
}
