use super::info::status;
use super::resolve::{is_legacy, workspace_of};
use crate::backend::{Container, ContainerFilter, Task, TaskStatus};
use crate::engine::EngineInner;
use crate::error::{Error, Result};
use crate::names::WorkspaceId;
use crate::types::{ListOptions, WorkspaceList, WorkspaceSummary};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// How many tasks are asked for at a time.
const AT_ONCE: usize = 8;

/// Lists the workspaces, ours and adopted, each once, ordered by id.
pub(crate) async fn list(inner: &EngineInner, options: &ListOptions) -> Result<WorkspaceList> {
    if let Some(after) = &options.after {
        WorkspaceId::new(after.as_str()).map_err(|e| e.with("field", "after"))?;
    }
    let (containers, started) = tokio::try_join!(containers(inner), inner.store.started())?;
    let mut page: Vec<(WorkspaceId, Container)> = containers
        .into_iter()
        .filter(|(id, _)| options.after.as_deref().is_none_or(|after| id.as_str() > after))
        .collect();
    let limit = if options.limit == 0 { usize::MAX } else { options.limit as usize };
    let more = page.len() > limit;
    page.truncate(limit);
    let tasks = tasks(inner, &page, &started).await?;
    let workspaces: Vec<WorkspaceSummary> = page
        .into_iter()
        .map(|(id, container)| WorkspaceSummary {
            workspace_id: id.to_string(),
            status: status(tasks.get(&container.id), started.contains_key(id.as_str())),
            legacy: is_legacy(&inner.config, &container),
            created_at: container.created_at.to_string(),
            container_id: container.id,
            image: container.image,
        })
        .collect();
    let next = workspaces.last().filter(|_| more).map(|last| last.workspace_id.clone());
    Ok(WorkspaceList { workspaces, next })
}

/// The container of each workspace: the one changed last where there are several.
async fn containers(inner: &EngineInner) -> Result<BTreeMap<WorkspaceId, Container>> {
    let names = &inner.config.names;
    let mut filters =
        vec![ContainerFilter { has_label: Some(names.id_label.clone()), ..ContainerFilter::default() }];
    filters.extend(
        names
            .legacy_prefixes
            .iter()
            .map(|prefix| ContainerFilter { id_prefix: Some(prefix.clone()), ..ContainerFilter::default() }),
    );
    let mut newest: BTreeMap<WorkspaceId, Container> = BTreeMap::new();
    for container in inner.backend.containers(&filters).await? {
        let Some(id) = workspace_of(&inner.config, &container) else { continue };
        if newest.get(&id).is_none_or(|known| known.updated_at < container.updated_at) {
            newest.insert(id, container);
        }
    }
    Ok(newest)
}

/// The tasks of these containers. What the watch knows is taken, and asked for again wherever it may be old: a process
/// that is gone, and a workspace that does not run although it was started and not stopped.
async fn tasks(
    inner: &EngineInner,
    page: &[(WorkspaceId, Container)],
    started: &HashMap<String, bool>,
) -> Result<HashMap<String, Task>> {
    let Some(mut tasks) = inner.watch.tasks() else {
        let tasks = inner.backend.tasks().await?;
        return Ok(tasks.into_iter().map(|task| (task.container.clone(), task)).collect());
    };
    let mut doubtful = Vec::new();
    for (id, container) in page {
        let doubt = match tasks.get(&container.id) {
            Some(task) if matches!(task.status, TaskStatus::Running | TaskStatus::Paused) => !lives(task.pid),
            _ => started.get(id.as_str()).copied().unwrap_or(false),
        };
        if doubt {
            doubtful.push(container.id.clone());
        }
    }
    let asked = doubtful.into_iter().map(|container| async move {
        let task = inner.backend.task(&container).await?;
        Ok::<_, Error>((container, task))
    });
    let asked: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).try_collect().await?;
    for (container, task) in asked {
        match task {
            Some(task) => tasks.insert(container, task),
            None => tasks.remove(&container),
        };
    }
    Ok(tasks)
}

/// Whether there is a process of this number. Where containers run outside this process's PID namespace the answer may
/// be wrong; then the backend is asked for more than it need be.
fn lives(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}
