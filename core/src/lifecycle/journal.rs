use super::seed::SeedIntent;
use crate::types::CreateOptions;
use serde::{Deserialize, Serialize};

/// What a creation is about to make: every generated name, and what its record will say.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CreateIntent {
    pub(super) container_id: String,
    pub(super) snapshotter: String,
    pub(super) snapshot_key: String,
    /// Whether the snapshot was there before, with what a container that is gone has left: then it stays whatever happens.
    #[serde(default)]
    pub(super) adopted: bool,
    /// The image's full name.
    pub(super) image: String,
    /// Whether the container gets a network of ours.
    pub(super) network: bool,
    pub(super) options: CreateOptions,
    /// The data that it begins with.
    #[serde(default)]
    pub(super) seed: SeedIntent,
}

/// What a deletion is about to remove.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DeleteIntent {
    pub(super) container_id: String,
    pub(super) snapshotter: String,
    pub(super) snapshot_key: String,
    /// Its other snapshots, in the order in which they can go. Entries of older processes have none.
    #[serde(default)]
    pub(super) others: Vec<String>,
}
