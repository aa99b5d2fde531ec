//! Which snapshots can go, in which order, and what becomes of those that others stand on.

use super::history::{history, owned};
use super::orphans::orphans;
use super::version::{is_left, left_labels};
use crate::backend::Snapshot;
use crate::engine::EngineInner;
use crate::error::{ErrorKind, Result};
use crate::lifecycle::resolve::Found;
use crate::names::WorkspaceId;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Orders snapshots so that none comes before one that stands on it.
pub(super) fn leaves_first<'s>(names: impl IntoIterator<Item = &'s str>, all: &[Snapshot]) -> Vec<String> {
    let parents: HashMap<&str, &str> =
        all.iter().map(|snapshot| (snapshot.key.as_str(), snapshot.parent.as_str())).collect();
    let level = |name: &str| {
        let mut seen = HashSet::new();
        let mut at = name;
        while let Some(parent) = parents.get(at).filter(|_| seen.insert(at)) {
            at = parent;
        }
        seen.len()
    };
    let mut levels: Vec<(usize, &str)> = names.into_iter().map(|name| (level(name), name)).collect();
    levels.sort_by(|a, b| b.cmp(a));
    levels.into_iter().map(|(_, name)| name.to_owned()).collect()
}

/// What was removed, and what was left to others.
#[derive(Debug, Default)]
pub(in crate::lifecycle) struct Removed {
    pub(in crate::lifecycle) gone: Vec<String>,
    pub(in crate::lifecycle) left: Vec<String>,
}

/// Removes snapshots in this order. One on which another workspace stands is no longer this one's: it goes when nothing
/// stands on it any more. What is gone already is no fault.
pub(in crate::lifecycle) async fn remove(
    inner: &EngineInner,
    snapshotter: &str,
    names: &[String],
) -> Result<Removed> {
    let mut removed = Removed::default();
    for name in names {
        match inner.backend.remove_snapshot(snapshotter, name).await {
            Ok(true) => removed.gone.push(name.clone()),
            Ok(false) => {}
            Err(error) if error.kind() == ErrorKind::FailedPrecondition => {
                if let Some(snapshot) = inner.backend.snapshot(snapshotter, name).await? {
                    let labels = left_labels(&snapshot, &inner.config);
                    inner.backend.label_snapshot(snapshotter, name, &labels, false).await?;
                    removed.left.push(name.clone());
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

/// All snapshots of a workspace but its writable one, and what others have left to it, in the order in which they can go.
pub(in crate::lifecycle) async fn all_but(
    inner: &EngineInner,
    id: &WorkspaceId,
    found: &Found,
) -> Result<Vec<String>> {
    let container = &found.container;
    let history = history(inner, id, found).await?;
    let Some(active) = &history.active else {
        return left_of(inner, id, &container.snapshotter).await;
    };
    // One that has never had versions, is no fork, and stands on nothing but its image has only its writable snapshot.
    let position = &history.position;
    let own = position.stamp.is_empty() && position.forked_from.is_none() && history.versions.is_empty();
    let alone = own && position.depth == 0;
    if alone {
        return Ok(Vec::new());
    }
    let all = owned(inner, id, &container.snapshotter).await?;
    let mut names: BTreeSet<&str> = all.iter().map(|snapshot| snapshot.key.as_str()).collect();
    names.extend(history.versions.iter().map(|version| version.snapshot.as_str()));
    names.remove(container.snapshot_key.as_str());
    let mut order = leaves_first(names.iter().copied(), &all);
    // Below the lowest of its own may be what another workspace has left.
    let lowest = all
        .iter()
        .chain(std::iter::once(active))
        .map(|snapshot| snapshot.parent.as_str())
        .filter(|parent| !names.contains(parent))
        .collect::<BTreeSet<_>>();
    for parent in lowest {
        order.extend(left_below(inner, &container.snapshotter, parent.to_owned()).await?);
    }
    Ok(order)
}

/// All snapshots of a workspace whose container is gone, in the order in which they can go.
pub(in crate::lifecycle) async fn left_of(
    inner: &EngineInner,
    id: &WorkspaceId,
    snapshotter: &str,
) -> Result<Vec<String>> {
    let mut all = owned(inner, id, snapshotter).await?;
    all.extend(orphans(inner, id, snapshotter).await?.into_snapshots());
    let names: BTreeSet<&str> = all.iter().map(|snapshot| snapshot.key.as_str()).collect();
    Ok(leaves_first(names, &all))
}

/// What was left to others and lies below a snapshot, from above.
pub(super) async fn left_below(
    inner: &EngineInner,
    snapshotter: &str,
    mut parent: String,
) -> Result<Vec<String>> {
    let mut found = Vec::new();
    while !parent.is_empty() {
        match inner.backend.snapshot(snapshotter, &parent).await? {
            Some(snapshot) if is_left(&snapshot) && !found.contains(&snapshot.key) => {
                parent = snapshot.parent;
                found.push(snapshot.key);
            }
            _ => break,
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::SnapshotKind;
    use jiff::Timestamp;

    #[test]
    fn none_goes_before_what_stands_on_it() {
        let all: Vec<Snapshot> = [("a", "image"), ("b", "a"), ("c", "b"), ("d", "a"), ("x", "y"), ("y", "x")]
            .map(|(key, parent)| Snapshot {
                key: key.to_owned(),
                parent: parent.to_owned(),
                kind: SnapshotKind::Committed,
                labels: Default::default(),
                created_at: Timestamp::UNIX_EPOCH,
                updated_at: Timestamp::UNIX_EPOCH,
            })
            .into();
        let order = leaves_first(["a", "b", "c", "d"], &all);
        let at = |name: &str| order.iter().position(|n| n == name).unwrap();
        assert!(at("c") < at("b") && at("b") < at("a") && at("d") < at("a"), "{order:?}");
        // A circle ends it too.
        assert_eq!(leaves_first(["x", "y"], &all).len(), 2);
    }
}
