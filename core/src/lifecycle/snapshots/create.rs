use super::flatten;
use super::history::{History, history_to_change};
use super::relocate::{RelocateIntent, relocate, runs};
use super::version::{Position, check, name_of};
use crate::engine::EngineInner;
use crate::error::Result;
use crate::lifecycle::millis;
use crate::lifecycle::recover::take;
use crate::lifecycle::resolve::{Found, existing};
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
    let _guard = take(inner, id, context).await?;
    let found = existing(inner, id).await?;
    let restart = runs(inner, &found).await?;
    let history = history_to_change(inner, id, &found).await?;
    let version = next(&found, &history, "snapshot", name, source);
    let flat = flatten::plan(inner, &found, &history, &version.snapshot, version.depth).await?;
    context.check_cancelled()?;
    let event = NewEvent::of(LifecycleKind::Snapshot, id, &found.container.id);
    let intent = RelocateIntent {
        container_id: found.container.id.clone(),
        snapshotter: found.container.snapshotter.clone(),
        from: found.container.snapshot_key.clone(),
        to: runtime_name(&found, "active"),
        parent: version.snapshot.clone(),
        position: Position {
            follows: Some(version.version),
            depth: version.depth,
            last: version.version,
            stamp: context.id().to_owned(),
            forked_from: history.position.forked_from.clone(),
            image: history.position.image.clone(),
        },
        flat,
        base: None,
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
pub(super) fn next(
    found: &Found,
    history: &History,
    kind: &str,
    display_name: String,
    source: String,
) -> VersionRecord {
    let container = &found.container;
    VersionRecord {
        version: history.next_number(),
        container_id: container.id.clone(),
        snapshotter: container.snapshotter.clone(),
        snapshot: runtime_name(found, kind),
        parent: history.active.as_ref().map(|active| active.parent.clone()).unwrap_or_default(),
        display_name,
        source,
        created_at: Timestamp::now(),
        follows: history.position.follows,
        depth: history.position.depth + 1,
    }
}

/// A name in the snapshotter that nothing has had.
pub(super) fn runtime_name(found: &Found, kind: &str) -> String {
    format!("{}-{kind}-{}", found.container.id, Timestamp::now().as_nanosecond())
}
