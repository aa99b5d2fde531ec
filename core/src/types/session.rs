use super::setters;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of `exec.sessions`: none yet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SessionsOptions {}

/// The sessions of a workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct SessionList {
    /// Those that run, and the last 64 that have ended within the last 10 minutes, in the order in which they began.
    pub sessions: Vec<SessionInfo>,
}

/// A command that goes on without a reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its id.
    pub session_id: String,
    /// Its command line, or its program and arguments; at most 1 KiB of it.
    pub command: String,
    /// Its process id inside the workspace.
    pub pid: i32,
    /// Whom it runs as: a name, or a uid that has none.
    pub user: String,
    /// When it began, in RFC 3339.
    pub started_at: String,
    /// Whether it has not ended yet.
    pub running: bool,
    /// Its exit code, once it has ended; 128 plus the signal when a signal ended it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit_code: Option<i32>,
    /// The signal that ended it, if one did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signal: Option<i32>,
    /// Whether its time limit ended it.
    pub timed_out: bool,
    /// Whether it was ended because nobody used its terminal for so long.
    pub idle_timed_out: bool,
    /// Whether it has a terminal.
    pub pty: bool,
    /// How many are attached to it now.
    pub attached: u32,
    /// All bytes that it wrote to stdout so far.
    pub stdout_bytes: u64,
    /// All bytes that it wrote to stderr so far.
    pub stderr_bytes: u64,
    /// How many of these, the latest, are kept.
    pub buffered_bytes: u64,
}

/// Which session to attach to, and from where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct AttachOptions {
    /// The session.
    pub session_id: String,
    /// Whether the output that is kept comes first, before what is new. Default true.
    pub replay: bool,
}

impl Default for AttachOptions {
    fn default() -> Self {
        Self { session_id: String::new(), replay: true }
    }
}

setters!(AttachOptions { session_id: String; replay: bool; });

/// Which session to wait for, and for how long.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SessionWaitOptions {
    /// The session.
    pub session_id: String,
    /// Milliseconds to wait at most; 0 only looks. Default: as long as it takes.
    pub timeout_ms: Option<u64>,
}

setters!(SessionWaitOptions { session_id: String; timeout_ms: u64 => Some; });

/// A signal for a session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SessionSignalOptions {
    /// The session.
    pub session_id: String,
    /// The signal: a name such as `SIGTERM` or `TERM`, or a number from 1 to 64 in digits.
    pub signal: String,
}

setters!(SessionSignalOptions { session_id: String; signal: String; });

/// Whose shell is asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ShellOptions {
    /// As for `exec.spawn`. Default: the agent's own.
    pub user: Option<String>,
}

setters!(ShellOptions { user: String => Some; });

/// The shell that a terminal without a command would get.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ShellInfo {
    /// Whether there is a shell, and a terminal for it.
    pub available: bool,
    /// The path of the shell: that of `/etc/passwd` when it is there, else bash, else sh.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub shell: Option<String>,
}
