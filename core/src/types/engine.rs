use super::{WorkspaceStatus, setters};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the engine and what lies below it are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Health {
    /// The version of this library.
    pub version: String,
    /// Whether workspaces can be served: the backend answers and the store can be written.
    pub healthy: bool,
    /// What is wrong, one sentence each; empty when healthy.
    pub problems: Vec<String>,
    /// The backend.
    pub backend: BackendHealth,
    /// Operations under way in this engine.
    pub operations: u64,
    /// The directory of everything that lasts.
    pub data_root: String,
}

/// The backend, as it answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct BackendHealth {
    /// Its kind, such as `containerd`.
    pub kind: String,
    /// Where it was reached.
    pub address: String,
    /// Whether it answers now.
    pub reachable: bool,
    /// Its version; empty when it does not answer.
    pub version: String,
    /// What it can do, by name: `snapshots`, `network`, `exec`, `pause`, `metrics`.
    pub capabilities: Vec<String>,
}

/// Which workspaces to list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ListOptions {
    /// The most to return. Default 0: all.
    pub limit: u32,
    /// Where to go on: the `next` of the page before.
    pub after: Option<String>,
}

setters!(ListOptions { limit: u32; after: String => Some; });

/// A page of workspaces, ordered by id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct WorkspaceList {
    /// The workspaces.
    pub workspaces: Vec<WorkspaceSummary>,
    /// Pass it as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

/// A workspace in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct WorkspaceSummary {
    /// The workspace's id.
    pub workspace_id: String,
    /// Its container.
    pub container_id: String,
    /// Its image, in the full form.
    pub image: String,
    /// What it does now.
    pub status: WorkspaceStatus,
    /// Whether an older implementation made it.
    pub legacy: bool,
    /// When its container was made, RFC 3339, UTC.
    pub created_at: String,
}
