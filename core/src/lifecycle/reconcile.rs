use super::bridge::socket;
use super::create::build;
use super::list::filters;
use super::recover::take;
use super::resolve::{Found, resolve, workspace_of};
use super::seed::Restore;
use super::snapshots::{self, Strays};
use super::start::{repair_network, start_existing};
use super::{lost, options};
use crate::backend::TaskStatus;
use crate::engine::{Engine, EngineInner};
use crate::error::{Error, Result};
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use crate::types::{
    CreateOptions, Event, EventType, NetworkMode, Phases, ReconcileOptions, ReconcileOutcome,
    ReconcileResult, ReconciledWorkspace,
};
use futures::stream::{self, StreamExt};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The most workspaces that are worked on at a time.
const MOST: u32 = 64;

/// Puts every workspace in order that has a record, a container, or a writable snapshot that a lost container has left.
/// A fault of one is told of that one and never stops the others.
pub(crate) async fn reconcile(
    engine: &Engine,
    options: ReconcileOptions,
    context: &OperationContext,
) -> Result<ReconcileResult> {
    let inner = &engine.inner;
    if options.parallelism > MOST {
        return Err(Error::invalid_argument(format!("malformed option parallelism: it may be 0 to {MOST}"))
            .with("field", "parallelism")
            .with("value", options.parallelism));
    }
    let at_once = match options.parallelism {
        0 => 2 * std::thread::available_parallelism().map_or(1, usize::from),
        asked => asked as usize,
    };
    lost::complete_records(inner).await?;
    let (ids, strays) = known(inner).await?;
    let strays = Arc::new(strays);
    let total = ids.len() as u64;
    let work = ids.into_iter().map(|id| {
        let (engine, context, strays) = (engine.clone(), context.clone(), strays.clone());
        // A task of its own: one workspace's work is not held up by the polling of another's.
        tokio::spawn(async move {
            let inner = &engine.inner;
            let done = match context.check_cancelled() {
                Ok(()) => put_in_order(inner, &id, &strays, &context).await,
                Err(error) => Err(error),
            };
            outcome(id, done)
        })
    });
    // Spawned only as they are taken: the stream is lazy.
    let mut work = stream::iter(work).buffer_unordered(at_once);
    let mut workspaces = Vec::new();
    while let Some(done) = work.next().await {
        let Some(done) = done.map_err(|e| Error::unexpected("a workspace's work panicked").caused_by(e))?
        else {
            continue;
        };
        let mut event = Event::new(EventType::Reconciled);
        workspaces.push(done.clone());
        event.reconciled = Some(Box::new(done));
        event.done = Some(workspaces.len() as u64);
        event.total = Some(total);
        context.emit(event);
    }
    context.check_cancelled()?;
    workspaces.sort_by(|a, b| a.workspace_id.cmp(&b.workspace_id));
    let failed = workspaces.iter().filter(|done| done.outcome == ReconcileOutcome::Failed).count() as u64;
    Ok(ReconcileResult { workspaces, failed })
}

fn outcome(id: WorkspaceId, done: Result<Option<ReconciledWorkspace>>) -> Option<ReconciledWorkspace> {
    match done {
        Ok(done) => done,
        Err(error) => {
            tracing::warn!(workspace = %id, %error, "the workspace cannot be put in order");
            Some(ReconciledWorkspace {
                message: Some(error.message_with_cause()),
                code: Some(error.kind().as_str().to_owned()),
                ..reconciled(&id, ReconcileOutcome::Failed)
            })
        }
    }
}

fn reconciled(id: &WorkspaceId, outcome: ReconcileOutcome) -> ReconciledWorkspace {
    ReconciledWorkspace {
        workspace_id: id.to_string(),
        outcome,
        recovered_snapshots: Vec::new(),
        message: None,
        code: None,
    }
}

/// All workspaces of which there is anything, and what lost containers have left.
async fn known(inner: &EngineInner) -> Result<(BTreeSet<WorkspaceId>, Strays)> {
    let mut ids: BTreeSet<WorkspaceId> = inner.store.workspaces().await?.into_iter().collect();
    ids.extend(inner.store.unfinished_workspaces().await?);
    let mut snapshotters = BTreeSet::from([inner.config.containerd.snapshotter.clone()]);
    for container in inner.backend.containers(&filters(&inner.config)).await? {
        ids.extend(workspace_of(&inner.config, &container));
        snapshotters.insert(container.snapshotter);
    }
    let strays = snapshots::strays(inner, &snapshotters).await?;
    ids.extend(strays.owners(inner));
    Ok((ids, strays))
}

/// Puts one workspace in order. None when there is nothing of it any more.
async fn put_in_order(
    inner: &EngineInner,
    id: &WorkspaceId,
    strays: &Strays,
    context: &OperationContext,
) -> Result<Option<ReconciledWorkspace>> {
    let _guard = take(inner, id, context).await?;
    let Some(found) = resolve(inner, id).await? else {
        return rebuild(inner, id, context).await;
    };
    if is_elsewhere(inner, &found) {
        return Ok(None);
    }
    let recovered_snapshots =
        if strays.any_of(inner, id)? { keep_orphans(inner, id, &found).await? } else { Vec::new() };
    let status = inner.backend.task(&found.container.id).await?.map(|task| task.status);
    let wanted = found.record.as_ref().is_some_and(|record| record.auto_start);
    let outcome = match status {
        Some(TaskStatus::Running | TaskStatus::Paused) => {
            repair_network(inner, &found).await?;
            ReconcileOutcome::Running
        }
        _ if wanted => {
            start_existing(inner, id, &found, &quiet(context), &mut Phases::default()).await?;
            ReconcileOutcome::Started
        }
        _ => ReconcileOutcome::Stopped,
    };
    Ok(Some(ReconciledWorkspace { recovered_snapshots, ..reconciled(id, outcome) }))
}

/// Whether a workspace is another data root's.
pub(super) fn is_elsewhere(inner: &EngineInner, found: &Found) -> bool {
    let socket = socket(inner, &found.container);
    found.record.is_none() && socket.is_some_and(|socket| !socket.starts_with(&inner.config.data_root))
}

/// Makes the container anew that a workspace has lost, of what it has left. It runs if it was to run.
async fn rebuild(
    inner: &EngineInner,
    id: &WorkspaceId,
    context: &OperationContext,
) -> Result<Option<ReconciledWorkspace>> {
    let record = inner.store.workspace(id).await?;
    let snapshotter = record
        .as_ref()
        .map_or_else(|| inner.config.containerd.snapshotter.clone(), |record| record.snapshotter.clone());
    let orphans = snapshots::orphans(inner, id, &snapshotter).await?.into_snapshots();
    if record.is_none() && orphans.is_empty() {
        return Ok(None);
    }
    let wanted = record.as_ref().is_some_and(|record| record.auto_start);
    let options = record.map_or_else(
        || CreateOptions::default().snapshotter(snapshotter.clone()),
        |record| record.options.image(record.image),
    );
    let options = options.start(wanted);
    options::check(&options, &inner.config)?;
    let network = options.network.unwrap_or(inner.config.network.mode);
    if network == NetworkMode::Cni {
        inner.network.check(&options.ports)?;
    }
    let quiet = quiet(context);
    build(inner, id, options, network, None, Restore::Lost, &quiet, &mut Phases::default()).await?;
    let recovered_snapshots = orphans.into_iter().map(|snapshot| snapshot.key).collect();
    Ok(Some(ReconciledWorkspace { recovered_snapshots, ..reconciled(id, ReconcileOutcome::Rebuilt) }))
}

/// Makes versions of the writable snapshots that no container stands on, beside the one that the workspace has.
async fn keep_orphans(inner: &EngineInner, id: &WorkspaceId, found: &Found) -> Result<Vec<String>> {
    let snapshotter = &found.container.snapshotter;
    let left = snapshots::orphans(inner, id, snapshotter).await?.into_snapshots();
    if left.is_empty() {
        return Ok(Vec::new());
    }
    snapshots::keep_beside(inner, id, found, left).await
}

/// The same cancellation, but no events: many workspaces' steps would be one stream.
fn quiet(context: &OperationContext) -> OperationContext {
    context.without_events()
}
