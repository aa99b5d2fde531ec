use super::{DirEntry, DirProblem, setters};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which tree to walk, page by page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct WalkOptions {
    /// The directory; a relative one is under the data directory, which is the default.
    pub path: Option<String>,
    /// How many directories deep; 1 is the directory itself. Default: no limit.
    pub max_depth: Option<u32>,
    /// The most entries of a page, up to 10000. Default 1000.
    pub limit: u32,
    /// Where to go on: `next` of the page before. Default: at the beginning.
    pub after: Option<String>,
    /// Patterns of what to tell. One without a slash is for names at any depth, others for paths below the directory; `*`
    /// stays within a name, `**` does not. Default: everything.
    pub include: Vec<String>,
    /// Patterns of what to leave out, with all that is below it. Default: nothing.
    pub exclude: Vec<String>,
}

impl Default for WalkOptions {
    fn default() -> Self {
        Self {
            path: None,
            max_depth: None,
            limit: 1000,
            after: None,
            include: Vec::new(),
            exclude: Vec::new(),
        }
    }
}

setters!(WalkOptions {
    path: String => Some;
    max_depth: u32 => Some;
    limit: u32;
    after: String => Some;
    include: Vec<String>;
    exclude: Vec<String>;
});

/// A page of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct WalkPage {
    /// The directory, absolute.
    pub path: String,
    /// Entries below it: those of a directory by name, each followed by what it holds. Fewer than the limit, or none, where
    /// a page took long.
    pub entries: Vec<DirEntry>,
    /// Where the next page begins; opaque. None after the last page.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
    /// What could not be looked at; the rest is told all the same. At most 1000.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub problems: Vec<DirProblem>,
}

/// Which names to look for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct GlobOptions {
    /// The pattern, of a path below `path`: `*` and `?` stay within a name, `**` does not; `{a,b}` and `[x-y]` are choices.
    /// Upper and lower case are not the same.
    pub pattern: String,
    /// Where to begin; a relative path is under the data directory, which is the default.
    pub path: Option<String>,
    /// The most entries, up to 100000. Default 10000.
    pub limit: u32,
    /// Whether names that begin with a dot match without the pattern naming the dot. Default false.
    pub hidden: bool,
}

impl Default for GlobOptions {
    fn default() -> Self {
        Self { pattern: String::new(), path: None, limit: 10_000, hidden: false }
    }
}

setters!(GlobOptions { pattern: String; path: String => Some; limit: u32; hidden: bool; });

/// What matches a pattern of names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct GlobResult {
    /// What matches, ordered as a walk is.
    pub entries: Vec<DirEntry>,
    /// Whether there is more than the limit.
    pub truncated: bool,
    /// What could not be looked at. At most 1000.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub problems: Vec<DirProblem>,
}

/// Which text to look for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct GrepOptions {
    /// A regular expression, in the syntax of Rust's `regex`, within one line.
    pub pattern: String,
    /// The directory or file to search; a relative path is under the data directory, which is the default.
    pub path: Option<String>,
    /// Patterns of the files to search, as for a walk. Default: all.
    pub include: Vec<String>,
    /// Patterns of what to leave out, with all that is below it. Default: nothing.
    pub exclude: Vec<String>,
    /// Whether upper and lower case are the same. Default false.
    pub ignore_case: bool,
    /// Whether the pattern is text as it is, and no expression. Default false.
    pub fixed_strings: bool,
    /// Whether only whole words match. Default false.
    pub word: bool,
    /// Whether to search files and directories whose names begin with a dot. Default false.
    pub hidden: bool,
    /// Whether to leave out what `.gitignore` and `.ignore` say. Default true.
    pub respect_ignore: bool,
    /// The most matches, up to 10000. Default 1000.
    pub max_matches: u32,
    /// The most matches of one file. Default: no limit.
    pub max_matches_per_file: Option<u32>,
    /// Lines before each match, up to 50. Default 0.
    pub context_before: u32,
    /// Lines after each match, up to 50. Default 0.
    pub context_after: u32,
    /// The most bytes of a line that are told, up to 10000. Default 2000.
    pub max_line_bytes: u32,
}

impl Default for GrepOptions {
    fn default() -> Self {
        Self {
            pattern: String::new(),
            path: None,
            include: Vec::new(),
            exclude: Vec::new(),
            ignore_case: false,
            fixed_strings: false,
            word: false,
            hidden: false,
            respect_ignore: true,
            max_matches: 1000,
            max_matches_per_file: None,
            context_before: 0,
            context_after: 0,
            max_line_bytes: 2000,
        }
    }
}

setters!(GrepOptions {
    pattern: String;
    path: String => Some;
    include: Vec<String>;
    exclude: Vec<String>;
    ignore_case: bool;
    fixed_strings: bool;
    word: bool;
    hidden: bool;
    respect_ignore: bool;
    max_matches: u32;
    max_matches_per_file: u32 => Some;
    context_before: u32;
    context_after: u32;
    max_line_bytes: u32;
});

/// A line that matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct GrepMatch {
    /// The file, absolute inside the workspace.
    pub path: String,
    /// The line's number, from 1.
    pub line: u64,
    /// The first byte of the match in its line, from 1.
    pub column: u64,
    /// The line, without its end.
    pub text: String,
    /// The lines before it, as far as they were asked for.
    pub before: Vec<String>,
    /// The lines after it, as far as they were asked for.
    pub after: Vec<String>,
    /// Whether `text` was cut at `max_line_bytes`.
    pub truncated: bool,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct GrepResult {
    /// The matches, ordered by path as a walk is, then by line.
    pub matches: Vec<GrepMatch>,
    /// Files that were searched; binary ones, with a NUL byte, are among them and have no matches.
    pub files_searched: u64,
    /// Files with matches.
    pub files_matched: u64,
    /// Whether there is more than `max_matches` or than 16 MiB, so that the search ended early.
    pub truncated: bool,
    /// What could not be searched. At most 1000.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub problems: Vec<DirProblem>,
}
