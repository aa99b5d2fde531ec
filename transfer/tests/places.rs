//! Files and objects: written whole or not at all, and read as they are. The objects are on a real server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::*;
use dunnage_transfer::{ErrorKind, Place, PlaceOptions, WriteOptions};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

fn file(path: &Path) -> Place {
    Place::parse(&format!("file://{}", path.display()), &PlaceOptions::default()).unwrap()
}

/// The names in a directory.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn bytes_come_back_from_both_whatever_their_number() {
    let server = server();
    let dir = tempfile::tempdir().unwrap();
    let lengths = [0, 1, PART - 1, PART, PART + 1, 2 * PART - 1, 2 * PART, 2 * PART + 1, 64 << 20];
    for (seed, length) in lengths.into_iter().enumerate() {
        let plain = bytes(length, seed as u64);
        for place in [file(&dir.path().join(format!("{length}"))), place(&server, &format!("dir/{length}"))] {
            let stored = store(&place, &plain, &parts(KEEP)).unwrap();
            assert_eq!((stored.bytes, stored.guarded), (length as u64, true));
            assert!(fetch(&place).unwrap() == plain, "{place}");
            assert_eq!(place.read().unwrap().etag().map(str::to_owned), stored.etag, "{place}");
        }
    }
    assert_eq!(uploads(&server), 0);
}

#[test]
fn a_file_shows_when_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("archive");
    let place = file(&path);
    for abort in [false, true] {
        let mut writer = place.write(&WriteOptions::default()).unwrap();
        writer.write_all(b"half").unwrap();
        let [there] = &names(dir.path())[..] else { panic!() };
        assert!(there.starts_with(".archive.") && there.ends_with(".part"));
        let mode = fs::metadata(dir.path().join(there)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        if abort {
            writer.abort().unwrap();
        } else {
            drop(writer);
        }
        assert_eq!(names(dir.path()), [""; 0]);
    }
    store(&place, b"whole", &WriteOptions::default()).unwrap();
    assert_eq!(names(dir.path()), ["archive"]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    // The name at its longest leaves room for what is put before and after it.
    let long = dir.path().join("\u{fc}".repeat(127));
    store(&file(&long), b"whole", &WriteOptions::default()).unwrap();
    assert_eq!(fs::read(long).unwrap(), b"whole");
}

#[test]
fn a_file_is_replaced_only_when_it_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("archive");
    let place = file(&path);
    store(&place, b"first", &WriteOptions::default()).unwrap();
    assert_eq!(kind(place.write(&WriteOptions::default())), ErrorKind::Exists);
    let replace = WriteOptions { overwrite: true, ..WriteOptions::default() };
    assert!(!store(&place, b"second", &replace).unwrap().guarded);
    assert_eq!(fetch(&place).unwrap(), b"second");

    // It comes while the other is written.
    fs::remove_file(&path).unwrap();
    let writer = place.write(&WriteOptions::default()).unwrap();
    fs::write(&path, "somebody else's").unwrap();
    assert_eq!(kind(writer.finish()), ErrorKind::Exists);
    assert_eq!(fetch(&place).unwrap(), b"somebody else's");
    assert_eq!(names(dir.path()), ["archive"]);

    // A link is replaced, and what it points to is not.
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    assert_eq!(kind(file(&link).write(&WriteOptions::default())), ErrorKind::Exists);
    store(&file(&link), b"new", &replace).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_file());
    assert_eq!(fs::read(&path).unwrap(), b"somebody else's");
}

#[test]
fn what_is_no_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let replace = WriteOptions { overwrite: true, ..WriteOptions::default() };
    for path in [pipe.as_path(), dir.path()] {
        assert_eq!(kind(file(path).write(&replace)), ErrorKind::Invalid);
        assert_eq!(kind(file(path).read()), ErrorKind::Invalid);
    }
    let missing = file(&dir.path().join("missing/archive"));
    assert_eq!(kind(missing.write(&replace)), ErrorKind::NotFound);
    let error = missing.read().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.place().unwrap().ends_with("/missing/archive"), "{error}");
}

#[test]
fn a_file_that_changes_while_it_is_read_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("archive");
    for (change, says) in [(5_000, "shorter"), (50_000, "longer")] {
        fs::write(&path, bytes(20_000, 1)).unwrap();
        let mut reader = file(&path).read().unwrap();
        reader.read_exact(&mut [0; 1000]).unwrap();
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(change).unwrap();
        let error = reader.read_to_end(&mut Vec::new()).expect_err(says);
        assert_eq!(carried(error).kind(), ErrorKind::Changed, "{says}");
    }
}

#[test]
fn small_archives_take_one_request_and_large_ones_one_for_each_part() {
    let server = server();
    let proxy = proxy(&server, "");
    let methods = || proxy.seen().into_iter().map(|seen| seen.method).collect::<Vec<_>>();
    let small = through(&server, &proxy, "small");
    store(&small, &bytes(PART, 1), &parts(KEEP)).unwrap();
    assert_eq!(methods(), ["HEAD", "PUT"]);
    assert_eq!(proxy.seen()[1].condition.as_deref(), Some("*"));
    proxy.reset_counts();
    store(&small, &bytes(PART, 2), &parts(REPLACE)).unwrap();
    assert_eq!(methods(), ["PUT"]);
    assert_eq!(proxy.seen()[0].condition, None);
    proxy.reset_counts();
    fetch(&small).unwrap();
    assert_eq!(methods(), ["GET"]);

    proxy.reset_counts();
    store(&through(&server, &proxy, "large"), &bytes(3 * PART + 1, 3), &parts(KEEP)).unwrap();
    assert_eq!(methods(), ["HEAD", "POST", "PUT", "PUT", "PUT", "PUT", "POST"]);
    let conditions: Vec<_> = proxy.seen().into_iter().map(|seen| seen.condition).collect();
    assert_eq!(conditions.last().unwrap().as_deref(), Some("*"));
    assert_eq!(conditions.iter().flatten().count(), 1);
}

#[test]
fn an_object_shows_when_it_is_whole_and_leaves_nothing_otherwise() {
    let server = server();
    let place = place(&server, "archive");
    for abort in [false, true] {
        let mut writer = place.write(&parts(KEEP)).unwrap();
        writer.write_all(&bytes(3 * PART, 1)).unwrap();
        assert_eq!(uploads(&server), 1);
        assert_eq!(kind(place.read()), ErrorKind::NotFound);
        if abort {
            writer.abort().unwrap();
        } else {
            drop(writer);
        }
        assert_eq!(uploads(&server), 0);
        assert!(!server.file("bucket", "archive").exists());
    }
    let mut small = place.write(&parts(KEEP)).unwrap();
    small.write_all(b"half").unwrap();
    drop(small);
    assert_eq!(kind(place.read()), ErrorKind::NotFound);
}

#[test]
fn an_object_is_replaced_only_when_it_may_be() {
    let server = server();
    for length in [10, 2 * PART] {
        let place = place(&server, &format!("archive-{length}"));
        store(&place, &bytes(length, 1), &parts(KEEP)).unwrap();
        assert_eq!(kind(place.write(&parts(KEEP))), ErrorKind::Exists);
        store(&place, &bytes(length, 2), &parts(REPLACE)).unwrap();
        assert!(fetch(&place).unwrap() == bytes(length, 2));

        // It comes while the other is written.
        let place = common::place(&server, &format!("race-{length}"));
        let mut writer = place.write(&parts(KEEP)).unwrap();
        writer.write_all(&bytes(length, 3)).unwrap();
        store(&place, b"somebody else's", &parts(KEEP)).unwrap();
        assert_eq!(kind(writer.finish()), ErrorKind::Exists);
        assert_eq!(fetch(&place).unwrap(), b"somebody else's");
        assert_eq!(uploads(&server), 0);
    }
}

#[test]
fn a_server_without_conditions_is_asked_before() {
    let server = server();
    let proxy = proxy(&server, "no-conditions");
    for length in [10, 2 * PART] {
        let place = through(&server, &proxy, &format!("archive-{length}"));
        let stored = store(&place, &bytes(length, 1), &parts(KEEP)).unwrap();
        assert!(!stored.guarded);
        assert!(fetch(&place).unwrap() == bytes(length, 1));

        let place = through(&server, &proxy, &format!("race-{length}"));
        let mut writer = place.write(&parts(KEEP)).unwrap();
        writer.write_all(&bytes(length, 2)).unwrap();
        store(&common::place(&server, &format!("race-{length}")), b"somebody else's", &parts(KEEP)).unwrap();
        assert_eq!(kind(writer.finish()), ErrorKind::Exists);
        assert_eq!(fetch(&place).unwrap(), b"somebody else's");
    }
    assert_eq!(uploads(&server), 0);
}

#[test]
fn what_is_missing_and_what_is_not_allowed_is_told() {
    let server = server();
    let options = options(&server, &server.endpoint());
    let at = |url: &str, options: &PlaceOptions| Place::parse(url, options).unwrap();
    let missing = at("s3://bucket/missing", &options);
    let error = missing.read().unwrap_err();
    assert_eq!((error.kind(), error.place()), (ErrorKind::NotFound, Some("s3://bucket/missing")));
    let nowhere = at("s3://no-such-bucket/archive", &options);
    assert_eq!(kind(nowhere.read()), ErrorKind::NotFound);
    assert_eq!(kind(store(&nowhere, b"content", &parts(KEEP))), ErrorKind::NotFound);
    assert_eq!(kind(store(&nowhere, &bytes(2 * PART, 1), &parts(KEEP))), ErrorKind::NotFound);

    let stranger = PlaceOptions { access_key_id: Some("stranger".into()), ..options.clone() };
    let liar = PlaceOptions { secret_access_key: Some("not-the-secret".into()), ..options.clone() };
    for (wrong, says) in [(&stranger, "access key id"), (&liar, "secret access key")] {
        let place = at("s3://bucket/archive", wrong);
        for error in [place.read().unwrap_err(), store(&place, b"content", &parts(REPLACE)).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
            let shown = format!("{error} {error:?} {place:?} {wrong:?}");
            assert!(error.to_string().contains(says), "{error}");
            assert!(!shown.contains("not-the-secret") && !shown.contains("dunnage-secret"), "{shown}");
        }
        assert_eq!(kind(store(&place, b"content", &parts(KEEP))), ErrorKind::Denied);
    }
}

#[test]
fn a_server_that_cannot_be_reached_is_told() {
    let server = server();
    // Nobody listens where somebody just did.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // Somebody listens and says nothing; the connections wait in the queue.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    for (address, scheme, says) in [
        (closed, "http", "cannot be reached"),
        (mute.local_addr().unwrap(), "http", "does not answer"),
        (server.address(), "https", "TLS"),
    ] {
        let mut options = options(&server, &format!("{scheme}://{address}"));
        short_of_patience(&mut options);
        let place = Place::parse("s3://bucket/archive", &options).unwrap();
        for error in [place.read().unwrap_err(), store(&place, b"content", &parts(REPLACE)).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            assert!(error.to_string().contains(says), "{error:?}");
        }
    }
}

#[test]
fn any_key_goes() {
    let server = server();
    for key in ["a b/c", "\u{fc}\u{4e2d}", "100%25", "a+b&c=d", "what?#", "~!*'();:@$,[]", "a..b/.c"] {
        let place = place(&server, key);
        store(&place, key.as_bytes(), &parts(KEEP)).unwrap();
        assert_eq!(fetch(&place).unwrap(), key.as_bytes(), "{key}");
        assert!(server.file("bucket", key).is_file(), "{key}");
    }
}

#[test]
fn options_out_of_bounds_are_refused() {
    let server = server();
    let place = place(&server, "archive");
    for options in [
        WriteOptions { part_size: PART as u64 - 1, ..parts(KEEP) },
        WriteOptions { part_size: (5 << 30) + 1, ..parts(KEEP) },
        WriteOptions { parts_at_once: 0, ..parts(KEEP) },
        WriteOptions { parts_at_once: 17, ..parts(KEEP) },
    ] {
        assert_eq!(kind(place.write(&options)), ErrorKind::Invalid);
    }
}

#[test]
fn threads_of_a_runtime_may_call_too() {
    let server = server();
    let place = place(&server, "archive");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let plain = bytes(3 * PART, 1);
    runtime.block_on(async {
        // On the thread that runs futures, and on one for what blocks; everything is dropped there as well.
        store(&place, &plain, &parts(KEEP)).unwrap();
        let (place, plain) = (place.clone(), plain.clone());
        let mut reader = place.read().unwrap();
        tokio::task::spawn_blocking(move || {
            let mut back = Vec::new();
            reader.read_to_end(&mut back).unwrap();
            assert!(back == plain);
            let mut writer = place.write(&parts(REPLACE)).unwrap();
            writer.write_all(&plain).unwrap();
        })
        .await
        .unwrap();
    });
    runtime.block_on(async { drop(place) });
    assert_eq!(uploads(&server), 0);
    runtime.shutdown_timeout(Duration::from_secs(10));
}

#[test]
fn several_write_and_read_one_place_at_once() {
    let server = server();
    let place = place(&server, "archive");
    let plain = bytes(2 * PART + 3, 1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| store(&place, &plain, &parts(KEEP)))).collect();
        let results: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
        let others = results.into_iter().filter_map(Result::err);
        assert!(others.into_iter().all(|error| error.kind() == ErrorKind::Exists));
    });
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(fetch(&place).unwrap() == plain));
        }
    });
    assert_eq!(uploads(&server), 0);
}
