use super::resolve::existing;
use crate::backend::TaskStatus;
use crate::engine::EngineInner;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::used;
use crate::names::WorkspaceId;
use crate::types::{DiskMetrics, Metrics, MetricsOptions, MetricsStreamOptions};
use futures::stream::{self, BoxStream, Stream, StreamExt};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// The shortest and the longest time between two measurements, in milliseconds.
const SHORTEST_MS: u64 = 100;
const LONGEST_MS: u64 = 3_600_000;

/// Measures what a workspace uses.
///
/// # Errors
/// NOT_FOUND when it has no container.
pub(crate) async fn metrics(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: &MetricsOptions,
) -> Result<Metrics> {
    let found = existing(inner, id).await?;
    let container = &found.container;
    let task = inner.backend.task(&container.id).await?;
    let runs = |status| matches!(status, TaskStatus::Running | TaskStatus::Paused);
    let task = task.filter(|task| runs(task.status) && task.pid > 0);
    let mut metrics =
        Metrics { at: jiff::Timestamp::now().to_string(), running: task.is_some(), ..Metrics::default() };
    if let Some(task) = task {
        let pid = task.pid;
        let used = tokio::task::spawn_blocking(move || used(pid)).await;
        let used = used.map_err(|e| Error::unexpected("the measurement was lost").caused_by(e))?;
        metrics.cpu = used.cpu;
        metrics.memory = used.memory;
        metrics.pids = used.pids;
        metrics.io = used.io;
        metrics.network = used.network;
    }
    if options.disk {
        let usage = inner.backend.snapshot_usage(&container.snapshotter, &container.snapshot_key).await?;
        metrics.disk = Some(DiskMetrics { used_bytes: usage.bytes, inodes: usage.inodes });
    }
    Ok(metrics)
}

/// What a workspace uses, measured again and again; it ends when there is no such workspace any more, and when the engine is closed.
/// The first measurement comes at once; one that is late is not made up for.
pub struct MetricsStream {
    inner: BoxStream<'static, Result<Metrics>>,
}

impl Stream for MetricsStream {
    type Item = Result<Metrics>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.poll_next_unpin(cx)
    }
}

impl fmt::Debug for MetricsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsStream").finish_non_exhaustive()
    }
}

/// Measures again and again.
///
/// # Errors
/// INVALID_ARGUMENT for an interval out of bounds; NOT_FOUND when it has no container.
pub(crate) async fn follow(
    inner: &Arc<EngineInner>,
    id: &WorkspaceId,
    options: MetricsStreamOptions,
) -> Result<MetricsStream> {
    let interval_ms = options.interval_ms;
    if !(SHORTEST_MS..=LONGEST_MS).contains(&interval_ms) {
        let error = Error::invalid_argument(format!("it may be {SHORTEST_MS} to {LONGEST_MS}"));
        return Err(error.with("field", "interval_ms").with("value", interval_ms));
    }
    existing(inner, id).await?;
    let mut ticks = interval(Duration::from_millis(interval_ms));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let following = Following {
        // A stream keeps no engine alive.
        engine: Arc::downgrade(inner),
        closing: inner.runner.closing_token(),
        id: id.clone(),
        options: MetricsOptions::default().disk(options.disk),
        ticks,
    };
    Ok(MetricsStream { inner: stream::unfold(Some(following), next).boxed() })
}

struct Following {
    engine: Weak<EngineInner>,
    closing: CancellationToken,
    id: WorkspaceId,
    options: MetricsOptions,
    ticks: Interval,
}

/// None is the end; nothing comes after an error.
async fn next(following: Option<Following>) -> Option<(Result<Metrics>, Option<Following>)> {
    let mut following = following?;
    tokio::select! {
        biased;
        () = following.closing.cancelled() => return None,
        _ = following.ticks.tick() => {}
    }
    let inner = following.engine.upgrade()?;
    match metrics(&inner, &following.id, &following.options).await {
        Ok(metrics) => Some((Ok(metrics), Some(following))),
        // It was deleted: there is nothing more to tell.
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => Some((Err(error), None)),
    }
}
