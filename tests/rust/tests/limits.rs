//! What no size, fault or moment may do to a data directory: half of it is nowhere, neither in an archive nor in its place.
//!
//! What is random comes of a seed that is printed; `DUNNAGE_TEST_SEED` sets another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what was tried is worth reading after a failure")]

mod common;

use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::data::{from, preserve, restore, to};
use common::disk::{Disk, in_memory, memory, rig_on};
use common::random::Random;
use common::{Rig, names, run, running, said, sh};
use dunnage::types::{
    CreateOptions, DataDiscardOptions, DataExportResult, DeleteOptions, ImportMode, PreserveForm,
    PreservedData, PreservedOptions, RecreateOptions,
};
use dunnage::{Config, Engine, Error, ErrorKind, Operation, Workspace};

/// How often a disk is filled for each thing that fills it.
const FILLS: u64 = 12;
/// How often each operation is cancelled.
const CANCELS: usize = 8;

const MIB: u64 = 1 << 20;

/// How much room is left for what needs so much: first enough and then nothing, then anything on even turns and on odd ones what
/// may just be enough.
fn room(random: &mut Random, turn: u64, need: u64, about: u64) -> u64 {
    match turn {
        0 => need + need / 4,
        1 => 0,
        _ if turn.is_multiple_of(2) => random.below(need + need / 4),
        _ => (need + random.below(about)).saturating_sub(about / 2),
    }
}

/// What shows of a directory, times of less than a second aside. How many names a file has does not count: one that is kept as
/// a snapshot has one more.
const LIST: &str = "find . -exec stat -c '%n %A %u %g %Y' {} + | sort; find . -type f -exec md5sum {} + | sort; \
    find . -type l | sort | xargs -r -n1 readlink; [ one -ef a/hard ] && echo linked";

const FILL: &str = "rm -rf /data/* && mkdir -p /data/a/b /data/empty && \
    for n in $(seq 40); do head -c $((n * 4000)) /dev/urandom > /data/a/$n; done && \
    echo one > /data/one && ln /data/one /data/a/hard && ln -s ../../etc/passwd /data/a/link && mkfifo /data/pipe && \
    chown 12:34 /data/a/b && chmod 4750 /data/one";

/// What a workspace that runs has in its data directory.
async fn tree(workspace: &Workspace) -> String {
    assert!(workspace.info().await.unwrap().task_running, "it does not run");
    said(sh(workspace, &format!("cd /data && export LC_ALL=C && {LIST}")).await)
}

/// What GNU tar makes of an archive.
fn tree_of(archive: &Path) -> String {
    let dir = in_memory(64 * MIB).map_or_else(tempfile::tempdir, tempfile::tempdir_in).unwrap();
    run(Command::new("tar").args(["--numeric-owner", "-xpf"]).arg(archive).arg("-C").arg(dir.path()));
    run(Command::new("sh").args(["-c", LIST]).env("LC_ALL", "C").current_dir(dir.path()))
        .trim_end()
        .to_owned()
}

/// What is preserved, the newest first. All archives are whole, and nothing else is there.
async fn preserved(config: &Config, workspace: &Workspace) -> Vec<PreservedData> {
    let list = workspace.data().preserved(PreservedOptions::default()).await.unwrap().preserved;
    let mut files = Vec::new();
    for one in &list {
        files.push(format!("{}.json", one.generation));
        let Some(path) = &one.path else { continue };
        files.push(format!("{}.tar.gz", one.generation));
        let sum = run(Command::new("sha256sum").arg(path));
        assert_eq!(one.digest.as_deref().unwrap().trim_start_matches("sha256:"), &sum[..64]);
        run(Command::new("tar").args(["-tzf", path]));
    }
    files.sort();
    let dir = config.data_root.join("backups").join(workspace.id());
    assert_eq!(names(&dir).into_iter().collect::<Vec<_>>(), files, "something is left half made");
    list
}

fn numbers(list: &[PreservedData]) -> Vec<u64> {
    list.iter().map(|one| one.generation).collect()
}

/// What is staged beside snapshots.
fn staged(rig: &Rig) -> Vec<String> {
    let snapshots = rig.containerd.dir().join("root/io.containerd.snapshotter.v1.overlayfs/snapshots");
    let within = names(&snapshots).into_iter().flat_map(|one| names(&snapshots.join(one)));
    within.filter(|name| name != "fs" && name != "work").collect()
}

/// An operation that is told from its error alone: done, or no room.
#[track_caller]
fn had_room<T>(result: Result<T, Error>, what: &str) -> Option<T> {
    match result {
        Ok(done) => Some(done),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{what}: {error}");
            None
        }
    }
}

/// Counts what came of tries, of which some have to end either way.
#[derive(Debug, Default)]
struct Ends {
    done: u64,
    not: u64,
}

impl Ends {
    fn add(&mut self, done: bool) {
        *(if done { &mut self.done } else { &mut self.not }) += 1;
    }

    #[track_caller]
    fn tell(&self, what: &str) {
        println!("{what}: {self:?}");
        assert!(self.done > 0 && self.not > 0, "{what} was not tried: {self:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_has_whole_archives_or_none() {
    let rig = rig_on(|root| memory(root, 256 * MIB));
    let data_root = rig.containerd.dir().join("root/w");
    let disk = Disk::mount(&rig.containerd.dir().join("full"), 24 * MIB);
    let backups = Disk::mount(&data_root.join("backups"), 24 * MIB);
    let config = rig.config().data_root(&data_root);
    let engine = Engine::open(config.clone()).await.unwrap();
    let image = rig.pulled(&engine, "busybox").await;
    let workspace = running(&engine, "full", &image).await;
    said(sh(&workspace, FILL).await);
    let before = tree(&workspace).await;
    let mut random = Random::new("archives on a full disk");

    let archive = disk.0.join("data.tar.gz");
    let need = workspace.data().export(to(&archive)).await.unwrap().archive_bytes;
    std::fs::remove_file(&archive).unwrap();
    let mut ends = Ends::default();
    for turn in 0..FILLS {
        let room = room(&mut random, turn, need, 4 << 10);
        disk.leave(room);
        let what = format!("export of {need} bytes into {room}");
        let done = had_room(workspace.data().export(to(&archive)).await, &what);
        println!("{what}: {}", done.is_some());
        ends.add(done.is_some());
        if done.is_some() {
            assert!(tree_of(&archive) == before, "{what}: the archive is not whole");
            std::fs::remove_file(&archive).unwrap();
        }
        assert_eq!(disk.names(), Vec::<String>::new(), "{what}");
        assert!(tree(&workspace).await == before, "{what}: the data changed");
    }
    ends.tell("export");

    // As many as are kept, each of other data; then the oldest goes whenever one is added.
    let mut kept = vec![before];
    workspace.data().preserve(preserve(PreserveForm::Archive)).await.unwrap();
    for _ in 1..config.data.keep_generations {
        said(sh(&workspace, "date +%s%N > /data/one; head -c 4000 /dev/urandom > /data/a/1").await);
        kept.push(tree(&workspace).await);
        workspace.data().preserve(preserve(PreserveForm::Archive)).await.unwrap();
    }
    let mut ends = Ends::default();
    for turn in 0..FILLS {
        said(sh(&workspace, "head -c 4000 /dev/urandom > /data/a/1").await);
        let now = tree(&workspace).await;
        let list = numbers(&preserved(&config, &workspace).await);
        let room = room(&mut random, turn, need, 4 << 10);
        backups.leave(room);
        let what = format!("preserving {need} bytes in {room}");
        let done = had_room(workspace.data().preserve(preserve(PreserveForm::Archive)).await, &what);
        println!("{what}: {}", done.is_some());
        ends.add(done.is_some());
        let after = preserved(&config, &workspace).await;
        match done {
            Some(_) => {
                let path = after[0].path.clone().unwrap();
                assert!(tree_of(Path::new(&path)) == now, "{what}: the archive is not whole");
                kept.push(now.clone());
            }
            None => assert_eq!(numbers(&after), list, "{what}"),
        }
        assert!(tree(&workspace).await == now, "{what}: the data changed");
    }
    ends.tell("preserve");
    // A snapshot needs no room but for its description.
    backups.leave(0);
    let list = numbers(&preserved(&config, &workspace).await);
    let now = tree(&workspace).await;
    let free = backups.free();
    let done = workspace.data().preserve(preserve(PreserveForm::Snapshot)).await;
    let done = had_room(done, "preserving as a snapshot");
    assert!(done.is_none(), "there was room: {free} bytes");
    assert_eq!(numbers(&preserved(&config, &workspace).await), list);
    assert_eq!(tree(&workspace).await, now);
    // All of them come back, with room and without.
    let generations = numbers(&preserved(&config, &workspace).await);
    for (room, generation) in
        [MIB, 0].into_iter().flat_map(|room| generations.iter().map(move |g| (room, *g)))
    {
        backups.leave(room);
        workspace.data().restore(restore(generation)).await.unwrap();
        assert!(
            tree(&workspace).await == kept[generation as usize - 1],
            "{generation} with {room} bytes left"
        );
        assert_eq!(numbers(&preserved(&config, &workspace).await), generations);
    }
    backups.clear();
    workspace.delete(common::kill()).await.unwrap();
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_below_an_import_keeps_the_data() {
    let disk = RefCell::new(None);
    let rig = rig_on(|root| *disk.borrow_mut() = Some(Disk::mount(root, 64 * MIB)));
    let disk = disk.take().unwrap();
    let scratch = rig.containerd.dir().join("archives");
    std::fs::create_dir(&scratch).unwrap();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "busybox").await;
    let workspace = running(&engine, "filling", &image).await;
    let mut random = Random::new("imports on a full disk");
    for mode in [ImportMode::Replace, ImportMode::Merge] {
        let (archives, trees) = two(&workspace, &scratch, mode).await;
        let begun = disk.free();
        let need = run(Command::new("sh").args(["-c", "gzip -dc \"$0\" | wc -c"]).arg(&archives[0]));
        let need: u64 = need.trim().parse().unwrap();
        let (mut now, mut ends) = (1, Ends::default());
        for turn in 0..FILLS {
            let room = room(&mut random, turn, need, 96 << 10);
            disk.leave(room);
            let what = format!("{mode:?} of {need} bytes into {room}");
            let next = 1 - now;
            let done = had_room(workspace.data().import(from(&archives[next]).mode(mode)).await, &what);
            println!("{what}: {}", done.is_some());
            ends.add(done.is_some());
            if done.is_some() {
                now = next;
            }
            // It runs, though nothing was made free for it.
            assert!(tree(&workspace).await == trees[now], "{what}: the data is neither the old nor the new");
            assert_eq!(staged(&rig), Vec::<String>::new(), "{what}");
        }
        ends.tell(&format!("import {mode:?}"));
        disk.clear();
        workspace.data().import(from(&archives[1]).mode(mode)).await.unwrap();
        assert!(tree(&workspace).await == trees[1]);
        println!("free before {begun}, after {}", disk.free());
        std::fs::remove_dir_all(&scratch).unwrap();
        std::fs::create_dir(&scratch).unwrap();
    }
    workspace.delete(common::kill()).await.unwrap();
    engine.close().await;
}

/// Two archives of the same names, and what the data directory is with each of them imported: at the end the second. Where
/// they are merged into what is there, that has a file of its own.
async fn two(workspace: &Workspace, scratch: &Path, mode: ImportMode) -> ([PathBuf; 2], [String; 2]) {
    let archives = ["one", "two"].map(|name| scratch.join(format!("{name}.tar.gz")));
    for archive in &archives {
        said(sh(workspace, FILL).await);
        workspace.data().export(to(archive).overwrite(true)).await.unwrap();
    }
    said(sh(workspace, "echo own > /data/own").await);
    let mut trees = Vec::new();
    for archive in &archives {
        workspace.data().import(from(archive).mode(mode)).await.unwrap();
        let tree = tree(workspace).await;
        assert_eq!(tree.contains("./own"), mode == ImportMode::Merge);
        assert!(mode == ImportMode::Merge || tree == tree_of(archive));
        trees.push(tree);
    }
    let trees: [String; 2] = trees.try_into().unwrap();
    assert_ne!(trees[0], trees[1]);
    (archives, trees)
}

/// Lets an operation end once, then cancels it at random moments. `look` is told what it had for a result, none where it
/// was cancelled. Returns how often that was so.
async fn cancel<T: Debug + Send + 'static>(
    what: &str,
    begin: impl Fn() -> Operation<T>,
    mut look: impl AsyncFnMut(Option<T>),
) -> u64 {
    let mut random = Random::new(what);
    let began = Instant::now();
    let done = begin().await.unwrap();
    let whole = began.elapsed().as_micros() as u64;
    look(Some(done)).await;
    let mut ends = Ends::default();
    for _ in 0..CANCELS {
        let moment = Duration::from_micros(random.below(whole));
        let operation = begin();
        let token = operation.cancel_token();
        let canceller = tokio::spawn(async move {
            tokio::time::sleep(moment).await;
            token.cancel();
        });
        let result = operation.await;
        canceller.abort();
        if let Err(error) = &result {
            assert_eq!(error.kind(), ErrorKind::Cancelled, "{what} after {moment:?}: {error}");
        }
        ends.add(result.is_ok());
        println!("{what}, cancelled after {moment:?} of {whole} us: {}", result.is_ok());
        look(result.ok()).await;
    }
    println!("{what}: {ends:?}");
    ends.not
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_cancelled_whenever_leaves_whole_data() {
    let rig = rig_on(|root| memory(root, 512 * MIB));
    let config = rig.config().data_root(rig.containerd.dir().join("root/w"));
    let engine = Engine::open(config.clone()).await.unwrap();
    let images = [rig.pulled(&engine, "busybox").await, rig.pulled(&engine, "schema2").await];
    let scratch = rig.containerd.dir().join("root/archives");
    std::fs::create_dir(&scratch).unwrap();
    let workspace = running(&engine, "cut", &images[0]).await;
    let (data, now) = (workspace.data(), Cell::new(1));
    let mut cut = 0;
    let next = || 1 - now.get();

    for mode in [ImportMode::Merge, ImportMode::Replace] {
        let (archives, trees) = two(&workspace, &scratch, mode).await;
        now.set(1);
        let begin = || data.import(from(&archives[next()]).mode(mode));
        cut += cancel(&format!("import {mode:?}"), begin, async |done| {
            if done.is_some() {
                now.set(next());
            }
            assert!(tree(&workspace).await == trees[now.get()]);
            assert_eq!(staged(&rig), Vec::<String>::new());
        })
        .await;
    }
    said(sh(&workspace, FILL).await);
    let before = tree(&workspace).await;
    let out = scratch.join("out");
    std::fs::create_dir(&out).unwrap();
    let archive = out.join("data.tar.gz");
    let exporting = || data.export(to(&archive));
    cut += cancel("export", exporting, async |done: Option<DataExportResult>| {
        if done.is_some() {
            assert!(tree_of(&archive) == before, "the archive is not whole");
            std::fs::remove_file(&archive).unwrap();
        }
        assert!(names(&out).is_empty(), "{:?}", names(&out));
        assert_eq!(tree(&workspace).await, before);
    })
    .await;

    for form in [PreserveForm::Archive, PreserveForm::Snapshot] {
        let list = RefCell::new(Vec::new());
        cut += cancel(
            &format!("preserve {form:?}"),
            || data.preserve(preserve(form)),
            async |done| {
                let after = numbers(&preserved(&config, &workspace).await);
                match done {
                    Some(done) => {
                        assert_eq!(after.first(), done.preserved.map(|one| one.generation).as_ref())
                    }
                    None => assert_eq!(after, *list.borrow()),
                }
                list.replace(after);
                assert_eq!(tree(&workspace).await, before);
            },
        )
        .await;
        // The newest is of this form, and so is the next, of other data.
        said(sh(&workspace, FILL).await);
        let other = tree(&workspace).await;
        let newest = data.preserve(preserve(form)).await.unwrap().preserved.unwrap().generation;
        let trees = [&before, &other];
        now.set(1);
        let begin = || data.restore(restore(newest - 1 + next() as u64));
        cut += cancel(&format!("restore {form:?}"), begin, async |done| {
            if done.is_some() {
                now.set(next());
            }
            assert!(tree(&workspace).await == *trees[now.get()]);
            assert_eq!(staged(&rig), Vec::<String>::new());
        })
        .await;
        data.restore(restore(newest - 1)).await.unwrap();
        assert_eq!(tree(&workspace).await, before);
    }

    now.set(0);
    let begin = || workspace.recreate(RecreateOptions::default().image(&images[next()]).grace_ms(0u64));
    cut += cancel("recreate", begin, async |done| {
        if done.is_some() {
            now.set(next());
        }
        assert_eq!(workspace.info().await.unwrap().image, images[now.get()]);
        assert_eq!(tree(&workspace).await, before);
    })
    .await;

    for form in [PreserveForm::Archive, PreserveForm::Snapshot] {
        let deleting = || {
            workspace.delete(DeleteOptions::default().grace_ms(0u64).preserve_data(true).preserve_form(form))
        };
        cut += cancel(&format!("delete {form:?}"), deleting, async |done| {
            if let Some(done) = done {
                assert_eq!(workspace.info().await.unwrap_err().kind(), ErrorKind::NotFound);
                assert_eq!(done.preserved.unwrap().form, form);
                let create = CreateOptions::default().image(&images[0]).restore_data(true);
                assert!(workspace.create(create).await.unwrap().data_restored);
            }
            preserved(&config, &workspace).await;
            assert_eq!(tree(&workspace).await, before);
        })
        .await;
    }
    for one in preserved(&config, &workspace).await {
        data.discard(DataDiscardOptions::default().generation(one.generation)).await.unwrap();
    }
    workspace.delete(common::kill()).await.unwrap();
    assert_eq!(rig.snapshots_of("cut"), 0);
    assert!(cut > 0, "nothing was cancelled in time");
    engine.close().await;
}
