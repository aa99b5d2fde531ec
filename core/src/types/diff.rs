use super::{EntryKind, setters};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What to compare.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SnapshotDiffOptions {
    /// The version before; 0 for the image. Default: the version that `to` follows, or the image where it follows none.
    pub from: Option<u64>,
    /// The version after. Default: the workspace as it is now; what changes meanwhile may be seen or not.
    pub to: Option<u64>,
    /// The most changes to tell at once. Default 1000, at most 10000.
    pub limit: Option<u32>,
    /// Where to go on: the `next` of the page before.
    pub after: Option<String>,
}

setters!(SnapshotDiffOptions {
    from: u64 => Some;
    to: u64 => Some;
    limit: u32 => Some;
    after: String => Some;
});

/// A page of the changes between two versions, found while the page is made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct SnapshotDiff {
    /// The version before; 0 for the image.
    pub from: u64,
    /// The version after; none for the workspace as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// The changes, each directory before what is in it, and names in the order of their bytes.
    pub changes: Vec<SnapshotChange>,
    /// Pass it as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A path that is not the same in two versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct SnapshotChange {
    /// The path, absolute inside. Bytes that are no UTF-8 are shown as U+FFFD.
    pub path: String,
    /// What became of it.
    pub change: ChangeKind,
    /// What it is; for what was removed, what it was.
    pub kind: EntryKind,
    /// Its length in bytes; for what was removed, the length it had. 0 for directories.
    pub size: u64,
    /// What it was before, where it was there and is something else now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous_kind: Option<EntryKind>,
    /// The length it had, where it was there before and is still.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous_size: Option<u64>,
    /// What of it is different, for what was changed; else empty.
    #[serde(default)]
    pub aspects: Vec<ChangeAspect>,
}

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is different.
    Changed,
    /// It is gone.
    Removed,
}

/// In what a path is different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChangeAspect {
    /// It is of another type, such as a link where a file was.
    Type,
    /// Its bytes, a link's target, or a device's number.
    Content,
    /// Its permission bits.
    Mode,
    /// Its user or group.
    Owner,
    /// When it was last written; not told of directories.
    ModTime,
    /// Its extended attributes.
    Xattrs,
}
