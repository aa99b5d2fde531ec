use super::setters;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which directory to watch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct WatchOptions {
    /// The directory; a relative one is under the data directory, which is the default.
    pub path: Option<String>,
    /// Whether to watch all that is below it too, up to 65536 directories. Default false.
    pub recursive: bool,
    /// Patterns of what to leave out, as for a walk. Default: nothing.
    pub exclude: Vec<String>,
}

setters!(WatchOptions { path: String => Some; recursive: bool; exclude: Vec<String>; });

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FileEventKind {
    /// It is new here.
    Created,
    /// Its content, mode or owner changed, or another file took its place.
    Changed,
    /// It is gone, or has gone elsewhere.
    Removed,
    /// It has another name.
    Renamed,
    /// More happened than could be told: look again.
    Overflow,
}

/// Something that happened in a directory that is watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct FileEvent {
    /// What happened.
    pub kind: FileEventKind,
    /// The path, absolute inside the workspace; for an overflow, that of the directory watched.
    pub path: String,
    /// The path before, of what was renamed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
    /// Whether it is a directory.
    pub is_dir: bool,
}
