//! Files of workspaces that do not run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use common::{Rig, fails, kill, remove, running, said, sh};
use dunnage::types::{
    CopyOptions, CreateOptions, GlobOptions, GrepOptions, ListDirOptions, OpenReadOptions, ReadOptions,
    RunOptions, SkillListOptions, StartOptions, StatOptions, StopOptions, SymlinkOptions, WatchOptions,
    WriteOptions,
};
use dunnage::{Engine, ErrorKind, Workspace};

async fn stop(workspace: &Workspace) {
    workspace.stop(StopOptions::default().grace_ms(0_u64)).await.unwrap();
}

async fn start(workspace: &Workspace) {
    workspace.start(StartOptions::default()).await.unwrap();
}

fn read(path: &str) -> ReadOptions {
    ReadOptions::default().path(path)
}

fn write(path: &str) -> WriteOptions {
    WriteOptions::default().path(path)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_can_be_read_and_what_is_changed_is_there_afterwards() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "busybox").await;
    let before = rig.count();
    let workspace = running(&engine, "rest", &image).await;
    said(sh(&workspace, "echo inside > /data/file; mkdir -p /srv/deep; ln -s /data/file /srv/link").await);
    stop(&workspace).await;

    let fs = workspace.fs();
    assert_eq!(fs.read(read("file")).await.unwrap(), "inside\n");
    assert_eq!(fs.read(read("/srv/link")).await.unwrap(), "inside\n");
    assert_eq!(fs.stat(StatOptions::default().path("/srv/deep")).await.unwrap().path, "/srv/deep");
    let listed = fs.list(ListDirOptions::default().path("/data")).await.unwrap();
    assert_eq!(listed.entries.iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>(), ["/data/file"]);
    let written = fs.write(write("new/file").mode("0640"), "new\n").await.unwrap();
    assert_eq!(written.bytes_written, 4);
    let conflict = fs.write(write("new/file").expected_revision("absent"), "other").await;
    fails(conflict, ErrorKind::Conflict, &["rest"]);
    fs.write(write("new/file").expected_revision(written.revision.unwrap()), "newer\n").await.unwrap();
    fs.copy(CopyOptions::default().from("/data/new").to("/srv/copied")).await.unwrap();
    assert_eq!(fs.grep(GrepOptions::default().pattern("newer").path("/srv")).await.unwrap().matches.len(), 1);
    assert_eq!(fs.glob(GlobOptions::default().pattern("**/file").path("/")).await.unwrap().entries.len(), 3);
    fails(fs.read(read("/nothing")).await, ErrorKind::NotFound, &["/nothing"]);
    assert!(workspace.skills().list(SkillListOptions::default()).await.unwrap().skills.is_empty());
    // Piece by piece, of many megabytes.
    let writer = fs.open_write(write("big")).await.unwrap();
    for _ in 0..20 {
        writer.write(vec![7; 1 << 20]).await.unwrap();
    }
    assert_eq!(writer.finish().await.unwrap().bytes_written, 20 << 20);
    drop(writer);
    let reader = fs.open_read(OpenReadOptions::default().path("big")).await.unwrap();
    let mut total = 0;
    while let Some(piece) = reader.next_chunk().await.unwrap() {
        total += piece.len();
    }
    assert_eq!(total, 20 << 20);
    drop(reader);
    // Commands, and what goes on without end, need one that runs.
    let run = workspace.exec().run(RunOptions::default().command("true"), "").await;
    fails(run, ErrorKind::Unavailable, &["start it"]);
    let watch = fs.watch(WatchOptions::default().path("/data")).await;
    fails(watch.map(drop), ErrorKind::Unavailable, &["start it"]);
    assert_eq!(std::fs::read_dir(rig.containerd.data_root().join("run")).unwrap().count(), 1);

    start(&workspace).await;
    assert_eq!(
        said(sh(&workspace, "cat new/file /srv/copied/file; stat -c %a new/file; wc -c < big").await),
        "newer\nnewer\n640\n20971520"
    );
    remove(&workspace).await;
    engine.close().await;
    rig.settle(&before);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_host_can_be_reached() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.add("busybox");
    let workspace = running(&engine, "fence", &image).await;
    let outside = rig.containerd.dir().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "of the host").unwrap();
    let (outside, inode) = (outside.display().to_string(), outside.metadata().unwrap().ino());
    // Everything by which a tree could lead out: links, absolute and not, in the middle and at the end, and devices.
    let traps = format!(
        "mkdir /t; ln -s {outside} /t/dir; ln -s ../../../../../../../..{outside} /t/up; ln -s /t/dir/secret /t/file; \
         ln -s /proc/self/root{outside} /t/magic; ln -s /t/loop /t/loop; mkfifo /t/fifo; mknod /t/zero c 1 5; \
         rm -rf /data; ln -s {outside} /data"
    );
    said(sh(&workspace, &format!("cd /; {traps}")).await);
    stop(&workspace).await;
    let fs = workspace.fs();
    for path in ["/t/dir/secret", "/t/up/secret", "/t/file", "/t/magic/secret", "/data/secret", "secret"] {
        fails(fs.read(read(path)).await, ErrorKind::NotFound, &["fence"]);
    }
    for path in ["/t/loop", "/t/fifo", "/t/zero"] {
        let error = fs.read(read(path)).await.unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::FailedPrecondition | ErrorKind::InvalidArgument),
            "{error}"
        );
    }
    // Whether these can be written or not, it is below the root.
    for path in ["/t/dir/new", "/t/up/new", "/t/file", "/data/new", "../../../../new"] {
        let _ = fs.write(write(path), "x").await;
    }
    let _ = fs.symlink(SymlinkOptions::default().target(&outside).path("/t/dir/link")).await;
    let left: Vec<_> = std::fs::read_dir(&outside).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["secret"]);
    assert_eq!(std::fs::read(Path::new(&outside).join("secret")).unwrap(), b"of the host");
    assert_eq!(Path::new(&outside).metadata().unwrap().ino(), inode);
    remove(&workspace).await;
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_open_keep_it_from_being_started() {
    let rig = Rig::start();
    let mut config = rig.config();
    config.time_limits.lock_ms = 500;
    let engine = Engine::open(config).await.unwrap();
    let image = rig.add("busybox");
    let workspace = running(&engine, "held", &image).await;
    stop(&workspace).await;
    let writer = workspace.fs().open_write(write("half")).await.unwrap();
    writer.write("half of it").await.unwrap();
    fails(workspace.start(StartOptions::default()).await, ErrorKind::Timeout, &["held"]);
    // Another process waits for it as well.
    let other = Engine::open(rig.config()).await.unwrap();
    let (there, here) = (other.workspace("held").unwrap(), workspace.clone());
    let starting = tokio::spawn(async move { there.start(StartOptions::default()).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!starting.is_finished());
    drop(writer);
    starting.await.unwrap().unwrap();
    assert_eq!(said(sh(&here, "ls -A /data").await), "", "what was not finished is not there");
    other.close().await;
    remove(&workspace).await;
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_belong_to_the_user_that_the_workspace_runs_as() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    for (id, snapshotter) in [("app", "overlayfs"), ("app-native", "native")] {
        let image = rig.add("user");
        let workspace = engine.workspace(id).unwrap();
        let options = CreateOptions::default().image(&image).snapshotter(snapshotter);
        workspace.create(options).await.unwrap();
        stop(&workspace).await;
        let fs = workspace.fs();
        fs.write(write("mine"), "x").await.unwrap();
        fails(fs.write(write("/etc/theirs"), "x").await, ErrorKind::PermissionDenied, &["/etc/theirs"]);
        start(&workspace).await;
        assert_eq!(
            said(sh(&workspace, "stat -c '%U %a' mine && echo y >> mine && cat mine").await),
            "app 644\nxy"
        );
        workspace.delete(kill()).await.unwrap();
    }
    engine.close().await;
}
