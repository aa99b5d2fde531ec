use super::history::{history_to_change, labelled};
use super::version::{Position, from_labels, to_labels};
use crate::backend::{Container, Snapshot, SnapshotFilter, SnapshotKind};
use crate::engine::EngineInner;
use crate::error::{ErrorKind, Result};
use crate::lifecycle::create::HOME;
use crate::lifecycle::resolve::Found;
use crate::names::WorkspaceId;
use crate::store::{VersionRecord, VersionRecords};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Writable snapshots of a workspace on which no container stands, the one changed last at the end.
#[derive(Debug, Default)]
pub(in crate::lifecycle) struct Orphans {
    snapshots: Vec<Snapshot>,
    /// The highest number of the workspace's versions that are there; 0 when there are none.
    last: u64,
}

impl Orphans {
    /// The image of the workspace that has left them, as far as that is known.
    pub(in crate::lifecycle) fn image(&self) -> Option<&str> {
        let last = self.snapshots.last()?;
        last.labels.get(super::version::IMAGE).map(String::as_str)
    }

    pub(in crate::lifecycle) fn into_snapshots(self) -> Vec<Snapshot> {
        self.snapshots
    }
}

/// What was made of orphans.
#[derive(Debug, Default)]
pub(in crate::lifecycle) struct Adopted {
    /// The writable snapshot to go on with.
    pub(in crate::lifecycle) writable: Option<String>,
    /// The versions that were made of what it does not go on with; the newest is the last.
    pub(in crate::lifecycle) kept: Vec<String>,
    /// Where it is in the history; where there is none to go on with, where a new one begins.
    pub(in crate::lifecycle) position: Position,
}

/// Finds the writable snapshots of a workspace on which no container stands: those with its label, and those that older
/// implementations have named after its container.
pub(in crate::lifecycle) async fn orphans(
    inner: &EngineInner,
    id: &WorkspaceId,
    snapshotter: &str,
) -> Result<Orphans> {
    let label = &inner.config.names.id_label;
    let labels = BTreeMap::from([(label.clone(), id.to_string())]);
    let mut filters = vec![SnapshotFilter { labels, ..SnapshotFilter::default() }];
    let names = container_names(inner, id)?;
    filters.extend(names.iter().map(|name| named(name)));
    let mut snapshots = inner.backend.snapshots(snapshotter, &filters).await?;
    let versions = snapshots
        .iter()
        .filter(|snapshot| snapshot.labels.get(label).is_some_and(|owner| owner == id.as_str()))
        .filter_map(|snapshot| from_labels(snapshotter, snapshot));
    let last = versions.map(|version| version.version).max().unwrap_or_default();
    snapshots.retain(|snapshot| is_writable(inner, snapshot) && is_of(inner, id, &names, snapshot));
    if !snapshots.is_empty() {
        let containers = inner.backend.containers(&[]).await?;
        snapshots.retain(|snapshot| stands_alone(snapshotter, snapshot, &containers));
    }
    snapshots.sort_by(|a, b| (a.updated_at, &a.key).cmp(&(b.updated_at, &b.key)));
    Ok(Orphans { snapshots, last })
}

/// Writable snapshots on which no container stands, of all workspaces, as one look has found them.
#[derive(Debug)]
pub(in crate::lifecycle) struct Strays(Vec<Snapshot>);

/// Looks for them.
pub(in crate::lifecycle) async fn strays(
    inner: &EngineInner,
    snapshotters: &BTreeSet<String>,
) -> Result<Strays> {
    let names = &inner.config.names;
    let mut filters = vec![SnapshotFilter { labels: names.labels.clone(), ..SnapshotFilter::default() }];
    filters.extend(names.legacy_prefixes.iter().chain([&names.container_prefix]).map(|prefix| named(prefix)));
    let mut found = Vec::new();
    for snapshotter in snapshotters {
        let mut snapshots = inner.backend.snapshots(snapshotter, &filters).await?;
        // After the snapshots: one that is in the making gets its container last.
        let containers = inner.backend.containers(&[]).await?;
        snapshots.retain(|snapshot| {
            is_writable(inner, snapshot) && stands_alone(snapshotter, snapshot, &containers)
        });
        found.extend(snapshots);
    }
    Ok(Strays(found))
}

impl Strays {
    /// The workspaces whose label they have.
    pub(in crate::lifecycle) fn owners(&self, inner: &EngineInner) -> impl Iterator<Item = WorkspaceId> {
        let labels = self.0.iter().filter_map(|stray| stray.labels.get(&inner.config.names.id_label));
        labels.filter_map(|id| WorkspaceId::new(id.as_str()).ok())
    }

    /// Whether one of them is a workspace's.
    pub(in crate::lifecycle) fn any_of(&self, inner: &EngineInner, id: &WorkspaceId) -> Result<bool> {
        let names = container_names(inner, id)?;
        Ok(self.0.iter().any(|stray| is_of(inner, id, &names, stray)))
    }
}

/// The names that a workspace's container has or had.
fn container_names(inner: &EngineInner, id: &WorkspaceId) -> Result<Vec<String>> {
    let older = inner.config.names.legacy_prefixes.iter().map(|prefix| Ok(format!("{prefix}{id}")));
    std::iter::once(inner.config.container_id(id)).chain(older).collect()
}

fn named(prefix: &str) -> SnapshotFilter {
    SnapshotFilter { key_prefix: Some(prefix.to_owned()), ..SnapshotFilter::default() }
}

fn is_writable(inner: &EngineInner, snapshot: &Snapshot) -> bool {
    snapshot.kind == SnapshotKind::Active
        // Another data root's workspace of the same name may be in the making.
        && snapshot.labels.get(HOME).is_none_or(|of| *of == inner.config.home_mark())
}

fn is_of(inner: &EngineInner, id: &WorkspaceId, names: &[String], snapshot: &Snapshot) -> bool {
    match snapshot.labels.get(&inner.config.names.id_label) {
        Some(owner) => owner == id.as_str(),
        None => names.iter().any(|name| is_writable_of(&snapshot.key, name)),
    }
}

fn stands_alone(snapshotter: &str, snapshot: &Snapshot, containers: &[Container]) -> bool {
    !containers.iter().any(|c| c.snapshotter == snapshotter && c.snapshot_key == snapshot.key)
}

/// Whether a name is one that a container's writable snapshot has: the container's own, or that, a word and a number.
fn is_writable_of(key: &str, container: &str) -> bool {
    let Some(rest) = key.strip_prefix(container) else { return false };
    let number = rest.strip_prefix("-active-").or_else(|| rest.strip_prefix("-rollback-"));
    rest.is_empty() || number.is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Keeps what a lost container has left: what was changed last is to be gone on with, unless the new one begins with
/// something else (`anew`) or is of another image; all others become versions. Empty ones go. The caller holds the workspace's lock.
pub(in crate::lifecycle) async fn adopt(
    inner: &EngineInner,
    id: &WorkspaceId,
    snapshotter: &str,
    orphans: Orphans,
    container: &str,
    image: &str,
    anew: bool,
) -> Result<Adopted> {
    let Some(newest) = orphans.snapshots.last() else {
        // Versions that are there are not in the records of a workspace that begins: the stamp has them read.
        let stamp = if orphans.last > 0 { uuid::Uuid::now_v7().to_string() } else { String::new() };
        let position = Position { last: orphans.last, stamp, ..Position::default() };
        return Ok(Adopted { position, ..Adopted::default() });
    };
    let other = anew || orphans.image().is_some_and(|of| of != image);
    let mut position = Position::of(newest);
    let writable = (!other).then(|| newest.key.clone());
    let mut kept = orphans.snapshots;
    if writable.is_some() {
        kept.pop();
    } else {
        position = Position { follows: None, depth: 0, ..position };
    }
    let (position, kept) = keep(inner, id, snapshotter, kept, container, position).await?;
    if let Some(key) = &writable {
        let labels = position.to_labels(&inner.config, id);
        inner.backend.label_snapshot(snapshotter, key, &labels, true).await?;
    }
    Ok(Adopted { writable, kept, position })
}

/// Makes versions of what a container has left that the workspace does not go on with: it has a container and a writable
/// snapshot. Returns the versions' snapshots. The caller holds the lock.
pub(in crate::lifecycle) async fn keep_beside(
    inner: &EngineInner,
    id: &WorkspaceId,
    found: &Found,
    left: Vec<Snapshot>,
) -> Result<Vec<String>> {
    let container = &found.container;
    let history = history_to_change(inner, id, found).await?;
    let position = Position { last: history.next_number() - 1, ..history.position };
    let (position, kept) = keep(inner, id, &container.snapshotter, left, &container.id, position).await?;
    if !kept.is_empty() {
        let labels = position.to_labels(&inner.config, id);
        inner.backend.label_snapshot(&container.snapshotter, &container.snapshot_key, &labels, true).await?;
    }
    Ok(kept)
}

/// Makes versions of writable snapshots on which nothing stands; empty ones are removed. Returns the position of the
/// workspace's writable snapshot after that, and the versions' snapshots. The caller holds the lock.
async fn keep(
    inner: &EngineInner,
    id: &WorkspaceId,
    snapshotter: &str,
    left: Vec<Snapshot>,
    container: &str,
    mut position: Position,
) -> Result<(Position, Vec<String>)> {
    let mut kept = Vec::new();
    for snapshot in left {
        if inner.backend.is_untouched(snapshotter, &snapshot.key, &inner.config.guest.data_dir).await? {
            inner.backend.remove_snapshot(snapshotter, &snapshot.key).await?;
            continue;
        }
        let versions = labelled(inner, id, snapshotter).await?;
        let was = Position::of(&snapshot);
        let last = versions.last().map_or(0, |version| version.version).max(position.last).max(was.last);
        let version = VersionRecord {
            version: last + 1,
            container_id: container.to_owned(),
            snapshotter: snapshotter.to_owned(),
            snapshot: format!("{container}-snapshot-{}", Timestamp::now().as_nanosecond()),
            parent: snapshot.parent.clone(),
            display_name: String::new(),
            source: "recovered".to_owned(),
            created_at: Timestamp::now(),
            follows: was.follows,
            depth: was.depth + 1,
        };
        let labels = to_labels(&inner.config, id, &version);
        match inner.backend.commit_snapshot(snapshotter, &snapshot.key, &version.snapshot, &labels).await {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other?,
        }
        position.last = version.version;
        kept.push(version.snapshot);
    }
    if !kept.is_empty() {
        position.stamp = uuid::Uuid::now_v7().to_string();
        let versions = labelled(inner, id, snapshotter).await?;
        inner.store.put_versions(id, &VersionRecords { stamp: position.stamp.clone(), versions }).await?;
    }
    Ok((position, kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writable_snapshots_are_known_by_name() {
        for name in ["mcp-a", "mcp-a-active-12", "mcp-a-rollback-3"] {
            assert!(is_writable_of(name, "mcp-a"), "{name}");
        }
        for name in ["mcp-ab", "mcp-a-b", "mcp-a-active-", "mcp-a-active-1x", "mcp-a-snapshot-1"] {
            assert!(!is_writable_of(name, "mcp-a"), "{name}");
        }
    }
}
