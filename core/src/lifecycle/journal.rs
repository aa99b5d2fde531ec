use crate::types::CreateOptions;
use serde::{Deserialize, Serialize};

/// What a creation is about to make: every generated name, and what its record will say.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CreateIntent {
    pub(super) container_id: String,
    pub(super) snapshotter: String,
    pub(super) snapshot_key: String,
    /// The image's full name.
    pub(super) image: String,
    /// Whether the container gets a network of ours.
    pub(super) network: bool,
    pub(super) options: CreateOptions,
}

/// What a deletion is about to remove.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DeleteIntent {
    pub(super) container_id: String,
    pub(super) snapshotter: String,
    pub(super) snapshot_key: String,
    /// The snapshots of its versions, the newest first. Entries of older processes have none.
    #[serde(default)]
    pub(super) versions: Vec<String>,
}
