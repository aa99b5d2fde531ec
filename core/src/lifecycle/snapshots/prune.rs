use super::history::{History, history_to_change, owned};
use super::relocate::{prepare, runs, unfinished};
use super::removal::{Removed, remove};
use super::squash::{Merge, Plan, plan};
use super::version::{LEFT, NEXT, ONTO, Position, base_labels, check_number, name_of, to_labels};
use crate::backend::{NewSnapshot, Snapshot, SnapshotFilter, Squash};
use crate::engine::EngineInner;
use crate::error::{Error, ErrorKind, Result};
use crate::lifecycle::boot::halt;
use crate::lifecycle::millis;
use crate::lifecycle::recover::take;
use crate::lifecycle::resolve::{Found, existing, resolve};
use crate::lifecycle::start::start_existing;
use crate::lifecycle::stop::grace;
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use crate::store::{JournalEntry, OperationKind, VersionRecords};
use crate::types::{EventType, Phases, SnapshotDeleteOptions, SnapshotPruneOptions, SnapshotPruneResult};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What a removal of versions is about to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct PruneIntent {
    container_id: String,
    snapshotter: String,
    plan: Plan,
    /// Whether the workspace runs again afterwards.
    restart: bool,
}

/// Removes one version.
pub(crate) async fn delete(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: SnapshotDeleteOptions,
    context: &OperationContext,
) -> Result<SnapshotPruneResult> {
    let began = Instant::now();
    let grace = grace(inner, options.grace_ms)?;
    check_number(options.version)?;
    let _guard = take(inner, id, context).await?;
    let found = existing(inner, id).await?;
    let history = history_to_change(inner, id, &found).await?;
    let version = history.version(id, options.version)?;
    if !options.squash {
        let on_it = standing_on(inner, &found, &history, &version.snapshot).await?;
        if !on_it.is_empty() {
            return Err(Error::failed_precondition(
                "others stand on the version: remove them first, or set squash to make it one with them",
            )
            .with("workspace", id)
            .with("version", options.version)
            .with("standing_on_it", on_it.join(", ")));
        }
    }
    let numbers = BTreeSet::from([options.version]);
    removal(inner, id, &found, &history, numbers, grace, began, context).await
}

/// Removes all versions that are not to be kept.
pub(crate) async fn prune(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: SnapshotPruneOptions,
    context: &OperationContext,
) -> Result<SnapshotPruneResult> {
    let began = Instant::now();
    let grace = grace(inner, options.grace_ms)?;
    if options.keep_last.is_none() && options.older_than_s.is_none() {
        return Err(Error::invalid_argument(
            "malformed options: say with keep_last or older_than_s which versions to keep",
        )
        .with("field", "keep_last"));
    }
    let _guard = take(inner, id, context).await?;
    let found = existing(inner, id).await?;
    let history = history_to_change(inner, id, &found).await?;
    let numbers = to_remove(&history, &options);
    if options.dry_run || numbers.is_empty() {
        let kept = history.versions.iter().map(|v| v.version).filter(|n| !numbers.contains(n)).collect();
        return Ok(SnapshotPruneResult {
            container_id: found.container.id,
            removed: numbers.into_iter().collect(),
            kept,
            phases_ms: Phases { total: millis(began), ..Phases::default() },
            ..SnapshotPruneResult::default()
        });
    }
    removal(inner, id, &found, &history, numbers, grace, began, context).await
}

fn to_remove(history: &History, options: &SnapshotPruneOptions) -> BTreeSet<u64> {
    let last = usize::try_from(options.keep_last.unwrap_or(0)).unwrap_or(usize::MAX);
    let young = options.older_than_s.map(|seconds| {
        let age = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
        Timestamp::now().saturating_sub(age).unwrap_or(Timestamp::MIN)
    });
    history
        .versions
        .iter()
        .rev()
        .skip(last)
        .filter(|version| !options.keep_named || version.display_name.is_empty())
        .filter(|version| young.is_none_or(|young| version.created_at <= young))
        .map(|version| version.version)
        .collect()
}

/// What stands on a version, for people.
async fn standing_on(
    inner: &EngineInner,
    found: &Found,
    history: &History,
    snapshot: &str,
) -> Result<Vec<String>> {
    let filter = SnapshotFilter { parent: Some(snapshot.to_owned()), ..SnapshotFilter::default() };
    let on_it = inner.backend.snapshots(&found.container.snapshotter, &[filter]).await?;
    let name = |snapshot: &Snapshot| match history.versions.iter().find(|v| v.snapshot == snapshot.key) {
        Some(version) => name_of(version),
        None if snapshot.key == found.container.snapshot_key => "the workspace as it is".to_owned(),
        None => snapshot.key.clone(),
    };
    Ok(on_it.iter().map(name).collect())
}

#[expect(clippy::too_many_arguments, reason = "the common end of two operations")]
async fn removal(
    inner: &EngineInner,
    id: &WorkspaceId,
    found: &Found,
    history: &History,
    numbers: BTreeSet<u64>,
    grace: Duration,
    began: Instant,
    context: &OperationContext,
) -> Result<SnapshotPruneResult> {
    let snapshotter = &found.container.snapshotter;
    let all = owned(inner, id, snapshotter).await?;
    let below = match &history.position.forked_from {
        Some(_) => below(inner, snapshotter, &all).await?,
        None => 0,
    };
    let plan = plan(found, history, &all, &numbers, below, context.id());
    let restart = plan.moved.is_some() && runs(inner, found).await?;
    context.check_cancelled()?;
    let intent = PruneIntent {
        container_id: found.container.id.clone(),
        snapshotter: snapshotter.clone(),
        plan,
        restart,
    };
    let before = measured(inner, snapshotter, &intent.plan.remove).await?;
    inner.store.begin(&JournalEntry::new(context.id(), OperationKind::Prune, id, &intent)?).await?;
    let mut phases = Phases::default();
    let mut downtime_ms = 0;
    if let Err(error) = rebuild(inner, id, &intent).await {
        return Err(give_up(inner, id, context.id(), &intent, error).await);
    }
    let stopped = Instant::now();
    if intent.plan.moved.is_some() {
        if restart {
            context.emit_kind(EventType::Stopping);
        }
        let halted = halt(inner, id, &intent.container_id, grace).await;
        phases.stop = millis(stopped);
        if let Err(error) = halted.and_then(|_| context.check_cancelled()) {
            let error = give_up(inner, id, context.id(), &intent, error).await;
            return match again(inner, id, found, &intent, &context.without_cancel(), &mut phases).await {
                Ok(()) => Err(error),
                Err(not) => Err(error.with("not_restarted", not)),
            };
        }
    }
    let arrived = async {
        arrive(inner, id, &intent).await?;
        resolve(inner, id).await
    };
    let arrived = arrived.await.map_err(unfinished)?.unwrap_or_else(|| found.clone());
    let restarted = again(inner, id, &arrived, &intent, &context.without_cancel(), &mut phases).await;
    if restart {
        downtime_ms = millis(stopped);
    }
    let began_delete = Instant::now();
    let removed = finish(inner, id, context.id(), &intent, &arrived).await.map_err(unfinished)?;
    phases.delete = millis(began_delete);
    restarted?;
    let made: Vec<String> = made(&intent.plan);
    let after = measured(inner, snapshotter, &made).await?;
    let gone: u64 =
        before.iter().filter(|(name, _)| removed.gone.contains(name)).map(|(_, bytes)| bytes).sum();
    phases.total = millis(began);
    Ok(SnapshotPruneResult {
        container_id: intent.container_id,
        removed: numbers.into_iter().collect(),
        kept: intent.plan.versions.iter().map(|version| version.version).collect(),
        removed_snapshots: removed.gone,
        left_to_others: removed.left,
        freed_bytes: gone.saturating_sub(after.iter().map(|(_, bytes)| bytes).sum()),
        downtime_ms,
        phases_ms: phases,
    })
}

/// How many layers above the image a fork's own snapshots stand on.
async fn below(inner: &EngineInner, snapshotter: &str, all: &[Snapshot]) -> Result<u32> {
    let lowest = all.iter().find(|snapshot| !all.iter().any(|other| other.key == snapshot.parent));
    let Some(lowest) = lowest else { return Ok(0) };
    let parent = inner.backend.snapshot(snapshotter, &lowest.parent).await?;
    Ok(parent.map_or(0, |parent| Position::of(&parent).depth))
}

/// The names of what is made anew.
fn made(plan: &Plan) -> Vec<String> {
    let rebuilt = plan.rebuilt.iter().map(|rebuilt| rebuilt.merge.name.clone());
    rebuilt.chain(plan.moved.iter().map(|moved| moved.base.name.clone())).collect()
}

/// The sizes of snapshots; what is not there has none.
async fn measured(inner: &EngineInner, snapshotter: &str, names: &[String]) -> Result<Vec<(String, u64)>> {
    let mut sizes = Vec::with_capacity(names.len());
    for name in names {
        match inner.backend.snapshot_usage(snapshotter, name).await {
            Ok(usage) => sizes.push((name.clone(), usage.bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sizes)
}

/// Undoes what can be undone while the workspace stands where it stood; else leaves it to the next who takes the lock.
async fn give_up(
    inner: &EngineInner,
    id: &WorkspaceId,
    operation: &str,
    intent: &PruneIntent,
    error: Error,
) -> Error {
    if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) {
        return unfinished(error);
    }
    match undo(inner, id, operation, intent).await {
        Ok(()) => error,
        Err(undo) => error.with("not_undone", undo),
    }
}

async fn undo(inner: &EngineInner, id: &WorkspaceId, operation: &str, intent: &PruneIntent) -> Result<()> {
    for rebuilt in intent.plan.rebuilt.iter().rev() {
        inner.backend.remove_snapshot(&intent.snapshotter, &rebuilt.merge.name).await?;
    }
    let container = inner.backend.container(&intent.container_id).await?;
    let key = container.map(|container| container.snapshot_key).unwrap_or_default();
    inner.store.finish_move(operation, id, &key, None, None, None).await
}

/// Completes a removal that a process has left unfinished, or undoes it where it cannot be completed. The caller holds
/// the lock.
pub(in crate::lifecycle) async fn recover_prune(
    inner: &EngineInner,
    id: &WorkspaceId,
    entry: &JournalEntry,
) -> Result<()> {
    let intent: PruneIntent = entry.intent()?;
    let Some(found) = resolve(inner, id).await? else {
        // Its container was removed by somebody else: what it stood on is kept.
        return inner.store.finish(&entry.operation, None, &[]).await;
    };
    if let Err(error) = rebuild(inner, id, &intent).await {
        let can_wait = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout);
        let stays = match &intent.plan.moved {
            Some(moved) => inner.backend.snapshot(&intent.snapshotter, &moved.from).await?.is_some(),
            None => Position::of(&active(inner, &found).await?).stamp != intent.plan.position.stamp,
        };
        if can_wait || !stays {
            return Err(error);
        }
        return undo(inner, id, &entry.operation, &intent).await;
    }
    if intent.plan.moved.is_some() {
        halt(inner, id, &intent.container_id, Duration::ZERO).await?;
    }
    arrive(inner, id, &intent).await?;
    let arrived = resolve(inner, id).await?.unwrap_or(found);
    finish(inner, id, &entry.operation, &intent, &arrived).await?;
    let context = OperationContext::detached(&entry.operation);
    again(inner, id, &arrived, &intent, &context, &mut Phases::default()).await
}

async fn active(inner: &EngineInner, found: &Found) -> Result<Snapshot> {
    let container = &found.container;
    let active = inner.backend.snapshot(&container.snapshotter, &container.snapshot_key).await?;
    active.ok_or_else(|| {
        Error::not_found("the workspace's writable snapshot is gone").with("container", &container.id)
    })
}

/// Makes the kept versions anew that stand on what goes. Done twice it does nothing.
async fn rebuild(inner: &EngineInner, id: &WorkspaceId, intent: &PruneIntent) -> Result<()> {
    for rebuilt in &intent.plan.rebuilt {
        let labels = to_labels(&inner.config, id, &rebuilt.version);
        // What it is made of may be gone already, when this is done again.
        if inner.backend.snapshot(&intent.snapshotter, &rebuilt.merge.name).await?.is_none() {
            make(inner, &intent.snapshotter, &rebuilt.merge, labels).await?;
        }
    }
    Ok(())
}

async fn make(
    inner: &EngineInner,
    snapshotter: &str,
    merge: &Merge,
    labels: std::collections::BTreeMap<String, String>,
) -> Result<()> {
    let squash = Squash {
        snapshotter: snapshotter.to_owned(),
        top: merge.top.clone(),
        layers: merge.layers,
        parent: merge.parent.clone(),
        name: merge.name.clone(),
        labels,
    };
    match inner.backend.squash_snapshot(&squash).await {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Moves the workspace off the versions that go, or tells its writable snapshot what has changed. Done twice it does nothing.
async fn arrive(inner: &EngineInner, id: &WorkspaceId, intent: &PruneIntent) -> Result<()> {
    let (backend, snapshotter) = (&inner.backend, intent.snapshotter.as_str());
    let plan = &intent.plan;
    let labels = plan.position.to_labels(&inner.config, id);
    for number in &plan.relabelled {
        if let Some(version) = plan.versions.iter().find(|version| version.version == *number) {
            let labels = to_labels(&inner.config, id, version);
            backend.label_snapshot(snapshotter, &version.snapshot, &labels, true).await?;
        }
    }
    let Some(moved) = &plan.moved else {
        let Some(container) = backend.container(&intent.container_id).await? else { return Ok(()) };
        return backend.label_snapshot(snapshotter, &container.snapshot_key, &labels, true).await;
    };
    let base = base_labels(&inner.config, id, moved.base.depth);
    if backend.snapshot(snapshotter, &moved.base.name).await?.is_none() {
        // It tells the way on, as a version does.
        let mut told = base.clone();
        told.extend(plan.position.to_labels(&inner.config, id));
        told.extend([
            (LEFT.to_owned(), moved.from.clone()),
            (NEXT.to_owned(), moved.to.clone()),
            (ONTO.to_owned(), moved.committed.clone()),
        ]);
        match backend.commit_snapshot(snapshotter, &moved.from, &moved.committed, &told).await {
            Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {
                if backend.snapshot(snapshotter, &moved.committed).await?.is_none() {
                    return Err(error);
                }
            }
            other => other?,
        }
        make(inner, snapshotter, &moved.base, base).await?;
    }
    let new = NewSnapshot {
        snapshotter: snapshotter.to_owned(),
        key: moved.to.clone(),
        parent: moved.base.name.clone(),
        labels,
    };
    prepare(inner, &new).await?;
    backend.move_container(&intent.container_id, &moved.to).await.map(drop)
}

/// Lets the workspace run again, if it ran.
async fn again(
    inner: &EngineInner,
    id: &WorkspaceId,
    found: &Found,
    intent: &PruneIntent,
    context: &OperationContext,
    phases: &mut Phases,
) -> Result<()> {
    if !intent.restart {
        return Ok(());
    }
    start_existing(inner, id, found, context, phases).await.map(drop)
}

/// Removes what goes, writes the versions down, and takes the removal out of the journal.
async fn finish(
    inner: &EngineInner,
    id: &WorkspaceId,
    operation: &str,
    intent: &PruneIntent,
    found: &Found,
) -> Result<Removed> {
    let removed = remove(inner, &intent.snapshotter, &intent.plan.remove).await?;
    let records =
        VersionRecords { stamp: intent.plan.position.stamp.clone(), versions: intent.plan.versions.clone() };
    inner.store.put_versions(id, &records).await?;
    inner.store.finish_move(operation, id, &found.container.snapshot_key, None, None, None).await?;
    Ok(removed)
}
