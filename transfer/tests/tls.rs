//! A server behind TLS. Which authorities the system trusts is told by a variable of the environment, and that cannot be set in a process that
//! has threads: so this test runs itself once more.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::*;
use dunnage_harness::{Authority, S3, S3Options};
use dunnage_transfer::{ErrorKind, Place, PlaceOptions};
use std::process::Command;

/// Where the second run finds the server.
const ENDPOINT: &str = "DUNNAGE_TEST_TLS_ENDPOINT";

/// What the second run does, which has everything from its environment.
fn second() {
    let place = Place::parse("s3://bucket/archive", &PlaceOptions::default()).unwrap();
    let plain = bytes(2 * PART + 1, 1);
    store(&place, &plain, &parts(KEEP)).unwrap();
    assert!(fetch(&place).unwrap() == plain);
}

#[test]
fn a_server_is_trusted_when_the_system_says_so() {
    if std::env::var_os(ENDPOINT).is_some() {
        return second();
    }
    let authority = Authority::new("the server's authority").unwrap();
    let tls = Some(authority.server(&["127.0.0.1"]).unwrap());
    let server = S3::start(S3Options { tls, ..S3Options::default() }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("authority");
    std::fs::write(&file, authority.certificate()).unwrap();
    let told = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_server_is_trusted_when_the_system_says_so", "--nocapture"])
        .env(ENDPOINT, "set")
        .env("SSL_CERT_FILE", &file)
        .env("AWS_ENDPOINT_URL_S3", server.endpoint())
        .env("AWS_ACCESS_KEY_ID", &server.options().access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", &server.options().secret_access_key)
        .env_remove("AWS_SESSION_TOKEN")
        .env_remove("AWS_REGION")
        .env_remove("AWS_DEFAULT_REGION")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success(), "{text}{}", String::from_utf8_lossy(&told.stderr));
    assert!(text.contains("1 passed"), "{text}");
    assert!(server.file("bucket", "archive").is_file());

    // This process was not told.
    let options = PlaceOptions { allow_http: false, ..options(&server, &server.endpoint()) };
    let error = Place::parse("s3://bucket/archive", &options).unwrap().read().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("cannot be trusted"), "{error:?}");
}
