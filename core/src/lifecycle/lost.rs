//! What a lost database is rebuilt from: the backend knows workspaces and versions by their labels.
//!
//! With the database the journal is lost, and what was under way then is told by labels too: a container that is being
//! deleted is marked, a version knows the way of the relocation it was made by, and a writable snapshot without a
//! container in which there is no file was made by a creation that never came to its container.
//!
//! Other data roots may have workspaces on the same backend: what is theirs is left alone.

use super::bridge::socket;
use super::create::{HOME, remove_dirs};
use super::delete::{self, DELETING, UNDONE};
use super::journal::DeleteIntent;
use super::list::filters;
use super::resolve::{resolve, workspace_of};
use super::snapshots::{self, recover_lost};
use crate::backend::{Container, Snapshot, SnapshotFilter, SnapshotKind};
use crate::engine::EngineInner;
use crate::error::{Error, Result};
use crate::names::WorkspaceId;
use std::collections::{BTreeMap, BTreeSet};

/// What is there of a workspace that has no record.
#[derive(Debug, Default)]
struct Traces {
    container: Option<Container>,
    /// Each with its snapshotter.
    snapshots: Vec<(String, Snapshot)>,
}

/// Completes records that are new, or lost, with what the backend knows. Does nothing to those that it has completed.
///
/// # Errors
/// Those of the store. What the backend does not tell now is asked for again by the next engine.
pub(crate) async fn complete_records(inner: &EngineInner) -> Result<()> {
    if inner.store.is_completed().await? {
        return Ok(());
    }
    let traces = match traces(inner).await {
        Ok(traces) => traces,
        Err(error) => {
            tracing::warn!(%error, "the records cannot be completed now");
            return Ok(());
        }
    };
    let mut all = true;
    for (id, traces) in traces {
        // A held lock, or an entry in the journal, means that somebody works on it: then nothing of it is lost.
        let Some(_guard) = inner.locks.try_acquire(&id)? else { continue };
        if !inner.store.unfinished(&id).await?.is_empty() {
            continue;
        }
        if let Err(error) = complete(inner, &id, traces).await {
            tracing::warn!(workspace = %id, %error, "the workspace's records cannot be completed now");
            all = false;
        }
    }
    if all { inner.store.set_completed().await } else { Ok(()) }
}

/// Everything that is a workspace's, in the backend and under the data root.
async fn traces(inner: &EngineInner) -> Result<BTreeMap<WorkspaceId, Traces>> {
    let config = &inner.config;
    let mut found: BTreeMap<WorkspaceId, Traces> = BTreeMap::new();
    let mut snapshotters = BTreeSet::from([config.containerd.snapshotter.clone()]);
    for container in inner.backend.containers(&filters(config)).await? {
        snapshotters.insert(container.snapshotter.clone());
        if let Some(id) = workspace_of(config, &container) {
            let known = &mut found.entry(id).or_default().container;
            if known.as_ref().is_none_or(|known| known.updated_at < container.updated_at) {
                *known = Some(container);
            }
        }
    }
    let ours = SnapshotFilter { labels: config.names.labels.clone(), ..SnapshotFilter::default() };
    for snapshotter in snapshotters {
        for snapshot in inner.backend.snapshots(&snapshotter, std::slice::from_ref(&ours)).await? {
            let id = snapshot.labels.get(&config.names.id_label).and_then(|id| WorkspaceId::new(id).ok());
            if let Some(id) = id {
                found.entry(id).or_default().snapshots.push((snapshotter.clone(), snapshot));
            }
        }
    }
    for dir in ["run", "etc"] {
        let dir = config.data_root.join(dir);
        let failed = |e| Error::io(e, "cannot list a directory of workspaces").with("path", dir.display());
        for entry in std::fs::read_dir(&dir).map_err(failed)? {
            if let Ok(id) = WorkspaceId::new(entry.map_err(failed)?.file_name().to_string_lossy()) {
                found.entry(id).or_default();
            }
        }
    }
    Ok(found)
}

/// Completes the records of one workspace, and what was under way. The caller holds its lock.
async fn complete(inner: &EngineInner, id: &WorkspaceId, traces: Traces) -> Result<()> {
    // It may have changed since it was listed.
    let container = match &traces.container {
        Some(container) => inner.backend.container(&container.id).await?,
        None => resolve(inner, id).await?.map(|found| found.container),
    };
    let Some(container) = container else {
        let home = inner.config.home_mark();
        for (snapshotter, snapshot) in &traces.snapshots {
            if snapshot.labels.get(HOME) != Some(&home) {
                continue;
            }
            // Its versions stay: the next container of this name goes on with their numbers.
            if snapshot.kind == SnapshotKind::Active
                && inner
                    .backend
                    .is_untouched(snapshotter, &snapshot.key, &inner.config.guest.data_dir)
                    .await?
            {
                inner.backend.remove_snapshot(snapshotter, &snapshot.key).await?;
            }
        }
        inner.network.detach(&inner.config.container_id(id)?).await?;
        return remove_dirs(&inner.config, id);
    };
    let run_dir = socket(inner, &container).map(|socket| socket.starts_with(&inner.config.data_root));
    // Another's, or one of an older implementation, which no data root has for itself.
    if run_dir != Some(true) {
        return Ok(());
    }
    if let Some(why) = container.labels.get(DELETING) {
        let mut others = Vec::new();
        if why != UNDONE {
            others = snapshots::left_of(inner, id, &container.snapshotter).await?;
            others.retain(|name| *name != container.snapshot_key);
        }
        let intent = DeleteIntent {
            container_id: container.id,
            snapshotter: container.snapshotter,
            snapshot_key: container.snapshot_key,
            others,
        };
        return delete::complete(inner, id, &intent).await;
    }
    let its = traces.snapshots.into_iter().filter(|(snapshotter, _)| *snapshotter == container.snapshotter);
    let its: Vec<Snapshot> = its.map(|(_, snapshot)| snapshot).collect();
    recover_lost(inner, id, &container, &its).await
}
