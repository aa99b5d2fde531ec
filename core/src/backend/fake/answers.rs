//! What the backend in memory answers: each call with its faults, its effect, and the loss of its reply.

use super::{FakeBackend, FakeImage};
use crate::backend::{
    Backend, BackendEvent, Capabilities, Change, ChangesRequest, Container, ContainerFilter, Graft, Grafted,
    GuestCommand, GuestPipes, GuestProcess, NewContainer, NewSnapshot, OpenDir, PullRequest, PullTracker,
    Pulled, ResolvedUser, Snapshot, SnapshotDir, SnapshotFilter, SnapshotUsage, Squash, Task, TaskExit,
    TaskRoot, TaskStatus,
};
use crate::error::{Error, Result};
use crate::limits::{BlockDevice, LimitChange, Storage};
use crate::types::{ImageInfo, LimitName, Limits, PullPolicy};
use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

#[async_trait]
impl Backend for FakeBackend {
    fn kind(&self) -> &'static str {
        "fake"
    }

    fn address(&self) -> String {
        "memory".to_owned()
    }

    fn namespace(&self) -> String {
        "default".to_owned()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { snapshots: true, network_namespaces: true, exec: false, pause: true, metrics: false }
    }

    async fn version(&self) -> Result<String> {
        self.call("version", "", |_| Ok("0".to_owned())).await
    }

    async fn pull(
        &self,
        request: &PullRequest,
        tracker: &PullTracker,
        cancel: &CancellationToken,
    ) -> Result<Pulled> {
        let name = request.image.to_string();
        self.faults.enter("pull", &name).await?;
        let here = self.state().images.get(&name).cloned();
        let pulled = |image: &FakeImage, skipped, downloaded_bytes| Pulled {
            image: image.info(),
            unpacked: image.unpacked(),
            skipped,
            downloaded_bytes,
            pull_ms: 0,
            unpack_ms: 0,
        };
        match (here, request.policy) {
            (Some(image), PullPolicy::IfNotPresent | PullPolicy::Never) => {
                tracker.skipped();
                return Ok(pulled(&image, true, 0));
            }
            (None, PullPolicy::Never) => {
                return Err(
                    Error::not_found("the image is not here and may not be pulled").with("image", &name)
                );
            }
            _ => {}
        }
        tracker.pulling();
        let Some(image) = self.state().registry.get(&name).cloned() else {
            return Err(Error::not_found("the registry has no such image").with("image", &name));
        };
        tracker.set_layers(image.layers.iter().cloned());
        for (digest, total) in &image.layers {
            let Some(layer) = tracker.layer(digest) else { continue };
            let total = *total;
            for offset in [total / 2, total] {
                if cancel.is_cancelled() {
                    return Err(Error::cancelled("the pull was cancelled").with("image", &name));
                }
                layer.fetched(offset);
                tokio::task::yield_now().await;
            }
            layer.extracting();
            layer.done();
        }
        // Where a test holds a pull that has fetched all and changed nothing yet.
        self.faults.enter("unpack", &name).await?;
        if cancel.is_cancelled() {
            return Err(Error::cancelled("the pull was cancelled").with("image", &name));
        }
        self.state().install(image.clone(), &request.snapshotter);
        self.faults.leave("pull")?;
        Ok(pulled(&image, false, image.layers.iter().map(|(_, total)| total).sum()))
    }

    async fn image(&self, name: &str) -> Result<Option<ImageInfo>> {
        self.call("image", name, |state| Ok(state.images.get(name).map(FakeImage::info))).await
    }

    async fn images(&self) -> Result<Vec<ImageInfo>> {
        self.call("images", "", |state| Ok(state.images.values().map(FakeImage::info).collect())).await
    }

    async fn delete_image(&self, name: &str) -> Result<bool> {
        self.call("delete_image", name, |state| Ok(state.images.remove(name).is_some())).await
    }

    async fn prepare_snapshot(&self, snapshot: &NewSnapshot) -> Result<()> {
        self.call("prepare_snapshot", &snapshot.key, |state| state.prepare(snapshot)).await
    }

    async fn remove_snapshot(&self, snapshotter: &str, key: &str) -> Result<bool> {
        self.call("remove_snapshot", key, |state| state.remove_snapshot(snapshotter, key)).await
    }

    async fn snapshot(&self, snapshotter: &str, key: &str) -> Result<Option<Snapshot>> {
        self.call("snapshot", key, |state| Ok(state.snapshot(snapshotter, key))).await
    }

    async fn snapshots(&self, snapshotter: &str, filters: &[SnapshotFilter]) -> Result<Vec<Snapshot>> {
        self.call("snapshots", "", |state| {
            let keys = state.snapshots.keys().filter(|(s, _)| s == snapshotter);
            let all = keys.filter_map(|(_, key)| state.snapshot(snapshotter, key));
            Ok(all.filter(|snapshot| filters.iter().any(|filter| filter.passes(snapshot))).collect())
        })
        .await
    }

    async fn snapshot_usage(&self, snapshotter: &str, key: &str) -> Result<SnapshotUsage> {
        self.call("snapshot_usage", key, |state| state.usage(snapshotter, key)).await
    }

    async fn storage(&self, snapshotter: &str, key: &str) -> Result<Storage> {
        let storage = Storage { file_system: "tmpfs".to_owned(), device: None };
        self.call("storage", key, |state| state.usage(snapshotter, key).map(|_| storage)).await
    }

    async fn label_snapshot(
        &self,
        snapshotter: &str,
        key: &str,
        labels: &BTreeMap<String, String>,
        _kept: bool,
    ) -> Result<()> {
        self.call("label_snapshot", key, |state| state.label(snapshotter, key, labels)).await
    }

    async fn squash_snapshot(&self, squash: &Squash) -> Result<()> {
        self.call("squash_snapshot", &squash.name, |state| state.squash(squash)).await
    }

    async fn has_layers(&self, _snapshotter: &str, key: &str) -> Result<bool> {
        self.call("has_layers", key, |_| Ok(true)).await
    }

    async fn graft_snapshot(&self, graft: &Graft) -> Result<Option<Grafted>> {
        self.call("graft_snapshot", &graft.name, |state| state.graft(graft)).await
    }

    async fn open_dir(&self, dir: &SnapshotDir) -> Result<Option<OpenDir>> {
        self.call("open_dir", &dir.key, |state| state.open_dir(dir)).await
    }

    async fn open_root(&self, _snapshotter: &str, key: &str, _write: bool) -> Result<OwnedFd> {
        self.call("open_root", key, |_| {
            Err(Error::unsupported("there are no directories behind this backend"))
        })
        .await
    }

    async fn task_root(&self, container: &str) -> Result<TaskRoot> {
        self.call("task_root", container, |_| {
            Err(Error::unsupported("there are no processes behind this backend"))
        })
        .await
    }

    async fn exec(&self, command: &GuestCommand) -> Result<(Box<dyn GuestProcess>, GuestPipes)> {
        self.call("exec", &command.container, |_| {
            Err(Error::unsupported("there are no processes behind this backend"))
        })
        .await
    }

    async fn stage_dir(&self, dir: &SnapshotDir, stage: &str, merge: bool) -> Result<OpenDir> {
        self.call("stage_dir", &dir.key, |state| state.stage_dir(dir, stage, merge)).await
    }

    async fn swap_dir(&self, dir: &SnapshotDir, stage: &str) -> Result<()> {
        self.call("swap_dir", &dir.key, |state| state.swap_dir(dir, stage)).await
    }

    async fn unstage_dir(&self, dir: &SnapshotDir, stage: &str) -> Result<()> {
        self.call("unstage_dir", &dir.key, |state| {
            state.staged.remove(&(dir.key.clone(), stage.to_owned()));
            Ok(())
        })
        .await
    }

    async fn changes(&self, request: &ChangesRequest) -> Result<Vec<Change>> {
        self.call("changes", &request.to, |state| state.changes(request)).await
    }

    async fn commit_snapshot(
        &self,
        snapshotter: &str,
        key: &str,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<()> {
        self.call("commit_snapshot", key, |state| state.commit(snapshotter, key, name, labels)).await
    }

    async fn is_untouched(&self, snapshotter: &str, key: &str, _data_dir: &Path) -> Result<bool> {
        self.call("is_untouched", key, |state| Ok(state.is_untouched(snapshotter, key))).await
    }

    async fn prepare_user(
        &self,
        snapshotter: &str,
        key: &str,
        user: &str,
        _data_dir: Option<&Path>,
    ) -> Result<ResolvedUser> {
        self.call("prepare_user", key, |state| state.prepare_user(snapshotter, key, user)).await
    }

    async fn create_container(&self, container: &NewContainer) -> Result<Container> {
        self.call("create_container", &container.id, |state| state.create_container(container)).await
    }

    async fn container(&self, id: &str) -> Result<Option<Container>> {
        self.call("container", id, |state| Ok(state.containers.get(id).cloned())).await
    }

    async fn containers(&self, filters: &[ContainerFilter]) -> Result<Vec<Container>> {
        self.call("containers", "", |state| {
            let passes = |c: &&Container| filters.is_empty() || filters.iter().any(|filter| filter.passes(c));
            Ok(state.containers.values().filter(passes).cloned().collect())
        })
        .await
    }

    async fn move_container(&self, id: &str, snapshot_key: &str) -> Result<Container> {
        self.call("move_container", id, |state| state.move_container(id, snapshot_key)).await
    }

    async fn renew_container(&self, container: &NewContainer) -> Result<Container> {
        self.call("renew_container", &container.id, |state| state.renew_container(container)).await
    }

    async fn mark_container(&self, id: &str, label: &str, value: &str) -> Result<()> {
        self.call("mark_container", id, |state| state.mark_container(id, label, value)).await
    }

    async fn limit_container(&self, id: &str, limits: &Limits, device: Option<BlockDevice>) -> Result<()> {
        self.call("limit_container", id, |state| state.limit_container(id, limits, device)).await
    }

    async fn delete_container(&self, id: &str) -> Result<bool> {
        self.call("delete_container", id, |state| {
            if state.tasks.contains_key(id) {
                return Err(Error::failed_precondition("the container has a task: delete that first")
                    .with("container", id));
            }
            state.made.remove(id);
            Ok(state.containers.remove(id).is_some())
        })
        .await
    }

    async fn create_task(&self, container: &Container) -> Result<Task> {
        let made = self.call("create_task", &container.id, |state| state.create_task(container)).await?;
        self.wake();
        Ok(made)
    }

    async fn start_task(&self, container: &str) -> Result<()> {
        let started = self.call("start_task", container, |state| {
            let task = state.task(container)?;
            if task.status != TaskStatus::Created {
                return Err(
                    Error::failed_precondition("the task was started before").with("container", container)
                );
            }
            task.status = TaskStatus::Running;
            Ok(())
        });
        started.await?;
        self.wake();
        Ok(())
    }

    async fn task(&self, container: &str) -> Result<Option<Task>> {
        self.call("task", container, |state| Ok(state.tasks.get(container).cloned())).await
    }

    async fn tasks(&self) -> Result<Vec<Task>> {
        self.call("tasks", "", |state| Ok(state.tasks.values().cloned().collect())).await
    }

    async fn watch(&self) -> Result<BoxStream<'static, BackendEvent>> {
        self.call("watch", "", |state| Ok(UnboundedReceiverStream::new(state.watch()).boxed())).await
    }

    async fn mark(&self, mark: &str) -> Result<()> {
        self.call("mark", "", |state| {
            state.tell();
            state.send(&BackendEvent::Mark(mark.to_owned()));
            Ok(())
        })
        .await
    }

    async fn pause_task(&self, container: &str) -> Result<()> {
        self.call("pause_task", container, |state| {
            let task = state.task(container)?;
            if task.status != TaskStatus::Running {
                return Err(Error::failed_precondition("the task does not run").with("container", container));
            }
            task.status = TaskStatus::Paused;
            Ok(())
        })
        .await
    }

    async fn resume_task(&self, container: &str) -> Result<()> {
        self.call("resume_task", container, |state| {
            let task = state.task(container)?;
            if task.status == TaskStatus::Paused {
                task.status = TaskStatus::Running;
            }
            Ok(())
        })
        .await
    }

    async fn limit_task(
        &self,
        task: &Task,
        _: &[LimitChange],
        _: Option<BlockDevice>,
    ) -> Result<Vec<(LimitName, String)>> {
        self.call("limit_task", &task.container, |state| state.task(&task.container).map(|_| Vec::new()))
            .await
    }

    async fn kill_task(&self, container: &str, signal: i32, all: bool) -> Result<bool> {
        let subject = format!("{container} {signal}{}", if all { " all" } else { "" });
        let taken = self.call("kill_task", &subject, |state| Ok(state.signal(container, signal))).await?;
        self.wake();
        Ok(taken)
    }

    async fn wait_task(&self, container: &str) -> Result<TaskExit> {
        self.faults.enter("wait_task", container).await?;
        let mut changed = self.changed.subscribe();
        loop {
            // What is seen here is marked as seen: a change after it wakes.
            changed.borrow_and_update();
            let exit = self.state().task(container)?.exit;
            if let Some(exit) = exit {
                self.faults.leave("wait_task")?;
                return Ok(exit);
            }
            if changed.changed().await.is_err() {
                return Err(Error::unavailable("the fake backend is gone"));
            }
        }
    }

    async fn delete_task(&self, container: &str) -> Result<Option<TaskExit>> {
        let exit = self.call("delete_task", container, |state| {
            let Some(task) = state.tasks.get(container) else { return Ok(None) };
            if !matches!(task.status, TaskStatus::Stopped | TaskStatus::Created) {
                return Err(
                    Error::failed_precondition("the task runs: stop it first").with("container", container)
                );
            }
            let task = state.tasks.remove(container);
            Ok(task.map(|t| t.exit.unwrap_or(TaskExit { code: 0, at: Timestamp::now() })))
        });
        let exit = exit.await?;
        self.wake();
        Ok(exit)
    }
}
