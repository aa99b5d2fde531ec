//! A workspace's data directory on a real containerd: taken out, put in, and safe from whatever either side holds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use common::data::{from, to};
use common::{Rig, said, sh};
use dunnage::types::{
    Consistency, CreateOptions, DataDiscardOptions, DataExportOptions, DataImportOptions,
    DataPreserveOptions, DataRestoreOptions, DeleteOptions, EventType, ImportMode, PreserveForm,
    PreservedOptions, RecreateOptions, S3Options, SealOptions, SnapshotCreateOptions,
    SnapshotRollbackOptions, StopOptions, UnsealOptions,
};
use dunnage::{Engine, ErrorKind, Workspace};
use dunnage_harness::S3;

async fn workspace(rig: &Rig, engine: &Engine, id: &str) -> Workspace {
    let image = rig.add("busybox");
    let workspace = engine.workspace(id).unwrap();
    workspace.create(CreateOptions::default().image(image)).await.unwrap();
    workspace
}

fn tar(arguments: &[&str]) -> String {
    let out = Command::new("tar").args(arguments).output().unwrap();
    assert!(out.status.success(), "tar {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// All that shows of the data directory from inside.
async fn tree(workspace: &Workspace) -> String {
    said(sh(workspace, "cd /data && find . | sort | while read -r f; do stat -c '%n %A %u %g %s %Y' \"$f\"; done; find . -type f -exec md5sum {} + | sort").await)
}

const FILL: &str = "mkdir -p /data/a/b /data/empty && echo one > /data/a/one && echo two > '/data/a/b/t w o' && \
    ln -s ../../../etc/passwd /data/a/link && ln /data/a/one /data/hard && mkfifo /data/pipe && chmod 4755 /data/hard && \
    chown 12:34 /data/a/b && touch -d '2001-02-03 04:05:06' '/data/a/b/t w o' && chmod 0750 /data";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_comes_back() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let workspace = workspace(&rig, &engine, "round").await;
    let scratch = tempfile::tempdir().unwrap();
    said(sh(&workspace, FILL).await);
    let before = tree(&workspace).await;
    let archive = scratch.path().join("data.tar.gz");
    let mut operation = workspace.data().export(to(&archive));
    let mut events = operation.events().unwrap();
    let exported = operation.await.unwrap();
    let mut kinds = Vec::new();
    while let Some(event) = events.next().await {
        if kinds.last() != Some(&event.kind) {
            kinds.push(event.kind);
        }
    }
    use EventType::{Complete, DataProgress, Exporting, Starting, Stopping};
    assert_eq!(kinds, [Stopping, Exporting, DataProgress, Starting, Complete]);
    assert_eq!(std::fs::metadata(&archive).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(exported.archive_bytes, std::fs::metadata(&archive).unwrap().len());
    let listed = tar(&["tzf", &archive.display().to_string()]);
    assert_eq!(listed.lines().count() as u64, exported.entries, "{listed}");
    let sum = Command::new("sha256sum").arg(&archive).output().unwrap().stdout;
    assert!(exported.digest.ends_with(std::str::from_utf8(&sum[..64]).unwrap()));
    assert!(workspace.info().await.unwrap().task_running, "it runs again");

    // It is not replaced unless asked for.
    let error = workspace.data().export(to(&archive)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    workspace.data().export(to(&archive).overwrite(true)).await.unwrap();

    // Replaced by what was exported, whatever is there by now.
    said(sh(&workspace, "rm -rf /data/a; echo new > /data/new; chmod 0700 /data").await);
    let imported = workspace.data().import(from(&archive).digest(&exported.digest)).await.unwrap();
    assert_eq!((imported.entries, imported.bytes), (exported.entries, exported.bytes));
    assert_eq!(tree(&workspace).await, before);
    assert_eq!(rig.ctr(&["snapshots", "ls"]).matches("dunnage-").count(), 0);

    // A merge keeps what is there, and replaces what has the same name.
    said(sh(&workspace, "echo new > /data/new; echo changed > /data/a/one; rm -r /data/empty").await);
    workspace.data().import(from(&archive).mode(ImportMode::Merge)).await.unwrap();
    assert_eq!(
        said(sh(&workspace, "cat /data/new /data/a/one; ls -d /data/empty").await),
        "new\none\n/data/empty"
    );

    // Another digest than asked for: nothing changes.
    let kept = tree(&workspace).await;
    let wrong = from(&archive).digest(format!("sha256:{}", "0".repeat(64)));
    let error = workspace.data().import(wrong).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataCorrupt, "{error}");
    assert_eq!(tree(&workspace).await, kept);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_workspace_and_one_without_data_are_exported_too() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let workspace = workspace(&rig, &engine, "still").await;
    let scratch = tempfile::tempdir().unwrap();
    let archive = scratch.path().join("data.tar");
    said(sh(&workspace, "rm -rf /data").await);
    let nothing = workspace.data().export(to(&archive)).await.unwrap();
    assert_eq!(nothing.entries, 0);
    assert_eq!(tar(&["tzf", &archive.display().to_string()]), "");
    workspace.stop(StopOptions::default().grace_ms(0u64)).await.unwrap();
    workspace.data().import(from(&archive)).await.unwrap();
    assert!(!workspace.info().await.unwrap().task_running, "it stays stopped");
    let exported = workspace.data().export(to(&archive).overwrite(true)).await.unwrap();
    assert_eq!((exported.entries, exported.downtime_ms), (1, 0));
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_workspace_is_frozen_or_left_alone() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let workspace = workspace(&rig, &engine, "live").await;
    let scratch = tempfile::tempdir().unwrap();
    said(sh(&workspace, FILL).await);
    let pid = workspace.info().await.unwrap().pid;
    for consistency in [Consistency::Pause, Consistency::Live] {
        let archive = scratch.path().join(format!("{consistency:?}.tar.gz"));
        let exported = workspace.data().export(to(&archive).consistency(consistency)).await.unwrap();
        assert!(exported.entries > 5);
        let info = workspace.info().await.unwrap();
        assert!(info.task_running && info.pid == pid, "the same process runs on");
        tar(&["tzf", &archive.display().to_string()]);
    }
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_and_streams_carry_archives() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let workspace = workspace(&rig, &engine, "streams").await;
    said(sh(&workspace, FILL).await);
    let before = tree(&workspace).await;

    let (mut read, write) = std::io::pipe().unwrap();
    let options = DataExportOptions::default().fd(write.as_raw_fd()).grace_ms(0u64);
    let exporting = workspace.data().export(options);
    drop(write);
    let collected = tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        read.read_to_end(&mut all).unwrap();
        all
    });
    let exported = exporting.await.unwrap();
    let archive = collected.await.unwrap();
    assert_eq!(archive.len() as u64, exported.archive_bytes);

    said(sh(&workspace, "rm -rf /data/*").await);
    let (read, mut write) = std::io::pipe().unwrap();
    let importing = workspace.data().import(DataImportOptions::default().fd(read.as_raw_fd()).grace_ms(0u64));
    drop(read);
    let sent = archive.clone();
    tokio::task::spawn_blocking(move || write.write_all(&sent).unwrap());
    importing.await.unwrap();
    assert_eq!(tree(&workspace).await, before);

    said(sh(&workspace, "rm -rf /data/*").await);
    let reader = std::io::Cursor::new(archive);
    workspace.data().import_from(DataImportOptions::default().grace_ms(0u64), reader).await.unwrap();
    assert_eq!(tree(&workspace).await, before);

    // A reader that goes away ends the export; one that never reads does not keep a cancellation from being heard.
    let (read, write) = std::io::pipe().unwrap();
    said(sh(&workspace, "head -c 3000000 /dev/urandom > /data/much").await);
    let exporting =
        workspace.data().export(DataExportOptions::default().fd(write.as_raw_fd()).grace_ms(0u64));
    drop(write);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    exporting.cancel();
    assert_eq!(exporting.await.unwrap_err().kind(), ErrorKind::Cancelled);
    let (gone, write) = std::io::pipe().unwrap();
    drop((read, gone));
    let exporting =
        workspace.data().export(DataExportOptions::default().fd(write.as_raw_fd()).grace_ms(0u64));
    drop(write);
    exporting.await.unwrap_err();
    assert!(workspace.info().await.unwrap().task_running);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn preserved_data_outlives_its_workspace() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.add("busybox");
    let create = || CreateOptions::default().image(&image);
    for form in [PreserveForm::Archive, PreserveForm::Snapshot] {
        let id = format!("kept-{form:?}").to_lowercase();
        let workspace = workspace(&rig, &engine, &id).await;
        assert!(workspace.data().preserved(PreservedOptions::default()).await.unwrap().preserved.is_empty());
        assert_eq!(restore_error(&workspace).await, ErrorKind::NotFound);
        said(sh(&workspace, FILL).await);
        let before = tree(&workspace).await;

        let kept = workspace
            .data()
            .preserve(DataPreserveOptions::default().form(form).grace_ms(0u64))
            .await
            .unwrap();
        let kept = kept.preserved.unwrap();
        assert_eq!((kept.generation, kept.form), (1, form));
        assert!(workspace.info().await.unwrap().has_preserved_data);
        if let Some(path) = &kept.path {
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(Path::new(path)), mode(Path::new(path).parent().unwrap())), (0o600, 0o700));
            assert_eq!(tar(&["tzf", path]).lines().count() as u64, kept.entries);
            let newest = rig.config().data_root.join(format!("backups/{id}.tar.gz"));
            assert_eq!(std::fs::read(newest).unwrap(), std::fs::read(path).unwrap());
        }
        said(sh(&workspace, "rm -rf /data/*; echo later > /data/later").await);
        let back = workspace.data().restore(DataRestoreOptions::default().grace_ms(0u64)).await.unwrap();
        assert_eq!(back.restored.generation, 1);
        assert_eq!(tree(&workspace).await, before);
        // What was put back is the workspace's own: changing it changes nothing that is preserved.
        said(sh(&workspace, "echo scribble >> /data/a/one; rm /data/a/link").await);
        workspace
            .data()
            .restore(DataRestoreOptions::default().generation(1u64).grace_ms(0u64))
            .await
            .unwrap();
        assert_eq!(tree(&workspace).await, before);

        // Deleted, and made again with its data, as often as one likes.
        for generation in [2, 3, 4] {
            let options = DeleteOptions::default().grace_ms(0u64).preserve_data(true).preserve_form(form);
            let deleted = workspace.delete(options).await.unwrap();
            assert_eq!(deleted.preserved.unwrap().generation, generation);
            assert_eq!(
                rig.snapshots_of(&id),
                if form == PreserveForm::Snapshot { 3.min(generation as usize) } else { 0 }
            );
            rig.collect();
            let made = workspace.create(create().restore_data(true)).await.unwrap();
            assert!(made.data_restored && made.has_preserved_data);
            assert_eq!(tree(&workspace).await, before);
        }
        let list = workspace.data().preserved(PreservedOptions::default()).await.unwrap().preserved;
        assert_eq!(list.iter().map(|one| one.generation).collect::<Vec<_>>(), [4, 3, 2]);
        assert!(list[0].restored_at.is_some() && list[1].restored_at.is_some());
        // Versions made since then, and going back, work on it as on anything else.
        workspace.snapshots().create(SnapshotCreateOptions::default().grace_ms(0u64)).await.unwrap();
        said(sh(&workspace, "rm -rf /data/a").await);
        let back = SnapshotRollbackOptions::default().version(1u64).discard(true).grace_ms(0u64);
        workspace.snapshots().rollback(back).await.unwrap();
        assert_eq!(tree(&workspace).await, before);
        for one in list {
            workspace.data().discard(DataDiscardOptions::default().generation(one.generation)).await.unwrap();
        }
        assert!(!workspace.info().await.unwrap().has_preserved_data);
        workspace.delete(DeleteOptions::default().grace_ms(0u64)).await.unwrap();
        assert_eq!(rig.snapshots_of(&id), 0);
        assert_eq!(std::fs::read_dir(rig.config().data_root.join("backups").join(&id)).unwrap().count(), 0);
        assert!(!rig.config().data_root.join(format!("backups/{id}.tar.gz")).exists());
    }
    engine.close().await;
}

async fn restore_error(workspace: &Workspace) -> ErrorKind {
    workspace.data().restore(DataRestoreOptions::default()).await.unwrap_err().kind()
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_older_implementations_is_taken_over_once() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.add("busybox");
    let bots = rig.config().data_root.join("bots");
    let old = bots.join("old");
    std::fs::create_dir_all(old.join("deep/er")).unwrap();
    std::fs::write(old.join("deep/er/file"), "old").unwrap();
    std::fs::set_permissions(old.join("deep"), PermissionsExt::from_mode(0o2710)).unwrap();
    std::os::unix::fs::chown(old.join("deep/er/file"), Some(77), Some(78)).unwrap();
    std::fs::set_permissions(old.join("deep/er/file"), PermissionsExt::from_mode(0o4640)).unwrap();
    let workspace = engine.workspace("old").unwrap();
    // A creation that fails leaves it as it was.
    let bad = CreateOptions::default().image(format!("{}/no/such:thing", rig.registry.host()));
    workspace.create(bad).await.unwrap_err();
    assert!(old.is_dir());
    let made = workspace.create(CreateOptions::default().image(&image)).await.unwrap();
    assert!(made.data_restored);
    let shown =
        said(sh(&workspace, "cd /data; stat -c '%n %a %u:%g' deep deep/er/file; cat deep/er/file").await);
    assert_eq!(shown, "deep 2710 0:0\ndeep/er/file 4640 77:78\nold");
    assert!(!old.exists() && bots.join("old.migrated/deep/er/file").is_file());
    // Not again.
    workspace.delete(DeleteOptions::default().grace_ms(0u64)).await.unwrap();
    let made = workspace.create(CreateOptions::default().image(&image)).await.unwrap();
    assert!(!made.data_restored);
    said(sh(&workspace, "! ls /data/deep").await);

    // An archive where it was kept before is the newest that is preserved; an empty one is nothing.
    let backups = rig.config().data_root.join("backups");
    std::fs::write(backups.join("old.tar.gz"), "").unwrap();
    assert_eq!(restore_error(&workspace).await, ErrorKind::NotFound);
    tar(&[
        "czf",
        &backups.join("old.tar.gz").display().to_string(),
        "-C",
        &bots.join("old.migrated").display().to_string(),
        ".",
    ]);
    let list = workspace.data().preserved(PreservedOptions::default()).await.unwrap().preserved;
    assert_eq!(list.len(), 1);
    workspace.data().restore(DataRestoreOptions::default().grace_ms(0u64)).await.unwrap();
    assert_eq!(said(sh(&workspace, "cat /data/deep/er/file").await), "old");
    let kept = workspace.data().preserve(DataPreserveOptions::default().grace_ms(0u64)).await.unwrap();
    assert_eq!(kept.preserved.unwrap().generation, 2);
    let list = workspace.data().preserved(PreservedOptions::default()).await.unwrap().preserved;
    assert_eq!(list.iter().map(|one| one.generation).collect::<Vec<_>>(), [2, 1]);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshotter_without_layers_has_archives() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.add("busybox");
    let create = || CreateOptions::default().image(&image).snapshotter("native");
    let workspace = engine.workspace("native").unwrap();
    workspace.create(create()).await.unwrap();
    said(sh(&workspace, FILL).await);
    let before = tree(&workspace).await;
    let scratch = tempfile::tempdir().unwrap();
    let archive = scratch.path().join("data.tar.zst");
    workspace.data().export(to(&archive)).await.unwrap();
    said(sh(&workspace, "rm -rf /data/a; echo more > /data/more").await);
    workspace.data().import(from(&archive).mode(ImportMode::Merge)).await.unwrap();
    said(sh(&workspace, "rm /data/more").await);
    workspace.data().import(from(&archive)).await.unwrap();
    assert_eq!(tree(&workspace).await, before);
    assert_eq!(said(sh(&workspace, "ls -a / | grep dunnage; true").await), "");
    // It is made anew with a copy, and what it was is a version as elsewhere. Whatever is copied by containerd's
    // native snapshotter has other times on its directories.
    let undated = |tree: &str| -> Vec<String> {
        let line = |line: &str| line.split_once(" d").map_or(line, |(name, _)| name).to_owned();
        tree.lines().map(line).collect()
    };
    let before = undated(&before);
    let made = workspace.recreate(RecreateOptions::default().grace_ms(0u64)).await.unwrap();
    assert!(made.started);
    assert_eq!(undated(&tree(&workspace).await), before);
    said(sh(&workspace, "echo later > /data/later").await);
    let back = SnapshotRollbackOptions::default().version(made.kept_version).discard(true).grace_ms(0u64);
    workspace.snapshots().rollback(back).await.unwrap();
    assert_eq!(undated(&tree(&workspace).await), before);
    // What it cannot keep as a snapshot it keeps as an archive.
    let options = DeleteOptions::default().grace_ms(0u64).preserve_data(true);
    let deleted = workspace.delete(options.preserve_form(PreserveForm::Snapshot)).await.unwrap();
    assert_eq!(deleted.preserved.unwrap().form, PreserveForm::Archive);
    assert!(workspace.create(create().restore_data(true)).await.unwrap().data_restored);
    assert_eq!(undated(&tree(&workspace).await), before);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_workspace_makes_of_its_data_directory_reaches_nothing_else() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let workspace = workspace(&rig, &engine, "hostile").await;
    let scratch = tempfile::tempdir().unwrap();
    let archive = scratch.path().join("data.tar.gz");
    let secret = scratch.path().join("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("file"), "secret").unwrap();
    said(sh(&workspace, FILL).await);
    workspace.data().export(to(&archive)).await.unwrap();

    // The directory itself is a link out of the root: it is not followed, neither for reading nor for writing.
    let link = format!("rm -rf /data; ln -s {} /data", secret.display());
    said(sh(&workspace, &link).await);
    let out = scratch.path().join("out.tar.gz");
    let error = workspace.data().export(to(&out)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    assert!(!out.exists() && workspace.info().await.unwrap().task_running);
    let error = workspace.data().import(from(&archive).mode(ImportMode::Merge)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    for form in [PreserveForm::Archive, PreserveForm::Snapshot] {
        let options = DeleteOptions::default().grace_ms(0u64).preserve_data(true).preserve_form(form);
        let error = workspace.delete(options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
        assert!(workspace.info().await.unwrap().task_running, "nothing is deleted, and it runs again");
    }
    workspace.data().import(from(&archive)).await.unwrap();
    assert_eq!(std::fs::read_dir(&secret).unwrap().count(), 1);
    assert_eq!(said(sh(&workspace, "cat /data/a/one").await), "one");

    // Links within, to outside and through each other, pipes, and a process that swaps directories for links all the while.
    let swap = "mkdir -p /data/x /data/y && echo inside > /data/x/file && ln -s /data/x /data/y/through && \
        ln -s /etc/shadow /data/shadow && ln -s ../../../../etc /data/up && \
        (while true; do mv /data/x /data/z; ln -s /etc /data/x; rm /data/x; mv /data/z /data/x; done) >/dev/null 2>&1 &";
    said(sh(&workspace, swap).await);
    for _ in 0..10 {
        let live = to(&out).consistency(Consistency::Live).overwrite(true);
        match workspace.data().export(live).await {
            Ok(_) => {
                let listed = tar(&["tzf", &out.display().to_string()]);
                assert!(
                    !listed.contains("passwd") && !listed.lines().any(|line| line.starts_with('/')),
                    "{listed}"
                );
            }
            // What it is in was moved away.
            Err(error) => assert!(!out.exists() || error.kind() != ErrorKind::Unexpected, "{error}"),
        }
    }
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_neither_mix_nor_wait_for_ever() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let scratch = tempfile::tempdir().unwrap();
    let image = rig.pulled(&engine, "busybox").await;
    let mut workspaces = Vec::new();
    for n in 0..10 {
        let workspace = engine.workspace(format!("many-{n}")).unwrap();
        workspace.create(CreateOptions::default().image(&image)).await.unwrap();
        said(sh(&workspace, &format!("yes {n} | head -c 300000 > /data/own; echo {n} > /data/name")).await);
        workspaces.push(workspace);
    }
    let mut work = Vec::new();
    for round in 0..5 {
        for (n, workspace) in workspaces.iter().enumerate() {
            let (workspace, archive) =
                (workspace.clone(), scratch.path().join(format!("{n}-{round}.tar.gz")));
            work.push(tokio::spawn(async move {
                workspace.data().export(to(&archive)).await.unwrap();
                if round % 2 == 0 {
                    workspace.data().import(from(&archive)).await.unwrap();
                }
            }));
        }
    }
    for done in work {
        done.await.unwrap();
    }
    for (n, workspace) in workspaces.iter().enumerate() {
        assert_eq!(said(sh(workspace, "cat /data/name; head -n 1 /data/own").await), format!("{n}\n{n}"));
    }
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_go_to_an_object_store_and_come_back_sealed_or_not() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let workspace = workspace(&rig, &engine, "stored").await;
    said(sh(&workspace, FILL).await);
    let before = tree(&workspace).await;
    let server = tokio::task::spawn_blocking(|| S3::start(dunnage_harness::S3Options::default()).unwrap())
        .await
        .unwrap();
    let own = server.options();
    let s3 = S3Options::default()
        .endpoint(server.endpoint())
        .region(&own.region)
        .access_key_id(&own.access_key_id)
        .secret_access_key(&own.secret_access_key)
        .allow_http(true);
    let there = |name: &str| format!("s3://bucket/{name}");
    for seal in [None, Some(SealOptions::default().passphrase("correct horse"))] {
        let name = if seal.is_some() { "data.tar.gz.age" } else { "data.tar.gz" };
        let mut export = DataExportOptions::default().destination(there(name)).s3(s3.clone()).grace_ms(0u64);
        export.seal = seal.clone();
        let exported = workspace.data().export(export.clone()).await.unwrap();
        assert!(exported.etag.is_some());
        let error = workspace.data().export(export).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
        said(sh(&workspace, "rm -rf /data/*").await);
        let import = DataImportOptions::default().source(there(name)).s3(s3.clone()).grace_ms(0u64);
        let mut import = import.digest(&exported.digest);
        if seal.is_some() {
            let error = workspace.data().import(import.clone()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
            let wrong = import.clone().unseal(UnsealOptions::default().passphrase("wrong"));
            let error = workspace.data().import(wrong).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
            import = import.unseal(UnsealOptions::default().passphrase("correct horse"));
        }
        let imported = workspace.data().import(import).await.unwrap();
        assert_eq!(imported.archive_bytes, exported.archive_bytes);
        assert_eq!(tree(&workspace).await, before);
    }
    let missing = DataImportOptions::default().source(there("nothing")).s3(s3.clone());
    assert_eq!(workspace.data().import(missing).await.unwrap_err().kind(), ErrorKind::NotFound);
    let refused = DataImportOptions::default().source(there("data.tar.gz"));
    let refused = refused.s3(s3.clone().secret_access_key("wrong"));
    let error = workspace.data().import(refused).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
    let both = SealOptions::default().passphrase("a").recipients(vec!["age1".to_owned()]);
    let bad = DataExportOptions::default().destination(there("x")).s3(s3).seal(both);
    let error = workspace.data().export(bad).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(workspace.info().await.unwrap().task_running);
    engine.close().await;
}
