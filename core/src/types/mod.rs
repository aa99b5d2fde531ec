//! Options, results and events: one struct is one JSON object in every language.
//!
//! Options have defaults for every field that can have one, chainable setters, and refuse unknown fields by name.
//! Results only grow: a program that reads one must ignore fields it does not know.

mod data;
mod diff;
mod engine;
mod event;
mod exec;
mod fork;
mod fs;
mod fs_archive;
mod fs_change;
mod fs_search;
mod fs_watch;
mod image;
mod lifecycle;
mod limits;
mod lineage;
mod mcp;
mod metrics;
mod network;
mod prune;
mod reconcile;
mod session;
mod skills;
mod snapshots;
mod tools;
mod workspace;

pub use data::{
    ArchiveFormat, Consistency, DataDiscardOptions, DataExportOptions, DataExportResult, DataImportOptions,
    DataImportResult, DataPreserveOptions, DataPreserveResult, DataRestoreOptions, DataRestoreResult,
    ImportMode, PreserveForm, PreservedData, PreservedList, PreservedOptions, S3Options, SealOptions,
    UnsealOptions,
};
pub use diff::{ChangeAspect, ChangeKind, SnapshotChange, SnapshotDiff, SnapshotDiffOptions};
pub use engine::{BackendHealth, Health, ListOptions, WorkspaceList, WorkspaceSummary};
pub use event::{Event, EventType, LayerProgress, LayerState};
pub use exec::{ExecOptions, ExecResult, ExitStatus, RunOptions};
pub use fork::{SnapshotForkOptions, SnapshotForkResult};
pub use fs::{
    DirEntry, DirList, DirProblem, DownloadOptions, DownloadResult, EntryKind, ListDirOptions, MkdirOptions,
    OpenReadOptions, ReadOptions, ReadTextOptions, RemoveOptions, RenameOptions, StatOptions, TextFile,
    UploadOptions, WriteOptions, WriteResult,
};
pub use fs_archive::{ArchiveOptions, ArchiveResult, ExtractMode, ExtractOptions, ExtractResult};
pub use fs_change::{ChangeResult, ChmodOptions, ChownOptions, CopyOptions, CopyResult, SymlinkOptions};
pub use fs_search::{GlobOptions, GlobResult, GrepMatch, GrepOptions, GrepResult, WalkOptions, WalkPage};
pub use fs_watch::{FileEvent, FileEventKind, WatchOptions};
pub use image::{
    ImageDeleteResult, ImageInfo, ImageList, ImageName, PullOptions, PullPolicy, PullResult, ResolvedDigest,
};
pub use lifecycle::{EventsOptions, LifecycleEvent, LifecycleKind};
pub use limits::{LimitInfo, LimitName, LimitState, Limits, SetLimitsOptions, SetLimitsResult};
pub use lineage::{SnapshotVersion, TreeFormat, TreeOptions, VersionList, VersionTree, VersionsOptions};
pub use mcp::{
    McpConnectOptions, McpConnection, McpConnectionList, McpConnectionOptions, McpNotification, McpReply,
    McpSendOptions,
};
pub use metrics::{
    CpuMetrics, DiskMetrics, IoMetrics, MemoryMetrics, Metrics, MetricsOptions, MetricsStreamOptions,
    NetworkMetrics, PidsMetrics,
};
pub use network::{NetworkInfo, NetworkMode, PortMapping, Protocol};
pub use prune::{SnapshotDeleteOptions, SnapshotPruneOptions, SnapshotPruneResult};
pub use reconcile::{
    GcOptions, GcResult, ReconcileOptions, ReconcileOutcome, ReconcileResult, ReconciledWorkspace,
};
pub use session::{
    AttachOptions, SessionInfo, SessionList, SessionSignalOptions, SessionWaitOptions, SessionsOptions,
    ShellInfo, ShellOptions,
};
pub use skills::{
    Skill, SkillDeleteOptions, SkillDeleteResult, SkillDraft, SkillFile, SkillList, SkillListOptions,
    SkillProblem, SkillUpsertOptions, SkillUpsertResult,
};
pub use snapshots::{
    SnapshotCreateOptions, SnapshotCreateResult, SnapshotInfo, SnapshotList, SnapshotListOptions,
    SnapshotRollbackOptions, SnapshotRollbackResult,
};
pub use tools::{ToolCallOptions, ToolInfo, ToolList, ToolResult};
pub use workspace::{
    AgentKind, CreateOptions, CreateResult, DeleteOptions, DeleteResult, InfoOptions, Phases,
    RecreateOptions, RecreateResult, RestartOptions, RestartPolicy, StartOptions, StartOutcome, StartResult,
    StopOptions, StopOutcome, StopResult, WorkspaceInfo, WorkspaceStatus,
};

/// Writes chainable setters for fields of options.
macro_rules! setters {
    ($type:ty { $($(#[$doc:meta])* $field:ident: $into:ty $(=> $wrap:expr)?;)* }) => {
        impl $type {
            $(
                #[doc = concat!("Sets `", stringify!($field), "`.")]
                #[must_use]
                pub fn $field(mut self, value: impl Into<$into>) -> Self {
                    let value: $into = value.into();
                    self.$field = setters!(@wrap value $(, $wrap)?);
                    self
                }
            )*
        }
    };
    (@wrap $value:ident) => { $value };
    (@wrap $value:ident, $wrap:expr) => { $wrap($value) };
}
pub(crate) use setters;
