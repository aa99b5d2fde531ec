use super::Workspace;
use crate::bridge::{BridgeClient, Output, Process};
use crate::error::Result;
use crate::types::{
    AttachOptions, ExecOptions, ExitStatus, RunOptions, SessionList, SessionSignalOptions,
    SessionWaitOptions, SessionsOptions, ShellInfo, ShellOptions,
};
use bytes::Bytes;

/// Commands inside a workspace.
#[derive(Debug, Clone)]
pub struct Exec {
    workspace: Workspace,
}

impl Exec {
    pub(crate) fn new(workspace: Workspace) -> Self {
        Self { workspace }
    }

    /// Runs a command to its end with `input` as its stdin, and collects its output.
    ///
    /// A command that fails is no error: look at the result's `exit_code`.
    ///
    /// # Errors
    /// INVALID_ARGUMENT unless exactly one of `command` and `args` is given, for a malformed option and an unknown user;
    /// NOT_FOUND when there is no such workspace, working directory or program; UNSUPPORTED for an option that the
    /// workspace's agent is too old for; UNAVAILABLE when it does not run or its agent goes away.
    ///
    /// # Cancel safety
    /// Dropping the future kills the command's process group.
    pub async fn run(&self, options: RunOptions, input: impl Into<Bytes>) -> Result<Output> {
        let run = async |client: BridgeClient| client.run(&options, input.into()).await;
        self.workspace.with_bridge(run).await.map_err(|e| e.in_operation("exec.run"))
    }

    /// Starts a command with its streams open. With `detach` it becomes a session, which goes on without this host.
    ///
    /// # Errors
    /// As [`Exec::run`]; ALREADY_EXISTS when a session of this id runs; RESOURCE_EXHAUSTED when 256 sessions run.
    ///
    /// # Cancel safety
    /// Dropping the future, or the [`Process`], kills the command's process group. A session goes on; one whose beginning
    /// was dropped may have begun.
    pub async fn spawn(&self, options: ExecOptions) -> Result<Process> {
        let spawn = async |client: BridgeClient| client.spawn(&options).await;
        self.workspace.with_bridge(spawn).await.map_err(|e| e.in_operation("exec.spawn"))
    }

    /// Lists the sessions: those that run, and the last 64 that have ended within the last 10 minutes.
    ///
    /// # Errors
    /// NOT_FOUND when there is no such workspace; UNSUPPORTED when its agent is too old; UNAVAILABLE when it does not run.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn sessions(&self, _options: SessionsOptions) -> Result<SessionList> {
        let list = async |client: BridgeClient| client.sessions().await;
        self.workspace.with_bridge(list).await.map_err(|e| e.in_operation("exec.sessions"))
    }

    /// Attaches to a session, with its streams: first what it has kept of its output, then what is new, then its exit. Any
    /// number may be attached at once. Whoever is slow stalls nobody: it loses the oldest output beyond 1 MiB, or beyond
    /// `replay_bytes` if that is more, and is told how much in the exit. All write to the same stdin. Dropping the
    /// [`Process`] lets go of the session and ends nothing.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a malformed id; NOT_FOUND when there is no such session; as [`Exec::sessions`].
    ///
    /// # Cancel safety
    /// Cancel safe: the session stays as it is.
    pub async fn attach(&self, options: AttachOptions) -> Result<Process> {
        let attach = async |client: BridgeClient| client.attach(&options).await;
        self.workspace.with_bridge(attach).await.map_err(|e| e.in_operation("exec.attach"))
    }

    /// Waits until a session has ended, without attaching to it.
    ///
    /// # Errors
    /// TIMEOUT when it still runs after `timeout_ms`; as [`Exec::attach`].
    ///
    /// # Cancel safety
    /// Cancel safe: it only looks.
    pub async fn wait(&self, options: SessionWaitOptions) -> Result<ExitStatus> {
        let wait = async |client: BridgeClient| client.wait_session(&options).await;
        self.workspace.with_bridge(wait).await.map_err(|e| e.in_operation("exec.wait"))
    }

    /// Sends a signal to the process group of a session, past any input that waits for it.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for an unknown signal; FAILED_PRECONDITION when the session has ended; as [`Exec::attach`].
    ///
    /// # Cancel safety
    /// Dropping the future may or may not send the signal.
    pub async fn signal(&self, options: SessionSignalOptions) -> Result<()> {
        let signal = async |client: BridgeClient| client.signal_session(&options).await;
        self.workspace.with_bridge(signal).await.map_err(|e| e.in_operation("exec.signal"))
    }

    /// Tells which shell a terminal gets when it is spawned with neither `command` nor `args`.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for an unknown user; as [`Exec::sessions`].
    ///
    /// # Cancel safety
    /// Cancel safe: it only looks.
    pub async fn shell(&self, options: ShellOptions) -> Result<ShellInfo> {
        let shell = async |client: BridgeClient| client.shell(&options).await;
        self.workspace.with_bridge(shell).await.map_err(|e| e.in_operation("exec.shell"))
    }
}
