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
            store.finish("none", Some(&chosen), &[]).await.unwrap();
        }
        store.put_workspace(&written, None).await.unwrap();
        store.close().await;
    }
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.workspace(&written.id).await.unwrap().unwrap(), written);
    store.set_running(&written.id, false, None).await.unwrap();
    assert!(!store.workspace(&written.id).await.unwrap().unwrap().auto_start);
    store.delete_workspace(&written.id, None).await.unwrap();
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
    store.finish("op-1", Some(&record("a")), &[]).await.unwrap();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_may_open_a_new_database_at_once() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dunnage.db");
        let opening: tokio::task::JoinSet<_> = (0..8)
            .map(|n| {
                let path = path.clone();
                async move {
                    let store = SqliteStore::open(&path).await.unwrap();
                    store.put_workspace(&record(&n.to_string()), None).await.unwrap();
                }
            })
            .collect();
        opening.join_all().await;
        assert_eq!(SqliteStore::open(&path).await.unwrap().workspaces().await.unwrap().len(), 8);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

/// Without its locks another process that closes the database last, as it believes, removes the log that this one still
/// writes to.
#[tokio::test]
async fn opening_again_keeps_the_locks_of_those_who_have_it_open() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dunnage.db");
    let first = SqliteStore::open(&path).await.unwrap();
    first.put_workspace(&record("a"), None).await.unwrap();
    let inode = format!(":{} ", std::fs::metadata(&path).unwrap().ino());
    let locks = || {
        let all = std::fs::read_to_string("/proc/locks").unwrap();
        all.lines().filter(|line| line.contains("POSIX") && line.contains(&inode)).count()
    };
    let before = locks();
    assert!(before > 0, "a connection has a lock on its database");
    let second = SqliteStore::open(&path).await.unwrap();
    assert!(locks() >= before, "a lock was lost");
    second.close().await;
    assert!(locks() >= before, "a lock was lost");
    first.check().await.unwrap();
}
