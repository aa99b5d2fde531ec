use super::history::{History, history};
use crate::backend::{Change, ChangesRequest};
use crate::engine::EngineInner;
use crate::error::{Error, Result};
use crate::lifecycle::resolve::existing;
use crate::names::WorkspaceId;
use crate::store::VersionRecord;
use crate::types::{ChangeKind, SnapshotChange, SnapshotDiff, SnapshotDiffOptions};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// How many changes a page has, and at most has.
const PAGE: u32 = 1000;
const MOST: u32 = 10_000;

/// Compares two versions, or a version and the workspace as it is; a page of the changes.
pub(crate) async fn diff(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: &SnapshotDiffOptions,
) -> Result<SnapshotDiff> {
    let limit = options.limit.unwrap_or(PAGE);
    if limit == 0 || limit > MOST {
        return Err(Error::invalid_argument(format!("malformed option limit: it may be 1 to {MOST}"))
            .with("field", "limit")
            .with("value", limit));
    }
    let after = options.after.as_deref().unwrap_or_default();
    let after = URL_SAFE_NO_PAD.decode(after).map_err(|e| {
        Error::invalid_argument("malformed option after: use what `next` of the page before says")
            .with("field", "after")
            .with("value", after)
            .caused_by(e)
    })?;
    let found = existing(inner, id).await?;
    let history = history(inner, id, &found).await?;
    let to = options.to.map(|number| history.version(id, number)).transpose()?;
    let from = match options.from {
        Some(number) => number,
        None => to.map_or(history.position.follows, |version| version.follows).unwrap_or_default(),
    };
    let before = match from {
        0 => image(inner, &history, to, &found.container.snapshotter).await?,
        number => history.version(id, number)?.snapshot.clone(),
    };
    let request = ChangesRequest {
        snapshotter: found.container.snapshotter,
        from: before,
        to: to.map_or(found.container.snapshot_key, |version| version.snapshot.clone()),
        after,
        limit: limit as usize,
    };
    let changes = inner.backend.changes(&request).await?;
    let next = changes
        .last()
        .filter(|_| changes.len() == request.limit)
        .map(|last| URL_SAFE_NO_PAD.encode(&last.path));
    let changes = changes.into_iter().filter_map(shown).collect();
    Ok(SnapshotDiff { from, to: options.to, changes, next })
}

/// The snapshot of the image, which a version, or the workspace as it is, stands on in the end.
async fn image(
    inner: &EngineInner,
    history: &History,
    to: Option<&VersionRecord>,
    snapshotter: &str,
) -> Result<String> {
    let (mut below, depth) = match to {
        Some(version) => (version.snapshot.clone(), version.depth),
        None => (
            history.active.as_ref().map(|active| active.parent.clone()).unwrap_or_default(),
            history.position.depth,
        ),
    };
    for _ in 0..depth {
        let snapshot = inner.backend.snapshot(snapshotter, &below).await?;
        below = snapshot
            .ok_or_else(|| {
                Error::data_corrupt("a snapshot that others stand on is gone").with("snapshot", &below)
            })?
            .parent;
    }
    Ok(below)
}

fn shown(change: Change) -> Option<SnapshotChange> {
    let kind = match (&change.before, &change.after) {
        (None, _) => ChangeKind::Added,
        (Some(_), None) => ChangeKind::Removed,
        (Some(_), Some(_)) => ChangeKind::Changed,
    };
    let entry = change.after.or(change.before)?;
    let previous = change.before.filter(|_| kind == ChangeKind::Changed);
    Some(SnapshotChange {
        path: format!("/{}", String::from_utf8_lossy(&change.path)),
        change: kind,
        kind: entry.kind,
        size: entry.size,
        previous_kind: previous.map(|previous| previous.kind).filter(|kind| *kind != entry.kind),
        previous_size: previous.map(|previous| previous.size),
        aspects: change.aspects,
    })
}
