use crate::names::WorkspaceId;
use crate::types::CreateOptions;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is kept of a workspace.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WorkspaceRecord {
    pub(crate) id: WorkspaceId,
    pub(crate) container_id: String,
    pub(crate) image: String,
    pub(crate) namespace: String,
    pub(crate) snapshotter: String,
    pub(crate) snapshot_key: String,
    pub(crate) container_path: String,
    /// Whether it is to run: false once a user has stopped it.
    pub(crate) auto_start: bool,
    /// Whether its first process has ever run.
    pub(crate) started: bool,
    /// The options of its creation, for making its container anew.
    pub(crate) options: CreateOptions,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// A version of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionRecord {
    /// From 1; unique in the workspace.
    pub(crate) version: u64,
    pub(crate) container_id: String,
    pub(crate) snapshotter: String,
    /// The committed snapshot's name in the snapshotter.
    pub(crate) snapshot: String,
    /// The snapshot it stands on.
    pub(crate) parent: String,
    /// Empty where the user gave none.
    pub(crate) display_name: String,
    pub(crate) source: String,
    pub(crate) created_at: Timestamp,
    /// The version it goes on from; none where that is the image, or another workspace's.
    #[serde(default)]
    pub(crate) follows: Option<u64>,
    /// How many layers it has above the image, itself among them.
    #[serde(default)]
    pub(crate) depth: u32,
}

/// The versions of a workspace, as they are kept here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct VersionRecords {
    /// Which history they are of; empty while there is none.
    pub(crate) stamp: String,
    /// Ordered by number.
    pub(crate) versions: Vec<VersionRecord>,
}

/// How a workspace's first process was kept running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restarts {
    /// How often in a row it was started again by itself, or was tried to.
    pub(crate) count: u32,
    /// The end after which that was done last.
    pub(crate) after: Option<String>,
    /// When it was last started.
    pub(crate) started_at: Option<Timestamp>,
}
