//! Container records: made, read, listed and removed.

use super::client::Client;
use super::{convert, filter};
use crate::backend::{Container, ContainerFilter, NewContainer};
use crate::config::ContainerdConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{self, HostTraits};
use containerd_client::services::v1::container::Runtime;
use containerd_client::services::v1::{
    CreateContainerRequest, DeleteContainerRequest, GetContainerRequest, ListContainersRequest,
    UpdateContainerRequest,
};

pub(super) async fn create(
    client: &Client,
    config: &ContainerdConfig,
    host: HostTraits,
    new: &NewContainer,
) -> Result<Container> {
    let spec = specification(client, host, new)?;
    let record = containerd_client::services::v1::Container {
        id: new.id.clone(),
        labels: new.labels.clone().into_iter().collect(),
        image: new.image.clone(),
        runtime: Some(Runtime {
            name: config.runtime.clone(),
            options: convert::runtime_options(&config.runtime, config.runtime_binary.as_deref()),
        }),
        spec: Some(spec),
        snapshotter: new.snapshotter.clone(),
        snapshot_key: new.snapshot_key.clone(),
        ..Default::default()
    };
    let request = client.request(CreateContainerRequest { container: Some(record) });
    let mut service = client.containers();
    let reply = client
        .call("create the container", service.create(request))
        .await
        .map_err(|e| e.with("container", &new.id))?;
    reply.container.map(convert::container).ok_or_else(|| empty_reply("create the container", &new.id))
}

fn specification(client: &Client, host: HostTraits, new: &NewContainer) -> Result<prost_types::Any> {
    let spec = spec::build(new, client.namespace(), host)?;
    let spec = serde_json::to_vec(&spec)
        .map_err(|e| Error::unexpected("cannot write the runtime specification").caused_by(e))?;
    Ok(convert::spec_any(spec))
}

pub(super) async fn renew(client: &Client, host: HostTraits, new: &NewContainer) -> Result<Container> {
    let change = containerd_client::services::v1::Container {
        id: new.id.clone(),
        image: new.image.clone(),
        spec: Some(specification(client, host, new)?),
        snapshot_key: new.snapshot_key.clone(),
        ..Default::default()
    };
    let changed = change_fields(client, change, &["image", "spec", "snapshotkey"]).await;
    changed.map_err(|e| e.with("snapshot", &new.snapshot_key))
}

pub(super) async fn get(client: &Client, id: &str) -> Result<Option<Container>> {
    Ok(record(client, id).await?.map(convert::container))
}

/// A container's specification, as it was written.
pub(super) async fn specification_of(client: &Client, id: &str) -> Result<Vec<u8>> {
    let missing = || Error::not_found("the container is not there").with("container", id);
    let record = record(client, id).await?.ok_or_else(missing)?;
    Ok(record.spec.unwrap_or_default().value)
}

async fn record(client: &Client, id: &str) -> Result<Option<containerd_client::services::v1::Container>> {
    let reply = client
        .read("read the container", || {
            let request = client.request(GetContainerRequest { id: id.to_owned() });
            let mut service = client.containers();
            async move { service.get(request).await }
        })
        .await;
    match reply {
        Ok(reply) => match reply.container {
            Some(container) if container.id == id => Ok(Some(container)),
            _ => Err(empty_reply("read the container", id)),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.with("container", id)),
    }
}

/// Listed as a stream: all records in one message may be more than a message may hold.
pub(super) async fn list(client: &Client, filters: &[ContainerFilter]) -> Result<Vec<Container>> {
    let mut patience = client.patience();
    loop {
        match list_once(client, filters).await {
            Err(error) if patience.allows(&error).await => {}
            done => return done,
        }
    }
}

async fn list_once(client: &Client, filters: &[ContainerFilter]) -> Result<Vec<Container>> {
    const DOING: &str = "list containers";
    let request =
        client.request(ListContainersRequest { filters: filters.iter().map(filter::containers).collect() });
    let mut service = client.containers();
    client
        .bounded(DOING, async {
            let mut stream = client.call_unbounded(DOING, service.list_stream(request)).await?;
            let mut found = Vec::new();
            loop {
                match stream.message().await {
                    Ok(Some(message)) => found.extend(message.container.map(convert::container)),
                    Ok(None) => break,
                    Err(status) => return Err(client.failed(DOING, status)),
                }
            }
            // What the daemon let through is checked again: a filter that it does not understand lets all through.
            found.retain(|c| filters.is_empty() || filters.iter().any(|filter| filter.passes(c)));
            Ok(found)
        })
        .await
}

pub(super) async fn set_snapshot(client: &Client, id: &str, snapshot_key: &str) -> Result<Container> {
    let change = containerd_client::services::v1::Container {
        id: id.to_owned(),
        snapshot_key: snapshot_key.to_owned(),
        ..Default::default()
    };
    let changed = change_fields(client, change, &["snapshotkey"]).await;
    changed.map_err(|e| e.with("snapshot", snapshot_key))
}

pub(super) async fn set_label(client: &Client, id: &str, label: &str, value: &str) -> Result<()> {
    let change = containerd_client::services::v1::Container {
        id: id.to_owned(),
        labels: [(label.to_owned(), value.to_owned())].into(),
        ..Default::default()
    };
    change_fields(client, change, &[&format!("labels.{label}")]).await.map(drop)
}

/// Changes fields of the record, in place and all at once.
pub(super) async fn change_fields(
    client: &Client,
    change: containerd_client::services::v1::Container,
    fields: &[&str],
) -> Result<Container> {
    let id = change.id.clone();
    let request = client.request(UpdateContainerRequest {
        container: Some(change),
        update_mask: Some(prost_types::FieldMask {
            paths: fields.iter().map(|field| (*field).to_owned()).collect(),
        }),
    });
    let mut service = client.containers();
    let reply = client
        .call("change the container", service.update(request))
        .await
        .map_err(|e| e.with("container", &id))?;
    reply.container.map(convert::container).ok_or_else(|| empty_reply("change the container", &id))
}

pub(super) async fn delete(client: &Client, id: &str) -> Result<bool> {
    // containerd would remove the record under a running task.
    if super::tasks::get(client, id).await?.is_some() {
        return Err(
            Error::failed_precondition("the container has a task: delete that first").with("container", id)
        );
    }
    let request = client.request(DeleteContainerRequest { id: id.to_owned() });
    let mut service = client.containers();
    match client.call("delete the container", service.delete(request)).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.with("container", id)),
    }
}

fn empty_reply(doing: &str, id: &str) -> Error {
    Error::unexpected(format!("cannot {doing}: containerd's reply does not hold it")).with("container", id)
}
