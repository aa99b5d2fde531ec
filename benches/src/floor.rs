//! What containerd itself takes: the same calls with the same specification, made by hand and one after another.

use crate::Failure;
use crate::bed::Bed;
use crate::sample::Series;
use containerd_client::services::v1::container::Runtime;
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{
    PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest,
};
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{
    Container, CreateContainerRequest, CreateTaskRequest, DeleteContainerRequest, DeleteTaskRequest,
    GetContainerRequest, KillRequest, StartRequest, WaitRequest,
};
use containerd_client::tonic::Request;
use containerd_client::tonic::transport::Channel;
use containerd_client::types::Mount;
use dunnage::Workspace;
use prost_types::Any;
use serde_json::Value;
use std::collections::HashMap;
use std::time::Instant;

const SNAPSHOTTER: &str = "overlayfs";

/// Makes containers like a workspace's by bare calls.
pub(crate) struct Floor<'a> {
    bed: &'a Bed,
    channel: Channel,
    /// The workspace whose specification is copied.
    model: Workspace,
    record: Container,
    parent: String,
    spec: Value,
    steps: [Series; 5],
    /// Making the task without the seccomp profile, which `ctr run` sets none of.
    without_seccomp: Series,
}

impl<'a> Floor<'a> {
    /// Connects and makes the model.
    pub(crate) async fn new(bed: &'a Bed) -> Result<Self, Failure> {
        let channel = containerd_client::connect(bed.containerd.socket()).await?;
        let model = bed.workspace("model").await?;
        let info = model.info().await?;
        let get = GetContainerRequest { id: info.container_id };
        let reply = ContainersClient::new(channel.clone()).get(request(bed, get)?).await?.into_inner();
        let record = reply.container.ok_or("the model has no record")?;
        let spec = record.spec.as_ref().ok_or("the model has no specification")?;
        let spec = serde_json::from_slice(&spec.value)?;
        let stat = StatSnapshotRequest { snapshotter: SNAPSHOTTER.into(), key: record.snapshot_key.clone() };
        let stat = SnapshotsClient::new(channel.clone()).stat(request(bed, stat)?).await?.into_inner();
        let parent = stat.info.ok_or("the model has no snapshot")?.parent;
        Ok(Self {
            bed,
            channel,
            model,
            record,
            parent,
            spec,
            steps: Default::default(),
            without_seccomp: Series::default(),
        })
    }

    /// Makes one container, and one without the seccomp profile, removes them, and notes the steps when they count.
    pub(crate) async fn turn(&mut self, counts: bool) -> Result<(), Failure> {
        let marks = self.make(true).await?;
        let bare = self.make(false).await?;
        if counts {
            for (series, pair) in self.steps.iter_mut().zip(marks.windows(2)) {
                series.push_time(pair[1] - pair[0]);
            }
            self.steps[4].push_time(marks[4] - marks[0]);
            self.without_seccomp.push_time(bare[3] - bare[2]);
        }
        Ok(())
    }

    /// Makes a writable snapshot of the image, and tells how to mount it.
    pub(crate) async fn snapshot(&self, key: &str) -> Result<Vec<Mount>, Failure> {
        let prepare = PrepareSnapshotRequest {
            snapshotter: SNAPSHOTTER.into(),
            key: key.to_owned(),
            parent: self.parent.clone(),
            // Otherwise a collection that comes before a container is recorded takes it.
            labels: HashMap::from([("containerd.io/gc.root".to_owned(), "bench".to_owned())]),
        };
        let mut snapshots = SnapshotsClient::new(self.channel.clone());
        Ok(snapshots.prepare(request(self.bed, prepare)?).await?.into_inner().mounts)
    }

    /// Makes one container and removes it. Returns when it began and when each of the four steps was done.
    async fn make(&self, seccomp: bool) -> Result<[Instant; 5], Failure> {
        let id = self.bed.name("floor");
        let mut snapshots = SnapshotsClient::new(self.channel.clone());
        let mut containers = ContainersClient::new(self.channel.clone());
        let mut tasks = TasksClient::new(self.channel.clone());
        let spec = self.spec_for(&id, seccomp)?;

        let began = Instant::now();
        let mounts = self.snapshot(&id).await?;
        let prepared = Instant::now();
        let record = Container {
            id: id.clone(),
            spec: Some(spec),
            snapshot_key: id.clone(),
            snapshotter: SNAPSHOTTER.into(),
            image: self.record.image.clone(),
            runtime: Some(Runtime { name: "io.containerd.runc.v2".into(), options: None }),
            ..Default::default()
        };
        let create = CreateContainerRequest { container: Some(record) };
        containers.create(request(self.bed, create)?).await?;
        let recorded = Instant::now();
        let create = CreateTaskRequest { container_id: id.clone(), rootfs: mounts, ..Default::default() };
        tasks.create(request(self.bed, create)?).await?;
        let made = Instant::now();
        let start = StartRequest { container_id: id.clone(), ..Default::default() };
        tasks.start(request(self.bed, start)?).await?;
        let started = Instant::now();
        let kill = KillRequest { container_id: id.clone(), signal: 9, all: true, ..Default::default() };
        tasks.kill(request(self.bed, kill)?).await?;
        let wait = WaitRequest { container_id: id.clone(), ..Default::default() };
        tasks.wait(request(self.bed, wait)?).await?;
        tasks.delete(request(self.bed, DeleteTaskRequest { container_id: id.clone() })?).await?;
        containers.delete(request(self.bed, DeleteContainerRequest { id: id.clone() })?).await?;
        let remove = RemoveSnapshotRequest { snapshotter: SNAPSHOTTER.into(), key: id };
        snapshots.remove(request(self.bed, remove)?).await?;
        Ok([began, prepared, recorded, made, started])
    }

    /// The model's specification with its own control group.
    fn spec_for(&self, id: &str, seccomp: bool) -> Result<Any, Failure> {
        let mut spec = self.spec.clone();
        spec["linux"]["cgroupsPath"] = format!("/{}/{id}", self.bed.namespace).into();
        if !seccomp && let Some(linux) = spec["linux"].as_object_mut() {
            linux.remove("seccomp");
        }
        let type_url = self.record.spec.as_ref().map(|any| any.type_url.clone()).unwrap_or_default();
        Ok(Any { type_url, value: serde_json::to_vec(&spec)? })
    }

    /// What each step took.
    pub(crate) fn phases(self) -> Vec<(String, Series)> {
        ["snapshot", "container", "task made", "task started", "all"]
            .iter()
            .zip(self.steps)
            .map(|(name, series)| (format!("floor: {name}"), series))
            .chain([("floor: task made without seccomp".to_owned(), self.without_seccomp)])
            .collect()
    }

    /// Removes the model.
    pub(crate) async fn end(&self) -> Result<(), Failure> {
        self.bed.delete(&self.model).await
    }
}

/// A request in the bed's namespace.
fn request<T>(bed: &Bed, message: T) -> Result<Request<T>, Failure> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", bed.namespace.parse()?);
    Ok(request)
}
