use super::opening;
use super::{
    EventPage, JournalEntry, NewEvent, OperationKind, Restarts, Store, VersionRecord, VersionRecords,
    WorkspaceRecord, events,
};
use crate::error::{Error, ErrorKind, Result};
use crate::names::WorkspaceId;
use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Connection, Row, query};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::watch;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// One: its queries take a fraction of a millisecond and its writes wait for the same disk. Each connection has a thread
/// of its own, and SQLite keeps the descriptor of a closed one for as long as the process has the file open elsewhere
/// (<https://www.sqlite.org/src/file/src/os_unix.c>, "Posix Advisory Locking"), so more of them would look like a leak.
const CONNECTIONS: u32 = 1;

/// How long a writer waits for another process's transaction.
const BUSY_LIMIT: Duration = Duration::from_secs(20);

/// Records in one SQLite file, shared by every process that uses the data root.
///
/// Write-ahead log, synced at every commit: what a method has returned from survives power loss.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    pool: SqlitePool,
    path: PathBuf,
    /// The newest event that is known of.
    newest: watch::Sender<u64>,
}

impl SqliteStore {
    /// Opens the file, making it (mode 0600) and bringing its tables up to date.
    ///
    /// # Errors
    /// DATA_CORRUPT when it is no database of ours, RESOURCE_EXHAUSTED on a full disk, PERMISSION_DENIED,
    /// UNSUPPORTED when a newer version of this library has written it.
    pub(crate) async fn open(path: &Path) -> Result<Self> {
        // Held until the tables are there: two that bring them up to date at once would make them twice.
        let _alone = opening::alone(path, BUSY_LIMIT).await?;
        opening::make(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_LIMIT)
            .foreign_keys(true)
            .optimize_on_close(true, None);
        let pool = SqlitePoolOptions::new()
            .min_connections(0)
            .max_connections(CONNECTIONS)
            .acquire_timeout(BUSY_LIMIT)
            // A connection to a file does not age. And without these the pool has no task that looks after idle ones:
            // sqlx 0.9 counts them down before up when one is taken just as it is given back, and the task, if it reads
            // the count in between, goes round some 2^64 times without a pause (`spawn_maintenance_tasks`, `num_idle`).
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await
            .map_err(|e| convert(e, path))?;
        MIGRATIONS.run(&pool).await.map_err(|e| match e {
            sqlx::migrate::MigrateError::VersionMissing(_) => {
                Error::unsupported("a newer version has written the database: upgrade this host")
                    .with("path", path.display())
            }
            sqlx::migrate::MigrateError::Execute(e) => convert(e, path),
            other => Error::unexpected("cannot bring the database up to date")
                .with("path", path.display())
                .caused_by(other),
        })?;
        Ok(Self { pool, path: path.to_owned(), newest: watch::Sender::new(0) })
    }

    fn fail(&self, error: sqlx::Error) -> Error {
        convert(error, &self.path)
    }

    /// Lets those who wait for events know of the newest one.
    fn ring(&self, newest: u64) {
        self.newest.send_if_modified(|known| {
            let newer = newest > *known;
            *known = newest.max(*known);
            newer
        });
    }

    /// Does all of `work` or nothing; what it returns is the number of the last event it told.
    pub(super) async fn write(
        &self,
        doing: &'static str,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<Option<u64>, sqlx::Error>,
    ) -> Result<Option<u64>> {
        let mut connection = self.pool.acquire().await.map_err(|e| self.fail(e))?;
        let done = traced(doing, async {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            let told = work(&mut transaction).await?;
            transaction.commit().await?;
            Ok(told)
        })
        .await;
        if done.is_err() {
            // On a full disk SQLite rolls back by itself, of which the pool's count of transactions knows nothing: such
            // a connection could begin none any more.
            connection.close_on_drop();
        }
        let told = done.map_err(|e| self.fail(e))?;
        if let Some(newest) = told {
            self.ring(newest);
        }
        Ok(told)
    }
}

fn convert(error: sqlx::Error, path: &Path) -> Error {
    // Primary result codes: https://www.sqlite.org/rescode.html
    let code = match &error {
        sqlx::Error::Database(e) => e.code().and_then(|c| c.parse::<i32>().ok()).map(|c| c & 0xff),
        _ => None,
    };
    let (kind, message) = match (&error, code) {
        (_, Some(11 | 26)) => {
            (ErrorKind::DataCorrupt, "the database is damaged: move it away to have it rebuilt")
        }
        (_, Some(13)) => (ErrorKind::ResourceExhausted, "the disk of the database is full: free some space"),
        (_, Some(3 | 8 | 14 | 23)) => {
            (ErrorKind::PermissionDenied, "the database cannot be opened for writing")
        }
        (_, Some(5 | 6)) | (sqlx::Error::PoolTimedOut, _) => {
            (ErrorKind::Unavailable, "the database is busy: repeat later")
        }
        (_, Some(10)) => {
            (ErrorKind::ResourceExhausted, "the database's disk failed: check its space and health")
        }
        (sqlx::Error::PoolClosed, _) => {
            (ErrorKind::FailedPrecondition, "the engine is closed: open a new one")
        }
        _ => (ErrorKind::Unexpected, "the database failed"),
    };
    Error::new(kind, message).with("path", path.display()).caused_by(error)
}

/// Tells how long a write took, which is mostly the disk's time.
async fn traced<T>(doing: &str, work: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let done = work.await;
    tracing::trace!(doing, micros = begun.elapsed().as_micros() as u64, "record written");
    done
}

fn time(text: &str) -> Result<Timestamp> {
    text.parse()
        .map_err(|e: jiff::Error| Error::data_corrupt("the database holds a malformed time").caused_by(e))
}

fn json_error(error: serde_json::Error) -> Error {
    Error::data_corrupt("the database holds malformed options").caused_by(error)
}

const PUT_WORKSPACE: &str = "INSERT INTO workspaces (workspace_id, container_id, image, namespace, snapshotter, snapshot_key,
        container_path, auto_start, options, created_at, updated_at, last_started_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, CASE WHEN ?12 THEN ?11 END)
    ON CONFLICT (workspace_id) DO UPDATE SET container_id = ?2, image = ?3, namespace = ?4, snapshotter = ?5,
        snapshot_key = ?6, container_path = ?7, auto_start = ?8, options = ?9, created_at = ?10, updated_at = ?11,
        restarts = 0, restarted_after = NULL, last_started_at = CASE WHEN ?12 THEN ?11 END";

const PREFER_IMAGE: &str = "INSERT INTO image_preferences (workspace_id, image) VALUES (?1, ?2)
    ON CONFLICT (workspace_id) DO UPDATE SET image = ?2";

/// Times, and how often it was started again by itself, are noted only where something was started or stopped.
const SET_RUNNING: &str = "UPDATE workspaces SET auto_start = ?2, updated_at = ?3,
        last_started_at = CASE WHEN ?2 AND ?4 THEN ?3 ELSE last_started_at END,
        last_stopped_at = CASE WHEN ?2 OR NOT ?4 THEN last_stopped_at ELSE ?3 END,
        restarts = CASE WHEN ?4 THEN 0 ELSE restarts END,
        restarted_after = CASE WHEN ?4 THEN NULL ELSE restarted_after END
    WHERE workspace_id = ?1";

async fn put(connection: &mut SqliteConnection, record: &WorkspaceRecord) -> Result<(), sqlx::Error> {
    let options = serde_json::to_string(&record.options).map_err(|e| sqlx::Error::Encode(Box::new(e)))?;
    query(PUT_WORKSPACE)
        .bind(record.id.as_str())
        .bind(&record.container_id)
        .bind(&record.image)
        .bind(&record.namespace)
        .bind(&record.snapshotter)
        .bind(&record.snapshot_key)
        .bind(&record.container_path)
        .bind(record.auto_start)
        .bind(options)
        .bind(record.created_at.to_string())
        .bind(record.updated_at.to_string())
        .bind(record.started)
        .execute(connection)
        .await
        .map(drop)
}

/// Takes an operation out of the journal.
async fn end(connection: &mut SqliteConnection, operation: &str) -> Result<(), sqlx::Error> {
    query("DELETE FROM operations WHERE id = ?1").bind(operation).execute(connection).await.map(drop)
}

const ADD_VERSION: &str = "INSERT INTO versions
        (workspace_id, version, container_id, snapshotter, snapshot, parent, display_name, source, created_at, follows, depth)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO NOTHING";

async fn add_version(
    connection: &mut SqliteConnection,
    id: &WorkspaceId,
    record: &VersionRecord,
) -> Result<(), sqlx::Error> {
    query(ADD_VERSION)
        .bind(id.as_str())
        .bind(i64::try_from(record.version).unwrap_or(i64::MAX))
        .bind(&record.container_id)
        .bind(&record.snapshotter)
        .bind(&record.snapshot)
        .bind(&record.parent)
        .bind(&record.display_name)
        .bind(&record.source)
        .bind(record.created_at.to_string())
        .bind(record.follows.map(|follows| i64::try_from(follows).unwrap_or(i64::MAX)))
        .bind(i64::from(record.depth))
        .execute(connection)
        .await
        .map(drop)
}

const STAMP: &str = "INSERT INTO histories (workspace_id, stamp) VALUES (?1, ?2)
    ON CONFLICT (workspace_id) DO UPDATE SET stamp = ?2";

/// Notes which history a workspace has.
async fn stamp(connection: &mut SqliteConnection, id: &WorkspaceId, stamp: &str) -> Result<(), sqlx::Error> {
    query(STAMP).bind(id.as_str()).bind(stamp).execute(connection).await.map(drop)
}

impl SqliteStore {
    fn version(&self, row: &SqliteRow) -> Result<VersionRecord> {
        let text = |column: &str| row.try_get::<String, _>(column).map_err(|e| self.fail(e));
        let number: i64 = row.try_get("version").map_err(|e| self.fail(e))?;
        Ok(VersionRecord {
            version: number.unsigned_abs(),
            container_id: text("container_id")?,
            snapshotter: text("snapshotter")?,
            snapshot: text("snapshot")?,
            parent: text("parent")?,
            display_name: text("display_name")?,
            source: text("source")?,
            created_at: time(&text("created_at")?)?,
            follows: row
                .try_get::<Option<i64>, _>("follows")
                .map_err(|e| self.fail(e))?
                .map(i64::unsigned_abs),
            depth: row.try_get::<i64, _>("depth").map_err(|e| self.fail(e))?.try_into().unwrap_or_default(),
        })
    }

    fn record(&self, row: &SqliteRow) -> Result<WorkspaceRecord> {
        let text = |column: &str| row.try_get::<String, _>(column).map_err(|e| self.fail(e));
        Ok(WorkspaceRecord {
            id: WorkspaceId::new(text("workspace_id")?)?,
            container_id: text("container_id")?,
            image: text("image")?,
            namespace: text("namespace")?,
            snapshotter: text("snapshotter")?,
            snapshot_key: text("snapshot_key")?,
            container_path: text("container_path")?,
            auto_start: row.try_get("auto_start").map_err(|e| self.fail(e))?,
            started: row.try_get::<Option<String>, _>("last_started_at").map_err(|e| self.fail(e))?.is_some(),
            options: serde_json::from_str(&text("options")?).map_err(json_error)?,
            created_at: time(&text("created_at")?)?,
            updated_at: time(&text("updated_at")?)?,
        })
    }

    fn entry(&self, row: &SqliteRow) -> Result<JournalEntry> {
        let text = |column: &str| row.try_get::<String, _>(column).map_err(|e| self.fail(e));
        Ok(JournalEntry {
            operation: text("id")?,
            kind: OperationKind::parse(&text("kind")?)?,
            workspace: WorkspaceId::new(text("workspace_id")?)?,
            intent: text("intent")?,
            started_at: time(&text("started_at")?)?,
        })
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn workspace(&self, id: &WorkspaceId) -> Result<Option<WorkspaceRecord>> {
        let row = query("SELECT * FROM workspaces WHERE workspace_id = ?1")
            .bind(id.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(|e| self.fail(e))?;
        row.map(|row| self.record(&row)).transpose()
    }

    async fn workspace_of(&self, container: &str) -> Result<Option<WorkspaceId>> {
        let row = query("SELECT workspace_id FROM workspaces WHERE container_id = ?1")
            .bind(container)
            .fetch_optional(&self.pool)
            .await
            .map_err(|e| self.fail(e))?;
        let id =
            row.map(|row| row.try_get::<String, _>("workspace_id").map_err(|e| self.fail(e))).transpose()?;
        id.map(WorkspaceId::new).transpose()
    }

    async fn started(&self) -> Result<HashMap<String, bool>> {
        let rows = query("SELECT workspace_id, auto_start FROM workspaces WHERE last_started_at IS NOT NULL")
            .fetch_all(&self.pool)
            .await
            .map_err(|e| self.fail(e))?;
        let pair = |row: &SqliteRow| Ok((row.try_get("workspace_id")?, row.try_get("auto_start")?));
        rows.iter().map(|row| pair(row).map_err(|e| self.fail(e))).collect()
    }

    async fn workspaces(&self) -> Result<Vec<WorkspaceId>> {
        let rows = query("SELECT workspace_id FROM workspaces ORDER BY workspace_id")
            .fetch_all(&self.pool)
            .await
            .map_err(|e| self.fail(e))?;
        rows.iter()
            .map(|row| WorkspaceId::new(row.try_get::<String, _>("workspace_id").map_err(|e| self.fail(e))?))
            .collect()
    }

    async fn put_workspace(&self, record: &WorkspaceRecord, event: Option<&NewEvent>) -> Result<()> {
        let write = async |connection: &mut SqliteConnection| {
            put(connection, record).await?;
            events::insert_all(connection, event).await
        };
        self.write("record: workspace", write).await.map(drop)
    }

    async fn set_running(&self, id: &WorkspaceId, running: bool, event: Option<&NewEvent>) -> Result<()> {
        let write = async |connection: &mut SqliteConnection| {
            query(SET_RUNNING)
                .bind(id.as_str())
                .bind(running)
                .bind(Timestamp::now().to_string())
                .bind(event.is_some())
                .execute(&mut *connection)
                .await?;
            events::insert_all(connection, event).await
        };
        self.write("record: running or not", write).await.map(drop)
    }

    async fn delete_workspace(&self, id: &WorkspaceId, event: Option<&NewEvent>) -> Result<()> {
        let write = async |connection: &mut SqliteConnection| {
            // The trigger takes the versions along; where the record was lost, only they are there.
            for delete in [
                "DELETE FROM workspaces WHERE workspace_id = ?1",
                "DELETE FROM versions WHERE workspace_id = ?1",
                "DELETE FROM histories WHERE workspace_id = ?1",
            ] {
                query(delete).bind(id.as_str()).execute(&mut *connection).await?;
            }
            events::insert_all(connection, event).await
        };
        self.write("record: gone", write).await.map(drop)
    }

    async fn image_preference(&self, id: &WorkspaceId) -> Result<Option<String>> {
        let row = query("SELECT image FROM image_preferences WHERE workspace_id = ?1")
            .bind(id.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(|e| self.fail(e))?;
        row.map(|row| row.try_get("image").map_err(|e| self.fail(e))).transpose()
    }

    async fn begin(&self, entry: &JournalEntry) -> Result<()> {
        let insert = query(
            "INSERT INTO operations (id, kind, workspace_id, intent, started_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )
        .bind(&entry.operation)
        .bind(entry.kind.as_str())
        .bind(entry.workspace.as_str())
        .bind(&entry.intent)
        .bind(entry.started_at.to_string())
        .execute(&self.pool);
        traced("journal: begin", insert).await.map(drop).map_err(|e| self.fail(e))
    }

    async fn finish(
        &self,
        operation: &str,
        record: Option<&WorkspaceRecord>,
        events: &[NewEvent],
    ) -> Result<()> {
        let write = async |connection: &mut SqliteConnection| {
            if let Some(record) = record {
                put(connection, record).await?;
                if record.options.image.is_some() {
                    let remember = query(PREFER_IMAGE).bind(record.id.as_str()).bind(&record.image);
                    remember.execute(&mut *connection).await?;
                }
            }
            end(connection, operation).await?;
            events::insert_all(connection, events).await
        };
        self.write("journal: finish", write).await.map(drop)
    }

    async fn finish_move(
        &self,
        operation: &str,
        id: &WorkspaceId,
        snapshot_key: &str,
        version: Option<&VersionRecord>,
        of: Option<&str>,
        event: Option<&NewEvent>,
    ) -> Result<()> {
        let write = async |connection: &mut SqliteConnection| {
            if let Some(version) = version {
                add_version(connection, id, version).await?;
            }
            if let Some(of) = of {
                stamp(connection, id, of).await?;
            }
            query("UPDATE workspaces SET snapshot_key = ?2, updated_at = ?3 WHERE workspace_id = ?1")
                .bind(id.as_str())
                .bind(snapshot_key)
                .bind(Timestamp::now().to_string())
                .execute(&mut *connection)
                .await?;
            end(connection, operation).await?;
            events::insert_all(connection, event).await
        };
        self.write("journal: finish", write).await.map(drop)
    }

    async fn versions(&self, id: &WorkspaceId) -> Result<VersionRecords> {
        // The stamp first: rows that are newer than their stamp are read anew, never the other way round.
        let stamp = query("SELECT stamp FROM histories WHERE workspace_id = ?1")
            .bind(id.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(|e| self.fail(e))?;
        let stamp = stamp.map(|row| row.try_get("stamp").map_err(|e| self.fail(e))).transpose()?;
        let rows = query("SELECT * FROM versions WHERE workspace_id = ?1 ORDER BY version")
            .bind(id.as_str())
            .fetch_all(&self.pool)
            .await
            .map_err(|e| self.fail(e))?;
        let versions = rows.iter().map(|row| self.version(row)).collect::<Result<_>>()?;
        Ok(VersionRecords { stamp: stamp.unwrap_or_default(), versions })
    }

    async fn put_versions(&self, id: &WorkspaceId, records: &VersionRecords) -> Result<()> {
        let write = async |connection: &mut SqliteConnection| {
            query("DELETE FROM versions WHERE workspace_id = ?1")
                .bind(id.as_str())
                .execute(&mut *connection)
                .await?;
            for version in &records.versions {
                add_version(connection, id, version).await?;
            }
            stamp(connection, id, &records.stamp).await?;
            Ok(None)
        };
        self.write("versions", write).await.map(drop)
    }

    async fn unfinished(&self, id: &WorkspaceId) -> Result<Vec<JournalEntry>> {
        let rows = query("SELECT * FROM operations WHERE workspace_id = ?1 ORDER BY started_at, id")
            .bind(id.as_str())
            .fetch_all(&self.pool)
            .await
            .map_err(|e| self.fail(e))?;
        rows.iter().map(|row| self.entry(row)).collect()
    }

    async fn unfinished_workspaces(&self) -> Result<Vec<WorkspaceId>> {
        let rows = query("SELECT DISTINCT workspace_id FROM operations ORDER BY workspace_id")
            .fetch_all(&self.pool)
            .await
            .map_err(|e| self.fail(e))?;
        rows.iter()
            .map(|row| WorkspaceId::new(row.try_get::<String, _>("workspace_id").map_err(|e| self.fail(e))?))
            .collect()
    }

    async fn is_completed(&self) -> Result<bool> {
        let row = query("PRAGMA user_version").fetch_one(&self.pool).await.map_err(|e| self.fail(e))?;
        row.try_get::<i64, _>(0).map(|version| version > 0).map_err(|e| self.fail(e))
    }

    async fn set_completed(&self) -> Result<()> {
        query("PRAGMA user_version = 1").execute(&self.pool).await.map(drop).map_err(|e| self.fail(e))
    }

    async fn tell(&self, event: &NewEvent) -> Result<bool> {
        let write = async |connection: &mut SqliteConnection| events::insert(connection, event).await;
        Ok(self.write("event", write).await?.is_some())
    }

    async fn events(&self, after: u64, workspace: Option<&WorkspaceId>, most: u32) -> Result<EventPage> {
        let mut connection = self.pool.acquire().await.map_err(|e| self.fail(e))?;
        let rows = events::read(&mut connection, after, workspace, most).await.map_err(|e| self.fail(e))?;
        EventPage::of(&rows).map_err(|e| self.fail(e))
    }

    async fn newest_event(&self) -> Result<u64> {
        let mut connection = self.pool.acquire().await.map_err(|e| self.fail(e))?;
        let newest = events::newest(&mut connection).await.map_err(|e| self.fail(e))?;
        self.ring(newest);
        Ok(newest)
    }

    fn hear_events(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    async fn restarts(&self, id: &WorkspaceId) -> Result<Option<Restarts>> {
        let row = query(
            "SELECT restarts, restarted_after, last_started_at FROM workspaces WHERE workspace_id = ?1",
        )
        .bind(id.as_str())
        .fetch_optional(&self.pool)
        .await
        .map_err(|e| self.fail(e))?;
        row.map(|row| {
            let started: Option<String> = row.try_get("last_started_at").map_err(|e| self.fail(e))?;
            let started_at = started.as_deref().map(time).transpose()?;
            let count = row.try_get("restarts").map_err(|e| self.fail(e))?;
            let after = row.try_get("restarted_after").map_err(|e| self.fail(e))?;
            Ok(Restarts { count, after, started_at })
        })
        .transpose()
    }

    async fn set_restarts(&self, id: &WorkspaceId, count: u32, after: &str, event: &NewEvent) -> Result<()> {
        let write = async |connection: &mut SqliteConnection| {
            query("UPDATE workspaces SET restarts = ?2, restarted_after = ?3 WHERE workspace_id = ?1")
                .bind(id.as_str())
                .bind(count)
                .bind(after)
                .execute(&mut *connection)
                .await?;
            events::insert(connection, event).await
        };
        self.write("record: restarts", write).await.map(drop)
    }

    async fn check(&self) -> Result<()> {
        let mut connection = self.pool.acquire().await.map_err(|e| self.fail(e))?;
        let done = async {
            // An immediate transaction takes the write lock, which a read-only or full disk refuses.
            connection.begin_with("BEGIN IMMEDIATE").await?.rollback().await
        }
        .await;
        if done.is_err() {
            connection.close_on_drop();
        }
        done.map_err(|e| self.fail(e))
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

#[cfg(test)]
#[path = "sqlite_tests.rs"]
mod tests;
