//! What the tests of places share.

#![allow(dead_code, reason = "each test has a use for some of it")]

use dunnage_harness::{Fault, FaultProxy, S3, S3Options};
use dunnage_transfer::{Error, ErrorKind, Place, PlaceOptions, Result, Stored, WriteOptions};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The smallest part that S3 takes.
pub(crate) const PART: usize = 5 << 20;

/// A server with one bucket.
pub(crate) fn server() -> S3 {
    S3::start(S3Options::default()).unwrap()
}

/// Something that misbehaves before it.
pub(crate) fn proxy(server: &S3, faults: &str) -> FaultProxy {
    FaultProxy::start_s3(server.address(), Fault::parse_all(faults).unwrap()).unwrap()
}

/// How an endpoint is reached with the server's own credentials.
pub(crate) fn options(server: &S3, endpoint: &str) -> PlaceOptions {
    PlaceOptions {
        endpoint: Some(endpoint.to_owned()),
        access_key_id: Some(server.options().access_key_id.clone()),
        secret_access_key: Some(server.options().secret_access_key.clone()),
        region: Some(server.options().region.clone()),
        allow_http: true,
        ..PlaceOptions::default()
    }
}

pub(crate) fn place(server: &S3, key: &str) -> Place {
    Place::parse(&format!("s3://bucket/{key}"), &options(server, &server.endpoint())).unwrap()
}

/// The same, through the proxy.
pub(crate) fn through(server: &S3, proxy: &FaultProxy, key: &str) -> Place {
    with(server, proxy, key, |_| {})
}

/// The same, with options changed.
pub(crate) fn with(
    server: &S3,
    proxy: &FaultProxy,
    key: &str,
    change: impl FnOnce(&mut PlaceOptions),
) -> Place {
    let mut options = options(server, &format!("http://{}", proxy.host()));
    change(&mut options);
    Place::parse(&format!("s3://bucket/{key}"), &options).unwrap()
}

pub(crate) fn short_of_patience(options: &mut PlaceOptions) {
    (options.retries, options.stall) = (2, Duration::from_secs(1));
}

pub(crate) const REPLACE: bool = true;
pub(crate) const KEEP: bool = false;

/// In the smallest parts.
pub(crate) fn parts(overwrite: bool) -> WriteOptions {
    WriteOptions { overwrite, part_size: PART as u64, ..WriteOptions::default() }
}

pub(crate) fn store(place: &Place, bytes: &[u8], options: &WriteOptions) -> Result<Stored> {
    let mut writer = place.write(options)?;
    writer.write_all(bytes).map_err(carried)?;
    writer.finish()
}

pub(crate) fn fetch(place: &Place) -> Result<Vec<u8>> {
    let mut reader = place.read()?;
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(carried)?;
    assert_eq!(reader.size(), bytes.len() as u64);
    Ok(bytes)
}

/// The error of the crate that one of the standard library carries.
pub(crate) fn carried(error: std::io::Error) -> Error {
    *error.into_inner().unwrap().downcast().unwrap()
}

pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// Bytes that do not repeat, and differ with the seed.
pub(crate) fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(next).take(length.div_ceil(8)).flatten().collect();
    bytes.truncate(length);
    bytes
}

/// The unfinished uploads that the server knows of: a list that is asked for with a signed address.
pub(crate) fn uploads(server: &S3) -> usize {
    let options = server.options();
    let store = AmazonS3Builder::new()
        .with_bucket_name("bucket")
        .with_endpoint(server.endpoint())
        .with_region(&options.region)
        .with_access_key_id(&options.access_key_id)
        .with_secret_access_key(&options.secret_access_key)
        .with_http_connector(Nobody)
        .build()
        .unwrap();
    let signing = SignedUrlOptions::default().with_query([("uploads", "")]);
    let minute = Duration::from_secs(60);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let url = runtime
        .block_on(store.signed_url_opts(http::Method::GET, &Path::default(), minute, &signing))
        .unwrap();
    let target = url.as_str().strip_prefix(&server.endpoint()).unwrap();
    let mut connection = TcpStream::connect(server.address()).unwrap();
    write!(connection, "GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", server.address())
        .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("ListMultipartUploadsResult"), "{answer}");
    answer.matches("<UploadId>").count()
}

/// Signing needs no client.
#[derive(Debug)]
struct Nobody;

impl object_store::client::HttpConnector for Nobody {
    fn connect(
        &self,
        _: &object_store::ClientOptions,
    ) -> object_store::Result<object_store::client::HttpClient> {
        Ok(object_store::client::HttpClient::new(Self))
    }
}

#[async_trait::async_trait]
impl object_store::client::HttpService for Nobody {
    async fn call(
        &self,
        _: object_store::client::HttpRequest,
    ) -> Result<object_store::client::HttpResponse, object_store::client::HttpError> {
        unreachable!("nobody is asked")
    }
}
