//! Limits of a workspace: kept in its record and specification, put in force where it runs, and told as the kernel has them.

use super::create::record as new_record;
use super::info::describe;
use super::options::check_change;
use super::recover::take;
use super::resolve::{Found, existing, resolve};
use crate::backend::{Task, TaskStatus};
use crate::engine::EngineInner;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{BlockDevice, InForce, LimitChange, Reach, Seen, is_met};
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use crate::store::{JournalEntry, OperationKind, WorkspaceRecord};
use crate::types::{
    CreateOptions, LimitInfo, LimitName, LimitState, Limits, SetLimitsOptions, SetLimitsResult,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Why a limit that can be in force is not.
const NOT_RUNNING: &str = "the workspace does not run";
const UNSEEN: &str = "the task's control groups cannot be seen from here";
const NOT_COUNTED: &str = "the kernel has no such limit for this task";
const OTHERWISE: &str =
    "the kernel holds the workspace to another value: set the limits again, or restart it";

/// What a change of limits is about to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct LimitsIntent {
    container_id: String,
    /// All limits that it is to have.
    limits: Limits,
    /// Those that it is to have no more.
    clear: Vec<LimitName>,
}

/// Changes the limits of a workspace. Once begun it completes, now or by the workspace's next operation.
pub(crate) async fn set_limits(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: SetLimitsOptions,
    context: &OperationContext,
) -> Result<SetLimitsResult> {
    check_change(&options)?;
    let _guard = take(inner, id, context).await?;
    let found = existing(inner, id).await?;
    let mut limits = limits_of(&found);
    for name in LimitName::ALL {
        if options.limits.get(name).is_some() || options.clear.contains(&name) {
            limits.take(name, &options.limits);
        }
    }
    let container_id = found.container.id.clone();
    let intent = LimitsIntent { container_id, limits, clear: options.clear };
    context.check_cancelled()?;
    inner.store.begin(&JournalEntry::new(context.id(), OperationKind::Limits, id, &intent)?).await?;
    let refused = match complete(inner, id, &found, &intent, context.id()).await {
        Ok(refused) => refused,
        Err(error) => {
            // What was refused for good must not be tried for ever; else the next operation completes it.
            if !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) {
                inner.store.finish(context.id(), None, &[]).await?;
            }
            return Err(error);
        }
    };
    let found = existing(inner, id).await?;
    let task = inner.backend.task(&found.container.id).await?;
    let limits = Told { clear: &intent.clear, refused }.all(inner, &found, task.as_ref()).await;
    let info = describe(inner, id, &found, task.as_ref());
    context.complete_with(|event| event.container = Some(Box::new(info)));
    Ok(SetLimitsResult { workspace_id: id.to_string(), container_id: found.container.id, limits })
}

/// Completes a change of limits that a process which is gone had begun. The caller holds the workspace's lock.
pub(super) async fn recover(inner: &EngineInner, id: &WorkspaceId, entry: &JournalEntry) -> Result<()> {
    let intent: LimitsIntent = entry.intent()?;
    let found = resolve(inner, id).await?.filter(|found| found.container.id == intent.container_id);
    let done = match &found {
        Some(found) => complete(inner, id, found, &intent, &entry.operation).await,
        None => Err(Error::not_found("the container was removed meanwhile")),
    };
    match done {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => Err(error),
        Err(error) => {
            tracing::warn!(workspace = %id, %error, "a change of limits cannot be completed");
            inner.store.finish(&entry.operation, None, &[]).await
        }
    }
}

/// The specification first, so that whatever starts the workspace next begins with the limits; then what runs; the record
/// last, with the journal. Done twice it does nothing more. Returns what the kernel did not take.
async fn complete(
    inner: &EngineInner,
    id: &WorkspaceId,
    found: &Found,
    intent: &LimitsIntent,
    operation: &str,
) -> Result<BTreeMap<LimitName, String>> {
    let container = &found.container;
    let place = (container.snapshotter.as_str(), container.snapshot_key.as_str());
    let both = |name: &LimitName| intent.clear.contains(name) || intent.limits.get(*name).is_some();
    let reach = reach(inner, place, LimitName::ALL.iter().copied().filter(both)).await;
    inner.backend.limit_container(&container.id, &reach.within(&intent.limits), reach.device()).await?;
    let task = inner.backend.task(&container.id).await?.filter(runs);
    let refused = match &task {
        Some(task) => put_in_force(inner, task, intent, &reach).await?,
        None => BTreeMap::new(),
    };
    let record = record(inner, id, found, intent, task.is_some());
    inner.store.finish(operation, Some(&record), &[]).await?;
    Ok(refused)
}

/// Changes what a running task is held to, as far as it differs. Returns what the kernel does not take now, with the reason.
///
/// # Errors
/// UNAVAILABLE: then nobody has said no, and it is tried again. Any other fault is a reason.
async fn put_in_force(
    inner: &EngineInner,
    task: &Task,
    intent: &LimitsIntent,
    reach: &Reach,
) -> Result<BTreeMap<LimitName, String>> {
    let in_force = in_force(task, reach.device()).await;
    let mut refused = BTreeMap::new();
    let mut changes = Vec::new();
    for name in LimitName::ALL {
        let to = intent.limits.get(name);
        let seen = in_force.as_ref().map(|groups| groups.seen(name));
        let differs = match seen {
            Some(seen) => !is_met(name, to, seen),
            None => true,
        };
        let named = to.is_some() || intent.clear.contains(&name);
        if !named || !differs || reach.why_not(name).is_some() {
            continue;
        }
        let held =
            in_force.as_ref().filter(|_| name == LimitName::MemoryBytes).and_then(InForce::memory_held);
        match (to, held) {
            // The kernel would refuse it, or end processes of the workspace until it is met.
            (Some(bytes), Some(held)) if held as f64 > bytes => {
                refused.insert(
                    name,
                    format!("the processes hold {held} bytes of memory, page cache not counted"),
                );
            }
            _ => changes.push(LimitChange { name, to }),
        }
    }
    if changes.is_empty() {
        return Ok(refused);
    }
    match inner.backend.limit_task(task, &changes, reach.device()).await {
        Ok(more) => refused.extend(more),
        Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
        Err(error) => refused.extend(changes.iter().map(|change| (change.name, error.message().to_owned()))),
    }
    Ok(refused)
}

/// The record with the new limits; an adopted workspace gets its first one.
fn record(
    inner: &EngineInner,
    id: &WorkspaceId,
    found: &Found,
    intent: &LimitsIntent,
    running: bool,
) -> WorkspaceRecord {
    match &found.record {
        Some(there) if there.container_id == found.container.id => {
            let mut record = there.clone();
            record.options.limits = intent.limits.clone();
            record.updated_at = Timestamp::now();
            record
        }
        _ => {
            let options =
                CreateOptions::default().image(found.container.image.clone()).limits(intent.limits.clone());
            new_record(inner, id, &found.container, &options, running)
        }
    }
}

/// What a container can be held to.
pub(super) struct Held {
    pub(super) limits: Limits,
    pub(super) device: Option<BlockDevice>,
}

/// Leaves out of a container's limits what this host cannot hold it to: a runtime would refuse to start it. `place` is its
/// snapshotter and writable snapshot.
pub(super) async fn held(inner: &EngineInner, place: (&str, &str), limits: &Limits) -> Held {
    let reach =
        reach(inner, place, LimitName::ALL.into_iter().filter(|name| limits.get(*name).is_some())).await;
    Held { limits: reach.within(limits), device: reach.device() }
}

/// The limits of a workspace, as they were asked for and as they are.
pub(super) async fn told(inner: &EngineInner, found: &Found, task: Option<&Task>) -> Vec<LimitInfo> {
    Told { clear: &[], refused: BTreeMap::new() }.all(inner, found, task).await
}

/// What is known of limits besides what the kernel tells.
struct Told<'a> {
    /// Those that are told though nobody wants them any more.
    clear: &'a [LimitName],
    /// Those that the kernel did not take, with the reason.
    refused: BTreeMap<LimitName, String>,
}

impl Told<'_> {
    async fn all(mut self, inner: &EngineInner, found: &Found, task: Option<&Task>) -> Vec<LimitInfo> {
        let limits = limits_of(found);
        let named = |name: &LimitName| limits.get(*name).is_some() || self.clear.contains(name);
        let names: Vec<LimitName> = LimitName::ALL.into_iter().filter(named).collect();
        if names.is_empty() {
            return Vec::new();
        }
        let place = (found.container.snapshotter.as_str(), found.container.snapshot_key.as_str());
        let reach = reach(inner, place, names.iter().copied()).await;
        let task = task.filter(|task| runs(task));
        let groups = match task {
            Some(task) => in_force(task, reach.device()).await,
            None => None,
        };
        let one = |name| {
            let wanted = limits.get(name);
            let seen = groups.as_ref().map(|groups| groups.seen(name));
            let (state, reason) = match (reach.why_not(name).filter(|_| wanted.is_some()), task, seen) {
                (Some(why), ..) => (LimitState::Unsupported, Some(why)),
                (None, None, _) => (LimitState::PendingRestart, Some(NOT_RUNNING.to_owned())),
                (None, Some(_), None) => {
                    (LimitState::PendingRestart, self.refused.remove(&name).or(Some(UNSEEN.to_owned())))
                }
                (None, Some(_), Some(seen)) if is_met(name, wanted, seen) => (LimitState::Applied, None),
                (None, Some(_), Some(Seen::Missing)) => {
                    (LimitState::Unsupported, self.refused.remove(&name).or(Some(NOT_COUNTED.to_owned())))
                }
                (None, Some(_), Some(_)) => {
                    (LimitState::PendingRestart, self.refused.remove(&name).or(Some(OTHERWISE.to_owned())))
                }
            };
            LimitInfo { name, wanted, effective: seen.and_then(Seen::value), state, reason }
        };
        names.into_iter().map(one).collect()
    }
}

fn limits_of(found: &Found) -> Limits {
    found.record.as_ref().map(|record| record.options.limits.clone()).unwrap_or_default()
}

fn runs(task: &Task) -> bool {
    matches!(task.status, TaskStatus::Running | TaskStatus::Paused) && task.pid > 0
}

/// What this host can hold a workspace to, looked at as far as these limits need it. Where it cannot be told what carries the
/// snapshot, nothing is limited of it.
async fn reach(inner: &EngineInner, place: (&str, &str), names: impl Iterator<Item = LimitName>) -> Reach {
    let mut storage = None;
    if Reach::needs_storage(names) {
        match inner.backend.storage(place.0, place.1).await {
            Ok(found) => storage = Some(found),
            Err(error) => tracing::debug!(%error, "cannot tell what carries the snapshot"),
        }
    }
    Reach::of_host(storage)
}

/// The control groups of a task, if they can be seen. A few reads of the kernel's files.
async fn in_force(task: &Task, device: Option<BlockDevice>) -> Option<InForce> {
    let (pid, container) = (task.pid, task.container.clone());
    tokio::task::spawn_blocking(move || InForce::of(pid, &container, device)).await.ok().flatten()
}
