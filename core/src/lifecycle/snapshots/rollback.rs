use super::create::{next, runtime_name};
use super::history::history_to_change;
use super::relocate::{RelocateIntent, relocate, runs};
use super::version::{Position, check_number, cut, is_base, name_of, unknown};
use crate::engine::EngineInner;
use crate::error::Result;
use crate::lifecycle::millis;
use crate::lifecycle::recover::take;
use crate::lifecycle::resolve::existing;
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
    check_number(options.version)?;
    let _guard = take(inner, id, context).await?;
    let found = existing(inner, id).await?;
    // All that can be known to fail is found out before anything is stopped.
    let history = history_to_change(inner, id, &found).await?;
    let target = history.version(id, options.version)?.clone();
    if inner.backend.snapshot(&target.snapshotter, &target.snapshot).await?.is_none() {
        return Err(unknown(id, options.version).with("snapshot", &target.snapshot));
    }
    let restart = runs(inner, &found).await?;
    let keep = if options.discard {
        None
    } else {
        let name = format!("Before the rollback to {}", name_of(&target));
        Some(next(&found, &history, "rollback", cut(name), "rollback".to_owned()))
    };
    let mut bases = Vec::new();
    if let Some(active) = history.active.as_ref().filter(|_| options.discard) {
        let mut below = active.parent.clone();
        while let Some(base) = inner.backend.snapshot(&found.container.snapshotter, &below).await?
            && is_base(&base)
            && !bases.contains(&base.key)
        {
            below = base.parent;
            bases.push(base.key);
        }
    }
    let mut bases = bases.into_iter();
    context.check_cancelled()?;
    let last = keep.as_ref().map_or(history.next_number() - 1, |kept| kept.version);
    let event = NewEvent::of(LifecycleKind::Rollback, id, &found.container.id);
    let intent = RelocateIntent {
        container_id: found.container.id.clone(),
        snapshotter: found.container.snapshotter.clone(),
        from: found.container.snapshot_key.clone(),
        to: runtime_name(&found, "active"),
        parent: target.snapshot.clone(),
        position: Position {
            follows: Some(target.version),
            depth: target.depth,
            last,
            stamp: context.id().to_owned(),
            forked_from: history.position.forked_from.clone(),
            image: history.position.image.clone(),
        },
        flat: None,
        graft: None,
        renewal: None,
        base: bases.next(),
        lower_bases: bases.collect(),
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
