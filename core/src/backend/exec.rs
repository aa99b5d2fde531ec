//! Commands that a backend runs in a container by itself, where there is no agent that could.

use crate::backend::{ResolvedUser, TaskExit};
use crate::error::Result;
use async_trait::async_trait;
use std::path::PathBuf;
use tokio::net::unix::pipe;

/// A command to run beside a container's first process.
#[derive(Debug, Clone)]
pub(crate) struct GuestCommand {
    pub(crate) container: String,
    /// What the backend calls it: not used before in this container.
    pub(crate) id: String,
    pub(crate) args: Vec<String>,
    /// Whether it starts with none of the first process's variables.
    pub(crate) env_clear: bool,
    pub(crate) env_unset: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// Where it starts; none for where the first process does.
    pub(crate) work_dir: Option<String>,
    /// Whose it is; none for the first process's user.
    pub(crate) user: Option<ResolvedUser>,
    /// Columns and rows of its terminal, if it has one.
    pub(crate) terminal: Option<(u32, u32)>,
    /// Whether its standard input is open.
    pub(crate) stdin: bool,
    /// A directory of the host that is there for the pipes, and which the backend sees under the same path.
    pub(crate) pipes: PathBuf,
}

/// The host's ends of a command's pipes.
#[derive(Debug)]
pub(crate) struct GuestPipes {
    /// None when its input is closed from the start.
    pub(crate) stdin: Option<pipe::Sender>,
    pub(crate) stdout: pipe::Receiver,
    /// None when it has a terminal: then all output is in the other one.
    pub(crate) stderr: Option<pipe::Receiver>,
}

/// A command that was started. Dropping it leaves the command as it is.
#[async_trait]
pub(crate) trait GuestProcess: Send + Sync {
    /// Its process id inside, where that can be told.
    fn pid(&self) -> Option<i32>;

    /// Waits for its end. NOT_FOUND when it, or its container, is gone already.
    async fn wait(&self) -> Result<TaskExit>;

    /// Whether its container has ended, or is about to. Asked of a process that has ended, it tells one that was killed
    /// with the container from one that was killed alone.
    async fn container_ends(&self) -> Result<bool>;

    /// Sends a signal to its process group, or, where that cannot be reached, to it alone. One that has ended is no fault.
    async fn signal(&self, signal: i32) -> Result<()>;

    /// Sets the size of its terminal.
    async fn resize(&self, cols: u32, rows: u32) -> Result<()>;

    /// Lets its input end, once the host's end is closed as well and all of it was read.
    async fn close_stdin(&self) -> Result<()>;

    /// Removes what the backend keeps of it. It has ended.
    async fn remove(&self) -> Result<()>;
}
