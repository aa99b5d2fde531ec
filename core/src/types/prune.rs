use super::setters;
use super::workspace::Phases;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which version to remove.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SnapshotDeleteOptions {
    /// The version's number, from 1.
    pub version: u64,
    /// Whether to make it one with what stands on it, where something does; a workspace that runs is stopped for that and
    /// runs again afterwards. Default false: then it is refused.
    pub squash: bool,
    /// Milliseconds from SIGTERM to SIGKILL for the first process; `time_limits.stop_ms` by default.
    pub grace_ms: Option<u64>,
}

setters!(SnapshotDeleteOptions {
    version: u64;
    squash: bool;
    grace_ms: u64 => Some;
});

/// Which versions to keep. All others are removed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SnapshotPruneOptions {
    /// The newest so many are kept. It or `older_than_s` must be given.
    pub keep_last: Option<u64>,
    /// Those that were given a name are kept. Default false.
    pub keep_named: bool,
    /// Those made within the last so many seconds are kept.
    pub older_than_s: Option<u64>,
    /// Only tells what would be removed. Default false.
    pub dry_run: bool,
    /// Milliseconds from SIGTERM to SIGKILL for the first process; `time_limits.stop_ms` by default.
    pub grace_ms: Option<u64>,
}

setters!(SnapshotPruneOptions {
    keep_last: u64 => Some;
    keep_named: bool;
    older_than_s: u64 => Some;
    dry_run: bool;
    grace_ms: u64 => Some;
});

/// What a removal of versions did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct SnapshotPruneResult {
    /// The workspace's container.
    pub container_id: String,
    /// The versions that were removed, ordered by number.
    pub removed: Vec<u64>,
    /// The versions that are kept, ordered by number.
    pub kept: Vec<u64>,
    /// The snapshots that are gone from the snapshotter, by their names there.
    pub removed_snapshots: Vec<String>,
    /// Snapshots of removed versions on which another workspace stands: they go with that workspace.
    pub left_to_others: Vec<String>,
    /// Bytes that were freed, as the snapshotter measures: files that kept versions need still are not counted.
    pub freed_bytes: u64,
    /// Milliseconds from the stop of the workspace until its agent answered again; 0 when it was not stopped.
    pub downtime_ms: u64,
    /// What took how long.
    pub phases_ms: Phases,
}
