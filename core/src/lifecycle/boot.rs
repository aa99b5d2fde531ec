//! From a container without a task to an agent that answers, and back.

use super::bridge::{socket, target};
use super::ends::tell_exit;
use super::layout::{FD_SOCKET, SOCKET};
use super::{millis, whole_millis};
use crate::backend::{Container, NetworkNamespace, Task, TaskExit, TaskStatus};
use crate::engine::EngineInner;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoints::step;
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use crate::types::{Phases, PortMapping, StopOutcome};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};

/// `SIGTERM` and `SIGKILL` of signal(7), the same on every architecture of Linux.
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// A container whose first process runs.
#[derive(Debug)]
pub(super) struct Booted {
    pub(super) task: Task,
    /// When its agent answered; where it has none, when the process ran.
    pub(super) answered: Instant,
}

/// Starts a container's first process, connects its network meanwhile, and waits until the agent answers.
///
/// On an error the task may be left; [`halt`] removes it.
pub(super) async fn boot(
    inner: &EngineInner,
    id: &WorkspaceId,
    container: &Container,
    ports: &[PortMapping],
    legacy: bool,
    context: &OperationContext,
    phases: &mut Phases,
) -> Result<Booted> {
    inner.bridges.evict(id.as_str());
    let socket = socket(inner, container);
    if let Some(socket) = &socket {
        remove_sockets(socket.parent().unwrap_or(Path::new("/")));
    }
    let netns = match &container.network {
        NetworkNamespace::Path(path) => Some(own_netns(inner, container, path).await?),
        _ => None,
    };
    // The network is connected while the first process comes up: what needs it waits for both.
    let network = async {
        let began = Instant::now();
        if let Some(netns) = &netns {
            inner.network.attach(&container.id, netns, ports).await?;
        }
        Ok::<u64, Error>(if netns.is_some() { millis(began) } else { 0 })
    };
    let process = async {
        let began = Instant::now();
        let task = inner.backend.create_task(container).await?;
        if legacy && container.network == NetworkNamespace::Private {
            // Older containers have a network namespace of their task's own.
            inner.network.attach(&container.id, &task_netns(task.pid), ports).await?;
        }
        context.check_cancelled()?;
        let (started, answered) = if socket.is_some() || legacy {
            start_and_answer(inner, id, container, context).await?
        } else {
            inner.backend.start_task(&container.id).await?;
            let now = Instant::now();
            (now, now)
        };
        let task = Task { status: TaskStatus::Running, ..task };
        // The agent is often there before the backend has told of the start.
        let ready = answered.saturating_duration_since(started);
        Ok::<_, Error>((Booted { task, answered }, started - began, ready))
    };
    // Both are waited for, also when one fails: nothing may go on behind the back of an undo.
    let (network, process) = tokio::join!(network, process);
    let (booted, start, ready) = process?;
    phases.network = network?;
    phases.start = whole_millis(start);
    phases.ready = whole_millis(ready);
    Ok(booted)
}

/// Lets the first process go and waits until the agent answers; both are awaited at once. Returns when the backend said
/// that it runs, and when the agent answered.
async fn start_and_answer(
    inner: &EngineInner,
    id: &WorkspaceId,
    container: &Container,
    context: &OperationContext,
) -> Result<(Instant, Instant)> {
    let mut starting = inner.backend.start_task(&container.id);
    let mut answering = pin!(answer(inner, id, container, context));
    tokio::select! {
        biased;
        started = &mut starting => {
            started?;
            let started = Instant::now();
            answering.await?;
            Ok((started, Instant::now()))
        }
        answered = &mut answering => {
            let at = Instant::now();
            // A start that is under way is never dropped: an undo has to know how it ended. Its own error tells more.
            starting.await?;
            answered?;
            Ok((Instant::now(), at))
        }
    }
}

/// The network namespace of a task.
pub(super) fn task_netns(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

/// The pinned network namespace of a container: ours is made anew when a reboot took it; a foreign one is used as it is.
async fn own_netns(inner: &EngineInner, container: &Container, path: &Path) -> Result<PathBuf> {
    if path.starts_with(&inner.config.data_root) {
        return inner.network.namespace(&container.id).await;
    }
    if path.exists() {
        return Ok(path.to_owned());
    }
    Err(Error::failed_precondition(
        "the container's network namespace is gone: delete the workspace and create it anew",
    )
    .with("container", &container.id)
    .with("netns", path.display()))
}

/// Waits until the agent answers, or its process ends.
async fn answer(
    inner: &EngineInner,
    id: &WorkspaceId,
    container: &Container,
    context: &OperationContext,
) -> Result<()> {
    let limit = Duration::from_millis(inner.config.time_limits.ready_ms);
    let target = target(inner, container).await?;
    let client = inner.bridges.client(id.as_str(), target);
    let ended = async {
        match inner.backend.wait_task(&container.id).await {
            Ok(exit) => Err(Error::failed_precondition(
                "the workspace's first process ended at once: is the agent built for this machine?",
            )
            .with("exit_code", exit.code)
            .with("agent", inner.config.agent().display())),
            // The wait itself failed: let the agent's own time limit decide.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        ready = client.wait_ready(limit, context.cancel_token()) => ready,
        dead = ended => dead,
    }
}

/// Stops a container's task, if it has one, and removes it. Returns how it ended.
///
/// # Errors
/// TIMEOUT when even SIGKILL does not end it.
pub(super) async fn halt(
    inner: &EngineInner,
    id: &WorkspaceId,
    container: &str,
    grace: Duration,
) -> Result<(StopOutcome, Option<u32>)> {
    let Some(task) = inner.backend.task(container).await? else {
        // The shim of one that was deleted half may be left: it shows in no look.
        inner.backend.delete_task(container).await?;
        return Ok((StopOutcome::NotRunning, None));
    };
    if task.status == TaskStatus::Stopped {
        if let Some(exit) = task.exit {
            tell_exit(inner, id, container, task.pid, exit).await;
        }
        let exit = inner.backend.delete_task(container).await?;
        return Ok((StopOutcome::NotRunning, exit.map(|exit| exit.code)));
    }
    let wait = inner.backend.wait_task(container);
    tokio::pin!(wait);
    let mut outcome = StopOutcome::Killed;
    let mut ended = None;
    // A task that never started has no process that could take SIGTERM.
    if !grace.is_zero() && task.status == TaskStatus::Running {
        inner.backend.kill_task(container, SIGTERM, false).await?;
        if let Ok(exit) = tokio::time::timeout(grace, &mut wait).await {
            ended = Some(gone(exit)?);
            outcome = StopOutcome::Stopped;
        }
    }
    if ended.is_none() {
        inner.backend.kill_task(container, SIGKILL, true).await?;
        let limit = Duration::from_millis(inner.config.time_limits.kill_ms);
        let exit = tokio::time::timeout(limit, wait).await.map_err(|_| {
            Error::timeout(
                "the workspace's processes outlast SIGKILL: look for processes in uninterruptible sleep",
            )
            .with("workspace", id)
            .with("pid", task.pid)
        })?;
        ended = Some(gone(exit)?);
    }
    inner.bridges.evict(id.as_str());
    // One that was made and never let go has not run.
    let told = async {
        if let Some(exit) = ended.flatten()
            && task.status != TaskStatus::Created
        {
            tell_exit(inner, id, container, task.pid, exit).await;
        }
    };
    // The disk and the backend work side by side.
    let ((), deleted) = tokio::join!(told, inner.backend.delete_task(container));
    let exit = deleted?.or(ended.flatten());
    Ok((outcome, exit.map(|exit| exit.code)))
}

/// The exit of a waited-for task; one that another has removed meanwhile has ended too.
fn gone(exit: Result<TaskExit>) -> Result<Option<TaskExit>> {
    match exit {
        Ok(exit) => Ok(Some(exit)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes the sockets an ended agent has left, so that nobody waits on them.
pub(super) fn remove_sockets(run_dir: &Path) {
    let _step = step("sockets.remove");
    for name in [SOCKET, FD_SOCKET] {
        // The next agent replaces a socket that cannot be removed here.
        let _ = std::fs::remove_file(run_dir.join(name));
    }
}
