//! Files through the old protocol.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{Agent, Client, eventually};
use dunnage_bridge::bridgepb::{
    DeleteFileRequest, ListDirRequest, MkdirRequest, ReadFileRequest, ReadRawRequest, RenameRequest,
    StatRequest, WriteFileRequest, WriteRawChunk,
};
use prost::bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

async fn write(client: &mut Client, path: &str, content: impl Into<Bytes>) -> Result<(), Status> {
    let request = WriteFileRequest { path: path.into(), content: content.into() };
    client.write_file(request).await.map(|_| ())
}

async fn upload(client: &mut Client, path: &str, chunks: Vec<Bytes>) -> Result<i64, Status> {
    let path = path.to_owned();
    let chunks = chunks.into_iter().enumerate().map(move |(n, data)| WriteRawChunk {
        path: if n == 0 { path.clone() } else { String::new() },
        data,
    });
    let request = futures::stream::iter(chunks.collect::<Vec<_>>());
    Ok(client.write_raw(request).await?.into_inner().bytes_written)
}

async fn download(client: &mut Client, path: &str) -> Result<Vec<u8>, Status> {
    let mut chunks = client.read_raw(ReadRawRequest { path: path.into() }).await?.into_inner();
    let mut all = Vec::new();
    while let Some(chunk) = chunks.message().await? {
        all.extend_from_slice(&chunk.data);
    }
    Ok(all)
}

fn code<T>(result: Result<T, Status>) -> Code {
    result.err().map_or(Code::Ok, |status| status.code())
}

/// Bytes that do not repeat with any chunk size.
fn noise(len: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_u32;
    std::iter::repeat_with(|| {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x.to_le_bytes()[0]
    })
    .take(len)
    .collect()
}

#[tokio::test]
async fn big_files_go_both_ways_unchanged_and_in_little_memory() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let content = noise(64 << 20);
    let before = agent.rss();
    let chunks = content.chunks(1 << 20).map(Bytes::copy_from_slice).collect();
    assert_eq!(upload(&mut client, "a/big", chunks).await.unwrap(), 64 << 20);
    assert!(std::fs::read(agent.data("a/big")).unwrap() == content);
    assert!(download(&mut client, "a/big").await.unwrap() == content);
    assert!(agent.rss() < before + 24 * 1024, "took {} KiB", agent.rss() - before);
    assert_eq!(upload(&mut client, "empty", vec![Bytes::new()]).await.unwrap(), 0);
    assert_eq!(download(&mut client, "empty").await.unwrap(), b"");
}

#[tokio::test]
async fn messages_may_be_larger_than_four_mebibytes() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let content = noise(15 << 20);
    write(&mut client, "f", content.clone()).await.unwrap();
    assert!(std::fs::read(agent.data("f")).unwrap() == content);
    // A client that does not keep to the limit is refused by the agent.
    let mut client = client.max_encoding_message_size(64 << 20);
    assert_eq!(code(write(&mut client, "f", vec![0; 17 << 20]).await), Code::OutOfRange);
    assert_eq!(std::fs::metadata(agent.data("f")).unwrap().len(), 15 << 20);
}

#[test]
fn a_write_that_breaks_off_changes_nothing() {
    let agent = Agent::start();
    std::fs::write(agent.data("f"), "old").unwrap();
    let files = agent.open_files();
    // A host that dies in the middle.
    let host = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut client = host.block_on(agent.client());
    let (chunks, receiver) = mpsc::channel(4);
    host.spawn(async move { client.write_raw(ReceiverStream::new(receiver)).await });
    for path in ["f", ""] {
        let chunk = WriteRawChunk { path: path.into(), data: vec![1; 1 << 20].into() };
        chunks.blocking_send(chunk).unwrap();
    }
    // The connection, the new file and its directory.
    eventually("the new file is begun", || agent.open_files() > files + 1);
    std::thread::sleep(Duration::from_millis(50));
    host.shutdown_background();
    eventually("the unfinished file is closed", || agent.open_files() <= files);
    drop(chunks);
    assert!(std::fs::read(agent.data("f")).unwrap() == b"old", "half a file took its place");
    assert_eq!(std::fs::read_dir(agent.data("")).unwrap().count(), 1, "something is left behind");
}

#[tokio::test]
async fn readers_see_the_old_file_or_the_new_one() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let contents = [vec![b'a'; 100_000], vec![b'b'; 50_000]];
    write(&mut client, "f", contents[0].clone()).await.unwrap();
    let (path, expected) = (agent.data("f"), contents.clone());
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let reader = std::thread::spawn(move || {
        let mut reads = 0;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            let read = std::fs::read(&path).unwrap();
            assert!(expected.contains(&read), "a torn file of {} bytes", read.len());
            reads += 1;
        }
        reads
    });
    for n in 0..200 {
        write(&mut client, "f", contents[n % 2].clone()).await.unwrap();
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(reader.join().unwrap() > 0);
}

#[tokio::test]
async fn a_replaced_file_keeps_mode_owner_attributes_and_its_link() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let (file, link) = (agent.data("real"), agent.data("link"));
    std::fs::write(&file, "old").unwrap();
    std::os::unix::fs::symlink("real", &link).unwrap();
    std::os::unix::fs::chown(&file, Some(1234), Some(2345)).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o2750)).unwrap();
    rustix::fs::setxattr(&file, "user.note", b"kept", rustix::fs::XattrFlags::empty()).unwrap();
    for path in ["real", "link"] {
        write(&mut client, path, "new").await.unwrap();
        upload(&mut client, path, vec!["newer".into()]).await.unwrap();
        let found = file.symlink_metadata().unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (1234, 2345, 0o2750));
        let mut value = [0; 16];
        let size = rustix::fs::getxattr(&file, "user.note", &mut value[..]).unwrap();
        assert_eq!(&value[..size], b"kept");
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"newer");
    }
}

#[tokio::test]
async fn a_file_that_is_a_mount_point_is_written_in_place() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let (source, target) = (agent.dir.path().join("source"), agent.data("mounted"));
    std::fs::write(&source, "something longer").unwrap();
    std::fs::write(&target, "").unwrap();
    // Only the agent sees it, so that nothing is left when it goes.
    let mount = |args: &[&str]| {
        let status = Command::new("mount").args(args).status().unwrap();
        assert!(status.success());
    };
    mount(&["--bind", source.to_str().unwrap(), target.to_str().unwrap()]);
    let result = write(&mut client, "mounted", "short").await;
    assert!(Command::new("umount").arg(&target).status().unwrap().success());
    result.unwrap();
    assert_eq!(std::fs::read(&source).unwrap(), b"short");
}

#[tokio::test]
async fn errors_say_what_to_do_next() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    std::fs::create_dir_all(agent.data("dir/sub")).unwrap();
    std::fs::write(agent.data("file"), "x").unwrap();
    Command::new("mkfifo").arg(agent.data("fifo")).status().unwrap();
    let long = "n".repeat(300);

    assert_eq!(code(download(&mut client, "none").await), Code::NotFound);
    assert_eq!(code(download(&mut client, "").await), Code::InvalidArgument);
    assert_eq!(code(download(&mut client, "a\0b").await), Code::InvalidArgument);
    assert_eq!(code(download(&mut client, "dir").await), Code::FailedPrecondition);
    assert_eq!(code(download(&mut client, "fifo").await), Code::FailedPrecondition);
    assert_eq!(code(write(&mut client, "fifo", "x").await), Code::FailedPrecondition);
    assert_eq!(code(write(&mut client, "dir", "x").await), Code::FailedPrecondition);
    assert_eq!(code(write(&mut client, "/dev/null", "x").await), Code::FailedPrecondition);
    assert_eq!(code(write(&mut client, "/proc/nothing", "x").await), Code::NotFound);
    assert_eq!(code(write(&mut client, &long, "x").await), Code::InvalidArgument);
    assert_eq!(code(upload(&mut client, "", vec!["x".into()]).await), Code::InvalidArgument);
    let mkdir = |path: &str| MkdirRequest { path: path.into() };
    assert_eq!(code(client.mkdir(mkdir("file")).await), Code::AlreadyExists);
    assert_eq!(code(client.mkdir(mkdir("file/below")).await), Code::FailedPrecondition);
    assert_eq!(code(client.mkdir(mkdir("dir/sub")).await), Code::Ok);
    let delete = |path: &str, recursive| DeleteFileRequest { path: path.into(), recursive };
    assert_eq!(code(client.delete_file(delete("/", true)).await), Code::PermissionDenied);
    assert_eq!(code(client.delete_file(delete("/data/../..", true)).await), Code::PermissionDenied);
    assert_eq!(code(client.delete_file(delete("dir", false)).await), Code::FailedPrecondition);
    assert_eq!(code(client.delete_file(delete("none", false)).await), Code::Ok);
    let list = |path: &str| ListDirRequest { path: path.into(), recursive: false };
    assert_eq!(code(client.list_dir(list("none")).await), Code::NotFound);
    assert_eq!(code(client.list_dir(list("file")).await), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_full_disk_is_resource_exhausted_and_leaves_the_old_file() {
    let prepare = |dir: &Path| {
        let data = dir.join("data");
        std::fs::create_dir(&data).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&data).status();
        assert!(mounted.unwrap().success());
    };
    let agent = Agent::with(common::Options { prepare: Some(prepare), ..Default::default() });
    let mut client = agent.client().await;
    let first = write(&mut client, "f", "old").await;
    let full = write(&mut client, "f", vec![1; 2 << 20]).await;
    let streamed = upload(&mut client, "f", vec![vec![1; 2 << 20].into()]).await;
    let kept = std::fs::read(agent.data("f"));
    let left = std::fs::read_dir(agent.data("")).unwrap().count();
    // The unfinished file may take a moment to be gone; the mount goes before the directory does.
    assert!(Command::new("umount").arg("-l").arg(agent.data("")).status().unwrap().success());
    first.unwrap();
    assert_eq!((code(full), code(streamed)), (Code::ResourceExhausted, Code::ResourceExhausted));
    assert_eq!((kept.unwrap(), left), (b"old".to_vec(), 1));
}

#[tokio::test]
async fn stat_list_rename_delete_and_the_line_reader() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    write(&mut client, "d/b.txt", "one\ntwo\nthree\n").await.unwrap();
    write(&mut client, "d/sub/c", "").await.unwrap();
    std::os::unix::fs::symlink("sub", agent.data("d/a-link")).unwrap();

    let stat = client.stat(StatRequest { path: "d/b.txt".into() }).await.unwrap().into_inner().entry.unwrap();
    assert_eq!(
        (stat.path.as_str(), stat.is_dir, stat.size, stat.mode.as_str()),
        ("b.txt", false, 14, "-rw-r--r--")
    );
    assert!(stat.mod_time.ends_with('Z') && stat.mod_time.len() == 20, "{}", stat.mod_time);

    let list = |recursive| ListDirRequest { path: "d".into(), recursive };
    let names = |entries: Vec<dunnage_bridge::bridgepb::FileEntry>| {
        entries.into_iter().map(|entry| format!("{} {}", entry.mode, entry.path)).collect::<Vec<_>>()
    };
    let flat = names(client.list_dir(list(false)).await.unwrap().into_inner().entries);
    assert_eq!(flat, ["Lrwxrwxrwx a-link", "-rw-r--r-- b.txt", "drwxr-xr-x sub"]);
    let deep = names(client.list_dir(list(true)).await.unwrap().into_inner().entries);
    assert_eq!(deep, ["Lrwxrwxrwx a-link", "-rw-r--r-- b.txt", "drwxr-xr-x sub", "-rw-r--r-- sub/c"]);

    let request = ReadFileRequest { path: "d/b.txt".into(), line_offset: 2, n_lines: 1 };
    let read = client.read_file(request).await.unwrap().into_inner();
    assert_eq!((read.content.as_str(), read.total_lines, read.binary), ("two\n", 3, false));

    let rename = RenameRequest { old_path: "d/b.txt".into(), new_path: "e/f/g".into() };
    client.rename(rename).await.unwrap();
    assert_eq!(std::fs::read(agent.data("e/f/g")).unwrap(), b"one\ntwo\nthree\n");
    client.delete_file(DeleteFileRequest { path: "d".into(), recursive: true }).await.unwrap();
    assert!(!agent.data("d").exists());
}

#[tokio::test]
async fn downloads_nobody_reads_hold_up_nothing() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    std::fs::write(agent.data("big"), noise(48 << 20)).unwrap();
    let before = agent.rss();
    let mut unread = Vec::new();
    for _ in 0..12 {
        unread.push(client.read_raw(ReadRawRequest { path: "big".into() }).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    for n in 0..20 {
        let quick = write(&mut client, "small", format!("{n}"));
        tokio::time::timeout(Duration::from_secs(2), quick)
            .await
            .expect("stuck behind the downloads")
            .unwrap();
    }
    assert!(agent.rss() < before + 48 * 1024, "took {} KiB", agent.rss() - before);
    // Each of them is still whole.
    let mut last = unread.pop().unwrap().into_inner();
    let mut size = 0;
    while let Some(chunk) = last.message().await.unwrap() {
        size += chunk.data.len();
    }
    assert_eq!(size, 48 << 20);
}
