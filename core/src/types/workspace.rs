use super::{
    LimitInfo, Limits, NetworkInfo, NetworkMode, PortMapping, PreserveForm, PreservedData, PullPolicy,
    setters,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How to make a workspace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CreateOptions {
    /// The image, short or full. Default: the one remembered for this id, else the configured one. One that is given
    /// is remembered.
    pub image: Option<String>,
    /// When to ask the registry. Default `if_not_present`.
    pub pull_policy: PullPolicy,
    /// The snapshotter. Default: the configured one.
    pub snapshotter: Option<String>,
    /// Whether to start it. Default true.
    pub start: bool,
    /// Environment variables inside, over those of the image.
    pub env: BTreeMap<String, String>,
    /// Labels of the container, besides those the library sets.
    pub labels: BTreeMap<String, String>,
    /// The network. Default: the configured mode.
    pub network: Option<NetworkMode>,
    /// Ports of the host that lead inside; they need the network mode `cni`.
    pub ports: Vec<PortMapping>,
    /// The host name inside. Default: the workspace's id, shortened to what a host name may be.
    pub hostname: Option<String>,
    /// Resource limits.
    pub limits: Limits,
    /// Whether its first process is started again when it ends by itself.
    pub restart: RestartOptions,
    /// Whether it begins with the newest data that is preserved for its id, if there is any. Default false.
    pub restore_data: bool,
    /// What runs first in place of the agent: a program with its arguments, or, when empty, what the image says. Without the
    /// agent, commands and terminals are run by the backend, and files served from outside: slower, and without sessions.
    /// Default: the agent.
    pub entrypoint: Option<Vec<String>>,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            image: None,
            pull_policy: PullPolicy::IfNotPresent,
            snapshotter: None,
            start: true,
            env: BTreeMap::new(),
            labels: BTreeMap::new(),
            network: None,
            ports: Vec::new(),
            hostname: None,
            limits: Limits::default(),
            restart: RestartOptions::default(),
            restore_data: false,
            entrypoint: None,
        }
    }
}

setters!(CreateOptions {
    image: String => Some;
    pull_policy: PullPolicy;
    snapshotter: String => Some;
    start: bool;
    env: BTreeMap<String, String>;
    labels: BTreeMap<String, String>;
    network: NetworkMode => Some;
    ports: Vec<PortMapping>;
    hostname: String => Some;
    limits: Limits;
    restart: RestartOptions;
    restore_data: bool;
    entrypoint: Vec<String> => Some;
});

/// When a first process that has ended by itself is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// When its exit code is not 0.
    OnFailure,
    /// However it ended.
    Always,
}

/// Whether and how a first process that has ended by itself is started again. An open engine does it, whichever sees the
/// end; one that opens sees those that came before. A workspace that a user stops stays stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RestartOptions {
    /// When. Default `no`.
    pub policy: RestartPolicy,
    /// For `on_failure`: after how many attempts in a row it is given up. Default: never. A run of 10 seconds, and a
    /// start or stop by a user, end the row.
    pub max_retries: Option<u32>,
    /// Milliseconds before the first attempt, 1 to 86 400 000; each further attempt in a row waits twice as long. Default
    /// 1000.
    pub backoff_ms: u64,
    /// The most milliseconds before an attempt, at least `backoff_ms`, at most 86 400 000. Default 60 000.
    pub max_backoff_ms: u64,
}

impl Default for RestartOptions {
    fn default() -> Self {
        Self { policy: RestartPolicy::No, max_retries: None, backoff_ms: 1000, max_backoff_ms: 60_000 }
    }
}

setters!(RestartOptions {
    policy: RestartPolicy;
    max_retries: u32 => Some;
    backoff_ms: u64;
    max_backoff_ms: u64;
});

/// Milliseconds that each phase of an operation took; 0 for one that was not needed. Phases may overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct Phases {
    /// Fetching the image.
    pub pull: u64,
    /// Unpacking what the fetch left to unpack.
    pub unpack: u64,
    /// Preparing the snapshot and writing the container.
    pub create: u64,
    /// Putting the data in place that it begins with.
    #[serde(default)]
    pub restore: u64,
    /// Making and starting the first process.
    pub start: u64,
    /// Connecting the network.
    pub network: u64,
    /// Waiting for the agent's first answer.
    pub ready: u64,
    /// Stopping the first process.
    pub stop: u64,
    /// Removing the container and what belongs to it.
    pub delete: u64,
    /// All of it, from the call to the result.
    pub total: u64,
}

/// A workspace after its creation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct CreateResult {
    /// The workspace's id.
    pub workspace_id: String,
    /// Its container.
    pub container_id: String,
    /// Its image, in the full form.
    pub image: String,
    /// Its snapshotter.
    pub snapshotter: String,
    /// Whether it was made just now; false when it was there before.
    pub created: bool,
    /// Whether its first process runs.
    pub started: bool,
    /// Whether it begins with data that was there before.
    pub data_restored: bool,
    /// Whether preserved data is kept for it.
    pub has_preserved_data: bool,
    /// The limits that it was made with, and whether they are in force.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub limits: Vec<LimitInfo>,
    /// How long each phase took.
    pub phases_ms: Phases,
}

/// What a workspace does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WorkspaceStatus {
    /// Its container is there and has never been started.
    Created,
    /// Its first process runs.
    Running,
    /// Its first process has ended.
    Stopped,
    /// Its processes are frozen.
    Paused,
    /// The backend does not tell.
    Unknown,
}

/// How to look at a workspace. There is nothing to choose yet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct InfoOptions {}

/// A workspace as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct WorkspaceInfo {
    /// The workspace's id.
    pub workspace_id: String,
    /// Its container.
    pub container_id: String,
    /// Its image, in the full form.
    pub image: String,
    /// What it does.
    pub status: WorkspaceStatus,
    /// The backend's namespace.
    pub namespace: String,
    /// The host directory of its sockets.
    pub container_path: String,
    /// Whether its first process runs.
    pub task_running: bool,
    /// The process id of its first process on the host; 0 when none runs.
    pub pid: u32,
    /// How its first process ended, once it has.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit_code: Option<u32>,
    /// Whether preserved data is kept for it.
    pub has_preserved_data: bool,
    /// Whether an older implementation made it.
    pub legacy: bool,
    /// What commands and files inside are reached by.
    #[serde(default)]
    pub agent: AgentKind,
    /// Its snapshotter.
    pub snapshotter: String,
    /// The key of its writable snapshot.
    pub snapshot_key: String,
    /// How it is connected.
    pub network: NetworkInfo,
    /// Its limits, and whether they are in force; none where it has none. Only `workspace.info` tells them: in events they are
    /// left out.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub limits: Vec<LimitInfo>,
    /// Whether its first process is started again when it ends by itself.
    #[serde(default)]
    pub restart: RestartOptions,
    /// The labels of its container.
    pub labels: BTreeMap<String, String>,
    /// When its container was made, RFC 3339, UTC.
    pub created_at: String,
    /// When its container was last changed, RFC 3339, UTC.
    pub updated_at: String,
}

/// What commands and files inside a workspace are reached by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AgentKind {
    /// The agent, over a socket.
    #[default]
    Socket,
    /// An older agent, over TCP.
    Tcp,
    /// There is no agent inside: the backend runs commands and terminals, and files are served from outside. Sessions are
    /// UNSUPPORTED, working directories begin at the first process's, and a command outlives a host that dies.
    None,
}

/// How to start a workspace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct StartOptions {}

/// What a start found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StartOutcome {
    /// It was started.
    Started,
    /// It ran already.
    AlreadyRunning,
    /// Its container was missing; it was made anew and started.
    Rebuilt,
}

/// A workspace after its start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct StartResult {
    /// What was done.
    pub outcome: StartOutcome,
    /// Its container.
    pub container_id: String,
    /// How long each phase took.
    pub phases_ms: Phases,
}

/// How to stop a workspace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct StopOptions {
    /// Milliseconds from SIGTERM to SIGKILL; 0 kills at once. Default: the configured 10 000.
    pub grace_ms: Option<u64>,
}

setters!(StopOptions { grace_ms: u64 => Some; });

/// What a stop found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopOutcome {
    /// It ended by itself after SIGTERM.
    Stopped,
    /// It had to be killed.
    Killed,
    /// It did not run.
    NotRunning,
}

/// A workspace after its stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct StopResult {
    /// What was done.
    pub outcome: StopOutcome,
    /// How its first process ended, when it ran.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit_code: Option<u32>,
    /// How long each phase took.
    pub phases_ms: Phases,
}

/// How a workspace is made anew of an image, with its data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RecreateOptions {
    /// The image, short or full. Default: the one that it is of, as that is now. One that is given is remembered.
    pub image: Option<String>,
    /// When to ask the registry. Default `if_not_present`.
    pub pull_policy: PullPolicy,
    /// Milliseconds from SIGTERM to SIGKILL; 0 kills at once. Default: the configured 10 000.
    pub grace_ms: Option<u64>,
}

setters!(RecreateOptions { image: String => Some; pull_policy: PullPolicy; grace_ms: u64 => Some; });

/// A workspace after it was made anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct RecreateResult {
    /// The workspace's id.
    pub workspace_id: String,
    /// Its container.
    pub container_id: String,
    /// Its image, in the full form.
    pub image: String,
    /// The image that it was of.
    pub previous_image: String,
    /// The version that what it was is kept as.
    pub kept_version: u64,
    /// Whether its first process runs, as it did before.
    pub started: bool,
    /// Milliseconds in which it did not run.
    pub downtime_ms: u64,
    /// How long each phase took.
    pub phases_ms: Phases,
}

/// How to delete a workspace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DeleteOptions {
    /// Milliseconds from SIGTERM to SIGKILL; 0 kills at once. Default: the configured 10 000.
    pub grace_ms: Option<u64>,
    /// Whether its data is preserved before; when that fails, nothing is deleted. Default false.
    pub preserve_data: bool,
    /// How the data is kept then. Default `archive`.
    pub preserve_form: PreserveForm,
}

setters!(DeleteOptions { grace_ms: u64 => Some; preserve_data: bool; preserve_form: PreserveForm; });

/// What a deletion did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct DeleteResult {
    /// Whether there was a container. A missing one is no error.
    pub deleted: bool,
    /// What is preserved of its data; none where that was not asked for, or there was no data directory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub preserved: Option<PreservedData>,
    /// How long each phase took.
    pub phases_ms: Phases,
}
