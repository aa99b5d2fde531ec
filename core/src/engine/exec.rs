use super::Workspace;
use crate::bridge::{Output, Process};
use crate::error::Result;
use crate::types::{ExecOptions, RunOptions};
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
    /// INVALID_ARGUMENT for an empty command or a malformed option; NOT_FOUND when there is no such workspace;
    /// UNAVAILABLE when it does not run or its agent goes away.
    ///
    /// # Cancel safety
    /// Dropping the future kills the command's process group.
    pub async fn run(&self, options: RunOptions, input: impl Into<Bytes>) -> Result<Output> {
        let run = async |client: crate::bridge::BridgeClient| client.run(&options, input.into()).await;
        self.workspace.with_bridge(run).await.map_err(|e| e.in_operation("exec.run"))
    }

    /// Starts a command with its streams open.
    ///
    /// # Errors
    /// As [`Exec::run`].
    ///
    /// # Cancel safety
    /// Dropping the future, or the [`Process`], kills the command's process group.
    pub async fn spawn(&self, options: ExecOptions) -> Result<Process> {
        let spawn = async |client: crate::bridge::BridgeClient| client.spawn(&options).await;
        self.workspace.with_bridge(spawn).await.map_err(|e| e.in_operation("exec.spawn"))
    }
}
