use super::{ImageInfo, ReconciledWorkspace, WorkspaceInfo};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an event tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventType {
    /// An image is being fetched; `image` names it.
    Pulling,
    /// How far the fetch is; `layers`, `bytes` and `total_bytes` tell.
    PullProgress,
    /// The image is here already, or must not be fetched; `image` names it.
    PullSkipped,
    /// The container is being made.
    Creating,
    /// Its first process is being started.
    Starting,
    /// Its first process is being stopped.
    Stopping,
    /// The container and what belongs to it are being removed.
    Deleting,
    /// The data directory is being written to an archive.
    Exporting,
    /// An archive is being read.
    Importing,
    /// The data directory is being preserved.
    Preserving,
    /// Preserved data is being put back.
    Restoring,
    /// How far an export, an import or the copying of a file is; `entries`, `total_entries`, `bytes`, `total_bytes`, `archive_bytes`,
    /// `total_archive_bytes` and `bytes_per_second` tell, as far as they are known.
    DataProgress,
    /// A workspace was put in order, or could not be; `reconciled`, `done` and `total` tell.
    Reconciled,
    /// The operation has succeeded. The last event.
    Complete,
    /// The operation has failed or was cancelled; `message` and `code` tell. The last event.
    Error,
}

impl EventType {
    /// Whether a later one of its kind says all that it does.
    pub(crate) fn is_progress(self) -> bool {
        matches!(self, Self::PullProgress | Self::DataProgress)
    }

    /// Whether no event follows.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Complete | Self::Error)
    }
}

/// A step of an operation. Which fields are present depends on `type`; programs must ignore fields they do not know.
///
/// Byte counts never fall, at most 20 progress events come a second, and exactly one terminal event comes last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Event {
    /// What it tells.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// The id of the operation.
    pub operation_id: String,
    /// Milliseconds since the operation began.
    pub elapsed_ms: u64,
    /// The image, in the full form.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub image: Option<String>,
    /// The layers of this pull, in the image's order; one that is done stays, at `offset` equal to `total`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub layers: Option<Vec<LayerProgress>>,
    /// Bytes fetched so far, of all layers and of the image's descriptions; on `data_progress`, bytes of files' data that
    /// are done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes: Option<u64>,
    /// Bytes in all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub total_bytes: Option<u64>,
    /// Compressed bytes unpacked so far, of `total_bytes`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unpacked_bytes: Option<u64>,
    /// Entries that are done, on `data_progress`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub entries: Option<u64>,
    /// Entries in all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub total_entries: Option<u64>,
    /// Bytes of the archive that are done, as it is stored.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub archive_bytes: Option<u64>,
    /// Bytes of the archive in all, where its length is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub total_archive_bytes: Option<u64>,
    /// Bytes of files' data a second, since the step began.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes_per_second: Option<u64>,
    /// The workspace, on `complete`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container: Option<Box<WorkspaceInfo>>,
    /// The image as it is kept, on `complete` of a pull.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub image_info: Option<Box<ImageInfo>>,
    /// What became of a workspace, on `reconciled`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reconciled: Option<Box<ReconciledWorkspace>>,
    /// How many workspaces were worked on, on `reconciled`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub done: Option<u64>,
    /// Of how many.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub total: Option<u64>,
    /// What went wrong, on `error`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// The error's stable name, on `error`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<String>,
}

impl Event {
    pub(crate) fn new(kind: EventType) -> Self {
        Self {
            kind,
            operation_id: String::new(),
            elapsed_ms: 0,
            image: None,
            layers: None,
            bytes: None,
            total_bytes: None,
            unpacked_bytes: None,
            entries: None,
            total_entries: None,
            archive_bytes: None,
            total_archive_bytes: None,
            bytes_per_second: None,
            container: None,
            image_info: None,
            reconciled: None,
            done: None,
            total: None,
            message: None,
            code: None,
        }
    }

    pub(crate) fn image(mut self, image: impl ToString) -> Self {
        self.image = Some(image.to_string());
        self
    }
}

/// What a layer's fetch is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LayerState {
    /// Not begun.
    Waiting,
    /// Bytes are coming from the registry.
    Downloading,
    /// All bytes are here; it is being unpacked.
    Extracting,
    /// Fetched and unpacked.
    Done,
    /// It was here before.
    Exists,
}

/// How far one layer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct LayerProgress {
    /// The layer's digest.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Bytes fetched.
    pub offset: u64,
    /// Bytes in all, as the manifest says.
    pub total: u64,
    /// Compressed bytes unpacked.
    pub unpacked: u64,
    /// What it is doing.
    pub state: LayerState,
}

impl LayerProgress {
    /// A layer that has not begun.
    pub fn waiting(reference: impl Into<String>, total: u64) -> Self {
        Self { reference: reference.into(), offset: 0, total, unpacked: 0, state: LayerState::Waiting }
    }
}
