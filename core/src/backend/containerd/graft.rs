//! One directory of a committed snapshot made another committed snapshot, so that data changes what it stands on without a
//! copy.

use super::client::Client;
use super::dirs::{make_in, usual_mode};
use super::layers;
use super::lease::Lease;
use super::rootfs::{Layers, RootFs, unsupported};
use super::{snapshots, squash};
use crate::backend::{Graft, Grafted};
use crate::error::{Error, Result};
use containerd_client::services::v1::snapshots::{CommitSnapshotRequest, PrepareSnapshotRequest};
use containerd_client::types::Mount;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Makes the snapshot. What is made on the way is under a lease too: whatever ends this process, the daemon takes it back.
pub(super) async fn graft(client: &Client, graft: &Graft) -> Result<Option<Grafted>> {
    let lease = Lease::create(client, "graft").await?;
    let done = graft_leased(client, graft, &lease).await;
    let released = squash::clear(client, &graft.snapshotter, &lease, done.is_err()).await;
    let done = done.map_err(|e| e.with("snapshot", &graft.name).with("snapshotter", &graft.snapshotter))?;
    released.map(|()| done)
}

async fn graft_leased(client: &Client, graft: &Graft, lease: &Lease) -> Result<Option<Grafted>> {
    let view = squash::view_of(lease);
    let sources = squash::view(client, lease, &graft.snapshotter, &view, &graft.from).await?;
    let sources = Layers::of(&sources)?;
    let stacked = snapshots::get(client, &graft.snapshotter, &graft.from).await?;
    if stacked.is_some_and(|from| !from.parent.is_empty()) && !sources.is_overlay() {
        return Err(unsupported("in a snapshotter without layers"));
    }
    let building = squash::building(lease);
    let request = client.leased(
        PrepareSnapshotRequest {
            snapshotter: graft.snapshotter.clone(),
            key: building.clone(),
            parent: graft.parent.clone(),
            labels: HashMap::new(),
        },
        lease.id(),
    )?;
    let prepared = client.call("prepare a snapshot", client.snapshots().prepare(request)).await?;
    let (path, onto) = (graft.path.clone(), graft.onto.clone());
    let alone = graft.parent.is_empty();
    let work = tokio::task::spawn_blocking(move || fill(&sources, &path, &prepared.mounts, &onto, alone));
    let grafted = work
        .await
        .map_err(|e| Error::unexpected("taking a directory along was broken off").caused_by(e))??;
    if grafted.is_none() {
        return Ok(None);
    }
    let request = client.leased(
        CommitSnapshotRequest {
            snapshotter: graft.snapshotter.clone(),
            name: graft.name.clone(),
            key: building,
            labels: snapshots::kept(&graft.labels),
        },
        lease.id(),
    )?;
    client.call("commit the snapshot", client.snapshots().commit(request)).await?;
    Ok(grafted)
}

/// Puts the directory into an empty writable snapshot.
fn fill(
    sources: &Layers,
    path: &Path,
    target: &[Mount],
    onto: &Path,
    alone: bool,
) -> Result<Option<Grafted>> {
    let user_xattr = sources.user_xattr();
    layers::gather(&sources.dirs(), path, user_xattr, || {
        let layers = Layers::of(target)?;
        if !alone && !layers.is_overlay() {
            return Err(unsupported("in a snapshotter without layers"));
        }
        let (way, last) = super::dirs::split(onto)?;
        if !way.is_empty() {
            RootFs::writable(target)?.make_way(&way.iter().collect::<std::path::PathBuf>())?;
        }
        let above = layers.dirs().swap_remove(0);
        let above = way.iter().fold(above, |above, name| above.join(name));
        let above = super::dirs::open_real(&above)?;
        let made: OwnedFd = make_in(&above, last)?;
        usual_mode(&made)?;
        if !alone {
            layers::set_opaque(&made, user_xattr).map_err(super::dirs::failed)?;
        }
        Ok(made)
    })
}
