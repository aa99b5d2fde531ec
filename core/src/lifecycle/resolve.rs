use crate::backend::{Container, ContainerFilter};
use crate::config::Config;
use crate::engine::EngineInner;
use crate::error::{Error, Result};
use crate::names::{WorkspaceId, check_identifier};
use crate::store::WorkspaceRecord;
use futures::future::try_join_all;
use std::collections::BTreeMap;

/// A workspace's container, as it was found.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) container: Container,
    pub(super) record: Option<WorkspaceRecord>,
    pub(super) legacy: bool,
}

/// The container of a workspace that must be there.
///
/// # Errors
/// NOT_FOUND without one; else as [`resolve`].
pub(super) async fn existing(inner: &EngineInner, id: &WorkspaceId) -> Result<Found> {
    let missing = || Error::not_found("there is no such workspace: create it").with("workspace", id);
    resolve(inner, id).await?.ok_or_else(missing)
}

/// Finds the container of a workspace: by its record, else by its label (the one changed last), else by the known names.
///
/// # Errors
/// Whatever keeps the store or the backend from answering: a fault never counts as "not found".
pub(super) async fn resolve(inner: &EngineInner, id: &WorkspaceId) -> Result<Option<Found>> {
    let record = inner.store.workspace(id).await?;
    let found = match &record {
        Some(record) => inner.backend.container(&record.container_id).await?,
        None => None,
    };
    // A record may outlive its container, and another may carry the name by now.
    let found = found.filter(|container| belongs_to(&inner.config, container, id));
    let found = match found {
        Some(container) => Some(container),
        None => {
            let (labelled, named) = tokio::try_join!(by_label(inner, id), by_name(inner, id))?;
            labelled.or(named)
        }
    };
    Ok(found.map(|container| {
        let legacy = is_legacy(&inner.config, &container);
        Found { container, record, legacy }
    }))
}

async fn by_label(inner: &EngineInner, id: &WorkspaceId) -> Result<Option<Container>> {
    let labels = BTreeMap::from([(inner.config.names.id_label.clone(), id.to_string())]);
    let filter = ContainerFilter { labels, ..ContainerFilter::default() };
    let found = inner.backend.containers(&[filter]).await?;
    Ok(found.into_iter().max_by(|a, b| (a.updated_at, &a.id).cmp(&(b.updated_at, &b.id))))
}

async fn by_name(inner: &EngineInner, id: &WorkspaceId) -> Result<Option<Container>> {
    let prefixes = &inner.config.names.legacy_prefixes;
    let names = std::iter::once(inner.config.container_id(id))
        .chain(prefixes.iter().map(|prefix| Ok(format!("{prefix}{id}"))))
        .filter(|name| !matches!(name, Ok(name) if check_identifier("container", name).is_err()))
        .collect::<Result<Vec<_>>>()?;
    let found = try_join_all(names.iter().map(|name| inner.backend.container(name))).await?;
    Ok(found.into_iter().flatten().find(|container| belongs_to(&inner.config, container, id)))
}

/// Whether a container is this workspace's: its label says so, or, without the label, its name does.
fn belongs_to(config: &Config, container: &Container, id: &WorkspaceId) -> bool {
    workspace_of(config, container).is_some_and(|owner| owner == *id)
}

/// The workspace a container belongs to, if it belongs to one.
pub(super) fn workspace_of(config: &Config, container: &Container) -> Option<WorkspaceId> {
    if let Some(label) = container.labels.get(&config.names.id_label) {
        return WorkspaceId::new(label.as_str()).ok();
    }
    let names = &config.names;
    std::iter::once(&names.container_prefix)
        .chain(&names.legacy_prefixes)
        .find_map(|prefix| container.id.strip_prefix(prefix.as_str()))
        .and_then(|rest| WorkspaceId::new(rest).ok())
}

/// Whether an older implementation made it.
pub(super) fn is_legacy(config: &Config, container: &Container) -> bool {
    config.names.legacy_prefixes.iter().any(|prefix| container.id.starts_with(prefix.as_str()))
}
