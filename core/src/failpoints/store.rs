//! A store whose changes are told as steps.

use super::step;
use crate::error::Result;
use crate::names::WorkspaceId;
use crate::store::{JournalEntry, Store, VersionRecord, VersionRecords, WorkspaceRecord};
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::Arc;

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

    async fn put_workspace(&self, record: &WorkspaceRecord) -> Result<()> {
        let _step = step("store.put_workspace");
        self.0.put_workspace(record).await
    }

    async fn set_running(&self, id: &WorkspaceId, running: bool) -> Result<()> {
        let _step = step("store.set_running");
        self.0.set_running(id, running).await
    }

    async fn delete_workspace(&self, id: &WorkspaceId) -> Result<()> {
        let _step = step("store.delete_workspace");
        self.0.delete_workspace(id).await
    }

    async fn begin(&self, entry: &JournalEntry) -> Result<()> {
        let _step = step("store.begin");
        self.0.begin(entry).await
    }

    async fn finish(&self, operation: &str, record: Option<&WorkspaceRecord>) -> Result<()> {
        let _step = step("store.finish");
        self.0.finish(operation, record).await
    }

    async fn finish_move(
        &self,
        operation: &str,
        id: &WorkspaceId,
        snapshot_key: &str,
        version: Option<&VersionRecord>,
        stamp: Option<&str>,
    ) -> Result<()> {
        let _step = step("store.finish_move");
        self.0.finish_move(operation, id, snapshot_key, version, stamp).await
    }

    async fn put_versions(&self, id: &WorkspaceId, records: &VersionRecords) -> Result<()> {
        let _step = step("store.put_versions");
        self.0.put_versions(id, records).await
    }

    async fn set_completed(&self) -> Result<()> {
        let _step = step("store.set_completed");
        self.0.set_completed().await
    }
}
