use super::flatten;
use super::history::{History, history_to_change};
use super::relocate::{DataGraft, RelocateIntent, relocate, runs};
use super::renew::Renewal;
use super::version::{Position, check, cut, name_of};
use crate::engine::EngineInner;
use crate::error::{Error, Result};
use crate::lifecycle::millis;
use crate::lifecycle::recover::take;
use crate::lifecycle::resolve::{Found, existing};
use crate::lifecycle::stop::grace;
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use crate::store::{JournalEntry, NewEvent, OperationKind, VersionRecord};
use crate::types::{LifecycleKind, Phases, SnapshotCreateOptions, SnapshotCreateResult};
use jiff::Timestamp;
use std::time::{Duration, Instant};

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
    let mut phases = Phases::default();
    let kept =
        keep_version(inner, id, &found, (name, source), None, None, grace, context, &mut phases).await?;
    let Kept { version, downtime_ms, .. } = kept;
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
        downtime_ms,
        phases_ms: phases,
    })
}

/// A version that was made.
pub(in crate::lifecycle) struct Kept {
    pub(in crate::lifecycle) version: VersionRecord,
    pub(in crate::lifecycle) downtime_ms: u64,
    /// Why the data directory that was to be put in its place was not.
    pub(in crate::lifecycle) not_grafted: Option<Error>,
}

/// Makes a version of a workspace as it is, called by the first of `label` and made for the second. One that runs is
/// stopped, and runs again afterwards unless `restart` says no. It goes on with the data directory of `graft`, where there
/// is one. The caller holds the lock.
#[expect(clippy::too_many_arguments, reason = "all that the operations which do this have found out")]
pub(in crate::lifecycle) async fn keep_version(
    inner: &EngineInner,
    id: &WorkspaceId,
    found: &Found,
    label: (String, String),
    restart: Option<bool>,
    graft: Option<DataGraft>,
    grace: Duration,
    context: &OperationContext,
    phases: &mut Phases,
) -> Result<Kept> {
    let runs = runs(inner, found).await?;
    let history = history_to_change(inner, id, found).await?;
    let version = next(found, &history, "snapshot", label.0, label.1);
    let flat = flatten::plan(inner, found, &history, &version.snapshot, version.depth).await?;
    context.check_cancelled()?;
    let event = NewEvent::of(LifecycleKind::Snapshot, id, &found.container.id);
    let intent = RelocateIntent {
        container_id: found.container.id.clone(),
        snapshotter: found.container.snapshotter.clone(),
        from: found.container.snapshot_key.clone(),
        to: runtime_name(found, "active"),
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
        graft,
        renewal: None,
        base: None,
        lower_bases: Vec::new(),
        keep: Some(version.clone()),
        restart: restart.unwrap_or(runs),
        event: Some(event.operation(context.id()).version(version.version)),
    };
    inner.store.begin(&JournalEntry::new(context.id(), OperationKind::Relocate, id, &intent)?).await?;
    let relocated = relocate(inner, id, found, &intent, grace, context, phases).await?;
    Ok(Kept { version, downtime_ms: relocated.downtime_ms, not_grafted: relocated.not_grafted })
}

/// Makes a version of a workspace as it is, and lets it go on from another image, with its data. The caller holds the lock.
pub(in crate::lifecycle) async fn renew_from(
    inner: &EngineInner,
    id: &WorkspaceId,
    found: &Found,
    renewal: Renewal,
    grace: Duration,
    context: &OperationContext,
    phases: &mut Phases,
) -> Result<Kept> {
    let restart = runs(inner, found).await?;
    let history = history_to_change(inner, id, found).await?;
    let name = cut(format!("Before it was made of {}", renewal.image.name));
    let version = next(found, &history, "snapshot", name, "recreate".to_owned());
    context.check_cancelled()?;
    let data_dir = &inner.config.guest.data_dir;
    let event = NewEvent::of(LifecycleKind::Recreate, id, &found.container.id);
    let event = event.operation(context.id()).image(&renewal.image.name).version(version.version);
    let intent = RelocateIntent {
        container_id: found.container.id.clone(),
        snapshotter: found.container.snapshotter.clone(),
        from: found.container.snapshot_key.clone(),
        to: runtime_name(found, "active"),
        parent: renewal.image.top_snapshot.clone(),
        position: Position {
            follows: Some(version.version),
            depth: 0,
            last: version.version,
            stamp: context.id().to_owned(),
            forked_from: history.position.forked_from.clone(),
            image: Some(renewal.image.name.clone()),
        },
        flat: None,
        graft: Some(DataGraft {
            from: version.snapshot.clone(),
            path: data_dir.clone(),
            onto: data_dir.clone(),
            name: runtime_name(found, "data"),
            amount: None,
        }),
        renewal: Some(renewal),
        base: None,
        lower_bases: Vec::new(),
        keep: Some(version.clone()),
        restart,
        event: Some(event),
    };
    inner.store.begin(&JournalEntry::new(context.id(), OperationKind::Relocate, id, &intent)?).await?;
    let relocated = relocate(inner, id, found, &intent, grace, context, phases).await?;
    Ok(Kept { version, downtime_ms: relocated.downtime_ms, not_grafted: relocated.not_grafted })
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
