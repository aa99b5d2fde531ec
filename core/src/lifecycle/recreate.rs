use super::create::check_agent;
use super::info::describe;
use super::recover::take;
use super::resolve::existing;
use super::snapshots::{self, Renewal};
use super::stop::grace;
use super::{millis, options};
use crate::backend::{PullRequest, PullTracker};
use crate::engine::EngineInner;
use crate::error::{Error, Result};
use crate::names::{ImageRef, WorkspaceId};
use crate::operation::OperationContext;
use crate::types::{CreateOptions, EventType, Phases, RecreateOptions, RecreateResult};
use std::time::Instant;

/// Lets a workspace go on from another image, or from its own as that is now, with the data that it has. What it was is kept
/// as a version.
///
/// The image is fetched while the workspace runs. Nothing is removed, and where snapshots have layers no byte is copied: the data
/// directory of the version is put between the image and the new writable snapshot.
pub(crate) async fn recreate(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: RecreateOptions,
    context: &OperationContext,
) -> Result<RecreateResult> {
    let began = Instant::now();
    let grace = grace(inner, options.grace_ms)?;
    let asked = options.image.as_deref().map(ImageRef::parse).transpose();
    let asked = asked.map_err(|e| e.with("field", "image"))?;
    check_agent(&inner.config)?;
    let _guard = take(inner, id, context).await?;
    let found = existing(inner, id).await?;
    let container = &found.container;
    if found.legacy {
        return Err(Error::failed_precondition(
            "an older implementation made the workspace: delete it with its data preserved, and create it with that restored",
        )
        .with("container", &container.id));
    }
    // Without layers the data is copied; where a snapshot is no directory it cannot be.
    inner.backend.has_layers(&container.snapshotter, &container.snapshot_key).await?;
    let image = match asked {
        Some(image) => image,
        None => ImageRef::parse(&container.image)?,
    };
    let name = image.to_string();
    let mut phases = Phases::default();
    let request = PullRequest {
        image,
        policy: options.pull_policy,
        platform: None,
        snapshotter: container.snapshotter.clone(),
        credential: None,
    };
    let tracker = PullTracker::default();
    let pull = inner.backend.pull(&request, &tracker, context.cancel_token());
    let pulled = context.with_pull_progress(&name, &tracker, pull).await?;
    (phases.pull, phases.unpack) = (pulled.pull_ms, pulled.unpack_ms);
    context.check_cancelled()?;
    let like = found.record.as_ref().map(|record| record.options.clone()).unwrap_or_default();
    let like = CreateOptions { image: Some(name.clone()), ..like };
    options::check(&like, &inner.config)?;
    context.emit_kind(EventType::Preserving);
    let before = container.image.clone();
    let renewal = Renewal { image: pulled.unpacked, options: like, before: Some(before.clone()) };
    let kept = snapshots::renew_from(inner, id, &found, renewal, grace, context, &mut phases).await?;
    if let Some(error) = kept.not_grafted {
        return Err(error.with("kept_version", kept.version.version));
    }
    let found = existing(inner, id).await?;
    let task = inner.backend.task(&found.container.id).await?;
    let info = describe(inner, id, &found, task.as_ref());
    phases.total = millis(began);
    let result = RecreateResult {
        workspace_id: id.to_string(),
        container_id: info.container_id.clone(),
        image: info.image.clone(),
        previous_image: before,
        kept_version: kept.version.version,
        started: info.task_running,
        downtime_ms: kept.downtime_ms,
        phases_ms: phases,
    };
    context.complete_with(|event| event.container = Some(Box::new(info)));
    Ok(result)
}
