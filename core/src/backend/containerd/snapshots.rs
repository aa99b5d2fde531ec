//! Snapshots: made protected from garbage collection, removed, looked at.

use super::client::Client;
use crate::backend::NewSnapshot;
use crate::error::{ErrorKind, Result};
use containerd_client::services::v1::snapshots::{
    MountsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest,
};
use containerd_client::types::Mount;
use jiff::Timestamp;

/// What containerd's garbage collector takes for "keep this and all it stands on".
const GC_ROOT: &str = "containerd.io/gc.root";

/// Makes a writable snapshot that no garbage collection takes, whether a container names it or not.
pub(super) async fn prepare(client: &Client, new: &NewSnapshot) -> Result<()> {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let own = [(GC_ROOT.to_owned(), now)];
    let request = client.request(PrepareSnapshotRequest {
        snapshotter: new.snapshotter.clone(),
        key: new.key.clone(),
        parent: new.parent.clone(),
        labels: new.labels.clone().into_iter().chain(own).collect(),
    });
    let mut service = client.snapshots();
    client.call("prepare the snapshot", service.prepare(request)).await.map(|_| ()).map_err(|e| {
        e.with("snapshot", &new.key).with("parent", &new.parent).with("snapshotter", &new.snapshotter)
    })
}

pub(super) async fn remove(client: &Client, snapshotter: &str, key: &str) -> Result<bool> {
    let request =
        client.request(RemoveSnapshotRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() });
    let mut service = client.snapshots();
    match client.call("remove the snapshot", service.remove(request)).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.with("snapshot", key).with("snapshotter", snapshotter)),
    }
}

pub(super) async fn exists(client: &Client, snapshotter: &str, key: &str) -> Result<bool> {
    let found = client
        .read("look for the snapshot", || {
            let request = client
                .request(StatSnapshotRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() });
            let mut service = client.snapshots();
            async move { service.stat(request).await }
        })
        .await;
    match found {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.with("snapshot", key).with("snapshotter", snapshotter)),
    }
}

/// What has to be mounted to see an active snapshot.
pub(super) async fn mounts(client: &Client, snapshotter: &str, key: &str) -> Result<Vec<Mount>> {
    let reply = client
        .read("read the snapshot's mounts", || {
            let request =
                client.request(MountsRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() });
            let mut service = client.snapshots();
            async move { service.mounts(request).await }
        })
        .await
        .map_err(|e| e.with("snapshot", key).with("snapshotter", snapshotter))?;
    Ok(reply.mounts)
}
