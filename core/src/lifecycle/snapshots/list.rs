use super::version::{name_of, to_labels, versions};
use crate::backend::{Snapshot, SnapshotKind};
use crate::engine::EngineInner;
use crate::error::{Error, Result};
use crate::lifecycle::info::missing;
use crate::lifecycle::resolve::resolve;
use crate::names::WorkspaceId;
use crate::store::VersionRecord;
use crate::types::{SnapshotInfo, SnapshotList, SnapshotListOptions};
use std::collections::{HashMap, HashSet};

/// The snapshots from the writable one down to the image's lowest layer, and the versions beside that line.
///
/// The line is walked by parents: of versions by their records, below them by asking the backend. A parent that is
/// missing ends it, and so does a circle.
pub(crate) async fn list(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: &SnapshotListOptions,
) -> Result<SnapshotList> {
    let found = resolve(inner, id).await?.ok_or_else(|| missing(id))?;
    let snapshotter = found.container.snapshotter.clone();
    if let Some(asked) = options.snapshotter.as_ref().filter(|asked| **asked != snapshotter) {
        return Err(Error::invalid_argument("the workspace's snapshots are in another snapshotter")
            .with("field", "snapshotter")
            .with("value", asked)
            .with("snapshotter", snapshotter));
    }
    let versions = versions(inner, id, &found).await?;
    let key = &found.container.snapshot_key;
    let active = inner.backend.snapshot(&snapshotter, key).await?.ok_or_else(|| {
        Error::not_found("the workspace's writable snapshot is gone: recreate the workspace")
            .with("workspace", id)
            .with("snapshot", key)
    })?;
    let by_snapshot: HashMap<&str, &VersionRecord> =
        versions.iter().map(|version| (version.snapshot.as_str(), version)).collect();
    let mut seen = HashSet::from([active.key.clone()]);
    let mut below = active.parent.clone();
    let mut snapshots = vec![shown(&snapshotter, active)];
    while !below.is_empty() && seen.insert(below.clone()) {
        if let Some(version) = by_snapshot.get(below.as_str()) {
            below.clone_from(&version.parent);
            continue;
        }
        let Some(snapshot) = inner.backend.snapshot(&snapshotter, &below).await? else { break };
        below.clone_from(&snapshot.parent);
        snapshots.push(shown(&snapshotter, snapshot));
    }
    snapshots.extend(versions.iter().map(|version| managed(inner, id, version)));
    snapshots.sort_by(|a, b| (&a.created_at, &a.name).cmp(&(&b.created_at, &b.name)));
    Ok(SnapshotList { snapshotter, snapshots })
}

/// A snapshot that is no version of this workspace.
fn shown(snapshotter: &str, snapshot: Snapshot) -> SnapshotInfo {
    let (kind, source) = match snapshot.kind {
        SnapshotKind::Active => ("active", "managed"),
        SnapshotKind::Committed | SnapshotKind::View => ("committed", "image_layer"),
    };
    SnapshotInfo {
        snapshotter: snapshotter.to_owned(),
        name: snapshot.key.clone(),
        display_name: String::new(),
        runtime_snapshot_name: snapshot.key,
        parent: snapshot.parent,
        kind: kind.to_owned(),
        created_at: snapshot.created_at.to_string(),
        updated_at: snapshot.updated_at.to_string(),
        labels: snapshot.labels,
        source: source.to_owned(),
        managed: false,
        version: None,
    }
}

fn managed(inner: &EngineInner, id: &WorkspaceId, version: &VersionRecord) -> SnapshotInfo {
    SnapshotInfo {
        snapshotter: version.snapshotter.clone(),
        name: name_of(version),
        display_name: version.display_name.clone(),
        runtime_snapshot_name: version.snapshot.clone(),
        parent: version.parent.clone(),
        kind: "committed".to_owned(),
        created_at: version.created_at.to_string(),
        updated_at: version.created_at.to_string(),
        labels: to_labels(&inner.config, id, version),
        source: version.source.clone(),
        managed: true,
        version: Some(version.version),
    }
}
