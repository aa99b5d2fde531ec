use super::setters;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which symbolic link to make.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SymlinkOptions {
    /// What the link says, as it is: it need not be there, and a relative one is seen from the link's directory.
    pub target: String,
    /// The link; a relative path is under the data directory. Missing parents are made.
    pub path: String,
    /// Whether to replace a file or link that is there, at once; never a directory. Default false.
    pub overwrite: bool,
}

setters!(SymlinkOptions { target: String; path: String; overwrite: bool; });

/// Whose permission bits to change.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ChmodOptions {
    /// The path; a relative one is under the data directory. A symbolic link is followed.
    pub path: String,
    /// The bits in octal, such as `0644`; at most `7777`.
    pub mode: String,
    /// Whether to change all that is below a directory too; symbolic links there are passed over. Default false.
    pub recursive: bool,
}

setters!(ChmodOptions { path: String; mode: String; recursive: bool; });

/// Whose owner to change.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ChownOptions {
    /// The path; a relative one is under the data directory. A symbolic link is changed itself.
    pub path: String,
    /// The owner: `user`, `user:group` or `:group`, by names that the workspace knows or by numbers. What is not named
    /// stays.
    pub owner: String,
    /// Whether to change all that is below a directory too. Default false.
    pub recursive: bool,
}

setters!(ChownOptions { path: String; owner: String; recursive: bool; });

/// What a change of mode or owner did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ChangeResult {
    /// Files, directories and links that were set, whether they were so before or not.
    pub entries: u64,
}

/// What to copy inside.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CopyOptions {
    /// The file or directory; a relative path is under the data directory. A symbolic link is copied itself.
    pub from: String,
    /// The path of the copy, not of a directory to put it into; a relative one is under the data directory. Missing
    /// parents are made.
    pub to: String,
    /// Whether to replace what is there. Default false.
    pub overwrite: bool,
}

setters!(CopyOptions { from: String; to: String; overwrite: bool; });

/// What a copy made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct CopyResult {
    /// Files, directories, links and special files.
    pub entries: u64,
    /// Bytes of the files, holes among them.
    pub bytes: u64,
    /// Sockets, which are left out.
    pub skipped: u64,
}
