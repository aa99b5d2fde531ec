use super::version::{DEPTH, Position, from_labels, to_labels, unknown};
use crate::backend::{Snapshot, SnapshotFilter, SnapshotKind};
use crate::engine::EngineInner;
use crate::error::{Error, Result};
use crate::lifecycle::resolve::Found;
use crate::names::WorkspaceId;
use crate::store::{VersionRecord, VersionRecords};
use std::collections::{BTreeMap, HashMap};

/// A workspace's versions, and where it is among them.
#[derive(Debug, Clone)]
pub(in crate::lifecycle) struct History {
    /// Ordered by number.
    pub(in crate::lifecycle) versions: Vec<VersionRecord>,
    /// The writable snapshot, if it is there.
    pub(super) active: Option<Snapshot>,
    pub(in crate::lifecycle) position: Position,
    /// Whether an older implementation made them: nothing labels them yet.
    foreign: bool,
}

impl History {
    /// The version of this number.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub(super) fn version(&self, id: &WorkspaceId, number: u64) -> Result<&VersionRecord> {
        self.versions.iter().find(|version| version.version == number).ok_or_else(|| unknown(id, number))
    }

    /// The number that the next version gets.
    pub(super) fn next_number(&self) -> u64 {
        self.versions.last().map_or(0, |version| version.version).max(self.position.last) + 1
    }

    /// The versions of which each goes on from one, by that one's number.
    pub(super) fn followers(&self) -> HashMap<u64, Vec<u64>> {
        let mut followers: HashMap<u64, Vec<u64>> = HashMap::new();
        for version in &self.versions {
            if let Some(follows) = version.follows {
                followers.entry(follows).or_default().push(version.version);
            }
        }
        followers
    }
}

/// Reads a workspace's history: from the records while they are of the history that the writable snapshot's label names,
/// else from the labels of the snapshots, which the records are then completed from.
pub(in crate::lifecycle) async fn history(
    inner: &EngineInner,
    id: &WorkspaceId,
    found: &Found,
) -> Result<History> {
    let container = &found.container;
    let (records, active) = tokio::try_join!(
        inner.store.versions(id),
        inner.backend.snapshot(&container.snapshotter, &container.snapshot_key)
    )?;
    let position = active.as_ref().map(Position::of).unwrap_or_default();
    let known = active.is_some() && position.stamp == records.stamp;
    if known && (!records.versions.is_empty() || !may_be_foreign(found, active.as_ref())) {
        return Ok(History { versions: records.versions, active, position, foreign: false });
    }
    if known {
        let (versions, position) = foreign(inner, found, position).await?;
        return Ok(History { foreign: !versions.is_empty(), versions, active, position });
    }
    let versions = labelled(inner, id, &container.snapshotter).await?;
    if active.is_some() {
        let records = VersionRecords { stamp: position.stamp.clone(), versions: versions.clone() };
        inner.store.put_versions(id, &records).await?;
    }
    Ok(History { versions, active, position, foreign: false })
}

/// Reads a workspace's history in order to change it. What an older implementation made is labelled first, so that it
/// is kept and known from now on. The caller holds the lock.
pub(in crate::lifecycle) async fn history_to_change(
    inner: &EngineInner,
    id: &WorkspaceId,
    found: &Found,
) -> Result<History> {
    let history = history(inner, id, found).await?;
    let Some(active) = &history.active else {
        return Err(Error::not_found(
            "the workspace's writable snapshot is gone: start the workspace, which repairs it",
        )
        .with("workspace", id)
        .with("snapshot", &found.container.snapshot_key));
    };
    if !history.foreign {
        return Ok(history);
    }
    let snapshotter = &found.container.snapshotter;
    for version in &history.versions {
        let labels = to_labels(&inner.config, id, version);
        inner.backend.label_snapshot(snapshotter, &version.snapshot, &labels, true).await?;
    }
    let position = Position { stamp: uuid::Uuid::now_v7().to_string(), ..history.position.clone() };
    let records = VersionRecords { stamp: position.stamp.clone(), versions: history.versions.clone() };
    inner.store.put_versions(id, &records).await?;
    // Last: until then they are found and labelled again.
    let mut labels = active.labels.clone();
    labels.extend(position.to_labels(&inner.config, id));
    inner.backend.label_snapshot(snapshotter, &active.key, &labels, true).await?;
    Ok(History { position, foreign: false, ..history })
}

/// The versions that labels tell of, ordered by number. Where a number is there twice, one was about to take the place
/// of the other, and both have the same content.
pub(super) async fn labelled(
    inner: &EngineInner,
    id: &WorkspaceId,
    snapshotter: &str,
) -> Result<Vec<VersionRecord>> {
    let mut snapshots = owned(inner, id, snapshotter).await?;
    snapshots.sort_by_key(|snapshot| snapshot.created_at);
    let versions: BTreeMap<u64, VersionRecord> = snapshots
        .iter()
        .filter_map(|snapshot| from_labels(snapshotter, snapshot))
        .map(|version| (version.version, version))
        .collect();
    Ok(versions.into_values().collect())
}

/// All snapshots that are labelled as a workspace's.
pub(in crate::lifecycle) async fn owned(
    inner: &EngineInner,
    id: &WorkspaceId,
    snapshotter: &str,
) -> Result<Vec<Snapshot>> {
    let labels = BTreeMap::from([(inner.config.names.id_label.clone(), id.to_string())]);
    inner.backend.snapshots(snapshotter, &[SnapshotFilter { labels, ..SnapshotFilter::default() }]).await
}

/// Whether a writable snapshot may stand on versions that an older implementation made: by the name of its parent.
fn may_be_foreign(found: &Found, active: Option<&Snapshot>) -> bool {
    active.is_some_and(|active| {
        !active.labels.contains_key(DEPTH) && is_named_after(&active.parent, &found.container.id)
    })
}

/// Whether a snapshot has a name as older implementations give: the container's, a word, a number.
fn is_named_after(key: &str, container: &str) -> bool {
    let rest = key.strip_prefix(container).and_then(|rest| rest.strip_prefix('-'));
    let word = |word: &str| matches!(word, "snapshot-" | "rollback-" | "active-" | "v");
    rest.is_some_and(|rest| {
        let digits = rest.bytes().rev().take_while(u8::is_ascii_digit).count();
        digits > 0 && word(&rest[..rest.len() - digits])
    })
}

/// The versions that an older implementation made: its committed snapshots, numbered in the order of their creation.
async fn foreign(
    inner: &EngineInner,
    found: &Found,
    position: Position,
) -> Result<(Vec<VersionRecord>, Position)> {
    let container = &found.container;
    let filter = SnapshotFilter { key_prefix: Some(format!("{}-", container.id)), ..Default::default() };
    let mut snapshots = inner.backend.snapshots(&container.snapshotter, &[filter]).await?;
    snapshots.retain(|snapshot| {
        snapshot.kind == SnapshotKind::Committed && is_named_after(&snapshot.key, &container.id)
    });
    snapshots.sort_by(|a, b| (a.created_at, &a.key).cmp(&(b.created_at, &b.key)));
    let numbers: HashMap<&str, u64> =
        snapshots.iter().zip(1..).map(|(snapshot, number)| (snapshot.key.as_str(), number)).collect();
    let mut versions: Vec<VersionRecord> = Vec::with_capacity(snapshots.len());
    for (snapshot, version) in snapshots.iter().zip(1..) {
        let follows = numbers.get(snapshot.parent.as_str()).copied();
        // A parent is older than its children, so its depth is known.
        let below = follows.and_then(|follows| versions.get(usize::try_from(follows).ok()? - 1));
        versions.push(VersionRecord {
            version,
            container_id: container.id.clone(),
            snapshotter: container.snapshotter.clone(),
            snapshot: snapshot.key.clone(),
            parent: snapshot.parent.clone(),
            display_name: String::new(),
            source: if snapshot.key.contains("-rollback-") { "rollback" } else { "managed" }.to_owned(),
            created_at: snapshot.created_at,
            follows,
            depth: below.map_or(0, |below: &VersionRecord| below.depth) + 1,
        });
    }
    let active = inner.backend.snapshot(&container.snapshotter, &container.snapshot_key).await?;
    let follows = active.and_then(|active| numbers.get(active.parent.as_str()).copied());
    let depth =
        follows.and_then(|follows| versions.get(usize::try_from(follows).ok()? - 1)).map_or(0, |v| v.depth);
    let last = versions.len() as u64;
    Ok((versions, Position { follows, depth, last, ..position }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_older_implementations_are_known() {
        for name in ["mcp-a-snapshot-12", "mcp-a-v12", "mcp-a-active-1", "mcp-a-rollback-17"] {
            assert!(is_named_after(name, "mcp-a"), "{name}");
        }
        for name in ["mcp-a", "mcp-a-v", "mcp-a-x1", "mcp-a-b-v12", "mcp-ab-v1", "sha256:1", "mcp-a-1"] {
            assert!(!is_named_after(name, "mcp-a"), "{name}");
        }
    }
}
