use super::create::{next, runtime_name};
use super::relocate::{RelocateIntent, relocate, runs};
use super::version::{name_of, versions};
use crate::engine::EngineInner;
use crate::error::{Error, Result};
use crate::lifecycle::info::missing;
use crate::lifecycle::millis;
use crate::lifecycle::recover::recover;
use crate::lifecycle::resolve::resolve;
use crate::lifecycle::stop::grace;
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use crate::store::{JournalEntry, NewEvent, OperationKind};
use crate::types::{LifecycleKind, Phases, SnapshotRollbackOptions, SnapshotRollbackResult};
use std::time::Instant;

/// Lets a workspace go on from one of its versions. What it leaves is kept as a version, unless it is to be discarded.
pub(crate) async fn rollback(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: SnapshotRollbackOptions,
    context: &OperationContext,
) -> Result<SnapshotRollbackResult> {
    let began = Instant::now();
    let grace = grace(inner, options.grace_ms)?;
    if options.version == 0 {
        return Err(Error::invalid_argument("malformed option version: versions count from 1")
            .with("field", "version")
            .with("value", options.version));
    }
    let _guard = context.or_cancelled(inner.locks.acquire(id)).await?;
    recover(inner, id).await?;
    let found = resolve(inner, id).await?.ok_or_else(|| missing(id))?;
    // All that can be known to fail is found out before anything is stopped.
    let unknown = || {
        Error::not_found("the workspace has no such version: list its versions")
            .with("workspace", id)
            .with("version", options.version)
    };
    let target = versions(inner, id, &found).await?.into_iter().find(|v| v.version == options.version);
    let target = target.ok_or_else(unknown)?;
    if inner.backend.snapshot(&target.snapshotter, &target.snapshot).await?.is_none() {
        return Err(unknown().with("snapshot", &target.snapshot));
    }
    let restart = runs(inner, &found).await?;
    let keep = if options.discard {
        None
    } else {
        let name = format!("Before the rollback to {}", name_of(&target));
        Some(next(inner, id, &found, "rollback", name, "rollback".to_owned()).await?)
    };
    context.check_cancelled()?;
    let event = NewEvent::of(LifecycleKind::Rollback, id, &found.container.id);
    let intent = RelocateIntent {
        container_id: found.container.id.clone(),
        snapshotter: found.container.snapshotter.clone(),
        from: found.container.snapshot_key.clone(),
        to: runtime_name(&found, "active"),
        parent: target.snapshot.clone(),
        keep,
        restart,
        event: Some(event.operation(context.id()).version(target.version)),
    };
    inner.store.begin(&JournalEntry::new(context.id(), OperationKind::Relocate, id, &intent)?).await?;
    let mut phases = Phases::default();
    let relocated = relocate(inner, id, &found, &intent, grace, context, &mut phases).await?;
    phases.total = millis(began);
    Ok(SnapshotRollbackResult {
        container_id: intent.container_id,
        version: target.version,
        snapshot_name: name_of(&target),
        kept_version: intent.keep.map(|kept| kept.version),
        downtime_ms: relocated.downtime_ms,
        phases_ms: phases,
    })
}
