use super::setters;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which versions to tell.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct VersionsOptions {
    /// The most to return. Default 0: all.
    pub limit: u32,
    /// Only versions above this number: the `next` of the page before.
    pub after: u64,
}

setters!(VersionsOptions { limit: u32; after: u64; });

/// A page of versions, ordered by number.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct VersionList {
    /// The versions.
    pub versions: Vec<SnapshotVersion>,
    /// The version that the workspace goes on from; none while it goes on from its image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<u64>,
    /// Pass it as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// A version of a workspace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct SnapshotVersion {
    /// Its number, from 1; never given twice.
    pub version: u64,
    /// What it is called: its display name, else `Version <number>`.
    pub name: String,
    /// The name that was given; empty without one.
    pub display_name: String,
    /// Why it was made.
    pub source: String,
    /// When, RFC 3339.
    pub created_at: String,
    /// The committed snapshot's name in the snapshotter.
    pub runtime_snapshot_name: String,
    /// The version it goes on from; none where that is the image, or another workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follows: Option<u64>,
    /// The versions that go on from it, ordered by number.
    pub followed_by: Vec<u64>,
    /// Whether it is the one the workspace goes on from.
    pub current: bool,
}

/// How to show the history.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TreeOptions {
    /// A text to draw it from, besides the versions. Default none.
    pub format: Option<TreeFormat>,
}

setters!(TreeOptions { format: TreeFormat => Some; });

/// A language of graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TreeFormat {
    /// A Mermaid flowchart, <https://mermaid.js.org/syntax/flowchart.html>.
    Mermaid,
    /// A graph in Graphviz's DOT, <https://graphviz.org/doc/info/lang.html>.
    Dot,
}

/// The whole history of a workspace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct VersionTree {
    /// All versions, ordered by number; what follows what tells the tree.
    pub versions: Vec<SnapshotVersion>,
    /// The versions that follow none, ordered by number.
    pub roots: Vec<u64>,
    /// The version that the workspace goes on from; none while it goes on from its image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<u64>,
    /// The drawing, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}
