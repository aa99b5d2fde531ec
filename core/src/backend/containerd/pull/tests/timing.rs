//! How long a cold pull takes, beside `ctr`. Run by hand, optimised:
//! `cargo test --release -p dunnage --lib timing -- --ignored --nocapture`.

use super::{client_in, config, pulled, request, world};
use dunnage_harness::fixtures;
use std::time::{Duration, Instant};

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn a_cold_pull_beside_ctr() {
    let world = world();
    let reference = world.registry.add(&fixtures::image("layered").unwrap()).unwrap();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..5 {
        let client = client_in(&world.containerd, &world.containerd.namespace()).await;
        let begun = Instant::now();
        let done = pulled(&client, &config(), &request(&reference)).await.unwrap();
        ours.push(begun.elapsed());
        let namespace = world.containerd.namespace();
        let begun = Instant::now();
        let output =
            world.containerd.ctr(&namespace).args(["images", "pull", "--plain-http", &reference]).output();
        assert!(output.unwrap().status.success());
        theirs.push(begun.elapsed());
        eprintln!(
            "{round}: ours {:?} (pull {} ms, unpack {} ms), ctr {:?}",
            ours[round], done.pull_ms, done.unpack_ms, theirs[round]
        );
    }
    let (ours, theirs) = (median(ours), median(theirs));
    eprintln!(
        "medians: ours {ours:?}, ctr {theirs:?}, ratio {:.2}",
        ours.as_secs_f64() / theirs.as_secs_f64()
    );
}
