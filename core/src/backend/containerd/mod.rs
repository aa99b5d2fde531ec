//! containerd as a backend: one file per service, wire types only in `convert`.

mod bundle;
mod changes;
mod client;
mod containers;
mod content;
mod convert;
mod dirs;
mod events;
mod exec;
mod filter;
mod graft;
mod images;
mod layers;
mod lease;
mod limits;
mod process;
mod pull;
mod rootfs;
mod snapshots;
mod squash;
mod tasks;
mod users;

use super::{
    Backend, BackendEvent, Capabilities, Change, ChangesRequest, Container, ContainerFilter, Graft, Grafted,
    GuestCommand, GuestPipes, GuestProcess, NewContainer, NewSnapshot, OpenDir, PullRequest, PullTracker,
    Pulled, ResolvedUser, Snapshot, SnapshotDir, SnapshotFilter, SnapshotUsage, Squash, Task, TaskExit,
    TaskRoot,
};
use crate::config::{BackendKind, Config, ContainerdConfig, RegistryConfig};
use crate::error::Result;
use crate::limits::{BlockDevice, LimitChange, Storage};
use crate::spec::HostTraits;
use crate::types::{ImageInfo, LimitName, Limits};
use async_trait::async_trait;
use client::Client;
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use tokio_util::sync::CancellationToken;

/// containerd 1.6 and later, over its socket.
#[derive(Debug)]
pub(crate) struct Containerd {
    client: Client,
    config: ContainerdConfig,
    registry: RegistryConfig,
    host: HostTraits,
}

impl Containerd {
    /// Connects to containerd where the configuration says: with `backend: containerd` at the configured address alone
    /// (or, without one, where `auto` looks), with `backend: auto` at the first address that answers.
    ///
    /// # Errors
    /// UNAVAILABLE or PERMISSION_DENIED with every address that was tried.
    pub(crate) async fn connect(config: &Config) -> Result<Self> {
        let limits = config.time_limits.clone();
        let client = match (config.backend, &config.containerd.address) {
            (BackendKind::Containerd, Some(address)) => {
                let address = address.strip_prefix("unix://").unwrap_or(address).to_owned();
                Client::connect_to(&[address], &config.containerd, limits).await?
            }
            _ => Client::connect(&config.containerd, limits).await?,
        };
        Ok(Self {
            client,
            config: config.containerd.clone(),
            registry: config.registry.clone(),
            host: HostTraits::detect(config.guest.compat_32bit),
        })
    }
}

#[async_trait]
impl Backend for Containerd {
    fn kind(&self) -> &'static str {
        "containerd"
    }

    fn address(&self) -> String {
        self.client.address().to_owned()
    }

    fn namespace(&self) -> String {
        self.client.namespace().to_owned()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { snapshots: true, network_namespaces: true, exec: true, pause: true, metrics: false }
    }

    async fn version(&self) -> Result<String> {
        self.client.daemon_version().await
    }

    async fn pull(
        &self,
        request: &PullRequest,
        tracker: &PullTracker,
        cancel: &CancellationToken,
    ) -> Result<Pulled> {
        pull::pull(&self.client, &self.registry, request, tracker, cancel).await
    }

    async fn image(&self, name: &str) -> Result<Option<ImageInfo>> {
        images::get(&self.client, name).await
    }

    async fn images(&self) -> Result<Vec<ImageInfo>> {
        images::list(&self.client).await
    }

    async fn delete_image(&self, name: &str) -> Result<bool> {
        images::delete(&self.client, name).await
    }

    async fn prepare_snapshot(&self, snapshot: &NewSnapshot) -> Result<()> {
        snapshots::prepare(&self.client, snapshot).await
    }

    async fn remove_snapshot(&self, snapshotter: &str, key: &str) -> Result<bool> {
        snapshots::remove(&self.client, snapshotter, key).await
    }

    async fn snapshot(&self, snapshotter: &str, key: &str) -> Result<Option<Snapshot>> {
        snapshots::get(&self.client, snapshotter, key).await
    }

    async fn snapshots(&self, snapshotter: &str, filters: &[SnapshotFilter]) -> Result<Vec<Snapshot>> {
        snapshots::list(&self.client, snapshotter, filters).await
    }

    async fn snapshot_usage(&self, snapshotter: &str, key: &str) -> Result<SnapshotUsage> {
        snapshots::usage(&self.client, snapshotter, key).await
    }

    async fn storage(&self, snapshotter: &str, key: &str) -> Result<Storage> {
        limits::storage(&self.client, snapshotter, key).await
    }

    async fn label_snapshot(
        &self,
        snapshotter: &str,
        key: &str,
        labels: &BTreeMap<String, String>,
        kept: bool,
    ) -> Result<()> {
        snapshots::label(&self.client, snapshotter, key, labels, kept).await
    }

    async fn squash_snapshot(&self, squash: &Squash) -> Result<()> {
        squash::squash(&self.client, squash).await
    }

    async fn has_layers(&self, snapshotter: &str, key: &str) -> Result<bool> {
        let mounts = snapshots::mounts(&self.client, snapshotter, key).await?;
        Ok(rootfs::Layers::of(&mounts)?.is_overlay())
    }

    async fn graft_snapshot(&self, graft: &Graft) -> Result<Option<Grafted>> {
        graft::graft(&self.client, graft).await
    }

    async fn open_dir(&self, dir: &SnapshotDir) -> Result<Option<OpenDir>> {
        dirs::open(&self.client, dir).await
    }

    async fn open_root(&self, snapshotter: &str, key: &str, write: bool) -> Result<OwnedFd> {
        dirs::open_root(&self.client, snapshotter, key, write).await
    }

    async fn stage_dir(&self, dir: &SnapshotDir, stage: &str, merge: bool) -> Result<OpenDir> {
        dirs::stage(&self.client, dir, stage, merge).await
    }

    async fn swap_dir(&self, dir: &SnapshotDir, stage: &str) -> Result<()> {
        dirs::swap(&self.client, dir, stage).await
    }

    async fn unstage_dir(&self, dir: &SnapshotDir, stage: &str) -> Result<()> {
        dirs::unstage(&self.client, dir, stage).await
    }

    async fn changes(&self, request: &ChangesRequest) -> Result<Vec<Change>> {
        changes::changes(&self.client, request).await
    }

    async fn commit_snapshot(
        &self,
        snapshotter: &str,
        key: &str,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<()> {
        snapshots::commit(&self.client, snapshotter, key, name, labels).await
    }

    async fn is_untouched(&self, snapshotter: &str, key: &str, data_dir: &Path) -> Result<bool> {
        let mounts = snapshots::mounts(&self.client, snapshotter, key).await?;
        Ok(rootfs::is_untouched(mounts, data_dir.to_owned()).await)
    }

    async fn prepare_user(
        &self,
        snapshotter: &str,
        key: &str,
        user: &str,
        data_dir: Option<&Path>,
    ) -> Result<ResolvedUser> {
        users::prepare(&self.client, snapshotter, key, user, data_dir).await
    }

    async fn create_container(&self, container: &NewContainer) -> Result<Container> {
        containers::create(&self.client, &self.config, self.host, container).await
    }

    async fn container(&self, id: &str) -> Result<Option<Container>> {
        containers::get(&self.client, id).await
    }

    async fn containers(&self, filters: &[ContainerFilter]) -> Result<Vec<Container>> {
        containers::list(&self.client, filters).await
    }

    async fn move_container(&self, id: &str, snapshot_key: &str) -> Result<Container> {
        containers::set_snapshot(&self.client, id, snapshot_key).await
    }

    async fn renew_container(&self, container: &NewContainer) -> Result<Container> {
        containers::renew(&self.client, self.host, container).await
    }

    async fn mark_container(&self, id: &str, label: &str, value: &str) -> Result<()> {
        containers::set_label(&self.client, id, label, value).await
    }

    async fn limit_container(&self, id: &str, limits: &Limits, device: Option<BlockDevice>) -> Result<()> {
        limits::limit_container(&self.client, self.host, id, limits, device).await
    }

    async fn delete_container(&self, id: &str) -> Result<bool> {
        containers::delete(&self.client, id).await
    }

    async fn create_task(&self, container: &Container) -> Result<Task> {
        tasks::create(&self.client, container).await
    }

    async fn start_task(&self, container: &str) -> Result<()> {
        tasks::start(&self.client, container).await
    }

    async fn task(&self, container: &str) -> Result<Option<Task>> {
        tasks::get(&self.client, container).await
    }

    async fn tasks(&self) -> Result<Vec<Task>> {
        tasks::list(&self.client).await
    }

    async fn watch(&self) -> Result<BoxStream<'static, BackendEvent>> {
        events::watch(&self.client).await
    }

    async fn mark(&self, mark: &str) -> Result<()> {
        events::mark(&self.client, mark).await
    }

    async fn pause_task(&self, container: &str) -> Result<()> {
        tasks::pause(&self.client, container).await
    }

    async fn resume_task(&self, container: &str) -> Result<()> {
        tasks::resume(&self.client, container).await
    }

    async fn limit_task(
        &self,
        task: &Task,
        changes: &[LimitChange],
        device: Option<BlockDevice>,
    ) -> Result<Vec<(LimitName, String)>> {
        limits::limit_task(&self.client, self.host, task, changes, device).await
    }

    async fn kill_task(&self, container: &str, signal: i32, all: bool) -> Result<bool> {
        tasks::kill(&self.client, container, signal, all).await
    }

    async fn wait_task(&self, container: &str) -> Result<TaskExit> {
        tasks::wait(&self.client, container).await
    }

    async fn task_root(&self, container: &str) -> Result<TaskRoot> {
        tasks::root(&self.client, container).await
    }

    async fn exec(&self, command: &GuestCommand) -> Result<(Box<dyn GuestProcess>, GuestPipes)> {
        exec::start(&self.client, command).await
    }

    async fn delete_task(&self, container: &str) -> Result<Option<TaskExit>> {
        tasks::delete(&self.client, container).await
    }
}

#[cfg(test)]
mod tests;
