use super::*;
use crate::types::{
    EntryKind, ListDirOptions, MkdirOptions, ReadTextOptions, RemoveOptions, RenameOptions, StatOptions,
};
use crate::{Error, ErrorKind};
use bytes::Bytes;
use std::os::unix::fs::{PermissionsExt, symlink};

fn stat(path: &str) -> StatOptions {
    StatOptions::default().path(path)
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_written_read_described_moved_and_removed() {
    let fixture = Fixture::start().await;
    let client = fixture.client();
    let content = Bytes::from_static(b"one\ntwo\n\xff");
    let written = client.write(&write("a/b/file"), content.clone()).await.unwrap();
    assert_eq!(written.bytes_written, 9);
    assert_eq!(client.read(&read("a/b/../b/file")).await.unwrap(), content);
    std::fs::set_permissions(fixture.data().join("a/b/file"), PermissionsExt::from_mode(0o4751)).unwrap();
    let entry = client.stat(&stat("a/b/file")).await.unwrap();
    assert_eq!(entry.path, text(&fixture.data().join("a/b/file")));
    assert_eq!((entry.name.as_str(), entry.kind, entry.size), ("file", EntryKind::File, 9));
    assert_eq!(entry.mode, "4751");
    entry.mod_time.parse::<jiff::Timestamp>().unwrap();
    client.mkdir(&MkdirOptions::default().path("c/d")).await.unwrap();
    client.mkdir(&MkdirOptions::default().path("c/d")).await.unwrap();
    client.rename(&RenameOptions::default().from("a/b/file").to("c/d/moved")).await.unwrap();
    assert_eq!(kind(client.read(&read("a/b/file")).await), ErrorKind::NotFound);
    assert_eq!(client.read(&read("c/d/moved")).await.unwrap(), content);
    let remove = RemoveOptions::default().path("c");
    assert_eq!(kind(client.remove(&remove).await), ErrorKind::FailedPrecondition);
    client.remove(&remove.clone().recursive(true)).await.unwrap();
    client.remove(&remove).await.unwrap();
    assert!(!fixture.data().join("c").exists());
    let root = client.stat(&StatOptions::default()).await.unwrap();
    assert_eq!((root.path.as_str(), root.name.as_str(), root.is_dir), ("/", "/", true));
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_tell_every_kind_and_are_ordered() {
    let fixture = Fixture::start().await;
    let data = fixture.data();
    std::fs::create_dir_all(data.join("d/e")).unwrap();
    std::fs::write(data.join("d/e/f"), "x").unwrap();
    std::fs::write(data.join("b"), "").unwrap();
    symlink("/etc/shadow", data.join("a")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        data.join("c"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let client = fixture.client();
    let list = client.list(&ListDirOptions::default().path(".")).await.unwrap();
    assert_eq!(list.path, text(&data));
    let seen: Vec<_> = list.entries.iter().map(|e| (e.name.as_str(), e.kind)).collect();
    let expected =
        [("a", EntryKind::Symlink), ("b", EntryKind::File), ("c", EntryKind::Fifo), ("d", EntryKind::Dir)];
    assert_eq!(seen, expected);
    let all = client.list(&ListDirOptions::default().path("d").recursive(true)).await.unwrap();
    let paths: Vec<_> = all.entries.iter().map(|e| e.path.clone()).collect();
    assert_eq!(paths, [text(&data.join("d/e")), text(&data.join("d/e/f"))]);
    assert_eq!(kind(client.list(&ListDirOptions::default().path("b")).await), ErrorKind::FailedPrecondition);
    assert_eq!(kind(client.list(&ListDirOptions::default().path("none")).await), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_longer_than_one_message_is_listed_whole() {
    let fixture = Fixture::start().await;
    let long = "n".repeat(240);
    for i in 0..60_000 {
        std::fs::write(fixture.data().join(format!("{long}{i:06}")), "").unwrap();
    }
    let list = fixture
        .client()
        .list(&ListDirOptions::default().path("/data/../".to_owned() + &text(&fixture.data())))
        .await
        .unwrap();
    assert_eq!(list.entries.len(), 60_000);
    assert!(list.problems.is_empty());
    assert!(list.entries.is_sorted_by(|a, b| a.path < b.path));
}

#[tokio::test(flavor = "multi_thread")]
async fn text_is_read_by_lines() {
    let fixture = Fixture::start().await;
    let client = fixture.client();
    let lines: String = (1..=500).map(|i| format!("line {i}\n")).collect();
    client.write(&write("t"), lines.into()).await.unwrap();
    let part = client
        .read_text(&ReadTextOptions::default().path("t").line_offset(3_u32).n_lines(2_u32))
        .await
        .unwrap();
    assert_eq!(part.content.trim_end(), "line 3\nline 4");
    assert_eq!((part.total_lines, part.binary), (500, false));
    let whole = client.read_text(&ReadTextOptions::default().path("t")).await.unwrap();
    assert!(whole.content.starts_with("line 1\n"));
    assert!(whole.content.lines().count() <= 200);
    client.write(&write("b"), Bytes::from_static(b"a\0b")).await.unwrap();
    let binary = client.read_text(&ReadTextOptions::default().path("b")).await.unwrap();
    assert!(binary.binary && binary.content.is_empty());
    let many = ReadTextOptions::default().path("t").n_lines(201_u32);
    assert_eq!(kind(client.read_text(&many).await), ErrorKind::InvalidArgument);
    let far = ReadTextOptions::default().path("t").line_offset(u32::MAX);
    assert_eq!(kind(client.read_text(&far).await), ErrorKind::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_paths_are_refused_before_anything_is_sent() {
    let fixture = Fixture::idle();
    let client = fixture.client();
    for path in ["", "a\0b"] {
        assert_eq!(kind(client.read(&read(path)).await), ErrorKind::InvalidArgument);
        assert_eq!(kind(client.write(&write(path), Bytes::new()).await), ErrorKind::InvalidArgument);
        assert_eq!(kind(client.stat(&stat(path)).await), ErrorKind::InvalidArgument);
        assert_eq!(kind(client.mkdir(&MkdirOptions::default().path(path)).await), ErrorKind::InvalidArgument);
    }
    for path in ["/", "//", "/x/..", ".."] {
        let path = if path == ".." { "../".repeat(40) } else { path.to_owned() };
        let error =
            client.remove(&RemoveOptions::default().path(path.clone()).recursive(true)).await.unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::PermissionDenied, "fs.remove"), "{path}");
        let rename = RenameOptions::default().from(path).to("x");
        assert_eq!(kind(client.rename(&rename).await), ErrorKind::PermissionDenied);
    }
    // And without an agent, all else is UNAVAILABLE, with the path.
    let error = client.read(&read("f")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.context().any(|c| c == ("path", "f")), "{error}");
    assert!(error.context().any(|(k, _)| k == "address"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_regular_file_is_refused_without_waiting() {
    let fixture = Fixture::start().await;
    let client = fixture.client();
    let fifo = fixture.data().join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    for path in ["fifo", ".", "/dev/zero"] {
        let result = soon(client.read(&read(path))).await;
        assert_eq!(kind(result), ErrorKind::FailedPrecondition, "{path}");
    }
    assert_eq!(
        kind(client.write(&write("."), Bytes::from_static(b"x")).await),
        ErrorKind::FailedPrecondition
    );
    // Files that the kernel makes up have no length and still have content: they go over gRPC.
    let status = client.read(&read("/proc/self/status")).await.unwrap();
    assert!(status.starts_with(b"Name:"));
}
