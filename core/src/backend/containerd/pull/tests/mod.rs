//! Pulls from a real registry into a real containerd.

mod faults;
mod same_tree;
mod together;

use super::pull;
use crate::backend::containerd::client::Client;
use crate::backend::containerd::images;
use crate::backend::{PullRequest, PullTracker, Pulled};
use crate::config::{ContainerdConfig, RegistryConfig, TimeLimits};
use crate::error::{ErrorKind, Result};
use crate::names::ImageRef;
use crate::types::{LayerState, PullPolicy};
use dunnage_harness::{
    Containerd, ContainerdOptions, Fault, FaultProxy, Registry, RegistryOptions, Version, fixtures,
};
use std::sync::OnceLock;
use tokio_util::sync::CancellationToken;

/// The daemons that all tests share; each test has a namespace of its own.
pub(super) struct World {
    pub(super) containerd: Containerd,
    pub(super) registry: Registry,
}

pub(super) fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| World {
        containerd: Containerd::start(ContainerdOptions {
            version: Version::from_env().unwrap(),
            // Otherwise one test's download would be another's, whatever namespace it has.
            extra_config:
                "[plugins.\"io.containerd.metadata.v1.bolt\"]\ncontent_sharing_policy = \"isolated\"\n"
                    .to_owned(),
        })
        .unwrap(),
        registry: Registry::start(RegistryOptions::default()).unwrap(),
    })
}

/// A proxy in front of the registry. It has a runtime of its own, so it lives on a thread of its own.
pub(super) struct Proxy(Option<FaultProxy>);

pub(super) fn proxy(faults: Vec<Fault>) -> Proxy {
    let address = world().registry.address();
    let start = move || FaultProxy::start(address, faults).unwrap();
    Proxy(Some(std::thread::spawn(start).join().unwrap()))
}

impl std::ops::Deref for Proxy {
    type Target = FaultProxy;

    fn deref(&self) -> &FaultProxy {
        self.0.as_ref().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let proxy = self.0.take();
        std::thread::spawn(move || drop(proxy)).join().unwrap();
    }
}

/// A client in a namespace.
pub(super) async fn client_in(containerd: &Containerd, namespace: &str) -> Client {
    let config = ContainerdConfig { namespace: namespace.to_owned(), ..ContainerdConfig::default() };
    let address = containerd.socket().display().to_string();
    Client::connect_to(&[address], &config, TimeLimits::default()).await.unwrap()
}

/// A configuration that reads nothing of this machine's and gives up soon.
pub(super) fn config() -> RegistryConfig {
    RegistryConfig {
        hosts_dir: "/nonexistent".into(),
        docker_config: Some("/nonexistent".into()),
        stall_ms: 700,
        retries: 3,
        ..RegistryConfig::default()
    }
}

pub(super) fn request(reference: &str) -> PullRequest {
    PullRequest {
        image: ImageRef::parse(reference).unwrap(),
        policy: PullPolicy::Always,
        platform: None,
        snapshotter: "overlayfs".to_owned(),
        credential: None,
    }
}

pub(super) async fn pulled(
    client: &Client,
    config: &RegistryConfig,
    request: &PullRequest,
) -> Result<Pulled> {
    pull(client, config, request, &PullTracker::default(), &CancellationToken::new()).await
}

/// Leases, unfinished writes and active snapshots of a namespace: none must be left after a pull.
pub(super) fn left(containerd: &Containerd, namespace: &str) -> Vec<String> {
    let lines = |arguments: &[&str]| -> Vec<String> {
        let output = containerd.ctr(namespace).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    };
    let mut left = lines(&["leases", "ls", "-q"]);
    left.extend(lines(&["content", "active"]).into_iter().skip(1));
    left.extend(lines(&["snapshots", "ls"]).into_iter().filter(|line| line.trim_end().ends_with("Active")));
    left.retain(|line| !line.trim().is_empty());
    left
}

#[tokio::test]
async fn an_image_is_pulled_told_listed_and_deleted() {
    let world = world();
    let namespace = world.containerd.namespace();
    let client = client_in(&world.containerd, &namespace).await;
    let reference = world.registry.add(&fixtures::image("user").unwrap()).unwrap();
    let tracker = PullTracker::default();
    let request = request(&reference);
    let done = pull(&client, &config(), &request, &tracker, &CancellationToken::new()).await.unwrap();
    assert!(!done.skipped && done.downloaded_bytes > 0, "{done:?}");
    assert_eq!(done.image.name, reference);
    assert!(done.image.platform.starts_with("linux/"), "{done:?}");
    let event = tracker.event().unwrap();
    assert_eq!((event.bytes, event.unpacked_bytes), (event.total_bytes, event.total_bytes));
    assert!(event.layers.unwrap().iter().all(|layer| layer.state == LayerState::Done));
    assert_eq!(left(&world.containerd, &namespace), Vec::<String>::new());

    assert_eq!(images::get(&client, &reference).await.unwrap().unwrap(), done.image);
    assert_eq!(images::list(&client).await.unwrap(), std::slice::from_ref(&done.image));
    assert_eq!(done.unpacked.user, "app");
    assert!(done.unpacked.top_snapshot.starts_with("sha256:"));

    // `ctr` sees a complete, unpacked image and can run it.
    let check = world.containerd.ctr(&namespace).args(["images", "check"]).output().unwrap();
    let check = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.contains("complete") && check.contains("true"), "{check}");

    let again = PullTracker::default();
    let done = pull(&client, &config(), &request, &again, &CancellationToken::new()).await.unwrap();
    assert!(done.downloaded_bytes < 10_000, "{done:?}");
    assert!(again.event().unwrap().layers.unwrap().iter().all(|layer| layer.state == LayerState::Exists));

    assert!(images::delete(&client, &reference).await.unwrap());
    assert!(!images::delete(&client, &reference).await.unwrap());
    assert!(images::get(&client, &reference).await.unwrap().is_none());
}

#[tokio::test]
async fn the_policy_decides_whether_the_registry_is_asked() {
    let world = world();
    let client = client_in(&world.containerd, &world.containerd.namespace()).await;
    let reference = world.registry.add(&fixtures::image("busybox").unwrap()).unwrap();
    let with = |policy| PullRequest { policy, ..request(&reference) };
    let error = pulled(&client, &config(), &with(PullPolicy::Never)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(!pulled(&client, &config(), &with(PullPolicy::IfNotPresent)).await.unwrap().skipped);
    let tracker = PullTracker::default();
    let never = with(PullPolicy::Never);
    let done = pull(&client, &config(), &never, &tracker, &CancellationToken::new()).await.unwrap();
    assert!(done.skipped && tracker.asked() == Some(false));
    assert!(pulled(&client, &config(), &with(PullPolicy::IfNotPresent)).await.unwrap().skipped);
}

#[tokio::test]
async fn content_without_snapshots_is_unpacked_where_it_is() {
    let world = world();
    let namespace = world.containerd.namespace();
    let client = client_in(&world.containerd, &namespace).await;
    let reference = world.registry.add(&fixtures::image("user").unwrap()).unwrap();
    let fetched =
        world.containerd.ctr(&namespace).args(["content", "fetch", "--plain-http", &reference]).output();
    assert!(fetched.unwrap().status.success());
    for snapshotter in ["overlayfs", "native"] {
        let never = PullRequest {
            policy: PullPolicy::Never,
            snapshotter: snapshotter.to_owned(),
            ..request(&reference)
        };
        let done = pulled(&client, &config(), &never).await.unwrap();
        assert!(done.skipped);
        let top = done.unpacked.top_snapshot;
        assert!(super::snapshot_exists(&client, snapshotter, &top).await.unwrap());
        assert_eq!(left(&world.containerd, &namespace), Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_image_without_a_layer_is_told_by_its_name() {
    let world = world();
    let namespace = world.containerd.namespace();
    let client = client_in(&world.containerd, &namespace).await;
    let fixture = fixtures::image("user").unwrap();
    let reference = world.registry.add_as(&fixture, "fixtures/user-in-part", "1").unwrap();
    let ctr = |arguments: &[&str]| {
        let output = world.containerd.ctr(&namespace).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    ctr(&["content", "fetch", "--plain-http", &reference]);
    ctr(&["content", "rm", &fixture.layers().unwrap()[0].digest]);
    let never = PullRequest { policy: PullPolicy::Never, ..request(&reference) };
    let error = pulled(&client, &config(), &never).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    let named: Vec<_> = error.context().filter(|(key, _)| *key == "image").collect();
    assert_eq!(named, [("image", reference.as_str())], "{error}");
    assert_eq!(left(&world.containerd, &namespace), Vec::<String>::new());
    // A pull brings what is missing.
    pulled(&client, &config(), &request(&reference)).await.unwrap();
    assert!(pulled(&client, &config(), &never).await.unwrap().skipped);
}
