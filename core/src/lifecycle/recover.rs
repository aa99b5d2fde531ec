use super::create::{record, undo};
use super::delete;
use super::journal::{CreateIntent, DeleteIntent};
use crate::backend::TaskStatus;
use crate::engine::EngineInner;
use crate::error::Result;
use crate::names::WorkspaceId;
use crate::store::{JournalEntry, OperationKind};

/// Finishes or undoes what processes that are gone left unfinished, of every workspace nobody works on.
///
/// # Errors
/// Only what keeps the journal from being read. A workspace that cannot be mended now keeps its entry; the next
/// operation on it tries again and tells.
pub(crate) async fn recover_all(inner: &EngineInner) -> Result<()> {
    for id in inner.store.unfinished_workspaces().await? {
        // A held lock means that the operation is not unfinished but under way.
        let Some(_guard) = inner.locks.try_acquire(&id)? else { continue };
        if let Err(error) = recover(inner, &id).await {
            tracing::warn!(workspace = %id, %error, "an unfinished operation is left for the workspace's next one");
        }
    }
    Ok(())
}

/// Finishes or undoes what is unfinished of one workspace. The caller holds its lock.
pub(super) async fn recover(inner: &EngineInner, id: &WorkspaceId) -> Result<()> {
    for entry in inner.store.unfinished(id).await? {
        tracing::info!(workspace = %id, operation = %entry.operation, kind = entry.kind.as_str(), "recovering");
        match entry.kind {
            OperationKind::Create => recover_create(inner, id, &entry).await?,
            OperationKind::Delete => {
                delete::complete(inner, id, &entry.intent::<DeleteIntent>()?).await?;
                inner.store.finish(&entry.operation, None).await?;
            }
        }
    }
    Ok(())
}

/// A creation that got as far as it was to get is kept; any other is undone.
async fn recover_create(inner: &EngineInner, id: &WorkspaceId, entry: &JournalEntry) -> Result<()> {
    let intent: CreateIntent = entry.intent()?;
    let container = inner.backend.container(&intent.container_id).await?;
    let whole = match container.filter(|container| container.snapshot_key == intent.snapshot_key) {
        None => None,
        Some(container) if intent.options.start => {
            let task = inner.backend.task(&container.id).await?;
            let running = task.is_some_and(|task| task.status == TaskStatus::Running);
            let attached = !intent.network || inner.network.info(&container.id).is_some();
            (running && attached).then_some(container)
        }
        Some(container) => Some(container),
    };
    match whole {
        Some(container) => {
            let record = record(inner, id, &container, &intent.options, intent.options.start);
            inner.store.finish(&entry.operation, Some(&record)).await
        }
        None => {
            undo(inner, id, &intent).await?;
            inner.store.finish(&entry.operation, None).await
        }
    }
}
