//! A backend whose changes are told as steps.

use super::step;
use crate::backend::{
    Backend, BackendEvent, Capabilities, Change, ChangesRequest, Container, ContainerFilter, Graft, Grafted,
    GuestCommand, GuestPipes, GuestProcess, NewContainer, NewSnapshot, OpenDir, PullRequest, PullTracker,
    Pulled, ResolvedUser, Snapshot, SnapshotDir, SnapshotFilter, SnapshotUsage, Squash, Task, TaskExit,
    TaskRoot,
};
use crate::error::Result;
use crate::limits::{BlockDevice, LimitChange, Storage};
use crate::types::{ImageInfo, LimitName, Limits};
use async_trait::async_trait;
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Tells of what it is asked to change, and passes everything on.
#[derive(Debug)]
#[cfg_attr(not(feature = "failpoints"), expect(dead_code, reason = "its compilation is what is checked"))]
pub(crate) struct ToldBackend(pub(crate) Arc<dyn Backend>);

#[async_trait]
impl Backend for ToldBackend {
    // What only looks.

    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn namespace(&self) -> String {
        self.0.namespace()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn version(&self) -> Result<String> {
        self.0.version().await
    }

    async fn image(&self, name: &str) -> Result<Option<ImageInfo>> {
        self.0.image(name).await
    }

    async fn images(&self) -> Result<Vec<ImageInfo>> {
        self.0.images().await
    }

    async fn snapshot(&self, snapshotter: &str, key: &str) -> Result<Option<Snapshot>> {
        self.0.snapshot(snapshotter, key).await
    }

    async fn snapshots(&self, snapshotter: &str, filters: &[SnapshotFilter]) -> Result<Vec<Snapshot>> {
        self.0.snapshots(snapshotter, filters).await
    }

    async fn snapshot_usage(&self, snapshotter: &str, key: &str) -> Result<SnapshotUsage> {
        self.0.snapshot_usage(snapshotter, key).await
    }

    async fn storage(&self, snapshotter: &str, key: &str) -> Result<Storage> {
        self.0.storage(snapshotter, key).await
    }

    async fn changes(&self, request: &ChangesRequest) -> Result<Vec<Change>> {
        self.0.changes(request).await
    }

    async fn is_untouched(&self, snapshotter: &str, key: &str, data_dir: &Path) -> Result<bool> {
        self.0.is_untouched(snapshotter, key, data_dir).await
    }

    async fn has_layers(&self, snapshotter: &str, key: &str) -> Result<bool> {
        self.0.has_layers(snapshotter, key).await
    }

    async fn open_dir(&self, dir: &SnapshotDir) -> Result<Option<OpenDir>> {
        self.0.open_dir(dir).await
    }

    async fn open_root(&self, snapshotter: &str, key: &str, write: bool) -> Result<OwnedFd> {
        self.0.open_root(snapshotter, key, write).await
    }

    async fn task_root(&self, container: &str) -> Result<TaskRoot> {
        self.0.task_root(container).await
    }

    async fn exec(&self, command: &GuestCommand) -> Result<(Box<dyn GuestProcess>, GuestPipes)> {
        self.0.exec(command).await
    }

    async fn container(&self, id: &str) -> Result<Option<Container>> {
        self.0.container(id).await
    }

    async fn containers(&self, filters: &[ContainerFilter]) -> Result<Vec<Container>> {
        self.0.containers(filters).await
    }

    async fn task(&self, container: &str) -> Result<Option<Task>> {
        self.0.task(container).await
    }

    async fn tasks(&self) -> Result<Vec<Task>> {
        self.0.tasks().await
    }

    async fn watch(&self) -> Result<BoxStream<'static, BackendEvent>> {
        self.0.watch().await
    }

    async fn mark(&self, mark: &str) -> Result<()> {
        self.0.mark(mark).await
    }

    async fn wait_task(&self, container: &str) -> Result<TaskExit> {
        self.0.wait_task(container).await
    }

    // What changes something.

    async fn pull(
        &self,
        request: &PullRequest,
        tracker: &PullTracker,
        cancel: &CancellationToken,
    ) -> Result<Pulled> {
        let _step = step("backend.pull");
        self.0.pull(request, tracker, cancel).await
    }

    async fn label_snapshot(
        &self,
        snapshotter: &str,
        key: &str,
        labels: &BTreeMap<String, String>,
        kept: bool,
    ) -> Result<()> {
        let _step = step("backend.label_snapshot");
        self.0.label_snapshot(snapshotter, key, labels, kept).await
    }

    async fn squash_snapshot(&self, squash: &Squash) -> Result<()> {
        let _step = step("backend.squash_snapshot");
        self.0.squash_snapshot(squash).await
    }

    async fn graft_snapshot(&self, graft: &Graft) -> Result<Option<Grafted>> {
        let _step = step("backend.graft_snapshot");
        self.0.graft_snapshot(graft).await
    }

    async fn stage_dir(&self, dir: &SnapshotDir, stage: &str, merge: bool) -> Result<OpenDir> {
        let _step = step("backend.stage_dir");
        self.0.stage_dir(dir, stage, merge).await
    }

    async fn swap_dir(&self, dir: &SnapshotDir, stage: &str) -> Result<()> {
        let _step = step("backend.swap_dir");
        self.0.swap_dir(dir, stage).await
    }

    async fn unstage_dir(&self, dir: &SnapshotDir, stage: &str) -> Result<()> {
        let _step = step("backend.unstage_dir");
        self.0.unstage_dir(dir, stage).await
    }

    async fn pause_task(&self, container: &str) -> Result<()> {
        let _step = step("backend.pause_task");
        self.0.pause_task(container).await
    }

    async fn resume_task(&self, container: &str) -> Result<()> {
        let _step = step("backend.resume_task");
        self.0.resume_task(container).await
    }

    async fn delete_image(&self, name: &str) -> Result<bool> {
        let _step = step("backend.delete_image");
        self.0.delete_image(name).await
    }

    async fn prepare_snapshot(&self, snapshot: &NewSnapshot) -> Result<()> {
        let _step = step("backend.prepare_snapshot");
        self.0.prepare_snapshot(snapshot).await
    }

    async fn remove_snapshot(&self, snapshotter: &str, key: &str) -> Result<bool> {
        let _step = step("backend.remove_snapshot");
        self.0.remove_snapshot(snapshotter, key).await
    }

    async fn commit_snapshot(
        &self,
        snapshotter: &str,
        key: &str,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<()> {
        let _step = step("backend.commit_snapshot");
        self.0.commit_snapshot(snapshotter, key, name, labels).await
    }

    async fn prepare_user(
        &self,
        snapshotter: &str,
        key: &str,
        user: &str,
        data_dir: Option<&Path>,
    ) -> Result<ResolvedUser> {
        let _step = step("backend.prepare_user");
        self.0.prepare_user(snapshotter, key, user, data_dir).await
    }

    async fn create_container(&self, container: &NewContainer) -> Result<Container> {
        let _step = step("backend.create_container");
        self.0.create_container(container).await
    }

    async fn move_container(&self, id: &str, snapshot_key: &str) -> Result<Container> {
        let _step = step("backend.move_container");
        self.0.move_container(id, snapshot_key).await
    }

    async fn renew_container(&self, container: &NewContainer) -> Result<Container> {
        let _step = step("backend.renew_container");
        self.0.renew_container(container).await
    }

    async fn mark_container(&self, id: &str, label: &str, value: &str) -> Result<()> {
        let _step = step("backend.mark_container");
        self.0.mark_container(id, label, value).await
    }

    async fn limit_container(&self, id: &str, limits: &Limits, device: Option<BlockDevice>) -> Result<()> {
        let _step = step("backend.limit_container");
        self.0.limit_container(id, limits, device).await
    }

    async fn limit_task(
        &self,
        task: &Task,
        changes: &[LimitChange],
        device: Option<BlockDevice>,
    ) -> Result<Vec<(LimitName, String)>> {
        let _step = step("backend.limit_task");
        self.0.limit_task(task, changes, device).await
    }

    async fn delete_container(&self, id: &str) -> Result<bool> {
        let _step = step("backend.delete_container");
        self.0.delete_container(id).await
    }

    async fn create_task(&self, container: &Container) -> Result<Task> {
        let _step = step("backend.create_task");
        self.0.create_task(container).await
    }

    async fn start_task(&self, container: &str) -> Result<()> {
        let _step = step("backend.start_task");
        self.0.start_task(container).await
    }

    async fn kill_task(&self, container: &str, signal: i32, all: bool) -> Result<bool> {
        let _step = step("backend.kill_task");
        self.0.kill_task(container, signal, all).await
    }

    async fn delete_task(&self, container: &str) -> Result<Option<TaskExit>> {
        let _step = step("backend.delete_task");
        self.0.delete_task(container).await
    }
}
