use super::history::history_to_change;
use super::version::{Position, check_number, unknown};
use crate::engine::EngineInner;
use crate::error::{Error, Result};
use crate::lifecycle::create::{Origin, build};
use crate::lifecycle::info::describe;
use crate::lifecycle::recover::recover;
use crate::lifecycle::resolve::{existing, resolve};
use crate::lifecycle::seed::Restore;
use crate::lifecycle::{millis, options as create_options};
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use crate::types::{CreateOptions, NetworkMode, Phases, PullPolicy, SnapshotForkOptions, SnapshotForkResult};
use std::time::Instant;

/// Makes a workspace of a version of another. They share every byte, and neither needs the other.
pub(crate) async fn fork(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: SnapshotForkOptions,
    context: &OperationContext,
) -> Result<SnapshotForkResult> {
    let began = Instant::now();
    check_number(options.version)?;
    let new = WorkspaceId::new(options.new_id.as_str()).map_err(|e| e.with("field", "new_id"))?;
    if new == *id {
        return Err(Error::invalid_argument("malformed option new_id: a fork needs an id of its own")
            .with("field", "new_id")
            .with("value", new));
    }
    inner.config.container_id(&new)?;
    let own = CreateOptions::default().labels(options.labels.clone()).ports(options.ports.clone());
    create_options::check(&own, &inner.config)?;
    // Both stay as they are meanwhile. In one order everywhere, so that two forks never wait for each other.
    let (first, second) = if *id < new { (id, &new) } else { (&new, id) };
    let _first = context.or_cancelled(inner.locks.acquire(first)).await?;
    let _second = context.or_cancelled(inner.locks.acquire(second)).await?;
    recover(inner, id).await?;
    recover(inner, &new).await?;
    let found = existing(inner, id).await?;
    if let Some(there) = resolve(inner, &new).await? {
        return Err(Error::already_exists("there is a workspace of this id: choose another, or delete it")
            .with("workspace", new)
            .with("container", there.container.id));
    }
    let history = history_to_change(inner, id, &found).await?;
    let target = history.version(id, options.version)?.clone();
    let snapshotter = target.snapshotter.clone();
    if inner.backend.snapshot(&snapshotter, &target.snapshot).await?.is_none() {
        return Err(unknown(id, options.version).with("snapshot", &target.snapshot));
    }
    let like = found.record.as_ref().map(|record| record.options.clone()).unwrap_or_default();
    let create = CreateOptions {
        image: Some(found.container.image.clone()),
        pull_policy: PullPolicy::IfNotPresent,
        snapshotter: Some(snapshotter),
        start: options.start,
        labels: options.labels,
        ports: options.ports,
        hostname: None,
        ..like
    };
    create_options::check(&create, &inner.config)?;
    let network = create.network.unwrap_or(inner.config.network.mode);
    if network == NetworkMode::Cni {
        inner.network.check(&create.ports)?;
    }
    let origin = Origin {
        snapshot: target.snapshot.clone(),
        position: Position {
            follows: None,
            depth: target.depth,
            forked_from: Some(format!("{id}/{}", target.version)),
            ..Position::default()
        },
    };
    let mut phases = Phases::default();
    let built = build(inner, &new, create, network, Some(origin), Restore::No, context, &mut phases).await?;
    let info = describe(inner, &new, &built.found, built.task.as_ref());
    phases.total = millis(began);
    let result = SnapshotForkResult {
        workspace_id: new.to_string(),
        container_id: info.container_id.clone(),
        image: info.image.clone(),
        snapshotter: info.snapshotter.clone(),
        started: info.task_running,
        from_workspace_id: id.to_string(),
        from_version: target.version,
        phases_ms: phases,
    };
    context.complete_with(|event| event.container = Some(Box::new(info)));
    Ok(result)
}
