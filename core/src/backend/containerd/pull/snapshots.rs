//! The calls to the snapshotter that unpacking needs.

use crate::backend::containerd::client::Client;
use crate::error::{ErrorKind, Result};
use containerd_client::services::v1::snapshots::{
    CommitSnapshotRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest, UsageRequest,
};
use containerd_client::types::Mount;
use std::collections::HashMap;

/// Whether a snapshot is there.
///
/// # Errors
/// As [`Client::call`].
pub(in super::super) async fn exists(client: &Client, snapshotter: &str, key: &str) -> Result<bool> {
    let ask = || {
        let message = StatSnapshotRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() };
        let request = client.request(message);
        let mut service = client.snapshots();
        async move { service.stat(request).await }
    };
    match client.read("look for a snapshot", ask).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.with("snapshot", key)),
    }
}

/// Makes an active snapshot; none when containerd says it, or the one it is for, is there already.
pub(super) async fn prepare(
    client: &Client,
    lease: &str,
    snapshotter: &str,
    key: &str,
    parent: &str,
    labels: HashMap<String, String>,
) -> Result<Option<Vec<Mount>>> {
    let message = PrepareSnapshotRequest {
        snapshotter: snapshotter.to_owned(),
        key: key.to_owned(),
        parent: parent.to_owned(),
        labels,
    };
    let request = client.leased(message, lease)?;
    match client.call("prepare a snapshot", client.snapshots().prepare(request)).await {
        Ok(reply) => Ok(Some(reply.mounts)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(error.with("snapshot", key)),
    }
}

/// Commits an active snapshot. Returns false when one of that name is there already; the active one stays then.
pub(super) async fn commit(
    client: &Client,
    lease: &str,
    snapshotter: &str,
    name: &str,
    key: &str,
    labels: HashMap<String, String>,
) -> Result<bool> {
    let message = CommitSnapshotRequest {
        snapshotter: snapshotter.to_owned(),
        name: name.to_owned(),
        key: key.to_owned(),
        labels,
    };
    let request = client.leased(message, lease)?;
    match client.call("commit a snapshot", client.snapshots().commit(request)).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.with("snapshot", key)),
    }
}

/// Removes a snapshot; one that is gone is success.
pub(super) async fn remove(client: &Client, snapshotter: &str, key: &str) -> Result<()> {
    let message = RemoveSnapshotRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() };
    match client.call("remove a snapshot", client.snapshots().remove(client.request(message))).await {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.with("snapshot", key)),
        _ => Ok(()),
    }
}

/// Files and directories in a snapshot itself, its root among them.
pub(super) async fn inodes(client: &Client, snapshotter: &str, key: &str) -> Result<u64> {
    let message = UsageRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() };
    let reply = client.call("measure a snapshot", client.snapshots().usage(client.request(message))).await?;
    Ok(reply.inodes.max(0) as u64)
}
