//! A real S3 server starts, guards its buckets, and goes away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::net::TcpStream;

use common::get;
use dunnage_harness::{Fault, FaultProxy, S3, S3Options};

#[test]
fn a_server_starts_and_leaves_nothing() {
    let server = S3::start(S3Options::default()).unwrap();
    let storage = server.file("bucket", "key");
    std::fs::write(&storage, "content").unwrap();
    let answer = get(&server.address().to_string(), "/bucket/key", &[]);
    let told = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(told.contains("<Code>AccessDenied</Code>"), "{told}");

    let address = server.address();
    server.stop().unwrap();
    assert!(TcpStream::connect(address).is_err());
    assert!(!storage.parent().unwrap().exists());
}

#[test]
fn a_proxy_before_it_refuses_as_s3_does_and_notes_what_it_saw() {
    let server = S3::start(S3Options::default()).unwrap();
    let proxy = FaultProxy::start_s3(server.address(), Fault::parse_all("status:503:1").unwrap()).unwrap();
    let answer = get(&proxy.host(), "/bucket/key?x=1", &["Range: bytes=5-"]);
    assert_eq!(answer.status, 503);
    assert!(String::from_utf8_lossy(&answer.body).contains("<Code>SlowDown</Code>"));
    assert_eq!(get(&proxy.host(), "/bucket/key", &["If-Match: \"a\""]).status, 403);
    // A bucket is no object.
    proxy.set_faults(Fault::parse_all("status:503:1").unwrap());
    assert_eq!(get(&proxy.host(), "/bucket/", &[]).status, 403);
    let seen = proxy.seen();
    assert_eq!((seen[0].method.as_str(), seen[0].path.as_str()), ("GET", "/bucket/key?x=1"));
    assert_eq!((seen[0].range.as_deref(), seen[1].condition.as_deref()), (Some("bytes=5-"), Some("\"a\"")));
    assert_eq!(proxy.counts().faults, 1);
}

#[test]
fn an_answer_is_lost_after_the_deed() {
    let server = S3::start(S3Options::default()).unwrap();
    let proxy =
        FaultProxy::start_s3(server.address(), Fault::parse_all("lose-answer:GET /bucket/key").unwrap());
    let proxy = proxy.unwrap();
    let host = proxy.host();
    let lost = std::panic::catch_unwind(|| get(&host, "/bucket/key", &[]));
    assert!(lost.is_err(), "an answer came");
    assert_eq!(get(&proxy.host(), "/bucket/key", &[]).status, 403);
    assert_eq!(proxy.counts().faults, 1);
}
