//! Keeps workspaces running whose options say so: starts again what has ended by itself, after a pause.
//!
//! Any number of engines may see the same end. Each waits for the pause, takes the workspace's lock and looks again: one
//! starts it, the others find it running, or find that somebody has tried since, and put it off anew.

use super::millis;
use super::recover::take;
use super::resolve::{Found, resolve};
use super::start::start_existing;
use crate::backend::{TaskExit, TaskStatus};
use crate::engine::EngineInner;
use crate::error::{Error, Result};
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use crate::store::NewEvent;
use crate::types::{LifecycleKind, Phases, RestartOptions, RestartPolicy};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// A first process that ran this long has got over what ended the one before.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// The end of a first process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) container: String,
    pub(super) pid: u32,
    pub(super) exit: TaskExit,
}

impl End {
    /// What tells this end from any other.
    fn name(&self) -> String {
        format!("{}/{}@{}", self.container, self.pid, self.exit.at.as_nanosecond())
    }
}

/// The workspaces that this engine is about to start again.
#[derive(Debug, Default)]
pub(crate) struct Restarting {
    waiting: Mutex<HashMap<WorkspaceId, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    end: String,
    stop: CancellationToken,
}

impl Restarting {
    /// Notes that a restart after this end waits; one after an earlier end no longer does. None when it waits already.
    fn begin(&self, id: &WorkspaceId, end: &End, stop: CancellationToken) -> Option<CancellationToken> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let end = end.name();
        if waiting.get(id).is_some_and(|waits| waits.end == end) {
            return None;
        }
        if let Some(before) = waiting.insert(id.clone(), Waiting { end, stop: stop.clone() }) {
            before.stop.cancel();
        }
        Some(stop)
    }

    fn end(&self, id: &WorkspaceId, end: &End) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.get(id).is_some_and(|waits| waits.end == end.name()) {
            waiting.remove(id);
        }
    }
}

/// Has a workspace started again whose first process has ended, if it is to be. Returns at once; the pause and the start
/// are waited for by a task of their own, which keeps no engine alive.
pub(super) async fn keep_running(inner: &Arc<EngineInner>, id: WorkspaceId, end: End) -> Result<()> {
    let Some(record) = inner.store.workspace(&id).await? else { return Ok(()) };
    if !record.auto_start || !applies(&record.options.restart, end.exit) {
        return Ok(());
    }
    let Some(stop) = inner.restarting.begin(&id, &end, inner.runner.closing_token()) else { return Ok(()) };
    let engine = Arc::downgrade(inner);
    tokio::spawn(async move {
        stop.run_until_cancelled(try_until_done(&engine, &id, &end)).await;
        if let Some(inner) = engine.upgrade() {
            inner.restarting.end(&id, &end);
        }
    });
    Ok(())
}

/// Whether a policy wants a first process back that ended this way.
fn applies(options: &RestartOptions, exit: TaskExit) -> bool {
    match options.policy {
        RestartPolicy::No => false,
        RestartPolicy::OnFailure => exit.code != 0,
        RestartPolicy::Always => true,
    }
}

/// An attempt as it is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    /// Attempts in a row before it.
    before: u32,
    pause: Duration,
}

impl Plan {
    fn attempt(self) -> u32 {
        self.before.saturating_add(1)
    }
}

async fn try_until_done(engine: &Weak<EngineInner>, id: &WorkspaceId, end: &End) {
    let mut pause = None;
    loop {
        let Some(inner) = engine.upgrade() else { return };
        let plan = match plan(&inner, id, end).await {
            Ok(Some(plan)) => Some(plan),
            Ok(None) => return,
            // Nothing is known now: the pause before serves once more.
            Err(error) => {
                tracing::debug!(workspace = %id, %error, "cannot look whether to start it again");
                None
            }
        };
        drop(inner);
        let wait = plan.map(|plan| plan.pause).or(pause).unwrap_or(GOOD_RUN);
        pause = Some(wait);
        tokio::time::sleep(wait).await;
        let (Some(plan), Some(inner)) = (plan, engine.upgrade()) else { continue };
        if inner.runner.check_open().is_err() {
            return;
        }
        // An operation like any other: the closing of the engine undoes it and waits for it.
        let restart = inner.runner.run("workspace.restart", {
            let (inner, id, end) = (inner.clone(), id.clone(), end.clone());
            async move |context| restart(&inner, &id, &end, plan, &context).await
        });
        drop(inner);
        match restart.await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => tracing::warn!(workspace = %id, %error, "a workspace could not be started again"),
        }
    }
}

/// What is to be done now; none when nothing is.
async fn plan(inner: &EngineInner, id: &WorkspaceId, end: &End) -> Result<Option<Plan>> {
    let Some(record) = inner.store.workspace(id).await? else { return Ok(None) };
    let options = &record.options.restart;
    if !record.auto_start || !applies(options, end.exit) {
        return Ok(None);
    }
    let before = attempts(inner, id, end).await?;
    if options.max_retries.is_some_and(|most| before >= most) {
        // What is left to do is to say so.
        return Ok(Some(Plan { before, pause: Duration::ZERO }));
    }
    let doubled = options.backoff_ms.saturating_mul(1u64.checked_shl(before).unwrap_or(u64::MAX));
    let pause = Duration::from_millis(doubled.min(options.max_backoff_ms));
    Ok(Some(Plan { before, pause }))
}

/// How many attempts in a row there were before: none when the process that ended had run well.
async fn attempts(inner: &EngineInner, id: &WorkspaceId, end: &End) -> Result<u32> {
    let Some(restarts) = inner.store.restarts(id).await? else { return Ok(0) };
    let tried = restarts.after.as_ref() == Some(&end.name());
    let ran = restarts.started_at.map(|started| end.exit.at.duration_since(started));
    let well = ran.is_some_and(|ran| Duration::try_from(ran).is_ok_and(|ran| ran >= GOOD_RUN));
    Ok(if well && !tried { 0 } else { restarts.count })
}

/// Starts it again. False when it is to be planned anew: somebody else has tried meanwhile.
async fn restart(
    inner: &EngineInner,
    id: &WorkspaceId,
    end: &End,
    plan: Plan,
    context: &OperationContext,
) -> Result<bool> {
    let began = Instant::now();
    let _guard = take(inner, id, context).await?;
    let Some(found) = resolve(inner, id).await? else { return Ok(true) };
    let Some(options) = wanted(&found, end) else { return Ok(true) };
    let task = inner.backend.task(&found.container.id).await?;
    match task.as_ref().map(|task| (task.status, task.pid)) {
        // Without a task: somebody tried, in vain, and has cleared up.
        None => {}
        Some((TaskStatus::Stopped, pid)) if pid == end.pid => {}
        // It runs, or what ended is another process, whose end is seen by itself.
        _ => return Ok(true),
    }
    if attempts(inner, id, end).await? != plan.before {
        return Ok(false);
    }
    let event = NewEvent::of(LifecycleKind::Restart, id, &found.container.id).operation(context.id());
    if options.max_retries.is_some_and(|most| plan.before >= most) {
        let message = format!("given up after {} attempts", plan.before);
        let event = event.exit_code(Some(end.exit.code)).message(message);
        let event = event.once(end.exit.at, format!("given up/{}", end.name()));
        // It is told now, whenever the end was.
        inner.store.tell(&NewEvent { at: None, ..event }).await?;
        return Ok(true);
    }
    let mut event = event.exit_code(Some(end.exit.code));
    event.detail.attempt = Some(plan.attempt());
    event.detail.pause_ms = u64::try_from(plan.pause.as_millis()).ok();
    let started = start_existing(inner, id, &found, context, &mut Phases::default()).await;
    if let Err(error) = &started {
        event = event.message(error.message_with_cause());
    }
    inner.store.set_restarts(id, plan.attempt(), &end.name(), &event).await?;
    started.map_err(|e: Error| e.with("attempt", plan.attempt()).with("took_ms", millis(began)))?;
    Ok(true)
}

/// The options by which a workspace is to be started again, if it is.
fn wanted<'a>(found: &'a Found, end: &End) -> Option<&'a RestartOptions> {
    let record = found.record.as_ref()?;
    let options = &record.options.restart;
    let same = found.container.id == end.container && record.container_id == end.container;
    (same && record.auto_start && applies(options, end.exit)).then_some(options)
}
