use super::boot::halt;
use super::create::remove_dirs;
use super::data::{self, After};
use super::journal::DeleteIntent;
use super::millis;
use super::recover::take;
use super::resolve::{existing, resolve};
use super::snapshots;
use super::stop::grace;
use crate::backend::Container;
use crate::engine::EngineInner;
use crate::error::{Error, ErrorKind, Result};
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use crate::store::{JournalEntry, NewEvent, OperationKind};
use crate::types::{DeleteOptions, DeleteResult, EventType, LifecycleKind, Phases};
use std::time::{Duration, Instant};

/// The label of a container that is being removed, and why: its workspace is deleted, or its creation is undone, which
/// leaves versions that were there before.
pub(super) const DELETING: &str = "dunnage.deleting";
pub(super) const DELETED: &str = "workspace";
pub(super) const UNDONE: &str = "creation";

/// Removes a workspace with all that is in it.
pub(crate) async fn delete(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: DeleteOptions,
    context: &OperationContext,
) -> Result<DeleteResult> {
    let began = Instant::now();
    let grace = grace(inner, options.grace_ms)?;
    let _guard = take(inner, id, context).await?;
    let mut phases = Phases::default();
    let Some(mut found) = resolve(inner, id).await? else {
        if options.preserve_data {
            return Err(Error::not_found("the workspace has no container whose data could be preserved")
                .with("workspace", id));
        }
        let deleted = delete_left(inner, id, context).await?;
        phases.total = millis(began);
        return Ok(DeleteResult { deleted, preserved: None, phases_ms: phases });
    };
    context.check_cancelled()?;
    let mut preserved = None;
    if options.preserve_data {
        let form = options.preserve_form;
        let kept = data::keep(inner, id, &found, form, After::Stay, grace, context, &mut phases).await?;
        preserved = kept.preserved;
        // It may stand on another snapshot now.
        found = existing(inner, id).await?;
    }
    context.emit_kind(EventType::Stopping);
    halt(inner, id, &found.container.id, grace).await?;
    phases.stop = millis(began);

    let others = snapshots::all_but(inner, id, &found).await?;
    let began_delete = Instant::now();
    context.emit_kind(EventType::Deleting);
    let intent = DeleteIntent {
        container_id: found.container.id,
        snapshotter: found.container.snapshotter,
        snapshot_key: found.container.snapshot_key,
        others,
    };
    // From here on it completes, now or by whoever takes the lock next.
    inner.store.begin(&JournalEntry::new(context.id(), OperationKind::Delete, id, &intent)?).await?;
    complete(inner, id, &intent).await?;
    let event = gone(id, &intent.container_id, context.id());
    inner.store.finish(context.id(), None, &[event]).await?;
    phases.delete = millis(began_delete);
    phases.total = millis(began);
    Ok(DeleteResult { deleted: true, preserved, phases_ms: phases })
}

/// Removes what is left of a workspace whose container somebody else has removed. Returns whether that was anything of it.
async fn delete_left(inner: &EngineInner, id: &WorkspaceId, context: &OperationContext) -> Result<bool> {
    let record = inner.store.workspace(id).await?;
    let container = match &record {
        Some(record) => record.container_id.clone(),
        None => inner.config.container_id(id)?,
    };
    let snapshotter = record
        .as_ref()
        .map_or_else(|| inner.config.containerd.snapshotter.clone(), |record| record.snapshotter.clone());
    let others = snapshots::left_of(inner, id, &snapshotter).await?;
    context.check_cancelled()?;
    if others.is_empty() {
        inner.network.detach(&container).await?;
        remove_dirs(&inner.config, id)?;
        let told = record.as_ref().map(|record| gone(id, &record.container_id, context.id()));
        inner.store.delete_workspace(id, told.as_ref()).await?;
        return Ok(false);
    }
    context.emit_kind(EventType::Deleting);
    let intent =
        DeleteIntent { container_id: container, snapshotter, snapshot_key: others[0].clone(), others };
    inner.store.begin(&JournalEntry::new(context.id(), OperationKind::Delete, id, &intent)?).await?;
    complete(inner, id, &intent).await?;
    let event = gone(id, &intent.container_id, context.id());
    inner.store.finish(context.id(), None, &[event]).await?;
    Ok(true)
}

/// Marks a container as one that is being removed, if there is one.
pub(super) async fn mark(inner: &EngineInner, container: Option<&Container>, why: &str) -> Result<()> {
    match container.filter(|container| !container.labels.contains_key(DELETING)) {
        Some(container) => match inner.backend.mark_container(&container.id, DELETING, why).await {
            // Somebody else was faster.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        },
        None => Ok(()),
    }
}

/// Removes all that the intent names; what is gone already is no fault. The container goes after all that it stands on,
/// marked before: it tells of the deletion also when the journal is lost. The record goes last.
pub(super) async fn complete(inner: &EngineInner, id: &WorkspaceId, intent: &DeleteIntent) -> Result<()> {
    let container = inner.backend.container(&intent.container_id).await?;
    let ours = container.as_ref().is_none_or(|container| container.snapshot_key == intent.snapshot_key);
    if ours {
        mark(inner, container.as_ref(), DELETED).await?;
        halt(inner, id, &intent.container_id, Duration::ZERO).await?;
        inner.network.detach(&intent.container_id).await?;
        remove_dirs(&inner.config, id)?;
    }
    inner.backend.remove_snapshot(&intent.snapshotter, &intent.snapshot_key).await?;
    snapshots::remove(inner, &intent.snapshotter, &intent.others).await?;
    if ours {
        inner.backend.delete_container(&intent.container_id).await?;
        inner.store.delete_workspace(id, None).await?;
        inner.mcp.forget(id);
    }
    Ok(())
}

/// The event of a deletion.
pub(super) fn gone(id: &WorkspaceId, container: &str, operation: &str) -> NewEvent {
    NewEvent::of(LifecycleKind::Delete, id, container).operation(operation)
}
