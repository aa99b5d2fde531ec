//! The connections of an engine.

use super::connection::Connection;
use super::notices::McpNotifications;
use crate::bridge::BridgeClient;
use crate::error::{Error, Result};
use crate::names::WorkspaceId;
use crate::types::{
    ExecOptions, McpConnectOptions, McpConnection, McpConnectionList, McpReply, McpSendOptions,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use uuid::Uuid;

/// The most connections of one workspace, of which those that ended make room for new ones.
const MOST: usize = 64;
/// How long a server may take to begin.
const BEGIN: Duration = Duration::from_secs(30);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(60);

type Connections = BTreeMap<String, Arc<Connection>>;

/// The connections of all workspaces, by the ids of these and by their own, which are in the order of time.
#[derive(Debug, Default)]
pub(crate) struct McpTable {
    workspaces: Mutex<BTreeMap<WorkspaceId, Connections>>,
}

impl McpTable {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<WorkspaceId, Connections>> {
        self.workspaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a server and begins to speak with it. One that does not begin is ended.
    pub(crate) async fn connect(
        &self,
        client: &BridgeClient,
        workspace: &WorkspaceId,
        options: &McpConnectOptions,
    ) -> Result<McpConnection> {
        check(options)?;
        self.make_room(workspace)?;
        let args: Vec<String> = std::iter::once(&options.command).chain(&options.args).cloned().collect();
        let mut exec = ExecOptions::default().args(args).env(options.env.clone());
        exec.work_dir = options.cwd.clone();
        let process = client.spawn(&exec).await?;
        let base = options.command.rsplit('/').next().unwrap_or_default();
        let name = options.name.clone().unwrap_or_else(|| base.to_owned());
        let connection = Connection::new(Uuid::now_v7().to_string(), name, process);
        let limit = options.timeout_ms.map_or(BEGIN, Duration::from_millis);
        match tokio::time::timeout(limit, connection.begin()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(connection.explain(error)),
            Err(_) => {
                let message = format!("the server has not begun within {} ms", limit.as_millis());
                return Err(connection.explain(Error::timeout(message)));
            }
        }
        let described =
            connection.describe().ok_or_else(|| Error::unexpected("the server began without a word"))?;
        let connection = Arc::new(connection);
        self.lock().entry(workspace.clone()).or_default().insert(connection.id.clone(), connection);
        Ok(described)
    }

    fn make_room(&self, workspace: &WorkspaceId) -> Result<()> {
        let mut workspaces = self.lock();
        let Some(connections) = workspaces.get_mut(workspace) else { return Ok(()) };
        if connections.len() < MOST {
            return Ok(());
        }
        let ended = connections.iter().find(|(_, one)| !one.is_running()).map(|(id, _)| id.clone());
        match ended {
            Some(id) => {
                connections.remove(&id);
                Ok(())
            }
            None => Err(Error::resource_exhausted("the workspace has 64 servers connected; close some")),
        }
    }

    fn find(&self, workspace: &WorkspaceId, id: &str) -> Result<Arc<Connection>> {
        let found = self.lock().get(workspace).and_then(|connections| connections.get(id).cloned());
        found.ok_or_else(|| missing(id))
    }

    /// Passes a message on to a server.
    pub(crate) async fn send(&self, workspace: &WorkspaceId, options: McpSendOptions) -> Result<McpReply> {
        let connection = self.find(workspace, &options.connection_id)?;
        let limit = match options.timeout_ms {
            None => Some(ANSWER),
            Some(0) => None,
            Some(ms) => Some(Duration::from_millis(ms)),
        };
        let message = options.message.into_iter().collect();
        let answer = connection.send(&options.caller, message, limit).await;
        let answer = answer.map_err(|e| e.with("connection", &options.connection_id))?;
        Ok(McpReply { message: answer.map(|answer| answer.into_iter().collect()) })
    }

    /// What a server says without being asked.
    pub(crate) fn notifications(&self, workspace: &WorkspaceId, id: &str) -> Result<McpNotifications> {
        Ok(self.find(workspace, id)?.notifications())
    }

    /// All connections of a workspace.
    pub(crate) fn list(&self, workspace: &WorkspaceId) -> McpConnectionList {
        let workspaces = self.lock();
        let connections = workspaces.get(workspace).into_iter().flatten();
        McpConnectionList { connections: connections.filter_map(|(_, one)| one.describe()).collect() }
    }

    /// Closes a connection: the server may end by itself, and is ended when it takes over two seconds.
    pub(crate) async fn close(&self, workspace: &WorkspaceId, id: &str) -> Result<McpConnection> {
        let connection = {
            let mut workspaces = self.lock();
            let removed = workspaces.get_mut(workspace).and_then(|connections| connections.remove(id));
            workspaces.retain(|_, connections| !connections.is_empty());
            removed.ok_or_else(|| missing(id))?
        };
        connection.close().await;
        connection.describe().ok_or_else(|| missing(id))
    }

    /// Lets go of all connections of a workspace that is no more.
    pub(crate) fn forget(&self, workspace: &WorkspaceId) {
        self.lock().remove(workspace);
    }

    /// Ends all servers.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }
}

fn missing(id: &str) -> Error {
    Error::not_found("the workspace has no such connection").with("connection", id.escape_default())
}

fn check(options: &McpConnectOptions) -> Result<()> {
    let refuse = |field: &'static str, why: &str| Err(Error::invalid_argument(why).with("field", field));
    if options.command.is_empty() {
        return refuse("command", "the command is empty; name the server's program");
    }
    let words = std::iter::once(&options.command).chain(&options.args);
    if words.into_iter().any(|word| word.contains('\0')) {
        return refuse("args", "a word of the command holds a NUL; leave it out");
    }
    if options.timeout_ms == Some(0) {
        return refuse("timeout_ms", "a server must be given some time to begin");
    }
    Ok(())
}
