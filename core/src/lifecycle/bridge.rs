use super::boot::halt;
use super::layout::SOCKET;
use super::recover::take;
use super::resolve::{Found, existing};
use crate::backend::{Container, NetworkNamespace, Task, TaskStatus};
use crate::bridge::{BridgeClient, BridgeTarget, GuestCommands, Hold, Tree, TreeServer};
use crate::engine::EngineInner;
use crate::error::{Error, ErrorKind, Result};
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use crate::types::AgentKind;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A client of this workspace: of its agent, which it reaches at its first call, or, where it has none, of what stands in for one.
///
/// # Errors
/// NOT_FOUND when there is no such workspace; UNAVAILABLE when it has neither a socket nor an address.
pub(crate) async fn bridge(inner: &EngineInner, id: &WorkspaceId) -> Result<BridgeClient> {
    let socket = inner.config.run_dir(id).join(SOCKET);
    if socket.symlink_metadata().is_ok() {
        return Ok(inner.bridges.client(id.as_str(), BridgeTarget::Socket(socket)));
    }
    if let Some(client) = inner.bridges.agentless(id.as_str()) {
        return Ok(client);
    }
    let found = existing(inner, id).await?;
    if agent(inner, &found) == AgentKind::None {
        return agentless(inner, id, &found.container).await;
    }
    let target = target(inner, &found.container).await?;
    Ok(inner.bridges.client(id.as_str(), target))
}

/// What the workspace is reached by: its agent's socket, when it has a directory mounted for that, else the network, when an
/// older implementation made it.
pub(super) fn agent(inner: &EngineInner, found: &Found) -> AgentKind {
    match socket(inner, &found.container) {
        Some(_) => AgentKind::Socket,
        None if found.legacy => AgentKind::Tcp,
        None => AgentKind::None,
    }
}

/// A client of a running workspace without an agent.
///
/// # Errors
/// UNAVAILABLE when it does not run; UNSUPPORTED where the backend cannot do without an agent; as [`TreeServer::start`].
async fn agentless(inner: &EngineInner, id: &WorkspaceId, container: &Container) -> Result<BridgeClient> {
    if !inner.backend.capabilities().exec {
        return Err(Error::unsupported(
            "the workspace has no agent inside, and this backend runs no commands",
        )
        .with("container", &container.id));
    }
    let root = inner.backend.task_root(&container.id).await.map_err(|error| match error.kind() {
        ErrorKind::FailedPrecondition => {
            Error::unavailable("the workspace does not run: start it").with("container", &container.id)
        }
        _ => error,
    })?;
    let tree = tree(inner, container, root.root, Hold::Process(root.process));
    let server = TreeServer::start(tree, Box::new(()), inner.bridges.connect_limit()).await?;
    let commands = GuestCommands {
        backend: Arc::clone(&inner.backend),
        container: container.id.clone(),
        snapshotter: container.snapshotter.clone(),
        snapshot_key: container.snapshot_key.clone(),
        pipes: inner.config.run_dir(id),
        closing: inner.runner.closing_token(),
    };
    Ok(inner.bridges.keep_agentless(id.as_str(), server, commands))
}

/// A client of the files of a workspace that does not run. Until its last clone is gone, and the server of the files with
/// it, the workspace stays as it is: its lock is held. None when it runs by now.
///
/// # Errors
/// NOT_FOUND when there is no such workspace; TIMEOUT when another works on it for too long; as [`TreeServer::start`].
pub(crate) async fn files_at_rest(
    inner: &EngineInner,
    id: &WorkspaceId,
    write: bool,
) -> Result<Option<BridgeClient>> {
    let guard = take(inner, id, &OperationContext::detached("files")).await?;
    let container = existing(inner, id).await?.container;
    if !is_at_rest(inner, id, &container, write).await? {
        return Ok(None);
    }
    let lock = Hold::Lock(guard.share()?);
    let root = inner.backend.open_root(&container.snapshotter, &container.snapshot_key, write).await?;
    let tree = tree(inner, &container, root, lock);
    let server = TreeServer::start(tree, Box::new(guard), inner.bridges.connect_limit()).await?;
    Ok(Some(inner.bridges.files(id.as_str(), server)))
}

/// Whether nothing of a container runs. Before it is written to, what has ended is removed: its root may be mounted still.
/// The caller holds the workspace's lock.
///
/// # Errors
/// UNAVAILABLE for a container whose data directory is mounted when it runs, as older implementations did it: what is below
/// the mount is not the data.
pub(in crate::lifecycle) async fn is_at_rest(
    inner: &EngineInner,
    id: &WorkspaceId,
    container: &Container,
    write: bool,
) -> Result<bool> {
    match inner.backend.task(&container.id).await?.map(|task| task.status) {
        Some(TaskStatus::Running | TaskStatus::Paused) => return Ok(false),
        Some(_) if write => drop(halt(inner, id, &container.id, Duration::ZERO).await?),
        _ => {}
    }
    let data_dir = &inner.config.guest.data_dir;
    let covers = |target: &Path| target.starts_with(data_dir) || data_dir.starts_with(target);
    if container.mounts.iter().any(|mount| covers(&mount.target)) {
        let what = "the workspace does not run, and its data directory is there only while it does: start it";
        return Err(Error::unavailable(what).with("container", &container.id));
    }
    Ok(true)
}

fn tree(inner: &EngineInner, container: &Container, root: OwnedFd, hold: Hold) -> Tree {
    // No workspace's id starts with a dot.
    let sockets = format!(".files-{}", uuid::Uuid::now_v7().simple());
    Tree {
        agent: inner.config.agent(),
        sockets: inner.config.data_root.join("run").join(sockets),
        data_dir: inner.config.guest.data_dir.clone(),
        root,
        user: container.user.clone(),
        hold,
    }
}

/// Where the agent of a container listens: on the socket in the directory mounted for it, else, in containers of older
/// implementations, on a TCP port of the container's address.
///
/// # Errors
/// UNAVAILABLE when it has neither, else those of the backend.
pub(super) async fn target(inner: &EngineInner, container: &Container) -> Result<BridgeTarget> {
    if let Some(socket) = socket(inner, container) {
        return Ok(BridgeTarget::Socket(socket));
    }
    let task = inner.backend.task(&container.id).await?;
    let (address, _) =
        addresses(inner, container, task.as_ref()).await?.first().copied().ok_or_else(|| {
            Error::unavailable("the workspace has neither a socket nor an address: start it")
                .with("container", &container.id)
        })?;
    Ok(BridgeTarget::Tcp(SocketAddr::new(address, inner.config.guest.legacy_port)))
}

/// The addresses of a container with a network of its own, with prefix lengths; none without a task.
///
/// They are looked for inside: whoever started the task, be it an older implementation, has connected it.
pub(super) async fn addresses(
    inner: &EngineInner,
    container: &Container,
    task: Option<&Task>,
) -> Result<Vec<(IpAddr, u8)>> {
    match task {
        Some(task) if container.network != NetworkNamespace::Host && task.exit.is_none() => {
            inner.network.addresses_of(task.pid).await
        }
        _ => Ok(Vec::new()),
    }
}

/// The agent's socket on the host, when the container has a directory mounted for it.
pub(super) fn socket(inner: &EngineInner, container: &Container) -> Option<PathBuf> {
    let mount = container.mounts.iter().find(|mount| mount.target == inner.config.guest.run_mount)?;
    Some(mount.source.join(SOCKET))
}
