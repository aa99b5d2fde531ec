use super::boot::halt;
use super::create::remove_dirs;
use super::journal::DeleteIntent;
use super::millis;
use super::recover::recover;
use super::resolve::resolve;
use super::snapshots;
use super::stop::grace;
use crate::engine::EngineInner;
use crate::error::{ErrorKind, Result};
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use crate::store::{JournalEntry, NewEvent, OperationKind};
use crate::types::{DeleteOptions, DeleteResult, EventType, LifecycleKind, Phases};
use std::time::{Duration, Instant};

/// Removes a workspace with all that is in it.
pub(crate) async fn delete(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: DeleteOptions,
    context: &OperationContext,
) -> Result<DeleteResult> {
    let began = Instant::now();
    let grace = grace(inner, options.grace_ms)?;
    let _guard = context.or_cancelled(inner.locks.acquire(id)).await?;
    recover(inner, id).await?;
    let mut phases = Phases::default();
    let Some(found) = resolve(inner, id).await? else {
        // A container that others removed leaves its network and record behind.
        let (container, event) = match inner.store.workspace(id).await? {
            Some(record) => {
                let event = gone(id, &record.container_id, context.id());
                (record.container_id, Some(event))
            }
            None => (inner.config.container_id(id)?, None),
        };
        inner.network.detach(&container).await?;
        remove_dirs(&inner.config, id)?;
        inner.store.delete_workspace(id, event.as_ref()).await?;
        phases.total = millis(began);
        return Ok(DeleteResult { deleted: false, phases_ms: phases });
    };
    context.check_cancelled()?;
    context.emit_kind(EventType::Stopping);
    halt(inner, id, &found.container.id, grace).await?;
    phases.stop = millis(began);

    let versions = snapshots::versions(inner, id, &found).await?;
    let began_delete = Instant::now();
    context.emit_kind(EventType::Deleting);
    let intent = DeleteIntent {
        container_id: found.container.id,
        snapshotter: found.container.snapshotter,
        snapshot_key: found.container.snapshot_key,
        versions: versions.into_iter().rev().map(|version| version.snapshot).collect(),
    };
    // From here on it completes, now or by whoever takes the lock next.
    inner.store.begin(&JournalEntry::new(context.id(), OperationKind::Delete, id, &intent)?).await?;
    complete(inner, id, &intent).await?;
    let event = gone(id, &intent.container_id, context.id());
    inner.store.finish(context.id(), None, &[event]).await?;
    phases.delete = millis(began_delete);
    phases.total = millis(began);
    Ok(DeleteResult { deleted: true, phases_ms: phases })
}

/// Removes all that the intent names; what is gone already is no fault. The record goes last: while it is there, the
/// journal's entry is never the only trace.
pub(super) async fn complete(inner: &EngineInner, id: &WorkspaceId, intent: &DeleteIntent) -> Result<()> {
    let container = inner.backend.container(&intent.container_id).await?;
    let ours = container.as_ref().is_none_or(|container| container.snapshot_key == intent.snapshot_key);
    if ours {
        halt(inner, id, &intent.container_id, Duration::ZERO).await?;
        inner.backend.delete_container(&intent.container_id).await?;
        inner.network.detach(&intent.container_id).await?;
        remove_dirs(&inner.config, id)?;
    }
    inner.backend.remove_snapshot(&intent.snapshotter, &intent.snapshot_key).await?;
    for version in &intent.versions {
        // One that others stand on stays, and is removed with the last of them.
        match inner.backend.remove_snapshot(&intent.snapshotter, version).await {
            Err(error) if error.kind() == ErrorKind::FailedPrecondition => {}
            other => drop(other?),
        }
    }
    if ours {
        inner.store.delete_workspace(id, None).await?;
    }
    Ok(())
}

/// The event of a deletion.
pub(super) fn gone(id: &WorkspaceId, container: &str, operation: &str) -> NewEvent {
    NewEvent::of(LifecycleKind::Delete, id, container).operation(operation)
}
