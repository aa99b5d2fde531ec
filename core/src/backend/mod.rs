//! What carries the workspaces: the trait that every backend implements, and the backends.
//!
//! A backend speaks in the neutral types of this module; wire types stop in its own `convert.rs`. It reports what it
//! can do as [`Capabilities`]; what it cannot is UNSUPPORTED and never silently emulated. It takes no locks, writes no
//! records and decides nothing about workspaces: that is the lifecycle's part.

pub(crate) mod containerd;
mod exec;
#[cfg(test)]
pub(crate) mod fake;
mod pull;
mod types;

pub(crate) use exec::{GuestCommand, GuestPipes, GuestProcess};
pub(crate) use pull::{LayerCounter, PullTracker};
pub(crate) use types::{
    BackendEvent, Capabilities, Change, ChangesRequest, Container, ContainerFilter, Graft, Grafted,
    GuestMount, NetworkNamespace, NewContainer, NewSnapshot, OpenDir, PullRequest, Pulled, ResolvedUser,
    Snapshot, SnapshotDir, SnapshotFilter, SnapshotKind, SnapshotUsage, Squash, Task, TaskChange, TaskEvent,
    TaskExit, TaskRoot, TaskStatus, TreeEntry, UnpackedImage,
};

use crate::error::Result;
use crate::limits::{BlockDevice, LimitChange, Storage};
use crate::types::{ImageInfo, LimitName, Limits};
use async_trait::async_trait;
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::path::Path;
use tokio_util::sync::CancellationToken;

/// A container engine, as the lifecycle sees it.
///
/// Every method may be called from any task at any time. A future that is dropped leaves at most what a
/// crash at that point would leave; only [`Backend::pull`] takes a token, because undoing a pull takes calls of its own.
#[async_trait]
pub(crate) trait Backend: Debug + Send + Sync + 'static {
    /// The backend's stable name, such as `containerd`.
    fn kind(&self) -> &'static str;

    /// Where it is reached.
    fn address(&self) -> String;

    /// The namespace its objects live in; empty where there are none.
    fn namespace(&self) -> String;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Asks for its version: also the test whether it answers.
    async fn version(&self) -> Result<String>;

    /// Fetches an image, as the policy says, and unpacks what of it is not unpacked yet. Cancelling leaves no lease, no
    /// ingest and no half snapshot.
    async fn pull(
        &self,
        request: &PullRequest,
        tracker: &PullTracker,
        cancel: &CancellationToken,
    ) -> Result<Pulled>;

    /// The image of this full name, if it is here.
    async fn image(&self, name: &str) -> Result<Option<ImageInfo>>;

    /// All images, in any order.
    async fn images(&self) -> Result<Vec<ImageInfo>>;

    /// Removes the record of an image. Returns whether there was one.
    async fn delete_image(&self, name: &str) -> Result<bool>;

    /// Makes a writable snapshot, protected from garbage collection. ALREADY_EXISTS when the key is taken.
    async fn prepare_snapshot(&self, snapshot: &NewSnapshot) -> Result<()>;

    /// Removes a snapshot. Returns whether there was one. FAILED_PRECONDITION when others stand on it.
    async fn remove_snapshot(&self, snapshotter: &str, key: &str) -> Result<bool>;

    /// The snapshot of this key, if it is there.
    async fn snapshot(&self, snapshotter: &str, key: &str) -> Result<Option<Snapshot>>;

    /// All snapshots that any of the filters lets through, each once, in any order.
    async fn snapshots(&self, snapshotter: &str, filters: &[SnapshotFilter]) -> Result<Vec<Snapshot>>;

    /// What a snapshot takes beyond what it stands on. NOT_FOUND when it is not there.
    async fn snapshot_usage(&self, snapshotter: &str, key: &str) -> Result<SnapshotUsage>;

    /// What carries a writable snapshot. NOT_FOUND when it is not there.
    async fn storage(&self, snapshotter: &str, key: &str) -> Result<Storage>;

    /// Gives a snapshot these labels instead of those it has. `kept` says whether it stays protected from garbage
    /// collection of its own; one that is not stays as long as others stand on it. NOT_FOUND when it is not there.
    async fn label_snapshot(
        &self,
        snapshotter: &str,
        key: &str,
        labels: &BTreeMap<String, String>,
        kept: bool,
    ) -> Result<()>;

    /// Makes one committed snapshot of several layers, protected from garbage collection. No byte of a file is copied
    /// where the file system can link. ALREADY_EXISTS when the name is taken; UNSUPPORTED where snapshots have no layers.
    async fn squash_snapshot(&self, squash: &Squash) -> Result<()>;

    /// Whether a writable snapshot is made of layers, so that [`Backend::graft_snapshot`] copies nothing of what becomes of
    /// it. UNSUPPORTED when it is no directory of the host at all.
    async fn has_layers(&self, snapshotter: &str, key: &str) -> Result<bool>;

    /// Makes a committed snapshot, protected from garbage collection, that has a directory of another committed one. No
    /// byte of a file is copied where snapshots have layers and the file system can link. None, and no snapshot, when there
    /// is no such directory. ALREADY_EXISTS when the name is taken; FAILED_PRECONDITION for something else than a directory.
    async fn graft_snapshot(&self, graft: &Graft) -> Result<Option<Grafted>>;

    /// Opens a directory of a writable snapshot for reading; none when nothing is there. Nothing outside the snapshot can be
    /// reached from it. FAILED_PRECONDITION for something else than a directory, also on the way there.
    async fn open_dir(&self, dir: &SnapshotDir) -> Result<Option<OpenDir>>;

    /// Opens the root of a writable snapshot's tree; with `write` things can be changed below it. No task may run on the
    /// snapshot for as long as it is open. UNSUPPORTED when it is no directory of the host.
    async fn open_root(&self, snapshotter: &str, key: &str, write: bool) -> Result<OwnedFd>;

    /// Makes a directory that is to take the place of one in a writable snapshot, and opens it. It does not show in the
    /// snapshot. It has the owner, mode and attributes of what is there; with `merge` all that is in it too, and nothing may
    /// run on the snapshot until it has taken its place. Nothing in it may be written into: what is there may only go.
    /// `stage` names it: one name of letters, digits and dashes.
    async fn stage_dir(&self, dir: &SnapshotDir, stage: &str, merge: bool) -> Result<OpenDir>;

    /// Puts the directory that was staged in its place, at once; what was there is staged then. Nothing may run on the
    /// snapshot, and the staged directory may not be open. It is on the disk when this returns.
    async fn swap_dir(&self, dir: &SnapshotDir, stage: &str) -> Result<()>;

    /// Removes what is staged, if there is anything; no snapshot is no fault.
    async fn unstage_dir(&self, dir: &SnapshotDir, stage: &str) -> Result<()>;

    /// What is different between the file trees of two snapshots, in the order of the paths' components. A writable one is
    /// read as it is while it is read.
    async fn changes(&self, request: &ChangesRequest) -> Result<Vec<Change>>;

    /// Makes of the writable snapshot `key` the committed one `name`, protected from garbage collection; `key` is gone
    /// then. Nothing may be writing to it. ALREADY_EXISTS when the name is taken, NOT_FOUND when the key is not there.
    async fn commit_snapshot(
        &self,
        snapshotter: &str,
        key: &str,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<()>;

    /// Whether nothing was ever changed in a writable snapshot, but for the `data_dir` that [`prepare_user`] makes. False
    /// also where that cannot be seen.
    ///
    /// [`prepare_user`]: Self::prepare_user
    async fn is_untouched(&self, snapshotter: &str, key: &str, data_dir: &Path) -> Result<bool>;

    /// Resolves the image's `user` (`name|uid[:group|gid]`) against the snapshot's own `/etc/passwd` and `/etc/group`,
    /// and, for a user other than root, makes `data_dir`, if there is one, in the snapshot and gives it to that user. Nothing outside the
    /// snapshot's root can be reached, whatever links it holds.
    async fn prepare_user(
        &self,
        snapshotter: &str,
        key: &str,
        user: &str,
        data_dir: Option<&Path>,
    ) -> Result<ResolvedUser>;

    /// Writes a container's record. ALREADY_EXISTS when the id is taken: what is there is left untouched.
    async fn create_container(&self, container: &NewContainer) -> Result<Container>;

    /// The container of this id, if it is there.
    async fn container(&self, id: &str) -> Result<Option<Container>>;

    /// All containers that any of the filters lets through, each once, in any order; without a filter, all.
    async fn containers(&self, filters: &[ContainerFilter]) -> Result<Vec<Container>>;

    /// Lets a container stand on another snapshot of its snapshotter from its next task on. The record is changed in
    /// place: it is never absent. NOT_FOUND when there is no such container.
    async fn move_container(&self, id: &str, snapshot_key: &str) -> Result<Container>;

    /// Gives a container another image, specification and snapshot from its next task on. The record is changed in place: it is
    /// never absent, and keeps its labels. NOT_FOUND when there is no such container.
    async fn renew_container(&self, container: &NewContainer) -> Result<Container>;

    /// Sets one label of a container, in place. NOT_FOUND when there is no such container.
    async fn mark_container(&self, id: &str, label: &str, value: &str) -> Result<()>;

    /// Puts other limits into a container's specification, which its next task begins with; all else in it stays. The record is
    /// changed in place. Bandwidth is limited of `device`. NOT_FOUND when there is no such container.
    async fn limit_container(&self, id: &str, limits: &Limits, device: Option<BlockDevice>) -> Result<()>;

    /// Removes a container's record, never its snapshot. Returns whether there was one. FAILED_PRECONDITION while it has a task.
    async fn delete_container(&self, id: &str) -> Result<bool>;

    /// Makes the container's task: namespaces, cgroup and first process, which waits for [`Backend::start_task`].
    /// ALREADY_EXISTS when one runs; one that never started, or has ended, may make room.
    async fn create_task(&self, container: &Container) -> Result<Task>;

    /// Lets the first process go.
    async fn start_task(&self, container: &str) -> Result<()>;

    /// The container's task, if it has one. The id on the reply is checked.
    async fn task(&self, container: &str) -> Result<Option<Task>>;

    /// All tasks, in any order.
    async fn tasks(&self) -> Result<Vec<Task>>;

    /// What becomes of containers and tasks from now on: returns when nothing after it is missed. The events of one task
    /// come in the order in which they happened, but may come late. The stream ends when the connection breaks.
    async fn watch(&self) -> Result<BoxStream<'static, BackendEvent>>;

    /// Sets a mark, which every watch is told after all changes of container records that were complete before it was set.
    async fn mark(&self, mark: &str) -> Result<()>;

    /// Freezes all processes of a task. FAILED_PRECONDITION when none runs.
    async fn pause_task(&self, container: &str) -> Result<()>;

    /// Lets the processes of a frozen task go on. One that is not frozen is left as it is.
    async fn resume_task(&self, container: &str) -> Result<()>;

    /// Changes limits of a running task, each that can be; the others are returned, with the reason for people. Bandwidth is
    /// limited of `device`. UNAVAILABLE and TIMEOUT when nothing is known of any.
    async fn limit_task(
        &self,
        task: &Task,
        changes: &[LimitChange],
        device: Option<BlockDevice>,
    ) -> Result<Vec<(LimitName, String)>>;

    /// Sends a signal to the first process, or to every process. Returns false when none is there to take it.
    async fn kill_task(&self, container: &str, signal: i32, all: bool) -> Result<bool>;

    /// Waits for the end of the first process. NOT_FOUND when there is no task.
    async fn wait_task(&self, container: &str) -> Result<TaskExit>;

    /// The root of what a container's processes see, as long as its first process lives. FAILED_PRECONDITION when it does
    /// not run; UNSUPPORTED when its processes cannot be seen from here.
    async fn task_root(&self, container: &str) -> Result<TaskRoot>;

    /// Runs a command beside a container's first process. NOT_FOUND for a program or working directory that is not there;
    /// UNAVAILABLE when the container does not run.
    async fn exec(&self, command: &GuestCommand) -> Result<(Box<dyn GuestProcess>, GuestPipes)>;

    /// Removes a task that has ended. Returns its exit, or none when there was no task. FAILED_PRECONDITION while it runs.
    async fn delete_task(&self, container: &str) -> Result<Option<TaskExit>>;
}
