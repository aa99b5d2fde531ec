use super::Workspace;
use crate::bridge::BridgeClient;
use crate::error::Result;
use crate::mcp::McpNotifications;
use crate::types::{
    InfoOptions, McpConnectOptions, McpConnection, McpConnectionList, McpConnectionOptions, McpReply,
    McpSendOptions,
};

/// MCP servers that run inside a workspace and speak on their stdin and stdout.
///
/// A connection belongs to the engine that made it, and lives until it is closed, the server or the workspace ends, or the engine is
/// closed. One that ended stays, so that it can be seen why, until it is closed.
#[derive(Debug, Clone)]
pub struct Mcp {
    workspace: Workspace,
}

impl Mcp {
    pub(crate) fn new(workspace: Workspace) -> Self {
        Self { workspace }
    }

    /// Starts a server, begins a session with it, and asks for its tools.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for an empty command or malformed options; FAILED_PRECONDITION when the server ends before it has begun or does
    /// not speak the protocol (the context `stderr` has what it said last); TIMEOUT; RESOURCE_EXHAUSTED for more than 64 connections;
    /// NOT_FOUND when there is no such workspace, program or directory; UNAVAILABLE when it does not run.
    ///
    /// # Cancel safety
    /// When dropped, the server is ended with all it started.
    pub async fn connect(&self, options: McpConnectOptions) -> Result<McpConnection> {
        let table = &self.workspace.engine.inner.mcp;
        let call = async |client: BridgeClient| table.connect(&client, &self.workspace.id, &options).await;
        self.workspace.with_bridge(call).await.map_err(|e| e.in_operation("mcp.connect"))
    }

    /// The connections of this workspace, those that ended too.
    ///
    /// # Errors
    /// FAILED_PRECONDITION when the engine is closed.
    ///
    /// # Cancel safety
    /// Cancel safe: it only tells.
    pub async fn list(&self, _: InfoOptions) -> Result<McpConnectionList> {
        let inner = &self.workspace.engine.inner;
        inner.runner.check_open().map_err(|e| e.in_operation("mcp.list"))?;
        Ok(inner.mcp.list(&self.workspace.id))
    }

    /// Passes a message on to a server, and waits for its answer when it is a request. Ids and progress tokens of callers never meet.
    /// An `initialize` is answered as the session began. What the server says in error is an answer, not an error.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for what is no request or notification; NOT_FOUND for a connection that this workspace does not have;
    /// UNAVAILABLE when the server has ended; TIMEOUT when it does not answer in time; RESOURCE_EXHAUSTED for more than 1024 requests
    /// under way.
    ///
    /// # Cancel safety
    /// When dropped, the server is told that the request is cancelled.
    pub async fn send(&self, options: McpSendOptions) -> Result<McpReply> {
        let inner = &self.workspace.engine.inner;
        let sent = async {
            inner.runner.check_open()?;
            inner.mcp.send(&self.workspace.id, options).await
        };
        sent.await.map_err(|e| e.with("workspace", &self.workspace.id).in_operation("mcp.send"))
    }

    /// What a server says without being asked: first what is kept of it (the last 1024, at most 4 MiB), then new ones. The stream ends
    /// when the server does.
    ///
    /// # Errors
    /// NOT_FOUND for a connection that this workspace does not have.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn notifications(&self, options: McpConnectionOptions) -> Result<McpNotifications> {
        let inner = &self.workspace.engine.inner;
        let opened = async {
            inner.runner.check_open()?;
            inner.mcp.notifications(&self.workspace.id, &options.connection_id)
        };
        opened.await.map_err(|e| e.with("workspace", &self.workspace.id).in_operation("mcp.notifications"))
    }

    /// Closes a connection. The server's stdin is closed, and after two seconds the server is ended with all it started.
    ///
    /// # Errors
    /// NOT_FOUND for a connection that this workspace does not have.
    ///
    /// # Cancel safety
    /// When dropped, the connection is gone all the same.
    pub async fn close(&self, options: McpConnectionOptions) -> Result<McpConnection> {
        let inner = &self.workspace.engine.inner;
        let closed = inner.mcp.close(&self.workspace.id, &options.connection_id).await;
        closed.map_err(|e| e.with("workspace", &self.workspace.id).in_operation("mcp.close"))
    }
}
