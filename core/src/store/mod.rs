//! Records: which workspaces there are, which image each prefers, and the journal of what is under way.
//!
//! The store is a cache of what the backend knows, except for what users wanted (image, options, stopped or not). Every
//! write is one transaction and durable when it returns.

mod journal;
mod records;
mod sqlite;

pub(crate) use journal::{JournalEntry, OperationKind};
pub(crate) use records::{VersionRecord, VersionRecords, WorkspaceRecord};
pub(crate) use sqlite::SqliteStore;

use crate::error::Result;
use crate::names::WorkspaceId;
use async_trait::async_trait;
use std::collections::HashMap;
use std::fmt::Debug;

/// Where records are kept.
#[async_trait]
pub(crate) trait Store: Debug + Send + Sync + 'static {
    /// The record of a workspace, if there is one.
    async fn workspace(&self, id: &WorkspaceId) -> Result<Option<WorkspaceRecord>>;

    /// Of every workspace whose first process has ever run, by id, whether it is to run now.
    async fn started(&self) -> Result<HashMap<String, bool>>;

    /// The ids of all workspaces that have a record.
    async fn workspaces(&self) -> Result<Vec<WorkspaceId>>;

    /// Writes a workspace's record, whole, over the one before.
    async fn put_workspace(&self, record: &WorkspaceRecord) -> Result<()>;

    /// Sets whether a workspace is to run, and when it was last started or stopped. No record is no fault.
    async fn set_running(&self, id: &WorkspaceId, running: bool) -> Result<()>;

    /// Removes a workspace's record, if there is one.
    async fn delete_workspace(&self, id: &WorkspaceId) -> Result<()>;

    /// The image last chosen for this id.
    async fn image_preference(&self, id: &WorkspaceId) -> Result<Option<String>>;

    /// Enters an operation into the journal.
    async fn begin(&self, entry: &JournalEntry) -> Result<()>;

    /// Takes an operation out of the journal, done or undone, and writes, in the same transaction, the record it ends
    /// with. An image that the record's options name is remembered for the id.
    async fn finish(&self, operation: &str, record: Option<&WorkspaceRecord>) -> Result<()>;

    /// As [`Store::finish`], for an operation that has moved a workspace to another snapshot and, maybe, made a version.
    /// The stamp of the history it has now goes with it; none leaves it as it was.
    async fn finish_move(
        &self,
        operation: &str,
        id: &WorkspaceId,
        snapshot_key: &str,
        version: Option<&VersionRecord>,
        stamp: Option<&str>,
    ) -> Result<()>;

    /// The versions of a workspace.
    async fn versions(&self, id: &WorkspaceId) -> Result<VersionRecords>;

    /// Writes the versions of a workspace, all of them, over those before.
    async fn put_versions(&self, id: &WorkspaceId, records: &VersionRecords) -> Result<()>;

    /// What the journal holds of one workspace, oldest first.
    async fn unfinished(&self, id: &WorkspaceId) -> Result<Vec<JournalEntry>>;

    /// The workspaces that have something in the journal.
    async fn unfinished_workspaces(&self) -> Result<Vec<WorkspaceId>>;

    /// Whether these records were ever completed with what the backend knows: new ones, and those that take the place of
    /// lost ones, were not.
    async fn is_completed(&self) -> Result<bool>;

    /// Notes that they were.
    async fn set_completed(&self) -> Result<()>;

    /// Whether records can be written now.
    async fn check(&self) -> Result<()>;

    /// Writes everything out and lets go of the files.
    async fn close(&self);
}
