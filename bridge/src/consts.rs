//! Values both ends of the bridge agree on.

use std::time::Duration;

/// Environment variable that names the agent's socket.
pub const SOCKET_PATH_ENV: &str = "BRIDGE_SOCKET_PATH";
/// Environment variable that moves the data directory (relative paths, default working directory).
pub const DATA_DIR_ENV: &str = "BRIDGE_DATA_DIR";
/// Environment variable that moves the read-only runtime directory (templates, toolkit).
pub const RUNTIME_DIR_ENV: &str = "BRIDGE_RUNTIME_DIR";

/// The agent's socket when [`SOCKET_PATH_ENV`] is not set.
pub const DEFAULT_SOCKET_PATH: &str = "/run/memoh/bridge.sock";
/// File name of the agent's socket within its directory.
pub const SOCKET_NAME: &str = "bridge.sock";
/// File name of the descriptor socket, beside the agent's socket.
pub const FD_SOCKET_NAME: &str = "bridge-fd.sock";
/// Where relative paths start and commands run, unless told otherwise.
pub const DEFAULT_DATA_DIR: &str = "/data";
/// Where the host's read-only runtime directory is mounted.
pub const DEFAULT_RUNTIME_DIR: &str = "/opt/memoh";

/// Largest gRPC message either way, in bytes.
pub const MAX_MESSAGE_SIZE: usize = 16 << 20;
/// HTTP/2 receive window of one stream, in bytes.
pub const STREAM_WINDOW: u32 = 2 << 20;
/// HTTP/2 receive window of a connection, in bytes: room for every stream's own window, so that streams nobody reads
/// never hold up the others.
pub const CONNECTION_WINDOW: u32 = 1 << 30;
/// Streams open at once on one connection.
pub const MAX_STREAMS: u32 = CONNECTION_WINDOW / STREAM_WINDOW;
/// Largest HTTP/2 frame, in bytes.
pub const MAX_FRAME_SIZE: u32 = 1 << 20;
/// Bytes in one chunk of `ReadRaw`, and a good size for those of `WriteRaw`.
pub const RAW_CHUNK_SIZE: usize = 512 << 10;
/// Largest packet on the descriptor socket, in bytes.
pub const MAX_FD_PACKET: usize = 16 << 10;

/// Time limit of a `bridgepb` command that names none (a terminal that names none has no limit).
pub const DEFAULT_EXEC_TIMEOUT: Duration = Duration::from_secs(30);
/// Exit code `bridgepb` reports for a command that its time limit ended.
pub const TIMEOUT_EXIT_CODE: i32 = 124;
/// Columns of a terminal that names none.
pub const DEFAULT_COLS: u16 = 80;
/// Rows of a terminal that names none.
pub const DEFAULT_ROWS: u16 = 24;

/// Bytes of output that a session keeps when its client names no number.
pub const DEFAULT_REPLAY_BYTES: u64 = 1 << 20;
/// Most bytes of output that a session may keep.
pub const MAX_REPLAY_BYTES: u64 = 64 << 20;
/// Bytes of output that an attached client may be behind before it loses the oldest, when the session keeps less.
pub const ATTACH_QUEUE_BYTES: u64 = 1 << 20;
/// Most characters of a session's id.
pub const MAX_SESSION_ID: usize = 64;
/// Most sessions that run at once.
pub const MAX_SESSIONS: usize = 256;
/// Most bytes that all running sessions together may keep.
pub const MAX_REPLAY_TOTAL: u64 = 256 << 20;
/// Most ended sessions whose end, and output, can still be read; the oldest go first.
pub const MAX_ENDED_SESSIONS: usize = 64;
/// Most bytes that all ended sessions together keep; those of the oldest go first.
pub const MAX_ENDED_REPLAY: u64 = 64 << 20;
/// How long an ended session can be read.
pub const ENDED_SESSION_AGE: Duration = Duration::from_secs(600);

/// Whether a session may have this id: 1 to [`MAX_SESSION_ID`] letters, digits, dots, hyphens and underscores of ASCII.
#[must_use]
pub fn is_session_id(id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=MAX_SESSION_ID).contains(&id.len()) && id.chars().all(allowed)
}

/// Most lines `ReadFile` returns.
pub const READ_MAX_LINES: usize = 200;
/// Most bytes `ReadFile` returns.
pub const READ_MAX_BYTES: usize = 5120;
/// Most characters of one line that `ReadFile` returns; a longer one ends in `...`.
pub const READ_MAX_LINE_CHARS: usize = 1000;
/// How far into a file `ReadFile` looks for a NUL byte, which makes the file binary.
pub const BINARY_PROBE_BYTES: usize = 8 << 10;

/// First argument that makes the agent a server of files.
pub const FILES: &str = "files";
/// Begins the argument that tells such a server whom it works as: `uid:gid[:group,…]`. Default root.
pub const FILES_USER: &str = "--user=";
/// Argument that makes such a server end with the process whose descriptor (`pidfd_open(2)`) it was given.
pub const FILES_FOLLOW: &str = "--follow";

/// What stands for a file that must not be there, in place of a revision.
pub const ABSENT: &str = "absent";
/// Most entries of one page of `Walk`.
pub const MAX_PAGE: u32 = 10_000;

/// Names an agent of this release lists in `Info`.
pub mod features {
    /// `Exec` of `dunnage.bridge.v1`.
    pub const EXEC: &str = "exec";
    /// `Stat` and `List` of `dunnage.bridge.v1`.
    pub const FILE_INFO: &str = "file-info";
    /// `Write` of `dunnage.bridge.v1`.
    pub const WRITE: &str = "write";
    /// The descriptor socket.
    pub const FD_SOCKET: &str = "fd-socket";
    /// Writes replace a file in one step.
    pub const ATOMIC_WRITE: &str = "atomic-write";
    /// Closing the sending side of an `Exec` closes the command's standard input.
    pub const STDIN_EOF: &str = "stdin-eof";

    /// `ExecStart.env_unset`.
    pub const ENV_UNSET: &str = "env-unset";
    /// `ExecStart.shell` and `Shell`.
    pub const SHELL: &str = "shell";
    /// `ExecStart.idle_timeout_ms`.
    pub const IDLE_TIMEOUT: &str = "idle-timeout";
    /// `ExecStart.session`, `Attach`, `Sessions`, `WaitSession` and `SignalSession`.
    pub const SESSIONS: &str = "sessions";
    /// `Symlink`, `Chmod` and `Chown` of `dunnage.bridge.v1`.
    pub const CHANGE: &str = "change";
    /// `Read` of `dunnage.bridge.v1`.
    pub const READ_RANGE: &str = "read-range";
    /// Revisions: `Stat` and writes tell them, writes can expect one. With them `WriteWhole`.
    pub const REVISION: &str = "revision";
    /// `Walk` and `Glob` of `dunnage.bridge.v1`.
    pub const WALK: &str = "walk";
    /// `Grep` of `dunnage.bridge.v1`.
    pub const GREP: &str = "grep";
    /// `Copy` of `dunnage.bridge.v1`.
    pub const COPY: &str = "copy";
    /// `Watch` of `dunnage.bridge.v1`.
    pub const WATCH: &str = "watch";

    /// Those that concern commands: a server of files has none of them.
    pub const COMMANDS: &[&str] = &[EXEC, STDIN_EOF, ENV_UNSET, SHELL, IDLE_TIMEOUT, SESSIONS];

    /// All of them.
    pub const ALL: &[&str] = &[
        EXEC,
        FILE_INFO,
        WRITE,
        FD_SOCKET,
        ATOMIC_WRITE,
        STDIN_EOF,
        ENV_UNSET,
        SHELL,
        IDLE_TIMEOUT,
        SESSIONS,
        CHANGE,
        READ_RANGE,
        REVISION,
        WALK,
        GREP,
        COPY,
        WATCH,
    ];
}
