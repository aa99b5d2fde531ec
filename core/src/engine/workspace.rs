use super::{Data, Engine, Exec, Fs, Mcp, Skills, Snapshots, Tools};
use crate::error::Result;
use crate::lifecycle::{self, MetricsStream};
use crate::names::WorkspaceId;
use crate::operation::Operation;
use crate::types::{
    CreateOptions, CreateResult, DeleteOptions, DeleteResult, Metrics, MetricsOptions, MetricsStreamOptions,
    RecreateOptions, RecreateResult, SetLimitsOptions, SetLimitsResult, StartOptions, StartResult,
    StopOptions, StopResult, WorkspaceInfo,
};

/// The handle of one workspace: an id and the engine. Cheap to clone; holds nothing open.
#[derive(Debug, Clone)]
pub struct Workspace {
    pub(crate) engine: Engine,
    pub(crate) id: WorkspaceId,
}

impl Workspace {
    pub(crate) fn new(engine: Engine, id: WorkspaceId) -> Self {
        Self { engine, id }
    }

    /// The workspace's id.
    pub fn id(&self) -> &str {
        self.id.as_str()
    }

    /// Makes the workspace: pulls the image if need be, makes the container, starts it and waits until its agent
    /// answers. One that is there is left as it is, whatever the options say, and started if `start` is set. A directory
    /// `bots/<id>` of the data root, in which an older implementation kept the data, is taken over once. Events:
    /// `pulling`, `pull_progress`… or `pull_skipped`; `creating`; `restoring`, `data_progress`… where it begins with data
    /// that was there before; `starting`; then `complete {container}` or `error`.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a malformed option, before anything is touched; FAILED_PRECONDITION when the agent or a
    /// CNI plugin is missing on the host; whatever [`Images::pull`](super::Images::pull) documents; TIMEOUT when the
    /// agent does not answer; CANCELLED. In each case what was begun is undone.
    pub fn create(&self, options: CreateOptions) -> Operation<CreateResult> {
        let (engine, id) = (self.engine.clone(), self.id.clone());
        self.engine.inner.runner.run("workspace.create", async move |context| {
            lifecycle::create(&engine.inner, &id, options, &context).await
        })
    }

    /// Looks at the workspace.
    ///
    /// # Errors
    /// NOT_FOUND when there is none; UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn info(&self) -> Result<WorkspaceInfo> {
        const OPERATION: &str = "workspace.info";
        self.engine.inner.runner.check_open().map_err(|e| e.in_operation(OPERATION))?;
        lifecycle::info(&self.engine.inner, &self.id).await.map_err(|e| e.in_operation(OPERATION))
    }

    /// Starts the workspace and waits until its agent answers. One that runs is left as it is. Events: `starting`; then
    /// `complete {container}` or `error`.
    ///
    /// # Errors
    /// NOT_FOUND when it has no container; TIMEOUT when the agent does not answer; UNAVAILABLE; CANCELLED.
    pub fn start(&self, options: StartOptions) -> Operation<StartResult> {
        let (engine, id) = (self.engine.clone(), self.id.clone());
        self.engine.inner.runner.run("workspace.start", async move |context| {
            lifecycle::start(&engine.inner, &id, options, &context).await
        })
    }

    /// As [`Workspace::start`], but a missing container is made anew with the options it was last made with, and the
    /// network of a running one is checked by its plugins and, if they find a fault, made anew.
    ///
    /// # Errors
    /// Those of [`Workspace::create`].
    pub fn ensure_running(&self, options: StartOptions) -> Operation<StartResult> {
        let (engine, id) = (self.engine.clone(), self.id.clone());
        self.engine.inner.runner.run("workspace.ensure_running", async move |context| {
            lifecycle::ensure_running(&engine.inner, &id, options, &context).await
        })
    }

    /// Stops the workspace: SIGTERM, then, after the grace, SIGKILL. One that does not run is left as it is. Events:
    /// `stopping`; then `complete {container}` or `error`.
    ///
    /// # Errors
    /// NOT_FOUND when it has no container; TIMEOUT when even SIGKILL does not end it; UNAVAILABLE.
    pub fn stop(&self, options: StopOptions) -> Operation<StopResult> {
        let (engine, id) = (self.engine.clone(), self.id.clone());
        self.engine.inner.runner.run("workspace.stop", async move |context| {
            lifecycle::stop(&engine.inner, &id, options, &context).await
        })
    }

    /// Makes the workspace anew of another image, or of its own as that is now, with its data directory as it is; its options,
    /// network and address stay. What it was is kept as a version of source `recreate`. The image is fetched while the
    /// workspace runs; the container's record is never absent, and no byte of data is copied but in a snapshotter without
    /// layers. Going back to the version gives
    /// its files back; what the container is made of stays. Events: `pulling`, `pull_progress`… or `pull_skipped`;
    /// `preserving`, `stopping`, `restoring`, `creating`, `starting`; then `complete {container}` or `error`.
    ///
    /// # Errors
    /// NOT_FOUND when there is no such workspace; FAILED_PRECONDITION for one that an older implementation made, and for one
    /// that is paused; UNSUPPORTED in a snapshotter whose snapshots are no directories; whatever
    /// [`Images::pull`](super::Images::pull) documents; CANCELLED, which is heeded until the version is made. Until then it is
    /// undone; after that it completes, now or by the workspace's next operation. Where the data cannot be taken along, the
    /// workspace goes on as it was.
    pub fn recreate(&self, options: RecreateOptions) -> Operation<RecreateResult> {
        let (engine, id) = (self.engine.clone(), self.id.clone());
        self.engine.inner.runner.run("workspace.recreate", async move |context| {
            lifecycle::recreate(&engine.inner, &id, options, &context).await
        })
    }

    /// Stops the workspace and removes its container, its writable snapshot and all that is in it. One that is not
    /// there is no error. Once begun it completes, even when cancelled or after a crash. With `preserve_data` the data is
    /// preserved first, as [`Data::preserve`] does it, and nothing is deleted when that fails; what was preserved before stays in
    /// either case. Events: `preserving`, `data_progress`… with `preserve_data`; `stopping`, `deleting`; then `complete` or
    /// `error`.
    ///
    /// # Errors
    /// TIMEOUT when even SIGKILL does not end its first process; UNAVAILABLE; with `preserve_data` NOT_FOUND when there is no
    /// container, and what [`Data::preserve`] documents.
    pub fn delete(&self, options: DeleteOptions) -> Operation<DeleteResult> {
        let (engine, id) = (self.engine.clone(), self.id.clone());
        self.engine.inner.runner.run("workspace.delete", async move |context| {
            lifecycle::delete(&engine.inner, &id, options, &context).await
        })
    }

    /// Changes its limits: those that are given, and those that are to be no more; all others stay. What it runs is held to them
    /// at once where the kernel allows that, and never ended for it: memory is not limited to less than its processes hold.
    /// They stay over restarts, [`Workspace::recreate`], rollbacks and the making anew of a lost container, and forks have
    /// them too. Each limit is told with its state; one that the host does not know is no error. Events: `complete {container}`
    /// or `error`.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a limit out of bounds, and for one that is both set and cleared, before anything is touched;
    /// NOT_FOUND when it has no container; UNAVAILABLE and TIMEOUT, after which the workspace's next operation completes what
    /// was begun; CANCELLED, which is heeded until the first change.
    ///
    /// # Cancel safety
    /// Once begun it completes, now or by the workspace's next operation.
    pub fn set_limits(&self, options: SetLimitsOptions) -> Operation<SetLimitsResult> {
        let (engine, id) = (self.engine.clone(), self.id.clone());
        self.engine.inner.runner.run("workspace.set_limits", async move |context| {
            lifecycle::set_limits(&engine.inner, &id, options, &context).await
        })
    }

    /// Measures what it uses: processors, memory, processes, block devices and network and, when asked for, disk.
    ///
    /// # Errors
    /// NOT_FOUND when it has no container; UNAVAILABLE. One that does not run is no error.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn metrics(&self, options: MetricsOptions) -> Result<Metrics> {
        let inner = &self.engine.inner;
        inner.runner.check_open().map_err(|e| e.in_operation("workspace.metrics"))?;
        lifecycle::metrics(inner, &self.id, &options).await.map_err(|e| e.in_operation("workspace.metrics"))
    }

    /// Measures again and again: the first time at once, then at every interval, running or not, until there is no such workspace any
    /// more.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for an interval out of bounds; as [`Workspace::metrics`].
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn metrics_stream(&self, options: MetricsStreamOptions) -> Result<MetricsStream> {
        let inner = &self.engine.inner;
        let opened = async {
            inner.runner.check_open()?;
            lifecycle::follow(inner, &self.id, options).await
        };
        opened.await.map_err(|e| e.in_operation("workspace.metrics_stream"))
    }

    /// Commands inside.
    pub fn exec(&self) -> Exec {
        Exec::new(self.clone())
    }

    /// Versions: made, listed, gone back to.
    pub fn snapshots(&self) -> Snapshots {
        Snapshots::new(self.clone())
    }

    /// Its data directory: taken out, put in, preserved.
    pub fn data(&self) -> Data {
        Data::new(self.clone())
    }

    /// Its skills: listed, written, deleted.
    pub fn skills(&self) -> Skills {
        Skills::new(self.clone())
    }

    /// MCP servers inside.
    pub fn mcp(&self) -> Mcp {
        Mcp::new(self.clone())
    }

    /// Tools for language models.
    pub fn tools(&self) -> Tools {
        Tools::new(self.clone())
    }

    /// Files inside.
    pub fn fs(&self) -> Fs {
        Fs::new(self.clone())
    }
}
