//! A workspace held still while its data is read or changes place, and let go afterwards, whatever happens in between.

use crate::backend::{SnapshotDir, TaskStatus};
use crate::engine::EngineInner;
use crate::error::{Error, ErrorKind, Result};
use crate::lifecycle::boot::halt;
use crate::lifecycle::millis;
use crate::lifecycle::resolve::{Found, resolve};
use crate::lifecycle::start::start_existing;
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use crate::store::{JournalEntry, OperationKind};
use crate::types::{Consistency, EventType, Phases};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What has to be put in order again once work on a workspace's data is over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StillIntent {
    container_id: String,
    snapshotter: String,
    snapshot_key: String,
    data_dir: PathBuf,
    /// What is staged for the data directory: the new data, or, once that has taken its place, the old.
    stage: Option<String>,
    /// Whether its first process ran, and is to run again.
    restart: bool,
    /// Whether it is frozen, and is to go on.
    paused: bool,
}

/// A workspace whose data is worked on. [`Still::release`] has to follow, also after a fault.
pub(super) struct Still<'a> {
    inner: &'a EngineInner,
    id: &'a WorkspaceId,
    found: &'a Found,
    context: &'a OperationContext,
    intent: StillIntent,
    journalled: bool,
    /// Since when it does not run.
    since: Option<Instant>,
}

impl<'a> Still<'a> {
    /// Writes down what is about to be done; nothing is stopped yet. `stage` says whether something is going to be staged.
    ///
    /// # Errors
    /// FAILED_PRECONDITION when somebody has frozen the workspace, and that would be in the way.
    pub(super) async fn begin(
        inner: &'a EngineInner,
        id: &'a WorkspaceId,
        found: &'a Found,
        consistency: Consistency,
        stage: bool,
        context: &'a OperationContext,
    ) -> Result<Self> {
        let status = inner.backend.task(&found.container.id).await?.map(|task| task.status);
        let frozen = status == Some(TaskStatus::Paused);
        if frozen && consistency == Consistency::Stop {
            return Err(Error::failed_precondition("the workspace is paused: resume it first")
                .with("container", &found.container.id));
        }
        let runs = status == Some(TaskStatus::Running);
        if runs && consistency == Consistency::Pause && !inner.backend.capabilities().pause {
            return Err(Error::unsupported(
                "this backend cannot freeze a workspace: use another consistency",
            ));
        }
        let intent = StillIntent {
            container_id: found.container.id.clone(),
            snapshotter: found.container.snapshotter.clone(),
            snapshot_key: found.container.snapshot_key.clone(),
            data_dir: inner.config.guest.data_dir.clone(),
            stage: stage.then(|| format!("dunnage-{}", context.id())),
            restart: runs && consistency == Consistency::Stop,
            paused: runs && consistency == Consistency::Pause,
        };
        let journalled = stage || intent.restart || intent.paused;
        if journalled {
            inner.store.begin(&JournalEntry::new(context.id(), OperationKind::Still, id, &intent)?).await?;
        }
        Ok(Self { inner, id, found, context, intent, journalled, since: None })
    }

    /// The data directory.
    pub(super) fn dir(&self) -> SnapshotDir {
        SnapshotDir {
            snapshotter: self.intent.snapshotter.clone(),
            key: self.intent.snapshot_key.clone(),
            path: self.intent.data_dir.clone(),
        }
    }

    /// The name of what is staged.
    pub(super) fn stage(&self) -> &str {
        self.intent.stage.as_deref().unwrap_or_default()
    }

    /// Stops or freezes it, where it runs.
    pub(super) async fn hold(&mut self, grace: Duration, phases: &mut Phases) -> Result<()> {
        let container = &self.intent.container_id;
        let began = Instant::now();
        if self.intent.restart {
            self.since = Some(began);
            self.context.emit_kind(EventType::Stopping);
            halt(self.inner, self.id, container, grace).await?;
            phases.stop = millis(began);
        } else if self.intent.paused {
            self.since = Some(began);
            self.inner.backend.pause_task(container).await?;
        }
        Ok(())
    }

    /// Clears up, and takes the operation out of the journal; what was stopped stays so.
    pub(super) async fn stay(self) -> Result<()> {
        if self.journalled {
            clear(self.inner, &self.intent, self.context.id()).await?;
        }
        Ok(())
    }

    /// Lets it go on, clears up, and takes the operation out of the journal. Returns how long it did not run, in
    /// milliseconds.
    ///
    /// # Errors
    /// Of the start. What could not be cleared up for now stays in the journal.
    pub(super) async fn release(self, phases: &mut Phases) -> Result<u64> {
        if !self.journalled {
            return Ok(0);
        }
        let context = self.context.without_cancel();
        let mut released = let_go(self.inner, self.id, self.found, &self.intent, &context, phases).await;
        if released.is_err() && self.intent.stage.is_some() {
            // What is staged may take the room that the start needs.
            unstage(self.inner, &self.intent).await?;
            released = let_go(self.inner, self.id, self.found, &self.intent, &context, phases).await;
        }
        let downtime = self.since.map_or(0, millis);
        clear(self.inner, &self.intent, self.context.id()).await?;
        released.map(|()| downtime)
    }
}

async fn let_go(
    inner: &EngineInner,
    id: &WorkspaceId,
    found: &Found,
    intent: &StillIntent,
    context: &OperationContext,
    phases: &mut Phases,
) -> Result<()> {
    if intent.paused {
        inner.backend.resume_task(&intent.container_id).await?;
    }
    if intent.restart {
        start_existing(inner, id, found, context, phases).await?;
    }
    Ok(())
}

/// Removes what is staged.
async fn unstage(inner: &EngineInner, intent: &StillIntent) -> Result<()> {
    let Some(stage) = &intent.stage else { return Ok(()) };
    let dir = SnapshotDir {
        snapshotter: intent.snapshotter.clone(),
        key: intent.snapshot_key.clone(),
        path: intent.data_dir.clone(),
    };
    match inner.backend.unstage_dir(&dir, stage).await {
        Ok(()) => {}
        // It is tried again by the workspace's next operation.
        Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => {
            return Err(
                error.with("unfinished", "what was staged is removed by the workspace's next operation")
            );
        }
        // It goes with the snapshot, and must not keep the workspace from working until then.
        Err(error) => tracing::warn!(%error, stage, "what was staged cannot be removed"),
    }
    Ok(())
}

/// Removes what is staged, and takes the operation out of the journal.
async fn clear(inner: &EngineInner, intent: &StillIntent, operation: &str) -> Result<()> {
    unstage(inner, intent).await?;
    inner.store.finish(operation, None, &[]).await
}

/// Puts in order what a process has left unfinished. The caller holds the lock.
pub(in crate::lifecycle) async fn recover(
    inner: &EngineInner,
    id: &WorkspaceId,
    entry: &JournalEntry,
) -> Result<()> {
    let intent: StillIntent = entry.intent()?;
    if let Some(found) = resolve(inner, id).await?
        && found.container.id == intent.container_id
    {
        let context = OperationContext::detached(&entry.operation);
        let released = let_go(inner, id, &found, &intent, &context, &mut Phases::default()).await;
        if let Err(error) = released {
            if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) {
                return Err(error);
            }
            // Whatever keeps it from starting is told to whoever starts it.
            tracing::warn!(workspace = %id, %error, "a workspace that was stopped for its data cannot be started");
        }
    }
    clear(inner, &intent, &entry.operation).await
}
