use super::workspace::Phases;
use super::{PortMapping, setters};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How to make a workspace of another's version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SnapshotForkOptions {
    /// The version's number, from 1.
    pub version: u64,
    /// The id of the new workspace, which must not be there yet.
    pub new_id: String,
    /// Labels of the new container, besides those the library sets; the first workspace's own are not taken over.
    pub labels: BTreeMap<String, String>,
    /// Whether to start it. Default true.
    pub start: bool,
    /// Ports of the host that lead inside; the first workspace's own are not taken over.
    pub ports: Vec<PortMapping>,
}

impl Default for SnapshotForkOptions {
    fn default() -> Self {
        Self { version: 0, new_id: String::new(), labels: BTreeMap::new(), start: true, ports: Vec::new() }
    }
}

setters!(SnapshotForkOptions {
    version: u64;
    new_id: String;
    labels: BTreeMap<String, String>;
    start: bool;
    ports: Vec<PortMapping>;
});

/// A workspace that was made of another's version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct SnapshotForkResult {
    /// The new workspace.
    pub workspace_id: String,
    /// Its container.
    pub container_id: String,
    /// Its image, in the full form.
    pub image: String,
    /// The snapshotter.
    pub snapshotter: String,
    /// Whether it runs.
    pub started: bool,
    /// The workspace and the version it goes on from.
    pub from_workspace_id: String,
    /// The version it goes on from.
    pub from_version: u64,
    /// What took how long.
    pub phases_ms: Phases,
}
