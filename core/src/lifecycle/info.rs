use super::bridge::{addresses, agent};
use super::limits::told;
use super::resolve::{Found, existing};
use crate::backend::{NetworkNamespace, Task, TaskStatus};
use crate::engine::EngineInner;
use crate::error::Result;
use crate::names::WorkspaceId;
use crate::types::{NetworkInfo, NetworkMode, WorkspaceInfo, WorkspaceStatus};

/// Looks at a workspace.
///
/// # Errors
/// NOT_FOUND when it has no container.
pub(crate) async fn info(inner: &EngineInner, id: &WorkspaceId) -> Result<WorkspaceInfo> {
    let found = existing(inner, id).await?;
    let task = inner.backend.task(&found.container.id).await?;
    let mut info = describe(inner, id, &found, task.as_ref());
    info.limits = told(inner, &found, task.as_ref()).await;
    if found.legacy {
        let there = addresses(inner, &found.container, task.as_ref()).await?;
        let there: Vec<String> =
            there.iter().map(|(address, prefix)| format!("{address}/{prefix}")).collect();
        if !there.is_empty() && there != info.network.addresses {
            // Others connected it: nothing else is known of its network.
            info.network =
                NetworkInfo { mode: info.network.mode, addresses: there, ..NetworkInfo::default() };
        }
    }
    Ok(info)
}

/// A workspace as hosts see it.
pub(super) fn describe(
    inner: &EngineInner,
    id: &WorkspaceId,
    found: &Found,
    task: Option<&Task>,
) -> WorkspaceInfo {
    let container = &found.container;
    let status = status(task, found.record.as_ref().is_some_and(|record| record.started));
    let running = status == WorkspaceStatus::Running;
    let mode = match container.network {
        NetworkNamespace::Host => NetworkMode::Host,
        NetworkNamespace::Private if found.legacy => NetworkMode::Cni,
        NetworkNamespace::Private => NetworkMode::None,
        NetworkNamespace::Path(_) => NetworkMode::Cni,
    };
    let network = inner.network.info(&container.id).filter(|_| mode == NetworkMode::Cni);
    WorkspaceInfo {
        workspace_id: id.to_string(),
        container_id: container.id.clone(),
        image: container.image.clone(),
        status,
        namespace: inner.backend.namespace(),
        container_path: inner.config.run_dir(id).display().to_string(),
        task_running: running,
        pid: task.filter(|_| running).map_or(0, |task| task.pid),
        exit_code: task.and_then(|task| task.exit).map(|exit| exit.code),
        has_preserved_data: inner.config.has_backups(id),
        legacy: found.legacy,
        agent: agent(inner, found),
        snapshotter: container.snapshotter.clone(),
        snapshot_key: container.snapshot_key.clone(),
        network: network.unwrap_or(NetworkInfo { mode, ..NetworkInfo::default() }),
        limits: Vec::new(),
        restart: found.record.as_ref().map(|record| record.options.restart.clone()).unwrap_or_default(),
        labels: container.labels.clone(),
        created_at: container.created_at.to_string(),
        updated_at: container.updated_at.to_string(),
    }
}

/// What a workspace does, by its task, and, without one, by whether it has ever been started.
pub(super) fn status(task: Option<&Task>, started: bool) -> WorkspaceStatus {
    match task.map(|task| task.status) {
        None | Some(TaskStatus::Created) if started => WorkspaceStatus::Stopped,
        None | Some(TaskStatus::Created) => WorkspaceStatus::Created,
        Some(TaskStatus::Running) => WorkspaceStatus::Running,
        Some(TaskStatus::Paused) => WorkspaceStatus::Paused,
        Some(TaskStatus::Stopped) => WorkspaceStatus::Stopped,
        Some(TaskStatus::Unknown) => WorkspaceStatus::Unknown,
    }
}
