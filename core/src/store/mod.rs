//! Records: which workspaces there are, which image each prefers, what happened to them, and the journal of what is under
//! way.
//!
//! The store is a cache of what the backend knows, except for what users wanted (image, options, stopped or not). Every
//! write is one transaction and durable when it returns.

mod events;
mod journal;
mod opening;
mod records;
mod sqlite;

pub(crate) use events::{EventPage, NewEvent};
pub(crate) use journal::{JournalEntry, OperationKind};
pub(crate) use records::{Restarts, VersionRecord, VersionRecords, WorkspaceRecord};
pub(crate) use sqlite::SqliteStore;

use crate::error::Result;
use crate::names::WorkspaceId;
use async_trait::async_trait;
use std::collections::HashMap;
use std::fmt::Debug;
use tokio::sync::watch;

/// Where records are kept.
#[async_trait]
pub(crate) trait Store: Debug + Send + Sync + 'static {
    /// The record of a workspace, if there is one.
    async fn workspace(&self, id: &WorkspaceId) -> Result<Option<WorkspaceRecord>>;

    /// The workspace whose record names this container.
    async fn workspace_of(&self, container: &str) -> Result<Option<WorkspaceId>>;

    /// Of every workspace whose first process has ever run, by id, whether it is to run now.
    async fn started(&self) -> Result<HashMap<String, bool>>;

    /// The ids of all workspaces that have a record.
    async fn workspaces(&self) -> Result<Vec<WorkspaceId>>;

    /// Writes a workspace's record, whole, over the one before.
    async fn put_workspace(&self, record: &WorkspaceRecord, event: Option<&NewEvent>) -> Result<()>;

    /// Sets whether a workspace is to run. With the event of its start or stop, which is told with it, it also notes
    /// when that was, and that its first process was not started again by itself. No record is no fault.
    async fn set_running(&self, id: &WorkspaceId, running: bool, event: Option<&NewEvent>) -> Result<()>;

    /// Removes a workspace's record, if there is one, and then tells the event.
    async fn delete_workspace(&self, id: &WorkspaceId, event: Option<&NewEvent>) -> Result<()>;

    /// The image last chosen for this id.
    async fn image_preference(&self, id: &WorkspaceId) -> Result<Option<String>>;

    /// Enters an operation into the journal.
    async fn begin(&self, entry: &JournalEntry) -> Result<()>;

    /// Takes an operation out of the journal, done or undone, and writes, in the same transaction, the record it ends
    /// with and the events it is told by. An image that the record's options name is remembered for the id.
    async fn finish(
        &self,
        operation: &str,
        record: Option<&WorkspaceRecord>,
        events: &[NewEvent],
    ) -> Result<()>;

    /// As [`Store::finish`], for an operation that has moved a workspace to another snapshot and, maybe, made a version.
    /// The stamp of the history it has now goes with it; none leaves it as it was.
    async fn finish_move(
        &self,
        operation: &str,
        id: &WorkspaceId,
        snapshot_key: &str,
        version: Option<&VersionRecord>,
        stamp: Option<&str>,
        event: Option<&NewEvent>,
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
    /// Tells an event. Returns false when it was told before.
    async fn tell(&self, event: &NewEvent) -> Result<bool>;

    /// The next events after a number, of one workspace or of all, in order.
    async fn events(&self, after: u64, workspace: Option<&WorkspaceId>, most: u32) -> Result<EventPage>;

    /// The number of the newest event, of whatever process; 0 when there is none. Whoever hears of new ones hears of it.
    async fn newest_event(&self) -> Result<u64>;

    /// Hears of new events: of this store's own at once, of those of others whenever the newest one is asked for.
    fn hear_events(&self) -> watch::Receiver<u64>;

    /// How a workspace's first process was kept running; none without a record.
    async fn restarts(&self, id: &WorkspaceId) -> Result<Option<Restarts>>;

    /// Notes how often in a row a workspace's first process was started again by itself, or was tried to, lastly after
    /// which end, and tells it.
    async fn set_restarts(&self, id: &WorkspaceId, count: u32, after: &str, event: &NewEvent) -> Result<()>;

    /// Whether records can be written now.
    async fn check(&self) -> Result<()>;

    /// Writes everything out and lets go of the files.
    async fn close(&self);
}
