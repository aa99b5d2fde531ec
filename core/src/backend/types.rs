use crate::config::Credential;
use crate::limits::BlockDevice;
use crate::names::ImageRef;
use crate::types::{ChangeAspect, EntryKind, ImageInfo, Limits, PullPolicy};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// What a backend can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// It keeps snapshots that can be committed and prepared again.
    pub(crate) snapshots: bool,
    /// It takes a network namespace that was made here, instead of connecting containers by itself.
    pub(crate) network_namespaces: bool,
    /// It can run a command in a container without an agent.
    pub(crate) exec: bool,
    /// It can freeze a container.
    pub(crate) pause: bool,
    /// It can measure a container.
    pub(crate) metrics: bool,
}

impl Capabilities {
    /// The names of those it has, as they are shown to people and programs.
    pub(crate) fn names(self) -> Vec<String> {
        [
            ("snapshots", self.snapshots),
            ("network", self.network_namespaces),
            ("exec", self.exec),
            ("pause", self.pause),
            ("metrics", self.metrics),
        ]
        .into_iter()
        .filter(|(_, has)| *has)
        .map(|(name, _)| name.to_owned())
        .collect()
    }
}

/// An image to fetch.
#[derive(Debug, Clone)]
pub(crate) struct PullRequest {
    pub(crate) image: ImageRef,
    pub(crate) policy: PullPolicy,
    /// `os/arch[/variant]`; none for the host's.
    pub(crate) platform: Option<String>,
    pub(crate) snapshotter: String,
    /// Credentials given with this call; they decide over the configured ones.
    pub(crate) credential: Option<Credential>,
}

/// An image that was fetched.
#[derive(Debug, Clone)]
pub(crate) struct Pulled {
    pub(crate) image: ImageInfo,
    pub(crate) unpacked: UnpackedImage,
    /// Whether the registry was not asked.
    pub(crate) skipped: bool,
    pub(crate) downloaded_bytes: u64,
    /// Milliseconds until the last byte was stored.
    pub(crate) pull_ms: u64,
    /// Milliseconds from then until the last layer was unpacked.
    pub(crate) unpack_ms: u64,
}

/// What a container of an image starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnpackedImage {
    /// The image's full name.
    pub(crate) name: String,
    /// The snapshot that its top layer was unpacked to; empty for an image without layers.
    pub(crate) top_snapshot: String,
    /// `NAME=value`, as the image's configuration has them.
    pub(crate) env: Vec<String>,
    /// The user as the image's configuration has it; empty for root.
    pub(crate) user: String,
    /// The working directory; empty for `/`.
    pub(crate) working_dir: String,
    /// What the image runs, with its arguments; empty when it does not say.
    #[serde(default)]
    pub(crate) command: Vec<String>,
}

/// A writable snapshot to make.
#[derive(Debug, Clone)]
pub(crate) struct NewSnapshot {
    pub(crate) snapshotter: String,
    pub(crate) key: String,
    /// The snapshot it stands on; empty for none.
    pub(crate) parent: String,
    pub(crate) labels: BTreeMap<String, String>,
}

/// Which snapshots to list. Empty lets all through.
#[derive(Debug, Clone, Default)]
pub(crate) struct SnapshotFilter {
    /// Labels it must have with just these values.
    pub(crate) labels: BTreeMap<String, String>,
    /// What its key must start with.
    pub(crate) key_prefix: Option<String>,
    /// What it must stand on.
    pub(crate) parent: Option<String>,
}

impl SnapshotFilter {
    /// Whether it lets a snapshot through.
    pub(crate) fn passes(&self, snapshot: &Snapshot) -> bool {
        self.labels.iter().all(|(key, value)| snapshot.labels.get(key) == Some(value))
            && self.key_prefix.as_ref().is_none_or(|prefix| snapshot.key.starts_with(prefix))
            && self.parent.as_ref().is_none_or(|parent| snapshot.parent == *parent)
    }
}

/// A committed snapshot to make of the upper layers of another, all in one.
#[derive(Debug, Clone)]
pub(crate) struct Squash {
    pub(crate) snapshotter: String,
    /// The committed snapshot whose content the new one has, and how many layers are made one: it and those below it.
    pub(crate) top: String,
    pub(crate) layers: usize,
    /// What the new one stands on: what the lowest of the layers stands on, or something of the same content.
    pub(crate) parent: String,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
}

/// How much a snapshot takes beyond what it stands on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SnapshotUsage {
    pub(crate) bytes: u64,
    /// Files, directories and all other inodes.
    pub(crate) inodes: u64,
}

/// Which changes to tell.
#[derive(Debug, Clone)]
pub(crate) struct ChangesRequest {
    pub(crate) snapshotter: String,
    /// The snapshot before; empty for an empty tree.
    pub(crate) from: String,
    /// The snapshot after.
    pub(crate) to: String,
    /// Only changes beyond this path, which has no slash at its ends.
    pub(crate) after: Vec<u8>,
    /// The most to tell.
    pub(crate) limit: usize,
}

/// A path that is not the same in two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// The path, without a slash at its ends.
    pub(crate) path: Vec<u8>,
    pub(crate) before: Option<TreeEntry>,
    pub(crate) after: Option<TreeEntry>,
    /// What of it is different, where it is there before and after.
    pub(crate) aspects: Vec<ChangeAspect>,
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TreeEntry {
    pub(crate) kind: EntryKind,
    /// Its length in bytes; 0 for directories.
    pub(crate) size: u64,
}

/// A directory of a snapshot's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotDir {
    pub(crate) snapshotter: String,
    pub(crate) key: String,
    /// Its path inside, absolute.
    pub(crate) path: PathBuf,
}

/// A directory that is open, with what keeps it there.
#[derive(Debug)]
pub(crate) struct OpenDir {
    dir: OwnedFd,
    _held: Option<OwnedFd>,
}

impl OpenDir {
    /// A directory, and the mount that it is in, which goes when this is dropped.
    pub(crate) fn new(dir: OwnedFd, held: Option<OwnedFd>) -> Self {
        Self { dir, _held: held }
    }
}

impl AsFd for OpenDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// A committed snapshot to make that has one directory of another.
#[derive(Debug, Clone)]
pub(crate) struct Graft {
    pub(crate) snapshotter: String,
    /// The committed snapshot that has the directory, and where.
    pub(crate) from: String,
    pub(crate) path: PathBuf,
    /// What the new one stands on, or nothing; whatever that has at `onto` does not show.
    pub(crate) parent: String,
    pub(crate) onto: PathBuf,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
}

/// How much was grafted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Grafted {
    /// Entries, the directory itself among them.
    pub(crate) entries: u64,
    /// Bytes of files' data; holes do not count.
    pub(crate) bytes: u64,
}

/// What can be done with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SnapshotKind {
    /// It can be written to.
    Active,
    /// It is as it is for ever, and others may stand on it.
    Committed,
    /// A committed one as it is looked at.
    View,
}

/// A snapshot as the backend keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) key: String,
    /// The snapshot it stands on; empty for none.
    pub(crate) parent: String,
    pub(crate) kind: SnapshotKind,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// A user by numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ResolvedUser {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) additional_gids: Vec<u32>,
}

/// A host path that shows inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GuestMount {
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) read_only: bool,
}

/// Where a container's network is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NetworkNamespace {
    /// The host's own.
    Host,
    /// A new one with loopback only, made and dropped with the task.
    Private,
    /// A pinned one.
    Path(PathBuf),
}

/// A container to make.
#[derive(Debug, Clone)]
pub(crate) struct NewContainer {
    pub(crate) id: String,
    /// The image's full name.
    pub(crate) image: String,
    pub(crate) snapshotter: String,
    pub(crate) snapshot_key: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) args: Vec<String>,
    /// `NAME=value`; a later one decides over an earlier one.
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: String,
    pub(crate) user: ResolvedUser,
    pub(crate) hostname: String,
    pub(crate) mounts: Vec<GuestMount>,
    pub(crate) network: NetworkNamespace,
    /// What the host can hold it to.
    pub(crate) limits: Limits,
    /// The disk that its limits of bandwidth are of.
    pub(crate) io_device: Option<BlockDevice>,
}

/// A container as the backend keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) image: String,
    pub(crate) snapshotter: String,
    pub(crate) snapshot_key: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// The host directory mounted at each path inside, as its specification has them.
    pub(crate) mounts: Vec<GuestMount>,
    /// Where its network is, as its specification has it.
    pub(crate) network: NetworkNamespace,
    /// Whose its first process is, as its specification has it.
    pub(crate) user: ResolvedUser,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// Which containers to list. Empty lets all through.
#[derive(Debug, Clone, Default)]
pub(crate) struct ContainerFilter {
    /// Labels it must have with just these values.
    pub(crate) labels: BTreeMap<String, String>,
    /// A label it must have with any value.
    pub(crate) has_label: Option<String>,
    /// What its id must start with.
    pub(crate) id_prefix: Option<String>,
}

impl ContainerFilter {
    /// Whether it lets a container through.
    pub(crate) fn passes(&self, container: &Container) -> bool {
        self.labels.iter().all(|(key, value)| container.labels.get(key) == Some(value))
            && self.has_label.as_ref().is_none_or(|key| container.labels.contains_key(key))
            && self.id_prefix.as_ref().is_none_or(|prefix| container.id.starts_with(prefix))
    }
}

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskStatus {
    Created,
    Running,
    Paused,
    Stopped,
    Unknown,
}

/// A container's first process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) container: String,
    pub(crate) pid: u32,
    pub(crate) status: TaskStatus,
    /// How it ended, when it has.
    pub(crate) exit: Option<TaskExit>,
}

/// How a first process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskExit {
    pub(crate) code: u32,
    pub(crate) at: Timestamp,
}

/// The tree that a container's processes see.
#[derive(Debug)]
pub(crate) struct TaskRoot {
    /// Its root. It leads to everything that is mounted there too.
    pub(crate) root: OwnedFd,
    /// The first process (`pidfd_open(2)`).
    pub(crate) process: OwnedFd,
}

/// What a backend tells those who watch it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BackendEvent {
    /// A first process has changed.
    Task(TaskEvent),
    /// The record of this container was made, changed or removed.
    Container(String),
    /// Somebody has set this mark.
    Mark(String),
}

/// A change of a container's first process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TaskEvent {
    pub(crate) container: String,
    /// The process; 0 where the backend does not tell.
    pub(crate) pid: u32,
    pub(crate) change: TaskChange,
}

/// What became of a first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskChange {
    Created,
    Started,
    Paused,
    Resumed,
    Exited(TaskExit),
    Deleted,
    /// Some process of the container was killed for want of memory, at this time.
    OutOfMemory(Timestamp),
}
