//! Many things at once, engines that close and agents that die under it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Rig, fails, kill, remove, running, said, sh, until};
use dunnage::types::{
    AttachOptions, CreateOptions, ExecOptions, ListOptions, NetworkMode, OpenReadOptions, PullOptions,
    ReadOptions, RunOptions, StartOptions, StartOutcome, WatchOptions, WorkspaceStatus, WriteOptions,
};
use dunnage::{Engine, ErrorKind};
use futures::future::join_all;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_workspaces_at_once() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "busybox").await;
    let before = rig.count();
    let workspaces: Vec<_> = (0..20).map(|n| engine.workspace(format!("many-{n}")).unwrap()).collect();
    let options = |n: usize| {
        let mode = if n.is_multiple_of(2) { NetworkMode::Cni } else { NetworkMode::None };
        CreateOptions::default().image(&image).network(mode)
    };
    let made = join_all(workspaces.iter().enumerate().map(|(n, w)| w.create(options(n)).wait())).await;
    for (n, result) in made.into_iter().enumerate() {
        assert!(result.unwrap_or_else(|error| panic!("{n}: {error}")).created);
    }
    let list = engine.list(ListOptions::default()).await.unwrap().workspaces;
    assert_eq!(list.len(), 20);
    assert!(list.iter().all(|workspace| workspace.status == WorkspaceStatus::Running), "{list:?}");
    // Pages add up to the whole, in order.
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let mut options = ListOptions::default().limit(7u32);
        options.after = after;
        let page = engine.list(options).await.unwrap();
        assert!(page.workspaces.len() <= 7);
        paged.extend(page.workspaces);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(paged, list);
    // Nobody has another's address, name or files.
    let mut addresses = std::collections::BTreeSet::new();
    for (n, workspace) in workspaces.iter().enumerate() {
        workspace.fs().write(WriteOptions::default().path("me"), format!("{n}")).await.unwrap();
        addresses.extend(workspace.info().await.unwrap().network.addresses);
    }
    assert_eq!(addresses.len(), 10, "{addresses:?}");
    let looks = workspaces.iter().map(|workspace| sh(workspace, "cat me; echo; hostname"));
    for (n, look) in join_all(looks).await.into_iter().enumerate() {
        assert_eq!(said(look), format!("{n}\nmany-{n}"));
    }
    for result in join_all(workspaces.iter().map(|workspace| workspace.delete(kill()).wait())).await {
        assert!(result.unwrap().deleted);
    }
    rig.settle(&before);
    engine.close().await;
}

#[test]
fn two_hundred_calls_from_many_threads() {
    let rig = Rig::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (engine, image) = runtime.block_on(async {
        let engine = rig.engine().await;
        let image = rig.pulled(&engine, "busybox").await;
        (engine, image)
    });
    let before = rig.count();
    let workspace = runtime.block_on(running(&engine, "busy", &image));
    let handle = runtime.handle();
    // Threads of the host's own, each of which blocks, as those of C programs do.
    std::thread::scope(|scope| {
        for n in 0..200u32 {
            let (engine, workspace, image) = (&engine, &workspace, &image);
            scope.spawn(move || {
                handle.block_on(async {
                    let path = format!("dir/{}", n % 20);
                    match n % 8 {
                        0 => drop(engine.health().await.unwrap()),
                        1 => drop(engine.list(ListOptions::default()).await.unwrap()),
                        2 => drop(workspace.info().await.unwrap()),
                        3 => {
                            let write = WriteOptions::default().path(path);
                            workspace.fs().write(write, vec![b'x'; 100_000]).await.unwrap();
                        }
                        4 => {
                            let read = workspace.fs().read(ReadOptions::default().path(path)).await;
                            // Whole or not there yet.
                            match read {
                                Ok(bytes) => assert_eq!(bytes.len(), 100_000),
                                Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
                            }
                        }
                        5 => {
                            let created = workspace.create(CreateOptions::default().image(image)).await;
                            assert!(!created.unwrap().created);
                        }
                        6 => {
                            let started = workspace.ensure_running(StartOptions::default()).await.unwrap();
                            assert_eq!(started.outcome, StartOutcome::AlreadyRunning);
                        }
                        _ => {
                            let run = RunOptions::default().command("cat; exit 3");
                            let output = workspace.exec().run(run, format!("in {n}")).await.unwrap();
                            assert_eq!(output.stdout, format!("in {n}"));
                            assert_eq!(output.result.exit_code, 3);
                        }
                    }
                });
            });
        }
    });
    runtime.block_on(async {
        assert_eq!(
            said(sh(&workspace, "ls /data/dir | wc -l; ls -A /data").await).lines().last(),
            Some("dir")
        );
        remove(&workspace).await;
        engine.close().await;
    });
    rig.settle(&before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_closes_undoes_what_runs() {
    let rig = Rig::start();
    let other = rig.engine().await;
    let image = rig.pulled(&other, "busybox").await;
    let slow = rig.proxy("throttle:300000").through(&rig.add("uncompressed"));
    let before = rig.count();
    for delay in [0, 30, 120, 300] {
        let engine = rig.engine().await;
        let workspaces: Vec<_> = (0..4).map(|n| engine.workspace(format!("closing-{n}")).unwrap()).collect();
        let mut operations: Vec<_> = workspaces
            .iter()
            .map(|workspace| workspace.create(CreateOptions::default().image(&image)))
            .collect();
        let pull = engine.image().pull(PullOptions::default().image(&slow));
        tokio::time::sleep(Duration::from_millis(delay)).await;
        engine.close().await;
        fails(pull.await, ErrorKind::Cancelled, &[]);
        for (n, operation) in operations.drain(..).enumerate() {
            let id = format!("closing-{n}");
            let here = other.workspace(&id).unwrap();
            match operation.await {
                // It was past its point of no return: it is whole.
                Ok(created) => {
                    assert!(created.created);
                    assert_eq!(said(sh(&here, "echo whole").await), "whole");
                    remove(&here).await;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
                    fails(here.info().await, ErrorKind::NotFound, &[]);
                }
            }
            rig.no_files_of(&id);
        }
        for result in [
            engine.health().await.map(drop),
            engine.list(ListOptions::default()).await.map(drop),
            workspaces[0].info().await.map(drop),
            workspaces[0].create(CreateOptions::default().image(&image)).await.map(drop),
            workspaces[0].exec().run(RunOptions::default().command("true"), "").await.map(drop),
        ] {
            fails(result, ErrorKind::FailedPrecondition, &["closed", "open"]);
        }
        engine.close().await;
        rig.settle(&before);
    }
    other.close().await;
}

/// What a workspace's first process is on this host.
async fn first_process(workspace: &dunnage::Workspace) -> rustix::process::Pid {
    let pid = workspace.info().await.unwrap().pid;
    rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_dies_ends_its_streams_and_comes_back() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "busybox").await;
    let before = rig.count();
    let workspace = running(&engine, "mortal", &image).await;
    workspace.fs().write(WriteOptions::default().path("kept"), "kept").await.unwrap();
    said(sh(&workspace, "dd if=/dev/zero of=big bs=1M count=64 2>/dev/null").await);

    // Everything that can be under way.
    let spawned = workspace.exec().spawn(ExecOptions::default().command("echo up; sleep 100")).await.unwrap();
    assert!(spawned.next_output().await.unwrap().is_some());
    let terminal =
        workspace.exec().spawn(ExecOptions::default().command("sleep 100").pty(true)).await.unwrap();
    let run = tokio::spawn({
        let workspace = workspace.clone();
        async move { workspace.exec().run(RunOptions::default().command("sleep 100"), "").await }
    });
    let reader = workspace.fs().open_read(OpenReadOptions::default().path("big")).await.unwrap();
    let writer = workspace.fs().open_write(WriteOptions::default().path("kept")).await.unwrap();
    let mut changes = workspace.fs().watch(WatchOptions::default().path("/etc")).await.unwrap();
    let detached = ExecOptions::default().command("sleep 100").detach(true).session_id("long");
    let session = workspace.exec().spawn(detached).await.unwrap();
    let attached = workspace.exec().attach(AttachOptions::default().session_id("long")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;

    let pid = first_process(&workspace).await;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), async {
        fails(spawned.wait().await, ErrorKind::Unavailable, &[]);
        fails(terminal.wait().await, ErrorKind::Unavailable, &[]);
        fails(run.await.unwrap(), ErrorKind::Unavailable, &["mortal"]);
        fails(session.wait().await, ErrorKind::Unavailable, &[]);
        fails(attached.wait().await, ErrorKind::Unavailable, &[]);
        fails(changes.next().await.unwrap(), ErrorKind::Unavailable, &[]);
        assert!(changes.next().await.is_none());
    });
    ended.await.expect("a stream hangs on an agent that is dead");
    drop((spawned, terminal, reader, session, attached));
    // A write that was never finished changes nothing.
    drop(writer);
    until("it is seen to be stopped", async || {
        let info = workspace.info().await.unwrap();
        !info.task_running && info.status == WorkspaceStatus::Stopped && info.exit_code == Some(137)
    })
    .await;
    let error = fails(
        workspace.exec().run(RunOptions::default().command("true"), "").await,
        ErrorKind::Unavailable,
        &["start it"],
    );
    assert_eq!(error.operation(), "exec.run");
    // Its files are there, and no half of one.
    assert_eq!(workspace.fs().read(ReadOptions::default().path("kept")).await.unwrap(), "kept");

    let back = workspace.ensure_running(StartOptions::default()).await.unwrap();
    assert_eq!(back.outcome, StartOutcome::Started);
    assert_eq!(said(sh(&workspace, "cat kept; ls /data").await), "keptbig\nkept");
    assert!(workspace.info().await.unwrap().task_running);

    // Ten times in a row, at once after the start.
    for _ in 0..10 {
        let pid = first_process(&workspace).await;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        // It may not be seen yet; then it is by the second attempt.
        until("it comes back", async || {
            workspace.ensure_running(StartOptions::default()).await.unwrap();
            let run = RunOptions::default().command("cat kept");
            workspace.exec().run(run, "").await.is_ok_and(|output| output.stdout == "kept")
        })
        .await;
    }
    remove(&workspace).await;
    rig.settle(&before);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_under_calls_ends_them() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "busybox").await;
    let before = rig.count();
    for _ in 0..3 {
        let workspace = running(&engine, "leaving", &image).await;
        let calls: Vec<_> = (0..8)
            .map(|_| {
                let workspace = workspace.clone();
                tokio::spawn(async move {
                    loop {
                        let run = RunOptions::default().command("sleep 0.02");
                        if let Err(error) = workspace.exec().run(run, "").await {
                            return error;
                        }
                    }
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(150)).await;
        workspace.delete(kill()).await.unwrap();
        let ended =
            tokio::time::timeout(Duration::from_secs(10), join_all(calls)).await.expect("a call hangs");
        for error in ended {
            let error = error.unwrap();
            assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unavailable), "{error}");
        }
    }
    rig.settle(&before);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_side_by_side_see_one_truth() {
    let rig = Rig::start();
    let engines = [rig.engine().await, rig.engine().await];
    let image = rig.pulled(&engines[0], "busybox").await;
    let before = rig.count();
    let image = Arc::new(image);
    // All make the same workspace: one does, the others find it.
    let tasks: Vec<_> = (0..10)
        .map(|n| {
            let (engine, image): (Engine, _) = (engines[n % 2].clone(), image.clone());
            tokio::spawn(async move {
                let workspace = engine.workspace("same").unwrap();
                workspace.create(CreateOptions::default().image(image.as_str())).await.unwrap().created
            })
        })
        .collect();
    let made = join_all(tasks).await.into_iter().filter(|created| *created.as_ref().unwrap()).count();
    assert_eq!(made, 1);
    let first = engines[0].workspace("same").unwrap();
    let second = engines[1].workspace("same").unwrap();
    first.fs().write(WriteOptions::default().path("x"), "x").await.unwrap();
    assert_eq!(said(sh(&second, "cat x").await), "x");
    first.stop(dunnage::types::StopOptions::default()).await.unwrap();
    // The other's connection is stale, and it says so instead of hanging.
    fails(
        second.exec().run(RunOptions::default().command("true"), "").await,
        ErrorKind::Unavailable,
        &["start it"],
    );
    second.start(StartOptions::default()).await.unwrap();
    assert_eq!(said(sh(&first, "cat x").await), "x");
    remove(&second).await;
    fails(first.exec().run(RunOptions::default().command("true"), "").await, ErrorKind::NotFound, &["same"]);
    rig.settle(&before);
    for engine in engines {
        engine.close().await;
    }
}
