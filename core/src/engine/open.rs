use super::{Engine, EngineInner};
use crate::backend::{Backend, containerd::Containerd};
use crate::bridge::BridgePool;
use crate::config::Config;
use crate::error::{Error, Result};
#[cfg(feature = "failpoints")]
use crate::failpoints::{ToldBackend, ToldStore};
use crate::feed::Feed;
use crate::lifecycle::{self, Restarting};
use crate::mcp::McpTable;
use crate::network::NetworkManager;
use crate::operation::{Runner, WorkspaceLocks};
use crate::registry::Registry;
use crate::store::{SqliteStore, Store};
use crate::types::ReconcileOptions;
use crate::watch::Watch;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

impl Engine {
    /// Opens an engine: checks the configuration, reaches the backend, opens the records, and finishes or undoes what
    /// an earlier process left unfinished.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a malformed setting; UNAVAILABLE when no backend answers (with all that was tried);
    /// PERMISSION_DENIED on its socket or on `data_root`; RESOURCE_EXHAUSTED on a full disk; DATA_CORRUPT when the
    /// database is damaged.
    ///
    /// # Cancel safety
    /// Dropping the future leaves at most empty directories.
    pub async fn open(config: Config) -> Result<Self> {
        Self::open_inner(config).await.map_err(|e| e.in_operation("engine.open"))
    }

    async fn open_inner(config: Config) -> Result<Self> {
        config.validate()?;
        let backend: Arc<dyn Backend> = Arc::new(Containerd::connect(&config).await?);
        let engine = Self::assemble(config, backend).await?;
        if engine.inner.config.reconcile_on_open {
            // What fails of one workspace is told in the log, and by the workspace itself when it is used.
            engine.reconcile(ReconcileOptions::default()).await?;
        }
        Ok(engine)
    }

    /// Puts an engine together on a backend.
    pub(crate) async fn assemble(config: Config, backend: Arc<dyn Backend>) -> Result<Self> {
        private_dir(&config.data_root)?;
        for name in ["run", "etc", "locks", "backups", "netns", "network"] {
            private_dir(&config.data_root.join(name))?;
        }
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&config.data_root.join("dunnage.db")).await?);
        #[cfg(feature = "failpoints")]
        let (backend, store): (Arc<dyn Backend>, Arc<dyn Store>) =
            (Arc::new(ToldBackend(backend)), Arc::new(ToldStore(store)));
        let (tell, ends) = mpsc::unbounded_channel();
        let lock_limit = Duration::from_millis(config.time_limits.lock_ms);
        let inner = EngineInner {
            locks: WorkspaceLocks::new(&config.data_root.join("locks"), lock_limit),
            network: NetworkManager::new(&config.network, &config.data_root, &config.time_limits),
            bridges: BridgePool::new(&config),
            registry: Registry::new(&config.registry)?,
            runner: Runner::default(),
            feed: Feed::new(store.clone()),
            store,
            restarting: Restarting::default(),
            mcp: McpTable::default(),
            watch: Watch::start(backend.clone(), lifecycle::filters(&config), tell),
            backend,
            config,
        };
        let engine = Self { inner: Arc::new(inner) };
        lifecycle::recover_all(&engine.inner).await?;
        lifecycle::complete_records(&engine.inner).await?;
        lifecycle::take_ends(&engine.inner, ends);
        if !engine.inner.store.unfinished_workspaces().await?.is_empty() {
            lifecycle::recover_later(&engine.inner);
        }
        Ok(engine)
    }
}

/// Makes a directory that only its owner can look into; one that is there keeps its mode.
fn private_dir(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| Error::io(e, "cannot make the data directory").with("path", path.display()))
}
