//! Versions as older implementations made them: known by their names only, with no label that keeps them.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{CommitSnapshotRequest, PrepareSnapshotRequest};
use containerd_client::services::v1::{
    Container, CreateRequest, DeleteRequest, GetContainerRequest, UpdateContainerRequest,
};
use containerd_client::tonic::Request;
use containerd_client::tonic::transport::Channel;
use dunnage::Config;
use prost_types::FieldMask;

/// An older implementation at work on a containerd.
pub(crate) struct Older {
    channel: Channel,
    namespace: String,
    snapshotter: String,
}

impl Older {
    /// Connects to the daemon of a configuration.
    pub(crate) async fn connect(config: &Config) -> Self {
        let socket = config.containerd.address.as_ref().unwrap();
        Self {
            channel: containerd_client::connect(socket).await.unwrap(),
            namespace: config.containerd.namespace.clone(),
            snapshotter: config.containerd.snapshotter.clone(),
        }
    }

    fn request<T>(&self, message: T, lease: Option<&str>) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", self.namespace.parse().unwrap());
        if let Some(lease) = lease {
            request.metadata_mut().insert("containerd-lease", lease.parse().unwrap());
        }
        request
    }

    /// Makes a version of what a container that does not run holds, with `word` in its name; returns that.
    pub(crate) async fn version(&self, container: &str, word: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let name = format!("{container}-{word}{now}");
        let lease = format!("older-{name}");
        // Until the container stands on it, nothing else would keep it.
        let create = CreateRequest { id: lease.clone(), labels: HashMap::new() };
        let mut leases = LeasesClient::new(self.channel.clone());
        leases.create(self.request(create, None)).await.unwrap();
        let get = GetContainerRequest { id: container.to_owned() };
        let mut containers = ContainersClient::new(self.channel.clone());
        let found = containers.get(self.request(get, None)).await.unwrap().into_inner().container.unwrap();
        let commit = CommitSnapshotRequest {
            snapshotter: self.snapshotter.clone(),
            name: name.clone(),
            key: found.snapshot_key,
            labels: HashMap::new(),
        };
        let mut snapshots = SnapshotsClient::new(self.channel.clone());
        snapshots.commit(self.request(commit, Some(&lease))).await.unwrap();
        let active = format!("{container}-active-{now}");
        let prepare = PrepareSnapshotRequest {
            snapshotter: self.snapshotter.clone(),
            key: active.clone(),
            parent: name.clone(),
            labels: HashMap::new(),
        };
        snapshots.prepare(self.request(prepare, Some(&lease))).await.unwrap();
        let update = UpdateContainerRequest {
            container: Some(Container { id: found.id, snapshot_key: active, ..Container::default() }),
            update_mask: Some(FieldMask { paths: vec!["snapshotkey".to_owned()] }),
        };
        containers.update(self.request(update, None)).await.unwrap();
        leases.delete(self.request(DeleteRequest { id: lease, sync: true }, None)).await.unwrap();
        name
    }
}
