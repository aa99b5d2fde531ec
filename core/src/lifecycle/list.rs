use super::info::status;
use super::resolve::{is_legacy, workspace_of};
use crate::backend::{Container, ContainerFilter};
use crate::engine::EngineInner;
use crate::error::Result;
use crate::names::WorkspaceId;
use crate::types::{ListOptions, WorkspaceList, WorkspaceSummary};
use std::collections::{BTreeMap, HashMap};

/// Lists the workspaces, ours and adopted, each once, ordered by id.
pub(crate) async fn list(inner: &EngineInner, options: &ListOptions) -> Result<WorkspaceList> {
    if let Some(after) = &options.after {
        WorkspaceId::new(after.as_str()).map_err(|e| e.with("field", "after"))?;
    }
    let names = &inner.config.names;
    let filters = std::iter::once(ContainerFilter {
        has_label: Some(names.id_label.clone()),
        ..ContainerFilter::default()
    })
    .chain(
        names
            .legacy_prefixes
            .iter()
            .map(|prefix| ContainerFilter { id_prefix: Some(prefix.clone()), ..ContainerFilter::default() }),
    );
    let containers =
        futures::future::try_join_all(filters.map(async |filter| inner.backend.containers(&filter).await));
    let (containers, tasks, started) =
        tokio::try_join!(containers, inner.backend.tasks(), inner.store.started())?;
    let tasks: HashMap<_, _> = tasks.into_iter().map(|task| (task.container.clone(), task)).collect();

    let mut newest: BTreeMap<WorkspaceId, Container> = BTreeMap::new();
    for container in containers.into_iter().flatten() {
        let Some(id) = workspace_of(&inner.config, &container) else { continue };
        let newer = newest.get(&id).is_none_or(|known| known.updated_at < container.updated_at);
        if newer {
            newest.insert(id, container);
        }
    }
    let mut page =
        newest.into_iter().filter(|(id, _)| options.after.as_deref().is_none_or(|after| id.as_str() > after));
    let limit = if options.limit == 0 { usize::MAX } else { options.limit as usize };
    let workspaces: Vec<WorkspaceSummary> = page
        .by_ref()
        .take(limit)
        .map(|(id, container)| WorkspaceSummary {
            workspace_id: id.to_string(),
            status: status(tasks.get(&container.id), started.contains(id.as_str())),
            legacy: is_legacy(&inner.config, &container),
            created_at: container.created_at.to_string(),
            container_id: container.id,
            image: container.image,
        })
        .collect();
    let next = page.next().and_then(|_| workspaces.last().map(|last| last.workspace_id.clone()));
    Ok(WorkspaceList { workspaces, next })
}
