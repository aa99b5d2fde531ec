//! Faults do what they are told, and no more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::get;
use dunnage_harness::{Auth, Fault, FaultProxy, Registry, RegistryOptions, fixtures};

/// A registry with one image, its name there, and the digest and size of its second layer.
fn served() -> (Registry, String, String, u64) {
    let registry = Registry::start(RegistryOptions::default()).unwrap();
    let image = fixtures::image("uncompressed").unwrap();
    registry.add_as(&image, "some/image", "1").unwrap();
    let layer = image.layers().unwrap().pop().unwrap();
    (
        registry,
        format!("/v2/some/image/blobs/{}", layer.digest),
        "/v2/some/image/manifests/1".into(),
        layer.size,
    )
}

fn proxy(registry: &Registry, faults: &str) -> FaultProxy {
    FaultProxy::start(registry.address(), Fault::parse_all(faults).unwrap()).unwrap()
}

#[test]
fn without_faults_nothing_changes() {
    let (registry, blob, manifest, size) = served();
    let proxy = proxy(&registry, "");
    let answer = get(&proxy.host(), &manifest, &["Accept: application/vnd.oci.image.manifest.v1+json"]);
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = get(&proxy.host(), &blob, &[]);
    assert_eq!((answer.status, answer.body.len() as u64, answer.complete), (200, size, true));
    let part = get(&proxy.host(), &blob, &["Range: bytes=100-199"]);
    assert_eq!((part.status, part.body.as_slice()), (206, &answer.body[100..200]));
    let counts = proxy.counts();
    assert_eq!((counts.manifests, counts.blobs, counts.ranges, counts.faults), (1, 2, 1, 0));
    assert_eq!(counts.blob_bytes, size + 100);
}

#[test]
fn a_connection_drops_as_often_as_told() {
    let (registry, blob, _, size) = served();
    let proxy = proxy(&registry, "drop:1000000:2");
    for _ in 0..2 {
        let answer = get(&proxy.host(), &blob, &[]);
        assert!(!answer.complete);
        assert_eq!(answer.body.len(), 1_000_000);
    }
    assert_eq!(get(&proxy.host(), &blob, &[]).body.len() as u64, size);
    assert_eq!(proxy.counts().faults, 2);
}

#[test]
fn a_stalled_blob_stays_open() {
    let (registry, blob, _, _) = served();
    let proxy = proxy(&registry, "stall:5000:1");
    let start = Instant::now();
    let answer = get(&proxy.host(), &blob, &[]);
    assert_eq!(answer.body.len(), 5000);
    assert!(start.elapsed() >= Duration::from_secs(1), "the connection was closed");
    assert!(get(&proxy.host(), &blob, &[]).complete);
}

#[test]
fn refusals_end() {
    let (registry, blob, manifest, _) = served();
    let proxy = proxy(&registry, "status:429:1:7+status:503:1");
    let first = get(&proxy.host(), &manifest, &[]);
    assert_eq!((first.status, first.header("retry-after")), (429, Some("7")));
    assert_eq!(get(&proxy.host(), &blob, &[]).status, 503);
    assert_eq!(get(&proxy.host(), &blob, &[]).status, 200);
    assert_eq!(get(&proxy.host(), "/v2/", &[]).status, 200);
}

#[test]
fn blobs_are_no_faster_than_the_throttle() {
    let (registry, blob, _, size) = served();
    let proxy = proxy(&registry, &format!("throttle:{}", size / 2));
    let start = Instant::now();
    assert!(get(&proxy.host(), &blob, &[]).complete);
    assert!(start.elapsed() > Duration::from_millis(1900), "{:?}", start.elapsed());
}

#[test]
fn one_bit_is_bent() {
    let (registry, blob, _, _) = served();
    let proxy = proxy(&registry, "corrupt:1");
    let (bent, sound) = (get(&proxy.host(), &blob, &[]), get(&proxy.host(), &blob, &[]));
    assert!(bent.complete && sound.complete);
    let differing = bent.body.iter().zip(&sound.body).filter(|(a, b)| a != b).count();
    assert_eq!(differing, 1);
}

#[test]
fn manifests_get_another_digest() {
    let (registry, _, manifest, _) = served();
    let proxy = proxy(&registry, "wrong-digest:1");
    let accept = ["Accept: application/vnd.oci.image.manifest.v1+json"];
    let (spoilt, sound) = (get(&proxy.host(), &manifest, &accept), get(&proxy.host(), &manifest, &accept));
    assert!(spoilt.complete);
    assert_eq!(spoilt.body.len(), sound.body.len() + 1);
    assert_eq!(spoilt.header("docker-content-digest"), sound.header("docker-content-digest"));
}

#[test]
fn ranges_can_be_ignored() {
    let (registry, blob, _, size) = served();
    let proxy = proxy(&registry, "no-range");
    let answer = get(&proxy.host(), &blob, &["Range: bytes=100-199"]);
    assert_eq!((answer.status, answer.body.len() as u64), (200, size));
    assert_eq!(proxy.counts().ranges, 1);
}

#[test]
fn a_token_is_needed_and_its_scope_counts() {
    let (registry, blob, _, _) = served();
    let proxy = proxy(&registry, "bearer:me:secret");
    let refused = get(&proxy.host(), &blob, &[]);
    assert_eq!(refused.status, 401);
    let way = refused.header("www-authenticate").unwrap();
    assert!(way.contains("scope=\"repository:some/image:pull\"") && way.contains(&proxy.host()), "{way}");

    let ask = |scope: &str, credentials: &[&str]| {
        let answer = get(&proxy.host(), &format!("/token?service=dunnage&scope={scope}"), credentials);
        let text = String::from_utf8(answer.body).unwrap();
        let token = text.split("\"token\":\"").nth(1).map(|rest| rest.split('"').next().unwrap().to_owned());
        (answer.status, token)
    };
    let me = ["Authorization: Basic bWU6c2VjcmV0"];
    assert_eq!(ask("repository:some/image:pull", &["Authorization: Basic bWU6d3Jvbmc="]).0, 401);
    let with = |token: Option<String>| {
        get(&proxy.host(), &blob, &[&format!("Authorization: Bearer {}", token.unwrap())]).status
    };
    assert_eq!(with(ask("repository:some/image:pull", &[]).1), 401);
    assert_eq!(with(ask("repository:other/image:pull", &me).1), 401);
    assert_eq!(with(ask("repository:some/image:pull", &me).1), 200);
    assert_eq!((proxy.counts().tokens, proxy.counts().unauthorized), (4, 3));
}

#[test]
fn credentials_that_follow_a_redirect_are_noticed() {
    let (registry, blob, _, size) = served();
    let proxy = proxy(&registry, "redirect");
    let answer = get(&proxy.host(), &blob, &[]);
    assert_eq!(answer.status, 307);
    let place = answer.header("location").unwrap().strip_prefix("http://").unwrap();
    let (host, path) = place.split_at(place.find('/').unwrap());
    assert_ne!(host, proxy.host());
    assert_eq!(get(host, path, &["Authorization: Bearer leaked"]).status, 400);
    assert_eq!(get(host, path, &[]).body.len() as u64, size);
    assert_eq!((proxy.counts().redirected, proxy.counts().leaked_credentials), (2, 1));
}

#[test]
fn faults_change_while_it_runs() {
    let (registry, blob, _, _) = served();
    let proxy = proxy(&registry, "status:500:0");
    assert_eq!(get(&proxy.host(), &blob, &[]).status, 500);
    assert_eq!(get(&proxy.host(), &blob, &[]).status, 500);
    proxy.set_faults(Vec::new());
    assert_eq!(get(&proxy.host(), &blob, &[]).status, 200);
}

#[test]
fn a_password_is_wanted() {
    let auth = Auth::Htpasswd { user: "me".into(), password: "secret".into() };
    let registry = Registry::start(RegistryOptions { auth, ..Default::default() }).unwrap();
    assert_eq!(get(&registry.host(), "/v2/", &[]).status, 401);
    assert_eq!(get(&registry.host(), "/v2/", &["Authorization: Basic bWU6d3Jvbmc="]).status, 401);
    assert_eq!(get(&registry.host(), "/v2/", &["Authorization: Basic bWU6c2VjcmV0"]).status, 200);
}
