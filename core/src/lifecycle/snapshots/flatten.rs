use super::history::History;
use super::version::base_labels;
use crate::backend::Squash;
use crate::engine::EngineInner;
use crate::error::{Error, ErrorKind, Result};
use crate::lifecycle::resolve::Found;
use crate::names::WorkspaceId;
use serde::{Deserialize, Serialize};

/// How many layers there may be where they cannot be made one, such as on a disk that is full. A start mounts them all; the
/// kernel mounts no more than 500 (`OVL_MAX_STACK` of fs/overlayfs/params.h), the image's among them.
const MOST_LAYERS: u32 = 350;

/// What takes the place of many layers below a writable snapshot: one of the same content. The versions stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Flat {
    pub(super) name: String,
    /// The topmost of the layers, and how many they are.
    pub(super) top: String,
    pub(super) layers: u32,
    /// What they stand on.
    pub(super) base: String,
}

/// What to make below the next writable snapshot when `top`, of `depth` layers, would be below it; none while it is not deep.
///
/// # Errors
/// FAILED_PRECONDITION when there are so many layers that the next start might fail: making them one has not worked.
pub(super) async fn plan(
    inner: &EngineInner,
    found: &Found,
    history: &History,
    top: &str,
    depth: u32,
) -> Result<Option<Flat>> {
    if depth < inner.config.flatten_at {
        return Ok(None);
    }
    if depth > MOST_LAYERS {
        return Err(Error::failed_precondition(
            "the workspace stands on too many layers, and they cannot be made one: remove versions that are not needed",
        )
        .with("container", &found.container.id)
        .with("layers", depth));
    }
    // All layers but the topmost are there already: it will be made of the writable snapshot.
    let snapshotter = &found.container.snapshotter;
    let mut base = history.active.as_ref().map(|active| active.parent.clone()).unwrap_or_default();
    for _ in 1..depth {
        let below = inner.backend.snapshot(snapshotter, &base).await?;
        base = below.ok_or_else(|| gone(&base))?.parent;
    }
    let name = super::create::runtime_name(found, "base");
    Ok(Some(Flat { name, top: top.to_owned(), layers: depth, base }))
}

fn gone(snapshot: &str) -> Error {
    Error::data_corrupt("a snapshot that others stand on is gone").with("snapshot", snapshot)
}

/// Makes it. Done twice it does nothing. False where it cannot be made: the line is then as long as it is.
pub(super) async fn flatten(
    inner: &EngineInner,
    id: &WorkspaceId,
    snapshotter: &str,
    flat: &Flat,
) -> Result<bool> {
    let squash = Squash {
        snapshotter: snapshotter.to_owned(),
        top: flat.top.clone(),
        layers: flat.layers as usize,
        parent: flat.base.clone(),
        name: flat.name.clone(),
        labels: base_labels(&inner.config, id, 1),
    };
    match inner.backend.squash_snapshot(&squash).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(true),
        // The next who takes the lock tries again.
        Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => Err(error),
        Err(error) => {
            tracing::warn!(workspace = %id, %error, "the layers of a workspace cannot be made one");
            Ok(false)
        }
    }
}
