//! An image of six layers and about 150 MB, fetched and unpacked where nothing of it is.

use crate::Failure;
use crate::bed::Bed;
use crate::report::{Bar, Row};
use crate::sample::Series;
use dunnage::Engine;
use dunnage::types::PullOptions;
use dunnage_harness::fixtures;
use std::collections::BTreeMap;
use std::time::Instant;

pub(super) async fn cold(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let image = bed.registry.add(&fixtures::image("layered")?)?;
    let (engine, namespace) = bed.another_engine().await?;
    let measured = measure(bed, &engine, &namespace, &image).await;
    engine.close().await;
    Ok(vec![measured?])
}

async fn measure(bed: &Bed, engine: &Engine, namespace: &str, image: &str) -> Result<Row, Failure> {
    let mut row = Row {
        name: "pull_cold".into(),
        about: "pull and unpack ~150 MB in 6 layers from a registry on loopback; peer: ctr image pull".into(),
        unit: "ms",
        bars: vec![Bar::TimesPeer(0.6)],
        moonshot: Some(Bar::TimesPeer(0.35)),
        ..Row::default()
    };
    let (mut peer, mut fetch, mut unpack) = (Series::default(), Series::default(), Series::default());
    let mut calls = BTreeMap::new();
    // The first turn fills the page cache with the registry's files, for both.
    for turn in 0..=bed.rounds {
        clean(bed, namespace, image)?;
        bed.calls.clear();
        let began = Instant::now();
        let pulled = engine.image().pull(PullOptions::default().image(image)).await?;
        let ours = began.elapsed();
        if turn > 0 {
            bed.calls.take_into(&mut calls);
        }
        clean(bed, namespace, image)?;
        let theirs = bed.peer_in(namespace, &["image", "pull", "--plain-http", image])?;
        if turn > 0 {
            row.ours.push_time(ours);
            peer.push_time(theirs);
            fetch.push(pulled.pull_ms as f64);
            unpack.push(pulled.unpack_ms as f64);
        }
    }
    clean(bed, namespace, image)?;
    row.peer = Some(peer);
    row.phases = vec![
        ("until the last byte was stored".into(), fetch),
        ("from then until the last layer was unpacked".into(), unpack),
    ];
    row.add_calls(calls);
    Ok(row)
}

/// Removes the image with all its content and snapshots, and makes sure of it.
fn clean(bed: &Bed, namespace: &str, image: &str) -> Result<(), Failure> {
    if bed.peer_says(namespace, &["image", "ls", "--quiet"])?.lines().any(|name| name == image) {
        bed.peer_in(namespace, &["image", "rm", "--sync", image])?;
    }
    let content = bed.peer_says(namespace, &["content", "ls", "--quiet"])?;
    // The first line of this list is its head.
    let snapshots = bed.peer_says(namespace, &["snapshots", "ls"])?.lines().skip(1).count();
    if content.trim().is_empty() && snapshots == 0 {
        return Ok(());
    }
    Err(format!("{} blobs and {snapshots} snapshots are left of the last pull", content.lines().count())
        .into())
}
