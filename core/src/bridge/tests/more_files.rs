use super::*;
use crate::operation::Copied;
use crate::types::{
    ChmodOptions, ChownOptions, CopyOptions, EntryKind, FileEventKind, GlobOptions, GrepOptions, StatOptions,
    SymlinkOptions, UploadOptions, WalkOptions, WatchOptions,
};
use crate::{Error, ErrorKind};
use bytes::Bytes;
use std::os::unix::fs::MetadataExt;

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.unwrap_err().kind()
}

fn stat(path: &str) -> StatOptions {
    StatOptions::default().path(path)
}

#[tokio::test(flavor = "multi_thread")]
async fn links_modes_and_owners() {
    let fixture = Fixture::start().await;
    let client = fixture.client();
    client.write(&write("d/f"), Bytes::from_static(b"x")).await.unwrap();
    let link = SymlinkOptions::default().target("d/f").path("a/link");
    client.symlink(&link).await.unwrap();
    let described = client.stat(&stat("a/link").follow(false)).await.unwrap();
    assert_eq!((described.kind, described.link_target.as_deref()), (EntryKind::Symlink, Some("d/f")));
    assert_eq!(kind(client.symlink(&link).await), ErrorKind::AlreadyExists);
    client.symlink(&link.clone().target("../d/f").overwrite(true)).await.unwrap();
    let described = client.stat(&stat("a/link")).await.unwrap();
    assert_eq!((described.kind, described.size), (EntryKind::File, 1));
    let chmod = ChmodOptions::default().path("d").mode("0710").recursive(true);
    assert_eq!(client.chmod(&chmod).await.unwrap().entries, 2);
    let chown = ChownOptions::default().path("d").owner("12:34").recursive(true);
    assert_eq!(client.chown(&chown).await.unwrap().entries, 2);
    let described = client.stat(&stat("d/f")).await.unwrap();
    let seen = (described.mode.as_str(), described.uid, described.gid);
    assert_eq!(seen, ("0710", Some(12), Some(34)));
    for mode in ["", "rw", "10000", "9"] {
        assert_eq!(kind(client.chmod(&chmod.clone().mode(mode)).await), ErrorKind::InvalidArgument, "{mode}");
    }
    for owner in ["", ":", "nobody-of-that-name", "a\0b"] {
        assert_eq!(
            kind(client.chown(&chown.clone().owner(owner)).await),
            ErrorKind::InvalidArgument,
            "{owner}"
        );
    }
    assert_eq!(kind(client.symlink(&link.clone().path("/")).await), ErrorKind::PermissionDenied);
    assert_eq!(kind(client.symlink(&link.target("")).await), ErrorKind::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_files_are_read_by_every_way() {
    let fixture = Fixture::start().await;
    let client = fixture.client();
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    client.write(&write("f"), content.clone().into()).await.unwrap();
    let expected = &content[1_000_001..2_500_002];
    let part = read("f").offset(1_000_001_u64).length(1_500_001_u64);
    assert!(client.read(&part).await.unwrap() == expected);
    // A part is what max_bytes is about.
    assert!(client.read(&part.clone().max_bytes(1_500_001_u64)).await.is_ok());
    assert_eq!(kind(client.read(&part.max_bytes(1_500_000_u64)).await), ErrorKind::ResourceExhausted);
    let reader = client.open_read(&open("f").offset(1_000_001_u64).length(1_500_001_u64)).await.unwrap();
    let mut all = Vec::new();
    while let Some(chunk) = reader.next_chunk().await.unwrap() {
        all.extend_from_slice(&chunk);
    }
    assert!(all == expected && reader.size() == Some(3_000_000));
    for (offset, length) in [(3_000_000, None), (u64::MAX, Some(u64::MAX)), (5, Some(0))] {
        let mut options = read("f").offset(offset);
        options.length = length;
        assert_eq!(client.read(&options).await.unwrap(), "");
    }
    // A file of the kernel goes over gRPC.
    let whole = client.read(&read("/proc/sys/kernel/ostype")).await.unwrap();
    let rest = client.read(&read("/proc/sys/kernel/ostype").offset(2_u64).length(2_u64)).await.unwrap();
    assert_eq!(rest, whole.slice(2..4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_happens_only_where_it_is_expected() {
    let fixture = Fixture::start().await;
    let client = fixture.client();
    // In one message, and by descriptor.
    for size in [10, 1 << 20] {
        let name = format!("f{size}");
        let content = || Bytes::from(vec![7; size]);
        let expecting = |revision: &str| write(&name).expected_revision(revision);
        let first = client.write(&expecting("absent").mode("0600"), content()).await.unwrap();
        assert_eq!(fixture.data().join(&name).metadata().unwrap().mode() & 0o7777, 0o600);
        let seen = client.stat(&stat(&name)).await.unwrap();
        assert_eq!(seen.revision, first.revision);
        let revision = first.revision.unwrap();
        assert_eq!(kind(client.write(&expecting("absent"), content()).await), ErrorKind::Conflict);
        let second = client.write(&expecting(&revision), content()).await.unwrap().revision.unwrap();
        let refused = client.write(&expecting(&revision), Bytes::from_static(b"no")).await.unwrap_err();
        assert_eq!((refused.kind(), refused.operation()), (ErrorKind::Conflict, "fs.write"));
        assert_eq!(client.read(&read(&name)).await.unwrap(), content());
        // Somebody else changes it between the opening and the end.
        let writer = client.open_write(&expecting(&second)).await.unwrap();
        writer.write(content()).await.unwrap();
        std::fs::write(fixture.data().join(&name), "theirs").unwrap();
        assert_eq!(kind(writer.finish().await), ErrorKind::Conflict);
        assert_eq!(client.read(&read(&name)).await.unwrap(), "theirs");
    }
    let source = fixture.path("host").join("source");
    std::fs::write(&source, "uploaded").unwrap();
    let upload = UploadOptions::default().source(text(&source)).path("u").expected_revision("absent");
    assert!(
        client.upload(&upload.clone().mode("0640"), &Copied::default()).await.unwrap().revision.is_some()
    );
    assert_eq!(kind(client.upload(&upload, &Copied::default()).await), ErrorKind::Conflict);
    for bad in [write("x").mode("x"), write("x").expected_revision("")] {
        assert_eq!(kind(client.write(&bad, Bytes::new()).await), ErrorKind::InvalidArgument);
        assert_eq!(kind(client.open_write(&bad).await), ErrorKind::InvalidArgument);
    }
    assert!(!fixture.data().join("x").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_are_copied_walked_and_searched() {
    let fixture = Fixture::start().await;
    let (client, data) = (fixture.client(), fixture.data());
    for n in 0..30 {
        client
            .write(&write(&format!("t/{}/f{n:02}.txt", n % 3)), format!("line {n}\nneedle {n}\n").into())
            .await
            .unwrap();
    }
    let copy = CopyOptions::default().from("t").to("made/copy");
    let copied = client.copy(&copy).await.unwrap();
    assert_eq!((copied.entries, copied.skipped), (34, 0));
    assert_eq!(kind(client.copy(&copy).await), ErrorKind::AlreadyExists);
    client.copy(&copy.clone().overwrite(true)).await.unwrap();
    assert_eq!(kind(client.copy(&copy.to("t/into")).await), ErrorKind::InvalidArgument);

    let mut options = WalkOptions::default().path("t").limit(7_u32);
    let mut all = Vec::new();
    loop {
        let page = client.walk(&options).await.unwrap();
        assert!(page.path == text(&data.join("t")) && page.entries.len() <= 7 && page.problems.is_empty());
        all.extend(page.entries.into_iter().map(|entry| entry.path));
        let Some(next) = page.next else { break };
        options = options.after(next);
    }
    assert!(all.len() == 33 && all.is_sorted());
    let some =
        WalkOptions::default().path("t").include(vec!["0/*".to_owned()]).exclude(vec!["*9*".to_owned()]);
    assert_eq!(client.walk(&some).await.unwrap().entries.len(), 9);
    for bad in [
        WalkOptions::default().limit(0_u32),
        WalkOptions::default().limit(10_001_u32),
        WalkOptions::default().max_depth(0_u32),
        WalkOptions::default().after("%"),
        WalkOptions::default().after("../x"),
        WalkOptions::default().include(vec!["[".to_owned()]),
    ] {
        assert_eq!(kind(client.walk(&bad).await), ErrorKind::InvalidArgument, "{bad:?}");
    }

    let found = client.glob(&GlobOptions::default().pattern("t/*/f0[1-3].txt")).await.unwrap();
    let names: Vec<_> = found.entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!((names, found.truncated), (vec!["f03.txt", "f01.txt", "f02.txt"], false));
    let absolute = GlobOptions::default().pattern(text(&data) + "/t/*").limit(2_u32);
    let found = client.glob(&absolute).await.unwrap();
    assert_eq!((found.entries.len(), found.truncated), (2, true));
    assert_eq!(kind(client.glob(&absolute.path("/")).await), ErrorKind::InvalidArgument);
    assert_eq!(kind(client.glob(&GlobOptions::default().pattern("{")).await), ErrorKind::InvalidArgument);

    let grep = GrepOptions::default().pattern("needle 1.").path("t").context_before(1_u32);
    let found = client.grep(&grep).await.unwrap();
    assert_eq!((found.matches.len(), found.files_matched, found.files_searched), (10, 10, 30));
    let first = &found.matches[0];
    assert_eq!(first.path, text(&data.join("t/0/f12.txt")));
    assert_eq!((first.line, first.column, first.text.as_str()), (2, 1, "needle 12"));
    assert_eq!((first.before.as_slice(), first.after.len()), (&["line 12".to_owned()][..], 0));
    let few = client.grep(&grep.clone().max_matches(3_u32)).await.unwrap();
    assert_eq!((few.matches.len(), few.truncated), (3, true));
    let refused = client.grep(&GrepOptions::default().pattern("a(")).await.unwrap_err();
    assert!(
        refused.kind() == ErrorKind::InvalidArgument && refused.message().contains("unclosed group"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_and_ends() {
    let mut fixture = Fixture::start().await;
    let client = fixture.client();
    let closed = CancellationToken::new();
    let mut events = client.watch(&WatchOptions::default().recursive(true), closed.clone()).await.unwrap();
    client.write(&write("d/f"), Bytes::from_static(b"x")).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let event = events.next().await.unwrap().unwrap();
        seen.push((event.kind, event.path, event.is_dir));
    }
    let (dir, file) = (text(&fixture.data().join("d")), text(&fixture.data().join("d/f")));
    assert_eq!(seen, [(FileEventKind::Created, dir, true), (FileEventKind::Created, file, false)]);
    closed.cancel();
    assert!(events.next().await.is_none());
    let mut events =
        client.watch(&WatchOptions::default().path("d"), CancellationToken::new()).await.unwrap();
    std::fs::remove_dir_all(fixture.data().join("d")).unwrap();
    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event.unwrap());
    }
    let last = last.unwrap();
    assert_eq!((last.kind, last.path), (FileEventKind::Removed, text(&fixture.data().join("d"))));
    let mut events = client.watch(&WatchOptions::default(), CancellationToken::new()).await.unwrap();
    fixture.kill_agent();
    let error = events.next().await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Unavailable, "fs.watch"));
    assert!(events.next().await.is_none());
}
