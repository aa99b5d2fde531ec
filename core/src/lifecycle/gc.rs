use super::create::remove_dirs;
use super::list::filters;
use super::reconcile::is_elsewhere;
use super::resolve::{resolve, workspace_of};
use super::{recover::recover, snapshots};
use crate::engine::EngineInner;
use crate::error::{Error, Result};
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use crate::types::{GcOptions, GcResult};
use std::collections::BTreeSet;

/// Removes what is of no use to any workspace: snapshots that were left to others who are gone too, what stood in for
/// layers that nothing stands on any more, empty writable snapshots of no container, and directories and networks of
/// workspaces that are gone. Whatever holds data stays.
pub(crate) async fn gc(
    inner: &EngineInner,
    options: GcOptions,
    context: &OperationContext,
) -> Result<GcResult> {
    let mut result = GcResult::default();
    let mut snapshotters = BTreeSet::from([inner.config.containerd.snapshotter.clone()]);
    let mut ids: BTreeSet<WorkspaceId> = inner.store.workspaces().await?.into_iter().collect();
    for container in inner.backend.containers(&filters(&inner.config)).await? {
        ids.extend(workspace_of(&inner.config, &container));
        snapshotters.insert(container.snapshotter);
    }
    for dir in ["run", "etc"] {
        ids.extend(named(inner, dir)?);
    }
    for snapshotter in &snapshotters {
        ids.extend(snapshots::owners(inner, snapshotter).await?);
    }
    for id in ids {
        context.check_cancelled()?;
        // Somebody works on it: then what looks left may be in use.
        let Some(_guard) = inner.locks.try_acquire(&id)? else { continue };
        for snapshotter in &snapshotters {
            if let Err(error) = collect(inner, &id, snapshotter, options.dry_run, &mut result).await {
                result.problems.push(error.with("workspace", &id).to_string());
            }
        }
        if let Err(error) = directories(inner, &id, options.dry_run, &mut result).await {
            result.problems.push(error.with("workspace", &id).to_string());
        }
    }
    for snapshotter in &snapshotters {
        let left = snapshots::left_to_nobody(inner, snapshotter).await?;
        remove(inner, snapshotter, left, options.dry_run, &mut result).await?;
    }
    Ok(result)
}

/// The workspaces that a directory of the data root is named after.
fn named(inner: &EngineInner, dir: &str) -> Result<Vec<WorkspaceId>> {
    let path = inner.config.data_root.join(dir);
    let failed = |e| Error::io(e, "cannot list a directory of workspaces").with("path", path.display());
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(&path).map_err(failed)? {
        ids.extend(WorkspaceId::new(entry.map_err(failed)?.file_name().to_string_lossy()));
    }
    Ok(ids)
}

/// Removes a workspace's snapshots that are of no use. The caller holds its lock.
async fn collect(
    inner: &EngineInner,
    id: &WorkspaceId,
    snapshotter: &str,
    dry_run: bool,
    result: &mut GcResult,
) -> Result<()> {
    if dry_run {
        if !inner.store.unfinished(id).await?.is_empty() {
            return Ok(());
        }
    } else {
        recover(inner, id).await?;
    }
    let found = resolve(inner, id).await?;
    if found.as_ref().is_some_and(|found| is_elsewhere(inner, found)) {
        return Ok(());
    }
    let idle = snapshots::idle(inner, id, snapshotter, found.as_ref()).await?;
    remove(inner, snapshotter, idle, dry_run, result).await
}

async fn remove(
    inner: &EngineInner,
    snapshotter: &str,
    names: Vec<String>,
    dry_run: bool,
    result: &mut GcResult,
) -> Result<()> {
    for name in names {
        let bytes = inner.backend.snapshot_usage(snapshotter, &name).await.map_or(0, |usage| usage.bytes);
        if !dry_run {
            match inner.backend.remove_snapshot(snapshotter, &name).await {
                Ok(true) => {}
                // Somebody has removed it, or stands on it since.
                Ok(false) => continue,
                Err(error) if error.kind() == crate::error::ErrorKind::FailedPrecondition => continue,
                Err(error) => return Err(error),
            }
        }
        result.snapshots.push(name);
        result.freed_bytes += bytes;
    }
    Ok(())
}

/// Removes the directories and the network of a workspace of which nothing else is left. The caller holds its lock.
async fn directories(
    inner: &EngineInner,
    id: &WorkspaceId,
    dry_run: bool,
    result: &mut GcResult,
) -> Result<()> {
    let gone = resolve(inner, id).await?.is_none()
        && inner.store.workspace(id).await?.is_none()
        && inner.store.unfinished(id).await?.is_empty();
    if !gone {
        return Ok(());
    }
    let dirs = [inner.config.run_dir(id), inner.config.etc_dir(id)];
    let there = dirs.iter().filter(|dir| dir.exists()).map(|dir| dir.display().to_string());
    result.directories.extend(there);
    let container = inner.config.container_id(id)?;
    if inner.network.info(&container).is_some() {
        result.networks.push(container.clone());
    }
    if dry_run {
        return Ok(());
    }
    inner.network.detach(&container).await?;
    remove_dirs(&inner.config, id)
}
