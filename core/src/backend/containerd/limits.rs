//! Limits of containers and of running tasks, and what carries their snapshots.

use super::client::Client;
use super::rootfs::Layers;
use super::{containers, convert, snapshots};
use crate::backend::Task;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{Bandwidth, BlockDevice, InForce, LimitChange, Storage, throttle};
use crate::spec::{self, HostTraits};
use crate::types::{LimitName, Limits};
use containerd_client::services::v1::UpdateTaskRequest;
use std::path::PathBuf;

/// What carries a writable snapshot.
pub(super) async fn storage(client: &Client, snapshotter: &str, key: &str) -> Result<Storage> {
    let mounts = snapshots::mounts(client, snapshotter, key).await?;
    let storage = match (Layers::of(&mounts), mounts.as_slice()) {
        // The topmost layer is the one that is written to.
        (Ok(layers), _) => layers.dirs().first().map(|dir| Storage::of_dir(dir)),
        // One snapshot of btrfs shares its disks, maybe several, with all others.
        (Err(_), [mount]) if mount.r#type != "btrfs" && mount.source.starts_with("/dev/") => {
            Some(Storage::of_device(&PathBuf::from(&mount.source), &mount.r#type))
        }
        (Err(_), [mount]) => Some(Ok(Storage { file_system: mount.r#type.clone(), device: None })),
        _ => None,
    };
    let unseen = || Error::unexpected("cannot tell what carries the snapshot").with("snapshot", key);
    let storage = storage.ok_or_else(unseen)?;
    storage.map_err(|e| Error::io(e, "cannot tell what carries the snapshot").with("snapshot", key))
}

/// Puts other limits into a container's specification.
pub(super) async fn limit_container(
    client: &Client,
    host: HostTraits,
    id: &str,
    limits: &Limits,
    device: Option<BlockDevice>,
) -> Result<()> {
    let there = containers::specification_of(client, id).await?;
    let json = spec::relimit(&there, limits, device, host.cgroup_v2).map_err(|e| e.with("container", id))?;
    let change = containerd_client::services::v1::Container {
        id: id.to_owned(),
        spec: Some(convert::spec_any(json)),
        ..Default::default()
    };
    containers::change_fields(client, change, &["spec"]).await.map(drop)
}

/// Changes limits of a running task.
pub(super) async fn limit_task(
    client: &Client,
    host: HostTraits,
    task: &Task,
    changes: &[LimitChange],
    device: Option<BlockDevice>,
) -> Result<Vec<(LimitName, String)>> {
    let (pid, container) = (task.pid, task.container.clone());
    // Only a runtime's update brings back the bandwidth that the task began with.
    let before =
        off_thread(move || InForce::of(pid, &container, None).map(|groups| Bandwidth::of(&groups))).await?;
    let updated = update_each(client, host, task, changes).await;
    let container = task.container.clone();
    let bandwidth: Vec<LimitChange> =
        changes.iter().copied().filter(|change| is_bandwidth(change.name)).collect();
    // Also after an error: what was there before holds until it is changed.
    let throttled = off_thread(move || {
        if let Some(Err(error)) = before.map(|before| before.restore()) {
            tracing::warn!(container, %error, "the bandwidth from before an update could not be set again");
        }
        set_bandwidth(pid, &container, &bandwidth, device)
    });
    let throttled = throttled.await?;
    let mut refused = updated?;
    refused.extend(throttled);
    Ok(refused)
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::unexpected("the change of limits was broken off").caused_by(e))
}

/// Lets the runtime change what it can, all at once or, if that is refused, each alone.
async fn update_each(
    client: &Client,
    host: HostTraits,
    task: &Task,
    changes: &[LimitChange],
) -> Result<Vec<(LimitName, String)>> {
    match update(client, host, task, changes).await {
        Ok(()) => return Ok(Vec::new()),
        Err(error) if unknown(&error) => return Err(error),
        Err(_) => {}
    }
    let mut refused = Vec::new();
    for change in changes {
        match update(client, host, task, &[*change]).await {
            Ok(()) => {}
            Err(error) if unknown(&error) => return Err(error),
            Err(error) => refused.push((change.name, error.message().to_owned())),
        }
    }
    Ok(refused)
}

/// Whether an error tells nothing of the limits themselves.
fn unknown(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}

async fn update(client: &Client, host: HostTraits, task: &Task, changes: &[LimitChange]) -> Result<()> {
    let Some(resources) = spec::live(changes, host.cgroup_v2)? else { return Ok(()) };
    let json = serde_json::to_vec(&resources)
        .map_err(|e| Error::unexpected("cannot write the limits").caused_by(e))?;
    let request = UpdateTaskRequest {
        container_id: task.container.clone(),
        resources: Some(convert::resources_any(json)),
        ..UpdateTaskRequest::default()
    };
    let mut service = client.tasks();
    let updated = client.call("change the task's limits", service.update(client.request(request))).await;
    updated.map(drop).map_err(|e| e.with("container", &task.container))
}

fn is_bandwidth(name: LimitName) -> bool {
    matches!(
        name,
        LimitName::IoReadBytesPerSecond
            | LimitName::IoWriteBytesPerSecond
            | LimitName::IoReadOpsPerSecond
            | LimitName::IoWriteOpsPerSecond
    )
}

fn set_bandwidth(
    pid: u32,
    container: &str,
    changes: &[LimitChange],
    device: Option<BlockDevice>,
) -> Vec<(LimitName, String)> {
    if changes.is_empty() {
        return Vec::new();
    }
    let refused = |why: &str| changes.iter().map(|change| (change.name, why.to_owned())).collect();
    let Some(device) = device else { return refused("the snapshot is on no block device of its own") };
    let Some(groups) = InForce::of(pid, container, Some(device)) else {
        return refused("the task's control groups cannot be seen from here");
    };
    let failed = |change: &LimitChange| {
        let error = throttle(&groups, device, *change).err()?;
        Some((change.name, format!("cannot limit the bandwidth: {error}")))
    };
    changes.iter().filter_map(failed).collect()
}
