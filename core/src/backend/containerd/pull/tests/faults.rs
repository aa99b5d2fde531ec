//! Registries that misbehave, and images that are not what they say.

use super::{client_in, config, left, proxy, pulled, request, world};
use crate::ErrorKind;
use crate::backend::{PullRequest, Pulled};
use crate::config::{Credential, RegistryConfig};
use crate::error::Error;
use dunnage_harness::{Auth, Counts, Fault, Registry, RegistryOptions, fixtures};
use std::time::{Duration, Instant};

/// Pulls a fixture through faults in a namespace of its own, and checks that nothing is left.
async fn through(
    faults: Vec<Fault>,
    fixture: &str,
    credential: Option<Credential>,
) -> (Result<Pulled, Error>, Counts) {
    let world = world();
    let reference = world.registry.add(&fixtures::image(fixture).unwrap()).unwrap();
    let proxy = proxy(faults);
    let namespace = world.containerd.namespace();
    let client = client_in(&world.containerd, &namespace).await;
    let request = PullRequest { credential, ..request(&proxy.through(&reference)) };
    let done = pulled(&client, &config(), &request).await;
    assert_eq!(left(&world.containerd, &namespace), Vec::<String>::new());
    (done, proxy.counts())
}

#[tokio::test]
async fn dropped_and_stalled_blobs_are_resumed() {
    let (done, counts) = through(vec![Fault::Drop { after: 300_000, times: 2 }], "busybox", None).await;
    done.unwrap();
    assert!(counts.ranges >= 1 && counts.faults == 2, "{counts:?}");
    let (done, counts) = through(vec![Fault::Stall { after: 300_000, times: 1 }], "busybox", None).await;
    done.unwrap();
    assert_eq!(counts.ranges, 1, "{counts:?}");
    let faults = vec![Fault::Drop { after: 300_000, times: 1 }, Fault::NoRange];
    through(faults, "busybox", None).await.0.unwrap();
}

#[tokio::test]
async fn a_registry_that_turns_away_is_asked_again_as_it_says() {
    let begun = Instant::now();
    let faults = vec![Fault::Status { code: 429, times: 1, retry_after: Some(1) }];
    through(faults, "busybox", None).await.0.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    through(vec![Fault::Status { code: 503, times: 2, retry_after: None }], "busybox", None).await.0.unwrap();
    let (done, _) =
        through(vec![Fault::Status { code: 503, times: 0, retry_after: None }], "busybox", None).await;
    assert_eq!(done.unwrap_err().kind(), ErrorKind::Unavailable);
    let (done, counts) =
        through(vec![Fault::Status { code: 403, times: 0, retry_after: None }], "busybox", None).await;
    assert_eq!((done.unwrap_err().kind(), counts.manifests), (ErrorKind::PermissionDenied, 1));
}

#[tokio::test]
async fn a_registry_that_stalls_for_ever_is_given_up() {
    let (done, _) = through(vec![Fault::Stall { after: 0, times: 0 }], "busybox", None).await;
    let error = done.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

#[tokio::test]
async fn corrupt_blobs_and_manifests_are_named_and_not_kept() {
    for (faults, fixture) in [
        (vec![Fault::Corrupt { times: 0 }], "busybox"),
        (vec![Fault::WrongDigest { times: 0 }], "busybox"),
        (Vec::new(), "corrupt"),
        (Vec::new(), "wrong-digest"),
    ] {
        let (done, _) = through(faults.clone(), fixture, None).await;
        let error = done.expect_err(fixture);
        assert_eq!(error.kind(), ErrorKind::DataCorrupt, "{fixture} {faults:?}: {error}");
        assert!(error.to_string().contains("sha256:"), "{error}");
    }
}

#[tokio::test]
async fn tokens_are_fetched_and_stay_with_their_host() {
    let open = Fault::Bearer { user: None, password: None, lifetime: 300 };
    let (done, counts) = through(vec![open, Fault::Redirect], "busybox", None).await;
    done.unwrap();
    assert!(counts.tokens == 1 && counts.redirected > 0 && counts.leaked_credentials == 0, "{counts:?}");
    let closed = || {
        vec![Fault::Bearer {
            user: Some("me".to_owned()),
            password: Some("pw-secret".to_owned()),
            lifetime: 300,
        }]
    };
    let (done, _) = through(closed(), "busybox", Some(Credential::basic("me", "pw-secret"))).await;
    done.unwrap();
    for credential in [None, Some(Credential::basic("me", "pw-wrong"))] {
        let (done, _) = through(closed(), "busybox", credential).await;
        let error = done.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains("registry") && !text.contains("pw-"), "{text}");
    }
}

#[tokio::test]
async fn a_password_comes_from_the_call_the_configuration_or_docker() {
    let world = world();
    let auth = Auth::Htpasswd { user: "u".to_owned(), password: "p w:ü".to_owned() };
    let registry = Registry::start(RegistryOptions { auth, ..Default::default() }).unwrap();
    let reference = registry.add(&fixtures::image("busybox").unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    let packed = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, "u:p w:ü");
    std::fs::write(&path, format!(r#"{{"auths":{{"{}":{{"auth":"{packed}"}}}}}}"#, registry.host())).unwrap();
    let good = Credential::basic("u", "p w:ü");
    let plain = config();
    let configured = RegistryConfig { credentials: [(registry.host(), good.clone())].into(), ..config() };
    let docker = RegistryConfig { docker_config: Some(path), ..config() };
    for (config, credential, works) in [
        (&plain, None, false),
        (&plain, Some(Credential::basic("u", "x")), false),
        (&plain, Some(good), true),
        (&configured, None, true),
        (&docker, None, true),
    ] {
        let client = client_in(&world.containerd, &world.containerd.namespace()).await;
        let request = PullRequest { credential, ..request(&reference) };
        match pulled(&client, config, &request).await {
            Ok(_) => assert!(works),
            Err(error) => assert!(!works && error.kind() == ErrorKind::Unauthenticated, "{error}"),
        }
    }
}

#[tokio::test]
async fn mirrors_are_asked_first_and_passed_over_when_they_fail() {
    let world = world();
    let reference = world.registry.add(&fixtures::image("busybox").unwrap()).unwrap();
    let host = world.registry.host();
    let mirror = proxy(Vec::new());
    let broken = vec![Fault::Status { code: 503, times: 0, retry_after: None }];
    let broken = proxy(broken);
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("_default")).unwrap();
    let text = format!(
        "server = \"http://{host}\"\n[host.\"http://{}\"]\n[host.\"http://{}\"]\n",
        broken.host(),
        mirror.host()
    );
    std::fs::write(dir.path().join("_default/hosts.toml"), text).unwrap();
    let config = RegistryConfig { hosts_dir: dir.path().to_owned(), ..config() };
    let client = client_in(&world.containerd, &world.containerd.namespace()).await;
    let done = pulled(&client, &config, &request(&reference)).await.unwrap();
    assert_eq!(done.image.name, reference);
    assert!(broken.counts().manifests > 0 && mirror.counts().blobs > 0, "{:?}", mirror.counts());
}

#[tokio::test]
async fn what_is_not_there_or_not_for_this_machine_is_told_apart() {
    let world = world();
    let client = client_in(&world.containerd, &world.containerd.namespace()).await;
    let missing = format!("{}/no/such:1", world.registry.host());
    for (reference, kind, words) in [
        (missing.as_str(), ErrorKind::NotFound, "no/such"),
        ("127.0.0.1:1/a:1", ErrorKind::Unavailable, "127.0.0.1:1"),
    ] {
        let error = pulled(&client, &config(), &request(reference)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    for fixture in ["foreign-arch", "foreign-plain"] {
        let (done, _) = through(Vec::new(), fixture, None).await;
        let error = done.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
        assert!(error.context().any(|(key, _)| key == "offered"), "{error}");
    }
}

#[tokio::test]
async fn a_hostile_image_reaches_nothing_outside() {
    let (done, _) = through(Vec::new(), "hostile", None).await;
    if let Err(error) = done {
        assert_eq!(error.kind(), ErrorKind::DataCorrupt, "{error}");
    }
}
