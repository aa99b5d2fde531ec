use super::flatten::{Flat, flatten};
use super::renew::{self, Renewal};
use super::version::{LEFT, NEXT, ONTO, Position, base_labels, from_labels, to_labels};
use crate::backend::{Container, Graft, NewSnapshot, Snapshot, SnapshotKind, TaskStatus};
use crate::engine::EngineInner;
use crate::error::{Error, ErrorKind, Result};
use crate::lifecycle::boot::halt;
use crate::lifecycle::create::HOME;
use crate::lifecycle::resolve::{Found, resolve};
use crate::lifecycle::start::{start_existing, start_stopped};
use crate::lifecycle::{millis, whole_millis};
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use crate::store::{JournalEntry, NewEvent, VersionRecord};
use crate::types::{EventType, Phases};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A workspace's way from one writable snapshot to the next.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::lifecycle) struct RelocateIntent {
    pub(super) container_id: String,
    pub(super) snapshotter: String,
    /// The writable snapshot that is left.
    pub(super) from: String,
    /// The version that is made of it; without one it goes, with all that is in it.
    pub(super) keep: Option<VersionRecord>,
    /// What goes with it, if nothing else stands on it, and what of that kind is below, from above.
    #[serde(default)]
    pub(super) base: Option<String>,
    #[serde(default)]
    pub(super) lower_bases: Vec<String>,
    /// The new writable snapshot, and the version it stands on.
    pub(super) to: String,
    pub(super) parent: String,
    /// Where the new one is in the history.
    pub(super) position: Position,
    /// What takes the version's place below the new one, where the line has become long.
    #[serde(default)]
    pub(super) flat: Option<Flat>,
    /// What is put between that and the new one: the data directory of a snapshot that is kept.
    #[serde(default)]
    pub(super) graft: Option<DataGraft>,
    /// What the container is made of from then on; `parent` is the image's then.
    #[serde(default)]
    pub(super) renewal: Option<Renewal>,
    /// Whether the workspace runs again afterwards.
    pub(super) restart: bool,
    /// What it is told by once it is done. Entries of older processes have none.
    #[serde(default)]
    pub(super) event: Option<NewEvent>,
}

/// A data directory that takes the place of the one that the workspace has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::lifecycle) struct DataGraft {
    /// The committed snapshot that has it, and where.
    pub(in crate::lifecycle) from: String,
    pub(in crate::lifecycle) path: PathBuf,
    pub(in crate::lifecycle) onto: PathBuf,
    /// The snapshot that is made of it.
    pub(in crate::lifecycle) name: String,
    /// How much it must have, where that is known: entries, and bytes of files' data.
    #[serde(default)]
    pub(in crate::lifecycle) amount: Option<(u64, u64)>,
}

/// How a relocation went.
#[derive(Debug, Default)]
pub(super) struct Relocated {
    /// From the stop of the first process until the agent answered again; 0 when nothing ran.
    pub(super) downtime_ms: u64,
    /// Why the data directory that was to be put in its place was not: the workspace goes on with the one it has.
    pub(super) not_grafted: Option<Error>,
}

/// Carries out a relocation whose intent is in the journal, and takes it out again. The caller holds the lock.
///
/// Until the version is committed it can be undone: the workspace goes on where it was. From then on it completes, now
/// or by whoever takes the lock next.
pub(super) async fn relocate(
    inner: &EngineInner,
    id: &WorkspaceId,
    found: &Found,
    intent: &RelocateIntent,
    grace: Duration,
    context: &OperationContext,
    phases: &mut Phases,
) -> Result<Relocated> {
    let began = Instant::now();
    if intent.restart {
        context.emit_kind(EventType::Stopping);
    }
    let left = async {
        halt(inner, id, &intent.container_id, grace).await?;
        phases.stop = millis(began);
        context.check_cancelled()?;
        leave(inner, id, intent).await
    };
    if let Err(error) = left.await {
        // Nobody knows whether a commit without an answer took place: that is for the next who can look.
        if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) {
            return Err(unfinished(error));
        }
        inner.store.finish_move(context.id(), id, &intent.from, None, None, None).await?;
        let mut again = Phases::default();
        if !intent.restart {
            return Err(error);
        }
        // It may run still.
        return match start_existing(inner, id, found, &detached(context), &mut again).await {
            Ok(_) => Err(error),
            Err(not) => Err(error.with("not_restarted", not)),
        };
    }
    let (container, not_grafted) = arrive(inner, id, intent, context).await.map_err(unfinished)?;
    let mut arrived = Found { container, ..found.clone() };
    renew::record(inner, id, &mut arrived, intent).await.map_err(unfinished)?;
    let restarted = match intent.restart {
        // A cancellation comes too late: it would only leave the workspace stopped.
        true => start_stopped(inner, id, &arrived, &detached(context), phases).await.map(Some),
        false => Ok(None),
    };
    finish(inner, id, context.id(), intent).await.map_err(unfinished)?;
    let away = restarted?.map_or(Duration::ZERO, |answered| answered.saturating_duration_since(began));
    Ok(Relocated { downtime_ms: whole_millis(away), not_grafted })
}

/// What stops an operation that cannot be undone any more.
pub(super) fn unfinished(error: Error) -> Error {
    error.with("unfinished", "it is completed by the workspace's next operation")
}

/// Makes a writable snapshot. Done twice it does nothing.
pub(super) async fn prepare(inner: &EngineInner, new: &NewSnapshot) -> Result<()> {
    match inner.backend.prepare_snapshot(new).await {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop),
    }
}

/// Completes a relocation that a process has left unfinished. The caller holds the lock.
pub(in crate::lifecycle) async fn recover(
    inner: &EngineInner,
    id: &WorkspaceId,
    entry: &JournalEntry,
) -> Result<()> {
    let intent: RelocateIntent = entry.intent()?;
    let Some(found) = resolve(inner, id).await? else {
        // Its container was removed by somebody else: what it stood on is kept.
        return inner.store.finish_move(&entry.operation, id, &intent.from, None, None, None).await;
    };
    // The first request of a process that is gone may still be under way. So the way leads on, never back: a second
    // commit of the same name does nothing, and nothing runs that could write meanwhile.
    halt(inner, id, &intent.container_id, Duration::ZERO).await?;
    leave(inner, id, &intent).await?;
    let context = OperationContext::detached(&entry.operation);
    let (container, not_grafted) = arrive(inner, id, &intent, &context).await?;
    if let Some(error) = not_grafted {
        tracing::warn!(workspace = %id, %error, "preserved data was not put back: the workspace goes on with its own");
    }
    let mut arrived = Found { container, ..found };
    renew::record(inner, id, &mut arrived, &intent).await?;
    finish(inner, id, &entry.operation, &intent).await?;
    if !intent.restart {
        return Ok(());
    }
    // The process that is gone may have begun to start it.
    start_existing(inner, id, &arrived, &context, &mut Phases::default()).await.map(drop)
}

/// Writes down where the workspace is now, and takes the relocation out of the journal.
async fn finish(
    inner: &EngineInner,
    id: &WorkspaceId,
    operation: &str,
    intent: &RelocateIntent,
) -> Result<()> {
    let stamp = Some(intent.position.stamp.as_str());
    // The version is there with its event, or neither.
    inner
        .store
        .finish_move(operation, id, &intent.to, intent.keep.as_ref(), stamp, intent.event.as_ref())
        .await
}

/// Completes, or takes back, a relocation that no journal tells of any more. The caller holds the lock.
pub(in crate::lifecycle) async fn recover_lost(
    inner: &EngineInner,
    id: &WorkspaceId,
    container: &Container,
    snapshots: &[Snapshot],
) -> Result<()> {
    let (snapshotter, key) = (container.snapshotter.as_str(), container.snapshot_key.as_str());
    let label = |snapshot: &Snapshot, key: &str| snapshot.labels.get(key).cloned();
    let Some(current) = inner.backend.snapshot(snapshotter, key).await? else {
        // What it stood on has become a version, which tells the way on.
        let made = snapshots.iter().find(|made| {
            made.kind == SnapshotKind::Committed && made.labels.get(LEFT).is_some_and(|left| left == key)
        });
        if let Some(made) = made
            && let (Some(to), Some(parent)) = (label(made, NEXT), label(made, ONTO))
        {
            tracing::info!(workspace = %id, version = made.key, "the workspace goes on from its version");
            let versions = snapshots.iter().filter_map(|other| from_labels(snapshotter, other));
            let (last, target) = versions.fold((0, None), |(last, target), version| {
                (last.max(version.version), if version.snapshot == parent { Some(version) } else { target })
            });
            let was = Position::of(made);
            let position = Position {
                follows: target.as_ref().map_or(was.follows, |target| Some(target.version)),
                depth: target.as_ref().map_or(was.depth, |target| target.depth),
                last,
                stamp: uuid::Uuid::now_v7().to_string(),
                ..was
            };
            let intent = RelocateIntent {
                container_id: container.id.clone(),
                snapshotter: snapshotter.to_owned(),
                from: key.to_owned(),
                keep: from_labels(snapshotter, made),
                to,
                parent,
                position,
                flat: None,
                graft: None,
                renewal: None,
                base: None,
                lower_bases: Vec::new(),
                event: None,
                restart: false,
            };
            let context = OperationContext::detached(&intent.position.stamp);
            return arrive(inner, id, &intent, &context).await.map(drop);
        }
        return Ok(());
    };
    for other in snapshots.iter().filter(|other| other.kind == SnapshotKind::Active && other.key != key) {
        // Made for a way that was never gone, or left by one that has discarded it.
        let unused = label(other, LEFT).is_some_and(|left| left == key);
        let discarded = label(&current, LEFT).is_some_and(|left| left == other.key);
        if unused || discarded {
            tracing::info!(workspace = %id, snapshot = other.key, "removing what a relocation has left");
            inner.backend.remove_snapshot(snapshotter, &other.key).await?;
        }
    }
    Ok(())
}

/// Makes the version of what is left. Done twice it does nothing.
async fn leave(inner: &EngineInner, id: &WorkspaceId, intent: &RelocateIntent) -> Result<()> {
    let Some(version) = &intent.keep else { return Ok(()) };
    let (backend, snapshotter) = (&inner.backend, intent.snapshotter.as_str());
    // The way on is told by the version itself: without it, a workspace whose journal is lost could not go on from here.
    let mut labels = to_labels(&inner.config, id, version);
    labels.insert(HOME.to_owned(), inner.config.home_mark());
    labels.insert(LEFT.to_owned(), intent.from.clone());
    labels.insert(NEXT.to_owned(), intent.to.clone());
    // Without the journal nobody knows of another image: then it goes on as it was.
    let (onto, origin) = match &intent.renewal {
        Some(renewal) => {
            (&version.snapshot, Position { image: renewal.before.clone(), ..intent.position.clone() })
        }
        None => (&intent.parent, intent.position.clone()),
    };
    labels.insert(ONTO.to_owned(), onto.clone());
    origin.add_origin(&mut labels);
    match backend.commit_snapshot(snapshotter, &intent.from, &version.snapshot, &labels).await {
        Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {
            match backend.snapshot(snapshotter, &version.snapshot).await? {
                Some(_) => Ok(()),
                None => Err(error),
            }
        }
        other => other,
    }
}

/// Makes the new writable snapshot and moves the container to it. Done twice it does nothing. Returns the container, and why
/// a data directory that was to be put in its place is not there.
async fn arrive(
    inner: &EngineInner,
    id: &WorkspaceId,
    intent: &RelocateIntent,
    context: &OperationContext,
) -> Result<(Container, Option<Error>)> {
    let (backend, snapshotter) = (&inner.backend, intent.snapshotter.as_str());
    let mut position = intent.position.clone();
    let mut parent = intent.parent.clone();
    if let Some(flat) = &intent.flat
        && flatten(inner, id, snapshotter, flat).await?
    {
        parent.clone_from(&flat.name);
        position.depth = 1;
    }
    let mut not_grafted = None;
    if let Some(data) = &intent.graft {
        context.emit_kind(EventType::Restoring);
        match graft(inner, id, snapshotter, data, &parent, position.depth + 1).await {
            Ok(()) => {
                parent.clone_from(&data.name);
                position.depth += 1;
            }
            // There is nothing to take along.
            Err(error) if error.kind() == ErrorKind::NotFound && data.amount.is_none() => {}
            // It can be tried again.
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => {
                return Err(error);
            }
            Err(error) => {
                renew::go_back(intent, &mut parent, &mut position);
                not_grafted = Some(error);
            }
        }
    }
    let mut labels = position.to_labels(&inner.config, id);
    labels.insert(LEFT.to_owned(), intent.from.clone());
    let new = NewSnapshot { snapshotter: snapshotter.to_owned(), key: intent.to.clone(), parent, labels };
    prepare(inner, &new).await?;
    let container = match &intent.renewal {
        Some(renewal) if not_grafted.is_none() => renew::renew(inner, id, intent, renewal, context).await?,
        _ => backend.move_container(&intent.container_id, &intent.to).await?,
    };
    if intent.keep.is_none() {
        backend.remove_snapshot(snapshotter, &intent.from).await?;
        for base in intent.base.iter().chain(&intent.lower_bases) {
            match backend.remove_snapshot(snapshotter, base).await {
                // A version stands on it, and on all below.
                Err(error) if error.kind() == ErrorKind::FailedPrecondition => break,
                other => drop(other?),
            }
        }
    }
    Ok((container, not_grafted))
}

/// Makes the snapshot that has a data directory of another, on `parent`. Done twice it does nothing.
///
/// # Errors
/// DATA_CORRUPT when there is another amount of it than there has to be; nothing is left of it then.
pub(in crate::lifecycle) async fn graft(
    inner: &EngineInner,
    id: &WorkspaceId,
    snapshotter: &str,
    data: &DataGraft,
    parent: &str,
    depth: u32,
) -> Result<()> {
    let mut labels = base_labels(&inner.config, id, depth);
    labels.insert(HOME.to_owned(), inner.config.home_mark());
    let graft = Graft {
        snapshotter: snapshotter.to_owned(),
        from: data.from.clone(),
        path: data.path.clone(),
        parent: parent.to_owned(),
        onto: data.onto.clone(),
        name: data.name.clone(),
        labels,
    };
    let made = match inner.backend.graft_snapshot(&graft).await {
        // It is made whole or not at all, and was found to be right when it was made.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    };
    let Some(made) = made else {
        return Err(Error::not_found("the snapshot has no data directory").with("snapshot", &data.from));
    };
    let Some(expected) = data.amount.filter(|amount| *amount != (made.entries, made.bytes)) else {
        return Ok(());
    };
    inner.backend.remove_snapshot(snapshotter, &data.name).await?;
    Err(Error::data_corrupt("what is preserved is not what was preserved: its amount is another")
        .with("snapshot", &data.from)
        .with("entries", made.entries)
        .with("expected", expected.0))
}

/// The events go on, but the caller's cancellation is over: what it has asked for is done.
fn detached(context: &OperationContext) -> OperationContext {
    context.without_cancel()
}

/// Whether a workspace's processes are there.
pub(super) async fn runs(inner: &EngineInner, found: &Found) -> Result<bool> {
    let task = inner.backend.task(&found.container.id).await?;
    match task.map(|task| task.status) {
        Some(TaskStatus::Paused) => {
            Err(Error::failed_precondition("the workspace is paused: resume it first")
                .with("container", &found.container.id))
        }
        status => Ok(status == Some(TaskStatus::Running)),
    }
}
