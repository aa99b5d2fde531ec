use super::history::{History, history};
use super::version::{NAME, SOURCE, is_base, name_of, to_labels};
use crate::backend::{Snapshot, SnapshotKind};
use crate::engine::EngineInner;
use crate::error::{Error, Result};
use crate::lifecycle::resolve::existing;
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
    let found = existing(inner, id).await?;
    let snapshotter = found.container.snapshotter.clone();
    if let Some(asked) = options.snapshotter.as_ref().filter(|asked| **asked != snapshotter) {
        return Err(Error::invalid_argument("the workspace's snapshots are in another snapshotter")
            .with("field", "snapshotter")
            .with("value", asked)
            .with("snapshotter", snapshotter));
    }
    let history = history(inner, id, &found).await?;
    let active = history.active.clone().ok_or_else(|| {
        Error::not_found("the workspace's writable snapshot is gone: recreate the workspace")
            .with("workspace", id)
            .with("snapshot", &found.container.snapshot_key)
    })?;
    let by_number: HashMap<u64, &VersionRecord> =
        history.versions.iter().map(|version| (version.version, version)).collect();
    let below = |follows: Option<u64>, parent: &str| {
        follows.and_then(|n| by_number.get(&n)).map_or_else(|| parent.to_owned(), |v| v.snapshot.clone())
    };
    let mut snapshots = vec![SnapshotInfo {
        parent: below(history.position.follows, &active.parent),
        ..shown(&snapshotter, active.clone())
    }];
    for snapshot in beneath(inner, &snapshotter, &history, &active).await? {
        snapshots.push(shown(&snapshotter, snapshot));
    }
    snapshots.extend(history.versions.iter().map(|version| SnapshotInfo {
        parent: below(version.follows, &version.parent),
        ..managed(inner, id, version)
    }));
    snapshots.sort_by(|a, b| (&a.created_at, &a.name).cmp(&(&b.created_at, &b.name)));
    Ok(SnapshotList { snapshotter, snapshots })
}

/// What is below the versions that the writable snapshot goes on from, down to the lowest layer.
async fn beneath(
    inner: &EngineInner,
    snapshotter: &str,
    history: &History,
    active: &Snapshot,
) -> Result<Vec<Snapshot>> {
    let by_number: HashMap<u64, &VersionRecord> =
        history.versions.iter().map(|version| (version.version, version)).collect();
    let versions: HashMap<&str, &VersionRecord> =
        history.versions.iter().map(|version| (version.snapshot.as_str(), version)).collect();
    let mut parent = active.parent.as_str();
    let mut passed = HashSet::new();
    let mut follows = history.position.follows;
    while let Some(version) = follows.and_then(|number| by_number.get(&number)) {
        if !passed.insert(version.version) {
            return Ok(Vec::new());
        }
        (parent, follows) = (version.parent.as_str(), version.follows);
    }
    let mut below = parent.to_owned();
    let mut seen = HashSet::from([active.key.clone()]);
    let mut found = Vec::new();
    while !below.is_empty() && seen.insert(below.clone()) {
        if let Some(version) = versions.get(below.as_str()) {
            below.clone_from(&version.parent);
            continue;
        }
        let Some(snapshot) = inner.backend.snapshot(snapshotter, &below).await? else { break };
        below.clone_from(&snapshot.parent);
        // One that only carries what is above it says nothing to anybody.
        if !is_base(&snapshot) {
            found.push(snapshot);
        }
    }
    Ok(found)
}

/// A snapshot that is no version of this workspace.
fn shown(snapshotter: &str, snapshot: Snapshot) -> SnapshotInfo {
    let label = |key: &str| snapshot.labels.get(key).cloned();
    let (kind, source) = match snapshot.kind {
        SnapshotKind::Active => ("active", "managed".to_owned()),
        // A version of the workspace that this one was forked from is told as what it is there.
        SnapshotKind::Committed | SnapshotKind::View => {
            ("committed", label(SOURCE).unwrap_or_else(|| "image_layer".to_owned()))
        }
    };
    let display_name = label(NAME).unwrap_or_default();
    SnapshotInfo {
        snapshotter: snapshotter.to_owned(),
        name: if display_name.is_empty() { snapshot.key.clone() } else { display_name.clone() },
        display_name,
        runtime_snapshot_name: snapshot.key,
        parent: snapshot.parent,
        kind: kind.to_owned(),
        created_at: snapshot.created_at.to_string(),
        updated_at: snapshot.updated_at.to_string(),
        labels: snapshot.labels,
        source,
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
