use super::setters;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// The agent does not tell.
    Unknown,
}

/// A file or directory inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct DirEntry {
    /// Its path, absolute inside the workspace.
    pub path: String,
    /// The last component of its path.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Its length in bytes.
    pub size: u64,
    /// Its permission bits with setuid, setgid and sticky, in octal, such as `0644`.
    pub mode: String,
    /// When it was last changed, RFC 3339.
    pub mod_time: String,
    /// The number of its owner. None where the agent does not tell.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// The number of its group. None where the agent does not tell.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gid: Option<u32>,
    /// What a symbolic link says. None for all else.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub link_target: Option<String>,
    /// What it is now, to be given to a write as `expected_revision`; opaque. Another file, length or time of change is
    /// another revision. Only in a stat.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revision: Option<String>,
}

/// Which path to look at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct StatOptions {
    /// The path; a relative one is under the data directory. Default `/`.
    pub path: Option<String>,
    /// Whether to look at what a symbolic link leads to, and not at the link. Default true.
    pub follow: bool,
}

impl Default for StatOptions {
    fn default() -> Self {
        Self { path: None, follow: true }
    }
}

setters!(StatOptions { path: String => Some; follow: bool; });

/// Which directory to list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ListDirOptions {
    /// The directory; a relative one is under the data directory. Default `/`.
    pub path: Option<String>,
    /// Whether to list what is below it too. Default false.
    pub recursive: bool,
}

setters!(ListDirOptions { path: String => Some; recursive: bool; });

/// What is in a directory, ordered by path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct DirList {
    /// The directory, absolute.
    pub path: String,
    /// What is in it.
    pub entries: Vec<DirEntry>,
    /// What could not be looked at; the rest is listed all the same. At most 1000.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub problems: Vec<DirProblem>,
}

/// A place that a listing could not look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct DirProblem {
    /// Its path, absolute inside the workspace.
    pub path: String,
    /// Why, such as `permission denied`.
    pub message: String,
}

/// Which bytes to read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ReadOptions {
    /// The file; a relative path is under the data directory.
    pub path: String,
    /// The first byte. Beyond the end there is nothing, which is no error. Default 0.
    pub offset: u64,
    /// The most bytes to read. Default: to the end.
    pub length: Option<u64>,
    /// The most bytes to take into memory; more of the file is RESOURCE_EXHAUSTED. Default 1 GiB.
    pub max_bytes: Option<u64>,
}

setters!(ReadOptions { path: String; offset: u64; length: u64 => Some; max_bytes: u64 => Some; });

/// Which file to read piece by piece.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct OpenReadOptions {
    /// The file; a relative path is under the data directory.
    pub path: String,
    /// The first byte. Beyond the end there is nothing, which is no error. Default 0.
    pub offset: u64,
    /// The most bytes to read. Default: to the end.
    pub length: Option<u64>,
}

setters!(OpenReadOptions { path: String; offset: u64; length: u64 => Some; });

/// Which lines to read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ReadTextOptions {
    /// The file; a relative path is under the data directory.
    pub path: String,
    /// The first line, from 1. Default 1.
    pub line_offset: u32,
    /// The most lines; at most 200. Default 200.
    pub n_lines: u32,
}

setters!(ReadTextOptions { path: String; line_offset: u32; n_lines: u32; });

/// A piece of a text file, bounded for readers that pay by the word: 200 lines, 5120 bytes, 1000 characters a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct TextFile {
    /// The lines asked for.
    pub content: String,
    /// How many lines the file has.
    pub total_lines: u32,
    /// Whether it is no text: it has a NUL in its first 8 KiB. `content` is then empty.
    pub binary: bool,
}

/// Where to write. The bytes travel beside this object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct WriteOptions {
    /// The file; a relative path is under the data directory. Missing parents are made. The file is replaced at once or
    /// not at all, and keeps its mode and owner.
    pub path: String,
    /// Its permission bits in octal, such as `0644`, at most `7777`. Default: those of the file replaced, else `0644`.
    pub mode: Option<String>,
    /// What must be there, else the write is CONFLICT and changes nothing: the `revision` that a stat or a write told, or
    /// `absent` for nothing. Default: whatever is there.
    pub expected_revision: Option<String>,
}

setters!(WriteOptions { path: String; mode: String => Some; expected_revision: String => Some; });

/// What a write did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct WriteResult {
    /// Bytes written.
    pub bytes_written: u64,
    /// The revision of the new file. None where the agent does not tell.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revision: Option<String>,
}

/// Which file of the host to copy inside.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct UploadOptions {
    /// The file on the host.
    pub source: String,
    /// The file inside; a relative path is under the data directory. Missing parents are made.
    pub path: String,
    /// Its permission bits in octal, such as `0644`, at most `7777`. Default: those of the file replaced, else `0644`.
    pub mode: Option<String>,
    /// What must be there, else the write is CONFLICT and changes nothing: the `revision` that a stat or a write told, or
    /// `absent` for nothing. Default: whatever is there.
    pub expected_revision: Option<String>,
}

setters!(UploadOptions {
    source: String;
    path: String;
    mode: String => Some;
    expected_revision: String => Some;
});

/// Which file to copy to the host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DownloadOptions {
    /// The file inside; a relative path is under the data directory.
    pub path: String,
    /// The file on the host; its directory must exist. It is replaced at once or not at all.
    pub destination: String,
}

setters!(DownloadOptions { path: String; destination: String; });

/// What a download did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct DownloadResult {
    /// Bytes written to the host.
    pub bytes_read: u64,
}

/// Which directory to make.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MkdirOptions {
    /// The directory; a relative path is under the data directory. Missing parents are made; one that is there is no
    /// error.
    pub path: String,
}

setters!(MkdirOptions { path: String; });

/// What to rename.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RenameOptions {
    /// The path now; a relative one is under the data directory.
    pub from: String,
    /// The path then; a relative one is under the data directory.
    pub to: String,
}

setters!(RenameOptions { from: String; to: String; });

/// What to remove.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RemoveOptions {
    /// The path; a relative one is under the data directory. One that is not there is no error; `/` is
    /// PERMISSION_DENIED.
    pub path: String,
    /// Whether to remove a directory with what is in it. Default false.
    pub recursive: bool,
}

setters!(RemoveOptions { path: String; recursive: bool; });
