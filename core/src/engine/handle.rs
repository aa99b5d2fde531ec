use super::{Images, Workspace};
use crate::backend::Backend;
use crate::bridge::BridgePool;
use crate::config::Config;
use crate::error::Result;
use crate::feed::Feed;
use crate::lifecycle::{self, Restarting};
use crate::mcp::McpTable;
use crate::names::WorkspaceId;
use crate::network::NetworkManager;
use crate::operation::{Operation, Runner, WorkspaceLocks};
use crate::registry::Registry;
use crate::store::Store;
use crate::types::{
    BackendHealth, GcOptions, GcResult, Health, ListOptions, ReconcileOptions, ReconcileResult, WorkspaceList,
};
use crate::watch::Watch;
use std::sync::Arc;

/// Keeps workspaces: the library's entry point.
///
/// Cheap to clone; all clones are one engine. Several engines, in one process or in many, may share one `data_root`:
/// locks order their writes. Every method must be called within the tokio runtime the engine was opened in.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) inner: Arc<EngineInner>,
}

#[derive(Debug)]
pub(crate) struct EngineInner {
    pub(crate) config: Config,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) runner: Runner,
    pub(crate) locks: WorkspaceLocks,
    pub(crate) network: NetworkManager,
    pub(crate) bridges: BridgePool,
    pub(crate) registry: Registry,
    pub(crate) watch: Watch,
    pub(crate) feed: Feed,
    pub(crate) restarting: Restarting,
    pub(crate) mcp: McpTable,
}

impl Engine {
    /// The handle of a workspace. Does nothing but check the id; the workspace need not exist.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when the id is malformed.
    pub fn workspace(&self, id: impl Into<String>) -> Result<Workspace> {
        Ok(Workspace::new(self.clone(), WorkspaceId::new(id)?))
    }

    /// The images of this engine's backend.
    pub fn image(&self) -> Images {
        Images::new(self.clone())
    }

    /// The configuration it was opened with.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Looks at the engine, its store and its backend. What is wrong is told in the result, not as an error.
    ///
    /// # Errors
    /// FAILED_PRECONDITION when the engine is closed.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn health(&self) -> Result<Health> {
        let inner = &self.inner;
        inner.runner.check_open().map_err(|e| e.in_operation("engine.health"))?;
        let mut problems = Vec::new();
        let version = inner.backend.version().await;
        if let Err(error) = &version {
            problems.push(error.to_string());
        }
        if let Err(error) = inner.store.check().await {
            problems.push(error.to_string());
        }
        let agent = inner.config.runtime_dir.join("bridge");
        if !agent.is_file() {
            problems.push(format!("the agent is missing: put it at {}", agent.display()));
        }
        Ok(Health {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            healthy: problems.is_empty(),
            problems,
            backend: BackendHealth {
                kind: inner.backend.kind().to_owned(),
                address: inner.backend.address(),
                reachable: version.is_ok(),
                version: version.unwrap_or_default(),
                capabilities: inner.backend.capabilities().names(),
            },
            operations: inner.runner.active() as u64,
            data_root: inner.config.data_root.display().to_string(),
        })
    }

    /// Lists the workspaces, ordered by id: ours and those of older implementations.
    ///
    /// # Errors
    /// UNAVAILABLE when the backend does not answer.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn list(&self, options: ListOptions) -> Result<WorkspaceList> {
        self.inner.runner.check_open()?;
        lifecycle::list(&self.inner, &options).await.map_err(|e| e.in_operation("engine.list"))
    }

    /// Puts all workspaces in order, as after a restart of the host: what was under way is completed or undone, a missing
    /// container is made anew of what it has left, what was to run is started, and networks are looked after. A workspace
    /// that its user has stopped stays stopped. A fault of one is told in its place and never stops the others. Events:
    /// `reconciled` for each workspace; then `complete` or `error`.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for more than 64 at a time; UNAVAILABLE when the backend does not answer; CANCELLED: what was put
    /// in order stays so.
    pub fn reconcile(&self, options: ReconcileOptions) -> Operation<ReconcileResult> {
        let engine = self.clone();
        self.inner.runner.run("engine.reconcile", async move |context| {
            lifecycle::reconcile(&engine, options, &context).await
        })
    }

    /// Removes leftovers of this library, and nothing else: snapshots of no use to any workspace, and directories and
    /// networks of workspaces that are gone. Whatever holds data that no version has stays. Events: `complete` or `error`.
    ///
    /// # Errors
    /// UNAVAILABLE when the backend does not answer; CANCELLED: what was removed stays removed. What fails of one
    /// workspace is told in the result.
    pub fn gc(&self, options: GcOptions) -> Operation<GcResult> {
        let engine = self.clone();
        self.inner
            .runner
            .run("engine.gc", async move |context| lifecycle::gc(&engine.inner, options, &context).await)
    }

    /// Closes the engine: running operations are cancelled and undone, or, past their point of no return, completed;
    /// then connections and files are let go, and streams of its events end. Workspaces go on running. May be called
    /// again.
    ///
    /// # Cancel safety
    /// When dropped, the operations still end; call it again to wait for them.
    pub async fn close(&self) {
        self.inner.runner.close().await;
        self.inner.mcp.clear();
        self.inner.watch.stop().await;
        self.inner.bridges.close();
        self.inner.feed.close();
        self.inner.store.close().await;
    }
}
