//! Many at once, and callers that go away.

use super::{client_in, config, left, proxy, pulled, request, world};
use crate::ErrorKind;
use crate::backend::PullTracker;
use dunnage_harness::{Fault, fixtures};
use futures::future::join_all;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn twenty_equal_pulls_fetch_once() {
    let world = world();
    let namespace = world.containerd.namespace();
    let client = client_in(&world.containerd, &namespace).await;
    let image = fixtures::image("busybox").unwrap();
    let reference = world.registry.add_marked(&image, "together", "20", "twenty").unwrap();
    let proxy = proxy(vec![Fault::Delay { milliseconds: 50 }]);
    let request = request(&proxy.through(&reference));
    let config = config();
    let all = join_all((0..20).map(|_| pulled(&client, &config, &request))).await;
    for done in all {
        done.unwrap();
    }
    // Each layer and the configuration, once.
    let layers = image_layers(&client, &request.image.to_string()).await;
    assert_eq!(proxy.counts().blobs, layers + 1, "{:?}", proxy.counts());
    assert_eq!(left(&world.containerd, &namespace), Vec::<String>::new());
}

async fn image_layers(client: &crate::backend::containerd::client::Client, name: &str) -> u64 {
    match super::super::local(client, name, &crate::registry::Platform::host()).await.unwrap() {
        super::super::Local::Described(image) => image.layers.len() as u64,
        _ => panic!("the image is not here"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_at_any_time_leaves_nothing_and_others_go_on() {
    let world = world();
    let namespace = world.containerd.namespace();
    let client = client_in(&world.containerd, &namespace).await;
    let reference = world.registry.add(&fixtures::image("layered").unwrap()).unwrap();
    let faults = vec![Fault::Throttle { bytes_per_second: 40_000_000 }];
    let proxy = proxy(faults);
    let request = request(&proxy.through(&reference));
    let config = config();
    for after in [0, 5, 40, 150, 600, 1500] {
        let (tracker, cancel) = (PullTracker::default(), CancellationToken::new());
        let soon = async {
            tokio::time::sleep(Duration::from_millis(after)).await;
            cancel.cancel();
        };
        let (done, ()) = tokio::join!(super::pull(&client, &config, &request, &tracker, &cancel), soon);
        let error = done.expect_err("cancelled");
        assert_eq!(error.kind(), ErrorKind::Cancelled, "after {after} ms: {error}");
        assert_eq!(left(&world.containerd, &namespace), Vec::<String>::new(), "after {after} ms");
    }
    let snapshots = world.containerd.ctr(&namespace).args(["snapshots", "ls"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&snapshots.stdout).lines().count(), 1, "half an image is kept");

    let (tracker, cancel) = (PullTracker::default(), CancellationToken::new());
    let leaving = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cancel.cancel();
    };
    let staying = pulled(&client, &config, &request);
    let (left_early, stayed, ()) =
        tokio::join!(super::pull(&client, &config, &request, &tracker, &cancel), staying, leaving);
    assert_eq!(left_early.unwrap_err().kind(), ErrorKind::Cancelled);
    stayed.unwrap();
    assert_eq!(left(&world.containerd, &namespace), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_is_dropped_leaves_nothing() {
    let world = world();
    let namespace = world.containerd.namespace();
    let client = client_in(&world.containerd, &namespace).await;
    let reference = world.registry.add(&fixtures::image("layered").unwrap()).unwrap();
    let faults = vec![Fault::Throttle { bytes_per_second: 20_000_000 }];
    let proxy = proxy(faults);
    let request = request(&proxy.through(&reference));
    let config = config();
    let short = tokio::time::timeout(Duration::from_millis(500), pulled(&client, &config, &request)).await;
    assert!(short.is_err());
    let until = Instant::now() + Duration::from_secs(10);
    while !left(&world.containerd, &namespace).is_empty() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(left(&world.containerd, &namespace), Vec::<String>::new());
}
