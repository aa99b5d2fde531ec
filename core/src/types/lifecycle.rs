use super::setters;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which lifecycle events to follow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct EventsOptions {
    /// The id of the one workspace to tell of. Default: all, and what belongs to none.
    pub workspace: Option<String>,
    /// The sequence number to go on after: 0 tells all that is kept. Default: only what happens from now on; everything
    /// that is kept when `follow` is false.
    pub after: Option<u64>,
    /// Whether to go on with what happens once all that is kept is told. Default true.
    pub follow: bool,
}

impl Default for EventsOptions {
    fn default() -> Self {
        Self { workspace: None, after: None, follow: true }
    }
}

setters!(EventsOptions {
    workspace: String => Some;
    after: u64 => Some;
    follow: bool;
});

/// What a lifecycle event tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LifecycleKind {
    /// A workspace was made; `image` names what of.
    Create,
    /// A workspace's first process was started.
    Start,
    /// A workspace was stopped, and is to stay so; `exit_code` tells how its first process ended, if one ran.
    Stop,
    /// A first process ended, by itself or because it was ended; `exit_code` tells how.
    Exit,
    /// A process inside was killed for want of memory.
    Oom,
    /// A version was made; `version` tells its number.
    Snapshot,
    /// A workspace went back to `version`.
    Rollback,
    /// A workspace was made from a version of another.
    Fork,
    /// A workspace was made anew of `image`; what it was is `version`.
    Recreate,
    /// A workspace was removed.
    Delete,
    /// An image was fetched; without a workspace when nobody made one of it.
    Pull,
    /// A first process that had ended was started again by the workspace's restart policy, or that failed, or was given
    /// up; `attempt`, `pause_ms` and `message` tell.
    Restart,
}

/// Something that happened to a workspace. Programs must ignore fields and kinds they do not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct LifecycleEvent {
    /// Its number: the next event of the same data root has the next number. What was dropped for its age leaves a gap
    /// before the oldest event, never between two.
    pub sequence: u64,
    /// When it happened, RFC 3339, UTC. Two events that are told in turn may have happened the other way round.
    pub at: String,
    /// What it tells.
    pub kind: LifecycleKind,
    /// The workspace's id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub workspace_id: Option<String>,
    /// Its container.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container_id: Option<String>,
    /// The image, in the full form.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub image: Option<String>,
    /// The version's number.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<u64>,
    /// How the first process ended: its exit code, or 128 and the number of the signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit_code: Option<u32>,
    /// On `exit`: that the first process was killed for want of memory, where that is known; absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub out_of_memory: Option<bool>,
    /// The operation that did it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub operation_id: Option<String>,
    /// Which attempt in a row to keep the workspace running this was, from 1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attempt: Option<u32>,
    /// Milliseconds that the attempt was put off.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pause_ms: Option<u64>,
    /// What there is to say for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
}
