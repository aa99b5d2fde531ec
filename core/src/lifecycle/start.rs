use super::boot::{boot, halt, task_netns};
use super::bridge::{addresses, socket};
use super::create::{build, make_run_dir, record};
use super::info::describe;
use super::recover::take;
use super::resolve::{Found, existing, resolve};
use super::seed::Restore;
use super::{millis, options};
use crate::backend::{NetworkNamespace, TaskStatus};
use crate::engine::EngineInner;
use crate::error::{Error, Result};
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use crate::store::NewEvent;
use crate::types::{
    CreateOptions, EventType, LifecycleKind, NetworkMode, Phases, StartOptions, StartOutcome, StartResult,
};
use std::time::{Duration, Instant};

/// Starts a workspace that is there.
pub(crate) async fn start(
    inner: &EngineInner,
    id: &WorkspaceId,
    _options: StartOptions,
    context: &OperationContext,
) -> Result<StartResult> {
    let began = Instant::now();
    let _guard = take(inner, id, context).await?;
    let found = existing(inner, id).await?;
    run(inner, id, found, context, began).await
}

/// Starts a workspace; one whose container is missing is made anew with the options it was last made with.
pub(crate) async fn ensure_running(
    inner: &EngineInner,
    id: &WorkspaceId,
    _options: StartOptions,
    context: &OperationContext,
) -> Result<StartResult> {
    let began = Instant::now();
    let _guard = take(inner, id, context).await?;
    if let Some(found) = resolve(inner, id).await? {
        repair_network(inner, &found).await?;
        return run(inner, id, found, context, began).await;
    }
    let mut create = inner.store.workspace(id).await?.map_or_else(CreateOptions::default, |record| {
        // The record's image decides, in its full form.
        record.options.image(record.image)
    });
    create.start = true;
    options::check(&create, &inner.config)?;
    let network = create.network.unwrap_or(inner.config.network.mode);
    if network == NetworkMode::Cni {
        inner.network.check(&create.ports)?;
    }
    let mut phases = Phases::default();
    let built = build(inner, id, create, network, None, Restore::Lost, context, &mut phases).await?;
    complete(inner, id, &built.found, StartOutcome::Rebuilt, phases, began, context).await
}

/// Makes a running workspace's connection whole again, when the plugins find a fault in it. One that has its network
/// with its task is connected only when it has no address: others may have given it one.
pub(super) async fn repair_network(inner: &EngineInner, found: &Found) -> Result<()> {
    let container = &found.container;
    let task = inner.backend.task(&container.id).await?;
    let Some(task) = task.filter(|task| task.status == TaskStatus::Running) else { return Ok(()) };
    let ports = || found.record.as_ref().map(|record| record.options.ports.clone()).unwrap_or_default();
    match &container.network {
        NetworkNamespace::Path(netns) if netns.starts_with(&inner.config.data_root) => {
            inner.network.repair(&container.id, netns, &ports()).await?;
        }
        NetworkNamespace::Private
            if found.legacy && addresses(inner, container, Some(&task)).await?.is_empty() =>
        {
            inner.network.attach(&container.id, &task_netns(task.pid), &ports()).await?;
        }
        _ => {}
    }
    Ok(())
}

async fn run(
    inner: &EngineInner,
    id: &WorkspaceId,
    found: Found,
    context: &OperationContext,
    began: Instant,
) -> Result<StartResult> {
    let mut phases = Phases::default();
    let started = start_existing(inner, id, &found, context, &mut phases).await?;
    let outcome = if started { StartOutcome::Started } else { StartOutcome::AlreadyRunning };
    complete(inner, id, &found, outcome, phases, began, context).await
}

async fn complete(
    inner: &EngineInner,
    id: &WorkspaceId,
    found: &Found,
    outcome: StartOutcome,
    mut phases: Phases,
    began: Instant,
    context: &OperationContext,
) -> Result<StartResult> {
    let task = inner.backend.task(&found.container.id).await?;
    let info = describe(inner, id, found, task.as_ref());
    context.complete_with(|event| event.container = Some(Box::new(info)));
    phases.total = millis(began);
    Ok(StartResult { outcome, container_id: found.container.id.clone(), phases_ms: phases })
}

/// Starts a container that is there, unless it runs. Returns whether it was started. The caller holds the lock.
pub(super) async fn start_existing(
    inner: &EngineInner,
    id: &WorkspaceId,
    found: &Found,
    context: &OperationContext,
    phases: &mut Phases,
) -> Result<bool> {
    let container = &found.container;
    match inner.backend.task(&container.id).await?.map(|task| task.status) {
        Some(TaskStatus::Running) => {
            remember(inner, id, found, None).await?;
            return Ok(false);
        }
        Some(TaskStatus::Paused) => {
            return Err(
                Error::failed_precondition("the workspace is paused: resume it first").with("workspace", id)
            );
        }
        None => {}
        // Ended, or made by a process that was gone before it could start it: nothing of it runs.
        Some(TaskStatus::Stopped | TaskStatus::Created | TaskStatus::Unknown) => {
            halt(inner, id, &container.id, Duration::ZERO).await?;
        }
    }
    start_stopped(inner, id, found, context, phases).await?;
    Ok(true)
}

/// Starts a container that has no task. Returns when its agent answered. The caller holds the lock.
pub(super) async fn start_stopped(
    inner: &EngineInner,
    id: &WorkspaceId,
    found: &Found,
    context: &OperationContext,
    phases: &mut Phases,
) -> Result<Instant> {
    let container = &found.container;
    context.check_cancelled()?;
    context.emit_kind(EventType::Starting);
    let options = found.record.as_ref().map(|record| record.options.clone()).unwrap_or_default();
    if !found.legacy {
        let hostname = options.hostname.clone().unwrap_or_else(|| options::default_hostname(id));
        inner.network.write_guest_files(&inner.config.etc_dir(id), &hostname, None)?;
        let run_dir = inner.config.run_dir(id);
        let ours = socket(inner, container).is_some_and(|socket| socket.starts_with(&run_dir));
        // The data root was lost, or cleared by somebody: the container is mended with all that is in it.
        if ours && !run_dir.exists() {
            make_run_dir(&run_dir, &container.user)?;
        }
    }
    let booted = match boot(inner, id, container, &options.ports, found.legacy, context, phases).await {
        Ok(booted) => booted,
        Err(error) => {
            return match halt(inner, id, &container.id, Duration::ZERO).await {
                Ok(_) => Err(error),
                Err(undo) => Err(error.with("not_undone", undo)),
            };
        }
    };
    let event = NewEvent::of(LifecycleKind::Start, id, &container.id).operation(context.id());
    remember(inner, id, found, Some(&event)).await?;
    Ok(booted.answered)
}

/// Notes that the workspace is to run, and tells of its start, if it was started; an adopted one gets its record.
async fn remember(
    inner: &EngineInner,
    id: &WorkspaceId,
    found: &Found,
    event: Option<&NewEvent>,
) -> Result<()> {
    match &found.record {
        Some(record) if record.container_id == found.container.id => {
            inner.store.set_running(id, true, event).await
        }
        _ => {
            let options = CreateOptions::default().image(found.container.image.clone());
            inner.store.put_workspace(&record(inner, id, &found.container, &options, true), event).await
        }
    }
}
