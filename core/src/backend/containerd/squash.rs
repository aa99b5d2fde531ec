//! Several committed snapshots made one, so that a workspace may have any number of versions.

use super::client::Client;
use super::layers;
use super::lease::Lease;
use super::rootfs::{Layers, unsupported};
use super::snapshots;
use crate::backend::Squash;
use crate::error::{Error, ErrorKind, Result};
use containerd_client::services::v1::snapshots::{
    CommitSnapshotRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, ViewSnapshotRequest,
};
use containerd_client::types::Mount;
use std::collections::HashMap;

/// Makes the snapshot. What is made on the way is under a lease too: whatever ends this process, the daemon takes it back.
pub(super) async fn squash(client: &Client, squash: &Squash) -> Result<()> {
    let lease = Lease::create(client, "squash").await?;
    let done = squash_leased(client, squash, &lease).await;
    let released = clear(client, &squash.snapshotter, &lease, done.is_err()).await;
    done.map_err(|e| e.with("snapshot", &squash.name).with("snapshotter", &squash.snapshotter))?;
    released
}

/// Removes what a lease has left of what was made on the way, and the lease.
///
/// Not left to the lease alone: containerd's garbage collector forgets to take a snapshot off its parent's list of children,
/// and the parent could not be removed any more.
pub(super) async fn clear(client: &Client, snapshotter: &str, lease: &Lease, failed: bool) -> Result<()> {
    let mut removed = Ok(());
    for key in [view_of(lease), building(lease)] {
        removed = removed.and(remove(client, snapshotter, &key).await);
    }
    removed.and(lease.delete(client, failed).await)
}

async fn squash_leased(client: &Client, squash: &Squash, lease: &Lease) -> Result<()> {
    let building = building(lease);
    let mounts = view(client, lease, &squash.snapshotter, &view_of(lease), &squash.top).await?;
    let sources = Layers::of(&mounts)?;
    let mut dirs = sources.dirs();
    // A snapshotter without layers shows one directory, whatever the snapshot stands on.
    let below = usize::from(!squash.parent.is_empty());
    if dirs.len() < squash.layers + below {
        return Err(unsupported("in a snapshotter without layers"));
    }
    dirs.truncate(squash.layers);
    let user_xattr = sources.user_xattr();
    let request = client.leased(
        PrepareSnapshotRequest {
            snapshotter: squash.snapshotter.clone(),
            key: building.clone(),
            parent: squash.parent.clone(),
            labels: HashMap::new(),
        },
        lease.id(),
    )?;
    let prepared = client.call("prepare a snapshot", client.snapshots().prepare(request)).await?;
    let target = Layers::of(&prepared.mounts)?;
    let into = target.dirs().swap_remove(0);
    let work = tokio::task::spawn_blocking(move || layers::squash(&dirs, &into, user_xattr));
    work.await
        .map_err(|e| Error::unexpected("making one layer of several was broken off").caused_by(e))??;
    let request = client.leased(
        CommitSnapshotRequest {
            snapshotter: squash.snapshotter.clone(),
            name: squash.name.clone(),
            key: building,
            labels: snapshots::kept(&squash.labels),
        },
        lease.id(),
    )?;
    client.call("commit the snapshot", client.snapshots().commit(request)).await
}

pub(super) fn view_of(lease: &Lease) -> String {
    format!("{}-view", lease.id())
}

pub(super) fn building(lease: &Lease) -> String {
    format!("{}-building", lease.id())
}

/// Makes a view of a committed snapshot, under a lease, and tells how to mount it.
pub(super) async fn view(
    client: &Client,
    lease: &Lease,
    snapshotter: &str,
    key: &str,
    parent: &str,
) -> Result<Vec<Mount>> {
    let message = ViewSnapshotRequest {
        snapshotter: snapshotter.to_owned(),
        key: key.to_owned(),
        parent: parent.to_owned(),
        labels: HashMap::new(),
    };
    let request = client.leased(message, lease.id())?;
    let reply = client.call("look into the snapshot", client.snapshots().view(request)).await;
    Ok(reply.map_err(|e| e.with("snapshot", parent))?.mounts)
}

/// Removes a view.
pub(super) async fn remove(client: &Client, snapshotter: &str, key: &str) -> Result<()> {
    let request = RemoveSnapshotRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() };
    match client.call("remove a view", client.snapshots().remove(client.request(request))).await {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
