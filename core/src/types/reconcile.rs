use super::setters;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How to put all workspaces in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ReconcileOptions {
    /// How many workspaces are worked on at a time. Default 0: two for each processor.
    pub parallelism: u32,
}

setters!(ReconcileOptions { parallelism: u32; });

/// What became of all workspaces, ordered by id.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct ReconcileResult {
    /// Each workspace.
    pub workspaces: Vec<ReconciledWorkspace>,
    /// How many could not be put in order.
    pub failed: u64,
}

/// What became of one workspace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ReconciledWorkspace {
    /// The workspace.
    pub workspace_id: String,
    /// How it was found, or what was done.
    pub outcome: ReconcileOutcome,
    /// The names of snapshots that no container stood on and whose content is kept: the writable one of a container
    /// that was gone, or versions that were made of others.
    pub recovered_snapshots: Vec<String>,
    /// What went wrong, where it failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// The error's stable name, where it failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<String>,
}

/// How a workspace was found, or what was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReconcileOutcome {
    /// It ran; its network was looked after.
    Running,
    /// It was to run and did not: it was started.
    Started,
    /// Its container was missing and was made anew.
    Rebuilt,
    /// It is not to run: it is left as it is.
    Stopped,
    /// It could not be put in order.
    Failed,
}

/// Which leftovers to remove.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct GcOptions {
    /// Only tells what would be removed. Default false.
    pub dry_run: bool,
}

setters!(GcOptions { dry_run: bool; });

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct GcResult {
    /// Snapshots, by their names in the snapshotter.
    pub snapshots: Vec<String>,
    /// Directories of workspaces that are gone.
    pub directories: Vec<String>,
    /// Networks of containers that are gone, by the containers' names.
    pub networks: Vec<String>,
    /// Bytes of the snapshots, as the snapshotter measures.
    pub freed_bytes: u64,
    /// What could not be looked at or removed, a sentence each; the rest was done all the same.
    pub problems: Vec<String>,
}
