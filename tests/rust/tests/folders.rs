//! Folders of workspaces as archives, in whatever state the workspace is, and whatever is in the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::io::Write;
use std::os::fd::AsRawFd;

use common::{Rig, fails, remove, running, said, sh, watched};
use dunnage::ErrorKind;
use dunnage::types::{
    ArchiveOptions, CreateOptions, DownloadOptions, EventType, ExtractMode, ExtractOptions, StopOptions,
    UploadOptions, WriteOptions,
};

#[tokio::test(flavor = "multi_thread")]
async fn links_lead_nowhere_but_inside() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.add("busybox");
    let workspace = running(&engine, "inside", &image).await;
    let outside = rig.containerd.dir().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "of the host").unwrap();
    let archive = rig.containerd.dir().join("in.tar.gz").display().to_string();
    let at = outside.display();
    said(
        sh(&workspace, &format!("mkdir /in; echo x > /in/x; ln -s {at} /out; ln -s {at}/secret /in/link"))
            .await,
    );
    for stopped in [false, true] {
        let fs = workspace.fs();
        let options = || ArchiveOptions::default().destination(&archive).overwrite(true);
        let made = fs.archive(options().path("/in")).await.unwrap();
        assert_eq!(
            (made.entries, made.bytes),
            (3, 2),
            "a link is a link, and what it names is not looked at"
        );
        fails(fs.archive(options().path("/out")).await, ErrorKind::NotFound, &["/out"]);
        let extract = || ExtractOptions::default().source(&archive);
        for mode in [ExtractMode::New, ExtractMode::Replace, ExtractMode::Merge] {
            let done = fs.extract(extract().path("/out/new").mode(mode)).await;
            fails(done, ErrorKind::NotFound, &["/out"]);
        }
        fails(
            fs.extract(extract().path("/out").mode(ExtractMode::Replace)).await,
            ErrorKind::FailedPrecondition,
            &["/out"],
        );
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
        if !stopped {
            workspace.stop(StopOptions::default().grace_ms(0_u64)).await.unwrap();
        }
    }
    remove(&workspace).await;
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_leaves_everything_as_it_was() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.add("busybox");
    let workspace = running(&engine, "given-up", &image).await;
    let fs = workspace.fs();
    fs.write(WriteOptions::default().path("old/file"), "old").await.unwrap();
    let archive = rig.containerd.dir().join("old.tar");
    let to = archive.display().to_string();
    let tar = ArchiveOptions::default().format(dunnage::types::ArchiveFormat::Tar);
    fs.archive(tar.path("old").destination(&to)).await.unwrap();
    let bytes = std::fs::read(&archive).unwrap();

    // An archive that never ends, in place of the folder; it is cancelled, and its writer goes away.
    for cancel in [true, false] {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let options = ExtractOptions::default().path("old").mode(ExtractMode::Replace).fd(reader.as_raw_fd());
        let operation = fs.extract(options);
        drop(reader);
        writer.write_all(&bytes[..1024]).unwrap();
        if cancel {
            operation.cancel();
            fails(operation.await, ErrorKind::Cancelled, &[]);
        } else {
            drop(writer);
            fails(operation.await, ErrorKind::DataCorrupt, &[]);
        }
        assert_eq!(said(sh(&workspace, "cat old/file; ls -A . old").await), "old.:\nold\n\nold:\nfile");
    }
    remove(&workspace).await;
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_tell_how_far_they_are_and_can_be_cancelled() {
    const SIZE: u64 = 96 << 20;
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.add("user");
    let workspace = engine.workspace("copies").unwrap();
    workspace.create(CreateOptions::default().image(&image)).await.unwrap();
    let fs = workspace.fs();
    let source = rig.containerd.dir().join("source");
    std::fs::write(&source, vec![5; usize::try_from(SIZE).unwrap()]).unwrap();
    let upload = || UploadOptions::default().source(source.display().to_string()).path("big");
    let (result, events) = watched(fs.upload(upload())).await;
    assert_eq!(result.unwrap().bytes_written, SIZE);
    let seen: Vec<_> = events.iter().filter(|event| event.kind == EventType::DataProgress).collect();
    let last = seen.last().unwrap();
    assert_eq!((last.bytes, last.total_bytes), (Some(SIZE), Some(SIZE)));
    assert!(seen.is_sorted_by_key(|event| event.bytes));
    assert_eq!(events.iter().filter(|event| event.kind.is_terminal()).count(), 1);

    let back = rig.containerd.dir().join("back");
    let download = || DownloadOptions::default().path("big").destination(back.display().to_string());
    let (result, events) = watched(fs.download(download())).await;
    assert_eq!(result.unwrap().bytes_read, SIZE);
    assert!(events.iter().any(|event| event.total_bytes == Some(SIZE)));
    std::fs::write(&back, "as it was").unwrap();
    let operation = fs.download(download());
    operation.cancel();
    match operation.await {
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
            assert_eq!(std::fs::read(&back).unwrap(), b"as it was");
        }
        // It was quicker.
        Ok(done) => assert_eq!(done.bytes_read, SIZE),
    }
    remove(&workspace).await;
    engine.close().await;
}
