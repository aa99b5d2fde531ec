use super::setters;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A command to run to its end, with its output collected. Exactly one of `command` and `args` must be given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RunOptions {
    /// The command line, given to `/bin/sh -c`.
    pub command: String,
    /// In place of `command`: a program with its arguments, started without a shell. It is looked up in `PATH` unless it
    /// has a slash.
    pub args: Vec<String>,
    /// Whom it runs as: a name or uid of the workspace's `/etc/passwd`, with an optional `:` and a group name or gid. A
    /// uid that is not there is allowed. Default: the agent's own, which is that of the image.
    pub user: Option<String>,
    /// The working directory; a relative one is under the data directory. Default: the data directory.
    pub work_dir: Option<String>,
    /// Environment variables over those of the agent.
    pub env: BTreeMap<String, String>,
    /// Whether it starts without the agent's environment variables; `PATH` is always there. Default false.
    pub env_clear: bool,
    /// Names of environment variables of the agent that it starts without; `env` comes after.
    pub env_unset: Vec<String>,
    /// Milliseconds until the process group is killed; 0 for no limit. Default 30 000.
    pub timeout_ms: Option<u64>,
    /// The most first bytes kept of each of stdout and stderr; what is beyond is counted and dropped. Default 16 MiB.
    pub max_output_bytes: Option<u64>,
    /// Of the bytes beyond `max_output_bytes`, how many last ones of each stream are kept too. Default 0.
    pub tail_bytes: u64,
}

setters!(RunOptions {
    command: String;
    args: Vec<String>;
    user: String => Some;
    work_dir: String => Some;
    env: BTreeMap<String, String>;
    env_clear: bool;
    env_unset: Vec<String>;
    timeout_ms: u64 => Some;
    max_output_bytes: u64 => Some;
    tail_bytes: u64;
});

/// A command to run with its streams open. Exactly one of `command` and `args` must be given; a terminal without either
/// gets the user's shell (see `exec.shell`), interactive and no login shell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ExecOptions {
    /// The command line, given to `/bin/sh -c`.
    pub command: String,
    /// In place of `command`: a program with its arguments, started without a shell. It is looked up in `PATH` unless it
    /// has a slash.
    pub args: Vec<String>,
    /// Whom it runs as: a name or uid of the workspace's `/etc/passwd`, with an optional `:` and a group name or gid. A
    /// uid that is not there is allowed. Default: the agent's own, which is that of the image.
    pub user: Option<String>,
    /// The working directory; a relative one is under the data directory. Default: the data directory.
    pub work_dir: Option<String>,
    /// Environment variables over those of the agent.
    pub env: BTreeMap<String, String>,
    /// Whether it starts without the agent's environment variables; `PATH` is always there. Default false.
    pub env_clear: bool,
    /// Names of environment variables of the agent that it starts without; `env` comes after.
    pub env_unset: Vec<String>,
    /// Milliseconds until the process group is killed. Default 0: no limit.
    pub timeout_ms: u64,
    /// Whether its stdin takes input; else it is at its end from the start. Default true.
    pub stdin: bool,
    /// Whether it gets a terminal. stdout then carries all its output. Default false.
    pub pty: bool,
    /// Columns of the terminal. Default 80.
    pub cols: Option<u32>,
    /// Rows of the terminal. Default 24.
    pub rows: Option<u32>,
    /// Milliseconds after which a terminal that neither takes input nor gives output is ended. Default 0: never.
    pub idle_timeout_ms: u64,
    /// Whether it becomes a session: it goes on when the host goes away, and keeps its latest output for whoever attaches.
    /// It ends by itself, by a signal, by its time limits, or with the workspace. It never waits for a reader: one that is
    /// slow loses the oldest output, and is told how much. Default false.
    pub detach: bool,
    /// The session's id: 1 to 64 letters, digits, dots, hyphens and underscores of ASCII. The id of a session that has
    /// ended can be taken again. Default: a random one.
    pub session_id: Option<String>,
    /// Bytes of output that the session keeps, at most 64 MiB; those of all that run, at most 256 MiB. Default 1 MiB.
    pub replay_bytes: Option<u64>,
}

impl Default for ExecOptions {
    fn default() -> Self {
        Self {
            command: String::new(),
            args: Vec::new(),
            user: None,
            work_dir: None,
            env: BTreeMap::new(),
            env_clear: false,
            env_unset: Vec::new(),
            timeout_ms: 0,
            stdin: true,
            pty: false,
            cols: None,
            rows: None,
            idle_timeout_ms: 0,
            detach: false,
            session_id: None,
            replay_bytes: None,
        }
    }
}

setters!(ExecOptions {
    command: String;
    args: Vec<String>;
    user: String => Some;
    work_dir: String => Some;
    env: BTreeMap<String, String>;
    env_clear: bool;
    env_unset: Vec<String>;
    timeout_ms: u64;
    stdin: bool;
    pty: bool;
    cols: u32 => Some;
    rows: u32 => Some;
    idle_timeout_ms: u64;
    detach: bool;
    session_id: String => Some;
    replay_bytes: u64 => Some;
});

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ExitStatus {
    /// Its exit code; 128 plus the signal when a signal ended it.
    pub exit_code: i32,
    /// The signal that ended it, if one did. Agents of the old protocol do not tell.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signal: Option<i32>,
    /// Whether its time limit ended it.
    pub timed_out: bool,
    /// Whether it was a terminal that was ended because nobody used it for so long.
    #[serde(default)]
    pub idle_timed_out: bool,
    /// Bytes of a session's output that this reader was too slow for.
    #[serde(default)]
    pub omitted_bytes: u64,
    /// The session it was, if it was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<String>,
}

/// A command that has run. Its stdout and stderr are bytes and travel beside this object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ExecResult {
    /// Its exit code; 128 plus the signal when a signal ended it.
    pub exit_code: i32,
    /// The signal that ended it, if one did. Agents of the old protocol do not tell.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signal: Option<i32>,
    /// Whether its time limit ended it.
    pub timed_out: bool,
    /// All bytes that it wrote to stdout.
    #[serde(default)]
    pub stdout_bytes: u64,
    /// All bytes that it wrote to stderr.
    #[serde(default)]
    pub stderr_bytes: u64,
    /// Bytes of stdout that are left out: beyond `max_output_bytes` and not among the last `tail_bytes`.
    pub stdout_dropped: u64,
    /// Bytes of stderr that are left out: beyond `max_output_bytes` and not among the last `tail_bytes`.
    pub stderr_dropped: u64,
    /// Where in the stdout that is returned they are left out: after so many bytes. Absent when none are.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stdout_cut_at: Option<u64>,
    /// Where in the stderr that is returned they are left out: after so many bytes. Absent when none are.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stderr_cut_at: Option<u64>,
    /// Milliseconds from the request to the end.
    pub duration_ms: u64,
}
