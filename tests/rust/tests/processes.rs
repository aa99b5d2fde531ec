//! Processes that share a data root, die in the middle of things, or lose their containerd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::helper::{Helper, text, write_config};
use common::{Rig, fails, kill, remove, running, said, sh, until};
use dunnage::types::{
    AttachOptions, CreateOptions, ExecOptions, ListDirOptions, ListOptions, NetworkMode, RunOptions,
    SessionsOptions, StartOptions, StopOptions, WriteOptions,
};
use dunnage::{CallOptions, Engine, Error, ErrorKind};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_may_do_everything_at_once() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "busybox").await;
    let before = rig.count();
    let config = write_config(&rig, &rig.config());
    let helpers: Vec<Helper> = ["11", "12"]
        .iter()
        .map(|seed| Helper::start(&["churn", text(&config), &image, seed, "12", "a", "b", "c"]))
        .collect();
    let outputs: Vec<String> =
        tokio::task::spawn_blocking(|| helpers.into_iter().map(Helper::output).collect()).await.unwrap();
    let mut outcomes: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in outputs.iter().flat_map(|output| output.lines()) {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let (operation, outcome) = (words[0], words[2]);
        *outcomes.entry((operation.to_owned(), outcome.to_owned())).or_default() += 1;
        // Whoever comes after a deletion finds nothing. Nothing else may go wrong.
        let fine =
            outcome == "OK" || (outcome == "NOT_FOUND" && matches!(operation, "start" | "stop" | "info"));
        assert!(fine, "{line}");
    }
    assert_eq!(outcomes.values().sum::<usize>(), 72, "{outcomes:?}");
    assert!(outcomes.contains_key(&("create".to_owned(), "OK".to_owned())), "{outcomes:?}");
    // What is left is whole.
    for id in ["a", "b", "c"] {
        let workspace = engine.workspace(id).unwrap();
        workspace.ensure_running(StartOptions::default()).await.unwrap();
        assert_eq!(said(sh(&workspace, "echo whole").await), "whole");
        workspace.delete(kill()).await.unwrap();
        rig.no_files_of(id);
    }
    rig.settle(&before);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_at_any_time_leaves_whole_workspaces() {
    let rig = Rig::start();
    let mut config = rig.config();
    let engine = Engine::open(config.clone()).await.unwrap();
    let image = rig.pulled(&engine, "busybox").await;
    engine.close().await;
    config.time_limits.settle_ms = 4_000;
    let before = rig.count();
    // Another time each time: a failure tells it, and the same one comes again only by chance anyway.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut random = u64::from(now.subsec_nanos()) << 20 | 1;
    println!("seed {random}");
    // What is killed, in turn, and the milliseconds within which that happens.
    let mut kinds = [
        ("create", NetworkMode::Cni, 700),
        ("delete", NetworkMode::Cni, 300),
        ("create", NetworkMode::None, 400),
        ("delete", NetworkMode::None, 200),
        ("stop", NetworkMode::Cni, 150),
        ("start", NetworkMode::Cni, 300),
    ];
    let (mut whole, mut absent, mut kills) = (0, 0, 0);
    for (round, kind) in [0, 1, 2, 3, 0, 1, 4, 5].into_iter().cycle().take(96).enumerate() {
        if kills == 24 {
            break;
        }
        let (operation, mode, span) = kinds[kind];
        config.network.mode = mode;
        let file = write_config(&rig, &config);
        let id = format!("killed-{round}");
        if operation != "create" {
            let engine = Engine::open(config.clone()).await.unwrap();
            let workspace = running(&engine, &id, &image).await;
            workspace.fs().write(WriteOptions::default().path("kept"), "kept").await.unwrap();
            if operation == "start" {
                workspace.stop(StopOptions::default().grace_ms(0u64)).await.unwrap();
            }
            engine.close().await;
        }
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let wait = Duration::from_millis(random % span);
        let in_time = killed(text(&file), operation, &id, &image, wait);
        kills += u32::from(in_time);
        // How long an operation takes is the machine's affair: one that was over by then is killed sooner the next
        // time, and one that was not perhaps a little later.
        kinds[kind].2 = if in_time { span + span / 8 } else { (random % span).max(8) };
        let about = format!("{operation} killed after {wait:?}");

        // The next process finds it whole or not at all.
        let engine = Engine::open(config.clone()).await.unwrap();
        let workspace = engine.workspace(&id).unwrap();
        match workspace.info().await {
            Ok(_) => {
                whole += 1;
                let command = if operation == "create" { "echo -n kept" } else { "cat kept" };
                // The process that died may have sent a signal that has yet to take effect.
                until("a workspace that is there can be used", async || {
                    let started = workspace.start(StartOptions::default()).await;
                    started.unwrap_or_else(|error| panic!("{about}: {error}"));
                    let run = RunOptions::default().command(command);
                    workspace.exec().run(run, "").await.is_ok_and(|output| output.stdout == "kept")
                })
                .await;
                workspace.delete(kill()).await.unwrap();
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{about}: {error}");
                assert!(matches!(operation, "create" | "delete"), "{about}: it is gone");
                absent += 1;
            }
        }
        println!("{about}, in time: {in_time}");
        // What the dead process's last request did after this one looked goes when it looks again.
        rig.settle_but_shims(&before);
        rig.no_files_of(&id);
        engine.close().await;
    }
    println!("{kills} kills: {whole} whole, {absent} absent");
    assert!(kills >= 20, "most processes ended before they were killed: {kills}");
    assert!(whole > 0 && absent > 0, "{whole} whole, {absent} absent");
}

/// Starts an operation in a process of its own and kills that after a while. Returns whether it was in time.
fn killed(config: &str, operation: &str, id: &str, image: &str, wait: Duration) -> bool {
    let helper = Helper::begun(&["once", config, operation, id, image]);
    std::thread::sleep(wait);
    helper.kill()
}

/// How a call may end while containerd is away.
fn bearable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_containerd_under_load_is_survived() {
    let mut rig = Rig::start();
    let mut config = rig.config();
    config.time_limits.connect_ms = 400;
    let engine = Engine::open(config).await.unwrap();
    let image = rig.pulled(&engine, "busybox").await;
    let before = rig.count();
    let steady = running(&engine, "steady", &image).await;
    steady.fs().write(WriteOptions::default().path("kept"), "kept").await.unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let mut load = Vec::new();
    for n in 0..3 {
        let (engine, image, stop) = (engine.clone(), image.clone(), stop.clone());
        load.push(tokio::spawn(async move {
            let mut failures = Vec::new();
            let mut successes = 0;
            while !stop.load(Ordering::Relaxed) {
                let workspace = engine.workspace(format!("load-{n}")).unwrap();
                for result in [
                    workspace.create(CreateOptions::default().image(&image)).await.map(drop),
                    workspace.stop(StopOptions::default().grace_ms(0u64)).await.map(drop),
                    workspace.delete(kill()).await.map(drop),
                    engine.list(ListOptions::default()).await.map(drop),
                ] {
                    match result {
                        Ok(()) => successes += 1,
                        // A creation that failed leaves nothing to stop.
                        Err(error) if error.kind() == ErrorKind::NotFound => {}
                        Err(error) => failures.push(error),
                    }
                }
            }
            (successes, failures)
        }));
    }
    let talk = tokio::spawn({
        let (steady, stop) = (steady.clone(), stop.clone());
        async move {
            let mut calls = 0u32;
            while !stop.load(Ordering::Relaxed) {
                // The workspace's own agent does not need containerd.
                assert_eq!(said(sh(&steady, "cat kept").await), "kept");
                calls += 1;
            }
            calls
        }
    });
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        tokio::task::block_in_place(|| rig.containerd.kill9().unwrap());
        tokio::time::sleep(Duration::from_millis(1000)).await;
        fails(engine.list(ListOptions::default()).await, ErrorKind::Unavailable, &["containerd"]);
        let health = engine.health().await.unwrap();
        assert!(!health.healthy && !health.backend.reachable && !health.problems.is_empty(), "{health:?}");
        tokio::task::block_in_place(|| rig.containerd.restart().unwrap());
    }
    tokio::time::sleep(Duration::from_millis(1200)).await;
    stop.store(true, Ordering::Relaxed);
    let mut failed = 0;
    for task in load {
        let (successes, failures) = task.await.unwrap();
        for error in &failures {
            assert!(bearable(error), "{error}");
        }
        failed += failures.len();
        assert!(successes > 3, "{successes} successes, {failures:?}");
    }
    assert!(failed > 0, "nobody noticed the crash");
    assert!(talk.await.unwrap() > 20);
    // It recovered by itself, and nothing was lost.
    assert_eq!(said(sh(&steady, "cat kept").await), "kept");
    assert!(steady.info().await.unwrap().task_running);
    for n in 0..3 {
        engine.workspace(format!("load-{n}")).unwrap().delete(kill()).await.unwrap();
    }
    steady.stop(StopOptions::default()).await.unwrap();
    steady.start(StartOptions::default()).await.unwrap();
    assert_eq!(said(sh(&steady, "cat kept").await), "kept");
    steady.delete(kill()).await.unwrap();
    rig.settle(&before);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_containerd_is_given_up_in_time() {
    let rig = Rig::start();
    let patient = rig.engine().await;
    let image = rig.pulled(&patient, "busybox").await;
    let before = rig.count();
    running(&patient, "frozen", &image).await;
    let mut config = rig.config();
    config.time_limits.backend_ms = 700;
    config.time_limits.connect_ms = 700;
    let engine = Engine::open(config.clone()).await.unwrap();
    let workspace = engine.workspace("frozen").unwrap();
    rig.containerd.freeze().unwrap();
    let error = fails(workspace.info().await, ErrorKind::Timeout, &[]);
    assert_eq!(error.operation(), "workspace.info");
    fails(engine.list(ListOptions::default()).await, ErrorKind::Timeout, &[]);
    let other = engine.workspace("other").unwrap();
    fails(other.create(CreateOptions::default().image(&image)).await, ErrorKind::Timeout, &[]);
    fails(workspace.stop(StopOptions::default()).await, ErrorKind::Timeout, &[]);
    // A call's own limit is shorter still.
    let call = CallOptions::default().time_limit(Duration::from_millis(100));
    fails(call.guard(workspace.info()).await, ErrorKind::Timeout, &["limit_ms: 100"]);
    let opening = Engine::open(config).await;
    let error = opening.expect_err("nobody can open an engine on a frozen daemon");
    assert!(bearable(&error), "{error}");
    // The agent does not need it.
    assert_eq!(said(sh(&workspace, "echo here").await), "here");
    rig.containerd.thaw().unwrap();
    until("it answers again", async || workspace.info().await.is_ok()).await;
    fails(other.info().await, ErrorKind::NotFound, &[]);
    let run = RunOptions::default().command("true");
    assert_eq!(workspace.exec().run(run, "").await.unwrap().result.exit_code, 0);
    patient.workspace("frozen").unwrap().delete(kill()).await.unwrap();
    rig.settle(&before);
    engine.close().await;
    patient.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_whose_process_is_killed_is_taken_up_by_the_next() {
    let rig = Rig::start();
    let proxy = rig.proxy("throttle:6000000");
    let image = proxy.through(&rig.add("uncompressed"));
    let config = rig.config();
    let file = write_config(&rig, &config);
    // Into the download, into the unpacking beside it, and near the end.
    for wait in [200, 600, 1100] {
        let wait = Duration::from_millis(wait);
        let in_time = tokio::task::block_in_place(|| killed(text(&file), "create", "pulling", &image, wait));
        assert!(in_time, "the pull was over after {wait:?}");
        let engine = Engine::open(config.clone()).await.unwrap();
        fails(engine.workspace("pulling").unwrap().info().await, ErrorKind::NotFound, &[]);
        assert!(engine.image().list().await.unwrap().images.is_empty(), "a half image has a name");
        engine.close().await;
    }
    // What the dead hold, they hold for a time that ends.
    for lease in rig.ctr(&["leases", "ls"]).lines().skip(1) {
        assert!(lease.contains("containerd.io/gc.expire="), "{lease}");
    }
    let engine = Engine::open(config).await.unwrap();
    let taken_up = tokio::time::timeout(Duration::from_secs(60), running(&engine, "pulling", &image)).await;
    let workspace = taken_up.expect("it waits for the dead");
    let command = "cat /usr/share/bulk/*.txt | wc -c; for f in /usr/share/bulk/*; do md5sum < $f; done | sort -u | wc -l";
    assert_eq!(said(sh(&workspace, command).await), format!("{}\n8", 8 << 20));
    workspace.delete(kill()).await.unwrap();
    rig.no_files_of("pulling");
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_killed_under_its_streams_leaves_only_what_it_detached() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "busybox").await;
    let before = rig.count();
    let workspace = running(&engine, "streams", &image).await;
    let rests = running(&engine, "rests", &image).await;
    rests.stop(StopOptions::default().grace_ms(0u64)).await.unwrap();
    said(sh(&workspace, "head -c 64000000 /dev/zero > big").await);
    let config = write_config(&rig, &rig.config());
    // A stream of somebody else's stays what it is.
    let cat = workspace.exec().spawn(ExecOptions::default().command("cat").stdin(true)).await.unwrap();

    let commands = "ps | grep -c '[s]leep 5000\\|[y]es 5000' || true";
    let descriptors = async || said(sh(&workspace, "ls /proc/1/fd | wc -l").await).parse::<u32>().unwrap();
    let mut first = None;
    for round in 0..20 {
        let host = Helper::begun(&["streams", text(&config), "streams", "rests"]);
        assert_ne!(said(sh(&workspace, commands).await), "0");
        assert!(host.kill());
        // The agent ends what nobody listens to, and closes all it had open for that host.
        until("its commands end", async || said(sh(&workspace, commands).await) == "0").await;
        until("its files are given up", async || said(sh(&workspace, "ls -A /data").await) == "big").await;
        first.get_or_insert(descriptors().await);
        cat.write_stdin(format!("{round}\n")).await.unwrap();
        let (_, bytes) = cat.next_output().await.unwrap().unwrap();
        assert_eq!(bytes, format!("{round}\n"));
        // The lock that its open file held is free, and the file never was.
        let files = rests.fs().list(ListDirOptions::default().path("/data")).await.unwrap();
        assert_eq!(files.entries.len(), 0, "{files:?}");
    }
    // Connections may be about to be closed, of the first host and of the last; one of each round would add up.
    let most = first.unwrap() + 6;
    until("the agent's descriptors are closed", async || descriptors().await <= most).await;
    assert_eq!(said(sh(&workspace, "ps -o stat | grep -c Z || true").await), "0", "zombies");

    // What it detached runs on, for whoever comes.
    let sessions = workspace.exec().sessions(SessionsOptions::default()).await.unwrap().sessions;
    assert_eq!(sessions.iter().map(|session| session.session_id.as_str()).collect::<Vec<_>>(), ["long"]);
    let long = workspace.exec().attach(AttachOptions::default().session_id("long")).await.unwrap();
    long.write_stdin("still here\n").await.unwrap();
    assert_eq!(long.next_output().await.unwrap().unwrap().1, "still here\n");
    rests.start(StartOptions::default()).await.unwrap();
    assert_eq!(said(sh(&rests, "ls -A /data").await), "");
    drop((cat, long));
    remove(&workspace).await;
    remove(&rests).await;
    rig.settle(&before);
    engine.close().await;
}
