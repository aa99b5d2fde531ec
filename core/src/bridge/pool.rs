use super::client::BridgeClient;
use super::connection::Connection;
use super::dial::BridgeTarget;
use super::exec::GuestCommands;
use super::tree::TreeServer;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The connections to agents: one a workspace, made when a call needs it, kept for the next one, and dropped when the
/// agent goes away or the workspace is restarted.
#[derive(Debug)]
pub(crate) struct BridgePool {
    limits: Arc<Limits>,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
}

/// What is the same for every agent.
#[derive(Debug)]
pub(super) struct Limits {
    /// Where relative paths start.
    pub(super) data_dir: String,
    /// Until an agent must have answered the first question.
    pub(super) connect: Duration,
    /// Until an agent must have answered any other, or have sent the next piece of a transfer.
    pub(super) call: Duration,
}

impl BridgePool {
    /// A pool without connections.
    pub(crate) fn new(config: &Config) -> Self {
        let limits = Limits {
            data_dir: config.guest.data_dir.to_string_lossy().into_owned(),
            connect: Duration::from_millis(config.time_limits.connect_ms),
            call: Duration::from_millis(config.time_limits.backend_ms),
        };
        Self { limits: Arc::new(limits), slots: Mutex::default() }
    }

    /// The client of the workspace `key`, whose agent is at `target`. No I/O; a client stays good across restarts of
    /// its workspace, as long as the target does.
    pub(crate) fn client(&self, key: &str, target: BridgeTarget) -> BridgeClient {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(key)
            && slot.target == target
        {
            return BridgeClient::new(Arc::clone(slot));
        }
        let slot = Arc::new(Slot::new(key.to_owned(), target, Arc::clone(&self.limits)));
        slots.insert(key.to_owned(), Arc::clone(&slot));
        BridgeClient::new(slot)
    }

    /// The client of a workspace that has no agent, if there is one whose server of files still runs.
    pub(crate) fn agentless(&self, key: &str) -> Option<BridgeClient> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.get(key).filter(|slot| slot.tree.as_ref().is_some_and(TreeServer::is_running))?;
        Some(BridgeClient::new(Arc::clone(slot)))
    }

    /// Makes a client of a workspace that has no agent, and keeps it: `tree` serves its files, `commands` runs its commands.
    pub(crate) fn keep_agentless(
        &self,
        key: &str,
        (tree, target): (TreeServer, BridgeTarget),
        commands: GuestCommands,
    ) -> BridgeClient {
        let mut slot = Slot::new(key.to_owned(), target, Arc::clone(&self.limits));
        (slot.tree, slot.commands) = (Some(tree), Some(commands));
        let slot = Arc::new(slot);
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), Arc::clone(&slot));
        BridgeClient::new(slot)
    }

    /// Makes a client of the files of a workspace that does not run. The server ends with the last clone of it.
    pub(crate) fn files(&self, key: &str, (tree, target): (TreeServer, BridgeTarget)) -> BridgeClient {
        let mut slot = Slot::new(key.to_owned(), target, Arc::clone(&self.limits));
        slot.tree = Some(tree);
        BridgeClient::new(Arc::new(slot))
    }

    /// Until an agent must have answered the first question.
    pub(crate) fn connect_limit(&self) -> Duration {
        self.limits.connect
    }

    /// Drops the connection of the workspace `key`: call it when its container is stopped, started or deleted. Calls
    /// under way end by themselves; the next one connects anew.
    pub(crate) fn evict(&self, key: &str) {
        let slot = self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        if let Some(slot) = slot {
            slot.forget_any();
        }
    }

    /// Drops every connection.
    pub(crate) fn close(&self) {
        let slots = std::mem::take(&mut *self.slots.lock().unwrap_or_else(PoisonError::into_inner));
        for slot in slots.into_values() {
            slot.forget_any();
        }
    }
}

/// The place of one workspace's connection.
pub(super) struct Slot {
    pub(super) key: String,
    pub(super) target: BridgeTarget,
    pub(super) limits: Arc<Limits>,
    current: Mutex<Option<Arc<Connection>>>,
    /// Held by the one caller that connects; what the last one failed with, and when.
    gate: tokio::sync::Mutex<Option<(Instant, Failure)>>,
    /// What runs commands, where no agent does.
    pub(super) commands: Option<GuestCommands>,
    /// Who serves the files, where no agent does. Last: what was connected to it goes first.
    tree: Option<TreeServer>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("key", &self.key).field("target", &self.target).finish_non_exhaustive()
    }
}

impl Slot {
    fn new(key: String, target: BridgeTarget, limits: Arc<Limits>) -> Self {
        Self {
            key,
            target,
            limits,
            current: Mutex::default(),
            gate: tokio::sync::Mutex::default(),
            commands: None,
            tree: None,
        }
    }

    /// The connection there is, or a new one. Callers that come while one connects share its outcome.
    ///
    /// # Cancel safety
    /// Safe: a caller that goes away leaves the next one to connect.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>> {
        if let Some(connection) = self.open() {
            return Ok(connection);
        }
        let asked = Instant::now();
        let mut last = self.gate.lock().await;
        if let Some(connection) = self.open() {
            return Ok(connection);
        }
        if let Some((at, failure)) = last.as_ref()
            && *at >= asked
        {
            return Err(failure.error());
        }
        let limit = self.limits.connect;
        let opened = match tokio::time::timeout(limit, Connection::open(&self.target)).await {
            Ok(opened) => opened,
            Err(_) => {
                Err(Error::unavailable(format!("the agent did not answer within {} ms", limit.as_millis()))
                    .with("address", &self.target))
            }
        };
        match opened {
            Ok(connection) => {
                let connection = Arc::new(connection);
                *self.lock() = Some(Arc::clone(&connection));
                *last = None;
                Ok(connection)
            }
            Err(error) => {
                let error = error.with("workspace", &self.key);
                *last = Some((Instant::now(), Failure::of(&error)));
                Err(error)
            }
        }
    }

    /// Drops this connection, unless another has taken its place.
    pub(super) fn forget(&self, connection: &Arc<Connection>) {
        let mut current = self.lock();
        if current.as_ref().is_some_and(|c| Arc::ptr_eq(c, connection)) {
            *current = None;
        }
    }

    /// Ends the server of its files, if there is one, and returns once that has ended.
    pub(super) async fn end_tree(&self) {
        if let Some(tree) = &self.tree {
            self.forget_any();
            tree.end().await;
        }
    }

    fn forget_any(&self) {
        *self.lock() = None;
    }

    fn open(&self) -> Option<Arc<Connection>> {
        self.lock().as_ref().filter(|c| c.is_open()).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Connection>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error that several callers get.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    kind: ErrorKind,
    message: String,
    context: Vec<(&'static str, String)>,
}

impl Failure {
    /// Keeps what tells callers what to do.
    pub(super) fn of(error: &Error) -> Self {
        Self {
            kind: error.kind(),
            message: error.message_with_cause(),
            context: error.context().map(|(key, value)| (key, value.to_owned())).collect(),
        }
    }

    /// The error again.
    pub(super) fn error(&self) -> Error {
        let error = Error::new(self.kind, self.message.clone());
        self.context.iter().fold(error, |error, (key, value)| error.with(key, value))
    }
}
