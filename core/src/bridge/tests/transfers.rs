use super::*;
use crate::ErrorKind;
use crate::operation::Copied;
use crate::types::{DownloadOptions, UploadOptions};
use bytes::Bytes;
use std::os::unix::fs::PermissionsExt;

/// Bytes that repeat nowhere.
fn bytes(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let mut bytes: Vec<u8> = words.take(length.div_ceil(8)).flatten().collect();
    bytes.truncate(length);
    bytes.into()
}

/// A workspace whose agent hands out no descriptors, so that bytes go over gRPC.
async fn without_descriptors() -> Fixture {
    let fixture = Fixture::start().await;
    std::fs::remove_file(fixture.path("run").join("bridge-fd.sock")).unwrap();
    fixture
}

async fn both() -> [Fixture; 2] {
    [Fixture::start().await, without_descriptors().await]
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_go_both_ways_by_either_way() {
    for fixture in both().await {
        let client = fixture.client();
        for length in [0, 1, 256 << 10, (256 << 10) + 1, 5_000_001] {
            let content = bytes(length);
            let result = client.write(&write("dir/f"), content.clone()).await.unwrap();
            assert_eq!(result.bytes_written, length as u64);
            assert!(std::fs::read(fixture.data().join("dir/f")).unwrap() == content, "{length}");
            assert!(client.read(&read("dir/f")).await.unwrap() == content, "{length}");
        }
        let error = client.read(&read("dir/f").max_bytes(5_000_000_u64)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        assert_eq!(client.read(&read("none")).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_and_written_piece_by_piece_by_either_way() {
    for fixture in both().await {
        let client = fixture.client();
        let content = bytes(3_500_000);
        let writer = client.open_write(&write("p")).await.unwrap();
        for piece in content.chunks(700_001) {
            writer.write(piece.to_vec()).await.unwrap();
            assert!(!fixture.data().join("p").exists(), "in place before it was finished");
        }
        assert_eq!(writer.finish().await.unwrap().bytes_written, 3_500_000);
        let error = writer.write("more").await.unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::FailedPrecondition, "fs.write"));
        writer.abort().await;
        let reader = client.open_read(&open("p")).await.unwrap();
        let mut back = Vec::new();
        while let Some(chunk) = reader.next_chunk().await.unwrap() {
            assert!(!chunk.is_empty());
            back.extend_from_slice(&chunk);
        }
        assert!(back == content);
        assert_eq!(reader.next_chunk().await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_file_changes_nothing_by_either_way() {
    for fixture in both().await {
        let client = fixture.client();
        client.write(&write("keep"), Bytes::from_static(b"old")).await.unwrap();
        let writer = client.open_write(&write("keep")).await.unwrap();
        writer.write(vec![1; 2_000_000]).await.unwrap();
        writer.abort().await;
        let writer = client.open_write(&write("keep")).await.unwrap();
        writer.write(vec![2; 2_000_000]).await.unwrap();
        drop(writer);
        let data = fixture.data();
        eventually("only the old file is left", || std::fs::read_dir(&data).unwrap().count() == 1).await;
        assert_eq!(client.read(&read("keep")).await.unwrap(), "old");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_files_keep_their_mode() {
    for fixture in both().await {
        let file = fixture.data().join("m");
        std::fs::write(&file, "x").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
        fixture.client().write(&write("m"), bytes(400_000)).await.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o640);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn host_files_are_uploaded_and_downloaded_by_either_way() {
    for fixture in both().await {
        let (client, host) = (fixture.client(), fixture.path("host"));
        let content = bytes(2_500_000);
        std::fs::write(host.join("source"), &content).unwrap();
        let up = UploadOptions::default().source(text(&host.join("source"))).path("deep/er/up");
        assert_eq!(client.upload(&up, &Copied::default()).await.unwrap().bytes_written, 2_500_000);
        assert!(std::fs::read(fixture.data().join("deep/er/up")).unwrap() == content);

        let destination = host.join("down");
        let down = DownloadOptions::default().path("deep/er/up").destination(text(&destination));
        assert_eq!(client.download(&down, &Copied::default()).await.unwrap().bytes_read, 2_500_000);
        assert!(std::fs::read(&destination).unwrap() == content);
        std::fs::set_permissions(&destination, PermissionsExt::from_mode(0o600)).unwrap();
        client.download(&down, &Copied::default()).await.unwrap();
        assert_eq!(destination.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&host).unwrap().count(), 2, "something was left behind");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_sources_and_destinations_are_refused() {
    let fixture = Fixture::start().await;
    let (client, host) = (fixture.client(), fixture.path("host"));
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, host.join("fifo"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    for (source, kind) in [
        (host.join("none"), ErrorKind::NotFound),
        (host.join("fifo"), ErrorKind::InvalidArgument),
        (host.clone(), ErrorKind::InvalidArgument),
        ("/dev/null".into(), ErrorKind::InvalidArgument),
        ("".into(), ErrorKind::InvalidArgument),
    ] {
        let up = UploadOptions::default().source(text(&source)).path("x");
        let result = tokio::time::timeout(Duration::from_secs(3), client.upload(&up, &Copied::default()))
            .await
            .unwrap();
        assert_eq!(result.unwrap_err().kind(), kind, "{}", source.display());
    }
    assert!(!fixture.data().join("x").exists());
    client.write(&write("f"), Bytes::from_static(b"x")).await.unwrap();
    for (destination, kind) in [
        (host.join("no/dir"), ErrorKind::NotFound),
        (host.clone(), ErrorKind::InvalidArgument),
        (host.join("fifo"), ErrorKind::InvalidArgument),
        ("".into(), ErrorKind::InvalidArgument),
    ] {
        let down = DownloadOptions::default().path("f").destination(text(&destination));
        let error = client.download(&down, &Copied::default()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    let down = DownloadOptions::default().path("none").destination(text(&host.join("d")));
    assert_eq!(client.download(&down, &Copied::default()).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(std::fs::read_dir(&host).unwrap().count(), 1);
}

/// A file system of one mebibyte, gone with its guard.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Option<Self> {
        let none: Option<&str> = None;
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(none, &at, Some("tmpfs"), flags, Some("size=1m")).ok()?;
        Some(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Also while the agent still holds a file of it open.
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_exhaustion_and_leaves_nothing() {
    for fixture in both().await {
        let (client, host) = (fixture.client(), fixture.path("host"));
        let Some(_disk) = SmallDisk::mount(host.clone()) else {
            println!("skipped: mounting takes root");
            return;
        };
        client.write(&write("big"), bytes(3 << 20)).await.unwrap();
        std::fs::write(host.join("d"), "old").unwrap();
        let down = DownloadOptions::default().path("big").destination(text(&host.join("d")));
        let error = client.download(&down, &Copied::default()).await.unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::ResourceExhausted, "fs.download"));
        assert_eq!(std::fs::read_dir(&host).unwrap().count(), 1);
        assert_eq!(std::fs::read(host.join("d")).unwrap(), b"old");

        // The same on the inside.
        let inside = host.join("inside");
        let path = text(&inside);
        let error = client.write(&write(&path), bytes(3 << 20)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
        eventually("nothing half is left", || std::fs::read_dir(&host).unwrap().count() == 1).await;
    }
}
