//! A container that goes on from another image, with the data that it had.

use super::relocate::RelocateIntent;
use super::version::Position;
use crate::backend::{Container, UnpackedImage};
use crate::engine::EngineInner;
use crate::error::{Error, Result};
use crate::lifecycle::create::{describe_container, image_user, record as new_record};
use crate::lifecycle::limits::held;
use crate::lifecycle::resolve::Found;
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use crate::types::CreateOptions;
use serde::{Deserialize, Serialize};

/// What a container is made of anew.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::lifecycle) struct Renewal {
    pub(in crate::lifecycle) image: UnpackedImage,
    pub(in crate::lifecycle) options: CreateOptions,
    /// The image that it was of.
    pub(in crate::lifecycle) before: Option<String>,
}

/// Where the workspace goes on when its data cannot be taken along: from the version that was made of it, as it was.
pub(super) fn go_back(intent: &RelocateIntent, parent: &mut String, position: &mut Position) {
    if let (Some(renewal), Some(kept)) = (&intent.renewal, &intent.keep) {
        parent.clone_from(&kept.snapshot);
        position.depth = kept.depth;
        position.image.clone_from(&renewal.before);
    }
}

/// Changes the container to what it is from now on. Done twice it does nothing more.
pub(super) async fn renew(
    inner: &EngineInner,
    id: &WorkspaceId,
    intent: &RelocateIntent,
    renewal: &Renewal,
    context: &OperationContext,
) -> Result<Container> {
    context.emit_kind(crate::types::EventType::Creating);
    let there = inner.backend.container(&intent.container_id).await?;
    let there = there.ok_or_else(|| {
        Error::not_found("the container was removed meanwhile").with("container", &intent.container_id)
    })?;
    let place = (intent.snapshotter.as_str(), intent.to.as_str());
    // Its data has its owners; only where there is none, the image's user gets a directory.
    let user = image_user(inner, place, &renewal.image, intent.graft.is_none()).await?;
    let held = held(inner, place, &renewal.options.limits).await;
    let container = describe_container(
        inner,
        id,
        &intent.container_id,
        place,
        &renewal.image,
        &renewal.options,
        held,
        there.network,
        user,
    )?;
    inner.backend.renew_container(&container).await
}

/// Writes down what the workspace is made of now, where that has changed.
pub(super) async fn record(
    inner: &EngineInner,
    id: &WorkspaceId,
    arrived: &mut Found,
    intent: &RelocateIntent,
) -> Result<()> {
    let Some(renewal) =
        intent.renewal.as_ref().filter(|renewal| renewal.image.name == arrived.container.image)
    else {
        return Ok(());
    };
    let before = arrived.record.as_ref();
    let mut now = new_record(inner, id, &arrived.container, &renewal.options, intent.restart);
    if let Some(before) = before {
        now.auto_start = before.auto_start;
        now.started = before.started || intent.restart;
        now.created_at = before.created_at;
    }
    inner.store.put_workspace(&now, None).await?;
    arrived.record = Some(now);
    Ok(())
}
