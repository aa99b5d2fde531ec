//! Snapshots: made protected from garbage collection, removed, looked at.

use super::client::Client;
use super::{convert, filter};
use crate::backend::{NewSnapshot, Snapshot, SnapshotFilter, SnapshotUsage};
use crate::error::{ErrorKind, Result};
use containerd_client::services::v1::snapshots::{
    CommitSnapshotRequest, Info, ListSnapshotsRequest, MountsRequest, PrepareSnapshotRequest,
    RemoveSnapshotRequest, StatSnapshotRequest, UpdateSnapshotRequest, UsageRequest,
};
use containerd_client::types::Mount;
use jiff::Timestamp;
use prost_types::FieldMask;
use std::collections::{BTreeMap, HashMap};

/// What containerd's garbage collector takes for "keep this and all it stands on".
const GC_ROOT: &str = "containerd.io/gc.root";

/// Makes a writable snapshot that no garbage collection takes, whether a container names it or not.
pub(super) async fn prepare(client: &Client, new: &NewSnapshot) -> Result<()> {
    let request = client.request(PrepareSnapshotRequest {
        snapshotter: new.snapshotter.clone(),
        key: new.key.clone(),
        parent: new.parent.clone(),
        labels: kept(&new.labels),
    });
    let mut service = client.snapshots();
    client.call("prepare the snapshot", service.prepare(request)).await.map(|_| ()).map_err(|e| {
        e.with("snapshot", &new.key).with("parent", &new.parent).with("snapshotter", &new.snapshotter)
    })
}

pub(super) async fn remove(client: &Client, snapshotter: &str, key: &str) -> Result<bool> {
    let request =
        client.request(RemoveSnapshotRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() });
    let mut service = client.snapshots();
    match client.call("remove the snapshot", service.remove(request)).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.with("snapshot", key).with("snapshotter", snapshotter)),
    }
}

pub(super) async fn get(client: &Client, snapshotter: &str, key: &str) -> Result<Option<Snapshot>> {
    let found = client
        .read("look for the snapshot", || {
            let request = client
                .request(StatSnapshotRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() });
            let mut service = client.snapshots();
            async move { service.stat(request).await }
        })
        .await;
    match found {
        Ok(reply) => Ok(reply.info.map(convert::snapshot)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.with("snapshot", key).with("snapshotter", snapshotter)),
    }
}

/// Listed as a stream, as the daemon gives them.
pub(super) async fn list(
    client: &Client,
    snapshotter: &str,
    filters: &[SnapshotFilter],
) -> Result<Vec<Snapshot>> {
    let mut patience = client.patience();
    loop {
        match list_once(client, snapshotter, filters).await {
            Err(error) if patience.allows(&error).await => {}
            done => return done,
        }
    }
}

async fn list_once(client: &Client, snapshotter: &str, filters: &[SnapshotFilter]) -> Result<Vec<Snapshot>> {
    const DOING: &str = "list snapshots";
    let request = client.request(ListSnapshotsRequest {
        snapshotter: snapshotter.to_owned(),
        filters: filters.iter().map(filter::snapshots).collect(),
    });
    let mut service = client.snapshots();
    client
        .bounded(DOING, async {
            let mut stream = client.call_unbounded(DOING, service.list(request)).await?;
            let mut found = Vec::new();
            while let Some(message) = stream.message().await.map_err(|status| client.failed(DOING, status))? {
                found.extend(message.info.into_iter().map(convert::snapshot));
            }
            // What the daemon let through is checked again.
            found.retain(|snapshot| filters.iter().any(|filter| filter.passes(snapshot)));
            Ok(found)
        })
        .await
}

/// Commits a writable snapshot to one that no garbage collection takes.
pub(super) async fn commit(
    client: &Client,
    snapshotter: &str,
    key: &str,
    name: &str,
    labels: &BTreeMap<String, String>,
) -> Result<()> {
    let request = client.request(CommitSnapshotRequest {
        snapshotter: snapshotter.to_owned(),
        name: name.to_owned(),
        key: key.to_owned(),
        labels: kept(labels),
    });
    let mut service = client.snapshots();
    client
        .call("commit the snapshot", service.commit(request))
        .await
        .map_err(|e| e.with("snapshot", key).with("name", name).with("snapshotter", snapshotter))
}

/// Measures a snapshot: a committed one was measured when it was committed.
pub(super) async fn usage(client: &Client, snapshotter: &str, key: &str) -> Result<SnapshotUsage> {
    let reply = client
        .read("measure the snapshot", || {
            let request =
                client.request(UsageRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() });
            let mut service = client.snapshots();
            async move { service.usage(request).await }
        })
        .await
        .map_err(|e| e.with("snapshot", key).with("snapshotter", snapshotter))?;
    Ok(SnapshotUsage { bytes: reply.size.max(0).unsigned_abs(), inodes: reply.inodes.max(0).unsigned_abs() })
}

/// Replaces a snapshot's labels.
pub(super) async fn label(
    client: &Client,
    snapshotter: &str,
    key: &str,
    labels: &BTreeMap<String, String>,
    keep: bool,
) -> Result<()> {
    let labels = if keep { kept(labels) } else { labels.clone().into_iter().collect() };
    let request = client.request(UpdateSnapshotRequest {
        snapshotter: snapshotter.to_owned(),
        info: Some(Info { name: key.to_owned(), labels, ..Info::default() }),
        update_mask: Some(FieldMask { paths: vec!["labels".to_owned()] }),
    });
    let mut service = client.snapshots();
    client
        .call("label the snapshot", service.update(request))
        .await
        .map(drop)
        .map_err(|e| e.with("snapshot", key).with("snapshotter", snapshotter))
}

/// The labels of a snapshot that is kept.
pub(super) fn kept(labels: &BTreeMap<String, String>) -> HashMap<String, String> {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    labels.clone().into_iter().chain([(GC_ROOT.to_owned(), now)]).collect()
}

/// What has to be mounted to see an active snapshot.
pub(super) async fn mounts(client: &Client, snapshotter: &str, key: &str) -> Result<Vec<Mount>> {
    let reply = client
        .read("read the snapshot's mounts", || {
            let request =
                client.request(MountsRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() });
            let mut service = client.snapshots();
            async move { service.mounts(request).await }
        })
        .await
        .map_err(|e| e.with("snapshot", key).with("snapshotter", snapshotter))?;
    Ok(reply.mounts)
}
