use super::setters;
use super::workspace::Phases;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How to make a version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SnapshotCreateOptions {
    /// What people call it, at most 200 characters; without one it is called `Version <number>`.
    pub name: Option<String>,
    /// Why it is made: `manual` (default), `pre_exec`, `rollback`, or a word of the host's own of 1 to 64 characters of
    /// `A-Z`, `a-z`, `0-9`, `_` and `-`.
    pub source: Option<String>,
    /// Milliseconds from SIGTERM to SIGKILL for the first process; `time_limits.stop_ms` by default.
    pub grace_ms: Option<u64>,
}

setters!(SnapshotCreateOptions {
    name: String => Some;
    source: String => Some;
    grace_ms: u64 => Some;
});

/// A version that was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct SnapshotCreateResult {
    /// The workspace's container.
    pub container_id: String,
    /// What the version is called: its display name, else `Version <number>`.
    pub snapshot_name: String,
    /// The committed snapshot's name in the snapshotter.
    pub runtime_snapshot_name: String,
    /// The name that was given; empty without one.
    pub display_name: String,
    /// The snapshotter.
    pub snapshotter: String,
    /// Its number, from 1.
    pub version: u64,
    /// Why it was made.
    pub source: String,
    /// When, RFC 3339.
    pub created_at: String,
    /// Milliseconds from the stop of the workspace until its agent answered again; 0 for a workspace that did not run.
    pub downtime_ms: u64,
    /// What took how long.
    pub phases_ms: Phases,
}

/// Which lineage to tell.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SnapshotListOptions {
    /// The snapshotter, which must be the workspace's own; that is the default.
    pub snapshotter: Option<String>,
}

setters!(SnapshotListOptions {
    snapshotter: String => Some;
});

/// The snapshots of a workspace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct SnapshotList {
    /// The snapshotter they are in.
    pub snapshotter: String,
    /// From the writable one down to the image's lowest layer, and the versions beside that line; ordered by
    /// `created_at`, then by name.
    pub snapshots: Vec<SnapshotInfo>,
}

/// One snapshot of a workspace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct SnapshotInfo {
    /// The snapshotter it is in.
    pub snapshotter: String,
    /// What it is called: its display name, else `Version <number>`, else its name in the snapshotter.
    pub name: String,
    /// The name that was given; empty without one.
    pub display_name: String,
    /// Its name in the snapshotter.
    pub runtime_snapshot_name: String,
    /// The snapshot it stands on, by its name in the snapshotter; empty for the lowest.
    pub parent: String,
    /// `active` for the writable one, `committed` for all others.
    pub kind: String,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When it was changed last, RFC 3339.
    pub updated_at: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Why it was made: what its version's creation said; `image_layer` for the image's; `managed` for the writable one.
    pub source: String,
    /// Whether it is a version of this workspace.
    pub managed: bool,
    /// The version's number; none for other snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// Where to go back to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SnapshotRollbackOptions {
    /// The version's number, from 1.
    pub version: u64,
    /// Whether to drop what is left instead of keeping it as a version. Default false.
    pub discard: bool,
    /// Milliseconds from SIGTERM to SIGKILL for the first process; `time_limits.stop_ms` by default.
    pub grace_ms: Option<u64>,
}

setters!(SnapshotRollbackOptions {
    version: u64;
    discard: bool;
    grace_ms: u64 => Some;
});

/// A rollback that was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct SnapshotRollbackResult {
    /// The workspace's container.
    pub container_id: String,
    /// The version it went back to.
    pub version: u64,
    /// What that version is called.
    pub snapshot_name: String,
    /// The version that keeps what was left; none when it was discarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_version: Option<u64>,
    /// Milliseconds from the stop of the workspace until its agent answered again; 0 for a workspace that did not run.
    pub downtime_ms: u64,
    /// What took how long.
    pub phases_ms: Phases,
}
