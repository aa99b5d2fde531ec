use super::{ExitStatus, setters};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// An MCP server to start inside a workspace; it speaks on its stdin and stdout.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct McpConnectOptions {
    /// What to call it. Default: the command's file name.
    pub name: Option<String>,
    /// The program, looked up in PATH when it has no slash.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment variables over those of the agent.
    pub env: BTreeMap<String, String>,
    /// The working directory; a relative one is under the data directory. Default: the data directory.
    pub cwd: Option<String>,
    /// Milliseconds until it must have answered. Default 30 000.
    pub timeout_ms: Option<u64>,
}

setters!(McpConnectOptions {
    name: String => Some;
    command: String;
    args: Vec<String>;
    env: BTreeMap<String, String>;
    cwd: String => Some;
    timeout_ms: u64 => Some;
});

/// A connection to an MCP server inside a workspace. The engine that made it holds it: other processes do not see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct McpConnection {
    /// What calls name it by.
    pub connection_id: String,
    /// What it is called.
    pub name: String,
    /// The version of the protocol that both speak.
    pub protocol_version: String,
    /// What the server calls itself.
    pub server_name: String,
    /// The server's own version.
    pub server_version: String,
    /// What the server wants to be told about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// What the server says it can do.
    pub capabilities: BTreeMap<String, Value>,
    /// Its tools as it describes them, at the time of the connection.
    pub tools: Vec<BTreeMap<String, Value>>,
    /// When it was connected, RFC 3339.
    pub connected_at: String,
    /// Whether it runs.
    pub running: bool,
    /// How its process ended, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<ExitStatus>,
    /// Why it does not run any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_because: Option<String>,
    /// The last 64 KiB that it wrote to its stderr.
    pub stderr: String,
    /// Requests of callers that it has yet to answer.
    pub pending: u64,
}

/// Connections of a workspace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct McpConnectionList {
    /// The connections, in the order they were made. Those that ended stay until they are closed.
    pub connections: Vec<McpConnection>,
}

/// Which connection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct McpConnectionOptions {
    /// The connection's id.
    pub connection_id: String,
}

setters!(McpConnectionOptions { connection_id: String; });

/// A message for an MCP server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct McpSendOptions {
    /// The connection's id.
    pub connection_id: String,
    /// A JSON-RPC 2.0 request or notification. `jsonrpc` may be left out. A request's `id` is the caller's own: the same one may be
    /// under way for others too.
    pub message: BTreeMap<String, Value>,
    /// Who sends it: callers of other names never meet in their ids. Default: all that give none are one.
    pub caller: String,
    /// Milliseconds until a request is given up, and the server told so; 0 for no limit. Default 60 000.
    pub timeout_ms: Option<u64>,
}

setters!(McpSendOptions {
    connection_id: String;
    message: BTreeMap<String, Value>;
    caller: String;
    timeout_ms: u64 => Some;
});

/// What an MCP server said without being asked, such as progress, a log message, or that its tools have changed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct McpNotification {
    /// The notification's method, such as `notifications/progress`.
    pub method: String,
    /// Its parameters; a progress token is the caller's own.
    pub params: BTreeMap<String, Value>,
    /// For progress: the `caller` of the request that it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// How many came before this one that the reader was too slow for.
    pub missed: u64,
}

/// What an MCP server answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct McpReply {
    /// The JSON-RPC response, with the `id` of the request; absent for a notification, which gets none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<BTreeMap<String, Value>>,
}
