use super::setters;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A command to run to its end, with its output collected.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RunOptions {
    /// The command line, given to `/bin/sh -c`.
    pub command: String,
    /// The working directory; a relative one is under the data directory. Default: the data directory.
    pub work_dir: Option<String>,
    /// Environment variables over those of the agent.
    pub env: BTreeMap<String, String>,
    /// Milliseconds until the process group is killed; 0 for no limit. Default 30 000.
    pub timeout_ms: Option<u64>,
    /// The most bytes kept of each of stdout and stderr; what is beyond is counted and dropped. Default 16 MiB.
    pub max_output_bytes: Option<u64>,
}

setters!(RunOptions {
    command: String;
    work_dir: String => Some;
    env: BTreeMap<String, String>;
    timeout_ms: u64 => Some;
    max_output_bytes: u64 => Some;
});

/// A command to run with its streams open.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ExecOptions {
    /// The command line, given to `/bin/sh -c`.
    pub command: String,
    /// The working directory; a relative one is under the data directory. Default: the data directory.
    pub work_dir: Option<String>,
    /// Environment variables over those of the agent.
    pub env: BTreeMap<String, String>,
    /// Milliseconds until the process group is killed. Default 0: no limit.
    pub timeout_ms: u64,
    /// Whether it gets a terminal. stdout then carries all its output. Default false.
    pub pty: bool,
    /// Columns of the terminal. Default 80.
    pub cols: Option<u32>,
    /// Rows of the terminal. Default 24.
    pub rows: Option<u32>,
}

setters!(ExecOptions {
    command: String;
    work_dir: String => Some;
    env: BTreeMap<String, String>;
    timeout_ms: u64;
    pty: bool;
    cols: u32 => Some;
    rows: u32 => Some;
});

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ExitStatus {
    /// Its exit code; 128 plus the signal when a signal ended it.
    pub exit_code: i32,
    /// The signal that ended it, if one did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signal: Option<i32>,
    /// Whether its time limit ended it.
    pub timed_out: bool,
}

/// A command that has run. Its stdout and stderr are bytes and travel beside this object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ExecResult {
    /// Its exit code; 128 plus the signal when a signal ended it.
    pub exit_code: i32,
    /// The signal that ended it, if one did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signal: Option<i32>,
    /// Whether its time limit ended it.
    pub timed_out: bool,
    /// Bytes of stdout that were beyond `max_output_bytes`.
    pub stdout_dropped: u64,
    /// Bytes of stderr that were beyond `max_output_bytes`.
    pub stderr_dropped: u64,
    /// Milliseconds from the request to the end.
    pub duration_ms: u64,
}
