use super::relocate::{RelocateIntent, relocate, runs};
use super::version::{check, name_of, versions};
use crate::engine::EngineInner;
use crate::error::Result;
use crate::lifecycle::info::missing;
use crate::lifecycle::millis;
use crate::lifecycle::recover::recover;
use crate::lifecycle::resolve::{Found, resolve};
use crate::lifecycle::stop::grace;
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use crate::store::{JournalEntry, NewEvent, OperationKind, VersionRecord};
use crate::types::{LifecycleKind, Phases, SnapshotCreateOptions, SnapshotCreateResult};
use jiff::Timestamp;
use std::time::Instant;

/// Makes a version of a workspace as it is. One that runs is stopped for it and runs again afterwards.
pub(crate) async fn create(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: SnapshotCreateOptions,
    context: &OperationContext,
) -> Result<SnapshotCreateResult> {
    let began = Instant::now();
    let grace = grace(inner, options.grace_ms)?;
    let (name, source) = check(options.name.as_deref(), options.source.as_deref())?;
    let _guard = context.or_cancelled(inner.locks.acquire(id)).await?;
    recover(inner, id).await?;
    let found = resolve(inner, id).await?.ok_or_else(|| missing(id))?;
    let restart = runs(inner, &found).await?;
    let version = next(inner, id, &found, "snapshot", name, source).await?;
    context.check_cancelled()?;
    let event = NewEvent::of(LifecycleKind::Snapshot, id, &found.container.id);
    let intent = RelocateIntent {
        container_id: found.container.id.clone(),
        snapshotter: found.container.snapshotter.clone(),
        from: found.container.snapshot_key.clone(),
        to: runtime_name(&found, "active"),
        parent: version.snapshot.clone(),
        keep: Some(version.clone()),
        restart,
        event: Some(event.operation(context.id()).version(version.version)),
    };
    inner.store.begin(&JournalEntry::new(context.id(), OperationKind::Relocate, id, &intent)?).await?;
    let mut phases = Phases::default();
    let relocated = relocate(inner, id, &found, &intent, grace, context, &mut phases).await?;
    phases.total = millis(began);
    Ok(SnapshotCreateResult {
        container_id: version.container_id.clone(),
        snapshot_name: name_of(&version),
        runtime_snapshot_name: version.snapshot,
        display_name: version.display_name,
        snapshotter: version.snapshotter,
        version: version.version,
        source: version.source,
        created_at: version.created_at.to_string(),
        downtime_ms: relocated.downtime_ms,
        phases_ms: phases,
    })
}

/// The next version of a workspace, to be made of its writable snapshot.
pub(super) async fn next(
    inner: &EngineInner,
    id: &WorkspaceId,
    found: &Found,
    kind: &str,
    display_name: String,
    source: String,
) -> Result<VersionRecord> {
    let container = &found.container;
    let versions = versions(inner, id, found).await?;
    let active = inner.backend.snapshot(&container.snapshotter, &container.snapshot_key).await?;
    Ok(VersionRecord {
        version: versions.last().map_or(1, |last| last.version + 1),
        container_id: container.id.clone(),
        snapshotter: container.snapshotter.clone(),
        snapshot: runtime_name(found, kind),
        parent: active.map(|active| active.parent).unwrap_or_default(),
        display_name,
        source,
        created_at: Timestamp::now(),
    })
}

/// A name in the snapshotter that nothing has had.
pub(super) fn runtime_name(found: &Found, kind: &str) -> String {
    format!("{}-{kind}-{}", found.container.id, Timestamp::now().as_nanosecond())
}
