//! A tree of files where no agent runs, served by one that this process starts on the host.
//!
//! It is the same program as inside: with a root to move below, it serves files and nothing else, so that the tree is looked
//! at and changed by the same code as everywhere. Once below the root it can name nothing outside, whatever links are there.

use super::dial::{BridgeTarget, Held, Pinned};
use crate::backend::ResolvedUser;
use crate::error::{Error, Result};
use dunnage_bridge::{
    DATA_DIR_ENV, FD_SOCKET_NAME, FILES, FILES_FOLLOW, FILES_USER, SOCKET_NAME, SOCKET_PATH_ENV,
};
use std::any::Any;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

/// How long a server may take to end what it does, before it is killed.
const GRACE: Duration = Duration::from_secs(1);
/// The pause between two looks whether it has ended.
const BREATH: Duration = Duration::from_millis(1);

/// A tree to serve.
pub(crate) struct Tree {
    /// The agent's program.
    pub(crate) agent: PathBuf,
    /// Where the sockets are for a moment; only this process's user may look into it.
    pub(crate) sockets: PathBuf,
    /// Where relative paths start, below the root.
    pub(crate) data_dir: PathBuf,
    pub(crate) root: OwnedFd,
    /// Whose files are made, and with whose rights.
    pub(crate) user: ResolvedUser,
    pub(crate) hold: Hold,
}

/// What a server of files has besides its root.
pub(crate) enum Hold {
    /// A process: the server ends with it.
    Process(OwnedFd),
    /// A lock: kept until the server has ended, even when this process is gone first.
    Lock(OwnedFd),
}

/// A server of a tree's files. Dropping it ends it: calls under way may finish, files that are half written are not put
/// in place. What was given to go with it is dropped once it has ended.
pub(crate) struct TreeServer {
    running: Mutex<Option<Running>>,
}

struct Running {
    child: Child,
    /// Closing it ends the server.
    line: StdUnixStream,
    /// The directory of its sockets, which whoever needs them holds open.
    sockets: PathBuf,
    with: Box<dyn Any + Send>,
}

impl std::fmt::Debug for TreeServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeServer").finish_non_exhaustive()
    }
}

impl TreeServer {
    /// Starts one and waits until it answers, at most for `limit`. Returns where.
    ///
    /// # Errors
    /// FAILED_PRECONDITION when the agent's program is missing; PERMISSION_DENIED without the privilege to change the root
    /// directory; TIMEOUT.
    pub(crate) async fn start(
        tree: Tree,
        with: Box<dyn Any + Send>,
        limit: Duration,
    ) -> Result<(Self, BridgeTarget)> {
        let dir = tree.sockets.clone();
        let (line, theirs) = StdUnixStream::pair().map_err(|e| failed(e, "cannot make a socket"))?;
        let ready = line.try_clone().map_err(|e| failed(e, "cannot make a socket"))?;
        // It is a server from its first moment on: whoever gives up waiting for it ends it.
        let spawning = tokio::task::spawn_blocking(move || {
            let sockets = tree.sockets.clone();
            let child = spawn(tree, theirs.into())?;
            Ok::<_, Error>(Self { running: Mutex::new(Some(Running { child, line, sockets, with })) })
        });
        let server = spawning
            .await
            .map_err(|e| Error::unexpected("starting a server of files broke off").caused_by(e))??;
        let target = ready_at(&dir, ready, limit).await;
        // At the latest it goes with the server.
        let _ = tokio::fs::remove_dir_all(&dir).await;
        Ok((server, target?))
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&self) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_mut().is_some_and(|running| matches!(running.child.try_wait(), Ok(None)))
    }

    /// Ends it, and returns once it has ended and what went with it is dropped.
    ///
    /// # Cancel safety
    /// Dropping it leaves the server to end by itself.
    pub(crate) async fn end(&self) {
        if let Some(running) = self.take() {
            // A panic in there has ended it too.
            let _ = tokio::task::spawn_blocking(move || running.end()).await;
        }
    }

    fn take(&self) -> Option<Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for TreeServer {
    fn drop(&mut self) {
        let Some(running) = self.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || running.end())),
            Err(_) => running.end(),
        }
    }
}

impl Running {
    fn end(self) {
        let Self { mut child, line, sockets, with } = self;
        drop(line);
        let deadline = Instant::now() + GRACE;
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                // It is gone in either case: nobody else waits for it.
                let _ = child.kill();
                let _ = child.wait();
                break;
            }
            std::thread::sleep(BREATH);
        }
        // It is gone, unless nobody waited for the server to be ready.
        let _ = std::fs::remove_dir_all(&sockets);
        drop(with);
    }
}

/// Waits until a server's sockets are there, and opens them.
async fn ready_at(dir: &Path, line: StdUnixStream, limit: Duration) -> Result<BridgeTarget> {
    let opened = line.set_nonblocking(true).and_then(|()| UnixStream::from_std(line));
    let mut line = opened.map_err(|e| failed(e, "cannot make a socket"))?;
    match tokio::time::timeout(limit, line.read(&mut [0; 1])).await {
        Ok(Ok(1..)) => {
            let held = Held {
                main: Pinned::open(&dir.join(SOCKET_NAME))?,
                bulk: Arc::new(Pinned::open(&dir.join(FD_SOCKET_NAME))?),
            };
            Ok(BridgeTarget::Held(Arc::new(held)))
        }
        Ok(Ok(0) | Err(_)) => Err(Error::failed_precondition(
            "the server of files ended at once: it needs root's privileges and an agent of this release",
        )),
        Err(_) => Err(Error::timeout(format!(
            "the server of files did not answer within {} ms; is the agent of this release?",
            limit.as_millis()
        ))),
    }
}

fn spawn(tree: Tree, line: OwnedFd) -> Result<Child> {
    let Tree { agent, sockets, data_dir, root, user, hold } = tree;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&sockets);
    made.map_err(|e| failed(e, "cannot make a directory for sockets").with("path", sockets.display()))?;
    let groups: Vec<String> = user.additional_gids.iter().map(u32::to_string).collect();
    let mut command = Command::new(&agent);
    command
        .arg(FILES)
        .arg(format!("{FILES_USER}{}:{}:{}", user.uid, user.gid, groups.join(",")))
        .env_clear()
        // Relative, for a socket's address is short.
        .env(SOCKET_PATH_ENV, Path::new(".").join(SOCKET_NAME))
        .env(DATA_DIR_ENV, data_dir)
        .current_dir(&sockets)
        // What a terminal sends to this process's group is not meant for it.
        .process_group(0)
        .stdin(Stdio::from(root))
        .stdout(Stdio::from(line));
    match hold {
        Hold::Process(process) => command.arg(FILES_FOLLOW).stderr(Stdio::from(process)),
        Hold::Lock(lock) => command.stderr(Stdio::from(File::from(lock))),
    };
    command.spawn().map_err(|error| {
        let _ = std::fs::remove_dir(&sockets);
        match error.kind() {
            std::io::ErrorKind::NotFound => Error::failed_precondition(
                "the agent is missing on this host: set runtime_dir to the directory that holds `bridge`",
            )
            .caused_by(error),
            _ => failed(error, "cannot start a server of files"),
        }
        .with("path", agent.display())
    })
}

fn failed(error: std::io::Error, doing: &str) -> Error {
    Error::io(error, doing.to_owned())
}
