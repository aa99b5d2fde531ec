//! A store whose changes are told as steps.

use super::step;
use crate::error::Result;
use crate::names::WorkspaceId;
use crate::store::{
    EventPage, JournalEntry, NewEvent, Restarts, Store, VersionRecord, VersionRecords, WorkspaceRecord,
};
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Tells of what it is asked to change, and passes everything on.
#[derive(Debug)]
#[cfg_attr(not(feature = "failpoints"), expect(dead_code, reason = "its compilation is what is checked"))]
pub(crate) struct ToldStore(pub(crate) Arc<dyn Store>);

#[async_trait]
impl Store for ToldStore {
    // What only looks.

    async fn workspace(&self, id: &WorkspaceId) -> Result<Option<WorkspaceRecord>> {
        self.0.workspace(id).await
    }

    async fn started(&self) -> Result<HashMap<String, bool>> {
        self.0.started().await
    }

    async fn image_preference(&self, id: &WorkspaceId) -> Result<Option<String>> {
        self.0.image_preference(id).await
    }

    async fn versions(&self, id: &WorkspaceId) -> Result<VersionRecords> {
        self.0.versions(id).await
    }

    async fn unfinished(&self, id: &WorkspaceId) -> Result<Vec<JournalEntry>> {
        self.0.unfinished(id).await
    }

    async fn unfinished_workspaces(&self) -> Result<Vec<WorkspaceId>> {
        self.0.unfinished_workspaces().await
    }

    async fn workspaces(&self) -> Result<Vec<WorkspaceId>> {
        self.0.workspaces().await
    }

    async fn events(&self, after: u64, workspace: Option<&WorkspaceId>, most: u32) -> Result<EventPage> {
        self.0.events(after, workspace, most).await
    }

    async fn newest_event(&self) -> Result<u64> {
        self.0.newest_event().await
    }

    fn hear_events(&self) -> watch::Receiver<u64> {
        self.0.hear_events()
    }

    async fn restarts(&self, id: &WorkspaceId) -> Result<Option<Restarts>> {
        self.0.restarts(id).await
    }

    async fn workspace_of(&self, container: &str) -> Result<Option<WorkspaceId>> {
        self.0.workspace_of(container).await
    }

    async fn is_completed(&self) -> Result<bool> {
        self.0.is_completed().await
    }

    async fn check(&self) -> Result<()> {
        self.0.check().await
    }

    async fn close(&self) {
        self.0.close().await;
    }

    // What changes something.

    async fn put_workspace(&self, record: &WorkspaceRecord, event: Option<&NewEvent>) -> Result<()> {
        let _step = step("store.put_workspace");
        self.0.put_workspace(record, event).await
    }

    async fn set_running(&self, id: &WorkspaceId, running: bool, event: Option<&NewEvent>) -> Result<()> {
        let _step = step("store.set_running");
        self.0.set_running(id, running, event).await
    }

    async fn delete_workspace(&self, id: &WorkspaceId, event: Option<&NewEvent>) -> Result<()> {
        let _step = step("store.delete_workspace");
        self.0.delete_workspace(id, event).await
    }

    async fn begin(&self, entry: &JournalEntry) -> Result<()> {
        let _step = step("store.begin");
        self.0.begin(entry).await
    }

    async fn finish(
        &self,
        operation: &str,
        record: Option<&WorkspaceRecord>,
        events: &[NewEvent],
    ) -> Result<()> {
        let _step = step("store.finish");
        self.0.finish(operation, record, events).await
    }

    async fn finish_move(
        &self,
        operation: &str,
        id: &WorkspaceId,
        snapshot_key: &str,
        version: Option<&VersionRecord>,
        stamp: Option<&str>,
        event: Option<&NewEvent>,
    ) -> Result<()> {
        let _step = step("store.finish_move");
        self.0.finish_move(operation, id, snapshot_key, version, stamp, event).await
    }

    async fn put_versions(&self, id: &WorkspaceId, records: &VersionRecords) -> Result<()> {
        let _step = step("store.put_versions");
        self.0.put_versions(id, records).await
    }

    async fn tell(&self, event: &NewEvent) -> Result<bool> {
        // Told by who follows the backend, whenever it hears of it: no step of an operation.
        self.0.tell(event).await
    }

    async fn set_restarts(&self, id: &WorkspaceId, count: u32, after: &str, event: &NewEvent) -> Result<()> {
        let _step = step("store.set_restarts");
        self.0.set_restarts(id, count, after, event).await
    }

    async fn set_completed(&self) -> Result<()> {
        let _step = step("store.set_completed");
        self.0.set_completed().await
    }
}
