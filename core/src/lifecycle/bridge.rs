use super::layout::SOCKET;
use super::resolve::resolve;
use crate::backend::{Container, NetworkNamespace, Task};
use crate::bridge::{BridgeClient, BridgeTarget};
use crate::engine::EngineInner;
use crate::error::{Error, Result};
use crate::names::WorkspaceId;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// A client of the agent in this workspace. Connects at its first call.
///
/// # Errors
/// NOT_FOUND when there is no such workspace; UNAVAILABLE when it has neither a socket nor an address.
pub(crate) async fn bridge(inner: &EngineInner, id: &WorkspaceId) -> Result<BridgeClient> {
    let socket = inner.config.run_dir(id).join(SOCKET);
    if socket.symlink_metadata().is_ok() {
        return Ok(inner.bridges.client(id.as_str(), BridgeTarget::Socket(socket)));
    }
    let found = resolve(inner, id)
        .await?
        .ok_or_else(|| Error::not_found("there is no such workspace: create it").with("workspace", id))?;
    let target = target(inner, &found.container).await?;
    Ok(inner.bridges.client(id.as_str(), target))
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
