use crate::error::{Error, Result};
use crate::names::WorkspaceId;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Which operation a journal entry is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OperationKind {
    Create,
    Delete,
    /// A version made or gone back to.
    Relocate,
    /// Versions removed.
    Prune,
    /// A workspace held still, or something staged, for work on its data.
    Still,
    /// Limits changed.
    Limits,
}

impl OperationKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Relocate => "relocate",
            Self::Prune => "prune",
            Self::Still => "still",
            Self::Limits => "limits",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "create" => Ok(Self::Create),
            "delete" => Ok(Self::Delete),
            "relocate" => Ok(Self::Relocate),
            "prune" => Ok(Self::Prune),
            "still" => Ok(Self::Still),
            "limits" => Ok(Self::Limits),
            _ => Err(Error::unsupported(
                "the journal holds an operation of a newer version: upgrade this host",
            )
            .with("kind", text)),
        }
    }
}

/// An operation that has begun and not ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JournalEntry {
    pub(crate) operation: String,
    pub(crate) kind: OperationKind,
    pub(crate) workspace: WorkspaceId,
    /// The names it generated, as JSON.
    pub(crate) intent: String,
    pub(crate) started_at: Timestamp,
}

impl JournalEntry {
    pub(crate) fn new(
        operation: &str,
        kind: OperationKind,
        workspace: &WorkspaceId,
        intent: &impl Serialize,
    ) -> Result<Self> {
        Ok(Self {
            operation: operation.to_owned(),
            kind,
            workspace: workspace.clone(),
            intent: serde_json::to_string(intent)
                .map_err(|e| Error::unexpected("cannot write the journal entry").caused_by(e))?,
            started_at: Timestamp::now(),
        })
    }

    pub(crate) fn intent<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.intent).map_err(|e| {
            Error::data_corrupt("the journal holds an entry that cannot be read")
                .with("operation", &self.operation)
                .caused_by(e)
        })
    }
}
