//! Versions: how long a workspace is away for one, and what does not depend on how much there is.

use crate::Failure;
use crate::bed::Bed;
use crate::floor::Floor;
use crate::report::{Bar, Row};
use crate::sample::Series;
use dunnage::Workspace;
use dunnage::types::{
    CreateOptions, DeleteOptions, NetworkMode, RunOptions, SnapshotCreateOptions, SnapshotForkOptions,
    SnapshotListOptions, StartOptions, StopOptions,
};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How many versions the long line has.
const MANY: usize = 1000;
/// How many a list is measured at, and how many snapshots of others there are meanwhile.
const DEEP: usize = 100;
const OTHERS: usize = 10_000;

fn row(name: &str, about: &str, bars: Vec<Bar>) -> Row {
    Row { name: name.into(), about: about.into(), unit: "ms", bars, ..Row::default() }
}

/// The time from the stop of the first process until the agent answers again.
pub(super) async fn downtime(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let mut measured = row(
        "snapshot_downtime",
        "snapshots.create of a running workspace: stop → agent answers again",
        vec![Bar::AtMost(120.0)],
    );
    measured.moonshot = Some(Bar::AtMost(85.0));
    let mut calls = BTreeMap::new();
    let workspace = bed.workspace("downtime").await?;
    for turn in 0..=bed.rounds {
        bed.calls.clear();
        let made = workspace.snapshots().create(SnapshotCreateOptions::default()).await?;
        if turn > 0 {
            bed.calls.take_into(&mut calls);
            measured.ours.push_time(Duration::from_millis(made.downtime_ms));
        }
    }
    bed.delete(&workspace).await?;
    measured.add_calls(calls);
    Ok(vec![measured])
}

/// A version of much data beside one of little.
pub(super) async fn size(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let mut measured = row(
        "snapshot_1_gib",
        "snapshots.create of a stopped workspace with 1 GiB written; peer: the same with 1 MiB",
        vec![Bar::TimesPeer(1.2)],
    );
    let mut little = Series::default();
    for turn in 0..=bed.rounds {
        let mut took = Vec::new();
        for mebibytes in [1, 1024] {
            let workspace = bed.workspace("size").await?;
            let command = format!("dd if=/dev/zero of=/data/big bs=1M count={mebibytes} 2>/dev/null; sync");
            workspace.exec().run(RunOptions::default().command(command).timeout_ms(0u64), "").await?;
            workspace.stop(StopOptions::default()).await?;
            // The files of the turn before are removed now, not beside what is measured.
            bed.collect()?;
            let began = Instant::now();
            workspace.snapshots().create(SnapshotCreateOptions::default()).await?;
            took.push(began.elapsed());
            bed.delete(&workspace).await?;
        }
        if turn > 0 {
            little.push_time(took[0]);
            measured.ours.push_time(took[1]);
        }
    }
    measured.peer = Some(little);
    Ok(vec![measured])
}

/// A fork beside a creation.
pub(super) async fn fork(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let mut measured = row(
        "fork",
        "snapshots.fork → agent answers; peer: workspace.create → agent answers",
        vec![Bar::TimesPeer(1.1)],
    );
    let mut plain = Series::default();
    let workspace = bed.workspace("origin").await?;
    workspace.snapshots().create(SnapshotCreateOptions::default()).await?;
    for turn in 0..=bed.rounds {
        let began = Instant::now();
        let made = bed.workspace("plain").await?;
        let created = began.elapsed();
        bed.delete(&made).await?;
        let began = Instant::now();
        workspace.snapshots().fork(SnapshotForkOptions::default().version(1u64).new_id("forked")).await?;
        let forked = began.elapsed();
        bed.delete(&bed.engine.workspace("forked")?).await?;
        if turn > 0 {
            plain.push_time(created);
            measured.ours.push_time(forked);
        }
    }
    bed.delete(&workspace).await?;
    measured.peer = Some(plain);
    Ok(vec![measured])
}

/// A start after a thousand versions beside one after the first.
pub(super) async fn long_line(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let mut start = row(
        "start_at_1000",
        "stopped workspace → agent answers, after 1,000 versions; peer: after 1",
        vec![Bar::TimesPeer(1.3)],
    );
    let workspace = bed.engine.workspace("long")?;
    let options = CreateOptions::default().image(&bed.image).network(NetworkMode::None).start(false);
    workspace.create(options).await?;
    workspace.snapshots().create(SnapshotCreateOptions::default()).await?;
    start.peer = Some(starts(bed, &workspace).await?);
    for _ in 1..MANY {
        workspace.snapshots().create(SnapshotCreateOptions::default()).await?;
    }
    start.ours = starts(bed, &workspace).await?;
    workspace.delete(DeleteOptions::default().grace_ms(0u64)).await?;
    Ok(vec![start])
}

async fn starts(bed: &Bed, workspace: &Workspace) -> Result<Series, Failure> {
    let mut series = Series::default();
    for turn in 0..=bed.rounds {
        let began = Instant::now();
        workspace.start(StartOptions::default()).await?;
        let took = began.elapsed();
        workspace.stop(StopOptions::default()).await?;
        if turn > 0 {
            series.push_time(took);
        }
    }
    Ok(series)
}

/// A list of a line of a hundred where it is almost alone, and among ten thousand snapshots of others.
pub(super) async fn among_many(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let mut measured = row(
        "lineage_among_10000",
        "snapshots.list at depth 100, with 10,000 snapshots of others beside it; peer: the same without them",
        vec![Bar::TimesPeer(1.2), Bar::AtMost(10.0)],
    );
    let workspace = bed.engine.workspace("deep")?;
    workspace.create(bed.plain().start(false)).await?;
    for _ in 0..DEEP {
        workspace.snapshots().create(SnapshotCreateOptions::default()).await?;
    }
    measured.peer = Some(lists(bed, &workspace).await?);
    let others = Floor::new(bed).await?;
    for number in 0..OTHERS {
        others.snapshot(&format!("other-{number}")).await?;
    }
    measured.ours = lists(bed, &workspace).await?;
    others.end().await?;
    bed.delete(&workspace).await?;
    Ok(vec![measured])
}

async fn lists(bed: &Bed, workspace: &Workspace) -> Result<Series, Failure> {
    let mut series = Series::default();
    for turn in 0..=bed.rounds {
        let began = Instant::now();
        let told = workspace.snapshots().list(SnapshotListOptions::default()).await?;
        let took = began.elapsed();
        if told.snapshots.len() <= DEEP {
            return Err(format!("{} snapshots are told", told.snapshots.len()).into());
        }
        if turn > 0 {
            series.push_time(took);
        }
    }
    Ok(series)
}
