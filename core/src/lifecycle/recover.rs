use super::create::{made, record, undo};
use super::data;
use super::delete;
use super::journal::{CreateIntent, DeleteIntent};
use super::{limits, seed, snapshots};
use crate::backend::TaskStatus;
use crate::engine::EngineInner;
use crate::error::Result;
use crate::names::WorkspaceId;
use crate::operation::{OperationContext, WorkspaceGuard};
use crate::store::{JournalEntry, OperationKind};
use jiff::Timestamp;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest a task takes to be made, on a busy host.
const TASK_LIMIT: Duration = Duration::from_secs(5);
/// The pause between two looks.
const POLL: Duration = Duration::from_millis(50);

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

/// Takes a workspace's lock, and finishes or undoes what is unfinished of it.
pub(super) async fn take(
    inner: &EngineInner,
    id: &WorkspaceId,
    context: &OperationContext,
) -> Result<WorkspaceGuard> {
    let guard = context.or_cancelled(inner.locks.acquire(id)).await?;
    recover(inner, id).await?;
    Ok(guard)
}

/// Finishes or undoes what is unfinished of one workspace. The caller holds its lock.
pub(super) async fn recover(inner: &EngineInner, id: &WorkspaceId) -> Result<()> {
    for entry in inner.store.unfinished(id).await? {
        tracing::info!(workspace = %id, operation = %entry.operation, kind = entry.kind.as_str(), "recovering");
        match entry.kind {
            OperationKind::Create => recover_create(inner, id, &entry).await?,
            OperationKind::Relocate => snapshots::recover(inner, id, &entry).await?,
            OperationKind::Prune => snapshots::recover_prune(inner, id, &entry).await?,
            OperationKind::Still => data::recover(inner, id, &entry).await?,
            OperationKind::Limits => limits::recover(inner, id, &entry).await?,
            OperationKind::Delete => {
                let intent: DeleteIntent = entry.intent()?;
                delete::complete(inner, id, &intent).await?;
                let gone = delete::gone(id, &intent.container_id, &entry.operation);
                inner.store.finish(&entry.operation, None, &[gone]).await?;
            }
        }
    }
    Ok(())
}

/// Repeats [`recover_all`] once the last requests of processes that are gone must have taken effect. Keeps no engine
/// alive, and does nothing once it is closed.
pub(crate) fn recover_later(inner: &Arc<EngineInner>) {
    let limit = settle(inner) + POLL;
    let inner = Arc::downgrade(inner);
    tokio::spawn(async move {
        tokio::time::sleep(limit).await;
        if let Some(inner) = inner.upgrade()
            && inner.runner.check_open().is_ok()
            && let Err(error) = recover_all(&inner).await
        {
            tracing::warn!(%error, "the journal cannot be read");
        }
    });
}

/// How long the last request of a process that is gone may still take effect.
fn settle(inner: &EngineInner) -> Duration {
    Duration::from_millis(inner.config.time_limits.settle_ms)
}

/// A creation that got as far as it was to get is kept; any other is undone.
async fn recover_create(inner: &EngineInner, id: &WorkspaceId, entry: &JournalEntry) -> Result<()> {
    let intent: CreateIntent = entry.intent()?;
    let container = inner.backend.container(&intent.container_id).await?;
    let container = container.filter(|container| container.snapshot_key == intent.snapshot_key);
    let there = container.is_some();
    // A container that came late stands on a snapshot that an earlier undo has taken away.
    let standing =
        there && inner.backend.snapshot(&intent.snapshotter, &intent.snapshot_key).await?.is_some();
    let whole = match container.filter(|_| standing) {
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
            inner.store.finish(&entry.operation, Some(&record), &made(id, &record, &entry.operation)).await?;
            seed::note(inner, id, &intent.seed).await;
            Ok(())
        }
        None => {
            // The process is gone, but its last request may still be at work in the backend. A task has to be seen
            // before its container goes, since without the container nothing reaches it; all else is undone again.
            let age =
                Duration::try_from(Timestamp::now().duration_since(entry.started_at)).unwrap_or_default();
            let settled = age >= settle(inner);
            if !settled && there && intent.options.start {
                await_task(inner, &intent.container_id).await?;
            }
            undo(inner, id, &intent).await?;
            if settled { inner.store.finish(&entry.operation, None, &[]).await } else { Ok(()) }
        }
    }
}

/// Waits until a container has a task, but no longer than one takes to be made.
async fn await_task(inner: &EngineInner, container: &str) -> Result<()> {
    let deadline = Instant::now() + settle(inner).min(TASK_LIMIT);
    while inner.backend.task(container).await?.is_none() && Instant::now() < deadline {
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
