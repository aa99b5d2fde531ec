use super::{JournalEntry, OperationKind, Store, VersionRecord, WorkspaceRecord};
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
}

impl SqliteStore {
    /// Opens the file, making it (mode 0600) and bringing its tables up to date.
    ///
    /// # Errors
    /// DATA_CORRUPT when it is no database of ours, RESOURCE_EXHAUSTED on a full disk, PERMISSION_DENIED,
    /// UNSUPPORTED when a newer version of this library has written it.
    pub(crate) async fn open(path: &Path) -> Result<Self> {
        // SQLite gives its side files the mode of the database.
        let file = rustix::fs::open(
            path,
            rustix::fs::OFlags::CREATE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::from_raw_mode(0o600),
        );
        file.map_err(|e| Error::io(e.into(), "cannot open the database").with("path", path.display()))?;
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
        Ok(Self { pool, path: path.to_owned() })
    }

    fn fail(&self, error: sqlx::Error) -> Error {
        convert(error, &self.path)
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
        last_started_at = CASE WHEN ?12 THEN COALESCE(last_started_at, ?11) END";

const PREFER_IMAGE: &str = "INSERT INTO image_preferences (workspace_id, image) VALUES (?1, ?2)
    ON CONFLICT (workspace_id) DO UPDATE SET image = ?2";

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

/// Ends an operation and keeps what came of it, both or neither.
async fn finish(
    connection: &mut SqliteConnection,
    operation: &str,
    record: Option<&WorkspaceRecord>,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    if let Some(record) = record {
        put(&mut transaction, record).await?;
        if record.options.image.is_some() {
            let remember = query(PREFER_IMAGE).bind(record.id.as_str()).bind(&record.image);
            remember.execute(&mut *transaction).await?;
        }
    }
    query("DELETE FROM operations WHERE id = ?1").bind(operation).execute(&mut *transaction).await?;
    transaction.commit().await
}

const ADD_VERSION: &str = "INSERT INTO versions
        (workspace_id, version, container_id, snapshotter, snapshot, parent, display_name, source, created_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING";

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
        .execute(connection)
        .await
        .map(drop)
}

/// Ends an operation that has moved a workspace, and keeps where to.
async fn finish_move(
    connection: &mut SqliteConnection,
    operation: &str,
    id: &WorkspaceId,
    snapshot_key: &str,
    version: Option<&VersionRecord>,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    if let Some(version) = version {
        add_version(&mut transaction, id, version).await?;
    }
    query("UPDATE workspaces SET snapshot_key = ?2, updated_at = ?3 WHERE workspace_id = ?1")
        .bind(id.as_str())
        .bind(snapshot_key)
        .bind(Timestamp::now().to_string())
        .execute(&mut *transaction)
        .await?;
    query("DELETE FROM operations WHERE id = ?1").bind(operation).execute(&mut *transaction).await?;
    transaction.commit().await
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

    async fn started(&self) -> Result<HashMap<String, bool>> {
        let rows = query("SELECT workspace_id, auto_start FROM workspaces WHERE last_started_at IS NOT NULL")
            .fetch_all(&self.pool)
            .await
            .map_err(|e| self.fail(e))?;
        let pair = |row: &SqliteRow| Ok((row.try_get("workspace_id")?, row.try_get("auto_start")?));
        rows.iter().map(|row| pair(row).map_err(|e| self.fail(e))).collect()
    }

    async fn put_workspace(&self, record: &WorkspaceRecord) -> Result<()> {
        let mut connection = self.pool.acquire().await.map_err(|e| self.fail(e))?;
        put(&mut connection, record).await.map_err(|e| self.fail(e))
    }

    async fn set_running(&self, id: &WorkspaceId, running: bool) -> Result<()> {
        let update = query(
            "UPDATE workspaces SET auto_start = ?2, updated_at = ?3,
                last_started_at = CASE WHEN ?2 THEN ?3 ELSE last_started_at END,
                last_stopped_at = CASE WHEN ?2 THEN last_stopped_at ELSE ?3 END
             WHERE workspace_id = ?1",
        )
        .bind(id.as_str())
        .bind(running)
        .bind(Timestamp::now().to_string())
        .execute(&self.pool);
        traced("record: running or not", update).await.map(drop).map_err(|e| self.fail(e))
    }

    async fn delete_workspace(&self, id: &WorkspaceId) -> Result<()> {
        // Each is a transaction of its own. The trigger takes the versions along; where the record was lost, only they
        // are there.
        for delete in
            ["DELETE FROM workspaces WHERE workspace_id = ?1", "DELETE FROM versions WHERE workspace_id = ?1"]
        {
            query(delete).bind(id.as_str()).execute(&self.pool).await.map_err(|e| self.fail(e))?;
        }
        Ok(())
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

    async fn finish(&self, operation: &str, record: Option<&WorkspaceRecord>) -> Result<()> {
        let mut connection = self.pool.acquire().await.map_err(|e| self.fail(e))?;
        let done = traced("journal: finish", finish(&mut connection, operation, record)).await;
        if done.is_err() {
            // On a full disk SQLite rolls back by itself, of which the pool's count of transactions knows nothing: such
            // a connection could begin none any more.
            connection.close_on_drop();
        }
        done.map_err(|e| self.fail(e))
    }

    async fn finish_move(
        &self,
        operation: &str,
        id: &WorkspaceId,
        snapshot_key: &str,
        version: Option<&VersionRecord>,
    ) -> Result<()> {
        let mut connection = self.pool.acquire().await.map_err(|e| self.fail(e))?;
        let work = finish_move(&mut connection, operation, id, snapshot_key, version);
        let done = traced("journal: finish", work).await;
        if done.is_err() {
            // As after any transaction that failed.
            connection.close_on_drop();
        }
        done.map_err(|e| self.fail(e))
    }

    async fn versions(&self, id: &WorkspaceId) -> Result<Vec<VersionRecord>> {
        let rows = query("SELECT * FROM versions WHERE workspace_id = ?1 ORDER BY version")
            .bind(id.as_str())
            .fetch_all(&self.pool)
            .await
            .map_err(|e| self.fail(e))?;
        rows.iter().map(|row| self.version(row)).collect()
    }

    async fn add_version(&self, id: &WorkspaceId, version: &VersionRecord) -> Result<()> {
        let mut connection = self.pool.acquire().await.map_err(|e| self.fail(e))?;
        add_version(&mut connection, id, version).await.map_err(|e| self.fail(e))
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
mod tests {
    use super::*;
    use crate::types::CreateOptions;
    use std::os::unix::fs::PermissionsExt;

    fn record(id: &str) -> WorkspaceRecord {
        WorkspaceRecord {
            id: WorkspaceId::new(id).unwrap(),
            container_id: format!("workspace-{id}"),
            image: "docker.io/library/x:latest".to_owned(),
            namespace: "default".to_owned(),
            snapshotter: "overlayfs".to_owned(),
            snapshot_key: "k".to_owned(),
            container_path: "/run/x".to_owned(),
            auto_start: true,
            started: true,
            options: CreateOptions::default().image("x"),
            created_at: Timestamp::now(),
            updated_at: Timestamp::now(),
        }
    }

    #[tokio::test]
    async fn records_survive_reopening_and_updates() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dunnage.db");
        let written = record("a");
        {
            let store = SqliteStore::open(&path).await.unwrap();
            for image in ["y", "z"] {
                let mut chosen = record("a");
                chosen.image = image.to_owned();
                store.finish("none", Some(&chosen)).await.unwrap();
            }
            store.put_workspace(&written).await.unwrap();
            store.close().await;
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let store = SqliteStore::open(&path).await.unwrap();
        assert_eq!(store.workspace(&written.id).await.unwrap().unwrap(), written);
        store.set_running(&written.id, false).await.unwrap();
        assert!(!store.workspace(&written.id).await.unwrap().unwrap().auto_start);
        store.delete_workspace(&written.id).await.unwrap();
        assert!(store.workspace(&written.id).await.unwrap().is_none());
        assert_eq!(store.image_preference(&written.id).await.unwrap().as_deref(), Some("z"));
        store.check().await.unwrap();
    }

    #[tokio::test]
    async fn nothing_looks_after_idle_connections() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("dunnage.db")).await.unwrap();
        let options = store.pool.options();
        assert_eq!((options.get_idle_timeout(), options.get_max_lifetime()), (None, None));
        assert_eq!(options.get_min_connections(), 0);
    }

    #[tokio::test]
    async fn the_journal_holds_what_began_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("dunnage.db")).await.unwrap();
        let id = WorkspaceId::new("a").unwrap();
        let entry = JournalEntry::new("op-1", OperationKind::Create, &id, &"names").unwrap();
        store.begin(&entry).await.unwrap();
        let held = store.unfinished(&id).await.unwrap();
        assert_eq!((held.len(), held[0].kind), (1, OperationKind::Create));
        assert_eq!(held[0].intent::<String>().unwrap(), "names");
        assert_eq!(store.unfinished_workspaces().await.unwrap(), std::slice::from_ref(&id));
        store.finish("op-1", Some(&record("a"))).await.unwrap();
        assert!(store.unfinished(&id).await.unwrap().is_empty());
        assert!(store.workspace(&id).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dunnage.db");
        std::fs::write(&path, "no database at all, but long enough to have a header of its own".repeat(20))
            .unwrap();
        let error = SqliteStore::open(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataCorrupt, "{error}");
        assert!(error.to_string().contains("dunnage.db"));
    }
}
