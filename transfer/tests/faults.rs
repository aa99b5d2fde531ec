//! Broken connections, servers that stumble, and answers that are lost: between us and a real server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::*;
use dunnage_harness::{Fault, FaultProxy, S3};
use dunnage_transfer::{ErrorKind, Keys, Seal, WriteOptions, seal, unseal};
use proptest::prelude::*;
use std::io::{Read, Write};
use std::sync::LazyLock;

/// How many requests of this method had this in their path.
fn count(proxy: &FaultProxy, method: &str, needle: &str) -> usize {
    proxy.seen().iter().filter(|seen| seen.method == method && seen.path.contains(needle)).count()
}

#[test]
fn parts_whose_connection_breaks_are_sent_again_and_others_are_not() {
    let server = server();
    let proxy = proxy(&server, "drop-upload:1000000:4");
    let plain = bytes(6 * PART + 17, 1);
    let stored = store(&through(&server, &proxy, "archive"), &plain, &parts(KEEP)).unwrap();
    assert!(stored.guarded && stored.bytes == plain.len() as u64);
    assert!(fetch(&place(&server, "archive")).unwrap() == plain);
    assert_eq!(count(&proxy, "PUT", "partNumber="), 7 + 4);
    assert_eq!((proxy.counts().faults, uploads(&server)), (4, 0));
}

#[test]
fn a_small_archive_whose_connection_breaks_is_sent_again() {
    let server = server();
    let proxy = proxy(&server, "drop-upload:1000:2");
    store(&through(&server, &proxy, "archive"), &bytes(100_000, 1), &parts(KEEP)).unwrap();
    assert!(fetch(&place(&server, "archive")).unwrap() == bytes(100_000, 1));
    assert_eq!((count(&proxy, "PUT", "archive"), proxy.counts().faults), (3, 2));
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    let server = server();
    for code in [429, 500, 503] {
        let proxy = proxy(&server, &format!("status:{code}:3:0"));
        let place = through(&server, &proxy, &format!("archive-{code}"));
        let plain = bytes(2 * PART, code);
        store(&place, &plain, &parts(KEEP)).unwrap();
        proxy.set_faults(Fault::parse_all(&format!("status:{code}:2")).unwrap());
        assert!(fetch(&place).unwrap() == plain);
        assert_eq!(proxy.counts().faults, 5);
        assert_eq!(count(&proxy, "GET", "archive"), 3);
    }
}

#[test]
fn attempts_end() {
    let server = server();
    let proxy = proxy(&server, "status:503:0");
    let place = with(&server, &proxy, "archive", short_of_patience);
    let error = place.read().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("503 SlowDown"), "{error}");
    assert_eq!(proxy.seen().len(), 3);
    proxy.reset_counts();
    assert_eq!(kind(store(&place, b"content", &parts(REPLACE))), ErrorKind::Unavailable);
    // Once more to see whether it is there all the same, with the attempts of that.
    assert_eq!((count(&proxy, "PUT", "archive"), count(&proxy, "HEAD", "archive")), (3, 3));

    // Parts never arrive: the upload is given up and removed.
    proxy.set_faults(Fault::parse_all("drop-upload:1000:0").unwrap());
    assert_eq!(kind(store(&place, &bytes(3 * PART, 1), &parts(KEEP))), ErrorKind::Unavailable);
    assert_eq!(uploads(&server), 0);
    assert!(!server.file("bucket", "archive").exists());
}

#[test]
fn what_is_under_way_when_all_is_given_up_does_not_come_back() {
    let server = server();
    let proxy = proxy(&server, "");
    let mut writer = through(&server, &proxy, "archive").write(&parts(KEEP)).unwrap();
    writer.write_all(&bytes(2 * PART, 1)).unwrap();
    // The next part hangs for longer than it is waited for, and arrives all the same.
    proxy.set_faults(Fault::parse_all("delay:3000").unwrap());
    writer.write_all(&bytes(PART, 1)).unwrap();
    drop(writer);
    assert_eq!(count(&proxy, "DELETE", "uploadId="), 2);
    assert_eq!(uploads(&server), 0);
}

#[test]
fn a_failed_writer_stays_failed() {
    let server = server();
    let proxy = proxy(&server, "drop-upload:1000:0");
    let mut writer = with(&server, &proxy, "archive", short_of_patience).write(&parts(KEEP)).unwrap();
    let error =
        std::iter::repeat_with(|| writer.write_all(&bytes(PART, 1))).take(40).find_map(Result::err).unwrap();
    assert_eq!(carried(error).kind(), ErrorKind::Unavailable);
    proxy.set_faults(Vec::new());
    assert_eq!(carried(writer.write_all(b"more").unwrap_err()).kind(), ErrorKind::Unavailable);
    assert_eq!(kind(writer.finish()), ErrorKind::Unavailable);
    assert_eq!(uploads(&server), 0);
    assert!(!server.file("bucket", "archive").exists());
}

#[test]
fn an_archive_whose_last_answer_is_lost_is_known_to_be_ours() {
    let server = server();
    for (length, needle) in [(10, "PUT "), (2 * PART, "POST ")] {
        for options in [parts(KEEP), parts(REPLACE)] {
            let key = format!("{length}-{}", options.overwrite);
            // The second attempt finds the first one's object there, or no upload any more.
            let proxy = proxy(&server, "");
            let place = through(&server, &proxy, &key);
            let mut writer = place.write(&options).unwrap();
            // An upload in parts has begun by now; what is lost is its end.
            writer.write_all(&bytes(length, 1)).unwrap();
            proxy.set_faults(vec![Fault::LoseAnswer { needle: needle.to_owned(), times: 1 }]);
            let stored = writer.finish().unwrap();
            assert_eq!(proxy.counts().faults, 1, "{key}");
            let mut reader = place.read().unwrap();
            assert_eq!(reader.etag().map(str::to_owned), stored.etag, "{key}");
            let mut plain = Vec::new();
            reader.read_to_end(&mut plain).unwrap();
            assert!(plain.len() as u64 == stored.bytes && plain.starts_with(&bytes(length, 1)), "{key}");
            assert_eq!(uploads(&server), 0, "{key}");
        }
    }
}

#[test]
fn a_lost_answer_does_not_make_somebody_elses_object_ours() {
    let server = server();
    let proxy = proxy(&server, "");
    let mut writer = through(&server, &proxy, "archive").write(&parts(KEEP)).unwrap();
    writer.write_all(b"ours").unwrap();
    store(&place(&server, "archive"), b"somebody else's", &parts(KEEP)).unwrap();
    proxy.set_faults(vec![Fault::LoseAnswer { needle: "PUT ".into(), times: 1 }]);
    assert_eq!(kind(writer.finish()), ErrorKind::Exists);
    assert_eq!(proxy.counts().faults, 1);
    assert_eq!(fetch(&place(&server, "archive")).unwrap(), b"somebody else's");
}

#[test]
fn a_download_goes_on_where_it_broke() {
    let server = server();
    let plain = bytes(5_000_000, 1);
    let stored = store(&place(&server, "archive"), &plain, &parts(KEEP)).unwrap();
    let proxy = proxy(&server, "drop:1500000:3");
    assert!(fetch(&through(&server, &proxy, "archive")).unwrap() == plain);
    let seen = proxy.seen();
    let ranges: Vec<_> = seen.iter().map(|seen| seen.range.as_deref()).collect();
    let rest = |from: u64| format!("bytes={from}-4999999");
    let [second, third, fourth] = [1_500_000, 3_000_000, 4_500_000].map(rest);
    assert_eq!(ranges, [None, Some(&*second), Some(&*third), Some(&*fourth)]);
    let etag = format!("\"{}\"", stored.etag.unwrap());
    assert!(seen.iter().skip(1).all(|seen| seen.condition.as_deref() == Some(&etag)), "{seen:?}");
    // Nothing came twice.
    assert_eq!(proxy.counts().blob_bytes, 5_000_000);
}

#[test]
fn a_download_that_stops_to_come_is_asked_for_again() {
    let server = server();
    let plain = bytes(3_000_000, 1);
    store(&place(&server, "archive"), &plain, &parts(KEEP)).unwrap();
    let proxy = proxy(&server, "stall:1000000:1");
    assert!(fetch(&with(&server, &proxy, "archive", short_of_patience)).unwrap() == plain);
    assert_eq!((proxy.seen().len(), proxy.counts().faults), (2, 1));
}

#[test]
fn a_download_that_never_gets_on_ends() {
    let server = server();
    store(&place(&server, "archive"), &bytes(3_000_000, 1), &parts(KEEP)).unwrap();
    let proxy = proxy(&server, "drop:1000:0");
    let mut reader = with(&server, &proxy, "archive", short_of_patience).read().unwrap();
    let mut plain = Vec::new();
    let error = reader.read_to_end(&mut plain).unwrap_err();
    assert_eq!(carried(error).kind(), ErrorKind::Unavailable);
    assert_eq!(proxy.seen().len(), 3);
    assert_eq!(plain.len(), 3_000);
    assert!(bytes(3_000_000, 1).starts_with(&plain));
    // It goes on failing.
    assert_eq!(carried(reader.read(&mut [0; 10]).unwrap_err()).kind(), ErrorKind::Unavailable);
}

#[test]
fn an_object_that_is_replaced_or_removed_meanwhile_is_told_and_never_mixed() {
    let server = server();
    let original = bytes(40 << 20, 1);
    for replaced in [true, false] {
        let key = format!("archive-{replaced}");
        store(&place(&server, &key), &original, &WriteOptions { overwrite: true, ..parts(KEEP) }).unwrap();
        // Far behind what is fetched ahead, so it breaks only when it is read.
        let proxy = proxy(&server, "drop:36000000:1");
        let mut reader = through(&server, &proxy, &key).read().unwrap();
        let mut plain = vec![0; 1000];
        reader.read_exact(&mut plain).unwrap();
        if replaced {
            // Of the same size, so that only the tag tells.
            store(&place(&server, &key), &bytes(40 << 20, 2), &parts(REPLACE)).unwrap();
        } else {
            std::fs::remove_file(server.file("bucket", &key)).unwrap();
        }
        let error = reader.read_to_end(&mut plain).unwrap_err();
        let error = carried(error);
        assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
        assert_eq!(error.place(), Some(format!("s3://bucket/{key}").as_str()));
        assert_eq!(plain.len(), 36_000_000);
        assert!(original.starts_with(&plain));
    }
}

#[test]
fn a_bit_that_flips_on_the_way_is_told_by_the_seal() {
    let server = server();
    let plain = bytes(3_000_000, 1);
    let place = place(&server, "archive");
    let keys = Keys::passphrase("correct horse battery staple");
    let with = Seal::passphrase("correct horse battery staple");
    let mut sealer = seal(place.write(&parts(KEEP)).unwrap(), &with).unwrap();
    sealer.write_all(&plain).unwrap();
    sealer.finish().unwrap().finish().unwrap();

    let proxy = proxy(&server, "drop:500000:2");
    let mut reader = unseal(through(&server, &proxy, "archive").read().unwrap(), &keys).unwrap();
    let mut back = Vec::new();
    reader.read_to_end(&mut back).unwrap();
    assert!(back == plain);

    proxy.set_faults(Fault::parse_all("corrupt:1").unwrap());
    let mut reader = unseal(through(&server, &proxy, "archive").read().unwrap(), &keys).unwrap();
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(carried(error).kind(), ErrorKind::Corrupt);

    // What is wrong with the place is not taken for damage.
    proxy.set_faults(Fault::parse_all("drop:500000:0").unwrap());
    let broken = with_no_retries(&server, &proxy);
    let mut reader = unseal(broken.read().unwrap(), &keys).unwrap();
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(carried(error).kind(), ErrorKind::Unavailable);
}

fn with_no_retries(server: &S3, proxy: &FaultProxy) -> dunnage_transfer::Place {
    with(server, proxy, "archive", |options| options.retries = 0)
}

static SERVER: LazyLock<S3> = LazyLock::new(server);

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn wherever_it_breaks_the_bytes_are_the_same(
        length in 1_usize..3 * PART,
        up in 1_u64..PART as u64,
        down in 1_u64..2 * PART as u64,
        times in 1_u64..4,
    ) {
        let plain = bytes(length, up);
        let proxy = proxy(&SERVER, &format!("drop-upload:{up}:{times}+drop:{down}:{times}"));
        let place = through(&SERVER, &proxy, "anywhere");
        store(&place, &plain, &parts(REPLACE)).unwrap();
        prop_assert!(fetch(&place).unwrap() == plain);
        prop_assert_eq!(uploads(&SERVER), 0);
    }
}
