use super::Workspace;
use crate::error::Result;
use crate::lifecycle::snapshots;
use crate::operation::Operation;
use crate::types::{
    SnapshotCreateOptions, SnapshotCreateResult, SnapshotDeleteOptions, SnapshotDiff, SnapshotDiffOptions,
    SnapshotForkOptions, SnapshotForkResult, SnapshotList, SnapshotListOptions, SnapshotPruneOptions,
    SnapshotPruneResult, SnapshotRollbackOptions, SnapshotRollbackResult, TreeOptions, VersionList,
    VersionTree, VersionsOptions,
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

    /// Tells the workspace's versions, a page of them, ordered by number.
    ///
    /// # Errors
    /// NOT_FOUND when there is no such workspace; UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads, or completes the records from the backend.
    pub async fn versions(&self, options: VersionsOptions) -> Result<VersionList> {
        const OPERATION: &str = "snapshots.versions";
        let Workspace { engine, id } = &self.workspace;
        engine.inner.runner.check_open().map_err(|e| e.in_operation(OPERATION))?;
        snapshots::versions(&engine.inner, id, &options).await.map_err(|e| e.in_operation(OPERATION))
    }

    /// Tells the workspace's whole history: which version follows which, where the workspace is, and, where asked for, a
    /// drawing of it as Mermaid or DOT text.
    ///
    /// # Errors
    /// NOT_FOUND when there is no such workspace; UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads, or completes the records from the backend.
    pub async fn tree(&self, options: TreeOptions) -> Result<VersionTree> {
        const OPERATION: &str = "snapshots.tree";
        let Workspace { engine, id } = &self.workspace;
        engine.inner.runner.check_open().map_err(|e| e.in_operation(OPERATION))?;
        snapshots::tree(&engine.inner, id, &options).await.map_err(|e| e.in_operation(OPERATION))
    }

    /// Tells which paths are not the same in two versions, or in a version and the workspace as it is now, a page of them.
    ///
    /// # Errors
    /// NOT_FOUND for a workspace or version that is not there; INVALID_ARGUMENT for a malformed option; UNSUPPORTED in a
    /// snapshotter into which this process cannot look; UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn diff(&self, options: SnapshotDiffOptions) -> Result<SnapshotDiff> {
        const OPERATION: &str = "snapshots.diff";
        let Workspace { engine, id } = &self.workspace;
        engine.inner.runner.check_open().map_err(|e| e.in_operation(OPERATION))?;
        snapshots::diff(&engine.inner, id, &options).await.map_err(|e| e.in_operation(OPERATION))
    }

    /// Makes a new workspace of one of this one's versions, with this one's options. The two share every byte, and either
    /// may be changed or deleted without the other's noticing. Events: as of [`Workspace::create`].
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a malformed option; NOT_FOUND for a workspace or version that is not there; ALREADY_EXISTS
    /// when there is a workspace of the new id; else those of [`Workspace::create`]. In each case what was begun is undone.
    pub fn fork(&self, options: SnapshotForkOptions) -> Operation<SnapshotForkResult> {
        let Workspace { engine, id } = self.workspace.clone();
        self.workspace.engine.inner.runner.run("snapshots.fork", async move |context| {
            snapshots::fork(&engine.inner, &id, options, &context).await
        })
    }

    /// Removes a version. Events: `stopping`, `starting` where the workspace has to be moved off it; then `complete` or
    /// `error`.
    ///
    /// # Errors
    /// NOT_FOUND for a workspace or version that is not there; FAILED_PRECONDITION when something stands on the version and
    /// `squash` is not set, with what that is; UNSUPPORTED where the snapshotter has no layers to make one of;
    /// RESOURCE_EXHAUSTED on a full disk; CANCELLED, which is heeded until the workspace is moved.
    pub fn delete(&self, options: SnapshotDeleteOptions) -> Operation<SnapshotPruneResult> {
        let Workspace { engine, id } = self.workspace.clone();
        self.workspace.engine.inner.runner.run("snapshots.delete", async move |context| {
            snapshots::delete(&engine.inner, &id, options, &context).await
        })
    }

    /// Removes all versions but those that are to be kept. A kept version that stands on one that goes is made one with
    /// what it has of it; so is the workspace itself, which is stopped for that and runs again afterwards. Events and
    /// errors: as of [`Snapshots::delete`].
    pub fn prune(&self, options: SnapshotPruneOptions) -> Operation<SnapshotPruneResult> {
        let Workspace { engine, id } = self.workspace.clone();
        self.workspace.engine.inner.runner.run("snapshots.prune", async move |context| {
            snapshots::prune(&engine.inner, &id, options, &context).await
        })
    }
}
