use super::boot::{halt, remove_sockets};
use super::bridge::socket;
use super::info::describe;
use super::millis;
use super::recover::take;
use super::resolve::existing;
use crate::engine::EngineInner;
use crate::error::{Error, Result};
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use crate::store::NewEvent;
use crate::types::{EventType, LifecycleKind, Phases, StopOptions, StopOutcome, StopResult};
use std::time::{Duration, Instant};

/// The longest grace that is taken for meant: an hour.
const MAX_GRACE_MS: u64 = 60 * 60 * 1000;

/// Stops a workspace. Its network stays, so that it keeps its address; its snapshot and container stay.
pub(crate) async fn stop(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: StopOptions,
    context: &OperationContext,
) -> Result<StopResult> {
    let began = Instant::now();
    let grace = grace(inner, options.grace_ms)?;
    let _guard = take(inner, id, context).await?;
    let found = existing(inner, id).await?;
    context.check_cancelled()?;
    context.emit_kind(EventType::Stopping);
    let (outcome, exit_code) = halt(inner, id, &found.container.id, grace).await?;
    if let Some(run_dir) = socket(inner, &found.container).as_deref().and_then(|socket| socket.parent()) {
        remove_sockets(run_dir);
    }
    // One that does not run, and is not to run, is left as it is.
    let was_to_run = found.record.as_ref().is_some_and(|record| record.auto_start);
    let event = NewEvent::of(LifecycleKind::Stop, id, &found.container.id).operation(context.id());
    let event = event.exit_code(exit_code);
    let told = (outcome != StopOutcome::NotRunning || was_to_run).then_some(&event);
    inner.store.set_running(id, false, told).await?;
    let mut info = describe(inner, id, &found, None);
    info.exit_code = exit_code;
    context.complete_with(|event| event.container = Some(Box::new(info)));
    let took = millis(began);
    Ok(StopResult { outcome, exit_code, phases_ms: Phases { stop: took, total: took, ..Phases::default() } })
}

/// The time from SIGTERM to SIGKILL.
pub(super) fn grace(inner: &EngineInner, asked: Option<u64>) -> Result<Duration> {
    let millis = asked.unwrap_or(inner.config.time_limits.stop_ms);
    if millis > MAX_GRACE_MS {
        return Err(Error::invalid_argument("malformed option grace_ms: it may be 0 to 3600000")
            .with("field", "grace_ms")
            .with("value", millis));
    }
    Ok(Duration::from_millis(millis))
}
