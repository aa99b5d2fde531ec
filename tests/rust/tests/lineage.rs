//! Versions on a real containerd: random lives compared with a model, many processes at once, and garbage collection.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::helper::{Helper, text, write_config};
use common::{Rig, kill, lose_database, running, said, sh};
use dunnage::types::{
    CreateOptions, SnapshotCreateOptions, SnapshotDeleteOptions, SnapshotForkOptions, SnapshotListOptions,
    SnapshotPruneOptions, SnapshotRollbackOptions, StartOptions, StopOptions,
};
use dunnage::{Engine, ErrorKind, Result, Workspace};
use dunnage_harness::model::{Content, Ends, Model, PLACES, Step};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

fn snapshot() -> SnapshotCreateOptions {
    SnapshotCreateOptions::default().grace_ms(0u64)
}

fn back_to(version: u64, discard: bool) -> SnapshotRollbackOptions {
    SnapshotRollbackOptions::default().version(version).discard(discard).grace_ms(0u64)
}

/// The words in a workspace: each is a file, in the data directory and beside it.
async fn words(workspace: &Workspace) -> Content {
    let both = said(sh(workspace, "mkdir -p /data/w /srv/w; ls /data/w; echo /; ls /srv/w").await);
    let (data, beside) = both.split_once('/').unwrap();
    let set = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Content>();
    assert_eq!(set(data), set(beside), "one half went back and the other did not");
    set(data)
}

async fn write(workspace: &Workspace, word: &str) {
    said(sh(workspace, &format!("mkdir -p /data/w /srv/w && touch /data/w/{word} /srv/w/{word}")).await);
}

async fn versions(workspace: &Workspace) -> BTreeSet<u64> {
    let list = workspace.snapshots().list(SnapshotListOptions::default()).await.unwrap();
    list.snapshots.iter().filter_map(|snapshot| snapshot.version).collect()
}

/// The id of the workspace at a place of the model.
fn id_at(life: &str, at: usize) -> String {
    format!("{life}-{at}")
}

/// Does a step to a workspace, with an engine that it may replace.
async fn step(
    rig: &Rig,
    engine: &mut Engine,
    life: &str,
    image: &str,
    (at, step): (usize, &Step),
) -> Result<Option<u64>> {
    let workspace = engine.workspace(id_at(life, at))?;
    match step {
        Step::Create => workspace.create(CreateOptions::default().image(image)).await.map(|_| None),
        Step::Write(word) => {
            write(&workspace, word).await;
            Ok(None)
        }
        Step::Snapshot => workspace.snapshots().create(snapshot()).await.map(|made| Some(made.version)),
        Step::Rollback { version, discard } => {
            workspace.snapshots().rollback(back_to(*version, *discard)).await.map(|back| back.kept_version)
        }
        Step::Fork { version, to } => {
            let options = SnapshotForkOptions::default().version(*version).new_id(id_at(life, *to));
            workspace.snapshots().fork(options).await.map(|_| None)
        }
        Step::Remove { version, squash } => {
            let options = SnapshotDeleteOptions::default().version(*version).squash(*squash).grace_ms(0u64);
            workspace.snapshots().delete(options).await.map(|_| None)
        }
        Step::Prune { keep_last } => {
            let options = SnapshotPruneOptions::default().keep_last(*keep_last).grace_ms(0u64);
            workspace.snapshots().prune(options).await.map(|_| None)
        }
        Step::Stop => workspace.stop(StopOptions::default().grace_ms(0u64)).await.map(|_| None),
        Step::Start => workspace.start(StartOptions::default()).await.map(|_| None),
        Step::Delete => workspace.delete(kill()).await.map(|_| None),
        Step::Reopen { lost } => {
            engine.close().await;
            if *lost {
                lose_database(&rig.config());
            }
            *engine = Engine::open(rig.config()).await?;
            Ok(None)
        }
    }
}

/// Lives a life, comparing it with the model at each step, and at its end goes back to every version.
async fn live(rig: &Rig, engine: &mut Engine, life: &str, image: &str, steps: &[(u8, u8, u8)]) {
    let mut model = Model::default();
    let steps = steps.iter().copied().map(Step::of);
    for (at, next) in std::iter::once((0, Step::Create)).chain(steps) {
        if !model.takes(at, &next) {
            continue;
        }
        let wanted = model.apply(at, &next);
        let done = step(rig, engine, life, image, (at, &next)).await;
        let ends = match &done {
            Ok(version) => Ends::Well(*version),
            Err(error) => match error.kind() {
                ErrorKind::NotFound => Ends::NotFound,
                ErrorKind::AlreadyExists => Ends::AlreadyExists,
                ErrorKind::FailedPrecondition => Ends::Refused,
                _ => panic!("{next:?} of {at}: {error}"),
            },
        };
        assert_eq!(ends, wanted, "{next:?} of {at}: {done:?}");
        for at in 0..PLACES {
            let workspace = engine.workspace(id_at(life, at)).unwrap();
            let Some(held) = model.held(at) else {
                assert_eq!(workspace.info().await.unwrap_err().kind(), ErrorKind::NotFound);
                continue;
            };
            assert_eq!(workspace.info().await.unwrap().task_running, held.running, "{next:?}");
            if held.running {
                assert_eq!(words(&workspace).await, held.content, "{next:?}");
            }
            assert_eq!(versions(&workspace).await, held.versions().into_keys().collect(), "{next:?}");
        }
        assert_eq!(rig.snapshots_of(life), model.snapshots(), "{next:?} of {at}");
    }
    for at in 0..PLACES {
        let workspace = engine.workspace(id_at(life, at)).unwrap();
        if let Some(held) = model.held(at) {
            workspace.ensure_running(StartOptions::default()).await.unwrap();
            for (version, content) in held.versions() {
                workspace.snapshots().rollback(back_to(version, true)).await.unwrap();
                assert_eq!(words(&workspace).await, content, "version {version} of {at}");
            }
        }
        workspace.delete(kill()).await.unwrap();
    }
    assert_eq!(rig.snapshots_of(life), 0);
}

#[test]
fn any_life_is_as_the_model_says() {
    let rig = Rig::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut engine = runtime.block_on(rig.engine());
    let image = runtime.block_on(rig.pulled(&engine, "busybox"));
    let before = rig.count();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    // Another seed each time; a failure tells it, and the variable repeats it.
    let seed = std::env::var("DUNNAGE_TEST_SEED").map_or(now, |seed| seed.parse().unwrap());
    println!("DUNNAGE_TEST_SEED={seed}");
    let config = Config {
        cases: 24,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 60,
        ..Config::default()
    };
    let began = Instant::now();
    let (mut lives, mut last) = (0, None);
    let outcome = {
        let state = std::sync::Mutex::new((&mut engine, &mut lives, &mut last));
        let life = prop::collection::vec(any::<(u8, u8, u8)>(), 1..20);
        TestRunner::new(config).run(&life, |steps| {
            let mut state = state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let (engine, lives, last) = &mut *state;
            // A slow machine lives fewer lives, but some.
            if **lives >= 8 && last.is_none() && began.elapsed() > Duration::from_secs(60) {
                return Ok(());
            }
            **lives += 1;
            let life = format!("life-{lives}");
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                runtime.block_on(live(&rig, engine, &life, &image, &steps));
            }));
            done.map_err(|why| {
                **last = Some(life);
                let text = why.downcast_ref::<String>().cloned();
                TestCaseError::fail(text.unwrap_or_else(|| "it panicked".to_owned()))
            })
        })
    };
    println!("{lives} lives in {:?}", began.elapsed());
    if let Err(TestError::Fail(why, steps)) = &outcome {
        let steps: Vec<(usize, Step)> = steps.iter().copied().map(Step::of).collect();
        panic!("DUNNAGE_TEST_SEED={seed}: {why} ({last:?})\nafter Create and {steps:#?}");
    }
    outcome.unwrap();
    rig.settle(&before);
    runtime.block_on(engine.close());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_of_eight_threads_make_one_line_of_versions() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "busybox").await;
    let before = rig.count();
    let workspace = running(&engine, "line", &image).await;
    write(&workspace, "first").await;
    workspace.snapshots().create(snapshot()).await.unwrap();
    let config = write_config(&rig, &rig.config());
    let helpers: Vec<Helper> = ["21", "22"]
        .iter()
        .map(|seed| Helper::start(&["hammer", text(&config), "line", seed, "6"]))
        .collect();
    let outputs: Vec<String> =
        tokio::task::spawn_blocking(|| helpers.into_iter().map(Helper::output).collect()).await.unwrap();
    let mut made = BTreeSet::from([1]);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in outputs.iter().flat_map(|output| output.lines()) {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        *counts.entry(words[0]).or_default() += 1;
        match (words[0], words[1]) {
            ("create" | "rollback", "OK") if words[2] != "-" => {
                assert!(made.insert(words[2].parse().unwrap()), "{line}: two versions of one number");
            }
            (_, "OK") => {}
            // A command meets a workspace that another has just stopped.
            ("exec", "UNAVAILABLE" | "NOT_FOUND" | "CANCELLED") => {}
            _ => panic!("{line}"),
        }
    }
    assert_eq!(counts.values().sum::<usize>(), 96, "{counts:?}");
    let last = *made.last().unwrap();
    println!("{counts:?}, {last} versions");
    assert_eq!(made, (1..=last).collect(), "a number is missing");
    assert_eq!(versions(&workspace).await, made);
    for version in made {
        workspace.snapshots().rollback(back_to(version, true)).await.unwrap();
        let held = words(&workspace).await;
        assert!(held.contains("first"), "version {version} holds {held:?}");
    }
    workspace.delete(kill()).await.unwrap();
    rig.settle(&before);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_collection_takes_nothing_that_is_kept() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "busybox").await;
    let before = rig.count();
    let workspace = running(&engine, &id_at("kept", 0), &image).await;
    let mut model = Model::default();
    let mut engine_again = engine.clone();
    let write = |word: &str| Step::Write(word.to_owned());
    let back = |version, discard| Step::Rollback { version, discard };
    let steps = [
        Step::Create,
        write("one"),
        Step::Snapshot,
        write("two"),
        Step::Snapshot,
        write("three"),
        // Past both, and beside them.
        back(1, false),
        write("four"),
        Step::Snapshot,
        back(2, true),
        Step::Stop,
        Step::Snapshot,
        back(4, false),
        Step::Start,
        // What others stand on, and then what the fork stands on.
        Step::Remove { version: 1, squash: true },
        Step::Fork { version: 3, to: 1 },
        Step::Snapshot,
        Step::Prune { keep_last: 2 },
    ];
    for next in steps {
        model.apply(0, &next);
        step(&rig, &mut engine_again, "kept", &image, (0, &next))
            .await
            .unwrap_or_else(|e| panic!("{next:?}: {e}"));
        rig.collect();
        let held = model.held(0).unwrap();
        assert_eq!(rig.snapshots_of("kept"), model.snapshots(), "{next:?}");
        if held.running {
            assert_eq!(words(&workspace).await, held.content, "{next:?}");
        }
    }
    for (version, content) in model.held(0).unwrap().versions() {
        workspace.snapshots().rollback(back_to(version, true)).await.unwrap();
        rig.collect();
        assert_eq!(words(&workspace).await, content, "version {version}");
    }
    workspace.delete(kill()).await.unwrap();
    rig.collect();
    let fork = engine.workspace(id_at("kept", 1)).unwrap();
    assert_eq!(words(&fork).await, model.held(1).unwrap().content, "the fork needs no other workspace");
    fork.delete(kill()).await.unwrap();
    rig.settle(&before);
    engine.close().await;
}
