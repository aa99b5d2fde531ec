//! What is written down of what happens to workspaces, and how it is read again.

use crate::names::WorkspaceId;
use crate::types::{LifecycleEvent, LifecycleKind};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Row, query};

/// An event that is to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewEvent {
    pub(crate) kind: LifecycleKind,
    /// When it happened; none for the moment in which it is written down.
    pub(crate) at: Option<Timestamp>,
    pub(crate) workspace: Option<String>,
    /// What it is called where several processes would tell it: only the first one does.
    pub(crate) once: Option<String>,
    pub(crate) detail: Detail,
}

/// What is known of an event besides when it was and whose.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Detail {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) container_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) out_of_memory: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) operation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pause_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

impl NewEvent {
    /// An event of now that belongs to no workspace.
    pub(crate) fn new(kind: LifecycleKind) -> Self {
        Self { kind, at: None, workspace: None, once: None, detail: Detail::default() }
    }

    /// An event of now.
    pub(crate) fn of(kind: LifecycleKind, id: &WorkspaceId, container: &str) -> Self {
        let mut event = Self::new(kind);
        event.workspace = Some(id.to_string());
        event.detail.container_id = Some(container.to_owned());
        event
    }

    pub(crate) fn operation(mut self, id: &str) -> Self {
        self.detail.operation_id = Some(id.to_owned());
        self
    }

    pub(crate) fn image(mut self, image: &str) -> Self {
        self.detail.image = Some(image.to_owned());
        self
    }

    pub(crate) fn exit_code(mut self, code: Option<u32>) -> Self {
        self.detail.exit_code = code;
        self
    }

    /// Notes that it was for want of memory.
    pub(crate) fn out_of_memory(mut self, so: bool) -> Self {
        self.detail.out_of_memory = so.then_some(true);
        self
    }

    pub(crate) fn version(mut self, version: u64) -> Self {
        self.detail.version = Some(version);
        self
    }

    pub(crate) fn message(mut self, message: impl Into<String>) -> Self {
        self.detail.message = Some(message.into());
        self
    }

    /// Makes it one that happened at this time and that any number of processes may tell: `what` tells it from others.
    pub(crate) fn once(mut self, at: Timestamp, what: impl std::fmt::Display) -> Self {
        self.at = Some(at);
        self.once = Some(format!("{what}@{}", at.as_nanosecond()));
        self
    }
}

/// What is older than the oldest event of a full table was told, or is too old to tell.
const INSERT: &str = "INSERT OR IGNORE INTO events (at, kind, workspace_id, detail, once)
    SELECT ?1, ?2, ?3, ?4, ?5 WHERE ?5 IS NULL OR NOT EXISTS (
        SELECT 1 FROM events WHERE sequence = (SELECT MIN(sequence) FROM events) AND sequence > 1 AND at > ?1)
    RETURNING sequence";

/// Writes an event. Returns its number; none when it was told before.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    event: &NewEvent,
) -> Result<Option<u64>, sqlx::Error> {
    let encode = |error: serde_json::Error| sqlx::Error::Encode(Box::new(error));
    let row = query(INSERT)
        .bind(sortable(event.at.unwrap_or_else(Timestamp::now)))
        .bind(kind_name(event.kind).map_err(encode)?)
        .bind(event.workspace.as_deref())
        .bind(serde_json::to_string(&event.detail).map_err(encode)?)
        .bind(event.once.as_deref())
        .fetch_optional(connection)
        .await?;
    row.map(|row| row.try_get::<i64, _>("sequence").map(i64::unsigned_abs)).transpose()
}

/// Writes events. Returns the number of the last one that was written.
pub(super) async fn insert_all(
    connection: &mut SqliteConnection,
    events: impl IntoIterator<Item = &NewEvent>,
) -> Result<Option<u64>, sqlx::Error> {
    let mut last = None;
    for event in events {
        last = insert(connection, event).await?.or(last);
    }
    Ok(last)
}

/// Text of one length, so that it sorts as time does.
fn sortable(at: Timestamp) -> String {
    format!("{at:.6}")
}

fn kind_name(kind: LifecycleKind) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_value(kind)?.as_str().unwrap_or_default().to_owned())
}

/// The number of the newest event; 0 when there is none.
pub(super) async fn newest(connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let row = query("SELECT COALESCE(MAX(sequence), 0) AS newest FROM events").fetch_one(connection).await?;
    row.try_get::<i64, _>("newest").map(i64::unsigned_abs)
}

/// The next events after a number, of one workspace or of all, in order.
pub(super) async fn read(
    connection: &mut SqliteConnection,
    after: u64,
    workspace: Option<&WorkspaceId>,
    most: u32,
) -> Result<Vec<SqliteRow>, sqlx::Error> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let read = match workspace {
        Some(id) => {
            query("SELECT * FROM events WHERE workspace_id = ?3 AND sequence > ?1 ORDER BY sequence LIMIT ?2")
                .bind(after)
                .bind(most)
                .bind(id.as_str())
        }
        None => query("SELECT * FROM events WHERE sequence > ?1 ORDER BY sequence LIMIT ?2")
            .bind(after)
            .bind(most),
    };
    read.fetch_all(connection).await
}

/// An event as it was written. None for a kind that a newer version of this library has written.
fn event(row: &SqliteRow) -> Result<Option<LifecycleEvent>, sqlx::Error> {
    let decode = |error: serde_json::Error| sqlx::Error::Decode(Box::new(error));
    let Ok(kind) = serde_json::from_value(row.try_get::<String, _>("kind")?.into()) else { return Ok(None) };
    let detail: Detail = serde_json::from_str(&row.try_get::<String, _>("detail")?).map_err(decode)?;
    Ok(Some(LifecycleEvent {
        sequence: row.try_get::<i64, _>("sequence")?.unsigned_abs(),
        at: row.try_get("at")?,
        kind,
        workspace_id: row.try_get("workspace_id")?,
        container_id: detail.container_id,
        image: detail.image,
        version: detail.version,
        exit_code: detail.exit_code,
        out_of_memory: detail.out_of_memory,
        operation_id: detail.operation_id,
        attempt: detail.attempt,
        pause_ms: detail.pause_ms,
        message: detail.message,
    }))
}

/// The rows of a page: those that can be read, and the number the page ends with.
pub(crate) struct EventPage {
    pub(crate) events: Vec<LifecycleEvent>,
    /// The number of its last row; none when there was no row.
    pub(crate) last: Option<u64>,
}

impl EventPage {
    pub(super) fn of(rows: &[SqliteRow]) -> Result<Self, sqlx::Error> {
        let mut page = Self { events: Vec::with_capacity(rows.len()), last: None };
        for row in rows {
            page.events.extend(event(row)?);
            page.last = Some(row.try_get::<i64, _>("sequence")?.unsigned_abs());
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{SqliteStore, Store};

    async fn store(dir: &tempfile::TempDir) -> SqliteStore {
        SqliteStore::open(&dir.path().join("dunnage.db")).await.unwrap()
    }

    fn id(text: &str) -> WorkspaceId {
        WorkspaceId::new(text).unwrap()
    }

    #[tokio::test]
    async fn the_newest_are_kept_and_numbers_have_no_gap() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        let old = Timestamp::now();
        let end = NewEvent::of(LifecycleKind::Exit, &id("a"), "c").exit_code(Some(7)).once(old, "exit/c/1");
        assert!(store.tell(&end).await.unwrap());
        assert!(!store.tell(&end).await.unwrap(), "it is told once");
        let entries: Vec<NewEvent> =
            (0..10_002).map(|n| NewEvent::of(LifecycleKind::Create, &id("b"), "d").version(n)).collect();
        store.finish("none", None, &entries).await.unwrap();
        assert_eq!(store.newest_event().await.unwrap(), 10_003);
        let mut at = 0;
        let mut numbers = Vec::new();
        loop {
            let page = store.events(at, None, 500).await.unwrap();
            numbers.extend(page.events.iter().map(|event| event.sequence));
            let Some(last) = page.last else { break };
            at = last;
        }
        assert_eq!(numbers, (4..=10_003).collect::<Vec<_>>());
        // What was dropped is not told as new.
        assert!(!store.tell(&end).await.unwrap());
        let later = end.once(Timestamp::now(), "exit/c/2");
        assert!(store.tell(&later).await.unwrap());
        let page = store.events(0, Some(&id("a")), 10).await.unwrap();
        assert_eq!(page.events.len(), 1);
        assert_eq!((page.events[0].sequence, page.events[0].exit_code), (10_004, Some(7)));
    }

    #[tokio::test]
    async fn a_write_that_fails_tells_nothing_and_what_tells_wakes() {
        let dir = tempfile::tempdir().unwrap();
        let (store, other) = (store(&dir).await, store(&dir).await);
        let mut heard = store.hear_events();
        let event = NewEvent::of(LifecycleKind::Start, &id("a"), "c");
        let work = async |connection: &mut SqliteConnection| {
            insert(connection, &event).await?;
            Err(sqlx::Error::RowNotFound)
        };
        store.write("a test's own", work).await.unwrap_err();
        assert_eq!(store.newest_event().await.unwrap(), 0);
        assert!(!heard.has_changed().unwrap());
        store.tell(&event).await.unwrap();
        assert_eq!(*heard.borrow_and_update(), 1);
        // Those of others are heard of by looking.
        other.tell(&event).await.unwrap();
        assert!(!heard.has_changed().unwrap());
        store.newest_event().await.unwrap();
        assert_eq!(*heard.borrow_and_update(), 2);
    }

    #[tokio::test]
    async fn kinds_of_newer_versions_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        let event = NewEvent::of(LifecycleKind::Start, &id("a"), "c").message("first");
        for _ in 0..2 {
            store.tell(&event).await.unwrap();
        }
        let later = async |connection: &mut SqliteConnection| {
            query("UPDATE events SET kind = 'teleport' WHERE sequence = 2").execute(connection).await?;
            Ok(None)
        };
        store.write("a test's own", later).await.unwrap();
        let page = store.events(0, None, 10).await.unwrap();
        assert_eq!((page.events.len(), page.last), (1, Some(2)));
        assert_eq!(page.events[0].message.as_deref(), Some("first"));
    }
}
