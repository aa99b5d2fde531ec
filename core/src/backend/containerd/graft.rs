//! One directory of a committed snapshot made another committed snapshot, so that data changes what it stands on: with an
//! overlay without a copy, and as a copy where snapshots have no layers.

use super::client::Client;
use super::dirs::{failed, make_in, open_real, split, usual_mode};
use super::layers;
use super::lease::Lease;
use super::rootfs::{Layers, RootFs};
use super::{snapshots, squash};
use crate::backend::{Graft, Grafted};
use crate::error::{Error, Result};
use containerd_client::services::v1::snapshots::{CommitSnapshotRequest, PrepareSnapshotRequest};
use containerd_client::types::Mount;
use dunnage_archive::{Watch, copy, erase};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

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
    let layers = Layers::of(&sources)?;
    let from = snapshots::get(client, &graft.snapshotter, &graft.from).await?;
    // A single layer of an overlay is a plain directory too.
    let alone = from.is_none_or(|from| from.parent.is_empty());
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
    let bottom = graft.parent.is_empty();
    let work = tokio::task::spawn_blocking(move || {
        let target = Layers::of(&prepared.mounts)?;
        if (layers.is_overlay() || alone) && (target.is_overlay() || bottom) {
            let above = || room(&prepared.mounts, &target, &onto, bottom);
            layers::gather(&layers.dirs(), &path, layers.user_xattr(), above)
        } else {
            transfer(&sources, &path, &prepared.mounts, &onto)
        }
    });
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

/// Makes the directory in an empty writable snapshot, where nothing below shows through.
fn room(mounts: &[Mount], layers: &Layers, onto: &Path, bottom: bool) -> Result<OwnedFd> {
    let (way, last) = split(onto)?;
    if !way.is_empty() {
        RootFs::writable(mounts)?.make_way(&way.iter().collect::<PathBuf>())?;
    }
    let above = layers.dirs().swap_remove(0);
    let above = open_real(&way.iter().fold(above, |above, name| above.join(name)))?;
    let made = make_in(&above, last)?;
    usual_mode(&made)?;
    if !bottom {
        layers::set_opaque(&made, layers.user_xattr()).map_err(failed)?;
    }
    Ok(made)
}

/// Copies the directory into a writable snapshot, in the place of the one that is there.
fn transfer(sources: &[Mount], path: &Path, target: &[Mount], onto: &Path) -> Result<Option<Grafted>> {
    let tree = RootFs::read_only(sources)?;
    let Some(from) = tree.directory(path)? else { return Ok(None) };
    let (way, last) = split(onto)?;
    let tree = RootFs::writable(target)?;
    let above = tree.make_way(&way.iter().collect::<PathBuf>())?;
    erase(above.as_fd(), last.as_bytes())?;
    let made = make_in(&above, last)?;
    let copied = copy(from.as_fd(), made.as_fd(), &Watch::default())?;
    Ok(Some(Grafted { entries: copied.entries, bytes: copied.bytes }))
}
