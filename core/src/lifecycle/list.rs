use super::info::status;
use super::resolve::{is_legacy, workspace_of};
use crate::backend::{Container, ContainerFilter, Task, TaskStatus};
use crate::config::Config;
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
    let (known, started) = tokio::try_join!(known(inner), inner.store.started())?;
    let (containers, tasks) = known;
    let mut page: Vec<(WorkspaceId, Container)> = newest(&inner.config, containers)
        .into_iter()
        .filter(|(id, _)| options.after.as_deref().is_none_or(|after| id.as_str() > after))
        .collect();
    let limit = if options.limit == 0 { usize::MAX } else { options.limit as usize };
    let more = page.len() > limit;
    page.truncate(limit);
    let tasks = match tasks {
        Tasks::Read(tasks) => tasks,
        Tasks::Followed(tasks) => made_sure(inner, tasks, &page, &started).await?,
    };
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

/// What every container of a workspace has, one or the other: our label, or an older implementation's kind of name.
pub(crate) fn filters(config: &Config) -> Vec<ContainerFilter> {
    let labelled = ContainerFilter { has_label: Some(config.names.id_label.clone()), ..Default::default() };
    let older = |prefix: &String| ContainerFilter { id_prefix: Some(prefix.clone()), ..Default::default() };
    std::iter::once(labelled).chain(config.names.legacy_prefixes.iter().map(older)).collect()
}

/// Tasks by their containers' ids.
enum Tasks {
    /// As the backend has just told them.
    Read(HashMap<String, Task>),
    /// As they were followed.
    Followed(HashMap<String, Task>),
}

/// All containers that may be a workspace's, and the tasks: as they were followed, else as the backend lists them.
async fn known(inner: &EngineInner) -> Result<(Vec<Container>, Tasks)> {
    if let Some(known) = inner.watch.look(inner.backend.as_ref()).await? {
        return Ok((known.containers.into_values().collect(), Tasks::Followed(known.tasks)));
    }
    let filters = filters(&inner.config);
    let (containers, tasks) = tokio::try_join!(inner.backend.containers(&filters), inner.backend.tasks())?;
    let tasks = tasks.into_iter().map(|task| (task.container.clone(), task)).collect();
    Ok((containers, Tasks::Read(tasks)))
}

/// The container of each workspace: the one changed last where there are several.
fn newest(config: &Config, containers: Vec<Container>) -> BTreeMap<WorkspaceId, Container> {
    let mut newest: BTreeMap<WorkspaceId, Container> = BTreeMap::new();
    for container in containers {
        let Some(id) = workspace_of(config, &container) else { continue };
        if newest.get(&id).is_none_or(|known| known.updated_at < container.updated_at) {
            newest.insert(id, container);
        }
    }
    newest
}

/// Tasks that were followed, asked for again wherever they may be old: where the process is gone, and where a workspace
/// does not run although it was started and not stopped.
async fn made_sure(
    inner: &EngineInner,
    mut tasks: HashMap<String, Task>,
    page: &[(WorkspaceId, Container)],
    started: &HashMap<String, bool>,
) -> Result<HashMap<String, Task>> {
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

/// Whether there is a process of this number. Where this process sees other processes than the backend (another PID
/// namespace) the answer may be wrong: then the backend is asked more often than need be, or an end is seen only when
/// the backend tells of it.
fn lives(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}
