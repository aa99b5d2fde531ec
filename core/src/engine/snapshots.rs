use super::Workspace;
use crate::error::Result;
use crate::lifecycle::snapshots;
use crate::operation::Operation;
use crate::types::{
    SnapshotCreateOptions, SnapshotCreateResult, SnapshotList, SnapshotListOptions, SnapshotRollbackOptions,
    SnapshotRollbackResult,
};

/// The versions of one workspace.
#[derive(Debug, Clone)]
pub struct Snapshots {
    workspace: Workspace,
}

impl Snapshots {
    pub(super) fn new(workspace: Workspace) -> Self {
        Self { workspace }
    }

    /// Keeps the workspace as it is now as a version. One that runs is stopped for it and runs again afterwards; its
    /// container's record is never absent. Events: `stopping`, `starting`; then `complete` or `error`.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a malformed option; NOT_FOUND when there is no such workspace; FAILED_PRECONDITION when it
    /// is paused; RESOURCE_EXHAUSTED on a full disk; CANCELLED, which is heeded until the version is made. When nothing
    /// was made, a workspace that ran runs again.
    pub fn create(&self, options: SnapshotCreateOptions) -> Operation<SnapshotCreateResult> {
        let Workspace { engine, id } = self.workspace.clone();
        self.workspace.engine.inner.runner.run("snapshots.create", async move |context| {
            snapshots::create(&engine.inner, &id, options, &context).await
        })
    }

    /// Tells the workspace's lineage: its writable snapshot, all below it, and its versions beside that line.
    ///
    /// # Errors
    /// NOT_FOUND when there is no such workspace, or its writable snapshot is gone; INVALID_ARGUMENT for another
    /// snapshotter than the workspace's; UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads, or completes the records from the backend.
    pub async fn list(&self, options: SnapshotListOptions) -> Result<SnapshotList> {
        const OPERATION: &str = "snapshots.list";
        let Workspace { engine, id } = &self.workspace;
        engine.inner.runner.check_open().map_err(|e| e.in_operation(OPERATION))?;
        snapshots::list(&engine.inner, id, &options).await.map_err(|e| e.in_operation(OPERATION))
    }

    /// Lets the workspace go on from one of its versions. What it leaves is kept as a version of source `rollback`,
    /// unless `discard` is set. Events: `stopping`, `starting`; then `complete` or `error`.
    ///
    /// # Errors
    /// NOT_FOUND for a version that is not there, before anything is stopped; else those of [`Snapshots::create`].
    pub fn rollback(&self, options: SnapshotRollbackOptions) -> Operation<SnapshotRollbackResult> {
        let Workspace { engine, id } = self.workspace.clone();
        self.workspace.engine.inner.runner.run("snapshots.rollback", async move |context| {
            snapshots::rollback(&engine.inner, &id, options, &context).await
        })
    }
}
