//! Tells of first processes that ended, whoever ended them, and has those that are to run started again.

use super::resolve::workspace_of;
use super::restart::{End, keep_running};
use crate::backend::TaskExit;
use crate::engine::EngineInner;
use crate::error::Result;
use crate::names::WorkspaceId;
use crate::store::NewEvent;
use crate::types::LifecycleKind;
use crate::watch::TaskEnd;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Takes ends as they are seen, until the watch that sees them has ended. Keeps no engine alive.
pub(crate) fn take_ends(inner: &Arc<EngineInner>, mut ends: mpsc::UnboundedReceiver<TaskEnd>) {
    let inner = Arc::downgrade(inner);
    tokio::spawn(async move {
        while let Some(end) = ends.recv().await {
            let Some(inner) = inner.upgrade() else { return };
            if let Err(error) = take(&inner, end).await {
                // Another process may tell it, and so may this one's next watch.
                tracing::debug!(%error, "cannot tell how a process ended");
            }
        }
    });
}

async fn take(inner: &Arc<EngineInner>, end: TaskEnd) -> Result<()> {
    match end {
        TaskEnd::Exited { container, pid, exit, out_of_memory } => {
            if let Some(id) = owner(inner, &container).await? {
                let event = exited(&id, &container, pid, exit).out_of_memory(out_of_memory);
                inner.store.tell(&event).await?;
                keep_running(inner, id, End { container, pid, exit }).await?;
            }
        }
        TaskEnd::OutOfMemory { container, at } => {
            if let Some(id) = owner(inner, &container).await? {
                let event = NewEvent::of(LifecycleKind::Oom, &id, &container);
                let event = event.once(at, format!("oom/{container}"));
                inner.store.tell(&event).await?;
            }
        }
    }
    Ok(())
}

/// The workspace that a container is: by the records, else, if it is still there, by its label or name.
async fn owner(inner: &EngineInner, container: &str) -> Result<Option<WorkspaceId>> {
    if let Some(id) = inner.store.workspace_of(container).await? {
        return Ok(Some(id));
    }
    let found = inner.backend.container(container).await?;
    Ok(found.and_then(|container| workspace_of(&inner.config, &container)))
}

/// Tells how a first process ended that was ended here: nobody may see it, when the watch has a break or its container
/// goes at once. It must not keep anything from being stopped.
pub(super) async fn tell_exit(
    inner: &EngineInner,
    id: &WorkspaceId,
    container: &str,
    pid: u32,
    exit: TaskExit,
) {
    if let Err(error) = inner.store.tell(&exited(id, container, pid, exit)).await {
        tracing::debug!(workspace = %id, %error, "cannot tell how a process ended");
    }
}

/// The event of an end: the same whoever sees it.
fn exited(id: &WorkspaceId, container: &str, pid: u32, exit: TaskExit) -> NewEvent {
    let event = NewEvent::of(LifecycleKind::Exit, id, container).exit_code(Some(exit.code));
    event.once(exit.at, format_args!("exit/{container}/{pid}"))
}
