//! Snapshots of ours that are of no use to any workspace.

use super::history::{history, owned};
use super::version::{from_labels, is_base, is_left, left_filter};
use crate::backend::{Snapshot, SnapshotFilter, SnapshotKind};
use crate::engine::EngineInner;
use crate::error::Result;
use crate::lifecycle::create::HOME;
use crate::lifecycle::resolve::Found;
use crate::names::WorkspaceId;
use std::collections::{BTreeSet, HashSet};

/// The workspaces whose label a snapshot has.
pub(in crate::lifecycle) async fn owners(
    inner: &EngineInner,
    snapshotter: &str,
) -> Result<BTreeSet<WorkspaceId>> {
    let filter = SnapshotFilter { labels: inner.config.names.labels.clone(), ..SnapshotFilter::default() };
    let all = inner.backend.snapshots(snapshotter, &[filter]).await?;
    let ids = all.iter().filter_map(|snapshot| snapshot.labels.get(&inner.config.names.id_label));
    Ok(ids.filter_map(|id| WorkspaceId::new(id.as_str()).ok()).collect())
}

/// A workspace's snapshots that can go, in this order: writable ones that nothing was ever written to and no container
/// stands on, bases that nothing stands on, and copies of versions that took the place of others or were to.
pub(in crate::lifecycle) async fn idle(
    inner: &EngineInner,
    id: &WorkspaceId,
    snapshotter: &str,
    found: Option<&Found>,
) -> Result<Vec<String>> {
    let found = found.filter(|found| found.container.snapshotter == snapshotter);
    let all = owned(inner, id, snapshotter).await?;
    let versions: HashSet<String> = match found {
        Some(found) => history(inner, id, found).await?.versions.into_iter().map(|v| v.snapshot).collect(),
        // Without a container the versions that are there are all that is left of it.
        None => all.iter().filter(|s| from_labels(snapshotter, s).is_some()).map(|s| s.key.clone()).collect(),
    };
    let active = found.map(|found| found.container.snapshot_key.as_str());
    let home = inner.config.home_mark();
    let mut going: Vec<String> = Vec::new();
    for snapshot in &all {
        if snapshot.kind == SnapshotKind::Active
            && snapshot.labels.get(HOME).is_some_and(|of| *of == home)
            && active != Some(snapshot.key.as_str())
            && inner.backend.is_untouched(snapshotter, &snapshot.key, &inner.config.guest.data_dir).await?
        {
            going.push(snapshot.key.clone());
        }
    }
    let spare = |snapshot: &Snapshot| {
        is_base(snapshot)
            || (from_labels(snapshotter, snapshot).is_some() && !versions.contains(&snapshot.key))
    };
    // From above: what stood on one that goes may have been the last to stand on another.
    while let Some(next) = all.iter().find(|snapshot| {
        snapshot.kind == SnapshotKind::Committed
            && spare(snapshot)
            && !going.contains(&snapshot.key)
            && all.iter().filter(|on| on.parent == snapshot.key).all(|on| going.contains(&on.key))
    }) {
        going.push(next.key.clone());
    }
    Ok(going)
}

/// Snapshots that were left to others who are gone too, in the order in which they can go.
pub(in crate::lifecycle) async fn left_to_nobody(
    inner: &EngineInner,
    snapshotter: &str,
) -> Result<Vec<String>> {
    let left = inner.backend.snapshots(snapshotter, &[left_filter()]).await?;
    let mut going: Vec<String> = Vec::new();
    let mut kept: HashSet<String> = HashSet::new();
    while let Some(next) = left.iter().find(|snapshot| {
        is_left(snapshot)
            && !going.contains(&snapshot.key)
            && !kept.contains(&snapshot.key)
            && left.iter().filter(|on| on.parent == snapshot.key).all(|on| going.contains(&on.key))
    }) {
        let filter = SnapshotFilter { parent: Some(next.key.clone()), ..SnapshotFilter::default() };
        let on_it = inner.backend.snapshots(snapshotter, &[filter]).await?;
        if on_it.iter().all(|on| going.contains(&on.key)) {
            going.push(next.key.clone());
        } else {
            kept.insert(next.key.clone());
        }
    }
    Ok(going)
}
